"""Whether anybody is subscribed to a destination, known without asking each time.

All changes are told here, and the bus takes them to other processes.
"""

from __future__ import annotations

from mqsvc.bus import Bus
from mqsvc.bus.knowledge import Knowledge
from mqsvc.clock import Now
from mqsvc.messaging.model import Destination
from mqsvc.storage.interfaces import IManagementStore


class Audience:
    """Remembers which destinations have subscriptions.

    One whose last subscription expired may still count as subscribed to: whoever
    looks for the subscriptions then finds none.
    """

    def __init__(self, store: IManagementStore, now: Now, bus: Bus) -> None:
        self._store = store
        self._now = now
        self._knowledge: Knowledge[bool] = Knowledge(bus, "audience")

    def is_known_silent(self, destination: Destination) -> bool:
        """Whether it is known, without asking, that there is no subscription."""
        return self._knowledge.get(destination) is False

    async def listens(self, destination: Destination) -> bool:
        """Whether there may be a subscription."""
        known = self._knowledge.get(destination)
        if known is not None:
            return known
        return await self._knowledge.learn(destination, lambda: self._look(destination))

    def forget(self, destination: Destination) -> None:
        """A subscription came or went."""
        self._knowledge.forget(destination)

    async def _look(self, destination: Destination) -> bool:
        return bool(await self._store.subscriptions(destination, 1, "", self._now()))
