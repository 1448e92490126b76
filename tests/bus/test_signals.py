"""What all parts share: signals, and the time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.bus.news import News, Unreadable, decode
from mqsvc.clock import milliseconds
from mqsvc.messaging.model import Destination, Kind, Message
from tests.bus.recorder import Recorder

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

    def test_failing(self) -> None:
        """One that fails is logged, and keeps neither others nor posters from it."""
        self.bus.subscribe(QUEUE, lambda _: 1 // 0)
        self.listen("other")
        self.bus.publish(QUEUE)
        self.assertEqual(["other"], self.heard)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_failing_at_news(self) -> None:
        """One that fails does not keep the rest of the news from being heard."""
        self.bus.subscribe(QUEUE, lambda _: 1 // 0)
        self.listen("other", OTHERS[0])
        self.bus.hear(News([QUEUE, OTHERS[0]]))
        self.bus.hear(News(is_all=True))
        self.assertEqual(["other"] * 2, self.heard)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

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


class LinkTests(SynchronousTestCase):
    """With links, other processes hear, too."""

    def setUp(self) -> None:
        """A bus with two links."""
        self.clock = Clock()
        self.bus = Bus(clock=self.clock)
        self.links = [Recorder(), Recorder()]
        for link in self.links:
            self.bus.connect(link)
        self.heard: list[object] = []

    def test_together(self) -> None:
        """What is told in one turn goes together, each thing once."""
        for destination in (QUEUE, OTHERS[0], QUEUE):
            self.bus.publish(destination)
        for slot in (5, 6, 5):
            self.bus.changed(slot)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.clock.advance(0)
        for link in self.links:
            self.assertEqual([News([QUEUE, OTHERS[0]], [5, 6])], link.sent)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.bus.publish(QUEUE)
        self.clock.advance(0)
        self.assertEqual(News([QUEUE], []), self.links[0].sent[-1])

    def test_posted(self) -> None:
        """Nobody is told what was posted: something else may come before it."""
        self.bus.subscribe(QUEUE, self.heard.append)
        self.assertFalse(self.bus.takes_posted(QUEUE))
        self.bus.publish(QUEUE, [Message("1", b"{}", 60, 0)])
        self.assertEqual([()], self.heard)

    def test_unwanted(self) -> None:
        """What no link wants is not sent, nor what is on a board that it shares."""
        bus, link = Bus(clock=self.clock), Recorder(shares_board=True, wants=False)
        bus.connect(link)
        bus.publish(QUEUE)
        bus.changed(5)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_pieces(self) -> None:
        """Much of it goes in pieces, whole and in order."""
        queues = [Destination("p", Kind.QUEUE, f"q{i}") for i in range(250)]
        for queue in queues:
            self.bus.publish(queue)
        for slot in range(350):
            self.bus.changed(slot)
        self.clock.advance(0)
        sent = self.links[0].sent
        self.assertEqual(4, len(sent))
        self.assertEqual(queues, [each for news in sent for each in news.destinations])
        self.assertEqual([*range(350)], [slot for news in sent for slot in news.slots])

    def test_heard(self) -> None:
        """What others tell is told here, and not sent back."""
        self.bus.subscribe(QUEUE, self.heard.append)
        self.bus.subscribe(OTHERS[0], self.heard.append)
        basis = self.bus.basis(5)
        self.bus.hear(News([QUEUE], [6]))
        self.assertEqual([()], self.heard)
        self.assertTrue(self.bus.holds(basis))
        self.bus.hear(News(slots=[5]))
        self.assertFalse(self.bus.holds(basis))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_everything(self) -> None:
        """Who is told that anything may be new looks at all, and asks for all."""
        self.bus.subscribe(QUEUE, self.heard.append)
        self.bus.subscribe(OTHERS[0], self.heard.append)
        bases = [self.bus.basis(slot) for slot in range(10)]
        self.bus.hear(News(is_all=True))
        self.assertEqual([(), ()], self.heard)
        self.assertFalse(any(map(self.bus.holds, bases)))

    def test_whole(self) -> None:
        """Signals may be lost as soon as one of the links is down."""
        self.assertTrue(self.bus.is_whole)
        self.links[1].is_up = False
        self.assertFalse(self.bus.is_whole)

    def test_unlinked_servers(self) -> None:
        """Without a link to servers that may be there signals are not all."""
        bus = Bus(clock=self.clock, remembered=5)
        self.assertFalse(bus.is_whole)
        bus.connect(Recorder(shares_board=True))
        self.assertFalse(bus.is_whole)
        bus.connect(Recorder())
        self.assertTrue(bus.is_whole)

    def test_posted_beside_unlinked_servers(self) -> None:
        """What others may have posted unheard comes first."""
        bus = Bus(clock=self.clock, remembered=5)
        bus.subscribe(QUEUE, self.heard.append)
        self.assertFalse(bus.takes_posted(QUEUE))
        bus.publish(QUEUE, [Message("1", b"{}", 60, 0)])
        self.assertEqual([()], self.heard)


class NewsTests(SynchronousTestCase):
    """What goes from process to process."""

    def test_round_trip(self) -> None:
        """It arrives as it was sent, with who sent it."""
        for news in (News([QUEUE, *OTHERS], [0, 4095]), News(is_all=True), News()):
            sender, arrived = decode(news.encode(2**64 - 1))
            self.assertEqual(2**64 - 1, sender)
            self.assertEqual(news.encode(1), arrived.encode(1))

    def test_unreadable(self) -> None:
        """What is no news is refused, and so is a slot that is none."""
        whole = News([QUEUE], [1]).encode(1)
        for data in (b"", whole[:-1], whole + b"x", News(slots=[4096]).encode(1)):
            self.assertRaises(Unreadable, decode, data)


class MemoryTests(SynchronousTestCase):
    """How long answers count."""

    def test_alone(self) -> None:
        """In one process an answer counts until it is changed."""
        bus = Bus()
        basis = bus.basis(5)
        self.assertTrue(bus.is_alone)
        self.assertFalse(bus.is_late)
        bus.changed(6)
        self.assertTrue(bus.holds(basis))
        bus.changed(5)
        self.assertFalse(bus.holds(basis))

    def test_time(self) -> None:
        """Where others may change it without being heard it counts for a time."""
        clock = Clock()
        bus = Bus(clock=clock, remembered=5)
        self.assertTrue(bus.is_late)
        self.assertFalse(bus.is_alone)
        basis = bus.basis(5)
        clock.advance(4.9)
        self.assertTrue(bus.holds(basis))
        clock.advance(0.1)
        self.assertFalse(bus.holds(basis))

    def test_no_time(self) -> None:
        """With a time of 0 nothing is remembered."""
        bus = Bus(clock=Clock(), remembered=0)
        self.assertFalse(bus.holds(bus.basis(5)))
        self.assertFalse(bus.is_late)


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
