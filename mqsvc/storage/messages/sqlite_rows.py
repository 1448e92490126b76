"""Rows of the embedded message store, and what is done with them everywhere."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mqsvc.messaging.model import Destination, Message
from mqsvc.storage.ids import format_id
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_schema import CLAIMED

CLIENTS_KNOWN = 4096

NOBODY = -1
"""In place of a client's number, where it is not known who posted."""


class Row(NamedTuple):
    """The columns of :data:`sql.COLUMNS`."""

    rowid: int
    position: int
    random: int
    state: int
    ready_at: int
    expires: int
    body: bytes
    ttl: int
    created: int
    claim: str | None
    claim_count: int
    client: int

    @property
    def size(self) -> int:
        """Bytes of its body."""
        return len(self.body)


CLIENT = Row._fields.index("client")
"""Where the client is in a row as SQLite gives it."""


class Held(NamedTuple):
    """The columns of :data:`sql.HELD`."""

    rowid: int
    destination: int
    state: int
    ready_at: int
    claim: str | None
    size: int

    def claim_at(self, now: int) -> str | None:
        """The live claim it is under."""
        return self.claim if self.state == CLAIMED and self.ready_at > now else None


def fetch(
    connection: sqlite3.Connection, statement: str, parameters: Mapping[str, Any]
) -> list[Row]:
    """What a reading statement gives."""
    return [Row._make(row) for row in connection.execute(statement, parameters)]


def to_messages(rows: Iterable[tuple[Any, ...]]) -> list[Message]:
    """Rows of :data:`sql.COLUMNS` as callers see them."""
    return [
        Message(format_id(position, random), body, ttl, created, claim, count)
        for _, position, random, _, _, _, body, ttl, created, claim, count, _ in rows
    ]


def name_of(destination: Destination) -> tuple[str, str, str]:
    """A destination as parameters of a statement."""
    return destination.project, destination.kind.value, destination.name


@lru_cache(CLIENTS_KNOWN)
def client_number(client_id: str) -> int:
    """What is kept of the id of a client; never negative."""
    digest = hashlib.blake2b(client_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def find(connection: sqlite3.Connection, destination: Destination) -> int | None:
    """The row id of a destination that was posted to."""
    row = connection.execute(sql.FIND_DESTINATION, name_of(destination)).fetchone()
    return None if row is None else row[0]


def find_due(
    connection: sqlite3.Connection,
    destination: Destination,
    delayed_at: int,
    claimed_at: int,
) -> tuple[int, int, int] | None:
    """The row id, and which of the delayed and the claimed messages may be free.

    For each state, whether any of it is due at its moment.
    """
    found: tuple[int, int, int] | None = connection.execute(
        sql.FIND_DUE, (delayed_at, claimed_at, *name_of(destination))
    ).fetchone()
    return found
