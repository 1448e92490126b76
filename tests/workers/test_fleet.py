"""Workers that end are started again, and all of them stop together."""

from __future__ import annotations

from errno import EAGAIN

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.backoff import LONG_LIFE, LONGEST_PAUSE, BackOff
from mqsvc.workers.fleet import STOP_SECONDS, Fleet


class FakeWorker:
    """A worker that ends when the test says so.

    :ivar asked: what was asked of it.
    """

    def __init__(self) -> None:
        self.ended: Deferred[str] = Deferred()
        self.asked: list[str] = []

    def stop(self) -> None:
        """Note it."""
        self.asked.append("stop")

    def kill(self) -> None:
        """Note it."""
        self.asked.append("kill")


class BackOffTests(SynchronousTestCase):
    """Pauses between a death and the next start."""

    def test_short_lives(self) -> None:
        """The first time there is none; then they double, up to the longest."""
        backoff = BackOff()
        pauses = [backoff.after(0.5) for _ in range(9)]
        self.assertEqual([0, 1, 2, 4, 8, 16, 30, 30, 30], pauses)
        self.assertEqual(LONGEST_PAUSE, pauses[-1])

    def test_long_life(self) -> None:
        """Who lived a while is started at once, and has all its chances again."""
        backoff = BackOff()
        for _ in range(5):
            backoff.after(1)
        self.assertEqual([0, 1, 2], [backoff.after(life) for life in (LONG_LIFE, 1, 1)])


class FleetTests(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        """Start them."""
        self.clock = Clock()
        self.started: list[tuple[int, FakeWorker]] = []
        self.buried: list[int] = []
        self.is_exhausted = False
        self.fleet = Fleet(2, self.start, self.bury, self.clock)
        self.fleet.startService()

    def start(self, number: int) -> FakeWorker:
        """Start a worker, if the machine can."""
        if self.is_exhausted:
            raise BlockingIOError(EAGAIN, "no more processes")
        worker = FakeWorker()
        self.started.append((number, worker))
        return worker

    def bury(self, number: int) -> None:
        """Note it; the second number is cursed when it comes again."""
        self.buried.append(number)
        if self.buried.count(1) > 1:
            raise RuntimeError

    def numbers(self) -> list[int]:
        """The numbers of all that were started, in order."""
        return [number for number, _ in self.started]

    def test_all_are_started(self) -> None:
        """Each number is started once."""
        self.assertEqual([0, 1], self.numbers())

    def test_started_again(self) -> None:
        """One that ends is buried, said in the log, and started again at once."""
        with capturedLogs() as events:
            self.started[1][1].ended.callback("signal 9")
        self.assertEqual([1], self.buried)
        self.assertEqual(
            ["worker 1 ended (signal 9); it is started again in 0 seconds"],
            [formatEvent(event) for event in events],
        )
        self.clock.advance(0)
        self.assertEqual([0, 1, 1], self.numbers())

    def test_pauses(self) -> None:
        """One that ends again soon waits, without keeping the other one waiting."""
        self.started[0][1].ended.callback("exit status 1")
        self.clock.advance(0)
        self.started[2][1].ended.callback("exit status 1")
        self.clock.advance(0.9)
        self.started[1][1].ended.callback("exit status 1")
        self.clock.advance(0)
        self.assertEqual([0, 1, 0, 1], self.numbers())
        self.clock.advance(0.1)
        self.assertEqual([0, 1, 0, 1, 0], self.numbers())

    def test_no_process(self) -> None:
        """One that cannot be started is tried again, after longer and longer pauses."""
        self.is_exhausted = True
        with capturedLogs() as events:
            self.started[0][1].ended.callback("signal 9")
            for pause in (0, 1, 2):
                self.clock.advance(pause)
        self.assertIn("no more processes", formatEvent(events[-1]))
        self.is_exhausted = False
        self.clock.advance(3.9)
        self.assertEqual([0, 1], self.numbers())
        self.clock.advance(0.1)
        self.assertEqual([0, 1, 0], self.numbers())

    def test_no_process_at_first(self) -> None:
        """A fleet whose first workers cannot be started yet starts all the same."""
        self.is_exhausted = True
        fleet = Fleet(2, self.start, self.bury, self.clock)
        fleet.startService()
        self.is_exhausted = False
        self.clock.advance(0)
        self.assertEqual([0, 1, 0, 1], self.numbers())

    def test_not_buried(self) -> None:
        """One that cannot be buried is in the log, and is started again."""
        for worker in (1, 2):
            self.started[worker][1].ended.callback("signal 9")
            self.clock.advance(1)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual([0, 1, 1, 1], self.numbers())

    def test_stop(self) -> None:
        """Stopping asks all of them, and is done when the last one has ended."""
        done = self.fleet.stopService()
        for _, worker in self.started:
            self.assertEqual(["stop"], worker.asked)
            self.assertNoResult(done)
            worker.ended.callback("it stopped by itself")
        self.successResultOf(done)
        self.assertEqual([0, 1], self.buried)
        self.clock.advance(LONGEST_PAUSE)
        self.assertEqual([0, 1], self.numbers())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_during_a_pause(self) -> None:
        """One that was about to be started again is not."""
        for _, worker in list(self.started):
            worker.ended.callback("signal 9")
        self.successResultOf(self.fleet.stopService())
        self.clock.advance(LONGEST_PAUSE)
        self.assertEqual([0, 1], self.numbers())

    def test_too_slow(self) -> None:
        """Those that take too long to stop are killed, and waited for."""
        done = self.fleet.stopService()
        self.started[0][1].ended.callback("it stopped by itself")
        self.clock.advance(STOP_SECONDS)
        self.assertEqual(["stop"], self.started[0][1].asked)
        self.assertEqual(["stop", "kill"], self.started[1][1].asked)
        self.assertNoResult(done)
        self.started[1][1].ended.callback("signal 9")
        self.successResultOf(done)

    def test_kill(self) -> None:
        """All that run can be ended at once."""
        self.fleet.kill()
        self.assertEqual([["kill"]] * 2, [worker.asked for _, worker in self.started])
