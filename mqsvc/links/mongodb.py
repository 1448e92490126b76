"""A line through MongoDB: a small capped collection whose end is followed.

It works on a stand-alone server as on a replica set. One connection waits for what is
new, the other one speaks, since a server runs the commands of one in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bson import ObjectId
from pymongo.errors import OperationFailure
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from mqsvc.storage.messages.mongodb_commands import Connection, Document
from mqsvc.storage.mongodb_connections import Connections
from mqsvc.storage.mongodb_uri import Address

COLLECTION = "bus"

BYTES = 1_048_576
"""What the collection holds; who is behind by more begins anew."""

AWAIT_MILLISECONDS = 1000
"""How long the server waits for something new before it says that there is nothing."""

_EXISTS = 48

_TO_LAST = {"w": 1, "j": False}


class Ended(Exception):
    """What was read on from is gone."""


class MongoLine:
    """See :class:`~mqsvc.links.remote.Line`."""

    def __init__(self, address: Address, reactor: Any) -> None:
        self._address = address
        self._reactor = reactor
        self._speaker: Speaker | None = None

    def __str__(self) -> str:
        """For the log."""
        return f"MongoDB at {self._address.hosts}"

    async def follow(
        self, begin: Callable[[], None], hear: Callable[[bytes], None]
    ) -> None:
        """See :class:`~mqsvc.links.remote.Line`, as for what follows."""
        pools = [Connections(self._address, 1, self._reactor) for _ in range(2)]
        try:
            one, other = [
                Connection(await pool.getprotocol(), self._address) for pool in pools
            ]
            await _make(other)
            cursor, batch = await _to_the_end(one, other)
            self._speaker = speaker = Speaker(one)
            begin()
            while True:
                for document in batch:
                    if document["news"]:
                        hear(document["news"])
                speaker.check()
                cursor, batch = await _next(other, cursor)
        finally:
            self._speaker = None
            await _closed(pools)

    def say(self, data: bytes) -> None:
        """Inserted, and not waited for."""
        if self._speaker is not None:
            self._speaker.say(data)


class Speaker:
    """Says things on a connection until one of them was not taken."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._failure: Failure | None = None

    def say(self, data: bytes) -> None:
        """Insert it, without an answer."""
        step = Deferred.fromCoroutine(_insert(self.connection, {"news": data}))
        step.addErrback(self._fail)

    def _fail(self, failure: Failure) -> None:
        self._failure = failure

    def check(self) -> None:
        """Fail with what became of something that was said."""
        if self._failure is not None:
            self._failure.raiseException()


async def _closed(pools: Sequence[Connections]) -> None:
    """Close all connections, also for who is told meanwhile to make haste."""
    steps = [pool.disconnect() for pool in pools]
    closing = DeferredList(steps, consumeErrors=True)
    waiter: Deferred[None] = Deferred()
    closing.addCallback(lambda _: waiter.callback(None))
    try:
        await waiter
    except CancelledError:
        await closing
        raise


async def _make(connection: Connection) -> None:
    try:
        await connection.command("create", COLLECTION, capped=True, size=BYTES)
    except OperationFailure as error:
        if error.code != _EXISTS:
            raise


async def _insert(connection: Connection, document: Document) -> None:
    await connection.command(
        "insert", COLLECTION, documents=[document], writeConcern=_TO_LAST
    )


async def _to_the_end(
    speaker: Connection, listener: Connection
) -> tuple[int, Sequence[Document]]:
    """A cursor behind everything that was there, and what it has come upon since."""
    # One that is empty cannot be followed.
    await _insert(speaker, {"news": b""})
    reply = await listener.command(
        *("find", COLLECTION), tailable=True, awaitData=True, batchSize=1000
    )
    cursor, batch = reply["cursor"]["id"], reply["cursor"]["firstBatch"]
    # While others speak there is always something more, so the end has to be marked;
    # with the cursor there already, either it comes upon the mark or it is lost.
    mark = ObjectId()
    await _insert(speaker, {"_id": mark, "news": b""})
    while True:
        ids = [document["_id"] for document in batch]
        if mark in ids:
            return cursor, batch[ids.index(mark) + 1 :]
        cursor, batch = await _next(listener, cursor)


async def _next(connection: Connection, cursor: int) -> tuple[int, Sequence[Document]]:
    """The same cursor, and what is new behind it."""
    if not cursor:
        raise Ended("too much was said at once")
    reply = await connection.command(
        *("getMore", cursor), collection=COLLECTION, maxTimeMS=AWAIT_MILLISECONDS
    )
    return reply["cursor"]["id"], reply["cursor"]["nextBatch"]
