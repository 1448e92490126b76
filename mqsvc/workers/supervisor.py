"""The supervisor: binds the sockets, and keeps the workers running that serve there.

It checks the configuration in a process that ends again, so that it need not load all
that a worker needs. Its services start in this order and stop in the reverse one::

    DataDirectory   one server works in it at a time
    BoundSocket     one for each endpoint
    Fleet           the workers
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqsvc import __version__
from mqsvc.bus.board import Board, Place
from mqsvc.config import ConfigError, Settings
from mqsvc.service import DataDirectory, Ordered, raise_file_limit, served_by
from mqsvc.workers.assignment import CHECK, Assignment
from mqsvc.workers.fleet import Fleet
from mqsvc.workers.means import counts_path
from mqsvc.workers.process import WorkerProcess, command, environment, spawn
from mqsvc.workers.signals import at_next_signal
from mqsvc.workers.sockets import BoundSocket
from mqsvc.workers.spread import Counts

FIRST_DESCRIPTOR = 3
"""Below are the pipes."""

log = Logger()


AtNextSignal = Callable[[Callable[[], None]], None]
"""Has a function called when this process gets a further signal to end."""


def make_supervisor(
    settings: Settings, reactor: Any, at_next_signal: AtNextSignal = at_next_signal
) -> Supervisor:
    """Check everything that a worker will need; nothing runs yet.

    :param at_next_signal: for the workers that do not stop in time.
    :raise ConfigError: an option or a store cannot be used.
    """
    sockets = _sockets(settings, reactor)
    # twistd may change its directory between here and the start.
    directory = DataDirectory(os.path.abspath(settings.data_dir))
    directory.acquire()
    supervisor = Supervisor(settings, directory, sockets, reactor, at_next_signal)
    try:
        _check(supervisor.assignment(0, directory.lock))
    except BaseException:
        directory.release()
        raise
    return supervisor


def _sockets(settings: Settings, reactor: Any) -> list[BoundSocket]:
    stays_here = not (settings.auth_strategy or settings.allow_anonymous)
    endpoints = {
        "http": (settings.http, True),
        "websocket": (settings.websocket_endpoint, settings.needs_websocket_port),
    }
    return [
        BoundSocket(
            *(option, description, reactor, reactor),
            stays_here=stays_here,
            is_needed=is_needed,
        )
        for option, (description, is_needed) in endpoints.items()
        if description
    ]


def _check(assignment: Assignment) -> None:
    """Let a process open everything, which also brings the stores up to date."""
    done = subprocess.run(  # noqa: S603 - the interpreter, with words of ours
        command(CHECK),
        input=assignment.written(),
        stdout=subprocess.PIPE,
        env=environment(),
        pass_fds=[assignment.lock],
        check=False,
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").splitlines()
        raise ConfigError(lines[-1] if lines else "a worker could not be prepared")


class Supervisor(Ordered):
    """What the process is that twistd runs."""

    def __init__(
        self,
        settings: Settings,
        directory: DataDirectory,
        sockets: Sequence[BoundSocket],
        reactor: Any,
        at_next_signal: AtNextSignal,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._directory = directory
        self._sockets = sockets
        self._reactor = reactor
        self._at_next_signal = at_next_signal
        self._fleet = Fleet(settings.workers, self._start, self._bury, reactor)
        for service in (directory, *sockets, self._fleet):
            service.setServiceParent(self)

    @property
    def _place(self) -> str:
        """Where workers find each other."""
        return os.path.join(self._directory.path, "workers")

    def startService(self) -> None:
        """Start everything, and say in the log what runs where."""
        raise_file_limit()
        size = self._settings.workers
        os.makedirs(self._place, mode=0o700, exist_ok=True)
        place = self._placed(0)
        self._board = Board.create(place.board_path, size)
        self._counts = Counts.create(counts_path(place), size, len(self._sockets))
        super().startService()
        log.info(
            "mqsvc {version}: {workers} workers, {served}, data in {where}",
            version=__version__,
            workers=size,
            served=served_by(self._sockets),
            where=self._directory.path,
        )

    def stopService(self) -> Deferred[None]:
        """Stop everything; a further signal then ends it all at once."""
        self._at_next_signal(self._fleet.kill)
        return super().stopService()

    def assignment(self, number: int, lock: int, first: int = 0) -> Assignment:
        """What the worker of a number is told.

        :param lock: the descriptor of the lock.
        :param first: that of its first socket; without it, it has none.
        """
        options = list(self._bound) if first else []
        settings = self._settings
        if first and "websocket" not in options:
            settings = structs.replace(settings, websocket="")
        return Assignment(
            settings=settings,
            data_dir=self._directory.path,
            lock=lock,
            place=self._placed(number),
            reactor=type(self._reactor).__module__,
            sockets={option: first + index for index, option in enumerate(options)},
        )

    @property
    def _bound(self) -> dict[str, int]:
        """The descriptors of the sockets that workers get, by option."""
        return {each.option: each.descriptor for each in self._sockets if each.is_bound}

    def _placed(self, number: int) -> Place:
        return Place(self._place, number, self._settings.workers)

    def _start(self, number: int) -> WorkerProcess:
        lock, first = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1
        return spawn(
            self.assignment(number, lock, first),
            self._reactor,
            self._bound,
            self._directory.lock,
        )

    def _bury(self, number: int) -> None:
        """Forget what a worker said that has ended."""
        self._board.clear_row(number)
        self._counts.leave(number)
