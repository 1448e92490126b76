"""One server process of a test run: started, killed, restarted, removed.

Everything here blocks, as in :mod:`tests.live`.
"""

from __future__ import annotations

import functools
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet import reactor

from tests.live import free_port

START_SECONDS = 60
STOP_SECONDS = 30


class ServerProcess:
    """A server program with a port and a directory that outlive its process.

    :param name: for messages, and the name of the directory.
    :param place: where the directory is made; none is where temporary files are.
    """

    def __init__(self, name: str, place: str | None = None) -> None:
        self.name = name
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"mqsvc-{name}-", dir=place))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """The program and its arguments, for the port and the directory."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether a client would be served."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the process and return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        pause = threading.Event()
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{self.log_end()}")
            pause.wait(0.05)

    def stop(self) -> None:
        """Ask the process to end and wait until it has."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal that ends the process, and wait until it has."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STOP_SECONDS)

    def remove(self) -> None:
        """End the process and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_end(self) -> str:
        """The last part of what the process wrote."""
        return self._log.read_text(errors="replace")[-4000:]

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"


Server = TypeVar("Server", bound=ServerProcess)


def once_a_run(make: Callable[[], Server]) -> Callable[[], Server]:
    """Let all tests of a run share what is made at the first call."""

    @functools.cache
    def shared() -> Server:
        server = make()
        reactor.addSystemEventTrigger("before", "shutdown", server.remove)
        server.start()
        return server

    return shared
