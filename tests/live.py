"""A real server for tests: a ``twistd -n mqsvc`` process of its own.

Everything here blocks: it is for plain threads and for tests without a reactor.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import NoReturn

from twisted.internet import reactor
from twisted.trial.unittest import FailTest, SkipTest

CHECKOUT = Path(__file__).resolve().parent.parent
TWISTD = Path(sys.executable).with_name("twistd")
START_SECONDS = 30
STOP_SECONDS = 30


def missing(what: str, how_to_get_it: str) -> NoReturn:
    """Skip the running test for want of something; under ``CI`` fail it.

    A skipped test proves nothing, so where everything is meant to be installed a
    missing part is an error.
    """
    reason = f"{what} is missing. To get it: {how_to_get_it}"
    if os.environ.get("CI", "") not in ("", "false"):
        raise FailTest(reason)
    raise SkipTest(reason)


def free_port() -> int:
    """A port that nobody listens on and no connection is given by chance.

    Ports that the kernel hands out to clients start at 32768. One of those could be
    taken while the server is down, even by a client that tries to reach it.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class LiveServer:
    """A server process on a port and a data directory that outlive it.

    :param arguments: options for ``twistd mqsvc`` beside the two it needs.
    """

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = Path(tempfile.mkdtemp(prefix="mqsvc-live-"))
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, *arguments: str) -> None:
        """Add options that need to know the port."""
        self._arguments += arguments

    def start(self) -> None:
        """Start the process and return once it answers."""
        self.spawn()
        self.wait_until_it_answers()

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(TWISTD), "--pidfile=", "--nodaemon"),
                    *("mqsvc", "--data-dir", str(self.directory / "data")),
                    *("--http", f"tcp:{self.port}:interface=127.0.0.1"),
                    # Servers side by side leave each other the port of the default.
                    *("--websocket", ""),
                    *self._arguments,
                ],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until_it_answers(self) -> None:
        """Return when the versions document is served; fail with the log's end."""
        deadline = time.monotonic() + START_SECONDS
        pause = threading.Event()
        while not self._answers():
            if self._running().poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"The server did not start:\n{self.log_end()}")
            pause.wait(0.02)

    def stop(self) -> None:
        """Ask the process to end and wait until it has."""
        self._running().send_signal(signal.SIGTERM)
        self.wait_until_it_ended()

    def wait_until_it_ended(self) -> None:
        """Return when the process has ended."""
        self._running().wait(STOP_SECONDS)

    @property
    def process(self) -> int:
        """The id of the process."""
        return self._running().pid

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._running().send_signal(signal.SIGKILL)
        self.wait_until_it_ended()

    def remove(self) -> None:
        """End the process and delete its directory."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_end(self) -> str:
        """The last part of what the process wrote."""
        return self._log.read_text(errors="replace")[-4000:]

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError("The server was never started: call start() first.")
        return self._process

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 300
        except OSError:
            return False
        finally:
            connection.close()


def _environment() -> dict[str, str]:
    """This process's environment without configuration of its user's own."""
    inherited = os.environ.items()
    kept = {name: value for name, value in inherited if not name.startswith("MQSVC_")}
    return {**kept, "PYTHONPATH": str(CHECKOUT)}


def chosen_stores() -> list[str]:
    """Options for the stores that ``TEST_STORES`` names, as ``scripts/matrix`` does."""
    name = os.environ.get("TEST_STORES")
    if not name:
        return []
    # Most runs have none, and the servers of those that have stand on this module.
    from tests.matrix import Combination  # noqa: PLC0415

    settings = Combination.named(name).settings("live")
    return [word for setting in settings for word in ("--set", setting)]


@functools.cache
def shared_server(*arguments: str) -> LiveServer:
    """A server that all tests of a run share: each takes a project of its own.

    It is made at the first call and removed at the end of the run, which trial tells
    by shutting the reactor down.
    """
    server = LiveServer(*arguments, *chosen_stores())
    reactor.addSystemEventTrigger("before", "shutdown", server.remove)
    server.start()
    return server
