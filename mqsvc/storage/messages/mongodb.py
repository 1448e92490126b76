"""The MongoDB message store: a stand-alone server or a replica set.

What is atomic, and why, is in :mod:`~mqsvc.storage.messages.mongodb_ledger`; here each
method becomes a look there, or a part of a step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mqsvc.entropy import random_bits
from mqsvc.messaging.errors import ClaimDoesNotExist, StoreUnavailable
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.ids import RandomBits
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages import mongodb_steps as steps
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, together
from mqsvc.storage.messages.mongodb_draft import Part
from mqsvc.storage.messages.mongodb_lanes import Attempt, Calls, Lanes
from mqsvc.storage.messages.mongodb_ledger import Ledger, Overtaken, Plan, Question
from mqsvc.storage.messages.mongodb_notes import Step, View
from mqsvc.storage.messages.mongodb_parts import Append, Delete, Lend, Pop
from mqsvc.storage.messages.mongodb_pauses import Pauses
from mqsvc.storage.messages.mongodb_schema import INDEXES
from mqsvc.storage.messages.mongodb_sweep import Sweep
from mqsvc.storage.mongodb_uri import read_uri

Result = TypeVar("Result")


def open_mongodb_messages(uri: str, reactor: IReactorTime) -> MongoMessageStore:
    """A store on a server or replica set that is ready to be started.

    :param uri: ``mongodb://[user:password@]host[:port][,host...]/database[?options]``.
    :raise StoreOpenError: the URI cannot be used; the text says why. Whether a server
        answers only shows when the store is used.
    """
    client = MongoClient(read_uri(uri), INDEXES, reactor)
    return MongoMessageStore(client, reactor, random_bits)


@implementer(IMessageStore)
class MongoMessageStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IMessageStore`.

    :param clock: for pauses and for the time that a call may take.
    :param random_bits: where the unguessable part of ids comes from.
    """

    name = "messages"

    def __init__(
        self, client: MongoClient, clock: IReactorTime, random_bits: RandomBits
    ) -> None:
        self._client = client
        self._random_bits = random_bits
        pauses = Pauses(clock, lambda: random_bits(16) / 2**16)
        self._ledger = Ledger(client, pauses)
        self._calls = Calls(pauses, clock)
        self._lanes = Lanes(self._ledger, self._calls, clock)

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()
        self._client.start()

    def stopService(self) -> Deferred[None]:
        """Fires when everything asked for is done and the connections are closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._calls.over()
        await self._client.stop()

    def _call(self, attempt: Attempt[Result]) -> Deferred[Result]:
        return self._calls.run(attempt) if self.running else fail(StoreUnavailable())

    def _look(
        self, destination: Destination, question: Question[Result], nothing: Result
    ) -> Deferred[Result]:
        async def look() -> Result:
            return await self._ledger.look(destination, question, nothing)

        async def attempt() -> Result:
            try:
                return await look()
            except Overtaken:
                # At least nobody in this process shall come in between.
                return await self._lanes.alone(destination, look)

        return self._call(lambda: self._lanes.delivering(attempt))

    def _join(self, destination: Destination, part: Part) -> Deferred[Any]:
        if not self.running:
            return fail(StoreUnavailable())
        return self._lanes.join(destination, part)

    def _alone(self, destination: Destination, plan: Plan, now: int) -> Deferred[Any]:
        if not self.running:
            return fail(StoreUnavailable())
        return self._lanes.alone(
            destination, lambda: self._ledger.change(destination, plan, now)
        )

    def ping(self) -> Deferred[None]:
        """See :class:`IMessageStore`, as for every method below."""
        return self._call(self._ping)

    async def _ping(self) -> None:
        connection = await self._client.connection()
        await connection.command("ping", 1)

    def sweep(self, now: int) -> Deferred[bool]:
        """Correct and delete a bounded amount."""
        sweep = Sweep(self._client, self._ledger, self._lanes, now)
        return self._call(sweep.run)

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages."""
        part = Append.posted(messages, client_id, now, self._random_bits, also)
        return self._join(destination, part)

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""

        async def question(connection: Connection, view: View) -> list[Message]:
            rows = await queries.page(connection, view, selection, now)
            return queries.messages_of(rows)

        return self._look(destination, question, [])

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""

        async def question(connection: Connection, view: View) -> list[Message]:
            rows = await queries.by_id(connection, view, message_ids, now)
            return queries.messages_of(rows)

        return self._look(destination, question, [])

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        return self._join(destination, Delete(message_ids, claim_ids, now))

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete."""
        return self._join(destination, Pop(limit, now))

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend messages."""
        term = steps.Term(ttl, grace, now)
        part = Lend(term, limit, dead_letter, self._random_bits)
        return self._join(destination, part)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""

        async def question(connection: Connection, view: View) -> Claim | None:
            claim, rows = await queries.claim_and_rows(connection, view, claim_id, now)
            if claim is None:
                return None
            messages = tuple(queries.messages_of(rows))
            return Claim(claim_id, claim["ttl"], claim["created"], messages)

        return self._look(destination, question, None).addCallback(_existing)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Move the end of a claim."""
        term = steps.Term(ttl, grace, now)
        renewed = self._alone(
            destination, lambda c, v: steps.renew(c, v, claim_id, term), now
        )
        return renewed.addCallback(_existing).addCallback(lambda _: None)

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> Deferred[None]:
        """End a claim."""
        return self._alone(
            destination,
            lambda c, v: steps.release(c, v, claim_id, now, undelivered),
            now,
        )

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Counts and ends."""

        async def question(connection: Connection, view: View) -> Stats:
            (expired, freed), (oldest, newest) = await together(
                queries.unswept(connection, view, now),
                queries.ends(connection, view, now),
            )
            claimed = view.claimed - freed
            return Stats(claimed, view.total - expired - claimed, oldest, newest)

        return self._look(destination, question, Stats())

    def clear(self, destination: Destination) -> Deferred[None]:
        """Forget everything of a destination; sweeps delete it."""

        async def plan(_: Connection, __: View) -> Step:
            return Step(forget=True)

        # Nothing is stored, so no moment is needed.
        return self._alone(destination, plan, 0)

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """The next end of a delay or claim."""
        return self._look(destination, lambda c, v: queries.next_ready(c, v, now), None)

    def stored_bytes(self, project: str) -> Deferred[int]:
        """The bytes of a project."""

        async def attempt() -> tuple[int, list[Destination]]:
            connection = await self._client.connection()
            return await queries.bytes_of_project(connection, project)

        async def kept(_: Connection, view: View) -> int:
            return view.bytes

        async def counted() -> int:
            settled, unsettled = await self._call(attempt)
            # A look there brings what is underway to its end.
            looks = [self._look(each, kept, 0) for each in unsettled]
            return settled + sum([await look for look in looks])

        return Deferred.fromCoroutine(counted())

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """One page of everything."""
        everything = Selection(limit, after, include_claimed=True, include_delayed=True)

        async def question(connection: Connection, view: View) -> list[StoredMessage]:
            rows = await queries.page(connection, view, everything, now)
            return [queries.stored_of(row, now) for row in rows]

        return self._look(destination, question, [])

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept."""
        kept = [stored for stored in messages if stored.expires > now]
        if self.running and not kept:
            return succeed([])
        return self._join(destination, Append.restored(kept, now, self._random_bits))


def _existing(found: Result | None) -> Result:
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    return found
