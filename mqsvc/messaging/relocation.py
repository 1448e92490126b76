"""Changes of a flavor, which may take a destination to another pool.

Only an empty one goes: no message is ever left behind or carried over.
"""

from __future__ import annotations

from attrs import frozen

from mqsvc.clock import Now
from mqsvc.messaging.errors import Conflict, NoPool, PoolDoesNotExist
from mqsvc.messaging.metadata import FLAVOR
from mqsvc.messaging.model import JsonObject, Record, Selection
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.placement import ATTEMPTS, Placement, flavor_of
from mqsvc.messaging.records import Records
from mqsvc.storage.interfaces import IMessageStore

_ANYTHING = Selection(limit=1, include_claimed=True, include_delayed=True)


@frozen
class Relocation:
    """Metadata with another flavor, and the pool that goes with it, in one step."""

    _records: Records
    _placement: Placement
    _store: IMessageStore
    _occupancy: Occupancy
    _now: Now

    async def change(self, record: Record, metadata: JsonObject) -> Record | None:
        """Replace the metadata, unless somebody else changed it: none, then.

        :raise FlavorDoesNotExist: there is no such flavor.
        :raise NoPool: no pool is for it.
        :raise Conflict: it would go to another pool, and holds messages.
        """
        async with self._occupancy.alone(record.destination):
            if await self._placement.fits(record.pool, flavor_of(metadata)):
                return await self._records.update(record, metadata, record.pool)
            return await self._move(record, metadata)

    async def _move(self, record: Record, metadata: JsonObject) -> Record | None:
        for _ in range(ATTEMPTS):
            pool = await self._records.choose(
                self._placement, record.destination, metadata
            )
            try:
                return await self._move_to(pool, record, metadata)
            except PoolDoesNotExist:
                continue
        raise NoPool

    async def _move_to(
        self, pool: str | None, record: Record, metadata: JsonObject
    ) -> Record | None:
        # Whoever adds messages shares the destination, which is taken alone here.
        destination = record.destination
        if await self._store.page(destination, _ANYTHING, self._now()):
            raise Conflict(
                f"This {FLAVOR} is kept in another pool, where messages are not taken: "
                "try again when all messages are gone, claimed and delayed ones too."
            )
        return await self._records.update(record, metadata, pool)
