"""What is measured over HTTP: one class for each kind of operation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import NoReturn

from benchmarks.connections import Answer, HTTPConnection, http_request
from benchmarks.engine import (
    NOTHING,
    ONE,
    WARM_UP_SECONDS,
    Exhausted,
    Operation,
    Outcome,
    Role,
    WrongAnswer,
)
from benchmarks.queues import Queue, headers

SMALL = 64
KILOBYTE = 1000
FEW, MANY = 5_000, 20_000
"""Messages that a run of single and of batched claims may use up."""
BATCH = 10
PAIRS = 4
WINDOW = 400
"""Messages that producers are ahead of consumers, at most."""
WAITERS = 1000
WAKE_UPS = 200
LONGEST_WAIT = 20
HREF = re.compile(rb'"href": ?"([^"]*)"')
CLAIM = {"ttl": 300, "grace": 60}


@dataclass(frozen=True)
class Target:
    """Where a run goes.

    :ivar url: of the HTTP API.
    :ivar websocket: of the WebSocket API, or empty.
    :ivar connections: how many are open at once.
    :ivar claim_limit: the most that the server gives to one claim.
    """

    url: str
    websocket: str = ""
    connections: int = 16
    claim_limit: int = 20

    def open(self, number: int = 0) -> Iterator[HTTPConnection]:
        """New connections, as many as asked for or as usual."""
        return (HTTPConnection(self.url) for _ in range(number or self.connections))


class Scenario:
    """A kind of operation on a queue of its own.

    Between :meth:`create` and :meth:`remove` it is run any number of times: each one
    is :meth:`prepare` and then the roles.
    """

    is_paced = True
    """Whether it can be run at a fixed rate."""
    unit = "requests"
    warm_up = WARM_UP_SECONDS

    def __init__(self, target: Target) -> None:
        self.target = target
        self.queue = Queue(target.url, target.claim_limit)

    def create(self) -> None:
        """Set up what all runs share."""
        self.queue.create()

    def prepare(self) -> None:
        """Set up what a run uses up."""

    def remove(self) -> None:
        """Leave nothing behind."""
        self.queue.remove()

    def roles(self, rate: float | None) -> list[Role]:
        """Who does what in a run."""
        return [Role(self.target.open(), self.operation, rate)]

    def operation(self) -> Operation:
        """One operation."""
        raise NotImplementedError


class Ping(Scenario):
    """``GET /v2/ping``."""

    def create(self) -> None:
        """Prepare the request; there is no queue."""
        self._request = http_request(
            self.target.url, "GET", "/v2/ping", headers(self.queue.producer)
        )

    def remove(self) -> None:
        """There is no queue."""

    def operation(self) -> Operation:
        """Ask."""
        answer = yield self._request
        return ONE if answer[0] == 204 else wrong("ping", answer)


class Post(Scenario):
    """Posts of some messages."""

    unit = "messages"

    def __init__(self, target: Target, number: int, size: int = KILOBYTE) -> None:
        super().__init__(target)
        self._outcome: Outcome = (number, None)
        self._request = self.queue.post(number, size)

    def operation(self) -> Operation:
        """Post; as many references as messages are right."""
        answer = yield self._request
        if answer[0] != 201 or answer[1].count(b"/messages/") != self._outcome[0]:
            wrong("post", answer)
        return self._outcome


class List(Scenario):
    """Pages of ten, from the beginning, of what others posted."""

    def __init__(self, target: Target, depth: int, claimed: int = 0) -> None:
        super().__init__(target)
        self._depth = depth
        self._claimed = claimed
        self._request = self.queue.request(
            self.queue.consumer, "GET", f"/messages?limit={BATCH}"
        )

    def create(self) -> None:
        """Fill the queue."""
        super().create()
        self.queue.fill(self._depth + self._claimed, SMALL)
        self.queue.claim(self._claimed)

    def operation(self) -> Operation:
        """List; ten messages are right."""
        answer = yield self._request
        if answer[0] != 200 or answer[1].count(b'"body"') != BATCH:
            wrong("list", answer)
        return ONE


class Claim(Scenario):
    """Claims of some messages, which are then deleted with the claim's id.

    :param supply: how many messages there are for a run; it ends without any.
    :param claimed: how many older ones others have claimed.
    """

    unit = "messages"

    def __init__(
        self, target: Target, number: int, supply: int, claimed: int = 0
    ) -> None:
        super().__init__(target)
        self._supply = supply
        self._claimed = claimed
        self._claim = Claiming(self.queue, number)

    def create(self) -> None:
        """Have the older ones claimed."""
        super().create()
        self.queue.fill(self._claimed, SMALL)
        self.queue.claim(self._claimed)

    def prepare(self) -> None:
        """Fill up what the last run took."""
        self.queue.fill(self._claimed + self._supply, SMALL)

    def operation(self) -> Operation:
        """Claim and delete; the queue must not be empty."""
        number = yield from self._claim.claim_and_delete()
        if not number:
            raise Exhausted
        return number, None


class Claiming:
    """A consumer's two requests."""

    def __init__(self, queue: Queue, number: int) -> None:
        self._is_single = number == 1
        path = f"/claims?limit={number}"
        self._claim = queue.request(queue.consumer, "POST", path, CLAIM)
        deletion = queue.request(queue.consumer, "DELETE", "/messages")
        self._bulk, _, rest = deletion.partition(b"/messages ")
        self._single = self._bulk[: self._bulk.index(b"/v2/queues/")]
        self._rest = b" " + rest

    def claim_and_delete(self) -> Generator[bytes, Answer, int]:
        """How many messages were there and are gone."""
        answer = yield self._claim
        if answer[0] == 204:
            return 0
        if answer[0] != 201:
            wrong("claim", answer)
        paths = _hrefs(answer[1])
        answer = yield self._deletion(paths)
        if answer[0] != 204:
            wrong("delete", answer)
        return len(paths)

    def _deletion(self, paths: list[bytes]) -> bytes:
        if self._is_single:
            return b"".join([self._single, paths[0], self._rest])
        ids = b",".join([each.partition(b"?")[0].rpartition(b"/")[2] for each in paths])
        claim = paths[0].rpartition(b"=")[2]
        query = b"/messages?ids=%s&claim_ids=%s" % (ids, claim)
        return b"".join([self._bulk, query, self._rest])


def _hrefs(body: bytes) -> list[bytes]:
    """Where the messages of an answer are, without parsing all of it."""
    return [found.replace(b"\\/", b"/") for found in HREF.findall(body)]


class EndToEnd(Scenario):
    """Four producers and four consumers; what counts is what was deleted."""

    unit = "messages"
    is_paced = False

    def __init__(self, target: Target, number: int) -> None:
        super().__init__(target)
        self._number = number
        self._post = self.queue.post(number, KILOBYTE)
        self._claim = Claiming(self.queue, number)
        self._waiting = 0

    def prepare(self) -> None:
        """Begin with an empty queue."""
        self.queue.remove()
        self.queue.create()
        self._waiting = 0

    def roles(self, rate: float | None) -> list[Role]:
        """Producers that are never far ahead, and consumers."""
        return [
            Role(self.target.open(PAIRS), self._produce, may_begin=self._has_room),
            Role(self.target.open(PAIRS), self._consume),
        ]

    def _has_room(self) -> bool:
        return self._waiting < WINDOW

    def _produce(self) -> Operation:
        self._waiting += self._number
        answer = yield self._post
        if answer[0] != 201:
            wrong("post", answer)
        return NOTHING

    def _consume(self) -> Operation:
        number = yield from self._claim.claim_and_delete()
        self._waiting -= number
        return number, None


class EmptyClaim(Scenario):
    """Claims that find nothing."""

    def create(self) -> None:
        """Make a queue and leave it empty."""
        super().create()
        path = f"/claims?limit={BATCH}"
        self._request = self.queue.request(self.queue.consumer, "POST", path, CLAIM)

    def operation(self) -> Operation:
        """Claim; nothing is right."""
        answer = yield self._request
        return ONE if answer[0] == 204 else wrong("empty claim", answer)


class Waiting(Scenario):
    """Many claims wait; the time is from a post until a claim has the message."""

    unit = "wake-ups"
    warm_up = 3.0
    is_paced = False

    def __init__(self, target: Target, waiters: int) -> None:
        super().__init__(target)
        self._waiters = waiters

    def create(self) -> None:
        """Prepare the requests."""
        super().create()
        path = f"/claims?limit=1&wait={LONGEST_WAIT}"
        self._wait = self.queue.request(self.queue.consumer, "POST", path, CLAIM)
        self._post, _, self._post_end = self.queue.post(1, 20).partition(b"x" * 20)

    def roles(self, rate: float | None) -> list[Role]:
        """Those who wait, and one who posts at a fixed rate."""
        return [
            Role(self.target.open(self._waiters), self._claim),
            Role(self.target.open(4), self._produce, rate=WAKE_UPS),
        ]

    def _produce(self) -> Operation:
        stamp = b"%20d" % time.perf_counter_ns()
        answer = yield self._post + stamp + self._post_end
        if answer[0] != 201:
            wrong("post", answer)
        return NOTHING

    def _claim(self) -> Operation:
        answer = yield self._wait
        if answer[0] == 204:
            return NOTHING
        if answer[0] != 201:
            wrong("waiting claim", answer)
        stamp = answer[1].partition(b'"body":')[2].split(b'"')[1]
        return 1, int(stamp) / 1e9


def wrong(what: str, answer: Answer) -> NoReturn:
    """Say that an answer is not the expected one."""
    raise WrongAnswer(f"{what}: {answer[0]} {answer[1][:200]!r}")


Make = Callable[[Target], Scenario]

HTTP_SCENARIOS: dict[str, Make] = {
    "ping": Ping,
    "post-1": lambda target: Post(target, 1),
    "post-10": lambda target: Post(target, BATCH),
    "list-1k": lambda target: List(target, 1_000),
    "list-10k": lambda target: List(target, 10_000),
    "list-100k": lambda target: List(target, 100_000),
    "list-behind-10k": lambda target: List(target, 1_000, claimed=10_000),
    "list-behind-20k": lambda target: List(target, 1_000, claimed=20_000),
    "claim-1": lambda target: Claim(target, 1, FEW),
    "claim-10": lambda target: Claim(target, BATCH, MANY),
    "claim-behind-10k": lambda target: Claim(target, 1, FEW, claimed=10_000),
    "end-to-end": lambda target: EndToEnd(target, 1),
    "end-to-end-10": lambda target: EndToEnd(target, BATCH),
    "empty-claim": EmptyClaim,
    "wait-1000": lambda target: Waiting(target, WAITERS),
}
