"""Posts that other servers may have pulled the ground from under, looked at again.

News of other machines may come late. A post that relied on a record which was removed
elsewhere a moment before leaves messages without a record, or in a pool where nobody
looks. Soon after it the record is read again. If it is gone and there are messages, it
is made again; if it lives in another pool by now, they are taken there.
"""

from __future__ import annotations

from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import NoPool, PoolDoesNotExist, StoreUnavailable
from mqsvc.messaging.model import Destination, StoredMessage
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.records import Records
from mqsvc.storage.interfaces import IMessageStore

SECONDS = 5.0
"""How often it looks where news are not late, but may come in the middle of a step."""

_BATCH = 100
"""Messages carried to another pool at one time."""


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
        bus = records.bus
        super().__init__(bus.remembered if bus.is_late else SECONDS, self.look)
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
        for destination, pool in list(relied):
            # Before: what comes while it looks is looked at the next time.
            del relied[destination, pool]
            try:
                await self._see_to(destination, pool)
            except (NoPool, PoolDoesNotExist):
                name = destination.name
                self.log.warn(
                    "Messages came to {name} in a pool that is gone", name=name
                )
            except StoreUnavailable:
                # Behind the others, which may live in a store that answers.
                relied[destination, pool] = None
                self.log.warn("Records cannot be looked at again now")
                return
            except Exception:  # noqa: BLE001 - the timer must live on
                self.log.failure("A record could not be looked at again")

    async def _see_to(self, destination: Destination, pool: str | None) -> None:
        known = await self._records.ask(destination)
        if known.exists and known.pool == pool:
            return
        async with self._occupancy.alone(destination):
            if not (await self._records.ask(destination)).exists:
                await self._restore(destination, pool)
            await self._carry(destination, pool)

    async def _restore(self, destination: Destination, pool: str | None) -> None:
        """Make a record that is gone if there are messages of it."""
        if await self._left_in(pool, destination):
            await self._records.create_in(pool, destination, {})

    async def _left_in(
        self, pool: str | None, destination: Destination
    ) -> list[StoredMessage]:
        with self._records.departure(pool, destination):
            return await self._store.stored(destination, _BATCH, None, self._now())

    async def _carry(self, destination: Destination, pool: str | None) -> None:
        """Take messages from a pool to where the record is, each at least once."""
        while left := await self._left_in(pool, destination):
            known = await self._records.ask(destination)
            if not known.exists or known.pool == pool:
                return
            with self._records.departure(known.pool, destination):
                await self._store.restore(destination, left, self._now())
            ids = [each.message.id for each in left]
            with self._records.departure(pool, destination):
                await self._store.delete(destination, ids, self._now())
            self._records.bus.publish(destination)
