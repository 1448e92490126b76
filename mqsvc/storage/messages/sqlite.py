"""The embedded message store: one SQLite file, one writer, group commit.

What it does on the file is in :mod:`~mqsvc.storage.messages.sqlite_jobs` and the
modules beside it; here each method sends its job to the thread that may run it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from mqsvc.entropy import random_bits
from mqsvc.messaging.errors import MessagingError
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
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, format_id
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.messages import sqlite_jobs as jobs
from mqsvc.storage.messages.sqlite_listing import page
from mqsvc.storage.messages.sqlite_posting import Post, post
from mqsvc.storage.messages.sqlite_schema import MIGRATIONS
from mqsvc.storage.messages.sqlite_sweep import sweep
from mqsvc.storage.messages.sqlite_transfer import restore, stored
from mqsvc.storage.sqlite import Reader, Worker, Writer, migrate
from mqsvc.storage.turns import SharedTurn, Turn


def prepare(path: str) -> None:
    """Make the file or bring it up to date, blocking.

    :raise StoreOpenError: it cannot be used; the text says why.
    """
    migrate(path, MIGRATIONS)


def open_sqlite_messages(
    path: str, reactor: IReactorFromThreads, shared: bool = False
) -> SQLiteMessageStore:
    """A store on a file that is ready to be started; blocking, like :func:`prepare`.

    :param shared: whether other processes may have the file at the same time.
    """
    prepare(path)
    writer = Writer(path, reactor, SharedTurn(path) if shared else Turn())
    return SQLiteMessageStore(writer, Reader(path, reactor), random_bits)


def _acknowledge(refusal: MessagingError | None) -> None:
    if refusal is not None:
        raise refusal


@implementer(IMessageStore)
class SQLiteMessageStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IMessageStore`.

    :param writer: runs what changes the file.
    :param reader: runs what only reads it.
    :param random_bits: where the unguessable part of ids comes from.
    """

    name = "messages"

    def __init__(self, writer: Worker, reader: Worker, random_bits: RandomBits) -> None:
        self._writer = writer
        self._reader = reader
        self._random_bits = random_bits

    def startService(self) -> None:
        """Start the threads."""
        super().startService()
        self._writer.start()
        self._reader.start()

    def stopService(self) -> Deferred[None]:
        """Fires when everything submitted is done and the file is closed."""
        super().stopService()
        stopped = gatherResults([self._reader.stop(), self._writer.stop()])
        return stopped.addCallback(lambda _: None)

    def ping(self) -> Deferred[None]:
        """See :class:`IMessageStore`, as for every method below."""
        return Deferred.fromCoroutine(self._ping())

    async def _ping(self) -> None:
        for worker in (self._reader, self._writer):
            await worker.run(jobs.ping)

    def sweep(self, now: int) -> Deferred[bool]:
        """Correct and delete a bounded amount."""
        return self._writer.run(lambda connection: sweep(connection, now))

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages, and maybe others elsewhere."""
        parts = [(destination, messages, self._randoms(len(messages)))]
        if also is not None:
            randoms = self._randoms(len(also.messages))
            parts.append((also.destination, also.messages, randoms))
        return self._writer.join(post, Post(parts, client_id, now))

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""
        return self._reader.run(
            lambda connection: page(connection, destination, selection, now)
        )

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""
        return self._reader.run(
            lambda connection: jobs.get(connection, destination, message_ids, now)
        )

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        deletion = jobs.Deletion(destination, message_ids, now, claim_ids)
        return self._writer.join(jobs.delete, deletion).addCallback(_acknowledge)

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete."""
        return self._writer.run(
            lambda connection: jobs.pop(connection, destination, limit, now)
        )

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
        claim_id = format_id(now * 1000, self._random_bits(RANDOM_BITS))
        wanted = jobs.Wanted(
            destination,
            claim_id,
            ttl,
            grace,
            limit,
            now,
            dead_letter,
            self._random_bits,
        )
        return self._writer.join(jobs.claim, wanted)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""
        return self._reader.run(
            lambda connection: jobs.get_claim(connection, destination, claim_id, now)
        )

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Move the end of a claim."""
        return self._writer.run(
            lambda connection: jobs.renew(
                connection, destination, claim_id, ttl, grace, now
            )
        )

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> Deferred[None]:
        """End a claim."""
        return self._writer.run(
            lambda connection: jobs.release(
                connection, destination, claim_id, now, undelivered
            )
        )

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Counts and ends."""
        return self._reader.run(
            lambda connection: jobs.stats(connection, destination, now)
        )

    def clear(self, destination: Destination) -> Deferred[None]:
        """Forget everything of a destination."""
        return self._writer.run(lambda connection: jobs.clear(connection, destination))

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """The next end of a delay or claim."""
        return self._reader.run(
            lambda connection: jobs.next_ready(connection, destination, now)
        )

    def stored_bytes(self, project: str) -> Deferred[int]:
        """Bytes of bodies of a project."""
        return self._reader.run(
            lambda connection: jobs.stored_bytes(connection, project)
        )

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """One page of everything."""
        return self._reader.run(
            lambda connection: stored(connection, destination, limit, after, now)
        )

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept."""
        randoms = self._randoms(len(messages))
        return self._writer.run(
            lambda connection: restore(connection, destination, messages, now, randoms)
        )

    def _randoms(self, count: int) -> list[int]:
        """The random parts of so many ids."""
        return [self._random_bits(RANDOM_BITS) for _ in range(count)]
