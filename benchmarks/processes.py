"""Programs that are started for a comparison, what they burn, and how they end."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.connections import Refused

START_SECONDS = 60
STOP_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that nobody listens on, outside of those that clients are given."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def program(name: str) -> str:
    """Where a program is."""
    found = shutil.which(name)
    if found is None:
        raise Refused(f"{name} is missing: install it first.")
    return found


def answers_on(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class Program:
    """A process in a group of its own, with all that it starts itself.

    :param log: a file for what it prints.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Return when it is ready; fail with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = self._log.read_text(errors="replace")[-2000:]
                raise Refused(f"{self._process.args!r} did not start:\n{end}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it and all of its group."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu(self) -> float:
        """Processor seconds of the processes that its group has now."""
        return sum(int(each[11]) + int(each[12]) for each in self._group()) / TICKS

    def resident(self) -> list[int]:
        """Resident bytes of each process of its group."""
        return [int(each[21]) * PAGE for each in self._group()]

    def _group(self) -> list[list[str]]:
        """What follows the name in ``/proc/*/stat`` of its processes."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(errors="replace").rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self._process.pid:
                found.append(fields)
        return found
