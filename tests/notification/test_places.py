"""A bound for the attempts under way."""

from __future__ import annotations

import resource

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.model import Destination, Kind
from mqsvc.notification.places import MOST, MOST_OF_ONE, Places, most_places

ONE = Destination("p", Kind.TOPIC, "one")
OTHER = Destination("p", Kind.TOPIC, "other")


class PlacesTests(SynchronousTestCase):
    """Attempts of several destinations."""

    def setUp(self) -> None:
        """Have a place more than one destination can take."""
        self.places = Places(MOST_OF_ONE + 1)
        self.begun: list[Destination] = []

    def attempt(self, destination: Destination, end: Deferred[None]) -> Deferred[None]:
        """An attempt that is over when the test says so."""

        async def run() -> None:
            async with self.places.place(destination):
                self.begun.append(destination)
                await end

        return Deferred.fromCoroutine(run())

    def attempts(
        self, destination: Destination, count: int
    ) -> list[tuple[Deferred[None], Deferred[None]]]:
        """Several; the end of each, and its whole time."""
        ends = [Deferred[None]() for _ in range(count)]
        return [(end, self.attempt(destination, end)) for end in ends]

    def test_one_destination(self) -> None:
        """One with thousands of attempts leaves places to others."""
        many = self.attempts(ONE, 5000)
        self.assertEqual(MOST_OF_ONE, len(self.begun))
        self.attempts(OTHER, 1)
        self.assertEqual(OTHER, self.begun[-1])
        for end, _ in many:
            end.callback(None)
        self.assertEqual(5000, self.begun.count(ONE))
        for _, attempt in many:
            self.successResultOf(attempt)

    def test_all(self) -> None:
        """There are so many places and no more."""
        one, _ = self.attempts(ONE, MOST_OF_ONE), self.attempts(OTHER, 5)
        self.assertEqual(MOST_OF_ONE + 1, len(self.begun))
        one[0][0].callback(None)
        self.assertEqual(2, self.begun.count(OTHER))

    def test_over_at_once(self) -> None:
        """Any number of attempts can end as soon as they begin."""
        many = self.attempts(ONE, 20_000)
        for end, _ in reversed(many):
            end.callback(None)
        self.assertEqual(20_000, len(self.begun))
        self.successResultOf(many[-1][1])

    def test_cancelled(self) -> None:
        """Who leaves while it waits, or fails, takes no place from others."""
        (end, failing), *_, (_, waiting) = self.attempts(ONE, MOST_OF_ONE + 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        end.errback(ValueError())
        self.failureResultOf(failing, ValueError)
        self.attempts(ONE, 2)
        self.assertEqual(MOST_OF_ONE + 1, len(self.begun))

    def test_nothing_left(self) -> None:
        """A destination without attempts takes no memory."""
        for end, _ in self.attempts(ONE, MOST_OF_ONE + 5):
            end.callback(None)
        self.assertEqual({}, self.places._rooms)


class FilesTests(SynchronousTestCase):
    """The bound of the system."""

    def test_files(self) -> None:
        """Half of the files that a process may open are left to others."""
        for limit, most in ((64, 32), (10**6, MOST), (resource.RLIM_INFINITY, MOST)):
            self.patch(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
            self.assertEqual(most, most_places())
