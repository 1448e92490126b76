"""Whether anybody is subscribed to a destination, known without asking each time.

All changes of this process are told here; a store belongs to one process.
"""

from __future__ import annotations

from mqsvc.clock import Now
from mqsvc.messaging.model import Destination
from mqsvc.storage.interfaces import IManagementStore

MAX_KNOWN = 10_000
"""Destinations kept in memory; the one known longest makes room."""


class Audience:
    """Remembers which destinations have subscriptions.

    One whose last subscription expired may still count as subscribed to: whoever
    looks for the subscriptions then finds none.
    """

    def __init__(self, store: IManagementStore, now: Now) -> None:
        self._store = store
        self._now = now
        self._known: dict[Destination, bool] = {}
        self._reading: dict[Destination, object] = {}

    async def listens(self, destination: Destination) -> bool:
        """Whether there may be a subscription."""
        known = self._known.get(destination)
        return await self._read(destination) if known is None else known

    def forget(self, destination: Destination) -> None:
        """A subscription came or went."""
        self._known.pop(destination, None)
        self._reading.pop(destination, None)

    async def _read(self, destination: Destination) -> bool:
        reading = self._reading[destination] = object()
        try:
            found = await self._store.subscriptions(destination, 1, "", self._now())
            # Whoever subscribed meanwhile has made this answer old.
            if self._reading.get(destination) is reading:
                self._keep(destination, bool(found))
        finally:
            if self._reading.get(destination) is reading:
                del self._reading[destination]
        return bool(found)

    def _keep(self, destination: Destination, listens: bool) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[destination] = listens
