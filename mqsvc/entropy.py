"""Random bits of the system, drawn many at a time.

Each draw is a call of the system in which other threads are let in, which costs far
more than the bits.
"""

from __future__ import annotations

import os
from collections import deque

PIECE = 8
"""Bytes that serve one call."""

DRAWN = 512
"""Pieces drawn at a time."""


class Entropy:
    """Gives each piece of what it draws away once, to any thread."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()

    def bits(self, count: int) -> int:
        """A number of so many bits, 64 at most, that nobody can guess."""
        while True:
            try:
                # One step even among threads, so that no two get the same.
                piece = self._pieces.popleft()
            except IndexError:
                self._draw()
            else:
                return int.from_bytes(piece) >> (8 * PIECE - count)

    def _draw(self) -> None:
        drawn = os.urandom(PIECE * DRAWN)
        self._pieces.extend(
            drawn[start : start + PIECE] for start in range(0, len(drawn), PIECE)
        )


random_bits = Entropy().bits
"""The bits of this process; one that it starts must be a new program, no fork."""
