"""Connections are spread over workers."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.spread import (
    MOST_AT_ONCE,
    PATIENCE_SECONDS,
    Counts,
    Seat,
    SharedPort,
    SharedUNIXPort,
)


class HandReactor(Clock):
    """Watches sockets, and leaves it to the test to say what can be read.

    :ivar readers: who wants to read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        """Somebody wants to read."""
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        """Somebody wants to read no more."""
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        """Nobody ever wanted to write."""


class CountsTests(SynchronousTestCase):
    """What workers tell each other."""

    def setUp(self) -> None:
        """A file for three workers and two sockets."""
        self.path = self.mktemp()
        self.counts = Counts.create(self.path, 3, 2)
        self.addCleanup(self.counts.close)

    def test_nobody_at_first(self) -> None:
        """At first no worker takes connections."""
        self.assertEqual([None] * 3, self.counts.of(0))
        self.assertEqual([None] * 3, self.counts.of(1))

    def test_shared(self) -> None:
        """What one writes another reads, for each socket apart."""
        other = Counts.open(self.path, 3)
        self.addCleanup(other.close)
        other.put(0, 1, 7)
        other.put(1, 2, 9)
        self.assertEqual([None, 7, None], self.counts.of(0))
        self.assertEqual([None, None, 9], self.counts.of(1))

    def test_leave(self) -> None:
        """Who died takes no connections anywhere."""
        for socket_number in range(2):
            for worker in range(3):
                self.counts.put(socket_number, worker, 5)
        self.counts.leave(1)
        self.assertEqual([5, None, 5], self.counts.of(0))
        self.assertEqual([5, None, 5], self.counts.of(1))

    def test_private(self) -> None:
        """The file is for its owner only."""
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))

    def test_lead(self) -> None:
        """A lead is over the one with the fewest; alone nobody is ahead."""
        seat = Seat(self.counts, 0, 1)
        self.assertEqual(0, seat.lead(4))
        self.counts.put(0, 0, 9)
        self.assertEqual(-5, seat.lead(4))
        self.counts.put(0, 2, 1)
        self.assertEqual(3, seat.lead(4))


class SharedPortTests(SynchronousTestCase):
    """The port of the first of two workers, on a real socket."""

    family, kind = socket.AF_INET, SharedPort

    def setUp(self) -> None:
        """A bound socket, and what listens on it."""
        self.counts = Counts.create(self.mktemp(), 2, 1)
        self.addCleanup(self.counts.close)
        self.reactor = HandReactor()
        self.bound = self.keep(socket.socket(self.family))
        self.bound.bind(self.address())
        self.bound.listen(200)
        self.bound.setblocking(False)
        factory = Factory.forProtocol(Protocol)
        seat = Seat(self.counts, 0, 0)
        self.port = self.kind.on(self.bound, factory, self.reactor, seat)
        self.port.startListening()
        self.addCleanup(self.stop)

    def address(self) -> Any:
        """Where to listen."""
        return ("127.0.0.1", 0)

    def keep(self, opened: socket.socket) -> socket.socket:
        """Close a socket in the end."""
        self.addCleanup(opened.close)
        return opened

    def stop(self) -> None:
        """Close the port and its connections."""
        for reader in list(self.reactor.readers - {self.port}):
            reader.connectionLost(Failure(ConnectionDone()))
        if self.port.connected:
            self.port.stopListening()
            self.reactor.advance(0)

    def connect(self, count: int) -> None:
        """Let clients connect; nobody has taken them yet."""
        for _ in range(count):
            client = self.keep(socket.socket(self.family))
            client.connect(self.bound.getsockname())

    def taken(self) -> int:
        """How many connections it says that it has."""
        count = self.counts.of(0)[0]
        assert count is not None
        return count

    def look(self) -> None:
        """As the reactor does when somebody has connected."""
        if self.port in self.reactor.readers:
            self.port.doRead()

    def test_alone(self) -> None:
        """Without others it takes what comes, one at a time."""
        self.connect(3)
        seen = []
        for _ in range(4):
            self.look()
            seen.append(self.taken())
        self.assertEqual([1, 2, 3, 3], seen)

    def test_even(self) -> None:
        """At a tie it takes one."""
        self.counts.put(0, 1, 0)
        self.connect(2)
        self.look()
        self.assertEqual(1, self.taken())

    def test_ahead(self) -> None:
        """Ahead of another it leaves a connection alone, but not for long."""
        self.counts.put(0, 1, 0)
        self.connect(2)
        self.look()
        self.look()
        self.look()
        self.assertEqual(1, self.taken())
        self.reactor.advance(PATIENCE_SECONDS)
        self.look()
        self.assertEqual(2, self.taken())

    def test_left_to_others(self) -> None:
        """What another took while it waited is not missed."""
        self.counts.put(0, 1, 0)
        self.connect(2)
        self.look()
        self.look()
        self.keep(self.bound.accept()[0])
        self.reactor.advance(PATIENCE_SECONDS)
        self.look()
        self.assertEqual(1, self.taken())

    def test_far_behind(self) -> None:
        """Far behind it takes many at once, up to a bound."""
        self.counts.put(0, 1, 3 * MOST_AT_ONCE)
        self.connect(MOST_AT_ONCE + 1)
        self.look()
        self.assertEqual(MOST_AT_ONCE, self.taken())

    def test_closed_connections(self) -> None:
        """A connection that is over is counted no more."""
        self.connect(2)
        self.look()
        self.look()
        [one, _] = self.reactor.readers - {self.port}
        one.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(1, self.taken())

    def test_stopped(self) -> None:
        """Stopped it takes none, and says so, also while connections go on."""
        self.connect(1)
        self.look()
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertEqual([None, None], self.counts.of(0))
        [connection] = self.reactor.readers
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([None, None], self.counts.of(0))

    def test_stopped_in_a_pause(self) -> None:
        """Stopped while it leaves a connection to others, it does not come back."""
        self.counts.put(0, 1, 0)
        self.connect(2)
        self.look()
        self.look()
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertNotIn(self.port, self.reactor.readers)

    def test_socket_goes_on(self) -> None:
        """The socket still listens when one of those who share it has stopped."""
        self.port.stopListening()
        self.reactor.advance(0)
        self.connect(1)
        self.keep(self.bound.accept()[0])


class SharedUNIXPortTests(SharedPortTests):
    """The same on a UNIX socket."""

    family, kind = socket.AF_UNIX, SharedUNIXPort

    def address(self) -> Any:
        """Where to listen."""
        self.path = os.path.relpath(self.mktemp())
        return self.path

    def test_file(self) -> None:
        """The file of the socket stays, with its mode: it is not the worker's."""
        os.chmod(self.path, 0o600)
        self.assertEqual(UNIXAddress(self.path), self.port.getHost())
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertEqual(0o600, stat.S_IMODE(Path(self.path).stat().st_mode))
