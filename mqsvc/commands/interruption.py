"""Stopping between two steps, when the operator says so."""

from __future__ import annotations


class Interrupted(Exception):
    """The operator wanted no more of it; the text says what was left undone."""


class Interruption:
    """Whether to stop; what works asks at each place where it can."""

    def __init__(self) -> None:
        self._is_requested = False

    def request(self) -> None:
        """Let what works stop at the next place."""
        self._is_requested = True

    def check(self) -> None:
        """Go on, unless stopping was requested.

        :raise Interrupted: it was.
        """
        if self._is_requested:
            raise Interrupted("stopped")
