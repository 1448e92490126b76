"""Pages of the embedded message store, also without the messages of one client.

Jobs like those of :mod:`~mqsvc.storage.messages.sqlite_jobs`.
"""

from __future__ import annotations

import sqlite3

from mqsvc.messaging.model import Destination, Message, Selection
from mqsvc.storage.ids import parse_id
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_rows import (
    CLIENT,
    client_number,
    find_due,
    to_messages,
)

MAX_PIECE = 1000
"""Messages that a search for those of other clients looks at in one step."""

LEAPS = [2**power for power in reversed(range(24))]
"""Lengths that are tried one after the other when a run is leapt over.

Always the same number of them: a long run costs no more than a short one.
"""

FAR = 2**62
"""A moment by which every delay and every claim is over."""


def page(
    connection: sqlite3.Connection,
    destination: Destination,
    selection: Selection,
    now: int,
) -> list[Message]:
    """One page of a selection."""
    with_delayed, with_claimed = selection.include_delayed, selection.include_claimed
    moments = (FAR if with_delayed else now, FAR if with_claimed else now)
    found = find_due(connection, destination, *moments)
    after = (0, 0) if selection.after is None else parse_id(selection.after)
    if found is None or after is None:
        return []
    rowid, delayed, claimed = found
    parts = (
        delayed and (sql.ALL if with_delayed else sql.DUE),
        claimed and (sql.ALL if with_claimed else sql.DUE),
    )
    at = {
        "destination": rowid,
        "after": after[0],
        "now": now,
        "limit": selection.limit,
    }
    if selection.hide_client is None:
        return to_messages(connection.execute(sql.PAGE[parts], at))
    client = client_number(selection.hide_client)
    rows = connection.execute(sql.PAGE[parts], at).fetchall()
    foreign = [row for row in rows if row[CLIENT] != client]
    if len(foreign) < len(rows) == selection.limit:
        places = _foreign(connection, parts, at, client)[: selection.limit]
        foreign = [
            connection.execute(sql.BY_ROW, (place,)).fetchone() for place in places
        ]
    return to_messages(foreign)


def _foreign(
    connection: sqlite3.Connection,
    parts: tuple[int, int],
    at: dict[str, int],
    client: int,
) -> list[int]:
    """Row ids of a page without one client's messages, and maybe some more."""
    found: list[int] = []
    wanted, piece = at["limit"], at["limit"]
    while len(found) < wanted:
        at = {**at, "limit": piece}
        seen = connection.execute(sql.PLACES[parts], at).fetchall()
        found += [row for row, _, _, poster in seen if poster != client]
        if len(seen) < piece:
            break
        _, position, run, poster = seen[-1]
        if poster == client:
            place = {"destination": at["destination"], "place": position}
            position = _leap(connection, sql.RUNS_BEHIND[parts], place, run)
        at = {**at, "after": position}
        # Where runs are short there is little to leap over, and much to look at.
        piece = min(2 * piece, MAX_PIECE)
    return found


def _leap(
    connection: sqlite3.Connection, runs_behind: str, place: dict[str, int], run: int
) -> int:
    """A position up to which there is nothing but the run that a place is in."""
    position = place["place"]
    for length in LEAPS:
        there = {**place, "place": position + length}
        if (run,) in connection.execute(runs_behind, there).fetchall():
            position += length
    return position
