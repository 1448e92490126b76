"""Signals between the workers of one server."""

from __future__ import annotations

import os
import select
import socket
import stat
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.bus import Bus
from mqsvc.bus.board import Board, Place
from mqsvc.bus.news import News
from mqsvc.links import unix
from mqsvc.links.unix import RETRY_SECONDS, UnixLink
from mqsvc.messaging.model import Destination, Kind

QUEUE = Destination("p", Kind.QUEUE, "q")
OTHER = Destination("p", Kind.QUEUE, "other")


class StillReactor(Clock):
    """A reactor that reads and tells the time when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """Watch it."""
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """Watch it no more."""
        self.readers.remove(reader)

    def turn(self) -> None:
        """Do what is due, and let everybody read."""
        self.advance(0)
        for reader in list(self.readers):
            reader.doRead()

    def turn_until_quiet(self) -> None:
        """Turn until nothing is to be read or to be done."""
        while self.getDelayedCalls() or select.select(self.readers, [], [], 0)[0]:
            self.advance(RETRY_SECONDS)
            self.turn()


class Worker:
    """One worker as far as signals go.

    :ivar heard: the names of the queues of which it heard.
    """

    def __init__(self, place: Place, reactor: Any) -> None:
        board = Board.open(place.board_path, place.number, place.count)
        self.bus = Bus(board, reactor)
        self.link = UnixLink(place, self.bus, reactor)
        self.bus.connect(self.link)
        self.heard: list[str] = []

    def listen(self, destination: Destination = QUEUE) -> Any:
        """Hear of a destination; the result ends it."""
        return self.bus.subscribe(
            destination, lambda _: self.heard.append(destination.name)
        )


class WorkersCase(SynchronousTestCase):
    """Three workers."""

    def setUp(self) -> None:
        """Start them."""
        self.directory = self.make_directory()
        board = Board.create(Place(self.directory, 0, 3).board_path, 3)
        self.addCleanup(board.close)
        self.reactor = StillReactor()
        self.first, self.second, self.third = map(self.start, range(3))

    def make_directory(self) -> str:
        """The directory of a server."""
        directory = self.mktemp()
        os.mkdir(directory)
        return directory

    def start(self, number: int) -> Worker:
        """Start a worker."""
        worker = Worker(Place(self.directory, number, 3), self.reactor)
        worker.link.startService()
        self.addCleanup(worker.link.stopService)
        return worker

    def socket_path(self, number: int) -> str:
        """Where the socket of a worker is."""
        return os.path.join(self.directory, f"bus-{number}.sock")


class WorkersTests(WorkersCase):
    """What one tells the others."""

    def test_heard(self) -> None:
        """All who listen hear a signal, wherever it was given, without what came."""
        for worker in (self.first, self.second, self.third):
            worker.listen()
        for worker in (self.first, self.second, self.third):
            worker.bus.publish(QUEUE)
            self.reactor.turn()
        for worker in (self.first, self.second, self.third):
            self.assertEqual(["q"] * 3, worker.heard)

    def test_together(self) -> None:
        """What is signalled in one turn goes together, each destination once."""
        self.second.listen()
        for _ in range(3):
            self.first.bus.publish(QUEUE)
        self.assertEqual([], self.second.heard)
        self.reactor.turn()
        self.assertEqual(["q"], self.second.heard)

    def test_only_who_listens(self) -> None:
        """Nothing is sent to workers where nobody listens (any more)."""
        end = self.second.listen()
        self.third.listen(OTHER)
        self.assertTrue(self.first.link.wants(QUEUE))
        end()
        self.assertFalse(self.first.link.wants(QUEUE))
        self.first.bus.publish(QUEUE)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_changes(self) -> None:
        """What is changed is seen on the board, before anything is sent."""
        before = self.second.bus.basis(5)
        self.assertTrue(self.second.bus.holds(before))
        self.first.bus.changed(5)
        self.assertFalse(self.second.bus.holds(before))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_many(self) -> None:
        """More destinations than a datagram holds go in several."""
        names = [f"q{number}" for number in range(350)]
        queues = [Destination("p" * 256, Kind.QUEUE, name) for name in names]
        for queue in queues:
            self.second.listen(queue)
        for queue in queues:
            self.first.bus.publish(queue)
        self.reactor.turn()
        self.assertEqual(names, self.second.heard)

    def full(self) -> list[Destination]:
        """Signal to a worker that does not read until its socket is full."""
        queues = []
        while not self.first.link._waiting:
            queue = Destination("p", Kind.QUEUE, f"q{len(queues)}")
            self.second.listen(queue)
            self.first.bus.publish(queue)
            self.reactor.advance(0)
            queues.append(queue)
        return queues

    def test_busy(self) -> None:
        """What a busy worker has no room for is sent when it has."""
        # Fewer than a socket has room for, on any system.
        self.patch(unix, "MOST_AT_A_TIME", 5)
        queues = self.full()
        more = [Destination("p", Kind.QUEUE, f"m{number}") for number in range(150)]
        for queue in more:
            self.second.listen(queue)
            self.first.bus.publish(queue)
        self.reactor.turn_until_quiet()
        names = [queue.name for queue in (*queues, *more)]
        self.assertEqual(names, self.second.heard)

    def test_busy_for_too_long(self) -> None:
        """One for whom too much waits is told to look at everything."""
        self.patch(unix, "MOST_AT_A_TIME", 5)
        self.patch(unix, "MOST_WAITING", 3)
        self.second.listen(OTHER)
        queues = self.full()
        before = self.second.bus.basis(5)
        for number in range(5):
            queue = Destination("p", Kind.QUEUE, f"m{number}")
            self.third.listen(queue)
            self.second.listen(queue)
            self.first.bus.publish(queue)
            queues.append(queue)
        self.reactor.advance(0)
        self.reactor.turn_until_quiet()
        self.assertEqual(1, self.second.heard.count(OTHER.name))
        self.assertLessEqual({queue.name for queue in queues}, {*self.second.heard})
        self.assertFalse(self.second.bus.holds(before))

    def test_dead(self) -> None:
        """Signals for a worker that died are dropped, and the others get theirs."""
        for worker in (self.second, self.third):
            worker.listen()
        self.second.link.stopService()
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual([["q"], []], [self.third.heard, self.second.heard])
        self.assertEqual({}, self.first.link._waiting)

    def test_killed(self) -> None:
        """The socket that a killed worker left behind is nobody's, until the next."""
        path = self.socket_path(1)
        self.second.link.stopService()
        left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.bind(path)
        left.close()
        successor = Worker(Place(self.directory, 1, 3), self.reactor)
        successor.listen()
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual({}, self.first.link._waiting)
        successor.link.startService()
        self.addCleanup(successor.link.stopService)
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual(["q"], successor.heard)

    def test_private(self) -> None:
        """Only the server's user can send to a socket."""
        mode = stat.S_IMODE(os.stat(self.socket_path(0)).st_mode)
        self.assertEqual(0o600, mode)

    def test_nonsense(self) -> None:
        """What is no signal, or one of another server, is passed over."""
        self.second.listen()
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        foreign = News([QUEUE]).encode(self.first.bus.board.identity ^ 1)
        for data in (b"", b"x", News(slots=[4096]).encode(1), foreign):
            sender.sendto(data, self.socket_path(1))
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual(["q"], self.second.heard)

    def test_failing_listener(self) -> None:
        """A listener that fails is logged, and stops no signal that comes later."""
        end = self.second.bus.subscribe(QUEUE, lambda _: 1 // 0)
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        end()
        self.second.listen()
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual(["q"], self.second.heard)

    def test_stopped(self) -> None:
        """A worker that stops takes its socket away and leaves nothing to be done."""
        self.full()
        self.first.link.stopService()
        self.assertFalse(os.path.exists(self.socket_path(0)))
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.first.bus.publish(QUEUE)
        self.reactor.turn()


class LongPathTests(WorkersCase):
    """In a directory whose path is too long for the system."""

    def make_directory(self) -> str:
        """A directory deep down."""
        directory = os.path.join(os.path.abspath(self.mktemp()), "x" * 100)
        os.makedirs(directory)
        return directory

    def test_heard(self) -> None:
        """Signals come all the same, and nothing is left in the end."""
        self.second.listen()
        self.first.bus.publish(QUEUE)
        self.reactor.turn()
        self.assertEqual(["q"], self.second.heard)
        for worker in (self.first, self.second, self.third):
            worker.link.stopService()
        self.assertEqual(["board"], os.listdir(self.directory))


class ReactorTests(TestCase):
    """With the reactor of a process."""

    async def test_heard(self) -> None:
        """A signal is heard without anything else happening."""
        directory = self.mktemp()
        os.mkdir(directory)
        board = Board.create(Place(directory, 0, 2).board_path, 2)
        self.addCleanup(board.close)
        first, second = (Worker(Place(directory, n, 2), reactor) for n in range(2))
        for worker in (first, second):
            worker.link.startService()
            self.addCleanup(worker.link.stopService)
        for _ in range(3):
            heard: Deferred[Any] = Deferred()
            end = second.bus.subscribe(QUEUE, heard.callback)
            first.bus.publish(QUEUE)
            self.assertEqual((), await heard)
            end()
