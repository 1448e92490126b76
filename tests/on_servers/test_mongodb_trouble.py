"""The MongoDB message store with many processes, and with servers in trouble."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pymongo as blocking
from pymongo.errors import OperationFailure
from twisted.internet import reactor
from twisted.internet.defer import (
    Deferred,
    gatherResults,
)
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import (
    Message,
    NewMessage,
    Posting,
    Selection,
)
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.messages.mongodb import MongoMessageStore, open_mongodb_messages
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Interrupted
from mqsvc.storage.messages.mongodb_lanes import TIMEOUT
from mqsvc.storage.messages.mongodb_schema import (
    INDEXES,
)
from mqsvc.storage.mongodb_connections import patience
from mqsvc.storage.mongodb_login import Scram
from mqsvc.storage.mongodb_uri import read_uri
from tests.live import CHECKOUT, free_port
from tests.on_servers.mongodb_stores import (
    SET_OF_ONE,
    STAND_ALONE,
)
from tests.servers.mongodb import (
    MongoServer,
    set_of_one,
    set_of_three,
    stand_alone,
)
from tests.storage.also_contract import OUTBOX
from tests.storage.contract import (
    ORDERS,
    START,
    flat,
    ids_of,
)


class PostingProcess(ProcessProtocol):
    """What a posting process prints.

    :ivar done: fires with the ids of each batch, when it ended well.
    """

    def __init__(self) -> None:
        self.done: Deferred[list[list[str]]] = Deferred()
        self._output = b""
        self._errors = b""

    def outReceived(self, data: bytes) -> None:
        self._output += data

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        if reason.check(ProcessDone):
            self.done.callback([json.loads(line) for line in self._output.splitlines()])
        else:
            self.done.errback(AssertionError(self._errors.decode()))


class ProcessesTests(TestCase):
    """Several processes on the same messages."""

    timeout = 120
    batches = 40

    async def follow(self, uri: str, processes: int) -> None:
        """Processes with six posters each post; a reader follows the markers."""
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        posting = gatherResults(
            [self.spawn(uri, str(number)) for number in range(processes)]
        )
        seen: list[Message] = []
        more = True
        while more:
            # Asked before the page, so that the last page comes after the last post.
            more = not posting.called
            after = seen[-1].id if seen else None
            page = await store.page(ORDERS, Selection(7, after), START)
            seen += page
            more = more or bool(page)
        batches = flat(await posting)
        ids = ids_of(seen)
        self.assertEqual(ids, sorted(flat(batches)))
        self.assertEqual(len(ids), processes * self.batches * 3)
        for batch in batches:
            start = ids.index(batch[0])
            self.assertEqual(ids[start : start + 3], batch)
        further = await store.page(OUTBOX, Selection(len(ids) + 1), START)
        self.assertEqual(
            sorted(message.body for message in further),
            sorted(message.body for message in seen),
        )
        self.assertEqual((await store.stats(OUTBOX, START)).total, len(ids))

    def spawn(self, uri: str, name: str) -> Deferred[list[list[str]]]:
        process = PostingProcess()
        module = [
            *("-m", "tests.on_servers.mongodb_poster"),
            uri,
            name,
            str(self.batches),
        ]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        reactor.spawnProcess(
            process, sys.executable, [sys.executable, *module], environment
        )
        return process.done

    async def test_stand_alone(self) -> None:
        """A reader that follows markers misses nothing of two posting processes."""
        server = stand_alone()
        await self.follow(server.uri(STAND_ALONE.at(self, server, None)), 2)

    async def test_replica_set(self) -> None:
        """The same on a replica set, with four."""
        server = set_of_one()
        await self.follow(server.uri(SET_OF_ONE.at(self, server, None)), 4)


class TroubleTests(TestCase):
    """Servers that die, move or do not answer."""

    timeout = 120
    posters = 12

    def begin(self, uri: str) -> MongoMessageStore:
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        return store

    async def post_until(self, goal: int, poster: str) -> None:
        """Post batches until so many of all posters were acknowledged."""
        number = 0
        while len(self.acknowledged) < goal and self.store.running:
            bodies = [
                b'["%s", %d, %d]' % (poster.encode(), number, n) for n in range(3)
            ]
            new = [NewMessage(body, 3600) for body in bodies]
            number += 1
            try:
                also = Posting(OUTBOX, new)
                ids = await self.store.post(ORDERS, new, poster, START, also)
            except StoreUnavailable:
                self.unknown.append(bodies)
            else:
                self.acknowledged.append(list(zip(ids, bodies, strict=True)))

    async def read_along(self, posting: Deferred[Any]) -> list[Message]:
        """All messages, by following the markers."""
        seen: list[Message] = []
        more = True
        while more:
            more = not posting.called
            after = seen[-1].id if seen else None
            try:
                page = await self.store.page(ORDERS, Selection(50, after), START)
            except StoreUnavailable:
                more = self.store.running
                continue
            seen += page
            more = more or bool(page)
        return seen

    async def assert_survives(
        self, uri: str, trouble: Callable[[], Any], times: int
    ) -> None:
        """Nothing is lost, halved or doubled while there is trouble, so many times."""
        self.store = self.begin(uri)
        self.acknowledged: list[list[tuple[str, bytes]]] = []
        self.unknown: list[list[bytes]] = []
        goals = [20 * (n + 1) for n in range(times)]
        posting = gatherResults(
            [
                Deferred.fromCoroutine(self.post_until(goals[-1] + 40, str(n)))
                for n in range(self.posters)
            ]
        )
        reading = Deferred.fromCoroutine(self.read_along(posting))
        for goal in goals:
            while len(self.acknowledged) < goal:
                await deferLater(reactor, 0.01)
            await deferToThread(trouble)
        await posting
        seen = await reading
        self.check(seen)
        await self.check_further(seen)

    def check(self, seen: list[Message]) -> None:
        """What a reader that followed the markers saw is what was posted."""
        ids = ids_of(seen)
        self.assertEqual(ids, sorted(set(ids)))
        bodies = [message.body for message in seen]
        self.assertEqual(len(set(bodies)), len(bodies))
        shown = {message.id: message.body for message in seen}
        for batch in self.acknowledged:
            self.assertEqual(
                [shown.get(each) for each, _ in batch], [b for _, b in batch]
            )
        for batch in self.unknown:
            self.assertIn(sum(body in bodies for body in batch), (0, len(batch)))

    async def check_further(self, seen: list[Message]) -> None:
        """What was posted is also in the second destination, once, in whole batches."""
        everything = Selection(len(seen) + 1000)
        sizes = [len(message.body) for message in seen]
        stored_bytes = await self.store.stored_bytes(ORDERS.project)
        self.assertEqual(stored_bytes, sum(sizes))
        further = await self.store.page(OUTBOX, everything, START)
        bodies = [message.body for message in further]
        self.assertEqual(sorted(bodies), sorted(message.body for message in seen))
        for start in range(0, len(bodies), 3):
            parts = [json.loads(body) for body in bodies[start : start + 3]]
            self.assertEqual([part for _, _, part in parts], [0, 1, 2])
            self.assertEqual(len({(poster, turn) for poster, turn, _ in parts}), 1)

    async def test_killed(self) -> None:
        """A server that is killed and started again has all that was acknowledged."""
        server = MongoServer()
        self.addCleanup(server.remove)
        server.start()

        def restart() -> None:
            server.kill()
            server.start()

        await self.assert_survives(server.uri("killed"), restart, times=3)

    async def test_stepped_down(self) -> None:
        """The primary may change under load."""
        members = set_of_three()
        members.wipe("moved")

        def step_down() -> None:
            old = members.primary()
            old.admin("replSetStepDown", 9, secondaryCatchUpPeriodSecs=8)
            members.primary()
            # The third time there would be nobody else who may be elected.
            old.admin("replSetFreeze", 0)

        await self.assert_survives(members.uri("moved"), step_down, times=3)

    async def test_primary_killed(self) -> None:
        """A primary that dies under load is succeeded by another member."""
        members = set_of_three()
        members.wipe("succeeded")

        def replace() -> None:
            old = members.primary()
            old.kill()
            members.primary()
            old.start()

        await self.assert_survives(members.uri("succeeded"), replace, times=2)

    async def test_nobody_answers(self) -> None:
        """Without a server every call fails within its time, and stopping works."""
        clock = Clock()
        store = open_mongodb_messages(f"mongodb://127.0.0.1:{free_port()}/none", clock)
        store.startService()
        calls = [store.ping(), store.page(ORDERS, Selection(1), START)]
        clock.advance(patience(1) - 0.1)
        self.assertNoResult(calls[0])
        clock.advance(0.1)
        for call in calls:
            with self.assertRaises(StoreUnavailable):
                await call
        await store.stopService()

    async def test_lost_connection(self) -> None:
        """What is asked on a connection that was lost fails at once."""
        store = self.begin(stand_alone().uri("lost"))
        connection = await store._client.connection()
        asked = Deferred.fromCoroutine(connection.command("ping", 1))
        connection.protocol.transport.abortConnection()
        with self.assertRaises(Interrupted):
            await asked
        with self.assertRaises(Interrupted):
            await connection.command("ping", 1)
        await store.ping()

    async def test_hung_server(self) -> None:
        """A server that hangs is unavailable, and is used again when it goes on."""
        server = MongoServer()
        self.addCleanup(server.remove)
        server.start()
        clock = Clock()
        store = open_mongodb_messages(server.uri("hung"), clock)
        store.startService()
        self.addCleanup(store.stopService)
        await store.ping()
        process = server.admin("serverStatus")["pid"]
        os.kill(process, signal.SIGSTOP)
        call = store.post(ORDERS, [NewMessage(b"1", 60)], "alice", START)
        clock.advance(TIMEOUT)
        with self.assertRaises(StoreUnavailable):
            await call
        os.kill(process, signal.SIGCONT)
        await store.ping()


class UriTests(TestCase):
    """What can be said in a URI."""

    def test_refused(self) -> None:
        """What would not be done as asked is refused, and said why."""
        for uri, fact in (
            ("mongodb://", "this URI cannot be used"),
            ("mongodb+srv://example.org/x", "name them"),
            ("mongodb://localhost/x?tls=true", "TLS"),
            ("mongodb://a:b@localhost/x?authMechanism=MONGODB-X509", "SCRAM-SHA-1"),
            ("mongodb://localhost/x?w=0", "acknowledges nothing"),
        ):
            with self.assertRaises(StoreOpenError) as caught:
                open_mongodb_messages(uri, Clock())
            self.assertIn(fact, str(caught.exception))
            self.assertNotIn("a:b", str(caught.exception))

    def test_durable_unless_told_otherwise(self) -> None:
        """A change waits for the journals of a majority, unless the URI says less."""
        address = read_uri("mongodb://localhost")
        concern = address.write_concern
        self.assertEqual((concern["w"], concern["j"]), ("majority", True))
        self.assertEqual(address.read_concern, {"level": "majority"})
        weaker = read_uri("mongodb://localhost/x?w=1&journal=false")
        concern = weaker.write_concern
        self.assertEqual((concern["w"], concern["j"]), (1, False))
        self.assertEqual(weaker.read_concern, {"level": "local"})

    async def test_connections(self) -> None:
        """A process keeps as many as the URI allows, and twelve at most."""
        for options, expected in (("", 12), ("?maxPoolSize=3", 3)):
            uri = f"mongodb://127.0.0.1:{free_port()}/none{options}"
            client = MongoClient(read_uri(uri), INDEXES, Clock())
            client.start()
            self.assertEqual(len(client._pool.getprotocols()), expected)
            await client.stop()


class GuardedServer(MongoServer):
    """A server that wants to know who calls."""

    def command(self) -> Sequence[str]:
        """See the base class."""
        return [*super().command(), "--auth"]


class LoginTests(TestCase):
    """A server whose users have passwords."""

    timeout = 120

    async def assert_usable(self, uri: str) -> None:
        """A store on this URI takes and gives messages."""
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        new = [NewMessage(b"1", 60)]
        calls = [store.post(ORDERS, new, "alice", START) for _ in range(30)]
        ids = flat(await gatherResults(calls))
        page = await store.page(ORDERS, Selection(1000), START)
        self.assertEqual(ids_of(page)[-30:], ids)

    async def test_mechanisms(self) -> None:
        """A user logs in by what the server has of him, or by what the URI says."""
        server = GuardedServer()
        self.addCleanup(server.remove)
        server.start()
        # Only the first user may be made by somebody unknown.
        admin = {"roles": ["root"], "mechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"]}
        server.admin("createUser", "both", pwd="p@ss", **admin)
        with blocking.MongoClient(f"mongodb://both:p%40ss@{server.address}") as client:
            for name, mechanism in (("old", "SCRAM-SHA-1"), ("new", "SCRAM-SHA-256")):
                only = {"roles": ["readWrite"], "mechanisms": [mechanism]}
                client["place"].command("createUser", name, pwd="p=,\u00e4ss", **only)
        for user, place in (
            ("both:p%40ss", "place?authSource=admin"),
            ("both:p%40ss", "place?authSource=admin&authMechanism=SCRAM-SHA-256"),
            ("both:p%40ss", "place?authSource=admin&authMechanism=SCRAM-SHA-1"),
            ("old:p=,%C3%A4ss", "place"),
            ("new:p=,%C3%A4ss", "place"),
        ):
            await self.assert_usable(f"mongodb://{user}@{server.address}/{place}")

    async def test_wrong_password(self) -> None:
        """Whoever is not let in finds the store unavailable, and the log says why."""
        server = GuardedServer()
        self.addCleanup(server.remove)
        server.start()
        server.admin("createUser", "one", pwd="right", roles=["root"])
        uri = f"mongodb://one:secret@{server.address}/place?authSource=admin"
        store = open_mongodb_messages(uri, reactor)
        said: list[str] = []

        def hear(event: Any) -> None:
            said.append(str(formatEvent(event)))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        store.startService()
        with self.assertRaises(StoreUnavailable):
            await store.page(ORDERS, Selection(1), START)
        await store.stopService()
        self.assertTrue(self.flushLoggedErrors(OperationFailure))
        self.assertIn("MongoDB does not let user one in: OperationFailure", said)
        self.assertNotIn("secret", "".join(said))

    def test_conversation(self) -> None:
        """The words are those of the example in RFC 7677, section 3."""
        scram = Scram("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        challenge = b"r=%s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % nonce
        proof = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        self.assertEqual(scram.proof(challenge), b"c=biws,r=%s,p=%s" % (nonce, proof))
        scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def test_false_server(self) -> None:
        """A server that cannot be the right one is told nothing, or not believed."""
        for challenge in (
            b"r=mine,s=AAAA,i=4095",
            b"r=other,s=AAAA,i=4096",
        ):
            with self.assertRaises(OperationFailure):
                Scram("user", "pencil", "mine").proof(challenge)
        scram = Scram("user", "pencil", "mine")
        scram.proof(b"r=mine2,s=AAAA,i=4096")
        for verdict in (b"v=AAAA", b"e=other-error", b""):
            with self.assertRaises(OperationFailure):
                scram.check(verdict)
