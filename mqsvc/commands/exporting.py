"""From the stores to the lines of an export, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from attrs import field, frozen

from mqsvc.clock import Now
from mqsvc.commands.interruption import Interruption
from mqsvc.commands.lines import (
    HEADER,
    End,
    FlavorLine,
    Line,
    MessageLine,
    PoolLine,
    SubscriptionLine,
    encode,
    line_of_record,
)
from mqsvc.commands.progress import Advance
from mqsvc.messaging.audience import CONNECTION
from mqsvc.messaging.model import NAMEABLE, Destination, Kind, Record
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.wiring import Backends

Item = TypeVar("Item")
Mark = TypeVar("Mark")

PAGE = 100
"""Items that are in memory at a time, at most."""


async def _pages(
    read: Callable[[Mark], Awaitable[list[Item]]],
    mark_of: Callable[[Item], Mark],
    start: Mark,
) -> AsyncIterator[list[Item]]:
    """All pages that a paged method gives.

    :param read: a page behind a mark.
    :param start: what the first page is behind.
    """
    while page := await read(start):
        yield page
        start = mark_of(page[-1])


def _all_records(management: IManagementStore) -> AsyncIterator[list[Record]]:
    return _pages(
        lambda after: management.records(PAGE, after),
        lambda record: record.destination,
        None,
    )


def _records_of(
    management: IManagementStore, project: str, kind: Kind
) -> AsyncIterator[list[Record]]:
    return _pages(
        lambda after: management.page(project, kind, PAGE, after),
        lambda record: record.destination.name,
        "",
    )


async def records(
    management: IManagementStore, project: str | None
) -> AsyncIterator[Record]:
    """The records of one project, or of all."""
    if project is None:
        parts = [_all_records(management)]
    else:
        parts = [_records_of(management, project, kind) for kind in NAMEABLE]
    for part in parts:
        async for page in part:
            for record in page:
                yield record


async def count_messages(stores: Backends, project: str | None, now: Now) -> int:
    """How many messages an export would hold, for whoever watches it."""
    total = 0
    async for record in records(stores.management, project):
        total += (await stores.messages.stats(record.destination, now())).total
    return total


@frozen(kw_only=True)
class Exporter:
    """One export.

    :ivar _write: appends to the file; fires when there is room for more.
    :ivar _project: the only one to be exported; none is all of them.
    :ivar _has_messages: whether messages are exported at all.
    :ivar _advance: told how many more messages were written.
    """

    _stores: Backends
    _now: Now
    _interruption: Interruption
    _advance: Advance
    _write: Callable[[bytes], Awaitable[None]]
    _project: str | None = None
    _has_messages: bool = True
    _counts: End = field(factory=End, init=False)

    async def run(self) -> End:
        """Write everything, and fire with what it was.

        :raise Interrupted: not all of it was written.
        """
        await self._append(encode(HEADER))
        if self._project is None and self._stores.has_pools:
            await self._pools()
        async for record in records(self._stores.management, self._project):
            await self._record(record)
        await self._append(encode(self._counts))
        return self._counts

    async def _pools(self) -> None:
        management = self._stores.management
        async for pools in _pages(
            lambda after: management.pools(PAGE, after), lambda pool: pool.name, ""
        ):
            await self._lines(map(PoolLine.of, pools))
        async for flavors in _pages(
            lambda after: management.flavors(PAGE, after),
            lambda flavor: flavor.name,
            "",
        ):
            await self._lines(map(FlavorLine.of, flavors))

    async def _record(self, record: Record) -> None:
        await self._lines([line_of_record(record, self._stores.has_pools)])
        await self._subscriptions(record.destination)
        if self._has_messages:
            await self._messages(record.destination)

    async def _subscriptions(self, destination: Destination) -> None:
        management = self._stores.management
        async for page in _pages(
            lambda after: management.subscriptions(
                destination, PAGE, after, self._now()
            ),
            lambda subscription: subscription.id,
            "",
        ):
            # Where it goes to there are no connections of this server.
            kept = [each for each in page if not each.subscriber.startswith(CONNECTION)]
            await self._lines(map(SubscriptionLine.of, kept))

    async def _messages(self, destination: Destination) -> None:
        messages = self._stores.messages
        async for page in _pages(
            lambda after: messages.stored(destination, PAGE, after, self._now()),
            lambda stored: stored.message.id,
            None,
        ):
            await self._lines(map(MessageLine.of, page))
            self._advance(len(page))

    async def _lines(self, lines: Iterable[Line]) -> None:
        encoded = []
        for line in lines:
            encoded.append(encode(line))
            self._counts.count(line)
        await self._append(b"".join(encoded))

    async def _append(self, data: bytes) -> None:
        self._interruption.check()
        await self._write(data)
