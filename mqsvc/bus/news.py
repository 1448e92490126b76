"""What processes tell each other: where something is new, and what was changed.

It is names and numbers only, never a body. In bytes it is msgpack: the identity of the
sender's board, a list of destinations as project, kind and name, a list of slots, and
whether to look everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import msgspec
from attrs import frozen

from mqsvc.bus.board import SLOTS
from mqsvc.messaging.model import Destination, Kind

MOST_AT_ONCE = 100
"""Destinations, and slots, that are told of at once: some ten kilobytes."""

_Name = tuple[str, Kind, str]


@frozen
class News:
    """What one process tells others.

    :ivar destinations: those that may have something new.
    :ivar slots: of the board, where something was changed.
    :ivar is_all: whether anything may be new, or changed.
    """

    destinations: Sequence[Destination] = ()
    slots: Sequence[int] = ()
    is_all: bool = False

    def encode(self, sender: int) -> bytes:
        """In bytes.

        :param sender: the identity of its board.
        """
        names = [(each.project, each.kind, each.name) for each in self.destinations]
        return _encoder.encode((sender, names, self.slots, self.is_all))


class Link(Protocol):
    """A way to other processes. None of its methods fails or waits."""

    @property
    def is_up(self) -> bool:
        """Whether what others send comes here."""

    @property
    def shares_board(self) -> bool:
        """Whether those others look at the same board."""

    def wants(self, destination: Destination) -> bool:
        """Whether anybody there may want to hear of a destination."""

    def send(self, news: News) -> None:
        """Tell them."""


class Unreadable(Exception):
    """These bytes are no news."""


def decode(data: bytes) -> tuple[int, News]:
    """The sender's identity, and what it tells.

    :raise Unreadable: it is something else.
    """
    try:
        sender, names, slots, is_all = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Unreadable from error
    if not all(0 <= slot < SLOTS for slot in slots):
        raise Unreadable
    return sender, News([Destination(*name) for name in names], slots, is_all)


def parts(destinations: Sequence[Destination], slots: Sequence[int]) -> Iterator[News]:
    """The same in pieces none of which is too large to be sent."""
    names, numbers = iter(destinations), iter(slots)
    while True:
        news = News(
            list(islice(names, MOST_AT_ONCE)), list(islice(numbers, MOST_AT_ONCE))
        )
        if not news.destinations and not news.slots:
            return
        yield news


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, list[_Name], list[int], bool])
