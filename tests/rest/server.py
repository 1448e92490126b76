"""The real service on a real socket, its time in the hands of the test.

Each test has a service of its own with an empty store. The clock stands still until
the test advances it; everything else (sockets, threads, the store) is real.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from json import dumps
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from mqsvc.config import load
from mqsvc.storage.open import open_stores
from mqsvc.tap import make_root
from tests.rest.answers import Answer, flaw
from tests.rest.connection import RawConnection, WholeBody

EPOCH = 1_800_000_000
"""Where the clock of every test begins: 2027-01-15T08:00:00Z."""

PROJECT = "p1"
CONSUMER = "11111111111111111111111111111111"
PRODUCER = "22222222222222222222222222222222"

JSON_PATCH = "application/openstack-messaging-v2.0-json-patch"


@frozen
class Request:
    """One request of a table that a test goes through."""

    method: str
    path: str
    options: Mapping[str, Any]


def asking(method: str, path: str, **options: Any) -> Request:
    """A request; the options are those of :meth:`RestTestCase.call`."""
    return Request(method, path, options)


@frozen
class Claimed:
    """What a claim gave: no id when there was nothing."""

    id: str
    messages: list[dict[str, Any]]

    @property
    def bodies(self) -> list[Any]:
        """The bodies in the order of the answer."""
        return [message["body"] for message in self.messages]


def _give_up(answer: Deferred[Answer]) -> None:
    if not answer.called:
        answer.addErrback(lambda _: None)
        answer.cancel()


@cache
def _new_stores() -> Path:
    """A data directory with empty stores: to copy one is faster than to make one."""
    directory = Path.cwd() / "new-stores"
    directory.mkdir(mode=0o700)
    open_stores("", "", str(directory), reactor)
    return directory


class RestTestCase(TestCase):
    """A running service and a client for it.

    :cvar settings: overrides of the configuration, as ``GROUP.OPTION=VALUE``.
    """

    settings: ClassVar[Sequence[str]] = ()
    timeout = 30

    async def setUp(self) -> None:
        """Start the service and wait until it listens."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.data_dir = self.mktemp()
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        self.addCleanup(self._stop)
        shutil.copytree(_new_stores(), self.data_dir)
        await self._start(self.settings)

    async def _start(self, settings: Sequence[str]) -> None:
        places = [f"data_dir={self.data_dir}", "http=tcp:0:interface=127.0.0.1"]
        configured = load(None, {}, [*places, "websocket=", *settings])
        self.root = make_root(configured, reactor, clock=self.clock)
        self.root.privilegedStartService()
        self.root.startService()
        await self.root.started
        self.port: int = self.root.addresses[0].port

    async def restart(self, *settings: str) -> None:
        """Stop the service, and start another one on its data, with these settings."""
        await self._stop()
        await self._start(settings)

    async def _stop(self) -> None:
        # What a failed test left open is given up when the service's clock goes on.
        giving_up = LoopingCall(self.clock.advance, 1)
        giving_up.start(0.05, now=False)
        try:
            await self.root.stopService()
        finally:
            giving_up.stop()

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        raw: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        project: str | None = PROJECT,
        client: str | None = CONSUMER,
    ) -> Answer:
        """Send one request on a connection of its own and wait for its answer.

        :param json: a body to encode; ``raw`` sends bytes as they are.
        :param headers: on top of the usual ones; none as a value leaves one out.
        """
        body = raw if json is None else dumps(json).encode()
        sent = {"Client-ID": client, "X-Project-ID": project, **(headers or {})}
        response = await self._agent.request(
            method.encode(),
            f"http://127.0.0.1:{self.port}{path}".encode(),
            Headers({k: [v.encode()] for k, v in sent.items() if v is not None}),
            None if body is None else WholeBody(body),
        )
        content = await readBody(response)
        asked = f"{method} {path} {(body or b'')[:200]!r} {dict(headers or {})}"
        return Answer(asked, response.code, response.headers, content)

    def call_soon(self, method: str, path: str, **options: Any) -> Deferred[Answer]:
        """Like :meth:`call`, under way at once and awaited later."""
        answer = Deferred.fromCoroutine(self.call(method, path, **options))
        self.addCleanup(_give_up, answer)
        return answer

    async def call_raw(self, method: str, path: str) -> Answer:
        """Send a request without a body; the answer has the framing headers too."""
        connection = await self.connect()
        lines = [
            *(f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Length: 0"),
            *(f"Client-ID: {CONSUMER}", f"X-Project-ID: {PROJECT}", "", ""),
        ]
        connection.send("\r\n".join(lines).encode())
        return await connection.answer()

    async def connect(self) -> RawConnection:
        """A TCP connection for what a well-behaved client cannot send."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        connection = await connectProtocol(endpoint, RawConnection())
        self.addCleanup(connection.hang_up)
        return connection

    async def settle(self) -> None:
        """Let the service work off what it was sent so far.

        Everything goes through one process: once several later requests of reading
        and claiming were answered, an earlier one is answered too, or waits.
        """
        for _ in range(4):
            await self.call("POST", "/v2/queues/elsewhere/claims")
            await self.call("GET", "/v2/queues/elsewhere/messages")

    async def pass_time(self) -> None:
        """Let a hundredth of a second go by, here and in the service."""
        self.clock.advance(0.01)
        await deferLater(reactor, 0.01)

    # What is checked everywhere

    def expect(self, answer: Answer, status: int) -> Answer:
        """Fail with the whole story unless the answer has the status."""
        self.assertEqual(status, answer.status, answer)
        return answer

    def refused(self, answer: Answer, status: int, title: str | None = None) -> None:
        """Fail unless the answer is a well-formed refusal."""
        self.assertEqual("", flaw(answer, status, title))

    async def refuses(
        self, status: int, title: str | None, requests: Iterable[Request]
    ) -> None:
        """Send each request; all must be refused alike. Reports every one that is not.

        :param title: the exact title; none accepts any.
        """
        flaws = []
        for request in requests:
            answer = await self.call(request.method, request.path, **request.options)
            flaws.append(flaw(answer, status, title))
        self.assertTrue(flaws, "a table without requests proves nothing")
        self.assertEqual("", "\n".join(filter(None, flaws)))

    async def gives(self, status: int, requests: Iterable[Request]) -> None:
        """Send each request; all must have one status. Reports every other one."""
        answers = [
            await self.call(request.method, request.path, **request.options)
            for request in requests
        ]
        self.assertTrue(answers, "a table without requests proves nothing")
        wrong = [str(answer) for answer in answers if answer.status != status]
        self.assertEqual("", "\n".join(wrong), f"expected {status}")

    # Steps of many tests

    async def create(self, queue: str, /, **metadata: Any) -> None:
        """Create a queue with metadata."""
        self.expect(await self.call("PUT", f"/v2/queues/{queue}", json=metadata), 201)

    async def patch(self, queue: str, *operations: Mapping[str, Any]) -> Answer:
        """Send a JSON patch for the metadata of a queue."""
        return await self.call(
            "PATCH",
            f"/v2/queues/{queue}",
            json=operations,
            headers={"Content-Type": JSON_PATCH},
        )

    async def post(
        self,
        queue: str,
        *bodies: Any,
        kind: str = "queues",
        project: str = PROJECT,
        client: str = PRODUCER,
        **fields: Any,
    ) -> list[str]:
        """Post one message for each body, in one request; their ids."""
        answer = await self.call(
            "POST",
            f"/v2/{kind}/{queue}/messages",
            json={"messages": [{"body": body, **fields} for body in bodies]},
            project=project,
            client=client,
        )
        self.expect(answer, 201)
        return [href.rpartition("/")[2] for href in answer.json["resources"]]

    async def claim(
        self, queue: str, *, ttl: int = 300, grace: int = 60, limit: int = 10
    ) -> Claimed:
        """Claim messages; an empty answer is fine too."""
        answer = await self.call(
            "POST",
            f"/v2/queues/{queue}/claims?limit={limit}",
            json={"ttl": ttl, "grace": grace},
        )
        if answer.status == 204:
            return Claimed("", [])
        self.expect(answer, 201)
        return Claimed(answer.location.rpartition("/")[2], answer.json["messages"])

    async def release(self, queue: str, claim_id: str) -> None:
        """Give a claim back."""
        path = f"/v2/queues/{queue}/claims/{claim_id}"
        self.expect(await self.call("DELETE", path), 204)

    async def listed(
        self, queue: str, query: str = "", project: str = PROJECT
    ) -> list[Any]:
        """The bodies of one page of messages."""
        path = f"/v2/queues/{queue}/messages?{query}"
        answer = self.expect(await self.call("GET", path, project=project), 200)
        return [message["body"] for message in answer.json["messages"]]

    async def stats(self, queue: str) -> dict[str, int]:
        """The three numbers of a queue."""
        answer = await self.call("GET", f"/v2/queues/{queue}/stats")
        counts = self.expect(answer, 200).json["messages"]
        return {key: counts[key] for key in ("claimed", "free", "total")}

    async def subscribe(self, queue: str, subscriber: str, **fields: Any) -> str:
        """Make a subscription; its id."""
        answer = await self.call(
            "POST",
            f"/v2/queues/{queue}/subscriptions",
            json={"subscriber": subscriber, **fields},
        )
        return self.expect(answer, 201).json["subscription_id"]

    async def queue_names(self, project: str = PROJECT) -> list[str]:
        """The queues of a project."""
        answer = await self.call("GET", "/v2/queues?limit=20", project=project)
        return [queue["name"] for queue in self.expect(answer, 200).json["queues"]]

    async def walk(self, path: str, collection: str, most: int = 60) -> list[list[Any]]:
        """Follow the next links from a path to the empty page; the pages before it."""
        pages: list[list[Any]] = []
        while len(pages) < most:
            answer = self.expect(await self.call("GET", path), 200)
            if not answer.json[collection]:
                self.assertEqual([], answer.json["links"])
                return pages
            pages.append(answer.json[collection])
            path = answer.next_href
        raise self.failureException(f"no empty page among {most} from {path}")


class PoolingTestCase(RestTestCase):
    """A service with pools, which are files of the test."""

    settings = ("admin_mode=true", "pooling=true")

    async def setUp(self) -> None:
        """Start without any pool."""
        self._files: dict[str, str] = {}
        await super().setUp()

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Like :meth:`call`, as an administrator."""
        headers = {"X-Roles": "admin", **options.pop("headers", {})}
        return await self.call(method, path, headers=headers, **options)

    def uri(self, pool: str) -> str:
        """The URI of a file that is only for this pool."""
        if pool not in self._files:
            self._files[pool] = os.path.abspath(self.mktemp())
        return f"sqlite:///{self._files[pool]}"

    async def add_pool(self, name: str, weight: int = 1, **members: Any) -> None:
        """Make a pool, or replace it."""
        pool = {"uri": self.uri(name), "weight": weight, **members}
        self.expect(await self.ask("PUT", f"/v2/pools/{name}", json=pool), 201)

    async def add_flavor(self, name: str, *pools: str) -> None:
        """Make a flavor, and the pools that it is to have."""
        for pool in pools:
            await self.add_pool(pool)
        flavor = {"pool_list": pools}
        self.expect(await self.ask("PUT", f"/v2/flavors/{name}", json=flavor), 201)

    def in_pool(self, pool: str, name: str = "q") -> list[str]:
        """The bodies of a queue or topic in the file of a pool, as they are stored."""
        if not os.path.exists(self._files[pool]):
            return []
        with closing(sqlite3.connect(self._files[pool])) as connection:
            rows = connection.execute(
                "SELECT body FROM messages JOIN destinations ON id = destination "
                "WHERE name = ? ORDER BY position",
                (name,),
            )
            return [body.decode() for (body,) in rows]
