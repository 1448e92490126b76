"""Connections to MongoDB that break, and servers that nobody can reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bson
from pymongo.errors import AutoReconnect
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from txmongo.protocol import (
    BaseMessage,
    MongoReceiverProtocol,
    MongoSenderProtocol,
    Msg,
    Reply,
)

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IStore
from mqsvc.storage.management.mongodb import open_mongodb_management
from mqsvc.storage.messages.mongodb import open_mongodb_messages
from mqsvc.storage.mongodb_connections import (
    RECONNECT_SECONDS,
    Connections,
    Sight,
    Unreachable,
    Wait,
    patience,
)
from mqsvc.storage.mongodb_uri import Address, read_uri
from tests.live import free_port
from tests.servers.mongodb import MongoServer, ReplicaSet

OPENERS: tuple[Callable[[str, Any], IStore], ...] = (
    open_mongodb_messages,
    open_mongodb_management,
)


def nowhere() -> Address:
    """Where no server is."""
    return read_uri(f"mongodb://127.0.0.1:{free_port()}/none")


class PatienceTests(SynchronousTestCase):
    """How long somebody waits for a connection."""

    def setUp(self) -> None:
        """Be with one server that was there until now."""
        self.clock = Clock()
        self.sight = Sight(nowhere(), self.clock)

    def wait(self) -> tuple[Deferred[Any], Deferred[Any]]:
        """Begin to wait; gives what fires with a connection, and what comes of it."""
        found: Deferred[Any] = Deferred()
        return found, Wait(found, self.sight, self.clock).outcome

    def assert_waits(self, outcome: Deferred[Any], seconds: float) -> None:
        """It fails after some seconds, and not before."""
        self.clock.advance(seconds - 0.1)
        self.assertNoResult(outcome)
        self.clock.advance(0.1)
        self.failureResultOf(outcome, Unreachable)

    def test_lost(self) -> None:
        """A server that was just lost may have been started again."""
        self.assert_waits(self.wait()[1], patience(1))

    def test_away(self) -> None:
        """Where there was no server for long a new attempt is waited for."""
        self.clock.advance(60)
        self.assert_waits(self.wait()[1], 2 * RECONNECT_SECONDS)

    def test_in_a_row(self) -> None:
        """Who comes right after somebody that waited in vain is told the same."""
        self.clock.advance(60)
        self.assert_waits(self.wait()[1], 2 * RECONNECT_SECONDS)
        self.assert_waits_no_more()
        self.clock.advance(RECONNECT_SECONDS)
        self.assert_waits(self.wait()[1], 2 * RECONNECT_SECONDS)

    def assert_waits_no_more(self) -> None:
        """Somebody who begins to wait is told at once."""
        late = self.wait()[1]
        self.clock.advance(0)
        self.failureResultOf(late, Unreachable)

    def test_members_without_a_primary(self) -> None:
        """As long as a member answers there is hope."""
        outcome = self.wait()[1]
        for _ in range(30):
            self.clock.advance(patience(1) - 0.1)
            self.sight.seen()
        self.assertNoResult(outcome)
        self.assert_waits(outcome, patience(1))

    def test_found(self) -> None:
        """Who finds a connection has it, and nothing is left of his waiting."""
        found, outcome = self.wait()
        found.callback("connection")
        self.assertEqual(self.successResultOf(outcome), "connection")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """Who wants to wait no longer is not told that there is no server."""
        outcome = self.wait()[1]
        outcome.cancel()
        self.failureResultOf(outcome, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_large_set(self) -> None:
        """With more members that may be silent there is more patience."""
        self.assertEqual([patience(n) for n in (1, 2, 3, 5)], [2, 2, 3, 4])

    def test_log(self) -> None:
        """The log says once that there is no server, and once that there is."""
        with capturedLogs() as events:
            for _ in range(2):
                outcome = self.wait()[1]
                self.clock.advance(60)
                self.failureResultOf(outcome, Unreachable)
            for _ in range(2):
                self.sight.seen()
        kinds = [str(formatEvent(event)).partition(" at ")[0] for event in events]
        self.assertEqual(kinds, ["No MongoDB answers", "MongoDB answers again"])

    def test_complaints(self) -> None:
        """What is wrong with connections is logged once until one is well."""
        with capturedLogs() as events:
            for _ in range(3):
                self.sight.complain("one")
                self.sight.complain("two")
            self.sight.primary_found()
            self.sight.complain("one")
        said = [str(formatEvent(event)).rpartition(" ")[2] for event in events]
        self.assertEqual(said, ["one", "two", "one"])


class ServerCase(TestCase):
    """A server of the test."""

    timeout = 120

    def setUp(self) -> None:
        """Start it."""
        self.clock = Clock()
        self.server = MongoServer()
        self.addCleanup(self.server.remove)
        self.server.start()

    def connections(self, size: int = 1) -> Connections:
        """Connections to it."""
        connections = Connections(read_uri(self.server.uri("place")), size, self.clock)
        self.addCleanup(connections.disconnect)
        return connections


class StoreTests(ServerCase):
    """Both kinds of store while their server is away."""

    async def test_away_and_back(self) -> None:
        """Calls fail while it is away, and work again when it is back."""
        stores = [opener(self.server.uri("place"), reactor) for opener in OPENERS]
        for store in stores:
            store.startService()
            self.addCleanup(store.stopService)
        await gatherResults([store.ping() for store in stores])
        for _ in range(2):
            self.server.kill()
            for call in [store.ping() for store in (*stores, *stores)]:
                with self.assertRaises(Unreachable):
                    await call
            await deferToThread(self.server.start)
            await gatherResults([store.ping() for store in stores])


class ConnectionTests(ServerCase):
    """Single connections."""

    async def ask(self, protocol: Any) -> Any:
        """Send a command; gives the reply."""
        message = Msg.create({"ping": 1, "$db": "admin"})
        return await protocol.send_msg(message, bson.DEFAULT_CODEC_OPTIONS, None)

    async def test_underway(self) -> None:
        """What waits for a reply when a connection breaks fails then."""
        protocol = await self.connections().getprotocol()
        asked = Deferred.fromCoroutine(self.ask(protocol))
        protocol.transport.abortConnection()
        with self.assertRaises(AutoReconnect):
            await asked

    async def test_lost_before(self) -> None:
        """A command for a connection that is lost fails."""
        connections = self.connections()
        protocol = await connections.getprotocol()
        protocol.transport.abortConnection()
        with self.assertRaises(AutoReconnect):
            await self.ask(protocol)
        other = await connections.getprotocol()
        with self.assertRaises(AutoReconnect):
            await self.ask(protocol)
        self.assertEqual((await self.ask(other))["ok"], 1)

    async def test_turns(self) -> None:
        """Connections are used by turns, and those that break are passed by."""
        connections = self.connections(3)
        await gatherResults([each.notifyReady() for each in connections.getprotocols()])
        first = [await connections.getprotocol() for _ in range(3)]
        self.assertEqual(len(set(first)), 3)
        first[0].transport.loseConnection()
        then = [await connections.getprotocol() for _ in range(4)]
        self.assertEqual(set(then), set(first[1:]))


class ElectionTests(TestCase):
    """A replica set that answers and has no primary."""

    timeout = 120

    async def test_hope(self) -> None:
        """Calls wait for a primary while members answer, longer than for a server."""
        members = ReplicaSet(1)
        self.addCleanup(members.remove)
        members.start()
        member, clock = members.members[0], Clock()
        connections = Connections(read_uri(members.uri("place")), 1, clock)
        self.addCleanup(connections.disconnect)
        protocol = await connections.getprotocol()
        member.admin("replSetStepDown", 600, force=True)
        protocol.transport.loseConnection()
        while protocol.transport.connected:
            await deferToThread(member.answers)
        call = connections.getprotocol()
        for _ in range(5):
            clock.advance(patience(1) - 0.1)
            while connections._sight.seconds_left(0) < patience(1):
                await deferToThread(member.answers)
        self.assertNoResult(call)
        await deferToThread(member.admin, "replSetFreeze", 0)
        self.assertIsNot(await call, protocol)


class Impostor(MongoReceiverProtocol, MongoSenderProtocol):
    """Says of itself what it wants, in this process."""

    hello: Mapping[str, Any] = {
        **dict.fromkeys(("ok", "ismaster", "isWritablePrimary"), True),
        **dict.fromkeys(("minWireVersion", "maxWireVersion"), 17),
    }

    def handle(self, msg: BaseMessage) -> None:
        """Answer in the way of the question."""
        if isinstance(msg, Msg):
            self._send(Msg.create(self.hello, response_to=msg.request_id))
        else:
            answer = bson.encode(self.hello)
            self._send(Reply(response_to=msg.request_id, documents=[answer]))


class Router(Impostor):
    """A server that says it is a mongos."""

    hello: Mapping[str, Any] = {**Impostor.hello, "msg": "isdbgrid"}


class Doorman(Impostor):
    """A server that hangs up when somebody wants to log in.

    :param refused: is called then.
    """

    def __init__(self, refused: Callable[[], None]) -> None:
        super().__init__()
        self.refused = refused

    def handle(self, msg: BaseMessage) -> None:
        """Say what it is, and no more."""
        if isinstance(msg, Msg):
            self.transport.loseConnection()
            self.refused()
        else:
            super().handle(msg)


class ImpostorCase(TestCase):
    """Servers in this process."""

    timeout = 120

    def listen(self, make: Callable[[], Impostor]) -> str:
        """Start one; gives its address."""
        port = reactor.listenTCP(0, Factory.forProtocol(make), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}"


class LoginTests(ImpostorCase):
    """A connection that breaks while the user logs in."""

    async def test_lost(self) -> None:
        """It is not taken for one that may be used."""
        refusals = [Deferred() for _ in range(3)]
        remaining = iter(refusals)

        def refused() -> None:
            next(remaining, Deferred()).callback(None)

        uri = f"mongodb://user:secret@{self.listen(lambda: Doorman(refused))}/place"
        connections = Connections(read_uri(uri), 1, Clock())
        self.addCleanup(connections.disconnect)
        call = connections.getprotocol()
        await gatherResults(refusals)
        self.assertNoResult(call)
        call.cancel()
        self.failureResultOf(call, CancelledError)


class RouterTests(ImpostorCase):
    """A mongos in the place of a server; the tests have no real one."""

    async def test_management(self) -> None:
        """It is refused when the store is opened."""
        uri = f"mongodb://{self.listen(Router)}/place"
        opened = deferToThread(open_mongodb_management, uri, reactor)
        with self.assertRaises(StoreOpenError) as caught:
            await opened
        self.assertIn("mongos", str(caught.exception))

    async def test_messages(self) -> None:
        """It is never used, and the log says why."""
        store = open_mongodb_messages(f"mongodb://{self.listen(Router)}/place", reactor)
        with capturedLogs() as events:
            store.startService()
            self.addCleanup(store.stopService)
            with self.assertRaises(StoreUnavailable):
                await store.ping()
        said = [str(formatEvent(event)) for event in events]
        self.assertEqual(len([each for each in said if "mongos" in each]), 1)
