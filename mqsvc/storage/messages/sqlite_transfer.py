"""Taking messages out of the embedded message store, and bringing them in.

Jobs like those of :mod:`~mqsvc.storage.messages.sqlite_jobs`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mqsvc.messaging.model import Destination, Message, StoredMessage
from mqsvc.storage.ids import format_id, parse_id
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_posting import find_end, insert
from mqsvc.storage.messages.sqlite_rows import (
    NOBODY,
    Row,
    fetch,
    find,
    name_of,
    to_messages,
)
from mqsvc.storage.messages.sqlite_schema import DELAYED, READY

EVERYTHING = (sql.ALL, sql.ALL)


def stored(
    connection: sqlite3.Connection,
    destination: Destination,
    limit: int,
    after: str | None,
    now: int,
) -> list[StoredMessage]:
    """One page of all messages."""
    rowid = find(connection, destination)
    marker = (0, 0) if after is None else parse_id(after)
    if rowid is None or marker is None:
        return []
    at = {"destination": rowid, "after": marker[0], "now": now, "limit": limit}
    rows = fetch(connection, sql.PAGE[EVERYTHING], at)
    return [
        _stored(row, message, now)
        for row, message in zip(rows, to_messages(rows), strict=True)
    ]


def _stored(row: Row, message: Message, now: int) -> StoredMessage:
    is_delayed = row.state == DELAYED and row.ready_at > now
    return StoredMessage(message, row.expires, row.ready_at if is_delayed else None)


def restore(
    connection: sqlite3.Connection,
    destination: Destination,
    messages: Sequence[StoredMessage],
    now: int,
    randoms: Sequence[int],
) -> list[str]:
    """Append messages that are not expired; ``randoms`` are as for a post."""
    kept = [each for each in messages if each.expires > now]
    if not kept:
        return []
    sizes = [len(each.message.body) for each in kept]
    end = find_end(connection, name_of(destination), NOBODY, now)
    places = list(zip(end.take(sizes, NOBODY), randoms, strict=False))
    end.store(connection)
    rows = [
        (end.rowid, *place, *_values(each, end.run, now))
        for each, place in zip(kept, places, strict=True)
    ]
    insert(connection, rows)
    return [format_id(*place) for place in places]


def _values(stored: StoredMessage, run: int, now: int) -> tuple[int | bytes, ...]:
    """The columns of :data:`sql.NEW` behind the place."""
    message, ready_at = stored.message, stored.delayed_until or 0
    state, ready_at = (DELAYED, ready_at) if ready_at > now else (READY, 0)
    return (
        state,
        ready_at,
        stored.expires,
        message.created,
        message.ttl,
        NOBODY,
        run,
        message.claim_count,
        message.body,
    )
