"""How messages come into the embedded message store, at the end of destinations."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from attrs import define, frozen

from mqsvc.messaging.model import Destination, NewMessage
from mqsvc.storage.ids import first_position, format_id
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_rows import client_number, name_of
from mqsvc.storage.messages.sqlite_schema import DELAYED, READY

MAX_ROWS = 16
"""Messages that one statement inserts: as many forms of it are kept prepared."""


@define
class End:
    """Where the next message of a destination goes; as stored, and as it will be.

    :ivar client: who posted last.
    :ivar run: of that client's messages.
    :ivar count: how many messages have come since it was stored.
    :ivar size: how many bytes of bodies.
    """

    rowid: int
    position: int
    client: int
    run: int
    count: int = 0
    size: int = 0

    def take(self, sizes: Sequence[int], client: int) -> range:
        """Make room for bodies of these sizes: the positions that are now taken.

        :param client: who posted all of them, or :data:`NOBODY`.
        """
        if client != self.client:
            self.client, self.run = client, self.position
        start = self.position
        self.position += len(sizes)
        self.count += len(sizes)
        self.size += sum(sizes)
        return range(start, self.position)

    def store(self, connection: sqlite3.Connection) -> None:
        """To be done once all room is taken."""
        values = self.position, self.client, self.run, self.count, self.size
        connection.execute(sql.MOVE_END, (*values, self.rowid))


def find_end(
    connection: sqlite3.Connection, name: tuple[str, str, str], client: int, now: int
) -> End:
    """The end of a destination, which begins now if it is new.

    :param name: as :func:`name_of` gives it.
    """
    found = connection.execute(sql.FIND_END, name).fetchone()
    if found is None:
        connection.execute(sql.BEGIN_DESTINATION, (*name, client, first_position(now)))
        found = connection.execute(sql.FIND_END, name).fetchone()
    return End(*found)


def insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Store messages: each row holds the columns of :data:`sql.NEW`."""
    for start in range(0, len(rows), MAX_ROWS):
        piece = rows[start : start + MAX_ROWS]
        values = [value for row in piece for value in row]
        connection.execute(sql.insert_messages(len(piece)), values)


@frozen
class Post:
    """What is posted in one step.

    :ivar parts: for each destination the messages, and the random parts of their ids.
    """

    parts: Sequence[tuple[Destination, Sequence[NewMessage], Sequence[int]]]
    client_id: str
    now: int


def post(connection: sqlite3.Connection, posts: Sequence[Post]) -> list[list[str]]:
    """Append messages; of each post the ids in its first destination."""
    ends: dict[tuple[str, str, str], End] = {}
    rows: list[tuple[Any, ...]] = []
    ids = [_append(connection, each, ends, rows) for each in posts]
    for end in ends.values():
        end.store(connection)
    insert(connection, rows)
    return ids


def _append(
    connection: sqlite3.Connection,
    posted: Post,
    ends: dict[tuple[str, str, str], End],
    rows: list[tuple[Any, ...]],
) -> list[str]:
    """Give messages their places, the ids of the first part; their rows are added."""
    client, now = client_number(posted.client_id), posted.now
    ids: list[list[str]] = []
    for destination, messages, randoms in posted.parts:
        name = name_of(destination)
        if name not in ends:
            ends[name] = find_end(connection, name, client, now)
        end = ends[name]
        positions = end.take([len(message.body) for message in messages], client)
        rows += [
            (
                end.rowid,
                position,
                random,
                DELAYED if message.delay else READY,
                now + message.delay * 1000 if message.delay else 0,
                now + message.ttl * 1000,
                now,
                message.ttl,
                client,
                end.run,
                0,
                message.body,
            )
            for message, position, random in zip(
                messages, positions, randoms, strict=True
            )
        ]
        ids.append(list(map(format_id, positions, randoms)))
    return ids[0]
