"""Spreads connections over workers.

All workers wait at one socket, and the first to wake could take all that come. So each
tells the others how many connections it has, and one that is ahead of another leaves a
new connection alone for a moment. Nobody has to take it: whoever is left after that
moment does, be he ahead or not.
"""

from __future__ import annotations

import mmap
from socket import AF_UNIX
from socket import socket as Socket
from typing import Any

from attrs import frozen
from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mqsvc.bus.mapped import memory_of, new_memory
from mqsvc.wire.prompt import Prompt

PATIENCE_SECONDS = 0.002
"""How long one that is ahead leaves a new connection to others."""

MOST_AT_ONCE = 100
"""Connections taken in one go by one that is far behind."""

_ABSENT = 2**64 - 1
_WORD_BYTES = 8


class Counts:
    """How many connections each worker has at each socket, seen by all of them.

    :param memory: a word for each worker and socket.
    """

    def __init__(self, memory: mmap.mmap, workers: int) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        self._workers = workers

    @classmethod
    def create(cls, path: str, workers: int, sockets: int) -> Counts:
        """Make the file that workers look at; none of them is there yet.

        :raise OSError: it cannot be made.
        """
        with new_memory(path, workers * sockets * _WORD_BYTES) as memory:
            counts = cls(memory, workers)
            for worker in range(workers):
                counts.leave(worker)
        return counts

    @classmethod
    def open(cls, path: str, workers: int) -> Counts:
        """Look at what a supervisor made.

        :raise OSError: it cannot be opened.
        """
        return cls(memory_of(path), workers)

    def close(self) -> None:
        """Look at it no more."""
        self._words.release()
        self._memory.close()

    def leave(self, worker: int) -> None:
        """A worker takes no connections."""
        for socket in range(len(self._words) // self._workers):
            self.absent(socket, worker)

    def put(self, socket: int, worker: int, connections: int) -> None:
        """How many a worker has at a socket."""
        self._words[socket * self._workers + worker] = connections

    def absent(self, socket: int, worker: int) -> None:
        """A worker takes no more at a socket."""
        self.put(socket, worker, _ABSENT)

    def of(self, socket: int) -> list[int | None]:
        """How many each worker has at a socket; none for one that takes none."""
        begin = socket * self._workers
        words = self._words[begin : begin + self._workers]
        return [None if word == _ABSENT else word for word in words]


@frozen
class Seat:
    """One worker at one socket.

    :ivar socket: the number of the socket.
    :ivar worker: its own number.
    """

    counts: Counts
    socket: int
    worker: int

    def put(self, connections: int) -> None:
        """Tell the others how many it has."""
        self.counts.put(self.socket, self.worker, connections)

    def leave(self) -> None:
        """Tell the others that it takes no more."""
        self.counts.absent(self.socket, self.worker)

    def lead(self, connections: int) -> int:
        """How many more it has than the one that has the fewest; may be below 0."""
        counts = self.counts.of(self.socket)
        others = [
            count
            for worker, count in enumerate(counts)
            if count is not None and worker != self.worker
        ]
        return connections - min(others, default=connections)


class Counted(Prompt, tcp.Server):
    """A connection that its port counts."""

    server: SharedPort

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.count(1)

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""
        self.server.count(-1)
        super().connectionLost(reason)


class CountedUNIX(Counted, unix.Server):
    """The same, from this machine."""


class SharedPort(tcp.Port):
    """A port whose socket other processes have as well."""

    transport: Any = Counted
    reactor: Any
    seat: Seat
    _connections = 0
    _pause: IDelayedCall | None = None
    _was_patient = False

    @classmethod
    def on(cls, socket: Socket, factory: Any, reactor: Any, seat: Seat) -> SharedPort:
        """A port on a socket that was bound before; it gets a descriptor of its own."""
        adopt: Any = cls._fromListeningDescriptor
        family = [] if socket.family == AF_UNIX else [socket.family]
        port: SharedPort = adopt(reactor, socket.fileno(), *family, factory)
        port.seat = seat
        return port

    def startListening(self) -> None:
        """Take connections from now on."""
        # That of UNIX ports would set the mode and the backlog of the socket again.
        tcp.Port.startListening(self)
        self.seat.put(0)

    def doRead(self) -> None:
        """There is a connection to be taken."""
        lead = self.seat.lead(self._connections)
        if not self._was_patient and lead > self._connections // 16:
            self._was_patient = True
            self.stopReading()
            self._pause = self.reactor.callLater(PATIENCE_SECONDS, self._go_on)
            return
        self._was_patient = False
        self.numberAccepts = min(max(1, -lead), MOST_AT_ONCE)
        super().doRead()

    def _go_on(self) -> None:
        self._pause = None
        if not self.disconnecting:
            self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """It was closed."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.seat.leave()
        # That of UNIX ports would delete the file, which is the supervisor's.
        tcp.Port.connectionLost(self, reason)

    def count(self, change: int) -> None:
        """One connection more or less."""
        self._connections += change
        if self.connected:
            self.seat.put(self._connections)


class SharedUNIXPort(SharedPort, unix.Port):
    """The same, for this machine."""

    transport = CountedUNIX
