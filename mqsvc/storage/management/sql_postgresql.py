"""Connections to PostgreSQL that do not wait for ever.

The library of PostgreSQL limits how long it connects and how long the network may be
dead. It waits without end for a server that takes what it is sent and never answers:
one whose process is stopped or whose disk hangs, or where somebody has locked a table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, NoReturn

import psycopg

CANCEL_SECONDS = 2
"""How long to try to tell the server that its answer is not needed any more."""

Steps = Generator[Any, Any, Any]
"""An exchange with the server: gives what it waits for, takes what came, 0 if nothing.
"""


def connect(*args: Any, read_timeout: float | str = 0, **kwargs: Any) -> Any:
    """A connection as the driver makes it.

    :param read_timeout: seconds that each answer may take; 0 is for ever.
    """
    connection = ImpatientConnection.connect(*args, **kwargs)
    connection.read_timeout = float(read_timeout)
    return connection


class ImpatientConnection(psycopg.Connection[Any]):
    """A connection that breaks off an exchange whose answer takes too long.

    It is closed then, since nobody knows what state it is in.

    :ivar read_timeout: in seconds; 0 is for ever.
    """

    read_timeout: float = 0

    def wait(self, gen: Steps, *args: Any, **kwargs: Any) -> Any:
        """See the base class, which runs every exchange through this."""
        if self.read_timeout:
            end = monotonic() + self.read_timeout
            gen = bounded(gen, lambda: monotonic() >= end, self._break_off)
        return super().wait(gen, *args, **kwargs)

    def _break_off(self) -> NoReturn:
        # Else a server that only waits for a lock would keep a process for this.
        if psycopg.capabilities.has_cancel_safe():
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_SECONDS)
        self.pgconn.finish()
        raise psycopg.OperationalError(
            f"the server did not answer within {self.read_timeout:g} seconds"
        )


def bounded(
    steps: Steps, is_late: Callable[[], bool], break_off: Callable[[], NoReturn]
) -> Steps:
    """The same steps, broken off once it is late and nothing came."""
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and is_late():
                break_off()
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
