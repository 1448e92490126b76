"""Producers and consumers that keep a journal and bear with a server that dies.

Each has a connection and a thread of its own. A request that gets no answer is never
taken for done nor for failed; an answer that is not expected ends the client with
:class:`UnexpectedAnswerError`.

What they choose to do comes from a seed. It is printed when they begin, and
``TRAFFIC_SEED`` repeats it; how the threads take turns is not repeated.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from random import Random, SystemRandom
from typing import Any

from tests.integration.audit import (
    Claimed,
    Deleted,
    Event,
    Listed,
    Posted,
    Released,
    Renewed,
)

PROJECT = "kill"
QUEUE = "/v2/queues/work"
CLAIM_TTL = 60
PAUSE = 0.001
PAUSE_AFTER_SILENCE = 0.05
ANSWER_SECONDS = 30
"""Longer than any answer may take, so that none is given up that still comes."""

FORGOTTEN = frozenset((400, 403, 404))
"""How a claim is answered that its store has lost."""


class UnansweredError(Exception):
    """The connection broke, or the server said that it cannot serve now."""


class UnexpectedAnswerError(Exception):
    """An answer that no crash explains."""

    def __init__(self, method: str, path: str, status: int, text: bytes) -> None:
        super().__init__(method, path, status, text)
        self.status = status


class Connection:
    """A keep-alive connection of one client to the server on a port.

    :ivar slowest: seconds that the slowest answer took.
    """

    def __init__(self, port: int) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": PROJECT}
        self.slowest = 0.0

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded body of a 200, 201 or 204; none when there is no body."""
        try:
            status, text = self.answer(method, path, body)
        except (OSError, HTTPException) as error:
            raise UnansweredError(method, path) from error
        if status == 503:
            raise UnansweredError(method, path)
        if status not in (200, 201, 204):
            raise UnexpectedAnswerError(method, path, status, text)
        return json.loads(text) if text else None

    def answer(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body of any answer; an error of the connection if there is none.

        After an error the next request opens another connection.

        :param headers: with ``_`` in place of ``-``.
        """
        sent = time.monotonic()
        try:
            return self._exchange(method, path, body, headers)
        except (OSError, HTTPException):
            self._http.close()
            raise
        finally:
            self.slowest = max(self.slowest, time.monotonic() - sent)

    @property
    def port(self) -> int:
        """Its own port, once it has asked something."""
        port: int = self._http.sock.getsockname()[1]
        return port

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self._http.close()

    def _exchange(
        self, method: str, path: str, body: Any, more: Mapping[str, str]
    ) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body)
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        self._http.request(method, path, content, {**self._headers, **headers})
        answer = self._http.getresponse()
        return answer.status, answer.read()


class Client:
    """What producers and consumers share: they take steps until told to stop.

    :param seed: decides, with the name, on what it does.
    :ivar may_forget: whether the store may lose claims, which are then refused.
    """

    may_forget = False

    def __init__(
        self, name: str, port: int, stop: threading.Event, seed: float = 0
    ) -> None:
        self.name = name
        self.journal: list[Event] = []
        self.unanswered = 0
        self._random = Random(f"{seed} {name}")
        self._connection = Connection(port)
        self._stop = stop

    @property
    def slowest(self) -> float:
        """Seconds that its slowest answer took."""
        return self._connection.slowest

    def run(self) -> None:
        """Step until stopped; an answer that fails to come only delays."""
        while not self._stop.wait(PAUSE):
            try:
                self.step()
            except UnansweredError:
                self.unanswered += 1
                self._stop.wait(PAUSE_AFTER_SILENCE)
            except UnexpectedAnswerError as error:
                if not self.may_forget or error.status not in FORGOTTEN:
                    raise
        self._connection.close()

    def step(self) -> None:
        """One piece of work."""
        raise NotImplementedError


class Producer(Client):
    """Posts batches of numbered messages, none of them twice."""

    def __init__(
        self, name: str, port: int, stop: threading.Event, seed: float = 0
    ) -> None:
        super().__init__(name, port, stop, seed)
        self._texts = (f"{name}-{number}" for number in count())

    def step(self) -> None:
        """Post one batch."""
        size = self._random.randint(1, 5)
        texts = tuple(next(self._texts) for _ in range(size))
        messages = [{"body": text, "ttl": 3600} for text in texts]
        try:
            answer = self._connection.ask(
                "POST", f"{QUEUE}/messages", {"messages": messages}
            )
        except UnansweredError:
            self.journal.append(Posted(self.name, texts))
            raise
        ids = tuple(href.rpartition("/")[2] for href in answer["resources"])
        self.journal.append(Posted(self.name, texts, ids))


class Consumer(Client):
    """Claims messages and deletes, keeps or gives them back."""

    def step(self) -> None:
        """Claim, then do one of the things that consumers do with a claim."""
        claim = self._claim()
        if claim is not None:
            self._random.choice(self._habits())(claim)

    def _habits(self) -> list[Callable[[Claimed], None]]:
        # The most usual thing more often than the others.
        return [
            *(self._delete_each, self._delete_each, self._delete_together),
            *(self._renew, self._release, self._abandon),
        ]

    def _claim(self) -> Claimed | None:
        sent = time.monotonic()
        answer = self._connection.ask(
            "POST", f"{QUEUE}/claims?limit=5", {"ttl": CLAIM_TTL, "grace": 60}
        )
        if answer is None:
            return None
        claim = Claimed(
            answer["messages"][0]["href"].rpartition("=")[2],
            tuple((message["id"], message["body"]) for message in answer["messages"]),
            sent,
            time.monotonic(),
            CLAIM_TTL,
        )
        self.journal.append(claim)
        return claim

    def _delete_each(self, claim: Claimed) -> None:
        for message, _ in claim.messages:
            path = f"{QUEUE}/messages/{message}?claim_id={claim.claim}"
            self._delete([message], path)

    def _delete_together(self, claim: Claimed) -> None:
        messages = [message for message, _ in claim.messages]
        self._delete(messages, f"{QUEUE}/messages?ids={','.join(messages)}")

    def _delete(self, messages: list[str], path: str) -> None:
        try:
            self._connection.ask("DELETE", path)
        except (UnansweredError, UnexpectedAnswerError):
            self.journal.extend(Deleted(message) for message in messages)
            raise
        answered = time.monotonic()
        self.journal.extend(Deleted(message, answered) for message in messages)

    def _renew(self, claim: Claimed) -> None:
        sent = time.monotonic()
        self._connection.ask(
            "PATCH", f"{QUEUE}/claims/{claim.claim}", {"ttl": CLAIM_TTL, "grace": 60}
        )
        self.journal.append(Renewed(claim.claim, sent, CLAIM_TTL))

    def _release(self, claim: Claimed) -> None:
        self.journal.append(Released(claim.claim, time.monotonic()))
        self._connection.ask("DELETE", f"{QUEUE}/claims/{claim.claim}")

    def _abandon(self, claim: Claimed) -> None:
        """Do nothing, like a worker that died."""


def traffic_seed() -> int:
    """A new seed, or the one of ``TRAFFIC_SEED``; printed, to be used again."""
    seed = int(os.environ.get("TRAFFIC_SEED") or SystemRandom().randrange(10**6))
    tell(f"TRAFFIC_SEED={seed}")
    return seed


def tell(text: str) -> None:
    """Print a line among those of the test runner."""
    sys.stdout.write(f"\n    {text}\n")


@contextmanager
def at_work(clients: Sequence[Client], stop: threading.Event) -> Iterator[None]:
    """Let clients work, each on a thread; at the end all of them have ended.

    What ended one of them before its time is raised.
    """
    with ThreadPoolExecutor(len(clients)) as threads:
        runs = [threads.submit(client.run) for client in clients]
        try:
            yield
        finally:
            stop.set()
        for run in runs:
            run.result()


def whole_queue(port: int) -> Iterator[Listed]:
    """Every message, also claimed ones, by following the next links to their end."""
    connection = Connection(port)
    path = f"{QUEUE}/messages?limit=20&include_claimed=true&echo=true"
    while True:
        page = connection.ask("GET", path)
        if not page["messages"]:
            break
        for message in page["messages"]:
            yield Listed(message["id"], message["body"])
        path = page["links"][0]["href"]
    connection.close()
