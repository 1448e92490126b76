"""Queues and topics: records, metadata, numbers, removal (rest.md 5.5 to 5.11).

A topic is a destination like a queue, of its own kind and with fewer reserved keys,
so every operation here serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from mqsvc.clock import Now
from mqsvc.messaging import checks, metadata
from mqsvc.messaging.errors import (
    Conflict,
    DestinationDoesNotExist,
    FlavorDoesNotExist,
    InvalidBody,
    InvalidRequest,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.metadata import FLAVOR
from mqsvc.messaging.model import Destination, JsonObject, Kind, Record, Stats
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.patch import Change, apply_changes, parse_patch
from mqsvc.messaging.placement import Placement, flavor_of
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import to_its_end
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

_RESOURCE_TYPES = ("messages", "subscriptions")

_PATCH_ATTEMPTS = 100
"""How often a patch is applied again to metadata that others changed meanwhile."""


@frozen
class Queues:
    """Operations on the destinations of a project."""

    _management: IManagementStore
    _messages: IMessageStore
    _records: Records
    _limits: Limits
    _now: Now
    _occupancy: Occupancy

    def check_size(self, size: int) -> None:
        """Accept the size of a request that brings metadata, in bytes.

        :raise InvalidRequest: it is too large.
        """
        checks.body_size(size, self._limits.max_queue_metadata)

    async def create(self, destination: Destination, document: Any) -> bool:
        """Make a destination with metadata.

        :param document: a JSON object; checked, and ignored when it exists already.
        :return: whether it is new.
        :raise InvalidRequest: the metadata cannot be stored.
        :raise NoPool: there is no pool for it.
        """
        document = checks.mapping(document, "Metadata")
        try:
            metadata.check(destination, document, self._limits)
        except InvalidRequest as error:
            raise InvalidRequest(error.description) from error
        try:
            return await self._records.create(destination, document)
        except FlavorDoesNotExist as error:
            raise InvalidRequest(error.description) from error

    async def describe(self, destination: Destination) -> dict[str, Any]:
        """Metadata with reserved defaults, also of one that does not exist."""
        return self.shown(destination.kind, await self._management.get(destination))

    def shown(self, kind: Kind, record: Record | None) -> dict[str, Any]:
        """The metadata of a record as callers see it."""
        stored = {} if record is None else record.metadata
        return metadata.with_defaults(kind, stored, self._limits)

    async def change(self, destination: Destination, document: Any) -> dict[str, Any]:
        """Change metadata, all operations or none.

        :param document: see :mod:`~mqsvc.messaging.patch`.
        :return: the whole metadata as it is now.
        :raise InvalidBody: the patch or what it would lead to is malformed.
        :raise DestinationDoesNotExist: there is nothing to change.
        :raise FlavorDoesNotExist: it asks for a flavor that is not there.
        :raise Conflict: a key is missing, others do not stop changing it, or it asks
            for a flavor that its pool does not belong to.
        """
        changes = parse_patch(document)
        for _ in range(_PATCH_ATTEMPTS):
            record = await self._management.get(destination)
            if record is None:
                raise DestinationDoesNotExist(
                    f"The {destination.kind.value} {destination.name} does not exist."
                )
            changed = self._patched(record, changes)
            await self._check_flavor(record, changed)
            updated = await self._records.update(record, changed)
            if updated is not None:
                return self.shown(destination.kind, updated)
        raise Conflict("Others change this metadata all the time. Please try again.")

    def _patched(self, record: Record, changes: list[Change]) -> dict[str, Any]:
        destination = record.destination
        reserved = metadata.defaults(destination.kind, self._limits)
        changed = apply_changes(changes, record.metadata, reserved)
        try:
            metadata.check(destination, changed, self._limits)
            if self._placement_for(record, changed) is not None:
                flavor_of(changed)
        except InvalidRequest as error:
            raise InvalidBody(error.description) from error
        return changed

    def _placement_for(self, record: Record, changed: JsonObject) -> Placement | None:
        """What knows flavors, if another one is asked for.

        Without pools it is a key like any other.
        """
        before, after = record.metadata.get(FLAVOR), changed.get(FLAVOR)
        return None if before == after else self._records.placement

    async def _check_flavor(self, record: Record, changed: JsonObject) -> None:
        placement = self._placement_for(record, changed)
        if placement is None or await placement.fits(record.pool, flavor_of(changed)):
            return
        raise Conflict(
            f"This {FLAVOR} is kept in another pool, and a {record.destination.kind} "
            "stays where it was made: delete it, and make it again with the new one."
        )

    async def delete(self, destination: Destination) -> None:
        """Remove a destination and all it holds; a missing one is no error."""
        await to_its_end(self._delete(destination))

    async def _delete(self, destination: Destination) -> None:
        records = self._records
        async with self._occupancy.alone(destination):
            is_alone = records.bus.is_alone
            # What others know better counts: it is cleared where it lives now.
            ask = records.know if is_alone else records.ask
            with records.departure((await ask(destination)).pool, destination):
                # First, so that a failure leaves no messages without a queue.
                await self._messages.clear(destination)
                await records.delete(destination)
                if not is_alone:
                    # What another process posted in between. One that has posted
                    # looks whether there is a change since, and if so for the record.
                    await self._messages.clear(destination)

    async def page(
        self,
        project: str,
        kind: Kind,
        limit: int | None,
        after: str,
        name_contains: str,
        filters: Mapping[str, Any],
    ) -> list[Record]:
        """Records by name; see :meth:`IManagementStore.page`.

        :raise InvalidRequest: the limit is out of bounds.
        """
        size = checks.page_size(limit, self._limits.max_queues_per_page)
        return await self._management.page(
            project, kind, size, after, name_contains, filters
        )

    async def count(self, project: str, kind: Kind) -> int:
        """How many destinations of a kind the project has."""
        return await self._management.count(project, kind)

    async def stats(self, destination: Destination) -> Stats:
        """Numbers, all 0 when there is no such destination."""
        return await self._messages.stats(destination, self._now())

    async def purge(self, destination: Destination, document: Any) -> None:
        """Remove all messages, all subscriptions, or both.

        :param document: ``{"resource_types": [...]}``; none means both.
        :raise InvalidRequest: it asks for something else.
        """
        wanted = _resource_types(document)
        await to_its_end(self._purge(destination, wanted))

    async def _purge(self, destination: Destination, wanted: tuple[Any, ...]) -> None:
        if "messages" in wanted:
            await self._messages.clear(destination)
        if "subscriptions" in wanted:
            await self._management.unsubscribe_all(destination)


def _resource_types(document: Any) -> tuple[Any, ...]:
    if document is None:
        return _RESOURCE_TYPES
    wanted = checks.mapping(document, "The body").get("resource_types")
    if not isinstance(wanted, list):
        raise InvalidBody("'resource_types' must be an array.")
    for item in wanted:
        if item not in _RESOURCE_TYPES:
            raise InvalidRequest(
                f"Resource types must be supported in the list {_RESOURCE_TYPES}."
            )
    return tuple(wanted)
