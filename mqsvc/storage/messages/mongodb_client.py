"""Commands to a MongoDB server: the only module that touches txmongo.

txmongo keeps connections to the primary and finds it again when it moves. Commands
are given as documents on one :class:`Connection`, so that what belongs together runs
on one server and in order; a connection that breaks is :class:`Interrupted`, and the
caller, who knows what may be repeated, decides what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
)
from pymongo.uri_parser import parse_uri
from twisted.internet.error import ConnectError, ConnectionClosed

from mqsvc.storage.errors import StoreOpenError

Document = Mapping[str, Any]

POOL_SIZE = 6
"""Connections to the primary. A server runs the commands of one in their order."""

RECONNECT_SECONDS = 1.0
PING_SECONDS = 2
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

_DEFAULT_DATABASE = "mqsvc"


class Interrupted(Exception):
    """A command got no answer that counts; it may or may not have been carried out."""


class MongoSettings:
    """What a URI says, checked.

    :ivar database: the one named, or ``mqsvc``.
    :ivar write_concern: for changes, as a document.
    :ivar read_concern: ``majority``, unless writes do not wait for one.
    """

    def __init__(self, uri: str) -> None:
        options = _options(uri)
        self.uri = uri
        self.database: str = options.pop("database") or _DEFAULT_DATABASE
        self.write_concern: dict[str, Any] = {
            "w": options.get("w", "majority"),
            "j": options.get("journal", options.get("j", True)),
            "wtimeout": options.get("wtimeoutms", 8000),
        }
        majority = self.write_concern["w"] == "majority"
        self.read_concern = {"level": "majority" if majority else "local"}


def _options(uri: str) -> dict[str, Any]:
    """The options of a URI by their names in small letters, and its database."""
    if uri.startswith("mongodb+srv:"):
        raise StoreOpenError("name the servers themselves: mongodb://host1,host2/name")
    try:
        parsed = parse_uri(uri)
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StoreOpenError(f"this is no MongoDB URI: {error}") from error
    options = {name.lower(): value for name, value in parsed["options"].items()}
    if options.get("tls") or options.get("ssl"):
        raise StoreOpenError("TLS to MongoDB is not supported: use a local tunnel")
    if options.get("authmechanism", "SCRAM-SHA-1") != "SCRAM-SHA-1":
        raise StoreOpenError("only authMechanism=SCRAM-SHA-1 is supported")
    if parsed["username"] and not parsed["database"]:
        raise StoreOpenError("name the database too: mongodb://user:password@host/name")
    return {**options, "database": parsed["database"]}


class Connection:
    """Commands on one connection, run by the server one after the other."""

    def __init__(self, protocol: Any, settings: MongoSettings) -> None:
        self._protocol = protocol
        self._settings = settings

    async def command(self, name: str, target: object, **body: Any) -> dict[str, Any]:
        """Run one; gives the reply.

        :raise Interrupted: there was no reply, or it says that its effect may not
            last.
        :raise OperationFailure: the server refuses it.
        """
        from txmongo.protocol import (  # noqa: PLC0415
            Msg,
        )

        message = Msg.create({name: target, **body, "$db": self._settings.database})
        try:
            reply: dict[str, Any] = await self._protocol.send_msg(
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
        """All documents that a query finds."""
        body: dict[str, Any] = {"filter": query, "batchSize": limit or 1000}
        body["readConcern"] = self._settings.read_concern
        optional = {
            "sort": sort,
            "limit": limit,
            "hint": index,
            "projection": fields and dict.fromkeys(fields, 1),
        }
        body.update({name: value for name, value in optional.items() if value})
        cursor = (await self.command("find", collection, **body))["cursor"]
        found: list[dict[str, Any]] = cursor["firstBatch"]
        while cursor["id"]:
            more = await self.command("getMore", cursor["id"], collection=collection)
            cursor = more["cursor"]
            found += cursor["nextBatch"]
        return found

    async def count(self, collection: str, query: Document, index: str) -> int:
        """How many documents a query finds."""
        reply = await self.command(
            "aggregate",
            collection,
            pipeline=[{"$match": query}, {"$count": "n"}],
            cursor={},
            hint=index,
            readConcern=self._settings.read_concern,
        )
        batch = reply["cursor"]["firstBatch"]
        return batch[0]["n"] if batch else 0

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
            writeConcern=self._settings.write_concern,
        )
        return bool(reply["n"])

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
        concern = self._settings.write_concern
        await self.command(
            "delete", collection, deletes=[statement], writeConcern=concern
        )


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


class MongoClient:
    """The connections of one process to a server or replica set.

    :param indexes: for each collection its indexes, as for ``createIndexes``.
    """

    def __init__(
        self, settings: MongoSettings, indexes: Mapping[str, Sequence[Document]]
    ) -> None:
        self._settings = settings
        self._indexes = indexes
        self._pool: Any = None
        self._prepared = False

    def start(self) -> None:
        """Begin to connect, and go on until it works."""
        from txmongo.connection import (  # noqa: PLC0415
            ConnectionPool,
        )

        self._prepared = False
        self._pool = ConnectionPool(
            self._settings.uri,
            pool_size=POOL_SIZE,
            retry_delay=RECONNECT_SECONDS,
            max_delay=RECONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS * 2,
        )

    async def stop(self) -> None:
        """Disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.disconnect()

    async def connection(self) -> Connection:
        """A connection to the primary, when there is one.

        :raise Interrupted: it broke while it was made.
        """
        try:
            protocol = await self._pool.getprotocol()
        except (ConnectionFailure, ConnectionClosed, ConnectError) as error:
            raise Interrupted(str(error)) from error
        if protocol is None:
            raise Interrupted("the connection is lost again")
        connection = Connection(protocol, self._settings)
        if not self._prepared:
            await self._prepare(connection)
        return connection

    async def _prepare(self, connection: Connection) -> None:
        for collection, indexes in self._indexes.items():
            await connection.command(
                "createIndexes",
                collection,
                indexes=list(indexes),
                writeConcern=self._settings.write_concern,
            )
        self._prepared = True
