"""The MongoDB management store on real servers: the common suite, its own corners."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from random import SystemRandom
from typing import Any

from pymongo import MongoClient
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Kind
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.management.mongodb import (
    MongoDBManagementStore,
    open_mongodb_management,
)
from mqsvc.storage.management.mongodb_calls import CALL_SECONDS, CONNECTIONS, Calls
from mqsvc.storage.management.mongodb_schema import DESTINATIONS, SCHEMA, SUBSCRIPTIONS
from mqsvc.storage.management.mongodb_uri import read_uri
from tests.live import free_port
from tests.on_servers.test_management_postgresql import (
    PROCESSES,
    NULTests,
    OutageTests,
    open_at_once,
)
from tests.servers.mongodb import MongoServer, set_of_one, set_of_three, stand_alone
from tests.storage.management_contract import (
    NOW,
    ManagementTestCase,
    OpenPlace,
    make_management_tests,
    names,
    queue,
    subscription,
)

databases = (f"management_{number}" for number in count(1))
"""Names that no other test has used."""


def open_stand_alone(case: TestCase) -> OpenPlace:
    """A database of the test on a server without transactions."""
    uri = stand_alone().uri(next(databases))
    return lambda: open_mongodb_management(uri, reactor)


def open_replica_set(case: TestCase) -> OpenPlace:
    """A database of the test on three servers."""
    uri = set_of_three().uri(next(databases))
    return lambda: open_mongodb_management(uri, reactor)


globals().update(make_management_tests("MongoDB", open_stand_alone))
globals().update(make_management_tests("MongoDBSet", open_replica_set))


class MongoDBTestCase(ManagementTestCase):
    """A running store in a database of the test, whose calls never take too long."""

    def setUp(self) -> None:
        """Open the store, and a way to look at its documents."""
        self.clock = Clock()
        self.name = next(databases)
        client: MongoClient[dict[str, Any]] = MongoClient(stand_alone().uri(""))
        self.addCleanup(client.close)
        self.database = client[self.name]
        super().setUp()

    def open_store(self, case: TestCase) -> OpenPlace:
        """See the base class."""
        uri = stand_alone().uri(self.name)
        return lambda: open_mongodb_management(uri, self.clock)


class MongoDB_NULTests(NULTests, MongoDBTestCase):
    """See the base class."""


class MongoDB_OutageTests(OutageTests, MongoDBTestCase):
    """See the base class."""

    def kill(self) -> None:
        """Kill the server."""
        self.addCleanup(self.restart)
        stand_alone().kill()

    def restart(self) -> None:
        """Start the server unless it runs."""
        if not stand_alone().answers():
            stand_alone().start()

    async def test_killed(self) -> None:
        """Calls fail as an outage while it is away; none that succeeded is lost."""
        # A call that waits for a first connection would go on waiting.
        await gatherResults([self.store.ping() for _ in range(CONNECTIONS)])
        calls = [self.store.create(queue(f"q{n:03}"), {}) for n in range(200)]
        await calls[0]
        self.kill()
        outcomes = await DeferredList(calls, consumeErrors=True)
        late = self.store.ping()
        self.assertNoResult(late)
        self.clock.advance(CALL_SECONDS)
        self.failureResultOf(late, StoreUnavailable)
        for done, outcome in outcomes:
            if not done:
                outcome.trap(StoreUnavailable)
        self.restart()
        there = set(names(await self.store.page("p", Kind.QUEUE, 1000)))
        kept = {f"q{n:03}" for n, (done, _) in enumerate(outcomes) if done}
        self.assertLessEqual(kept, there)

    async def test_stop(self) -> None:
        """A store stops while its server is away, once its calls have ended."""
        await self.store.ping()
        self.kill()
        late = self.store.ping()
        stopped = self.store.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(CALL_SECONDS)
        self.failureResultOf(late, StoreUnavailable)
        await stopped

    async def test_log(self) -> None:
        """What is logged of an outage quotes nothing that a tenant sent."""
        await self.store.subscribe(subscription(1), NOW)
        self.database.command(
            "collMod", DESTINATIONS, validator={"impossible": {"$exists": True}}
        )
        with capturedLogs() as events, self.assertRaises(StoreUnavailable):
            await self.store.create(queue("q", "tenant"), {"key": "secret"})
        (text,) = [formatEvent(event) for event in events]
        self.assertTrue(text.startswith("The management store failed: WriteError"))
        self.assertNotIn("secret", repr(events))


class FailoverTests(ManagementTestCase):
    """A replica set that loses its primary."""

    def open_store(self, case: TestCase) -> OpenPlace:
        """A database of the test on three servers."""
        uri = set_of_three().uri(next(databases))
        return lambda: open_mongodb_management(uri, Clock())

    async def test_primary_killed(self) -> None:
        """What was acknowledged is there on the next primary, found by itself."""
        calls = [self.store.create(queue(f"q{n:02}"), {}) for n in range(50)]
        await calls[0]
        primary = set_of_three().primary()
        self.addCleanup(primary.start)
        primary.kill()
        outcomes = await DeferredList(calls, consumeErrors=True)
        there = set(names(await self.store.page("p", Kind.QUEUE, 100)))
        kept = {f"q{n:02}" for n, (done, _) in enumerate(outcomes) if done}
        self.assertLessEqual(kept, there)
        await gatherResults([self.store.ping() for _ in range(4)])
        self.assertTrue(await self.store.create(queue("new"), {}))


class EraTests(MongoDBTestCase):
    """What a process leaves that dies in the middle of an operation."""

    async def test_deleted_by_half(self) -> None:
        """Subscriptions go with the record, whether their documents went or not."""
        await self.store.create(queue("q"), {})
        await self.store.subscribe(subscription(1), NOW)
        self.database[DESTINATIONS].delete_one({"name": "q"})
        await self.store.create(queue("q"), {})
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "", NOW), [])
        again = subscription(2, subscriber=subscription(1).subscriber)
        self.assertEqual(await self.store.subscribe(again, NOW), again)

    async def test_nothing_is_left(self) -> None:
        """A deletion that ran to its end leaves no document."""
        await self.store.create(queue("q"), {})
        await self.store.subscribe(subscription(1), NOW)
        await self.store.unsubscribe_all(queue("q"))
        await self.store.subscribe(subscription(2), NOW)
        await self.store.delete(queue("q"))
        for collection in (DESTINATIONS, SUBSCRIPTIONS):
            self.assertEqual(self.database[collection].count_documents({}), 0)

    async def test_sweep(self) -> None:
        """A sweep removes 500 documents at most and says when there may be more."""
        expired = [subscription(number) for number in range(501)]
        await gatherResults([self.store.subscribe(each, NOW) for each in expired])
        now = NOW + 60_000
        self.assertIs(await self.store.sweep(now), True)
        self.assertEqual(self.database[SUBSCRIPTIONS].count_documents({}), 1)
        self.assertIs(await self.store.sweep(now), False)
        self.assertEqual(self.database[SUBSCRIPTIONS].count_documents({}), 0)

    async def test_indexes(self) -> None:
        """No query reads documents that it does not want."""
        await self.store.create(queue("q"), {})
        self.database.command("profile", 2)
        await self.subscribe_all(*map(subscription, range(20)))
        await self.store.subscription(queue("q"), subscription(3).id, NOW)
        await self.store.update_subscription(subscription(3, ttl=90), NOW)
        await self.store.subscriptions(queue("q"), 5, subscription(3).id, NOW)
        await self.store.unsubscribe(queue("q"), subscription(3).id)
        await self.store.page("p", Kind.QUEUE, 1)
        self.database.command("profile", 0)
        examined = [
            (each["docsExamined"], each["command"])
            for each in self.database["system.profile"].find()
            if "docsExamined" in each
        ]
        self.assertGreater(len(examined), 40)
        for number, command in examined:
            self.assertLessEqual(number, 5, command)


class WriteConcernTests(TestCase):
    """How durable a write is when it is acknowledged."""

    async def test_is_sent(self) -> None:
        """A write that cannot be as durable as asked for is not acknowledged."""
        uri = set_of_one().uri(next(databases))
        store = open_mongodb_management(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        await store.create(queue("q"), {})
        calls = Calls(read_uri(f"{uri}&w=2"), reactor)
        stricter = MongoDBManagementStore(calls, SystemRandom().getrandbits)
        stricter.startService()
        self.addCleanup(stricter.stopService)
        for call in (
            stricter.create(queue("other"), {}),
            stricter.subscribe(subscription(1), NOW),
            stricter.delete(queue("q")),
        ):
            with self.assertRaises(StoreUnavailable):
                await call


class GuardedServer(MongoServer):
    """A server that wants to know who calls."""

    def command(self) -> Sequence[str]:
        """See the base class."""
        return [*super().command(), "--auth"]


class LoginTests(TestCase):
    """A server whose users have passwords."""

    def setUp(self) -> None:
        """Start one with one user."""
        self.server = GuardedServer()
        self.addCleanup(self.server.remove)
        self.server.start()
        self.server.admin("createUser", "mqsvc", pwd="p@ss", roles=["root"])

    async def test_right(self) -> None:
        """A store with the password works, wherever the URI says the user is."""
        for place in ("db?authSource=admin", ""):
            uri = f"mongodb://mqsvc:p%40ss@{self.server.address}/{place}"
            store = open_mongodb_management(uri, reactor)
            store.startService()
            self.addCleanup(store.stopService)
            self.assertTrue(await store.create(queue("q"), {}))

    def test_wrong(self) -> None:
        """A store with another password is refused at the start."""
        uri = f"mongodb://mqsvc:other@{self.server.address}/"
        error = self.assertRaises(StoreOpenError, open_mongodb_management, uri, reactor)
        self.assertIn("AuthenticationFailed", str(error))
        self.assertNotIn("other", str(error))


class MongoDB_OpenTests(SynchronousTestCase):
    """Opening a database, before the reactor runs."""

    def refused(self, uri: str) -> str:
        """The one line with which a URI is refused."""
        error = self.assertRaises(StoreOpenError, open_mongodb_management, uri, reactor)
        self.assertEqual(len(str(error).splitlines()), 1)
        return str(error)

    def test_at_once(self) -> None:
        """Processes that start at once on an empty database all find it usable."""
        uris = [stand_alone().uri(next(databases)) for _ in range(6)]
        said = open_at_once(
            "mqsvc.storage.management.mongodb", "open_mongodb_management", uris
        )
        self.assertEqual(said, [""] * PROCESSES)

    def test_too_new(self) -> None:
        """A database of a newer program is refused."""
        name = next(databases)
        open_mongodb_management(stand_alone().uri(name), reactor)
        client: MongoClient[dict[str, Any]] = MongoClient(stand_alone().uri(""))
        with client:
            client[name][SCHEMA].update_one({}, {"$set": {"number": 7}})
        with self.assertRaises(SchemaTooNew) as caught:
            open_mongodb_management(stand_alone().uri(name), reactor)
        self.assertIn("version 7", str(caught.exception))

    def test_no_server(self) -> None:
        """A server that is not there is named, in one line without a password."""
        where = f"127.0.0.1:{free_port()}"
        said = self.refused(
            f"mongodb://user:secret@{where}/db?serverSelectionTimeoutMS=100"
        )
        self.assertIn(f"mongodb://{where}/db", said)
        self.assertNotIn("secret", said)

    def test_refused(self) -> None:
        """What this program cannot do, or must not, is refused with a way out."""
        for options, expected in (
            ("tls=true", "TLS"),
            ("ssl=true", "TLS"),
            ("authMechanism=SCRAM-SHA-256", "SCRAM-SHA-1"),
            ("readPreference=secondary", "primary"),
            ("w=0", "w=0"),
        ):
            said = self.refused(f"mongodb://user:secret@host/db?{options}")
            self.assertIn(expected, said)
            self.assertNotIn("secret", said)

    def test_malformed(self) -> None:
        """A URI that is none is refused."""
        for uri in ("mongodb://", "http://host", "mongodb://host:port"):
            self.assertIn("cannot be used", self.refused(uri))


class AddressTests(SynchronousTestCase):
    """What a URI says."""

    def test_defaults(self) -> None:
        """A majority acknowledges each write, in its journal, in limited time."""
        address = read_uri("mongodb://one,two:5/")
        self.assertEqual(
            address.write_concern, {"w": "majority", "j": True, "wtimeout": 10_000}
        )
        self.assertEqual(address.database, "mqsvc")
        self.assertEqual(address.hosts, "one:27017,two:5")
        self.assertIsNone(address.credentials)

    def test_write_concern(self) -> None:
        """The URI may ask for more, or for less."""
        for options, expected in (
            ("w=2&journal=false", {"w": 2, "j": False, "wtimeout": 10_000}),
            ("wTimeoutMS=50", {"w": "majority", "j": True, "wtimeout": 50}),
        ):
            address = read_uri(f"mongodb://host/db?{options}")
            self.assertEqual(address.write_concern, expected)

    def test_credentials(self) -> None:
        """Who logs in is known to the database that the URI says, or to admin."""
        for uri, expected in (
            ("mongodb://u:p%40@host/db", ("db", "u", "p@")),
            ("mongodb://u:p@host/", ("admin", "u", "p")),
            ("mongodb://u:p@host/db?authSource=x", ("x", "u", "p")),
        ):
            address = read_uri(uri)
            self.assertEqual(address.credentials, expected)
            self.assertNotIn("p@", repr(address))
