"""Random bits of the system, drawn many at a time.

Each draw is a call of the system in which other threads are let in, which costs far
more than the bits.
"""

from __future__ import annotations

import os
import struct
from collections import deque

PIECE = 64
"""Bits that serve one call."""

DRAWN = 512
"""Pieces drawn at a time."""

_PIECES = struct.Struct(f"{DRAWN}Q")


class Entropy:
    """Gives each piece of what it draws away once, to any thread."""

    def __init__(self) -> None:
        self._pieces: deque[int] = deque()

    def bits(self, count: int) -> int:
        """A number of so many bits, 64 at most, that nobody can guess."""
        while True:
            try:
                # One step even among threads, so that no two get the same.
                return self._pieces.popleft() >> (PIECE - count)
            except IndexError:
                self._pieces.extend(_PIECES.unpack(os.urandom(_PIECES.size)))


random_bits = Entropy().bits
"""The bits of this process; one that it starts must be a new program, no fork."""
