"""The lease of a process, over a real store and a clock that the test turns."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.model import Subscription
from mqsvc.storage.interfaces import LEFT_ALONE
from tests.messaging.case import EPOCH, QUEUE
from tests.messaging.stores import Watched, open_management

SECONDS = 40
TRY = SECONDS / 4


class LeaseTests(SynchronousTestCase):
    """One process, and how others see it."""

    def setUp(self) -> None:
        """Start the service that holds a lease; none has begun."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.store = Watched(open_management(self))
        self.lease = Lease(self.store, self.clock, SECONDS, Random(0).getrandbits)
        self.lease.startService()
        self.addCleanup(lambda: self.lease.running and self.lease.stopService())

    @property
    def now(self) -> int:
        """The moment, as stores know it."""
        return int(self.clock.seconds() * 1000)

    def held(self) -> str:
        """The lease, which is there at once."""
        return self.successResultOf(Deferred.fromCoroutine(self.lease.held()))

    def listed(self) -> int:
        """How many subscriptions others see."""
        page = self.store.subscriptions(QUEUE, 9, "", self.now)
        return len(self.successResultOf(page))

    def subscribe(self, lease: str) -> None:
        """Keep a subscription under a lease."""
        wanted = Subscription(
            "1", QUEUE, "websocket:1", 9**9, self.now, {}, True, lease
        )
        self.successResultOf(self.store.subscribe(wanted, self.now))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        self.clock.pump([1] * int(seconds))

    def test_not_asked_for(self) -> None:
        """As long as nobody needs it nothing is written, and nothing is awaited."""
        self.pass_time(100)
        self.assertEqual([], self.store.calls)
        self.assertIsNone(self.lease.id)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.successResultOf(self.lease.stopService())
        self.assertEqual([], self.store.calls)

    def test_renewed(self) -> None:
        """It is held as long as the process lives, by one write in a quarter of it."""
        lease = self.held()
        self.subscribe(lease)
        self.store.calls.clear()
        self.pass_time(10 * SECONDS)
        self.assertEqual(["renew_lease"] * 40, self.store.calls)
        self.assertEqual((1, lease), (self.listed(), self.held()))

    def test_asked_again(self) -> None:
        """Whoever needs it while it is held is not kept waiting by the store."""
        lease = self.held()
        self.store.calls.clear()
        self.assertEqual([lease] * 2, [self.held(), self.held()])
        self.assertEqual([], self.store.calls)

    def test_asked_at_once(self) -> None:
        """All who need it at the same time get the same one."""
        gate = self.store.hold_answer("begin_lease")
        asking = [Deferred.fromCoroutine(self.lease.held()) for _ in range(3)]
        gate.callback(None)
        self.assertEqual(1, len({self.successResultOf(each) for each in asking}))
        self.assertEqual(1, self.store.calls.count("begin_lease"))

    def test_two_tries_fail(self) -> None:
        """All tries but one may fail: nobody sees anything of it."""
        self.subscribe(self.held())
        since = self.now
        for _ in range(2):
            gate = self.store.hold_call("renew_lease")
            self.pass_time(TRY)
            gate.errback(StoreUnavailable())
        self.pass_time(SECONDS / 2)
        self.assertEqual(1, self.listed())
        self.assertTrue(self.lease.was_held_since(since))

    def test_hanging_store(self) -> None:
        """All who wait hear of one attempt that fails, and the next one is new."""
        gate = self.store.hold_call("begin_lease")
        asking = [Deferred.fromCoroutine(self.lease.held()) for _ in range(3)]
        gate.errback(StoreUnavailable())
        for each in asking:
            self.failureResultOf(each, StoreUnavailable)
        self.assertEqual(["begin_lease"], self.store.calls)
        self.held()

    def test_one_renewal(self) -> None:
        """When the store is back, all who wait and the timer need one write."""
        lease = self.held()
        self.store.broken = {"renew_lease"}
        self.pass_time(SECONDS + TRY - 1)
        self.store.broken = set()
        self.store.calls.clear()
        gate = self.store.hold_call("renew_lease")
        asking = [Deferred.fromCoroutine(self.lease.held()) for _ in range(3)]
        self.pass_time(1)
        gate.callback(None)
        self.assertEqual([lease] * 3, [self.successResultOf(each) for each in asking])
        self.assertEqual(["renew_lease"], self.store.calls)

    def test_caller_leaves(self) -> None:
        """Who leaves while others wait for the same takes nothing from them."""
        gate = self.store.hold_call("begin_lease")
        leaving = Deferred.fromCoroutine(self.lease.held())
        staying = Deferred.fromCoroutine(self.lease.held())
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        gate.callback(None)
        self.assertEqual(self.lease.id, self.successResultOf(staying))

    def test_killed(self) -> None:
        """When the process is gone, others see nothing of it after its time."""
        self.subscribe(self.held())
        self.pass_time(TRY)
        # Nobody writes any more.
        self.store.broken = {"renew_lease"}
        self.clock.advance(SECONDS - 1)
        self.assertEqual(1, self.listed())
        self.clock.advance(1)
        self.assertEqual(0, self.listed())

    def test_outage(self) -> None:
        """While it cannot be renewed it is tried, and what is under it comes back."""
        lease = self.held()
        self.subscribe(lease)
        self.store.broken = {"renew_lease"}
        self.pass_time(TRY * 2)
        self.assertTrue(self.lease.was_held_since(self.now))
        self.pass_time(SECONDS)
        self.assertFalse(self.lease.was_held_since(self.now))
        self.assertEqual(0, self.listed())
        self.store.broken = set()
        hidden = self.now
        self.pass_time(TRY)
        self.assertEqual((1, lease), (self.listed(), self.lease.id))
        self.assertTrue(self.lease.was_held_since(self.now))
        self.assertFalse(self.lease.was_held_since(hidden))

    def test_outage_is_logged(self) -> None:
        """The log says what it means that the lease cannot be renewed."""
        self.held()
        self.store.broken = {"renew_lease"}
        with capturedLogs() as events:
            self.pass_time(TRY)
        (event,) = events
        text = formatEvent(event)
        self.assertIn("hidden from others", text)
        self.assertIn("40 seconds: The store did not answer.", text)

    def test_bug(self) -> None:
        """Whatever goes wrong once, it is renewed the next time."""
        self.held()
        renew = self.store.hold_call("renew_lease")
        self.pass_time(TRY)
        renew.errback(ValueError("unforeseen"))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.pass_time(SECONDS)
        self.assertTrue(self.lease.was_held_since(self.now))

    def test_needed_in_an_outage(self) -> None:
        """Whoever needs it while it is over is told that the store does not answer."""
        self.held()
        self.store.broken = {"renew_lease"}
        self.pass_time(SECONDS + 1)
        asking = Deferred.fromCoroutine(self.lease.held())
        self.failureResultOf(asking, StoreUnavailable)
        self.store.broken = set()
        self.held()
        self.assertTrue(self.lease.was_held_since(self.now))

    def test_given_up_by_others(self) -> None:
        """When others have removed it another one begins."""
        lost = self.held()
        self.store.broken = {"renew_lease"}
        self.pass_time(SECONDS + LEFT_ALONE / 1000)
        self.successResultOf(self.store.sweep(self.now))
        hidden, self.store.broken = self.now, set()
        self.pass_time(TRY)
        self.assertNotEqual(lost, self.lease.id)
        self.subscribe(self.held())
        self.assertEqual(1, self.listed())
        self.assertFalse(self.lease.was_held_since(hidden))
        self.pass_time(SECONDS * 2)
        self.assertEqual(1, self.listed())

    def test_stop(self) -> None:
        """A process that stops gives its lease up, and renews nothing any more."""
        self.subscribe(self.held())
        self.successResultOf(self.lease.stopService())
        self.assertEqual(0, self.listed())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_while_renewing(self) -> None:
        """Stopping waits for what is under way, which cannot undo it."""
        self.subscribe(self.held())
        gate = self.store.hold_call("renew_lease")
        self.pass_time(TRY)
        stopped = self.lease.stopService()
        self.assertNoResult(stopped)
        gate.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(0, self.listed())

    def test_stop_while_beginning(self) -> None:
        """Stopping waits for a lease that begins, and gives it up."""
        gate = self.store.hold_call("begin_lease")
        asking = Deferred.fromCoroutine(self.lease.held())
        stopped = self.lease.stopService()
        self.assertNoResult(stopped)
        gate.callback(None)
        self.successResultOf(stopped)
        self.subscribe(self.successResultOf(asking))
        self.assertEqual(0, self.listed())

    def test_stop_while_another_begins(self) -> None:
        """It gives up the lease that began while it waited, not the one before it."""
        lost = self.held()
        self.successResultOf(self.store.end_lease(lost))
        gate = self.store.hold_call("begin_lease")
        self.pass_time(TRY)
        stopped = self.lease.stopService()
        gate.callback(None)
        self.successResultOf(stopped)
        self.assertNotIn(self.lease.id, (None, lost))
        self.subscribe(str(self.lease.id))
        self.assertEqual(0, self.listed())

    def test_stop_in_an_outage(self) -> None:
        """A process can stop while the store is away; its lease ends by itself."""
        self.subscribe(self.held())
        self.store.broken = {"end_lease"}
        self.successResultOf(self.lease.stopService())
        self.assertEqual(1, len(self.flushLoggedErrors(StoreUnavailable)))
        self.assertEqual(1, self.listed())
        self.clock.advance(SECONDS)
        self.assertEqual(0, self.listed())
