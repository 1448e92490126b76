"""From the lines of an export to the stores, each line once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import define, field, frozen
from msgspec import UnsetType

from mqsvc.clock import Now
from mqsvc.commands.interruption import Interruption
from mqsvc.commands.lines import (
    DestinationLine,
    End,
    FlavorLine,
    MessageLine,
    PoolLine,
    SubscriptionLine,
)
from mqsvc.commands.progress import Advance
from mqsvc.commands.reading import Entry
from mqsvc.messaging.audience import CONNECTION
from mqsvc.messaging.errors import MessagingError, PoolDoesNotExist
from mqsvc.messaging.model import Destination, Subscription
from mqsvc.wiring import Backends

Read = Callable[[], Awaitable[list[Entry]]]
"""The next lines of the file; none at its end."""

MAX_MESSAGES = 500
MAX_BYTES = 2**20
"""What one step restores at most, beside its last message."""


class ImportRefused(Exception):
    """Nothing was done; the text says why, and what to do."""


class ImportStopped(Exception):
    """A line could not be done; the text says which one and why."""


@frozen
class Wanted:
    """What of a file is to be imported.

    :ivar project: of that one only; none is all of them, and pools and flavors.
    :ivar resume_at: the number of the first line to do.
    :ivar may_append: whether queues that hold messages may get more.
    """

    project: str | None = None
    resume_at: int = 1
    may_append: bool = False

    def includes(self, entry: Entry) -> bool:
        """Whether a line is to be done."""
        if entry.number < self.resume_at:
            return False
        if self.project is None:
            return True
        return (
            entry.destination is not None and entry.destination.project == self.project
        )


@define
class Outcome:
    """What an import did.

    :ivar done: the lines that were done.
    :ivar existing: how many of them found what they are about, and left it as it was.
    :ivar expired: of how many of them the time was over.
    """

    done: End = field(factory=End)
    existing: int = 0
    expired: int = 0


@frozen
class Check:
    """The first way through a file, which changes nothing."""

    _stores: Backends
    _now: Now
    _interruption: Interruption
    _wanted: Wanted

    async def run(self, read: Read) -> End:
        """See that all of a file can be imported.

        :return: fires with how much there is to do.
        :raise ImportRefused: a queue or topic holds messages.
        :raise Interrupted: that was requested.
        """
        counts, unchecked = End(), None
        while batch := await read():
            self._interruption.check()
            for entry in filter(self._wanted.includes, batch):
                counts.count(entry.line)
                if isinstance(entry.line, DestinationLine):
                    unchecked = entry.destination
                elif unchecked is not None and isinstance(entry.line, MessageLine):
                    await self._check_destination(unchecked)
                    unchecked = None
        return counts

    async def _check_destination(self, destination: Destination) -> None:
        if self._wanted.may_append:
            return
        stats = await self._stores.messages.stats(destination, self._now())
        if stats.total:
            kind, name = destination.kind.value, destination.name
            raise ImportRefused(
                f"the {kind} {name} of project {destination.project!r} holds messages "
                f"already ({stats.total}); purge it, or give --append to add those of "
                "the file behind them"
            )


@define
class Importer:
    """The second way through a file, which does what it says.

    :ivar next_line: the number of the first line that is not done.
    :ivar _advance: told how many more messages were read.
    """

    _stores: Backends
    _now: Now
    _interruption: Interruption
    _wanted: Wanted
    _advance: Advance
    outcome: Outcome = field(factory=Outcome, init=False)
    next_line: int = field(default=1, init=False)
    _waiting: list[Entry] = field(factory=list, init=False)
    _waiting_bytes: int = field(default=0, init=False)

    async def run(self, read: Read) -> None:
        """Import a file that was checked.

        :raise ImportStopped: a store refused a line, or did not answer.
        :raise Interrupted: that was requested.
        """
        while batch := await read():
            for entry in filter(self._wanted.includes, batch):
                await self._take(entry)
        await self._restore_waiting()

    async def _take(self, entry: Entry) -> None:
        if not isinstance(entry.line, MessageLine):
            if not self._stores.has_pools and isinstance(
                entry.line, PoolLine | FlavorLine
            ):
                return
            await self._restore_waiting()
            await self._step([entry])
            return
        self._waiting.append(entry)
        self._waiting_bytes += entry.size
        if len(self._waiting) == MAX_MESSAGES or self._waiting_bytes >= MAX_BYTES:
            await self._restore_waiting()

    async def _restore_waiting(self) -> None:
        entries, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if entries:
            await self._step(entries)
            self._advance(len(entries))

    async def _step(self, entries: Sequence[Entry]) -> None:
        """Do one line, or some messages at once; before it one can stop."""
        self.next_line = entries[0].number
        self._interruption.check()
        try:
            await self._do(entries)
        except MessagingError as error:
            reason = error.description or error.title
            raise ImportStopped(f"line {self.next_line}: {reason}") from error
        self.next_line = entries[-1].number + 1
        for entry in entries:
            self.outcome.done.count(entry.line)

    async def _do(self, entries: Sequence[Entry]) -> None:
        match entries[0].line, entries[0].destination:
            case PoolLine() as line, _:
                await self._pool(line)
            case FlavorLine() as line, _:
                await self._flavor(line)
            case DestinationLine() as line, _:
                await self._destination(line)
            case SubscriptionLine() as line, Destination() as destination:
                await self._subscription(line.subscription(destination))
            case MessageLine(), Destination() as destination:
                await self._messages(destination, entries)

    async def _pool(self, line: PoolLine) -> None:
        if await self._stores.management.pool(line.name) is None:
            await self._stores.management.put_pool(line.pool())
        else:
            self.outcome.existing += 1

    async def _flavor(self, line: FlavorLine) -> None:
        if await self._stores.management.flavor(line.name) is None:
            await self._stores.management.put_flavor(line.name, line.pools)
        else:
            self.outcome.existing += 1

    async def _destination(self, line: DestinationLine) -> None:
        if not await self._create(line):
            self.outcome.existing += 1

    async def _create(self, line: DestinationLine) -> bool:
        records, destination = self._stores.records, line.destination
        if self._stores.has_pools and not isinstance(line.pool, UnsetType):
            try:
                return await records.create_in(line.pool, destination, line.metadata)
            except PoolDoesNotExist:
                pass
        return await records.create(destination, line.metadata)

    async def _subscription(self, wanted: Subscription) -> None:
        now = self._now()
        # A connection to the server that wrote the file.
        is_elsewhere = wanted.subscriber.startswith(CONNECTION)
        if is_elsewhere or wanted.expires <= now:
            self.outcome.expired += 1
            return
        kept = await self._stores.management.subscribe(wanted, now)
        self.outcome.existing += kept.id != wanted.id

    async def _messages(
        self, destination: Destination, entries: Sequence[Entry]
    ) -> None:
        stored = [entry.stored for entry in entries if entry.stored is not None]
        ids = await self._stores.messages.restore(destination, stored, self._now())
        self.outcome.expired += len(stored) - len(ids)
