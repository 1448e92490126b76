"""The WebSocket API on a real socket, its time in the hands of the test.

Each test has a service of its own over the embedded stores, in a directory of the
test; sockets, threads and stores are real.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import SystemRandom
from typing import Any, ClassVar

from msgspec import structs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from mqsvc.access.audit import AuditLog
from mqsvc.access.authentication import Identity
from mqsvc.access.gate import Gate
from mqsvc.access.guard import Guard
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.access.turns import Turns
from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import IdentityUnavailable, NotAuthenticated
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Destination, Kind
from mqsvc.messaging.operations import Operations
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.quotas import QuotaLimits, Quotas
from mqsvc.messaging.records import Records
from mqsvc.storage.open import open_pool, open_stores
from mqsvc.storage.pools import PooledMessages
from mqsvc.websocket.factory import Parts, WebSocketFactory, make_factory
from mqsvc.websocket.options import WebSocketOptions
from tests.websocket.client import Client, connect

EPOCH = 1_800_000_000
"""Where the clock of every test begins, in seconds."""

CLIENT_ID = "11111111-1111-1111-1111-111111111111"
OTHER_CLIENT_ID = "22222222-2222-2222-2222-222222222222"
PROJECT = "p1"

STOP_STEP_SECONDS = 0.01


class Tokens:
    """An identity service that knows some tokens, and can be out of order.

    :ivar is_down: whether it answers nothing.
    """

    challenge = "Test"

    def __init__(self) -> None:
        self.is_down = False
        self.known = {
            "tok-p1": Identity("p1", "ann", frozenset({"member"})),
            "tok-p2": Identity("p2", "bob", frozenset({"member"})),
            "tok-admin": Identity("p1", "root", frozenset({"admin"})),
            "tok-short": Identity("p1", "ann", frozenset(), (EPOCH + 4) * 1000),
            "tok-unscoped": Identity(None, "ann", frozenset()),
        }

    async def identify(self, token: str) -> Identity:
        """See :class:`mqsvc.access.authentication.Authenticator`."""
        if self.is_down:
            raise IdentityUnavailable
        if token not in self.known:
            raise NotAuthenticated
        return self.known[token]


class WebSocketTestCase(TestCase):
    """A running service, and clients for it.

    :cvar path: that clients ask for.
    :cvar options: bounds that differ from the defaults.
    :cvar limits: of the operations.
    :cvar quotas: of projects.
    :cvar rules: of the policy, in the place of the defaults.
    :cvar lease_time: in seconds; so long that it never has to be renewed.
    :cvar has_pools: whether there are pools.
    :cvar has_tokens: whether authentication is on.
    :cvar secret: signs URLs.
    """

    path: ClassVar[str] = "/"
    options: ClassVar[Mapping[str, Any]] = {}
    limits: ClassVar[Limits] = Limits()
    quotas: ClassVar[QuotaLimits] = QuotaLimits()
    rules: ClassVar[Mapping[str, str]] = {}
    lease_time: ClassVar[int] = 10**8
    has_pools: ClassVar[bool] = False
    has_tokens: ClassVar[bool] = False
    secret: ClassVar[str | None] = "secret"
    timeout = 30

    async def setUp(self) -> None:
        """Start the service."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.tokens = Tokens()
        self.clients: list[Client] = []
        self._start_stores()
        self.factory = self._make_factory()
        self.port = self._listen(self.factory)
        self.url = f"ws://127.0.0.1:{self.port.getHost().port}{self.path}"
        self.addCleanup(self._stop)

    def _start_stores(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        opened = open_stores("", "", self.directory, reactor)
        management, messages = opened.management, opened.messages
        bounds = Quotas(self.quotas, management, self.clock)
        pooled, placement = None, None
        if self.has_pools:
            placement = Placement(management, lambda below: 0, True)
        self.records = Records(management, self.limits, bounds, placement)
        if self.has_pools:
            messages = pooled = PooledMessages(
                *(messages, management, self.records.pool_of),
                *(lambda uri, options: open_pool(uri, options, reactor), self.clock),
            )
        self.lease = Lease(
            *(management, self.clock, self.lease_time),
            SystemRandom().getrandbits,
        )
        self.stores = (management, messages)
        for service in (*self.stores, self.lease):
            service.startService()
        self.operations = Operations.over(
            *(management, messages, self.records, self.limits, self.clock, pooled)
        )

    def _make_factory(self) -> WebSocketFactory:
        now = milliseconds(self.clock)
        gate = Gate(
            self.tokens if self.has_tokens else None,
            Policy(make_rules(self.rules)),
            SignedUrls(self.secret),
            self.limits,
            now,
        )
        audit = AuditLog("", now)
        self.guard = Guard(gate, Turns(reactor), self.records.quotas, audit)
        # The bus is the one that the operations signal on.
        bus = self.operations.bus
        parts = Parts(
            *(self.operations, self.operations.administration, bus, self.lease),
            *(self.guard, self.limits, {"resources": {}}, True),
        )
        options = structs.replace(WebSocketOptions(), **self.options)
        return make_factory(parts, options, self.clock, reactor)

    def _listen(self, factory: Any) -> IListeningPort:
        return reactor.listenTCP(0, factory, interface="127.0.0.1")

    async def _stop(self) -> None:
        for client in self.clients:
            client.hang_up()
        await self.port.stopListening()
        while self.factory.in_flight():
            await deferLater(reactor, STOP_STEP_SECONDS)
        for service in (self.lease, *reversed(self.stores)):
            await service.stopService()
        for client in self.clients:
            await client.gone

    async def connect(self, **options: Any) -> Client:
        """A client whose handshake is over."""
        client = await connect(self.url, **options)
        self.clients.append(client)
        return client

    def queue(self, name: str, project: str = PROJECT) -> Destination:
        """The full name of a queue."""
        return Destination(project, Kind.QUEUE, name)

    def post(self, name: str, *bodies: Any, **fields: Any) -> Deferred[list[str]]:
        """Post as HTTP would, one message for each body; fires with their ids."""
        messages = [{"body": body, **fields} for body in bodies]
        posting = self.operations.messages.post(self.queue(name), "http", messages, 0)
        return Deferred.fromCoroutine(posting)

    def expect(self, reply: Mapping[str, Any], status: int) -> Any:
        """The body of a reply that must have a status."""
        self.assertEqual(status, reply["headers"]["status"], reply)
        return reply["body"]
