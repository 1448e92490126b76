"""What the embedded message store does on a connection, each in one transaction.

Plain synchronous functions of a connection: one for each method of
:class:`~mqsvc.storage.interfaces.IMessageStore`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
)
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    Selection,
    Stats,
)
from mqsvc.storage.ids import (
    RANDOM_BITS,
    RandomBits,
    format_id,
    parse_id,
)
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_posting import find_end
from mqsvc.storage.messages.sqlite_rows import (
    CLIENT,
    Held,
    Row,
    client_number,
    fetch,
    find,
    find_due,
    name_of,
    to_messages,
)
from mqsvc.storage.messages.sqlite_schema import CLAIMED

MAX_PIECE = 1000
"""Messages that a search for those of other clients looks at in one step."""

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
            parameters = {**at, "run": run}
            (run,) = connection.execute(sql.NEXT_RUN[parts], parameters).fetchone()
            if run is None:
                break
            position = run - 1
        at = {**at, "after": position}
        # Where runs are short there is little to leap over, and much to look at.
        piece = min(2 * piece, MAX_PIECE)
    return found


def _places(message_ids: Sequence[str]) -> Iterable[tuple[int, int]]:
    """What well-formed ids stand for, each once."""
    return dict.fromkeys(filter(None, map(parse_id, message_ids)))


def get(
    connection: sqlite3.Connection,
    destination: Destination,
    message_ids: Sequence[str],
    now: int,
) -> list[Message]:
    """Messages by id."""
    name = name_of(destination)
    return [
        message
        for place in _places(message_ids)
        for message in to_messages(connection.execute(sql.BY_ID, (*name, *place, now)))
    ]


def delete(
    connection: sqlite3.Connection,
    destination: Destination,
    message_ids: Sequence[str],
    now: int,
    claim_ids: Collection[str] | None,
) -> None:
    """Delete messages by id, where ``claim_ids`` allow it."""
    name = name_of(destination)
    rows = [
        Held._make(row)
        for place in _places(message_ids)
        for row in connection.execute(sql.HELD, (*name, *place, now))
    ]
    if claim_ids is not None:
        for row in rows:
            _check_claim(connection, row, now, claim_ids)
    if rows:
        _remove(connection, rows[0].destination, rows)


def _check_claim(
    connection: sqlite3.Connection, row: Held, now: int, claim_ids: Collection[str]
) -> None:
    holder = row.claim_at(now)
    if holder is None:
        if claim_ids:
            raise MessageNotClaimed("The message is not under the claim given.")
    elif holder not in claim_ids:
        if claim_ids and not _any_live(connection, row.destination, claim_ids, now):
            raise MessageNotClaimed("The claim given does not exist or has ended.")
        raise MessageIsClaimed("The message is claimed: give the claim that holds it.")


def _any_live(
    connection: sqlite3.Connection, rowid: int, claim_ids: Collection[str], now: int
) -> bool:
    return any(_find_claim(connection, rowid, claim, now) for claim in claim_ids)


def _find_claim(
    connection: sqlite3.Connection, rowid: int | None, claim_id: str, now: int
) -> tuple[int, int] | None:
    """The ttl and the start of a live claim."""
    found: tuple[int, int] | None = connection.execute(
        sql.FIND_CLAIM, (claim_id, rowid, now)
    ).fetchone()
    return found


def _remove(
    connection: sqlite3.Connection, rowid: int, rows: Sequence[Row | Held]
) -> None:
    connection.executemany(sql.DELETE_ROW, [(row.rowid,) for row in rows])
    _count_off(connection, rowid, rows)


def _count_off(
    connection: sqlite3.Connection, rowid: int, rows: Sequence[Row | Held]
) -> None:
    """Take messages off the counters of the destination that they leave."""
    count_down(connection, rowid, len(rows), _claimed_states(rows), sum(_sizes(rows)))


def _sizes(rows: Iterable[Row | Held]) -> list[int]:
    return [row.size for row in rows]


def _claimed_states(rows: Iterable[Row | Held]) -> int:
    return [row.state for row in rows].count(CLAIMED)


def count_down(
    connection: sqlite3.Connection, rowid: int, total: int, claimed: int, size: int = 0
) -> None:
    """Take so many messages, and bytes of bodies, off those of a destination."""
    connection.execute(sql.COUNT_DOWN, (total, claimed, size, rowid))


def _free(
    connection: sqlite3.Connection, destination: Destination, limit: int, now: int
) -> tuple[int, list[Row]]:
    """The oldest messages that can be handed out, and the row id of their owner."""
    found = find_due(connection, destination, now, now)
    if found is None:
        return 0, []
    rowid, delayed, claimed = found
    at = {"destination": rowid, "after": 0, "now": now, "limit": limit}
    return rowid, fetch(connection, sql.PAGE[delayed, claimed], at)


def pop(
    connection: sqlite3.Connection, destination: Destination, limit: int, now: int
) -> list[Message]:
    """Take and delete."""
    rowid, rows = _free(connection, destination, limit, now)
    if rows:
        _remove(connection, rowid, rows)
    return to_messages(rows)


@frozen
class Wanted:
    """What one claim asks for, and where it is to find it."""

    destination: Destination
    claim_id: str
    ttl: int
    grace: int
    limit: int
    now: int
    dead_letter: DeadLetterRule | None
    random_bits: RandomBits


def claim(connection: sqlite3.Connection, claims: Sequence[Wanted]) -> list[Claimed]:
    """Lend the oldest free messages, or move them where they are due."""
    return [
        claimed
        for destination, some in groupby(claims, attrgetter("destination"))
        for claimed in _claim(connection, destination, list(some))
    ]


def _claim(
    connection: sqlite3.Connection, destination: Destination, claims: Sequence[Wanted]
) -> list[Claimed]:
    """What is found for all is dealt out: who came first gets the oldest."""
    limit, now = sum(each.limit for each in claims), max(each.now for each in claims)
    rowid, rows = _free(connection, destination, limit, now)
    rest = iter(rows)
    shares = [_split(list(islice(rest, each.limit)), each) for each in claims]
    lent = [row for _, kept in shares for row in kept]
    if lent:
        count_down(connection, rowid, 0, _claimed_states(lent) - len(lent))
    return [
        _hand_out(connection, rowid, each, *share)
        for each, share in zip(claims, shares, strict=True)
    ]


def _hand_out(
    connection: sqlite3.Connection,
    rowid: int,
    wanted: Wanted,
    dead: Sequence[Row],
    kept: Sequence[Row],
) -> Claimed:
    if dead and wanted.dead_letter is not None:
        rule, now = wanted.dead_letter, wanted.now
        _move(connection, rowid, dead, rule, now, wanted.random_bits)
    if not kept:
        return Claimed(None, len(dead))
    lent = _lend(connection, rowid, kept, wanted)
    return Claimed(Claim(wanted.claim_id, wanted.ttl, wanted.now, lent), len(dead))


def _lend(
    connection: sqlite3.Connection, rowid: int, rows: Sequence[Row], wanted: Wanted
) -> tuple[Message, ...]:
    """Put messages under a new claim; what they are then."""
    term = _term(wanted.claim_id, wanted.ttl, wanted.grace, wanted.now)
    ends, claim_id = term["ends"], wanted.claim_id
    connection.execute(sql.INSERT_CLAIM, {**term, "destination": rowid})
    connection.executemany(
        sql.CLAIM_ROW,
        [(ends, claim_id, row.claim_count + 1, row.rowid) for row in rows],
    )
    outlasted = [row.expires < ends for row in rows]
    if any(outlasted):
        connection.execute(sql.EXTEND_ROWS, term)
    return tuple(
        Message(
            format_id(row.position, row.random),
            row.body,
            term["extended_ttl"] if is_outlasted else row.ttl,
            row.created,
            claim_id,
            row.claim_count + 1,
        )
        for row, is_outlasted in zip(rows, outlasted, strict=True)
    )


def _split(rows: list[Row], wanted: Wanted) -> tuple[list[Row], list[Row]]:
    """What is to be moved, and what is to be handed out."""
    if wanted.dead_letter is None:
        return [], rows
    bound = wanted.dead_letter.max_claim_count
    return (
        [row for row in rows if row.claim_count >= bound],
        [row for row in rows if row.claim_count < bound],
    )


def _term(claim_id: str, ttl: int, grace: int, now: int) -> dict[str, Any]:
    """A claim with its end, and the life of messages that it outlasts."""
    ends = now + ttl * 1000
    return {
        "claim": claim_id,
        "ttl": ttl,
        "now": now,
        "ends": ends,
        "extended_ttl": ttl + grace,
        "extended_expires": ends + grace * 1000,
    }


def _move(
    connection: sqlite3.Connection,
    rowid: int,
    rows: Sequence[Row],
    rule: DeadLetterRule,
    now: int,
    random_bits: RandomBits,
) -> None:
    """Put messages at the end of the dead-letter target."""
    expires = None if rule.ttl is None else now + rule.ttl * 1000
    for client, group in groupby(rows, key=attrgetter("client")):
        moving = list(group)
        target = find_end(connection, name_of(rule.target), client, now)
        positions = target.take(_sizes(moving), client)
        target.store(connection)
        connection.executemany(
            sql.MOVE_ROW,
            [
                {
                    "row": row.rowid,
                    "target": target.rowid,
                    "position": position,
                    "random": random_bits(RANDOM_BITS),
                    "run": target.run,
                    "ttl": rule.ttl,
                    "expires": expires,
                }
                for row, position in zip(moving, positions, strict=True)
            ],
        )
    _count_off(connection, rowid, rows)


def get_claim(
    connection: sqlite3.Connection, destination: Destination, claim_id: str, now: int
) -> Claim:
    """A live claim with its messages."""
    found = _find_claim(connection, find(connection, destination), claim_id, now)
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    rows = connection.execute(sql.BY_CLAIM, {"claim": claim_id, "now": now})
    return Claim(claim_id, *found, tuple(to_messages(rows)))


def renew(
    connection: sqlite3.Connection,
    destination: Destination,
    claim_id: str,
    ttl: int,
    grace: int,
    now: int,
) -> None:
    """Move the end of a live claim."""
    rowid = find(connection, destination)
    if _find_claim(connection, rowid, claim_id, now) is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    term = _term(claim_id, ttl, grace, now)
    for statement in (sql.RENEW_CLAIM, sql.RENEW_ROWS, sql.EXTEND_ROWS):
        connection.execute(statement, term)


def release(
    connection: sqlite3.Connection,
    destination: Destination,
    claim_id: str,
    now: int,
    undelivered: bool,
) -> None:
    """End a claim; one that was not delivered does not count."""
    rowid = find(connection, destination)
    if rowid is None or _find_claim(connection, rowid, claim_id, now) is None:
        return
    freed = connection.execute(
        sql.RELEASE_ROWS, {"claim": claim_id, "undelivered": undelivered}
    ).rowcount
    connection.execute(sql.DELETE_CLAIM, {"claim": claim_id})
    count_down(connection, rowid, 0, freed)


def stats(connection: sqlite3.Connection, destination: Destination, now: int) -> Stats:
    """Counts, and both ends."""
    rowid = find(connection, destination)
    if rowid is None:
        return Stats()
    at = {"destination": rowid, "now": now}
    total, claimed = connection.execute(sql.STATS, at).fetchone()
    oldest = to_messages(connection.execute(sql.OLDEST, at))
    newest = to_messages(connection.execute(sql.NEWEST, at))
    return Stats(claimed, total - claimed, *oldest, *newest)


def clear(connection: sqlite3.Connection, destination: Destination) -> None:
    """Forget a destination; its rows are deleted by later sweeps."""
    found = connection.execute(sql.FIND_END, name_of(destination)).fetchone()
    if found is not None:
        rowid, end, *_ = found
        connection.execute(sql.RAISE_FLOOR, (end,))
        connection.execute(sql.FORGET_DESTINATION, (rowid,))
        connection.execute(sql.INSERT_CLEARED, (rowid,))


def next_ready(
    connection: sqlite3.Connection, destination: Destination, now: int
) -> int | None:
    """The next end of a delay or claim."""
    at = {"destination": find(connection, destination), "now": now}
    return min((row[0] for row in connection.execute(sql.NEXT_READY, at)), default=None)


def stored_bytes(connection: sqlite3.Connection, project: str) -> int:
    """Bytes of bodies of a project."""
    found = connection.execute(sql.STORED_BYTES, {"project": project}).fetchone()
    return int(found[0])


def ping(connection: sqlite3.Connection) -> None:
    """Read something from the file."""
    connection.execute("SELECT floor FROM positions").fetchone()
