"""The one place where a reactor's time becomes the milliseconds that stores keep."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

Now = Callable[[], int]
"""Milliseconds since the epoch."""


def milliseconds(clock: IReactorTime) -> Now:
    """A function that tells the time of a clock."""
    return lambda: round(clock.seconds() * 1000)
