"""A message store made of pools: the behaviour of every store, and its own."""

from __future__ import annotations

import os
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mqsvc.bus import Bus
from mqsvc.bus.board import slot_of
from mqsvc.messaging.errors import NoPool, StoreUnavailable
from mqsvc.messaging.model import (
    DeadLetterRule,
    Destination,
    JsonObject,
    Kind,
    NewMessage,
    Pool,
    Posting,
    Selection,
)
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IMessageStore, IPooledMessageStore
from mqsvc.storage.messages.sqlite import SQLiteMessageStore, prepare
from mqsvc.storage.open import open_pool
from mqsvc.storage.pool_stores import REST_SECONDS
from mqsvc.storage.pools import FAILED_REST_SECONDS, NAMES_PER_PAGE, PooledMessages
from mqsvc.storage.sqlite import Job, Result
from mqsvc.storage.stages import Stage
from tests.messaging.stores import Watched, open_management
from tests.storage.contract import make_store_tests
from tests.storage.faulty import FaultyStore
from tests.storage.inline import InlineWorker

ONE = Destination("p", Kind.QUEUE, "one")
TWO = Destination("p", Kind.QUEUE, "two")
PLAIN = Destination("p", Kind.QUEUE, "plain")
NOW = 1_800_000_000_000
REMEMBERED = 60
ALL = Selection(20, include_claimed=True, include_delayed=True)


class StoppableWorker(InlineWorker):
    """Refuses jobs while it is stopped, as a thread does."""

    def run(self, job: Job[Result]) -> Deferred[Result]:
        """Fire with what the job returns."""
        stopped = self._connection is None
        return fail(StoreUnavailable()) if stopped else super().run(job)


def open_inline(path: str) -> SQLiteMessageStore:
    """A store on a file that answers at once."""
    prepare(path)
    worker = StoppableWorker(path)
    return SQLiteMessageStore(worker, worker, Random(path).getrandbits)


def open_at_once(uri: str, options: JsonObject) -> Deferred[IMessageStore]:
    """The store on the file that a URI names."""
    return succeed(open_inline(uri))


async def in_pool(destination: Destination) -> str:
    """Where everything is in the suite that follows."""
    return "pool"


def open_store(testcase: TestCase, path: str | None = None) -> PooledMessages:
    """A store that keeps everything in one pool, on a file."""
    management = open_management(testcase)
    testcase.successResultOf(
        management.put_pool(Pool("pool", path or testcase.mktemp(), 1))
    )
    default = open_inline(testcase.mktemp())
    return PooledMessages(default, management, in_pool, open_at_once, reactor)


globals().update(make_store_tests("Pooled", open_store))


class Noted(Stage):
    """Notes when it is started and stopped, and may stop later.

    :ivar is_broken: whether all calls fail from now on.
    """

    def __init__(self, next_store: IMessageStore, notes: list[str], label: str) -> None:
        super().__init__(next_store)
        self._notes = notes
        self._label = label
        self.is_broken = False

    def startService(self) -> None:
        """Note it."""
        self._notes.append(f"start {self._label}")
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Note it."""
        self._notes.append(f"stop {self._label}")
        return super().stopService()

    def ping(self) -> Deferred[None]:
        """Fail if broken."""
        return fail(StoreUnavailable()) if self.is_broken else super().ping()

    def sweep(self, now: int) -> Deferred[bool]:
        """Note it; fail if broken."""
        self._notes.append(f"sweep {self._label}")
        return fail(StoreUnavailable()) if self.is_broken else super().sweep(now)


class PooledTestCase(SynchronousTestCase):
    """A default pool and others, whose opening and calls are in the test's hands."""

    def setUp(self) -> None:
        """Start a store that knows two pools, and where queues live."""
        self.clock = Clock()
        self.clock.advance(NOW // 1000)
        self.bus = Bus(clock=self.clock, remembered=REMEMBERED)
        self.management = Watched(open_management(self))
        self.notes: list[str] = []
        self.places: dict[Destination, str] = {ONE: "a", TWO: "b"}
        self.files: dict[str, str] = {}
        self.opened: dict[str, Noted] = {}
        self.watched: dict[str, Watched] = {}
        self.openings: list[str] = []
        self.held: Deferred[None] | None = None
        self.refused: Exception | None = None
        for name in ("a", "b"):
            self.put(name, f"sqlite:{name}")
        self.store = PooledMessages(
            self.made("default"),
            self.management,
            self.locate,
            self.open,
            self.clock,
            self.bus,
        )
        self.store.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop the store, unless the test did."""
        if self.store.running:
            self.successResultOf(self.store.stopService())

    def put(self, name: str, uri: str, **options: Any) -> None:
        """Make or replace a pool."""
        pool = Pool(name, uri, 1, options=options)
        self.successResultOf(self.management.put_pool(pool))

    async def locate(self, destination: Destination) -> str | None:
        """Where a queue lives in this test."""
        return self.places.get(destination)

    def made(self, uri: str) -> IMessageStore:
        """A store on the file that a URI stands for."""
        path = self.files.setdefault(uri, self.mktemp())
        watched = self.watched[uri] = Watched(open_inline(path))
        self.opened[uri] = Noted(watched, self.notes, uri)
        return self.opened[uri]

    def open(self, uri: str, options: JsonObject) -> Deferred[IMessageStore]:
        """Open a store at once, or when the test says so."""
        self.openings.append(uri)
        if self.refused is not None:
            return fail(self.refused)
        held = succeed(None) if self.held is None else self.held
        opening: Deferred[IMessageStore] = Deferred()
        held.addCallback(lambda _: self.made(uri)).chainDeferred(opening)
        return opening

    def post(self, destination: Destination, *bodies: bytes) -> Deferred[list[str]]:
        """Post messages."""
        messages = [NewMessage(body, 3600) for body in bodies]
        return self.store.post(destination, messages, "c", NOW)

    def posted(self, destination: Destination, *bodies: bytes) -> list[str]:
        """Post messages; their ids."""
        return self.successResultOf(self.post(destination, *bodies))

    def bodies(self, destination: Destination, store: Any = None) -> list[bytes]:
        """What a destination holds."""
        found = self.successResultOf((store or self.store).page(destination, ALL, NOW))
        return [message.body for message in found]


class RoutingTests(PooledTestCase):
    """Each destination has its pool."""

    def test_interface(self) -> None:
        """It is a pooled message store."""
        verifyObject(IPooledMessageStore, self.store)

    def test_each_in_its_own(self) -> None:
        """Messages are in the pool of their queue, and nowhere else."""
        self.posted(ONE, b"1")
        self.posted(TWO, b"2")
        self.posted(PLAIN, b"3")
        for destination, body, uri in (
            (ONE, b"1", "sqlite:a"),
            (TWO, b"2", "sqlite:b"),
            (PLAIN, b"3", "default"),
        ):
            self.assertEqual([body], self.bodies(destination))
            for each, store in self.opened.items():
                expected = [body] if each == uri else []
                self.assertEqual(expected, self.bodies(destination, store))

    def test_further_messages(self) -> None:
        """What is posted elsewhere in the same step is in the pool of the first."""
        also = Posting(TWO, [NewMessage(b"2", 3600)])
        new = [NewMessage(b"1", 3600)]
        self.successResultOf(self.store.post(ONE, new, "c", NOW, also))
        self.assertEqual([b"1"], self.bodies(ONE))
        self.assertEqual([], self.bodies(TWO))
        self.assertEqual([b"2"], self.bodies(TWO, self.opened["sqlite:a"]))

    def test_opened_when_needed(self) -> None:
        """A pool is opened by its first call, and once."""
        self.assertEqual(["start default"], self.notes)
        self.posted(PLAIN, b"1")
        self.assertEqual([], self.openings)
        self.posted(ONE, b"1")
        self.posted(ONE, b"2")
        self.assertEqual(["sqlite:a"], self.openings)
        self.assertEqual(["start default", "start sqlite:a"], self.notes)

    def test_options(self) -> None:
        """A pool is opened with its options."""
        given: list[JsonObject] = []
        open_store = self.store._stores._open_store

        def note(uri: str, options: JsonObject) -> Deferred[IMessageStore]:
            given.append(options)
            return open_store(uri, options)

        self.store._stores._open_store = note
        self.put("a", "sqlite:a", prefix="x")
        self.posted(ONE, b"1")
        self.assertEqual([{"prefix": "x"}], given)

    def test_shared_opening(self) -> None:
        """Calls that come while a pool is opened wait for the one opening."""
        self.held = Deferred()
        first, second = self.post(ONE, b"1"), self.post(ONE, b"2")
        other = self.posted(PLAIN, b"3")
        self.assertEqual(1, len(other))
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.held.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(["sqlite:a"], self.openings)
        self.assertEqual([b"1", b"2"], self.bodies(ONE))

    def test_shared_failure(self) -> None:
        """Calls that wait for an opening that fails all fail."""
        self.held = Deferred()
        calls = [self.post(ONE, b"1"), self.post(ONE, b"2")]
        self.held.errback(StoreOpenError("no"))
        for call in calls:
            self.failureResultOf(call, StoreUnavailable)
        self.assertEqual(["sqlite:a"], self.openings)

    def test_unknown_pool(self) -> None:
        """A destination in a pool without a record is an error, and tried again."""
        self.places[ONE] = "c"
        self.failureResultOf(self.post(ONE, b"1"), NoPool)
        self.put("c", "sqlite:c")
        self.posted(ONE, b"1")
        self.assertEqual([b"1"], self.bodies(ONE, self.opened["sqlite:c"]))

    def test_pool_that_cannot_be_opened(self) -> None:
        """It is unavailable, left alone for a while, and then tried again."""
        self.refused = StoreOpenError("the door is locked")
        with capturedLogs() as events:
            self.failureResultOf(self.post(ONE, b"1"), StoreUnavailable)
        (line,) = [formatEvent(event) for event in events]
        self.assertIn("Pool a cannot be opened", line)
        self.assertIn("the door is locked", line)
        self.failureResultOf(self.post(ONE, b"1"), StoreUnavailable)
        self.assertEqual(["sqlite:a"], self.openings)
        self.refused = None
        self.posted(TWO, b"2")
        self.clock.advance(REST_SECONDS)
        self.posted(ONE, b"1")
        self.assertEqual(["sqlite:a", "sqlite:b", "sqlite:a"], self.openings)

    def test_dead_letters(self) -> None:
        """A claim with a rule works where both queues are in one pool, or fails."""
        rule = DeadLetterRule(TWO, 1)
        self.posted(ONE, b"1")
        self.failureResultOf(
            self.store.claim(ONE, 60, 60, 1, NOW, rule), StoreUnavailable
        )
        self.places[TWO] = "a"
        claimed = self.successResultOf(self.store.claim(ONE, 60, 60, 1, NOW, rule))
        later = NOW + 61_000
        self.assertEqual(1, len(claimed.claim.messages))
        claimed = self.successResultOf(self.store.claim(ONE, 60, 60, 1, later, rule))
        self.assertEqual((None, 1), (claimed.claim, claimed.dead_lettered))
        self.assertEqual([b"1"], self.bodies(TWO))


class OtherProcessTests(PooledTestCase):
    """Pools change by other processes."""

    def told(self, name: str) -> None:
        """Another process tells that it changed a pool."""
        self.bus.board.changed(slot_of("pool", name))

    def test_told(self) -> None:
        """After another process changed a pool its new store is used."""
        self.posted(ONE, b"old")
        self.put("a", "sqlite:new")
        self.assertEqual([b"old"], self.bodies(ONE))
        self.told("a")
        self.assertEqual([], self.bodies(ONE))
        self.assertEqual(["stop sqlite:a", "start sqlite:new"], self.notes[-2:])

    def test_not_told(self) -> None:
        """What other processes fail to tell is found out after some seconds."""
        self.posted(ONE, b"old")
        self.put("a", "sqlite:new")
        self.clock.advance(REMEMBERED)
        self.assertEqual([], self.bodies(ONE))

    def test_same_store(self) -> None:
        """A store stays open as long as what it was opened with stays the same."""
        self.posted(ONE, b"1")
        self.successResultOf(self.management.put_pool(Pool("a", "sqlite:a", 7)))
        self.told("a")
        self.management.calls.clear()
        for _ in range(3):
            self.assertEqual([b"1"], self.bodies(ONE))
        self.assertEqual(["pool"], self.management.calls)
        self.assertEqual(["sqlite:a"], self.openings)
        self.assertNotIn("stop sqlite:a", self.notes)

    def test_options(self) -> None:
        """Other options are another store."""
        self.posted(ONE, b"1")
        self.put("a", "sqlite:a", x=1)
        self.told("a")
        self.assertEqual([b"1"], self.bodies(ONE))
        self.assertEqual(["sqlite:a"] * 2, self.openings)

    def test_gone(self) -> None:
        """A pool that another process removed is closed and used no more."""
        self.posted(ONE, b"1")
        self.successResultOf(self.management.delete_pool("a"))
        self.told("a")
        self.failureResultOf(self.post(ONE, b"2"), NoPool)
        self.assertEqual("stop sqlite:a", self.notes[-1])

    def test_running_calls(self) -> None:
        """Calls under way go on in the store in which they began."""
        self.posted(ONE, b"1")
        answers = self.watched["sqlite:a"].hold_answer("post")
        running = self.post(ONE, b"2")
        self.put("a", "sqlite:new")
        self.told("a")
        self.posted(ONE, b"3")
        self.assertNotIn("stop sqlite:a", self.notes)
        answers.callback(None)
        self.successResultOf(running)
        self.assertIn("stop sqlite:a", self.notes)

    def test_catalog_is_away(self) -> None:
        """Without the catalog what has to be looked up waits; then all is well."""
        self.posted(ONE, b"1")
        self.told("a")
        self.management.broken = {"pool"}
        self.failureResultOf(self.post(ONE, b"2"), StoreUnavailable)
        self.management.broken = set()
        self.posted(ONE, b"3")
        self.assertEqual(["sqlite:a"], self.openings)

    def test_no_memory(self) -> None:
        """Where nothing is remembered each call looks, and opens once."""
        self.bus.remembered = 0
        for _ in range(3):
            self.posted(ONE, b"1")
        self.assertEqual(3, self.management.calls.count("pool"))
        self.assertEqual(["sqlite:a"], self.openings)


class ForgettingTests(PooledTestCase):
    """Pools change."""

    def test_opened_anew(self) -> None:
        """After a pool changed its old store is closed and its new one is used."""
        self.posted(ONE, b"old")
        self.put("a", "sqlite:new")
        self.store.forget_pool("a")
        self.assertEqual("stop sqlite:a", self.notes[-1])
        self.assertEqual([], self.bodies(ONE))
        self.assertEqual("start sqlite:new", self.notes[-1])

    def test_running_calls(self) -> None:
        """A store is closed only when the calls under way in it are over."""
        self.posted(ONE, b"1")
        answers = self.watched["sqlite:a"].hold_answer("post")
        running = self.post(ONE, b"2")
        self.store.forget_pool("a")
        self.assertNotIn("stop sqlite:a", self.notes)
        answers.callback(None)
        self.successResultOf(running)
        self.assertIn("stop sqlite:a", self.notes)

    def test_caller_left(self) -> None:
        """A call whose caller left is still under way."""
        self.posted(ONE, b"1")
        answers = self.watched["sqlite:a"].hold_answer("post")
        running = self.post(ONE, b"2")
        running.addErrback(lambda _: None)
        running.cancel()
        self.store.forget_pool("a")
        self.assertNotIn("stop sqlite:a", self.notes)
        answers.callback(None)
        self.assertIn("stop sqlite:a", self.notes)

    def test_while_it_is_opened(self) -> None:
        """A pool that changes while it is opened is opened again."""
        held = self.held = Deferred()
        running = self.post(ONE, b"1")
        self.put("a", "sqlite:new")
        self.store.forget_pool("a")
        self.held = None
        held.callback(None)
        self.successResultOf(running)
        self.assertEqual(["sqlite:a", "sqlite:new"], self.openings)
        self.assertIn("stop sqlite:a", self.notes)
        self.assertEqual([b"1"], self.bodies(ONE, self.opened["sqlite:new"]))

    def test_while_its_opening_fails(self) -> None:
        """A failure of what a pool was before does not stop what it is now."""
        held = self.held = Deferred()
        running = self.post(ONE, b"1")
        self.put("a", "sqlite:new")
        self.store.forget_pool("a")
        self.held = None
        held.errback(StoreOpenError("no"))
        self.failureResultOf(running, StoreUnavailable)
        self.posted(ONE, b"2")
        self.assertEqual([b"2"], self.bodies(ONE, self.opened["sqlite:new"]))

    def test_rest(self) -> None:
        """A pool that could not be opened is tried at once when it changed."""
        self.refused = StoreOpenError("no")
        self.failureResultOf(self.post(ONE, b"1"), StoreUnavailable)
        self.refused = None
        self.store.forget_pool("a")
        self.posted(ONE, b"1")

    def test_unused(self) -> None:
        """A pool that was never used can be forgotten."""
        self.store.forget_pool("a")
        self.store.forget_pool("none")
        self.posted(ONE, b"1")

    def test_failing_stop(self) -> None:
        """A store that cannot be closed is logged, and nobody is held up by it."""
        self.posted(ONE, b"1")
        self.watched["sqlite:a"].broken.add("stopService")
        self.store.forget_pool("a")
        self.assertEqual(1, len(self.flushLoggedErrors(StoreUnavailable)))
        self.assertEqual([b"1"], self.bodies(ONE))


class StoppingTests(PooledTestCase):
    """The end."""

    def test_all(self) -> None:
        """Stopping stops all that is open, the default pool last."""
        self.posted(ONE, b"1")
        self.posted(TWO, b"1")
        self.successResultOf(self.store.stopService())
        stops = [note for note in self.notes if note.startswith("stop")]
        self.assertEqual({"stop sqlite:a", "stop sqlite:b"}, set(stops[:-1]))
        self.assertEqual("stop default", stops[-1])

    def test_waits(self) -> None:
        """It is over only when the last store is."""
        self.posted(ONE, b"1")
        end = self.watched["sqlite:a"].hold_answer("stopService")
        stopping = self.store.stopService()
        self.assertNoResult(stopping)
        end.callback(None)
        self.successResultOf(stopping)

    def test_during_an_opening(self) -> None:
        """A pool that is just being opened is closed again, and its callers fail."""
        self.held = Deferred()
        running = self.post(ONE, b"1")
        stopping = self.store.stopService()
        self.assertNoResult(stopping)
        self.held.callback(None)
        self.successResultOf(stopping)
        self.failureResultOf(running, StoreUnavailable)
        self.assertIn("stop sqlite:a", self.notes)

    def test_after_it(self) -> None:
        """Nothing is opened any more."""
        self.successResultOf(self.store.stopService())
        self.failureResultOf(self.post(ONE, b"1"), StoreUnavailable)
        self.assertEqual([], self.openings)


class PingTests(PooledTestCase):
    """What is alive."""

    def ping(self, alive: bool) -> None:
        """Fail unless a ping says this."""
        ping = self.store.ping()
        if alive:
            self.successResultOf(ping)
        else:
            self.failureResultOf(ping, StoreUnavailable)

    def test_default(self) -> None:
        """The default pool has to answer; pools that were not used are not opened."""
        self.ping(alive=True)
        self.assertEqual([], self.openings)
        self.opened["default"].is_broken = True
        self.ping(alive=False)

    def test_one_dead_pool(self) -> None:
        """One dead pool does not take the server out of service; all of them do."""
        self.posted(ONE, b"1")
        self.posted(TWO, b"1")
        self.opened["sqlite:a"].is_broken = True
        self.ping(alive=True)
        self.opened["sqlite:b"].is_broken = True
        self.ping(alive=False)

    def test_pool_that_cannot_be_opened(self) -> None:
        """A pool that could not be opened counts as a dead one."""
        self.refused = StoreOpenError("no")
        self.failureResultOf(self.post(ONE, b"1"), StoreUnavailable)
        self.ping(alive=False)

    def test_silent_pool(self) -> None:
        """A pool that does not answer is not waited for where another does."""
        self.posted(ONE, b"1")
        self.posted(TWO, b"1")
        silent = self.watched["sqlite:a"].hold_answer("ping")
        self.ping(alive=True)
        silent.callback(None)

    def test_one(self) -> None:
        """Each pool can be asked by itself, also one that was not used."""
        self.successResultOf(self.store.ping_pool("a"))
        self.opened["sqlite:a"].is_broken = True
        self.failureResultOf(self.store.ping_pool("a"), StoreUnavailable)
        self.successResultOf(self.store.ping_pool("b"))
        self.successResultOf(self.store.ping_pool(None))
        self.failureResultOf(self.store.ping_pool("c"), NoPool)

    def test_check(self) -> None:
        """A store is tried by opening it, asking it, and closing it."""
        self.successResultOf(self.store.check("sqlite:new", {}))
        self.assertEqual(["start sqlite:new", "stop sqlite:new"], self.notes[1:])

    def test_check_refused(self) -> None:
        """What cannot be opened is refused with the reason."""
        self.refused = StoreOpenError("no such thing")
        error = self.failureResultOf(self.store.check("x:", {}), StoreOpenError)
        self.assertEqual("no such thing", str(error.value))

    def test_check_silent(self) -> None:
        """What does not answer is refused, and closed."""
        store = Noted(FaultyStore(), self.notes, "faulty")
        store.is_broken = True
        pooled = PooledMessages(
            FaultyStore(),
            self.management,
            self.locate,
            lambda uri, options: succeed(store),
            self.clock,
        )
        error = self.failureResultOf(pooled.check("x:", {}), StoreOpenError)
        self.assertEqual("the store does not answer", str(error.value))
        self.assertEqual("stop faulty", self.notes[-1])


class SweepTests(PooledTestCase):
    """Housekeeping in all pools."""

    def sweep(self) -> bool:
        """Sweep a piece; whether there may be more."""
        self.notes.clear()
        more = self.successResultOf(self.store.sweep(NOW + 10_000_000))
        self.notes[:] = [note for note in self.notes if note.startswith("sweep")]
        return more

    def test_all(self) -> None:
        """All pools are swept, also those that were not used."""
        self.assertFalse(self.sweep())
        self.assertEqual(
            {"sweep default", "sweep sqlite:a", "sweep sqlite:b"}, set(self.notes)
        )

    def test_frees(self) -> None:
        """What expired is gone from the file of its pool."""
        ids = self.posted(ONE, b"1")
        while self.sweep():
            pass
        found = self.successResultOf(self.opened["sqlite:a"].get(ONE, ids, NOW))
        self.assertEqual([], found)

    def test_many(self) -> None:
        """Pools are listed to the last one."""
        for number in range(NAMES_PER_PAGE + 5):
            self.put(f"many{number:03}", f"sqlite:many{number}")
        self.sweep()
        self.assertEqual(1 + 2 + NAMES_PER_PAGE + 5, len(self.notes))

    def test_dead_pool(self) -> None:
        """A dead pool is logged and left alone for a while; the others are swept."""
        self.sweep()
        self.opened["sqlite:a"].is_broken = True
        self.clock.advance(1)
        with capturedLogs() as events:
            self.assertFalse(self.sweep())
        self.assertEqual(
            ["Pool a cannot be swept now"], [formatEvent(event) for event in events]
        )
        self.assertEqual(3, len(self.notes))
        self.clock.advance(1)
        self.sweep()
        self.assertEqual({"sweep default", "sweep sqlite:b"}, set(self.notes))
        self.clock.advance(FAILED_REST_SECONDS)
        self.opened["sqlite:a"].is_broken = False
        self.sweep()
        self.assertEqual(3, len(self.notes))

    def test_bug(self) -> None:
        """A pool that fails in an unforeseen way does not stop the others either."""
        self.sweep()
        gate = self.watched["sqlite:b"].hold_call("sweep")
        gate.errback(ZeroDivisionError())
        self.clock.advance(1)
        self.assertFalse(self.sweep())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(3, len(self.notes))

    def test_those_with_more(self) -> None:
        """Calls that follow at once go to the pools that had more, and no others."""
        for _ in range(15):
            self.posted(ONE, *[b"1"] * 100)
        self.assertTrue(self.sweep())
        self.sweep()
        self.assertEqual(["sweep sqlite:a"], self.notes)
        self.clock.advance(1)
        self.sweep()
        self.assertEqual(3, len(self.notes))


class StoredBytesTests(PooledTestCase):
    """What a project keeps in all pools."""

    def setUp(self) -> None:
        """Post to every pool."""
        super().setUp()
        for destination, body in ((ONE, b"1"), (TWO, b"22"), (PLAIN, b"333")):
            self.posted(destination, body)

    def stored_bytes(self) -> int:
        """The sum."""
        return self.successResultOf(self.store.stored_bytes(ONE.project))

    def test_all(self) -> None:
        """Pools and the default one are summed up, also those not used here yet."""
        self.assertEqual(6, self.stored_bytes())
        self.store.forget_pool("a")
        self.assertEqual(6, self.stored_bytes())

    def test_dead_pool(self) -> None:
        """A dead pool is logged, and left out without being asked for a while."""
        self.watched["sqlite:a"].broken = {"stored_bytes"}
        with capturedLogs() as events:
            self.assertEqual(5, self.stored_bytes())
        self.assertEqual(
            ["Pool a cannot be weighed now"], [formatEvent(event) for event in events]
        )
        self.watched["sqlite:a"].broken = set()
        self.assertEqual(5, self.stored_bytes())
        self.clock.advance(FAILED_REST_SECONDS)
        self.assertEqual(6, self.stored_bytes())

    def test_stopped(self) -> None:
        """A store that is stopped knows nothing."""
        self.stop()
        self.failureResultOf(self.store.stored_bytes(ONE.project), StoreUnavailable)


class ThreadTests(TestCase):
    """Opening for real."""

    def setUp(self) -> None:
        """Name a file."""
        self.file = os.path.abspath(self.mktemp())

    async def test_in_a_thread(self) -> None:
        """A pool is opened by its URI in a thread and works."""
        management = open_management(self)
        uri = f"sqlite:///{self.file}"
        await management.put_pool(Pool("pool", uri, 1, options={"ignored": 1}))
        store = PooledMessages(
            open_inline(self.mktemp()),
            management,
            in_pool,
            lambda uri, options: open_pool(uri, options, reactor),
            reactor,
        )
        store.startService()
        self.addCleanup(store.stopService)
        await store.check(uri, {})
        await store.post(ONE, [NewMessage(b"1", 60)], "c", NOW)
        self.assertEqual(1, (await store.stats(ONE, NOW)).total)
        with self.assertRaises(StoreOpenError):
            await store.check("nothing://host", {})
