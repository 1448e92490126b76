"""Calls on destinations, and who may have a destination for itself for a while."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mqsvc.messaging.model import Destination


class Gate:
    """Counts the calls on each destination; a closed destination lets none in."""

    def __init__(self) -> None:
        self._calls: dict[Destination, int] = {}
        self._closed: dict[Destination, list[Deferred[None]]] = {}
        self._leaving: dict[Destination, Deferred[None]] = {}

    async def enter(self, *destinations: Destination) -> None:
        """Wait until none of some destinations is closed; then be in all of them.

        Whoever waits is in none: two that want the same ones never wait for each other.
        """
        if self._closed:
            await self._until_open(destinations)
        for destination in destinations:
            self._calls[destination] = self._calls.get(destination, 0) + 1

    def leave(self, *destinations: Destination) -> None:
        """The call is over."""
        for destination in destinations:
            left = self._calls[destination] - 1
            if left:
                self._calls[destination] = left
                continue
            del self._calls[destination]
            if (leaving := self._leaving.pop(destination, None)) is not None:
                leaving.callback(None)

    async def close(self, destination: Destination) -> None:
        """Let nobody in, and wait until everybody has left."""
        await self._until_open((destination,))
        self._closed[destination] = []
        if destination in self._calls:
            leaving = self._leaving[destination] = Deferred()
            await leaving

    def open(self, destination: Destination) -> None:
        """Let in those who wait, and everybody who comes."""
        for waiter in self._closed.pop(destination):
            waiter.callback(None)

    async def _until_open(self, destinations: tuple[Destination, ...]) -> None:
        while closed := [each for each in destinations if each in self._closed]:
            waiter: Deferred[None] = Deferred()
            self._closed[closed[0]].append(waiter)
            await waiter
