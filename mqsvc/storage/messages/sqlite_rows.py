"""Rows of the embedded message store, and what is done with them everywhere."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mqsvc.messaging.model import Destination, Message
from mqsvc.storage.ids import first_position, format_id
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_schema import CLAIMED

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

    def message(self) -> Message:
        """The message as callers see it."""
        return Message(
            id=format_id(self.position, self.random),
            body=self.body,
            ttl=self.ttl,
            created=self.created,
            claim_id=self.claim,
            claim_count=self.claim_count,
        )

    def claim_at(self, now: int) -> str | None:
        """The live claim it is under."""
        return self.claim if self.state == CLAIMED and self.ready_at > now else None


def fetch(
    connection: sqlite3.Connection, statement: str, **parameters: Any
) -> list[Row]:
    """What a reading statement gives."""
    return [Row._make(row) for row in connection.execute(statement, parameters)]


def to_messages(rows: Iterable[Row]) -> list[Message]:
    """Rows as callers see them."""
    return [row.message() for row in rows]


def rowids(rows: Iterable[Row]) -> str:
    """Row ids as the parameter of a statement."""
    return json.dumps([row.rowid for row in rows])


def name_of(destination: Destination) -> dict[str, str]:
    """A destination as parameters of a statement."""
    return {
        "project": destination.project,
        "kind": destination.kind.value,
        "name": destination.name,
    }


def client_number(client_id: str) -> int:
    """What is kept of the id of a client; never negative."""
    digest = hashlib.blake2b(client_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def find(connection: sqlite3.Connection, destination: Destination) -> int | None:
    """The row id of a destination that was posted to."""
    row = connection.execute(sql.FIND_DESTINATION, name_of(destination)).fetchone()
    return None if row is None else row[0]


def append(
    connection: sqlite3.Connection,
    destination: Destination,
    sizes: Sequence[int],
    client: int,
    now: int,
) -> tuple[int, range, int]:
    """Make room at the end: the row id, the positions that are now taken, the run.

    :param sizes: of the bodies that are coming.
    :param client: who posted all of them, or :data:`NOBODY`.
    """
    [(rowid, end, run)] = connection.execute(
        sql.APPEND,
        {
            **name_of(destination),
            "first": first_position(now),
            "count": len(sizes),
            "bytes": sum(sizes),
            "client": client,
        },
    ).fetchall()
    return rowid, range(end - len(sizes), end), run
