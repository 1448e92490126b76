"""What the embedded message store does on a connection, each in one transaction.

Plain synchronous functions of a connection: one for each method of
:class:`~mqsvc.storage.interfaces.IMessageStore`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

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
    NewMessage,
    Selection,
    Stats,
)
from mqsvc.storage.ids import (
    RANDOM_BITS,
    RandomBits,
    first_position,
    format_id,
    parse_id,
)
from mqsvc.storage.messages import sqlite_statements as sql
from mqsvc.storage.messages.sqlite_schema import CLAIMED, DELAYED, READY


class _Row(NamedTuple):
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

    def message(self) -> Message:
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


def _rows(
    connection: sqlite3.Connection, statement: str, **parameters: Any
) -> list[_Row]:
    return [_Row._make(row) for row in connection.execute(statement, parameters)]


def _messages(rows: Iterable[_Row]) -> list[Message]:
    return [row.message() for row in rows]


def _rowids(rows: Iterable[_Row]) -> str:
    return json.dumps([row.rowid for row in rows])


def _name(destination: Destination) -> dict[str, str]:
    return {
        "project": destination.project,
        "kind": destination.kind.value,
        "name": destination.name,
    }


def _find(connection: sqlite3.Connection, destination: Destination) -> int | None:
    """The row id of a destination that was posted to."""
    row = connection.execute(sql.FIND_DESTINATION, _name(destination)).fetchone()
    return None if row is None else row[0]


def _append(
    connection: sqlite3.Connection,
    destination: Destination,
    count: int,
    client_id: str | None,
    now: int,
) -> tuple[int, range, int]:
    """Make room at the end: the row id, the positions that are now taken, the run.

    :param client_id: who posts all of them; none when they are from several.
    """
    [(rowid, end, run)] = connection.execute(
        sql.APPEND,
        {
            **_name(destination),
            "first": first_position(now),
            "count": count,
            "client": client_id,
        },
    ).fetchall()
    return rowid, range(end - count, end), run


def post(
    connection: sqlite3.Connection,
    destination: Destination,
    messages: Sequence[NewMessage],
    client_id: str,
    now: int,
    randoms: Sequence[int],
) -> list[str]:
    """Append messages; ``randoms`` are the random parts of their ids."""
    rowid, positions, run = _append(
        connection, destination, len(messages), client_id, now
    )
    connection.executemany(
        sql.INSERT_MESSAGE,
        [
            (
                rowid,
                position,
                random,
                DELAYED if message.delay else READY,
                now + message.delay * 1000 if message.delay else 0,
                now + message.ttl * 1000,
                now,
                message.ttl,
                client_id,
                run,
                message.body,
            )
            for message, position, random in zip(
                messages, positions, randoms, strict=True
            )
        ],
    )
    return [
        format_id(position, random)
        for position, random in zip(positions, randoms, strict=True)
    ]


def page(
    connection: sqlite3.Connection,
    destination: Destination,
    selection: Selection,
    now: int,
) -> list[Message]:
    """One page of a selection."""
    rowid = _find(connection, destination)
    after = (0, 0) if selection.after is None else parse_id(selection.after)
    if rowid is None or after is None:
        return []
    include = (selection.include_delayed, selection.include_claimed)
    at = {
        "destination": rowid,
        "after": after[0],
        "now": now,
        "limit": selection.limit,
    }
    if selection.hide_client is None:
        return _messages(_rows(connection, sql.PAGE[include], **at))
    foreign = _foreign(connection, include, at, selection.hide_client)
    rows = json.dumps(foreign[: selection.limit])
    return _messages(_rows(connection, sql.BY_ROWS, rows=rows))


def _foreign(
    connection: sqlite3.Connection,
    include: tuple[bool, bool],
    at: dict[str, int],
    client_id: str,
) -> list[int]:
    """Row ids of a page without one client's messages, and maybe some more."""
    found: list[int] = []
    while len(found) < at["limit"]:
        seen = connection.execute(sql.POSTERS[include], at).fetchall()
        found += [row for row, _, _, poster in seen if poster != client_id]
        if len(seen) < at["limit"]:
            break
        _, position, run, poster = seen[-1]
        if poster == client_id:
            parameters = {**at, "run": run}
            (run,) = connection.execute(sql.NEXT_RUN[include], parameters).fetchone()
            if run is None:
                break
            position = run - 1
        at = {**at, "after": position}
    return found


def _by_id(
    connection: sqlite3.Connection, rowid: int, message_ids: Sequence[str], now: int
) -> list[_Row]:
    """The rows of existing messages, in the order asked for, each once."""
    wanted = dict.fromkeys(filter(None, map(parse_id, message_ids)))
    rows = _rows(
        connection,
        sql.BY_POSITION,
        destination=rowid,
        positions=json.dumps([position for position, _ in wanted]),
        now=now,
    )
    found = {(row.position, row.random): row for row in rows}
    return [found[key] for key in wanted if key in found]


def get(
    connection: sqlite3.Connection,
    destination: Destination,
    message_ids: Sequence[str],
    now: int,
) -> list[Message]:
    """Messages by id."""
    rowid = _find(connection, destination)
    if rowid is None:
        return []
    return _messages(_by_id(connection, rowid, message_ids, now))


def delete(
    connection: sqlite3.Connection,
    destination: Destination,
    message_ids: Sequence[str],
    now: int,
    claim_ids: Collection[str] | None,
) -> None:
    """Delete messages by id, where ``claim_ids`` allow it."""
    rowid = _find(connection, destination)
    if rowid is None:
        return
    rows = _by_id(connection, rowid, message_ids, now)
    if claim_ids is not None:
        for row in rows:
            _check_claim(connection, rowid, row, now, claim_ids)
    _remove(connection, rowid, rows)


def _check_claim(
    connection: sqlite3.Connection,
    rowid: int,
    row: _Row,
    now: int,
    claim_ids: Collection[str],
) -> None:
    holder = row.claim_at(now)
    if holder is None:
        if claim_ids:
            raise MessageNotClaimed("The message is not under the claim given.")
    elif holder not in claim_ids:
        if claim_ids and not _any_live(connection, rowid, claim_ids, now):
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
        sql.FIND_CLAIM, {"claim": claim_id, "destination": rowid, "now": now}
    ).fetchone()
    return found


def _remove(connection: sqlite3.Connection, rowid: int, rows: Sequence[_Row]) -> None:
    if rows:
        connection.execute(sql.DELETE_ROWS, {"rows": _rowids(rows)})
        count_down(connection, rowid, len(rows), _claimed_states(rows))


def _claimed_states(rows: Iterable[_Row]) -> int:
    return sum(row.state == CLAIMED for row in rows)


def count_down(
    connection: sqlite3.Connection, rowid: int, total: int, claimed: int
) -> None:
    """Take so many messages off the counters of a destination."""
    connection.execute(
        sql.COUNT_DOWN, {"destination": rowid, "total": total, "claimed": claimed}
    )


def _free(
    connection: sqlite3.Connection, rowid: int, limit: int, now: int
) -> list[_Row]:
    """The oldest messages that can be handed out."""
    return _rows(
        connection,
        sql.FREE,
        destination=rowid,
        after=0,
        now=now,
        limit=limit,
    )


def pop(
    connection: sqlite3.Connection, destination: Destination, limit: int, now: int
) -> list[Message]:
    """Take and delete."""
    rowid = _find(connection, destination)
    if rowid is None:
        return []
    rows = _free(connection, rowid, limit, now)
    _remove(connection, rowid, rows)
    return _messages(rows)


def claim(
    connection: sqlite3.Connection,
    destination: Destination,
    claim_id: str,
    ttl: int,
    grace: int,
    limit: int,
    now: int,
    dead_letter: DeadLetterRule | None,
    random_bits: RandomBits,
) -> Claimed:
    """Lend the oldest free messages, or move them where they are due."""
    rowid = _find(connection, destination)
    if rowid is None:
        return Claimed(None)
    dead, kept = _split(_free(connection, rowid, limit, now), dead_letter)
    if dead and dead_letter is not None:
        _move(connection, rowid, dead, dead_letter, now, random_bits)
    if not kept:
        return Claimed(None, dead_lettered=len(dead))
    parameters = {"claim": claim_id, "destination": rowid, "ttl": ttl, "now": now}
    parameters |= _until(now, ttl, grace)
    connection.execute(sql.INSERT_CLAIM, parameters)
    connection.execute(sql.CLAIM_ROWS, {**parameters, "rows": _rowids(kept)})
    count_down(connection, rowid, 0, _claimed_states(kept) - len(kept))
    rows = _rows(connection, sql.BY_CLAIM, claim=claim_id, now=now)
    return Claimed(Claim(claim_id, ttl, now, tuple(_messages(rows))), len(dead))


def _split(
    rows: list[_Row], dead_letter: DeadLetterRule | None
) -> tuple[list[_Row], list[_Row]]:
    """What is to be moved, and what is to be handed out."""
    if dead_letter is None:
        return [], rows
    bound = dead_letter.max_claim_count
    return (
        [row for row in rows if row.claim_count >= bound],
        [row for row in rows if row.claim_count < bound],
    )


def _until(now: int, ttl: int, grace: int) -> dict[str, int]:
    """The end of a claim, and the life of messages that it outlasts."""
    ends = now + ttl * 1000
    return {
        "ends": ends,
        "extended_ttl": ttl + grace,
        "extended_expires": ends + grace * 1000,
    }


def _move(
    connection: sqlite3.Connection,
    rowid: int,
    rows: Sequence[_Row],
    rule: DeadLetterRule,
    now: int,
    random_bits: RandomBits,
) -> None:
    """Put messages at the end of the dead-letter target."""
    target, positions, _ = _append(connection, rule.target, len(rows), None, now)
    connection.executemany(
        sql.MOVE_ROW,
        [
            {
                "row": row.rowid,
                "target": target,
                "position": position,
                "random": random_bits(RANDOM_BITS),
                "ttl": rule.ttl,
                "expires": None if rule.ttl is None else now + rule.ttl * 1000,
            }
            for row, position in zip(rows, positions, strict=True)
        ],
    )
    count_down(connection, rowid, len(rows), _claimed_states(rows))


def get_claim(
    connection: sqlite3.Connection, destination: Destination, claim_id: str, now: int
) -> Claim:
    """A live claim with its messages."""
    found = _find_claim(connection, _find(connection, destination), claim_id, now)
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    rows = _rows(connection, sql.BY_CLAIM, claim=claim_id, now=now)
    return Claim(claim_id, *found, tuple(_messages(rows)))


def renew(
    connection: sqlite3.Connection,
    destination: Destination,
    claim_id: str,
    ttl: int,
    grace: int,
    now: int,
) -> None:
    """Move the end of a live claim."""
    rowid = _find(connection, destination)
    if _find_claim(connection, rowid, claim_id, now) is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    parameters = {"claim": claim_id, "ttl": ttl, "now": now, **_until(now, ttl, grace)}
    connection.execute(sql.RENEW_CLAIM, parameters)
    connection.execute(sql.RENEW_ROWS, parameters)


def release(
    connection: sqlite3.Connection, destination: Destination, claim_id: str, now: int
) -> None:
    """End a claim."""
    rowid = _find(connection, destination)
    if rowid is None or _find_claim(connection, rowid, claim_id, now) is None:
        return
    freed = connection.execute(sql.RELEASE_ROWS, {"claim": claim_id}).rowcount
    connection.execute(sql.DELETE_CLAIM, {"claim": claim_id})
    count_down(connection, rowid, 0, freed)


def stats(connection: sqlite3.Connection, destination: Destination, now: int) -> Stats:
    """Counts, and both ends."""
    rowid = _find(connection, destination)
    if rowid is None:
        return Stats()
    at = {"destination": rowid, "now": now}
    total, claimed = connection.execute(sql.STATS, at).fetchone()
    oldest = _messages(_rows(connection, sql.OLDEST, **at))
    newest = _messages(_rows(connection, sql.NEWEST, **at))
    return Stats(claimed, total - claimed, *oldest, *newest)


def clear(connection: sqlite3.Connection, destination: Destination) -> None:
    """Forget a destination; its rows are deleted by later sweeps."""
    connection.execute(sql.RAISE_FLOOR, _name(destination))
    forgotten = connection.execute(sql.FORGET_DESTINATION, _name(destination))
    for (rowid,) in forgotten.fetchall():
        connection.execute(sql.INSERT_CLEARED, {"destination": rowid})


def next_ready(
    connection: sqlite3.Connection, destination: Destination, now: int
) -> int | None:
    """The next end of a delay or claim."""
    at = {"destination": _find(connection, destination), "now": now}
    return min((row[0] for row in connection.execute(sql.NEXT_READY, at)), default=None)


def ping(connection: sqlite3.Connection) -> None:
    """Read something from the file."""
    connection.execute("SELECT floor FROM positions").fetchone()
