"""One attempt at a time for each subscription, in the order in which they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock

MOST_WAITING = 10
"""Attempts that wait for others of their subscription; more had better come later."""


class Lanes:
    """The attempts under way in this process."""

    def __init__(self) -> None:
        self._lanes: dict[str, DeferredLock] = {}

    def is_full(self, subscription_id: str) -> bool:
        """Whether enough attempts wait for their turn."""
        lane = self._lanes.get(subscription_id)
        return lane is not None and len(lane.waiting) >= MOST_WAITING

    @asynccontextmanager
    async def turn(self, subscription_id: str) -> AsyncIterator[None]:
        """The time for one attempt."""
        lane = self._lanes.setdefault(subscription_id, DeferredLock())
        await lane.acquire()
        try:
            yield
        finally:
            lane.release()
            if not lane.locked:
                self._lanes.pop(subscription_id, None)
