"""Attempts of one subscription, one after the other."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.notification.lanes import (
    LONGEST_REST,
    MOST_WAITING,
    STUCK_SECONDS,
    Lanes,
)


class LaneTests(SynchronousTestCase):
    """The lane of one subscription."""

    def setUp(self) -> None:
        """Nothing is under way."""
        self.clock = Clock()
        self.lanes = Lanes(self.clock)
        self.begun: list[int] = []

    def attempt(self, number: int) -> tuple[Deferred[None], Deferred[None]]:
        """An attempt that ends when the test lets it; and its whole time."""
        end: Deferred[None] = Deferred()
        self.addCleanup(lambda: end.called or end.callback(None))

        async def run() -> None:
            async with self.lanes.turn("s"):
                self.begun.append(number)
                await end

        return end, Deferred.fromCoroutine(run())

    def rests(self, count: int) -> list[int]:
        """How long so many attempts rest that come now."""
        return [self.lanes.rest("s") for _ in range(count)]

    def test_order(self) -> None:
        """Attempts take turns in the order in which they came."""
        attempts = [self.attempt(number) for number in range(3)]
        for number, (end, _) in enumerate(attempts):
            self.assertEqual(list(range(number + 1)), self.begun)
            end.callback(None)

    def test_failed(self) -> None:
        """An attempt that fails makes room."""
        (first, failing), (second, _) = self.attempt(0), self.attempt(1)
        first.errback(ValueError())
        self.failureResultOf(failing, ValueError)
        self.assertEqual([0, 1], self.begun)
        second.callback(None)

    def test_room(self) -> None:
        """There is room for many while nothing tells that it will take long."""
        attempts = [self.attempt(number) for number in range(MOST_WAITING)]
        self.assertEqual([0], self.rests(1))
        attempts.append(self.attempt(MOST_WAITING))
        self.assertGreater(self.rests(1)[0], 0)

    def test_pace(self) -> None:
        """What has no room comes again at the pace of the subscription."""
        attempts = [self.attempt(number) for number in range(50)]
        for end, _ in attempts[:10]:
            self.clock.advance(1)
            end.callback(None)
        rests = self.rests(100)
        self.assertEqual(sorted(rests), rests)
        # Half of the time that the forty ahead and the hundred need.
        self.assertGreater(rests[0], 10)
        self.assertGreater(rests[-1], 50)
        self.assertLess(rests[-1], 75)
        self.assertEqual(LONGEST_REST, self.rests(10_000)[-1])

    def test_stuck(self) -> None:
        """Nobody waits for an attempt that does not end."""
        end, _ = self.attempt(0)
        others = [self.attempt(number)[1] for number in range(1, 5)]
        self.clock.advance(STUCK_SECONDS)
        for other in others:
            self.failureResultOf(other, CancelledError)
        self.assertEqual([0], self.begun)
        end.callback(None)
        self.attempt(9)
        self.assertEqual([0, 9], self.begun)

    def test_short(self) -> None:
        """Any number of attempts can end at once, one after the other."""
        attempts = [self.attempt(number) for number in range(MOST_WAITING)]
        for end, _ in reversed(attempts):
            end.callback(None)
        self.assertEqual(list(range(MOST_WAITING)), self.begun)
        for _, attempt in attempts:
            self.successResultOf(attempt)

    def test_begun_meanwhile(self) -> None:
        """Who comes when the last one ends is not alone for long: all take turns."""
        (first, _), (second, last) = self.attempt(0), self.attempt(1)
        second.callback(None)
        last.addCallback(lambda _: self.attempt(2) and None)
        first.callback(None)
        self.attempt(3)
        self.assertEqual([0, 1, 2], self.begun)

    def test_idle(self) -> None:
        """A subscription without attempts has no clock running."""
        end, _ = self.attempt(0)
        end.callback(None)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([0], self.rests(1))
