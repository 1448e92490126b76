"""What the embedded message store corrects and deletes after the fact, in pieces."""

from __future__ import annotations

import sqlite3
from collections import Counter

from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_jobs import count_down
from mqsvc.storage.messages.sqlite_schema import CLAIMED

SWEEP_SIZE = 200
"""Rows of each kind that one sweep touches at most."""


def sweep(connection: sqlite3.Connection, now: int) -> bool:
    """Correct and delete what time left behind; whether any part hit its bound."""
    at = {"now": now, "limit": SWEEP_SIZE}
    touched = (
        connection.execute(sql.SWEEP_DELAYED, at).rowcount,
        _sweep_claims(connection, at),
        _sweep_expired(connection, at),
        _sweep_cleared(connection, at),
    )
    return max(touched) >= SWEEP_SIZE


def _sweep_claims(connection: sqlite3.Connection, at: dict[str, int]) -> int:
    """Free what ended claims held; they themselves go when there is nothing left."""
    owners = connection.execute(sql.ENDED_CLAIMS, at).fetchall()
    room = at["limit"]
    for (owner,) in dict.fromkeys(owners):
        where = {**at, "destination": owner, "limit": room}
        freed = connection.execute(sql.SWEEP_CLAIMED, where).rowcount
        if freed:
            count_down(connection, owner, 0, freed)
        room -= freed
        if not room:
            return SWEEP_SIZE
    connection.execute(sql.SWEEP_CLAIMS, at)
    return len(owners)


def _sweep_expired(connection: sqlite3.Connection, at: dict[str, int]) -> int:
    found = connection.execute(sql.SWEEP_EXPIRED, at).fetchall()
    if found:
        connection.executemany(sql.DELETE_ROW, [(rowid,) for rowid, *_ in found])
        claimed = Counter(owner for _, owner, state, _ in found if state == CLAIMED)
        sizes: Counter[int] = Counter()
        for _, owner, _, size in found:
            sizes[owner] += size
        for owner, count in Counter(owner for _, owner, *_ in found).items():
            count_down(connection, owner, count, claimed[owner], sizes[owner])
    return len(found)


def _sweep_cleared(connection: sqlite3.Connection, at: dict[str, int]) -> int:
    found = connection.execute(sql.SWEEP_CLEARED, {"limit": at["limit"]}).fetchall()
    connection.executemany(sql.DELETE_ROW, found)
    # A finished destination may have a successor, which is worth another call.
    finished = connection.execute(sql.FINISH_CLEARED).fetchall()
    return SWEEP_SIZE if finished else len(found)
