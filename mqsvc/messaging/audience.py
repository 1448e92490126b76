"""Whether anybody is subscribed to a destination, known without asking each time.

Who comes, changes or leaves is told here, and the bus takes it to other processes.
"""

from __future__ import annotations

from mqsvc.bus import Bus
from mqsvc.bus.knowledge import Knowledge
from mqsvc.clock import Now
from mqsvc.messaging.model import Destination
from mqsvc.storage.interfaces import IManagementStore

CONNECTION = "websocket:"
"""How the subscriber of an open connection begins: it follows by itself."""

LOOKED_AT = 20
"""Subscriptions looked at for one that is no connection; beyond them one is likely."""


class Audience:
    """Remembers which destinations have subscribers that must be told.

    One whose subscriptions all expired, or were purged, may still count as subscribed
    to: whoever looks for the subscriptions then finds none.
    """

    def __init__(self, store: IManagementStore, now: Now, bus: Bus) -> None:
        self._store = store
        self._now = now
        self._knowledge: Knowledge[bool] = Knowledge(bus, "audience")

    def is_known_silent(self, destination: Destination) -> bool:
        """Whether it is known, without asking, that nobody must be told."""
        return self._knowledge.get(destination) is False

    async def listens(self, destination: Destination) -> bool:
        """Whether there may be somebody who must be told."""
        known = self._knowledge.get(destination)
        if known is not None:
            return known
        return await self._knowledge.learn(destination, lambda: self._look(destination))

    def forget(self, destination: Destination) -> None:
        """A subscription came or went."""
        self._knowledge.forget(destination)

    async def _look(self, destination: Destination) -> bool:
        page = await self._store.subscriptions(destination, LOOKED_AT, "", self._now())
        return len(page) == LOOKED_AT or any(
            not subscription.subscriber.startswith(CONNECTION) for subscription in page
        )
