"""Ids: 24 lower-case hexadecimal digits, a sortable part and a random part.

A message id is a *position*: 14 digits of its place in the destination's order and
10 random ones, so that the id of any message, also of a deleted one, is a marker to
read on from, and cannot be guessed. Positions of a destination only grow; the first
one is the microsecond in which it got its first message, so that a destination made
again goes on behind the positions it had before.
"""

from __future__ import annotations

import re
from collections.abc import Callable

RandomBits = Callable[[int], int]
"""Like :func:`random.SystemRandom().getrandbits`: an integer of so many bits."""

RANDOM_BITS = 40

ID_BYTES = 12

_MESSAGE_ID = re.compile(r"[0-9a-f]{24}\Z")


def format_id(position: int, random: int) -> str:
    """The id of a position (below 2**56) and :data:`RANDOM_BITS` random bits."""
    return (position << RANDOM_BITS | random).to_bytes(ID_BYTES).hex()


def parse_id(text: str) -> tuple[int, int] | None:
    """The position and the random bits of an id; none when it is malformed."""
    if not _MESSAGE_ID.match(text):
        return None
    return divmod(int(text, 16), 1 << RANDOM_BITS)


def first_position(now: int) -> int:
    """The position of the first message of a destination.

    :param now: milliseconds since the epoch.
    """
    return now * 1000
