"""Posts that other servers may have pulled the ground from under, looked at again.

News of other machines may come late. A post that relied on a record which was removed
elsewhere a moment before leaves messages without a record: soon after it the record is
read again, and made again if it is gone and there are messages.
"""

from __future__ import annotations

from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import PoolDoesNotExist, StoreUnavailable
from mqsvc.messaging.model import Destination
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.records import Known, Records
from mqsvc.storage.interfaces import IMessageStore


class Recheck(TimerService):
    """Looks again at all that was posted to since the last time."""

    log = Logger()

    def __init__(
        self,
        records: Records,
        store: IMessageStore,
        occupancy: Occupancy,
        clock: IReactorTime,
    ) -> None:
        super().__init__(records.bus.remembered, self.look)
        self.clock = clock
        self._now = milliseconds(clock)
        self._records = records
        self._store = store
        self._occupancy = occupancy

    def stopService(self) -> Deferred[None]:
        """Look a last time."""
        stopping = maybeDeferred(super().stopService)
        return stopping.addCallback(lambda _: Deferred.fromCoroutine(self.look()))

    async def look(self) -> None:
        """Look once; what cannot be read now has its turn the next time."""
        relied = self._records.relied
        for destination, known in list(relied.items()):
            try:
                await self._see_to(destination, known)
            except StoreUnavailable:
                self.log.warn("Records cannot be looked at again now")
                return
            except Exception:  # noqa: BLE001 - the timer must live on
                self.log.failure("A record could not be looked at again")
            if relied.get(destination) is known:
                del relied[destination]

    async def _see_to(self, destination: Destination, known: Known) -> None:
        if (await self._records.ask(destination)).exists:
            return
        async with self._occupancy.alone(destination):
            if not (await self._records.ask(destination)).exists:
                with self._records.departure(known.pool, destination):
                    await self._restore(destination, known.pool)

    async def _restore(self, destination: Destination, pool: str | None) -> None:
        if not (await self._store.stats(destination, self._now())).total:
            return
        try:
            await self._records.create_in(pool, destination, {})
        except PoolDoesNotExist:
            self.log.warn(
                "Messages came to {name} in a pool that is gone", name=destination.name
            )
