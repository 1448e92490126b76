"""What all parts share: signals, and the time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.model import Destination, Kind, Message

QUEUE = Destination("p", Kind.QUEUE, "x")
OTHERS = (
    Destination("p", Kind.TOPIC, "x"),
    Destination("p", Kind.QUEUE, "y"),
    Destination("o", Kind.QUEUE, "x"),
)


class BusTests(SynchronousTestCase):
    """Signals reach those who asked for them."""

    def setUp(self) -> None:
        """Nobody listens."""
        self.bus = Bus()
        self.heard: list[str] = []

    def listen(self, name: str, destination: Destination = QUEUE) -> Callable[[], None]:
        """Note each signal; the result ends it."""
        return self.bus.subscribe(destination, lambda _: self.heard.append(name))

    def test_everybody(self) -> None:
        """All who listen hear each signal, in the order in which they came."""
        for name in "abc":
            self.listen(name)
        self.bus.publish(QUEUE)
        self.bus.publish(QUEUE)
        self.assertEqual([*"abcabc"], self.heard)

    def test_posted(self) -> None:
        """Who listens is told what was posted, where that is known."""
        heard: list[object] = []
        self.assertFalse(self.bus.takes_posted(QUEUE))
        self.bus.subscribe(QUEUE, heard.append)
        self.assertTrue(self.bus.takes_posted(QUEUE))
        message = Message("1", b"{}", 60, 0)
        self.bus.publish(QUEUE, [message])
        self.bus.publish(QUEUE)
        self.assertEqual([[message], ()], heard)

    def test_nobody(self) -> None:
        """A signal that nobody listens to is lost."""
        self.bus.publish(QUEUE)
        self.listen("late")
        self.assertEqual([], self.heard)

    def test_destinations(self) -> None:
        """Project, kind and name all have to be the same."""
        self.listen("here")
        for destination in OTHERS:
            self.listen("elsewhere", destination)
            self.bus.publish(destination)
        self.assertEqual(["elsewhere"] * 3, self.heard)

    def test_end(self) -> None:
        """Who has ended it hears nothing more, the others go on."""
        self.listen("stays")
        self.listen("goes")()
        self.bus.publish(QUEUE)
        self.assertEqual(["stays"], self.heard)

    def test_same_function_twice(self) -> None:
        """Subscriptions are told apart, also those of one function."""

        def hear(_: object) -> None:
            self.heard.append("x")

        end = self.bus.subscribe(QUEUE, hear)
        self.bus.subscribe(QUEUE, hear)
        self.bus.publish(QUEUE)
        self.assertEqual(["x"] * 2, self.heard)
        end()
        self.bus.publish(QUEUE)
        self.assertEqual(["x"] * 3, self.heard)

    def test_again(self) -> None:
        """After the last one has left others can come."""
        self.listen("first")()
        self.listen("second")
        self.bus.publish(QUEUE)
        self.assertEqual(["second"], self.heard)

    def test_nothing_is_kept(self) -> None:
        """Destinations that nobody listens to take no memory."""
        ends = [self.listen("x", each) for each in (QUEUE, *OTHERS, QUEUE)]
        for end in ends:
            end()
        self.assertEqual({}, self.bus._callbacks)

    def test_changes_during_a_signal(self) -> None:
        """Who hears a signal may end its subscription, make others and signal."""

        def react(_: object) -> None:
            end()
            self.heard.append("react")
            self.listen("new")
            self.bus.publish(QUEUE)

        end = self.bus.subscribe(QUEUE, react)
        self.listen("old")
        self.bus.publish(QUEUE)
        self.assertEqual(["react", "old", "new", "old"], self.heard)


class ClockTests(SynchronousTestCase):
    """Moments are whole milliseconds of the clock that was given."""

    def test_milliseconds(self) -> None:
        """Seconds become milliseconds, to the nearest one."""
        clock = Clock()
        now = milliseconds(clock)
        for seconds, expected in (
            (0, 0),
            (0.0004, 0),
            (0.0006, 1),
            (1.0005, 1000),
            (1_800_000_000.123, 1_800_000_000_123),
        ):
            clock.rightNow = seconds
            self.assertEqual(expected, now(), seconds)
            self.assertIsInstance(now(), int)
