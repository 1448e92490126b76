"""Commands on one connection to a MongoDB server, and what their replies mean."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
)
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.error import ConnectionClosed
from txmongo.protocol import Msg

from mqsvc.storage.mongodb_uri import Address

Document = Mapping[str, Any]

MAX_INSERT_BYTES = 8_000_000
"""Of bodies in one insert command; a command may have 16 MB and a little more."""

MAX_INSERT_DOCUMENTS = 1000

_TRANSIENT = frozenset(
    (6, 7, 50, 64, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436)
)
"""Codes of a server that is going down, is no primary, or has lost its majority."""

_DUPLICATE = 11000

_EARLY = {"writeConcern": {"w": 1}}
"""For what only lasts together with the commit that comes after it."""


class Interrupted(Exception):
    """A command got no answer that counts; it may or may not have been carried out."""


async def together(*questions: Coroutine[Deferred[Any], Any, Any]) -> list[Any]:
    """The answers to questions that are sent without waiting for one another.

    Those on one connection are answered by the server in their order.
    """
    asked = [Deferred.fromCoroutine(question) for question in questions]
    try:
        return list(await gatherResults(asked, consumeErrors=True))
    except FirstError as error:
        error.subFailure.raiseException()
        raise


class Connection:
    """Commands on one connection, run by the server one after the other.

    :ivar sent: how many commands were sent.
    """

    def __init__(self, protocol: Any, address: Address) -> None:
        self.protocol = protocol
        self._address = address
        self.sent = 0

    @property
    def server(self) -> tuple[str, int]:
        """Host and port at the other end."""
        peer = self.protocol.transport.getPeer()
        return peer.host, peer.port

    async def command(self, name: str, target: object, **body: Any) -> dict[str, Any]:
        """Run one; gives the reply.

        :raise Interrupted: there was no reply, or it says that its effect may not
            last.
        :raise OperationFailure: the server refuses it.
        """
        self.sent += 1
        message = Msg.create({name: target, **body, "$db": self._address.database})
        try:
            reply: dict[str, Any] = await self.protocol.send_msg(
                message, DEFAULT_CODEC_OPTIONS, None
            )
        except (ConnectionFailure, ConnectionClosed) as error:
            raise Interrupted(str(error)) from error
        except OperationFailure as error:
            if error.code in _TRANSIENT:
                raise Interrupted(str(error)) from error
            raise
        _check_writes(reply)
        return reply

    async def read(
        self, collection: str, key: Any, without: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        """One document by its ``_id``, as a majority has it, less some fields."""
        body: dict[str, Any] = {"filter": {"_id": key}, "limit": 1}
        if without:
            body["projection"] = dict.fromkeys(without, 0)
        found = await self._find(collection, body, self._address.read_concern)
        return found[0] if found else None

    async def find(
        self,
        collection: str,
        query: Document,
        *,
        sort: Document | None = None,
        limit: int = 0,
        fields: Sequence[str] | None = None,
        index: str | None = None,
    ) -> list[dict[str, Any]]:
        """All documents that a query finds, as the server has them."""
        optional = {
            "sort": sort,
            "limit": limit,
            "hint": index,
            "projection": fields and dict.fromkeys(fields, 1),
        }
        body = {name: value for name, value in optional.items() if value}
        body |= {"filter": query, "batchSize": limit or 1000}
        return await self._find(collection, body, {"level": "local"})

    async def _find(
        self, collection: str, body: Document, concern: Document
    ) -> list[dict[str, Any]]:
        reply = await self.command("find", collection, **body, readConcern=concern)
        return await self._all_of(reply, collection)

    async def _all_of(
        self, reply: dict[str, Any], collection: str
    ) -> list[dict[str, Any]]:
        """What a reply has the first of."""
        cursor = reply["cursor"]
        found: list[dict[str, Any]] = cursor["firstBatch"]
        while cursor["id"]:
            more = await self.command("getMore", cursor["id"], collection=collection)
            cursor = more["cursor"]
            found += cursor["nextBatch"]
        return found

    async def count(self, collection: str, query: Document, index: str) -> int:
        """How many documents a query finds, as the server has them."""
        found = await self.grouped(collection, query, {"$count": "n"}, index)
        return found[0]["n"] if found else 0

    async def grouped(
        self, collection: str, query: Document, stage: Document, index: str
    ) -> list[dict[str, Any]]:
        """What the server makes of all documents that a query finds."""
        reply = await self.command(
            "aggregate",
            collection,
            pipeline=[{"$match": query}, stage],
            cursor={},
            hint=index,
        )
        return await self._all_of(reply, collection)

    async def insert(self, collection: str, documents: Sequence[Document]) -> None:
        """Store new documents; a later :meth:`update_one` makes them last.

        :raise DuplicateKeyError: one is there already.
        """
        for part in _parts(documents):
            await self.command("insert", collection, documents=part, **_EARLY)

    async def update_one(self, collection: str, query: Document, to: Document) -> bool:
        """Change one document, made to last with everything before it.

        :return: whether there was one.
        """
        reply = await self.command(
            "update",
            collection,
            updates=[{"q": query, "u": to}],
            writeConcern=self._address.write_concern,
        )
        return bool(reply["n"])

    async def replace(
        self, collection: str, query: Document, to: Document, without: Sequence[str]
    ) -> dict[str, Any] | None:
        """As :meth:`update_one`; gives the document as it is then, less some fields."""
        reply = await self.command(
            "findAndModify",
            collection,
            query=query,
            update=to,
            new=True,
            fields=dict.fromkeys(without, 0),
            writeConcern=self._address.write_concern,
        )
        changed: dict[str, Any] | None = reply["value"]
        return changed

    async def update_many(
        self, collection: str, updates: Sequence[tuple[Document, Document]]
    ) -> None:
        """Carry out updates, each on all documents that its query finds."""
        if updates:
            statements = [{"q": q, "u": to, "multi": True} for q, to in updates]
            await self.command("update", collection, updates=statements, **_EARLY)

    async def discard(self, collection: str, query: Document) -> None:
        """Delete all documents that a query finds; may be undone by a crash."""
        statement = {"q": query, "limit": 0}
        await self.command("delete", collection, deletes=[statement], **_EARLY)

    async def delete(self, collection: str, query: Document) -> None:
        """Delete all documents that a query finds, so that no later one finds them."""
        statement = {"q": query, "limit": 0}
        concern = self._address.write_concern
        await self.command(
            "delete", collection, deletes=[statement], writeConcern=concern
        )

    async def make_indexes(self, collection: str, indexes: Sequence[Document]) -> None:
        """Make sure that a collection has these."""
        await self.command(
            "createIndexes",
            collection,
            indexes=list(indexes),
            writeConcern=self._address.write_concern,
        )

    async def settle(self, collection: str) -> None:
        """Wait until all that the server has now will last."""
        # An update that finds nothing waits for everything before it.
        await self.update_one(collection, {"_id": None}, {"$unset": {"none": ""}})


def _parts(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """The same documents in lists that fit into a command."""
    part: list[Document] = []
    size = 0
    for document in documents:
        bytes_here = len(document.get("body", b""))
        full = len(part) == MAX_INSERT_DOCUMENTS or size + bytes_here > MAX_INSERT_BYTES
        if part and full:
            yield part
            part, size = [], 0
        part.append(document)
        size += bytes_here
    if part:
        yield part


def _check_writes(reply: dict[str, Any]) -> None:
    """A write may be refused inside of a reply that is otherwise well."""
    for error in reply.get("writeErrors", ()):
        if error["code"] in _TRANSIENT:
            raise Interrupted(error["errmsg"])
        if error["code"] == _DUPLICATE:
            raise DuplicateKeyError(error["errmsg"], error["code"], reply)
        raise OperationFailure(error["errmsg"], error["code"], reply)
    if "writeConcernError" in reply:
        raise Interrupted(reply["writeConcernError"].get("errmsg", "no majority"))
