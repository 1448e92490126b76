"""The attempts of each subscription, kept for those who look after it.

They are written a little later and together: losing the last second of them in a
crash loses no delivery.
"""

from __future__ import annotations

from mqsvc.clock import Now
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.notification.entries import (
    CLIENT,
    HISTORY_SECONDS,
    Attempt,
    Attempts,
    history,
    stored,
)
from mqsvc.storage.interfaces import IMessageStore

MOST_UNWRITTEN = 10_000
"""Attempts in memory; while the store is away the newest ones are not kept."""


class History:
    """Collects attempts, and writes them down when told to."""

    def __init__(self, store: IMessageStore, now: Now) -> None:
        self._store = store
        self._now = now
        self._unwritten: dict[tuple[str | None, str], list[Attempt]] = {}
        self._count = 0

    def add(self, pool: str | None, subscription_id: str, attempt: Attempt) -> None:
        """Remember an attempt."""
        if self._count < MOST_UNWRITTEN:
            self._count += 1
            self._unwritten.setdefault((pool, subscription_id), []).append(attempt)

    async def write(self) -> None:
        """Write down what was added; what a store does not take is tried again."""
        for key in list(self._unwritten):
            attempts = self._unwritten.pop(key)
            self._count -= len(attempts)
            record = stored(Attempts(tuple(attempts)), HISTORY_SECONDS)
            try:
                await self._store.post(history(*key), [record], CLIENT, self._now())
            except StoreUnavailable:
                for attempt in attempts:
                    self.add(*key, attempt)
                return
