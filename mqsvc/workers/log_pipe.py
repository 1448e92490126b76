"""The pipe through which a worker's log goes to its supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import os
from threading import RLock

from mqsvc.workers.lines import Line, encode_line

CAPACITY = 2**20
"""Bytes that the kernel is asked to keep, which is as many as it gives to anybody."""


class LogPipe:
    """The end that is written to, which nobody ever waits for.

    A supervisor that does not read leaves the pipe full. What does not fit any more is
    dropped, and how much it was is said as soon as something fits.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0
        self._rest = b""
        # Threads log as well, and so may what is collected as garbage meanwhile.
        self._lock = RLock()
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError, AttributeError):
            # Not all systems have it; the default is enough for some hundred lines.
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CAPACITY)

    def write(self, line: bytes) -> None:
        """Send a line, or drop it."""
        with self._lock:
            if self._dropped and self._send(_note(self._dropped)):
                self._dropped = 0
            if self._dropped or not self._send(line):
                self._dropped += 1

    def _send(self, line: bytes) -> bool:
        """Whether it is on its way, be it with a rest for the next time."""
        if self._rest:
            self._rest = self._rest[self._written(self._rest) :]
        if self._rest:
            return False
        written = self._written(line)
        if written:
            self._rest = line[written:]
        return written > 0

    def _written(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            # A supervisor that was killed reads no more.
            return len(data)


def _note(dropped: int) -> bytes:
    text = f"{dropped} lines of the log were dropped: the supervisor did not read"
    return encode_line(Line("warn", "mqsvc.workers.log_pipe#warn", text))
