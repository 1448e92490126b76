"""How many attempts at delivery are under way at a time: each may be a connection.

One post can have thousands of subscribers. So that they do not hold up everybody else,
those of one queue or topic have a part of all places only.
"""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred

from mqsvc.messaging.model import Destination

MOST = 500
"""Attempts of a process."""

MOST_OF_ONE = 100
"""Attempts of one queue or topic."""


def most_places() -> int:
    """How many attempts this process can make at a time: files are for others, too."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else max(1, min(MOST, files // 2))


class _Room:
    """A number of places, which are given in the order in which they are wanted."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: deque[Deferred[None]] = deque()
        self._is_calling = False
        self.users = 0

    async def __aenter__(self) -> None:
        self.users += 1
        try:
            await self._enter()
        except BaseException:
            self.users -= 1
            raise

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
        else:
            turn: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(turn)
            await turn

    async def __aexit__(self, *_: object) -> None:
        self.users -= 1
        self._free += 1
        # Attempts that end at once must not be called one inside of the other.
        if self._is_calling:
            return
        self._is_calling = True
        while self._waiting and self._free:
            self._free -= 1
            self._waiting.popleft().callback(None)
        self._is_calling = False


class Places:
    """The places of a process.

    :param most: of all.
    """

    def __init__(self, most: int) -> None:
        self._all = _Room(most)
        self._rooms: dict[Destination, _Room] = {}

    @asynccontextmanager
    async def place(self, destination: Destination) -> AsyncIterator[None]:
        """A place for an attempt of a queue or topic, as soon as there is one."""
        room = self._rooms.setdefault(destination, _Room(MOST_OF_ONE))
        try:
            async with room, self._all:
                yield
        finally:
            if not room.users and self._rooms.get(destination) is room:
                del self._rooms[destination]
