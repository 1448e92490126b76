"""Signals among the workers of one server: datagrams through sockets in a directory.

Each worker has a socket, and sends to the sockets of those who, by the board, want to
hear. A socket that is full has its news wait here; one that is not there belongs to a
worker that died, and whose successor will look for itself.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.bus import Bus
from mqsvc.bus.board import Place
from mqsvc.bus.news import MOST_AT_ONCE, News, Unreadable, decode
from mqsvc.bus.signals import interest_slot
from mqsvc.messaging.model import Destination

LARGEST = 262_144
"""Bytes of a datagram; a hundred long names in any script are less."""

MOST_AT_A_TIME = 50
"""Datagrams that are read before others have their turn."""

MOST_WAITING = 10_000
"""Destinations that wait for one worker; then it is told to look at all of them."""

RETRY_SECONDS = 0.01
"""After which a socket that was full is tried again."""

_LONGEST_PATH = 100
"""Bytes of the path of a socket: the system has room for 104 to 108."""


class UnixLink(Service):
    """See :class:`~mqsvc.bus.news.Link`.

    :param place: of this worker.
    """

    name = "link of workers"
    log = Logger()
    shares_board = True

    def __init__(self, place: Place, bus: Bus, reactor: Any) -> None:
        self._place = place
        self._bus = bus
        self._reactor = reactor
        self._waiting: dict[int, dict[Destination, None] | None] = {}
        self._retry: Any = None
        self._directory: int | None = None
        self._socket: socket.socket | None = None

    @property
    def is_up(self) -> bool:
        """Sockets of one machine do not go away."""
        return True

    def startService(self) -> None:
        """Begin to hear and to send."""
        super().startService()
        self._directory = os.open(self._place.directory, os.O_RDONLY)
        path = self._path(self._place.number)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._reactor.addReader(self)

    def stopService(self) -> None:
        """Hear and send no more."""
        super().stopService()
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._waiting.clear()
        if self._socket is not None:
            self._reactor.removeReader(self)
            with suppress(FileNotFoundError):
                os.unlink(self._path(self._place.number))
            self._socket.close()
            self._socket = None
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def _path(self, number: int) -> str:
        name = f"bus-{number}.sock"
        path = os.path.join(self._place.directory, name)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            # The same place by a shorter name, where the system has one.
            return f"/proc/self/fd/{self._directory}/{name}"
        return path

    # What others send; the reactor calls these.

    def fileno(self) -> int:
        """The socket, for the reactor."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """For the log."""
        return "bus"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or the socket is broken."""

    def doRead(self) -> None:
        """Hear what has come."""
        for _ in range(MOST_AT_A_TIME):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(LARGEST)
            except BlockingIOError:
                return
            self._hear(data)

    def _hear(self, data: bytes) -> None:
        try:
            sender, news = decode(data)
        except Unreadable:
            self.log.warn("A signal of another worker cannot be read")
            return
        if sender == self._bus.board.identity:
            with self.log.failuresHandled("A signal of another worker failed"):
                self._bus.hear(news)

    # What is sent.

    def wants(self, destination: Destination) -> bool:
        """See :class:`~mqsvc.bus.news.Link`, as for what follows."""
        return bool(self._bus.board.interested(interest_slot(destination)))

    def send(self, news: News) -> None:
        """To those who want to hear; what was changed they see on the board."""
        for destination in news.destinations:
            for number in self._bus.board.interested(interest_slot(destination)):
                self._add(number, destination)
        self._send_waiting()

    def _add(self, number: int, destination: Destination) -> None:
        waiting = self._waiting.setdefault(number, {})
        if waiting is not None:
            waiting[destination] = None
            if len(waiting) > MOST_WAITING:
                self._waiting[number] = None

    def _send_waiting(self) -> None:
        for number in list(self._waiting):
            while number in self._waiting and self._send_to(number):
                pass
        if self._waiting and (self._retry is None or not self._retry.active()):
            self._retry = self._reactor.callLater(RETRY_SECONDS, self._send_waiting)

    def _send_to(self, number: int) -> bool:
        """Send a piece of what waits for a worker, unless its socket is full."""
        waiting = self._waiting[number]
        piece = list(waiting or ())[:MOST_AT_ONCE]
        if not self._sent(number, News(piece, is_all=waiting is None)):
            return False
        rest = list(waiting or ())[MOST_AT_ONCE:]
        if rest:
            self._waiting[number] = dict.fromkeys(rest)
        else:
            del self._waiting[number]
        return True

    def _sent(self, number: int, news: News) -> bool:
        if self._socket is None:
            return True
        try:
            data = news.encode(self._bus.board.identity)
            self._socket.sendto(data, self._path(number))
        except BlockingIOError:
            return False
        except (FileNotFoundError, ConnectionRefusedError):
            return True
        except OSError as error:
            self.log.error(
                "Worker {number} gets no signals: {error}", number=number, error=error
            )
        return True
