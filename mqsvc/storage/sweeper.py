"""Housekeeping: what expired is freed a little at a time, in the background."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.application.internet import TimerService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.clock import milliseconds
from mqsvc.storage.interfaces import IStore

INTERVAL = 1.0
"""Seconds between two rounds."""

MAX_PIECES = 100
"""Pieces of one store in one round: bounds what a round takes from callers."""


class Sweeper(TimerService):
    """Sweeps each store in turn; a store that fails is tried again next round."""

    log = Logger()

    def __init__(self, stores: Sequence[IStore], clock: IReactorTime) -> None:
        super().__init__(INTERVAL, self.round)
        self.clock = clock
        self._now = milliseconds(clock)
        self._stores = stores

    async def round(self) -> None:
        """Sweep every store until it has nothing more, or for a bounded while."""
        for store in self._stores:
            try:
                await self._sweep(store)
            except Exception:  # noqa: BLE001 - the timer must live on
                self.log.failure("Sweeping failed, next try in {s} s", s=INTERVAL)

    async def _sweep(self, store: IStore) -> None:
        for _ in range(MAX_PIECES):
            if not await store.sweep(self._now()) or not self.running:
                return
