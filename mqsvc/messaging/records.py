"""Records of queues and topics, read from memory where they are known.

Every request on messages needs the rules of its destination, so they are kept as
long as nobody changes them; the metadata itself, which may be large, is not. All
changes of this process go through here; a store belongs to one process.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from mqsvc.messaging.limits import Limits
from mqsvc.messaging.metadata import Rules, rules
from mqsvc.messaging.model import Destination, JsonObject, Record
from mqsvc.messaging.shield import shielded
from mqsvc.storage.interfaces import IManagementStore

Result = TypeVar("Result")

MAX_KNOWN = 10_000
"""Destinations kept in memory; the one known longest makes room."""


@frozen
class Known:
    """What every request needs of a destination.

    :ivar exists: whether it has a record.
    """

    exists: bool
    rules: Rules


class Records:
    """The management store's records of destinations, cached."""

    def __init__(self, store: IManagementStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._known: dict[Destination, Known] = {}
        self._reading: dict[Destination, object] = {}

    async def know(self, destination: Destination) -> Known:
        """Whether a destination has a record, and its rules."""
        known = self._known.get(destination)
        return await self._read(destination) if known is None else known

    async def _read(self, destination: Destination) -> Known:
        reading = self._reading[destination] = object()
        try:
            known = self._describe(destination, await self._store.get(destination))
            # Whoever changed the record meanwhile has made this answer old.
            if self._reading.get(destination) is reading:
                self._keep(destination, known)
        finally:
            if self._reading.get(destination) is reading:
                del self._reading[destination]
        return known

    async def ensure(self, destination: Destination) -> None:
        """Make the record with no metadata unless it exists."""
        if not (await self.know(destination)).exists:
            await self.create(destination, {})

    async def create(self, destination: Destination, metadata: JsonObject) -> bool:
        """Make the record; fires with whether it is new."""
        step = self._store.create(destination, metadata)
        return await self._change(destination, step)

    async def update(self, record: Record, metadata: JsonObject) -> Record | None:
        """Replace the metadata unless somebody else changed it: none, then."""
        step = self._store.update(record, metadata)
        return await self._change(record.destination, step)

    async def delete(self, destination: Destination) -> None:
        """Remove the record and the subscriptions."""
        await self._change(destination, self._store.delete(destination))

    def _change(
        self, destination: Destination, step: Deferred[Result]
    ) -> Deferred[Result]:
        """Forget a record when its change is over, be its caller there or not."""

        def forget(result: Result) -> Result:
            self._reading.pop(destination, None)
            self._known.pop(destination, None)
            return result

        return shielded(step.addBoth(forget))

    def _describe(self, destination: Destination, record: Record | None) -> Known:
        metadata = {} if record is None else record.metadata
        return Known(record is not None, rules(destination, metadata, self._limits))

    def _keep(self, destination: Destination, known: Known) -> None:
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[destination] = known
