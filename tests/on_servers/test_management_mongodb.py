"""The MongoDB management store on real servers: the common suite, its own corners."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from random import Random, SystemRandom
from typing import Any

from bson import ObjectId
from pymongo import MongoClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import PoolDoesNotExist, PoolInUse, StoreUnavailable
from mqsvc.messaging.model import Kind, Record
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.management import mongodb_pools, mongodb_records
from mqsvc.storage.management.mongodb import (
    MongoDBManagementStore,
    open_mongodb_management,
)
from mqsvc.storage.management.mongodb_calls import (
    CALL_SECONDS,
    CONNECTIONS,
    Calls,
    Step,
)
from mqsvc.storage.management.mongodb_schema import (
    DESTINATIONS,
    POOLS,
    SCHEMA,
    SUBSCRIPTIONS,
)
from mqsvc.storage.mongodb_connections import (
    RECONNECT_SECONDS,
    Connections,
    patience,
)
from mqsvc.storage.mongodb_uri import read_uri
from tests.live import free_port
from tests.on_servers.management_corners import (
    PROCESSES,
    NULTests,
    OutageTests,
    open_at_once,
)
from tests.servers.mongodb import (
    Databases,
    MongoServer,
    set_of_one,
    set_of_three,
    stand_alone,
)
from tests.storage.management_case import (
    NOW,
    ManagementTestCase,
    OpenPlace,
    names,
    queue,
    subscription,
    topic,
)
from tests.storage.management_contract import make_management_tests
from tests.storage.pools_contract import pool

CHANGES = ("update", "remove")
"""What the profiler calls commands that change documents."""

databases = (f"management_{number}" for number in count(1))
"""Names that no other test has used."""

STAND_ALONE = Databases("shared_management")
SET_OF_ONE = Databases("shared_management")


def open_stand_alone(case: TestCase) -> OpenPlace:
    """A database of the test on a server without transactions."""
    server = stand_alone()
    uri = server.uri(STAND_ALONE.at(case, server, None))
    return lambda: open_mongodb_management(uri, reactor)


def open_replica_set(case: TestCase) -> OpenPlace:
    """A database of the test on a replica set."""
    server = set_of_one()
    uri = server.uri(SET_OF_ONE.at(case, server, None))
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
        self.clock.advance(patience(1))
        self.failureResultOf(late, StoreUnavailable)
        for done, outcome in outcomes:
            if not done:
                outcome.trap(StoreUnavailable)
        self.restart()
        self.clock.advance(RECONNECT_SECONDS)
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

    async def create_and_kill(self, place: str | None = None) -> set[str]:
        """Lose the primary while records are made; gives those acknowledged."""
        calls = [self.store.create(queue(f"q{n:02}"), {}, place) for n in range(50)]
        await calls[0]
        primary = set_of_three().primary()
        self.addCleanup(primary.start)
        primary.kill()
        outcomes = await DeferredList(calls, consumeErrors=True)
        return {f"q{n:02}" for n, (done, _) in enumerate(outcomes) if done}

    async def test_primary_killed(self) -> None:
        """What was acknowledged is there on the next primary, found by itself."""
        kept = await self.create_and_kill()
        there = set(names(await self.store.page("p", Kind.QUEUE, 100)))
        self.assertLessEqual(kept, there)
        await gatherResults([self.store.ping() for _ in range(4)])
        self.assertTrue(await self.store.create(queue("new"), {}))

    async def test_pool(self) -> None:
        """Records that were acknowledged in a pool keep it on the next primary."""
        await self.store.put_pool(pool("a"))
        kept = await self.create_and_kill("a")
        records = await self.store.records(100)
        self.assertLessEqual(kept, set(names(records)))
        self.assertEqual({record.pool for record in records}, {"a"})
        with self.assertRaises(PoolInUse):
            await self.store.delete_pool("a")
        for record in records:
            await self.store.delete(record.destination)
        await self.store.delete_pool("a")
        self.assertIsNone(await self.store.pool("a"))


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


class CostTests(MongoDBTestCase):
    """What the server looks at to find something."""

    @contextlib.contextmanager
    def profiled(self) -> Iterator[list[dict[str, Any]]]:
        """Gives the commands of the block, once it has ended."""
        commands: list[dict[str, Any]] = []
        self.database.command("profile", 2)
        yield commands
        self.database.command("profile", 0)
        ours = {"ns": {"$regex": r"\.management_"}}
        commands += self.database["system.profile"].find(ours)

    def assert_cheap(self, commands: Sequence[dict[str, Any]], limit: int) -> None:
        """None looked at more documents than it may."""
        looks = [each for each in commands if "docsExamined" in each]
        self.assertTrue(looks)
        for each in looks:
            self.assertLessEqual(each["docsExamined"], limit, each["command"])

    async def use_subscription(self, last: int) -> None:
        """Each operation on single subscriptions that exist, with the last one."""
        wanted = subscription(last)
        with self.profiled() as commands:
            await self.store.subscription(queue("q"), wanted.id, NOW)
            await self.store.update_subscription(wanted, NOW)
            await self.store.subscribe(wanted, NOW)
            await self.store.unsubscribe(queue("q"), wanted.id)
            await self.store.subscribe(wanted, NOW)
        self.assert_cheap(commands, 1)

    async def test_subscriptions(self) -> None:
        """Only what is wanted is looked at, however few there were before."""
        # With one document all plans cost the same. The server remembers the one it
        # took, and would use it here until it costs ten times as much.
        await self.store.create(queue("q"), {})
        await self.store.subscribe(subscription(0), NOW)
        for _ in range(3):
            await self.use_subscription(0)
        for number in range(1, 9):
            await self.store.subscribe(subscription(number), NOW)
        await self.use_subscription(8)
        with self.profiled() as commands:
            await self.store.subscriptions(queue("q"), 3, subscription(4).id, NOW)
        self.assert_cheap(commands, 3)

    async def test_subscriptions_name_an_index(self) -> None:
        """No look for a subscription leaves the server a choice."""
        await self.store.create(queue("q"), {})
        with self.profiled() as commands:
            for number in range(3):
                await self.store.subscribe(subscription(number), NOW)
            await self.store.subscription(queue("q"), subscription(1).id, NOW)
            await self.store.update_subscription(subscription(1, ttl=90), NOW)
            await self.store.subscriptions(queue("q"), 5, "", NOW)
            await self.store.unsubscribe(queue("q"), subscription(1).id)
        of_subscriptions = [
            each for each in commands if each["ns"].endswith(SUBSCRIPTIONS)
        ]
        looks = [each["command"] for each in of_subscriptions if each["op"] == "query"]
        self.assertGreater(len(looks), 10)
        self.assertEqual([each for each in looks if "hint" not in each], [])
        changes = [each for each in of_subscriptions if each["op"] in CHANGES]
        self.assertEqual(
            {tuple(each["command"]["q"]) for each in changes},
            {("_id", "revision"), ("_id",)},
        )

    async def test_records(self) -> None:
        """A page of records costs what it holds, wherever it begins."""
        await self.create_all(
            *(queue(f"q{n}", f"p{m}") for n in range(6) for m in range(6))
        )
        with self.profiled() as commands:
            await self.store.records(2)
            await self.store.records(2, queue("q3", "p3"))
            await self.store.records(2, topic("q3", "p3"))
            await self.store.page("p3", Kind.QUEUE, 2, "q2")
        self.assert_cheap(commands, 2)

    async def test_delete_pool(self) -> None:
        """Whether a pool is in use is known from one record."""
        for name in "ab":
            await self.store.put_pool(pool(name))
        await gatherResults(
            [self.store.create(queue(f"q{n}"), {}, "a") for n in range(20)]
        )
        with self.profiled() as commands:
            with self.assertRaises(PoolInUse):
                await self.store.delete_pool("a")
            await self.store.delete_pool("b")
        self.assert_cheap(commands, 1)


class Crash(Exception):
    """A process ends here."""


class Watched:
    """A database that asks before each command.

    :param turn: is awaited before each.
    """

    def __init__(self, database: Any, turn: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._turn = turn

    async def command(self, *args: Any) -> Any:
        """A command of the database."""
        await self._turn()
        return await self._database.command(*args)

    def __getitem__(self, name: str) -> WatchedCollection:
        return WatchedCollection(self._database[name], self._turn)


class WatchedCollection:
    """A collection that asks before each command."""

    def __init__(self, collection: Any, turn: Callable[[], Awaitable[None]]) -> None:
        self._collection = collection
        self._turn = turn

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def command(*args: Any, **kwargs: Any) -> Any:
            await self._turn()
            return await getattr(self._collection, name)(*args, **kwargs)

        return command


class Actor:
    """An operation that makes one step, up to its next command, when it is told to.

    :param step: an operation.
    """

    def __init__(self, database: Any, step: Step[..., Any], *args: Any) -> None:
        self._gate: Deferred[None] | None = None
        self._idle: Deferred[None] = Deferred()
        self.over = False
        self._ending = Deferred.fromCoroutine(self._run(database, step, args))

    async def _run(
        self, database: Any, step: Step[..., Any], args: Sequence[Any]
    ) -> None:
        with contextlib.suppress(PoolDoesNotExist, PoolInUse, Crash):
            await step(Watched(database, self._wait), *args)
        self.over = True
        self._idle.callback(None)

    async def _wait(self) -> None:
        self._gate = Deferred()
        self._idle.callback(None)
        await self._gate

    async def advance(self) -> None:
        """Run the next command, and return when one more is waiting, or none."""
        assert self._gate is not None
        self._idle = Deferred()
        self._gate.callback(None)
        await self._idle

    async def crash(self) -> None:
        """End it before its next command."""
        assert self._gate is not None
        self._idle = Deferred()
        self._gate.errback(Crash())
        await self._idle


class PlacementTests(MongoDBTestCase):
    """Records come into pools while those are deleted, in every order of commands."""

    def setUp(self) -> None:
        """Connect to the database without a store, too."""
        super().setUp()
        address = read_uri(stand_alone().uri(self.name))
        connection = Connections(address, 1, reactor)
        self.addCleanup(connection.disconnect)
        self.calls = connection[self.name]
        self.revisions = count(1)

    def assert_placed(self) -> None:
        """Each record that names a pool names one that is there."""
        catalog = self.database[POOLS].find_one() or {"pools": []}
        known = [each["name"] for each in catalog["pools"]]
        homeless = {"revision": {"$exists": True}, "pool": {"$nin": [None, *known]}}
        self.assertEqual(list(self.database[DESTINATIONS].find(homeless)), [])

    async def begin(self, place: str | None = None) -> Record:
        """Make pool ``a`` anew, and a record of queue ``old``; gives that record."""
        for record in await self.store.records(10):
            await self.store.delete(record.destination)
        await self.store.put_pool(pool("a"))
        await self.store.create(queue("old"), {}, place)
        return await self.read(queue("old"))

    def creation(self, name: str = "new") -> Actor:
        """Somebody makes a record in pool ``a``."""
        revision = next(self.revisions)
        return Actor(self.calls, mongodb_records.create, queue(name), {}, "a", revision)

    def move(self, record: Record) -> Actor:
        """Somebody moves a record to pool ``a``."""
        return Actor(self.calls, mongodb_records.update, record, {}, "a")

    def deletion(self) -> Actor:
        """Somebody deletes pool ``a``."""
        return Actor(self.calls, mongodb_pools.delete_pool, "a")

    def replacement(self) -> Actor:
        """Somebody replaces pool ``a``, or makes it again."""
        return Actor(self.calls, mongodb_pools.put_pool, pool("a", weight=1))

    def removal(self, name: str) -> Actor:
        """Somebody deletes a record."""
        return Actor(self.calls, mongodb_records.delete, queue(name))

    async def run_to_end(self, actor: Actor) -> None:
        """All commands of one operation."""
        while not actor.over:
            await actor.advance()
            self.assert_placed()

    async def assert_placed_whenever(
        self,
        slow: Callable[[Record], Actor],
        quick: Callable[[Record], Sequence[Actor]],
    ) -> int:
        """Whole operations come before each command of another one.

        :return: how many commands the other one had.
        """
        for place in count():
            record = await self.begin()
            actor = slow(record)
            for _ in range(place):
                await actor.advance()
                if actor.over:
                    return place
            for each in quick(record):
                await self.run_to_end(each)
            await self.run_to_end(actor)
        raise AssertionError

    async def test_deleted_during_creation(self) -> None:
        """A pool that goes while a record is made in it goes without the record."""
        commands = await self.assert_placed_whenever(
            lambda _: self.creation(), lambda _: [self.deletion()]
        )
        self.assertEqual(commands, 3)
        self.assertEqual((await self.read(queue("new"))).pool, "a")

    async def test_deleted_during_move(self) -> None:
        """A pool that goes while a record moves to it goes without the record."""
        commands = await self.assert_placed_whenever(
            self.move, lambda _: [self.deletion()]
        )
        self.assertEqual(commands, 3)
        self.assertEqual((await self.read(queue("old"))).pool, "a")

    async def test_created_during_deletion(self) -> None:
        """A pool that gets a record while it is deleted stays."""
        commands = await self.assert_placed_whenever(
            lambda _: self.deletion(), lambda _: [self.creation()]
        )
        self.assertGreater(commands, 3)

    async def test_moved_during_deletion(self) -> None:
        """A pool that a record moves to while it is deleted stays."""
        commands = await self.assert_placed_whenever(
            lambda _: self.deletion(), lambda record: [self.move(record)]
        )
        self.assertGreater(commands, 3)

    async def test_replaced_during_deletion(self) -> None:
        """A pool that is replaced, and has a record by then, stays."""
        commands = await self.assert_placed_whenever(
            lambda _: self.deletion(), lambda _: [self.creation(), self.replacement()]
        )
        self.assertGreater(commands, 3)

    async def test_crash(self) -> None:
        """A placement that ends anywhere is done or not, and in nobody's way."""
        for slow in (lambda _: self.creation(), self.move):
            for place in range(3):
                actor = slow(await self.begin())
                for _ in range(place):
                    await actor.advance()
                await actor.crash()
                self.assertTrue(actor.over)
                self.assertIsNone(await self.store.get(queue("new")))
                self.assertIsNone((await self.read(queue("old"))).pool)
                await self.store.delete_pool("a")
                self.assertEqual(await self.store.pools(10), [])
                self.assertTrue(await self.store.create(queue("new"), {}))

    async def test_expelled_for_ever(self) -> None:
        """A placement that is never left in peace fails, and leaves no record."""

        async def expel() -> None:
            anything = {"$unset": {"proposals": ""}}
            self.database[DESTINATIONS].update_many({}, anything)

        await self.begin()
        calls = Watched(self.calls, expel)
        with self.assertRaises(StoreUnavailable):
            await mongodb_records.create(calls, queue("new"), {}, "a", 1)
        self.assertIsNone(await self.store.get(queue("new")))

    async def test_any_order(self) -> None:
        """However commands mix, and whoever dies, no record is in a missing pool."""
        for seed in range(60):
            dice = Random(seed)
            record = await self.begin()
            actors = [
                *(self.creation(), self.creation(), self.creation("newer")),
                *(self.move(record), self.deletion(), self.deletion()),
                *(self.replacement(), self.removal("new")),
            ]
            while waiting := [each for each in actors if not each.over]:
                actor = dice.choice(waiting)
                await (actor.crash() if dice.random() < 0.03 else actor.advance())
                self.assert_placed()


class ProofTests(ManagementTestCase):
    """What a server must prove that may have lost its office."""

    def open_store(self, case: TestCase) -> OpenPlace:
        """A database of the test on a replica set."""
        self.name = next(databases)
        uri = set_of_one().uri(self.name)
        return lambda: open_mongodb_management(uri, reactor)

    async def test_delete_pool(self) -> None:
        """Before a pool goes, the primary proves that no record can have come in."""
        client: MongoClient[dict[str, Any]] = MongoClient(set_of_one().uri(""))
        self.addCleanup(client.close)
        database = client[self.name]
        await self.store.put_pool(pool("a"))
        database.command("profile", 2)
        await self.store.delete_pool("a")
        database.command("profile", 0)
        looks = database["system.profile"].find(
            {"ns": f"{self.name}.{DESTINATIONS}", "op": "query"}
        )
        self.assertEqual(
            [look["command"].get("readConcern", {}).get("level") for look in looks],
            ["linearizable"] * 2,
        )


class FirstVersionTests(MongoDBTestCase):
    """A database of the version before there were pools."""

    def open_store(self, case: TestCase) -> OpenPlace:
        """Such a database, with a record and a subscription."""
        era = ObjectId()
        key = {"project": "p", "kind": "queue", "name": "q"}
        values = {"era": era, "metadata": '{"a":1}', "revision": 5}
        self.database[DESTINATIONS].create_index(
            [("project", 1), ("kind", 1), ("name", 1)], unique=True
        )
        self.database[DESTINATIONS].insert_one(key | values)
        self.database[SCHEMA].insert_one({"_id": "version", "number": 1})
        return super().open_store(case)

    async def test_records(self) -> None:
        """A record is there as it was, in the default pool."""
        old = Record(queue("q"), {"a": 1}, 5)
        self.assertEqual(await self.store.get(queue("q")), old)
        self.assertEqual(await self.store.records(10), [old])
        self.assertEqual(await self.store.page("p", Kind.QUEUE, 10), [old])
        self.assertIs(await self.store.create(queue("q"), {}), False)

    async def test_pools(self) -> None:
        """There are no pools; the record can move to a new one, and back."""
        self.assertEqual(await self.store.pools(10), [])
        await self.store.put_pool(pool("a"))
        moved = await self.store.update(await self.read(queue("q")), {}, "a")
        assert moved is not None
        with self.assertRaises(PoolInUse):
            await self.store.delete_pool("a")
        await self.store.update(moved, {}, None)
        await self.store.delete_pool("a")
        self.assertEqual((await self.read(queue("q"))).pool, None)

    def test_version(self) -> None:
        """From now on a program that knows no pools refuses the database."""
        found = self.database[SCHEMA].find_one({"_id": "version"})
        self.assertEqual(found, {"_id": "version", "number": 2})


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
            stricter.put_pool(pool("a")),
            stricter.create(queue("third"), {}, "a"),
            stricter.delete_pool("missing"),
            stricter.delete_flavor("missing"),
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
        """Start one with a user for each way to log in, and one for both."""
        self.server = GuardedServer()
        self.addCleanup(self.server.remove)
        self.server.start()
        mechanisms = ["SCRAM-SHA-1", "SCRAM-SHA-256"]
        admin = {"roles": ["root"], "mechanisms": mechanisms}
        # Only the first user may be made by somebody unknown.
        self.server.admin("createUser", "mqsvc", pwd="p@ss", **admin)
        with MongoClient(f"mongodb://mqsvc:p%40ss@{self.server.address}") as client:
            for mechanism in mechanisms:
                only = {"roles": ["readWrite"], "mechanisms": [mechanism]}
                client["db"].command("createUser", mechanism, pwd="p=,", **only)

    async def test_right(self) -> None:
        """A store with the password works, wherever and however the user logs in."""
        both, old, new = "mqsvc:p%40ss", "SCRAM-SHA-1:p=,", "SCRAM-SHA-256:p=,"
        for number, (user, place) in enumerate(
            (
                (both, "db?authSource=admin"),
                (both, ""),
                (both, "db?authSource=admin&authMechanism=SCRAM-SHA-1"),
                (both, "db?authSource=admin&authMechanism=SCRAM-SHA-256"),
                (old, "db"),
                (new, "db"),
            )
        ):
            uri = f"mongodb://{user}@{self.server.address}/{place}"
            store = open_mongodb_management(uri, reactor)
            store.startService()
            self.addCleanup(store.stopService)
            self.assertTrue(await store.create(queue(f"q{number}"), {}))

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
            ("authMechanism=MONGODB-X509", "SCRAM-SHA-256"),
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
