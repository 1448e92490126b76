"""A worker as its supervisor sees it: a child process, and the pipes to it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mqsvc.workers.assignment import Assignment
from mqsvc.workers.lines import Lines

MODULE = "mqsvc.workers"
"""What a worker runs."""


class WorkerProcess(ProcessProtocol):
    """Sends a worker its assignment, and takes down what it says.

    The pipe that brought the assignment stays open as long as the supervisor wants the
    worker to go on. So the worker learns of its supervisor's end, whatever kind it was.

    :ivar ended: fires with how it ended, in words, when it has.
    """

    transport: IProcessTransport

    def __init__(self, assignment: Assignment) -> None:
        self.ended: Deferred[str] = Deferred()
        self._assignment = assignment
        self._log = Lines(assignment.place.number)
        self._errors = Lines(assignment.place.number)

    def connectionMade(self) -> None:
        """It runs."""
        self.transport.writeToChild(0, self._assignment.written())

    def outReceived(self, data: bytes) -> None:
        """It says something."""
        self._log.received(data)

    def errReceived(self, data: bytes) -> None:
        """It says something in another way."""
        self._errors.received(data)

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        self.ended.callback(_in_words(reason.value))

    def stop(self) -> None:
        """Ask it to finish what it does, and to end."""
        self.transport.closeChildFD(0)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")


def spawn(
    assignment: Assignment, reactor: Any, descriptors: Mapping[str, int], lock: int
) -> WorkerProcess:
    """Start a worker.

    :param assignment: says with which descriptors it will have its sockets and lock.
    :param descriptors: those that this process has the sockets with.
    :param lock: the one that this process has the lock with.
    """
    worker = WorkerProcess(assignment)
    sockets = {
        there: descriptors[option] for option, there in assignment.sockets.items()
    }
    reactor.spawnProcess(
        worker,
        sys.executable,
        command(str(assignment.place.number)),
        env=environment(),
        childFDs={0: "w", 1: "r", 2: "r", assignment.lock: lock, **sockets},
    )
    return worker


def command(*words: str) -> list[str]:
    """The program that workers run."""
    return [sys.executable, "-m", MODULE, *words]


def environment() -> dict[str, str]:
    """That of this process, in which a worker finds the same program."""
    here = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, path]))}


def _in_words(reason: BaseException | None) -> str:
    if isinstance(reason, ProcessTerminated):
        if reason.signal is not None:
            return f"signal {reason.signal}"
        return f"exit status {reason.exitCode}"
    return "it stopped by itself"
