"""Operations of two processes on the same stores: neither is misled by the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mqsvc.bus import Bus
from mqsvc.bus.board import Board
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import View
from mqsvc.messaging.metadata import Rules
from mqsvc.messaging.model import Destination, NewMessage
from mqsvc.messaging.operations import Operations
from mqsvc.messaging.placement import ATTEMPTS
from mqsvc.messaging.recheck import SECONDS, Recheck
from mqsvc.messaging.records import Records
from tests.messaging.case import GRAVE, QUEUE, WORN_OUT, OperationsTestCase
from tests.messaging.pooled import PooledTestCase
from tests.messaging.stores import Watched, unlimited

REMEMBERED = 5

BODY = [{"body": "x"}]


class Process:
    """One of several, with its own way to get between it and the stores.

    :ivar management: its way to the catalog.
    :ivar messages: its way to the messages.
    """

    def __init__(self, case: OperationsTestCase, bus: Bus) -> None:
        self.case = case
        self.bus = bus
        self.management = Watched(case.management)
        self.messages = Watched(case.messages)
        self.records = Records(
            self.management, Limits(), unlimited(self.management), bus=bus
        )
        now = int(case.clock.seconds() * 1000)
        self.audience = Audience(self.management, lambda: now, bus)
        self.operations = Operations.over(
            *(self.management, self.messages, self.records, Limits(), case.clock),
            audience=self.audience,
        )

    def post(self, body: Any, to: Destination = QUEUE) -> Deferred[list[str]]:
        """A post under way."""
        messages = [{"body": body}]
        return self.case.start(self.operations.messages.post(to, "c", messages, 0))

    def delete(self, destination: Destination = QUEUE) -> Deferred[None]:
        """A removal under way."""
        return self.case.start(self.operations.queues.delete(destination))

    def exists(self, destination: Destination = QUEUE) -> bool:
        """Whether it takes a destination to exist."""
        return bool(self.case.done(self.records.know(destination)).exists)

    def rules(self, destination: Destination = QUEUE) -> Rules:
        """The rules it goes by."""
        rules: Rules = self.case.done(self.records.know(destination)).rules
        return rules

    def listed(self, destination: Destination = QUEUE) -> list[bytes]:
        """The bodies that it shows."""
        listing = self.case.done(self.operations.messages.page(destination, View()))
        return [message.body for message in listing.messages]


class ProcessesCase(OperationsTestCase):
    """Two processes."""

    def setUp(self) -> None:
        """Start them."""
        super().setUp()
        self.first, self.second = (Process(self, bus) for bus in self.buses())

    def buses(self) -> Iterator[Bus]:
        """Those of two workers, who share a board."""
        directory = self.mktemp()
        os.mkdir(directory)
        path = os.path.join(directory, "board")
        self.addCleanup(Board.create(path, 2).close)
        for row in range(2):
            board = Board.open(path, row, 2)
            self.addCleanup(board.close)
            yield Bus(board, self.clock)

    def assert_consistent(self) -> None:
        """There are no messages without a record, for anybody."""
        record = self.successResultOf(self.management.get(QUEUE))
        for process in (self.first, self.second):
            self.assertEqual(record is not None, process.exists())
            if record is None:
                self.assertEqual([], process.listed())


class WorkersTests(ProcessesCase):
    """Two workers of one server."""

    def test_records(self) -> None:
        """Who was answered by one never meets old knowledge at the other."""
        for one, other in ((self.first, self.second), (self.second, self.first)):
            self.assertFalse(other.exists())
            self.done(one.operations.queues.create(QUEUE, {"_default_message_ttl": 99}))
            self.assertEqual(99, other.rules().default_ttl)
            change = [
                {
                    "op": "replace",
                    "path": "/metadata/_default_message_ttl",
                    "value": 98,
                }
            ]
            self.done(one.operations.queues.change(QUEUE, change))
            self.assertEqual(98, other.rules().default_ttl)
            self.successResultOf(one.delete())
            self.assertFalse(other.exists())

    def test_not_asked_again(self) -> None:
        """As long as nothing changes each asks once."""
        self.successResultOf(self.first.post("x"))
        for process in (self.first, self.second):
            process.exists()
            process.management.calls.clear()
            for _ in range(3):
                self.successResultOf(process.post("x"))
            self.clock.advance(3600)
            self.successResultOf(process.post("x"))
            self.assertEqual([], process.management.calls)

    def test_audience(self) -> None:
        """A subscription at one is known to the other."""
        self.assertFalse(self.done(self.second.audience.listens(QUEUE)))
        document = {"subscriber": "http://example.org/"}
        self.done(self.first.operations.subscriptions.create(QUEUE, document))
        self.assertTrue(self.done(self.second.audience.listens(QUEUE)))

    def test_post_during_a_removal(self) -> None:
        """Wherever a removal is, what comes is kept with its record, or gone."""
        steps: list[tuple[Callable[[Process], Watched], str]] = [
            (lambda process: process.messages, "clear"),
            (lambda process: process.management, "delete"),
        ]
        for where, step in steps:
            for hold in ("hold_call", "hold_answer"):
                self.successResultOf(self.first.post("old"))
                self.assertTrue(self.second.exists())
                held = getattr(where(self.first), hold)(step)
                removing = self.first.delete()
                posting = self.second.post("new")
                self.successResultOf(posting)
                held.callback(None)
                self.successResultOf(removing)
                self.assert_consistent()
                self.assertNotIn(b'"old"', self.second.listed())
                self.successResultOf(self.second.delete())

    def test_removal_during_a_post(self) -> None:
        """Wherever a post is when the other removes, it has a record in the end."""
        for hold in ("hold_call", "hold_answer"):
            self.successResultOf(self.first.post("old"))
            held = getattr(self.first.messages, hold)("post")
            posting = self.first.post("new")
            self.successResultOf(self.second.delete())
            held.callback(None)
            self.successResultOf(posting)
            self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))
            self.assert_consistent()
            self.successResultOf(self.second.delete())

    def test_removal_during_a_creation(self) -> None:
        """A queue that is removed while a post makes it is made once more."""
        held = self.first.management.hold_answer("create")
        posting = self.first.post("new")
        self.successResultOf(self.second.delete())
        held.callback(None)
        self.successResultOf(posting)
        self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))
        self.assert_consistent()

    def test_removed_all_the_time(self) -> None:
        """Where others always remove it a post gives up, and has left nothing."""
        held = self.first.management.hold_answer("create")
        posting = self.first.post("new")
        for _ in range(ATTEMPTS):
            self.assertNoResult(posting)
            self.successResultOf(self.second.delete())
            before, held = held, self.first.management.hold_answer("create")
            before.callback(None)
        self.failureResultOf(posting, StoreUnavailable)
        self.assertEqual([], self.first.listed())

    def test_looks_again(self) -> None:
        """Workers look again at what came in the middle of a change; one alone not."""
        (recheck,) = self.first.operations.services
        assert isinstance(recheck, Recheck)
        recheck.startService()
        self.addCleanup(recheck.stopService)
        self.first.records.relied[QUEUE, None] = None
        self.clock.advance(SECONDS)
        self.assertEqual({}, self.first.records.relied)
        self.assertEqual((), self.operations.services)

    def test_removal_that_fails_halfway(self) -> None:
        """What could not be cleared in the end is cleared by the next attempt."""
        self.successResultOf(self.first.post("old"))
        held = self.first.management.hold_answer("delete")
        removing = self.first.delete()
        self.first.messages.broken = {"clear"}
        held.callback(None)
        self.failureResultOf(removing, StoreUnavailable)
        self.first.messages.broken = set()
        self.successResultOf(self.second.delete())
        self.assert_consistent()

    def test_dead_letters(self) -> None:
        """Dead letters of one make a record that the other removed meanwhile."""
        grave = Destination(QUEUE.project, QUEUE.kind, "grave")
        self.done(self.first.operations.queues.create(QUEUE, WORN_OUT))
        self.done(self.first.operations.queues.create(grave, {}))
        self.successResultOf(self.first.post("x"))
        claims = self.first.operations.claims
        claim = self.done(claims.create(QUEUE, None, 1))
        self.done(claims.release(QUEUE, claim.id))
        held = self.first.messages.hold_answer("claim")
        claiming = self.start(claims.create(QUEUE, None, 1))
        self.successResultOf(self.second.delete(grave))
        held.callback(None)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertFalse(self.second.listed(grave) and not self.second.exists(grave))


class ServersTests(ProcessesCase):
    """Two servers that hear nothing of each other."""

    def setUp(self) -> None:
        """Let the second one look again at what it posted."""
        super().setUp()
        (self.recheck,) = self.second.operations.services
        assert isinstance(self.recheck, Recheck)

    def buses(self) -> Iterator[Bus]:
        """Each by itself."""
        for _ in range(2):
            yield Bus(clock=self.clock, remembered=REMEMBERED)

    def test_age(self) -> None:
        """What is remembered counts for some seconds, and not longer."""
        self.assertFalse(self.second.exists())
        self.successResultOf(self.first.post("x"))
        self.clock.advance(REMEMBERED - 0.1)
        self.assertFalse(self.second.exists())
        self.clock.advance(0.1)
        self.assertTrue(self.second.exists())

    def test_memory_of_no_time(self) -> None:
        """Without memory each request asks."""
        process = Process(self, Bus(clock=Clock(), remembered=0))
        self.assertFalse(process.exists())
        self.successResultOf(self.first.post("x"))
        self.assertTrue(process.exists())
        self.successResultOf(self.first.delete())
        self.successResultOf(process.post("y"))
        self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))
        self.assertEqual({}, process.records.relied)

    def lose_record(self) -> None:
        """Post at one what the other has removed without its knowing."""
        self.successResultOf(self.second.post("x"))
        self.done(self.recheck.look())
        self.successResultOf(self.first.delete())
        self.successResultOf(self.second.post("y"))
        self.assertIsNone(self.successResultOf(self.management.get(QUEUE)))

    def test_looked_at_again(self) -> None:
        """A message that lost its record gets one when its server looks again."""
        self.lose_record()
        self.recheck.startService()
        self.addCleanup(self.recheck.stopService)
        self.clock.advance(REMEMBERED)
        self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))
        self.assertEqual([b'"y"'], self.first.listed())
        self.second.management.calls.clear()
        self.clock.advance(REMEMBERED)
        self.assertEqual([], self.second.management.calls)

    def test_looked_at_when_it_stops(self) -> None:
        """A server that stops looks before."""
        self.recheck.startService()
        self.lose_record()
        self.successResultOf(self.recheck.stopService())
        self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))

    def test_removed_afterwards(self) -> None:
        """What was removed after the post stays removed."""
        self.successResultOf(self.second.post("x"))
        self.successResultOf(self.first.delete())
        self.done(self.recheck.look())
        self.assertIsNone(self.successResultOf(self.management.get(QUEUE)))
        self.assertEqual({}, self.second.records.relied)

    def test_made_again_meanwhile(self) -> None:
        """What is posted while it looks disturbs nothing, and is looked at, too."""
        self.lose_record()
        held = self.second.management.hold_answer("get")
        looking = self.start(self.recheck.look())
        self.clock.advance(REMEMBERED)
        self.successResultOf(self.second.post("z"))
        held.callback(None)
        self.successResultOf(looking)
        self.assertEqual([b'"y"', b'"z"'], self.first.listed())
        self.assertEqual([(QUEUE, None)], list(self.second.records.relied))
        self.done(self.recheck.look())
        self.assertEqual({}, self.second.records.relied)

    def test_store_is_away(self) -> None:
        """What cannot be read is looked at the next time."""
        self.lose_record()
        self.second.management.broken = {"get"}
        with capturedLogs() as logged:
            self.done(self.recheck.look())
        self.assertIn("cannot be looked at", formatEvent(logged[0]))
        self.second.management.broken = set()
        self.done(self.recheck.look())
        self.assertIsNotNone(self.successResultOf(self.management.get(QUEUE)))


class PoolsTests(PooledTestCase):
    """Queues in pools, which another process makes again elsewhere."""

    def test_elsewhere(self) -> None:
        """What was posted where the queue is no more has to be posted again."""
        self.add_pool("a")
        self.post("old")
        held = self.stores["test:a"].hold_answer("post")
        posting = self.start(self.operations.messages.post(QUEUE, "c", BODY, 0))
        # As another process would do it.
        self.successResultOf(self.management.delete(QUEUE))
        self.successResultOf(self.management.create(QUEUE, {}, None))
        self.records._knowledge.forget(QUEUE)
        held.callback(None)
        self.failureResultOf(posting, StoreUnavailable)
        self.post("new")
        self.assertEqual([b'"new"'], self.listed())

    def test_removal_in_the_pool(self) -> None:
        """A removal takes what came meanwhile from where the queue was."""
        self.records.bus.remembered = REMEMBERED
        self.add_pool("a")
        self.post("old")
        held = self.management.hold_answer("delete")
        removing = self.start(self.operations.queues.delete(QUEUE))
        message = NewMessage(b'"late"', 60)
        late = self.stores["test:a"].post(QUEUE, [message], "c", self.now)
        self.successResultOf(late)
        held.callback(None)
        self.successResultOf(removing)
        self.assertEqual([], self.in_pool("a"))

    def test_looked_at_again(self) -> None:
        """A message whose record is gone gets one in the pool where it is."""
        self.add_pool("a")
        self.post("x")
        self.add_pool("a", weight=0)
        self.successResultOf(self.management.delete(QUEUE))
        self.records.relied[QUEUE, "a"] = None
        self.look()
        self.assertEqual("a", self.pool_of())
        self.assertEqual([b'"x"'], self.listed())

    def look(self) -> None:
        """Look again at what came."""
        occupancy = self.operations.queues._occupancy
        recheck = Recheck(self.records, self.watched, occupancy, self.clock)
        self.done(recheck.look())

    def move(self, pool: str, destination: Destination = QUEUE) -> None:
        """Another process removes a destination and makes it again elsewhere."""
        self.successResultOf(self.stores["test:a"].clear(destination))
        self.successResultOf(self.management.delete(destination))
        self.successResultOf(self.management.create(destination, {}, pool))

    def open_pool(self, name: str) -> None:
        """Add a pool, and use it once."""
        self.add_pool(name, weight=0)
        self.successResultOf(self.pooled.ping_pool(name))

    def test_carried(self) -> None:
        """What came where the queue was goes to where it is, however much it is."""
        self.records.bus.remembered = REMEMBERED
        self.add_pool("a")
        self.open_pool("b")
        self.post("old")
        self.move("b")
        bodies = list(range(150))
        for start in range(0, 150, 15):
            self.post(*bodies[start : start + 15])
        self.assertEqual([], self.in_pool("b"))
        with capturedLogs() as logged:
            self.look()
        self.assertEqual([], logged)
        self.assertEqual([], self.in_pool("a"))
        step = self.stores["test:b"].stored(QUEUE, 200, None, self.now)
        carried = [each.message.body for each in self.successResultOf(step)]
        self.assertEqual([b"%d" % body for body in bodies], carried)
        self.assertEqual({}, self.records.relied)

    def test_carried_after_a_failure(self) -> None:
        """Where the new pool does not answer the next look does it."""
        self.records.bus.remembered = REMEMBERED
        self.add_pool("a")
        self.open_pool("b")
        self.post("old")
        self.move("b")
        self.post("x")
        self.stores["test:b"].broken = {"restore"}
        self.look()
        self.assertEqual([b'"x"'], self.in_pool("a"))
        self.stores["test:b"].broken = set()
        self.look()
        self.assertEqual([b'"x"'], self.listed())
        self.assertEqual([], self.in_pool("a"))

    def test_pool_is_gone(self) -> None:
        """What came to a pool that was removed is looked at once, with a warning."""
        self.records.relied[QUEUE, "gone"] = None
        with capturedLogs() as logged:
            self.look()
        self.assertIn("a pool that is gone", formatEvent(logged[0]))
        self.assertEqual({}, self.records.relied)

    def test_late_news_of_a_removal(self) -> None:
        """A removal clears where the queue lives, and not where it was."""
        self.records.bus.remembered = REMEMBERED
        self.add_pool("a")
        self.open_pool("b")
        self.post("old")
        self.move("b")
        message = NewMessage(b'"elsewhere"', 60)
        late = self.stores["test:b"].post(QUEUE, [message], "c", self.now)
        self.successResultOf(late)
        self.done(self.operations.queues.delete(QUEUE))
        self.assertEqual([], self.in_pool("b"))
        self.assertIsNone(self.record())

    def moving_letter(self) -> Callable[[], Deferred[Any]]:
        """A letter that a store moves within a pool; goes on when it is called."""
        self.add_pool("a")
        self.create(GRAVE)
        self.create(QUEUE, **WORN_OUT)
        self.post("x")
        claim = self.claim()
        assert claim is not None
        self.done(self.operations.claims.release(QUEUE, claim.id))
        self.open_pool("b")
        held = self.stores["test:a"].hold_answer("claim")
        claiming = self.claiming(wait=0)

        def go_on() -> Deferred[Any]:
            self.records._knowledge.forget(GRAVE)
            held.callback(None)
            return claiming

        return go_on

    def test_target_is_gone(self) -> None:
        """A target that was removed is made again where its letter is."""
        go_on = self.moving_letter()
        self.successResultOf(self.management.delete(GRAVE))
        self.add_pool("a", weight=0)
        self.assertIsNone(self.successResultOf(go_on()))
        self.assertEqual("a", self.pool_of(GRAVE))
        self.assertEqual([b'"x"'], self.listed(GRAVE))

    def test_target_is_elsewhere(self) -> None:
        """A letter for a target that was made again elsewhere is taken there."""
        go_on = self.moving_letter()
        self.successResultOf(self.management.delete(GRAVE))
        self.successResultOf(self.management.create(GRAVE, {}, "b"))
        self.failureResultOf(go_on(), StoreUnavailable)
        self.look()
        self.assertEqual([b'"x"'], self.listed(GRAVE))
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))

    def test_dead_letters(self) -> None:
        """Letters that travel to what was removed meanwhile make it again there."""
        self.add_flavor("f", "a")
        self.create(GRAVE, _flavor="f")
        self.create(QUEUE, **WORN_OUT)
        self.post("x")
        claim = self.claim()
        assert claim is not None
        self.done(self.operations.claims.release(QUEUE, claim.id))
        self.listed(GRAVE)
        held = self.stores["test:a"].hold_answer("restore")
        claiming = self.claiming(wait=0)
        # As another process would do it, which clears before and after.
        self.successResultOf(self.management.delete(GRAVE))
        self.records._knowledge.forget(GRAVE)
        held.callback(None)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertEqual([b'"x"'], self.listed(GRAVE))
        self.assertEqual("a", self.pool_of(GRAVE))
