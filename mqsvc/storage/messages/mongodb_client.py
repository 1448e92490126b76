"""Connections to a MongoDB server or replica set.

txmongo keeps connections to the primary and finds it again when it moves. Commands
are given on one :class:`Connection`, so that what belongs together runs on one server
and in order; a connection that breaks is :class:`Interrupted`, and the caller, who
knows what may be repeated, decides what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from attrs import frozen
from pymongo.errors import ConnectionFailure
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IReactorTime

from mqsvc.storage.messages.mongodb_commands import Connection, Document, Interrupted
from mqsvc.storage.mongodb_connections import Connections
from mqsvc.storage.mongodb_uri import Address

POOL_SIZE = 12
"""Connections to the primary at most. A server runs the commands of one in order."""


@frozen
class Place:
    """A server as it was at a moment, so that what was found there can be trusted.

    :ivar server: its host and port.
    :ivar moment: a number that is higher for what is later.
    """

    server: tuple[str, int]
    moment: int


class MongoClient:
    """The connections of one process to a server or replica set.

    :param indexes: for each collection its indexes, as for ``createIndexes``.
    :param clock: for the time that somebody may wait for a connection.
    """

    def __init__(
        self,
        address: Address,
        indexes: Mapping[str, Sequence[Document]],
        clock: IReactorTime,
    ) -> None:
        self._address = address
        self._indexes = indexes
        self._clock = clock
        self._pool: Any = None
        self._prepared = False
        self._moments = count()
        self._since: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def start(self) -> None:
        """Begin to connect, and go on until it works."""
        self._prepared = False
        size = min(self._address.connections or POOL_SIZE, POOL_SIZE)
        self._pool = Connections(self._address, size, self._clock)

    async def stop(self) -> None:
        """Disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.disconnect()

    async def connection(self) -> Connection:
        """A connection to the primary, when there is one.

        :raise Interrupted: it broke while it was made.
        :raise StoreUnavailable: there is nobody to connect to.
        """
        try:
            protocol = await self._pool.getprotocol()
        except (ConnectionFailure, ConnectionClosed, ConnectError) as error:
            raise Interrupted(str(error)) from error
        connection = self._connection(protocol)
        if protocol not in self._since:
            await self._welcome(protocol, connection)
        return connection

    def place(self, connection: Connection) -> Place:
        """The server of a connection, now."""
        return Place(connection.server, next(self._moments))

    def leads_to(self, connection: Connection, place: Place) -> bool:
        """Whether a connection sees all that was to be seen at a place.

        A server that restarts, or undoes what no majority has, closes all of its
        connections: one that is older than the place would not have survived that.
        """
        since = self._since.get(connection.protocol)
        return (
            since is not None
            and since < place.moment
            and connection.server == place.server
        )

    def _connection(self, protocol: Any) -> Connection:
        return Connection(protocol, self._address)

    async def _welcome(self, protocol: Any, connection: Connection) -> None:
        # Several commands are sent at once: the second may not wait for the
        # acknowledgement of the first.
        protocol.transport.setTcpNoDelay(True)
        if not self._prepared:
            for collection, indexes in self._indexes.items():
                await connection.make_indexes(collection, indexes)
            self._prepared = True
        # A new primary may not know yet of all that it has that a majority has it too.
        await connection.settle(next(iter(self._indexes)))
        self._since.setdefault(protocol, next(self._moments))
