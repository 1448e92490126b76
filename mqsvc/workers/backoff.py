"""How long to wait before something that ended is started again."""

from __future__ import annotations

LONGEST_PAUSE = 30.0
"""Seconds between two starts at most, however often it failed."""

LONG_LIFE = 60.0
"""Seconds after which an end is not taken for a failed start."""


class BackOff:
    """Pauses that grow while lives are short: none, then a second, then twice that."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived: float) -> float:
        """How many seconds to wait after a life of so many."""
        pause = 0.0 if lived >= LONG_LIFE else self._next
        self._next = min(max(1.0, 2 * pause), LONGEST_PAUSE)
        return pause
