"""Signals that end a process which is ending already."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType


def at_next_signal(last: Callable[[], None]) -> None:
    """From now on SIGTERM and SIGINT end this process at once.

    :param last: called before.
    """

    def end(number: int, frame: FrameType | None) -> None:
        last()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
