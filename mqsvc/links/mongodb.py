"""A line through MongoDB: a small capped collection whose end is followed.

It works on a stand-alone server as on a replica set. One connection waits for what is
new, the other one speaks, since a server runs the commands of one in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pymongo.errors import OperationFailure
from twisted.internet.defer import Deferred
from twisted.logger import Logger
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

    log = Logger()

    def __init__(self, address: Address, reactor: Any) -> None:
        self._address = address
        self._reactor = reactor
        self._speaker: Any = None

    def __str__(self) -> str:
        """For the log."""
        return f"MongoDB at {self._address.hosts}"

    async def follow(
        self, begin: Callable[[], None], hear: Callable[[bytes], None]
    ) -> None:
        """See :class:`~mqsvc.links.remote.Line`, as for what follows."""
        pools = [Connections(self._address, 1, self._reactor) for _ in range(2)]
        try:
            speaker, listener = [
                Connection(await pool.getprotocol(), self._address) for pool in pools
            ]
            await _make(listener)
            # One that is empty cannot be followed.
            await _insert(speaker, b"")
            cursor = await _to_the_end(listener)
            self._speaker = speaker
            begin()
            while True:
                cursor, batch = await _next(listener, cursor)
                for document in batch:
                    hear(document["news"])
        finally:
            self._speaker = None
            for pool in pools:
                await pool.disconnect()

    def say(self, data: bytes) -> None:
        """Inserted, and not waited for."""
        if self._speaker is not None:
            step = Deferred.fromCoroutine(_insert(self._speaker, data))
            step.addErrback(self._not_said)

    def _not_said(self, failure: Failure) -> None:
        # The listener, at the same server, finds out whether it is worth going on.
        if self._speaker is not None:
            self.log.warn("A signal was not sent: {error}", error=failure.value)


async def _make(connection: Connection) -> None:
    try:
        await connection.command("create", COLLECTION, capped=True, size=BYTES)
    except OperationFailure as error:
        if error.code != _EXISTS:
            raise


async def _insert(connection: Connection, data: bytes) -> None:
    await connection.command(
        "insert", COLLECTION, documents=[{"news": data}], writeConcern=_TO_LAST
    )


async def _to_the_end(connection: Connection) -> int:
    """A cursor behind everything that was there."""
    reply = await connection.command(
        *("find", COLLECTION), tailable=True, awaitData=True, batchSize=1000
    )
    cursor: int = reply["cursor"]["id"]
    batch: Sequence[Document] = reply["cursor"]["firstBatch"]
    while batch:
        cursor, batch = await _next(connection, cursor)
    return cursor


async def _next(connection: Connection, cursor: int) -> tuple[int, Sequence[Document]]:
    """The same cursor, and what is new behind it."""
    if not cursor:
        raise Ended("too much was said at once")
    reply = await connection.command(
        *("getMore", cursor), collection=COLLECTION, maxTimeMS=AWAIT_MILLISECONDS
    )
    return reply["cursor"]["id"], reply["cursor"]["nextBatch"]
