"""What the embedded message store does on a connection, each in one transaction.

Plain synchronous functions of a connection: one for each method of
:class:`~mqsvc.storage.interfaces.IMessageStore`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress, groupby, islice
from operator import attrgetter
from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
    MessagingError,
)
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
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
    Held,
    Row,
    fetch,
    find,
    find_due,
    name_of,
    to_messages,
)
from mqsvc.storage.messages.sqlite_schema import CLAIMED


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


@frozen
class Deletion:
    """What one call deletes, and under which claims it may."""

    destination: Destination
    message_ids: Sequence[str]
    now: int
    claim_ids: Collection[str] | None


def delete(
    connection: sqlite3.Connection, deletions: Sequence[Deletion]
) -> list[MessagingError | None]:
    """Delete messages by id; of each deletion why it was not allowed, if it was not.

    One that is refused changes nothing, and so does not fail the others.
    """
    removed: defaultdict[int, list[Held]] = defaultdict(list)
    refusals = [_delete(connection, each, removed) for each in deletions]
    for rowid, rows in removed.items():
        _count_off(connection, rowid, rows)
    return refusals


def _delete(
    connection: sqlite3.Connection,
    deletion: Deletion,
    removed: defaultdict[int, list[Held]],
) -> MessagingError | None:
    """Delete, and add the rows to those of their destination."""
    name, now = name_of(deletion.destination), deletion.now
    rows = [
        Held._make(row)
        for place in _places(deletion.message_ids)
        for row in connection.execute(sql.HELD, (*name, *place, now))
    ]
    if deletion.claim_ids is not None:
        for row in rows:
            refusal = _refusal(connection, row, now, deletion.claim_ids)
            if refusal is not None:
                return refusal
    if rows:
        _delete_rows(connection, rows)
        removed[rows[0].destination] += rows
    return None


def _refusal(
    connection: sqlite3.Connection, row: Held, now: int, claim_ids: Collection[str]
) -> MessagingError | None:
    """Why a message cannot be deleted under these claims."""
    holder = row.claim_at(now)
    if holder is None:
        if claim_ids:
            return MessageNotClaimed("The message is not under the claim given.")
    elif holder not in claim_ids:
        if claim_ids and not _any_live(connection, row.destination, claim_ids, now):
            return MessageNotClaimed("The claim given does not exist or has ended.")
        return MessageIsClaimed("The message is claimed: give the claim that holds it.")
    return None


def _any_live(
    connection: sqlite3.Connection, rowid: int, claim_ids: Collection[str], now: int
) -> bool:
    return any(_find_claim(connection, rowid, claim, now) for claim in claim_ids)


def _find_claim(
    connection: sqlite3.Connection, rowid: int | None, claim_id: str, now: int
) -> tuple[int, int, int] | None:
    """The ttl, the start and the end of a live claim."""
    found: tuple[int, int, int] | None = connection.execute(
        sql.FIND_CLAIM, (claim_id, rowid, now)
    ).fetchone()
    return found


def _delete_rows(connection: sqlite3.Connection, rows: Iterable[Row | Held]) -> None:
    connection.executemany(sql.DELETE_ROW, [(row.rowid,) for row in rows])


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
        _delete_rows(connection, rows)
        _count_off(connection, rowid, rows)
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
    term = _term(rowid, wanted.claim_id, wanted.ttl, wanted.grace, wanted.now)
    ends, claim_id = term["ends"], wanted.claim_id
    connection.execute(sql.INSERT_CLAIM, term)
    connection.executemany(
        sql.CLAIM_ROW,
        [(ends, claim_id, row.claim_count + 1, row.rowid) for row in rows],
    )
    outlasted = [row.expires < ends for row in rows]
    _extend(connection, [row.rowid for row in compress(rows, outlasted)], term)
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


def _extend(
    connection: sqlite3.Connection, rowids: Iterable[int], term: Mapping[str, Any]
) -> None:
    """Let messages live for as long as their claim, and for the grace after it."""
    life = term["extended_ttl"], term["extended_expires"]
    connection.executemany(sql.EXTEND_ROW, [(*life, rowid) for rowid in rowids])


def _split(rows: list[Row], wanted: Wanted) -> tuple[list[Row], list[Row]]:
    """What is to be moved, and what is to be handed out."""
    if wanted.dead_letter is None:
        return [], rows
    bound = wanted.dead_letter.max_claim_count
    return (
        [row for row in rows if row.claim_count >= bound],
        [row for row in rows if row.claim_count < bound],
    )


def _term(
    rowid: int | None, claim_id: str, ttl: int, grace: int, now: int
) -> dict[str, Any]:
    """A claim with its end, and the life of messages that it outlasts."""
    ends = now + ttl * 1000
    return {
        "destination": rowid,
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
    rowid = find(connection, destination)
    found = _find_claim(connection, rowid, claim_id, now)
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    ttl, created, ends = found
    at = {"destination": rowid, "claim": claim_id, "ends": ends, "now": now}
    rows = connection.execute(sql.BY_CLAIM, at)
    return Claim(claim_id, ttl, created, tuple(to_messages(rows)))


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
    found = _find_claim(connection, rowid, claim_id, now)
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    *_, ended = found
    held = _held(connection, rowid, claim_id, ended)
    term = _term(rowid, claim_id, ttl, grace, now)
    ends = term["ends"]
    connection.execute(sql.RENEW_CLAIM, term)
    connection.executemany(sql.RENEW_ROW, [(ends, row) for row, _ in held])
    _extend(connection, [row for row, expires in held if expires < ends], term)


def _held(
    connection: sqlite3.Connection, rowid: int | None, claim_id: str, ends: int
) -> list[tuple[int, int]]:
    """Row id and expiry of each message that a claim holds, by the claim's end."""
    at = {"destination": rowid, "claim": claim_id, "ends": ends}
    return connection.execute(sql.ROWS_OF_CLAIM, at).fetchall()


def release(
    connection: sqlite3.Connection,
    destination: Destination,
    claim_id: str,
    now: int,
    undelivered: bool,
) -> None:
    """End a claim; one that was not delivered does not count."""
    rowid = find(connection, destination)
    found = _find_claim(connection, rowid, claim_id, now)
    if rowid is None or found is None:
        return
    *_, ends = found
    held = _held(connection, rowid, claim_id, ends)
    connection.executemany(sql.RELEASE_ROW, [(undelivered, row) for row, _ in held])
    connection.execute(sql.DELETE_CLAIM, {"claim": claim_id})
    count_down(connection, rowid, 0, len(held))


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
