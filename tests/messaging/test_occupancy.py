"""Occupancy: many share a destination, or one has it alone, in turn."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.occupancy import Occupancy
from tests.messaging.case import OTHER, QUEUE


class Visit:
    """A stay under way.

    :ivar end: fired to end it.
    """

    def __init__(self, occupancy: Occupancy, is_alone: bool, queue: object) -> None:
        self._entrance = occupancy.alone if is_alone else occupancy.shared
        self._queue = queue
        self.is_in = False
        self.end: Deferred[None] = Deferred()
        self.over = Deferred.fromCoroutine(self._stay())

    async def _stay(self) -> None:
        async with self._entrance(self._queue):
            self.is_in = True
            try:
                await self.end
            finally:
                self.is_in = False


class OccupancyTests(SynchronousTestCase):
    """Who is in, and who waits."""

    def setUp(self) -> None:
        """Begin with nobody."""
        self.occupancy = Occupancy()

    def shared(self, queue: object = QUEUE) -> Visit:
        """One of many."""
        return Visit(self.occupancy, False, queue)

    def alone(self, queue: object = QUEUE) -> Visit:
        """One who has it alone."""
        return Visit(self.occupancy, True, queue)

    def is_in(self, *visits: Visit) -> list[bool]:
        """Which of them are in."""
        return [visit.is_in for visit in visits]

    def test_shared(self) -> None:
        """Many are in at the same time."""
        self.assertEqual([True] * 3, self.is_in(*[self.shared() for _ in range(3)]))

    def test_alone(self) -> None:
        """Who is alone waits for everybody, and nobody comes in before the end."""
        first, second = self.shared(), self.shared()
        alone, another, later = self.alone(), self.alone(), self.shared()
        waiting = (alone, another, later)
        first.end.callback(None)
        self.assertEqual([False] * 3, self.is_in(*waiting))
        second.end.callback(None)
        self.assertEqual([True, False, False], self.is_in(*waiting))
        alone.end.callback(None)
        self.assertEqual([False, True, False], self.is_in(*waiting))
        another.end.callback(None)
        self.assertEqual([False, False, True], self.is_in(*waiting))

    def test_failure(self) -> None:
        """Who leaves with an error leaves."""
        first, second = self.alone(), self.alone()
        first.end.errback(ValueError())
        self.failureResultOf(first.over, ValueError)
        self.assertIs(True, second.is_in)

    def test_apart(self) -> None:
        """Nobody waits for those in other destinations."""
        self.alone(OTHER)
        self.assertIs(True, self.alone().is_in)

    def test_giving_up(self) -> None:
        """Who leaves the line lets those behind pass."""
        first, alone, later = self.shared(), self.alone(), self.shared()
        alone.over.cancel()
        self.failureResultOf(alone.over, CancelledError)
        self.assertEqual([True, True], self.is_in(first, later))

    def test_many_at_once(self) -> None:
        """A thousand who leave as soon as they are in are no trouble."""
        alone = self.alone()
        visits = [self.alone() for _ in range(2000)]
        for visit in visits:
            visit.end.callback(None)
        alone.end.callback(None)
        for visit in visits:
            self.successResultOf(visit.over)

    def test_forgotten(self) -> None:
        """Nothing is remembered of what is over."""
        first, alone, second = self.shared(), self.alone(), self.shared()
        second.over.cancel()
        self.failureResultOf(second.over, CancelledError)
        for visit in (first, alone):
            self.assertNotEqual({}, self.occupancy._turns)
            visit.end.callback(None)
        self.assertEqual({}, self.occupancy._turns)

    def test_leaving_at_once(self) -> None:
        """Who is let in and leaves at once takes nothing from those that come then."""
        first, second = self.alone(), self.shared()
        # It leaves while it is let in, and somebody comes before the first one is gone.
        second.end.callback(None)
        third: list[Visit] = []
        second.over.addCallback(lambda _: third.append(self.shared()))
        first.end.callback(None)
        last = self.alone()
        self.assertEqual([True, False], self.is_in(third[0], last))
        third[0].end.callback(None)
        self.assertTrue(last.is_in)
        last.end.callback(None)
