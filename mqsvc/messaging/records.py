"""Records of queues and topics, read from memory where they are known.

Every request on messages needs the rules of its destination and where it lives, so
they are kept as long as nobody changes them; the metadata itself, which may be large,
is not. All changes go through here, and the bus takes them to other processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from mqsvc.bus import Bus
from mqsvc.bus.knowledge import Knowledge
from mqsvc.messaging.errors import NoPool, PoolDoesNotExist, StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.metadata import Rules, dead_letter_queue, rules
from mqsvc.messaging.model import NAMEABLE, Destination, JsonObject, Record
from mqsvc.messaging.placement import ATTEMPTS, Placement, flavor_of
from mqsvc.messaging.quotas import Quotas
from mqsvc.messaging.shield import shielded
from mqsvc.storage.interfaces import IManagementStore

Result = TypeVar("Result")


@frozen
class Known:
    """What every request needs of a destination.

    :ivar exists: whether it has a record.
    :ivar pool: where its messages live; none is the default pool.
    """

    exists: bool
    rules: Rules
    pool: str | None = None


class Records:
    """The management store's records of destinations, cached.

    :param placement: chooses the pools of new ones; without it there are no pools.
    :param bus: tells of changes; by default there is one process.
    :ivar recall: gives what :meth:`know` does if nobody need be asked, and otherwise
        none.
    :ivar relied: what came where, as keys; it may be that its record is elsewhere.
    """

    def __init__(
        self,
        store: IManagementStore,
        limits: Limits,
        quotas: Quotas,
        placement: Placement | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.bus = Bus() if bus is None else bus
        self._store = store
        self._limits = limits
        self._placement = placement
        self._quotas = quotas
        self._knowledge: Knowledge[Known] = Knowledge(self.bus, "record")
        self.recall = self._knowledge.get
        self._leaving: dict[Destination, str | None] = {}
        self.relied: dict[tuple[Destination, str | None], None] = {}

    @property
    def quotas(self) -> Quotas:
        """What bounds projects."""
        return self._quotas

    @property
    def placement(self) -> Placement | None:
        """What chooses pools; none when there are no pools."""
        return self._placement

    async def know(self, destination: Destination) -> Known:
        """Whether a destination has a record, its rules, and where it lives."""
        return self.recall(destination) or await self.ask(destination)

    def ask(self, destination: Destination) -> Awaitable[Known]:
        """The same, read from the store in any case."""
        return self._knowledge.learn(destination, lambda: self._read(destination))

    async def pool_of(self, destination: Destination) -> str | None:
        """Where the messages of a destination live; none is the default pool."""
        if destination.kind not in NAMEABLE:
            # The service's own are in each pool, and named after it.
            return destination.project or None
        if destination in self._leaving:
            return self._leaving[destination]
        return (await self.know(destination)).pool

    async def _read(self, destination: Destination) -> Known:
        return self._describe(destination, await self._store.get(destination))

    async def ensure(self, destination: Destination) -> Known:
        """Make the record with no metadata unless it exists.

        :raise NoPool: there is no pool for it.
        :raise StoreUnavailable: others remove it as often as it is made.
        """
        for _ in range(ATTEMPTS):
            known = await self.know(destination)
            if known.exists:
                return known
            await self.create(destination, {})
        raise StoreUnavailable

    def is_unchanged(self, destination: Destination, known: Known) -> bool:
        """Whether a record is there, and as it was known; then nothing is to be done.

        Where news may come late nobody can say that.
        """
        return not self.bus.is_late and self._holds(destination, known)

    def _holds(self, destination: Destination, known: Known) -> bool:
        return known.exists and self.recall(destination) is known

    async def ensure_still(self, destination: Destination, known: Known) -> None:
        """Make the record again that another process removed while something came.

        :param known: what was known before that came.
        :raise StoreUnavailable: it lives elsewhere now; what came must come again.
        """
        is_there = self._holds(destination, known)
        if not is_there:
            is_there = (await self._again(destination, known)).pool == known.pool
        if self.bus.is_late or not is_there:
            self.relied[destination, known.pool] = None
        if not is_there:
            raise StoreUnavailable

    async def _again(self, destination: Destination, known: Known) -> Known:
        """Make it again, where it was, if it is gone; what is known of it now."""
        if known.exists and not (await self.know(destination)).exists:
            with suppress(PoolDoesNotExist):
                await self.create_in(known.pool, destination, {})
        return await self.ensure(destination)

    async def create(self, destination: Destination, metadata: JsonObject) -> bool:
        """Make the record, in a pool chosen for it; fires with whether it is new.

        :raise InvalidRequest: its metadata asks for a flavor in no way to be read.
        :raise FlavorDoesNotExist: its metadata names a flavor that is not there.
        :raise NoPool: there is no pool for it.
        :raise QuotaExceeded: the project has as many as it may have.
        """
        if self._placement is not None:
            await self._placement.check(flavor_of(metadata))
        if not self._quotas.bounds_destinations:
            return await self._create(destination, metadata)
        async with self._quotas.creation(destination.project):
            if (await self.know(destination)).exists:
                return False
            await self._quotas.admit_destination(destination.project)
            return await self._create(destination, metadata)

    async def _create(self, destination: Destination, metadata: JsonObject) -> bool:
        if self._placement is None:
            return await self.create_in(None, destination, metadata)
        if (await self.know(destination)).exists:
            return False
        return await self._create_placed(self._placement, destination, metadata)

    async def _create_placed(
        self, placement: Placement, destination: Destination, metadata: JsonObject
    ) -> bool:
        for _ in range(ATTEMPTS):
            pool = await self.choose(placement, destination, metadata)
            try:
                return await self.create_in(pool, destination, metadata)
            except PoolDoesNotExist:
                continue
        raise NoPool

    async def create_in(
        self, pool: str | None, destination: Destination, metadata: JsonObject
    ) -> bool:
        """Make the record in this pool; fires with whether it is new.

        :raise PoolDoesNotExist: there is no such pool (any more).
        """
        step = self._store.create(destination, metadata, pool)
        return await self._change(destination, step)

    async def choose(
        self, placement: Placement, destination: Destination, metadata: JsonObject
    ) -> str | None:
        """The pool for a destination with this metadata; none is the default pool.

        :raise FlavorDoesNotExist: the metadata names a flavor that is not there.
        :raise NoPool: there is no pool for it.
        """
        preferred = []
        target = dead_letter_queue(destination, metadata)
        if target is not None:
            known = await self.know(target)
            if known.exists:
                preferred.append(known.pool)
        return await placement.choose(flavor_of(metadata), preferred)

    async def update(self, record: Record, metadata: JsonObject) -> Record | None:
        """Replace metadata unless somebody else changed it: none, then."""
        step = self._store.update(record, metadata, record.pool)
        return await self._change(record.destination, step)

    async def delete(self, destination: Destination) -> None:
        """Remove the record and the subscriptions."""
        await self._change(destination, self._store.delete(destination))

    @contextmanager
    def departure(self, pool: str | None, destination: Destination) -> Iterator[None]:
        """A time in which a destination lives there, whether it has a record or not.

        For who has the destination alone, in this process.
        """
        self._leaving[destination] = pool
        try:
            yield
        finally:
            del self._leaving[destination]

    def _change(
        self, destination: Destination, step: Deferred[Result]
    ) -> Deferred[Result]:
        """Forget a record when its change is over, be its caller there or not."""

        def forget(result: Result) -> Result:
            self._knowledge.forget(destination)
            return result

        return shielded(step.addBoth(forget))

    def _describe(self, destination: Destination, record: Record | None) -> Known:
        if record is None:
            return Known(False, rules(destination, {}, self._limits))
        known_rules = rules(destination, record.metadata, self._limits)
        return Known(True, known_rules, record.pool)
