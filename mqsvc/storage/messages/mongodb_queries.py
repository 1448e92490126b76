"""What the MongoDB message store reads of messages and claims.

Each function asks one connection about a destination; only a look or a step of
:mod:`~mqsvc.storage.messages.mongodb_ledger` makes the answers belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from mqsvc.messaging.model import Message, Selection
from mqsvc.storage.ids import format_id, parse_id
from mqsvc.storage.messages.mongodb_client import Connection
from mqsvc.storage.messages.mongodb_schema import (
    CLAIMED,
    CLAIMS,
    DELAYED,
    MESSAGES,
    READY,
    VISIBLE,
)

Row = dict[str, Any]
Source = tuple[str, dict[str, Any]]
"""An index, and a query that it answers."""

_POSTER = ("position", "run", "client")


def message_of(row: Row) -> Message:
    """The message that a document holds."""
    return Message(
        id=format_id(row["position"], row["random"]),
        body=row["body"],
        ttl=row["ttl"],
        created=row["created"],
        claim_id=row["claim"],
        claim_count=row["count"],
    )


def messages_of(rows: Iterable[Row]) -> list[Message]:
    """The messages that documents hold."""
    return [message_of(row) for row in rows]


def claim_at(row: Row, now: int) -> str | None:
    """The live claim a message is under."""
    held = row["state"] == CLAIMED and row["ready"] > now
    return row["claim"] if held else None


def claimed_states(rows: Iterable[Row]) -> int:
    """How many of them are kept as claimed, also after the claim's end."""
    return sum(row["state"] == CLAIMED for row in rows)


def _stored(owner: ObjectId, states: Sequence[int], now: int) -> Source:
    """Messages in some states, by position."""
    query = {"owner": owner, "state": {"$in": states}, "expires": {"$gt": now}}
    return "in_order", query


def _due(owner: ObjectId, states: Sequence[int], now: int) -> Source:
    """Those whose delay or claim is over; few, for a sweep makes them ready."""
    over = {"ready": {"$gt": 0, "$lte": now}}
    return "waiting", {**_stored(owner, states, now)[1], **over}


def _sources(owner: ObjectId, selection: Selection, now: int) -> list[Source]:
    """Where the messages of a selection are."""
    included = {
        DELAYED: selection.include_delayed,
        CLAIMED: selection.include_claimed,
    }
    whole = [READY, *(state for state in included if included[state])]
    due = [state for state in included if not included[state]]
    sources = [_stored(owner, whole, now)]
    return [*sources, _due(owner, due, now)] if due else sources


async def _first(
    connection: Connection,
    sources: Iterable[Source],
    field: str,
    after: int,
    limit: int,
    fields: Sequence[str] | None = None,
) -> list[Row]:
    """The first messages of all sources in the order of a field."""
    rows: list[Row] = []
    for index, query in sources:
        rows += await connection.find(
            MESSAGES,
            {**query, field: {"$gt": after}},
            sort={field: 1},
            limit=limit,
            fields=fields,
            index=index,
        )
    return sorted(rows, key=lambda row: row[field])[:limit]


async def page(
    connection: Connection, owner: ObjectId, selection: Selection, now: int
) -> list[Row]:
    """The messages of a selection."""
    after = (0, 0) if selection.after is None else parse_id(selection.after)
    if after is None:
        return []
    sources = _sources(owner, selection, now)
    if selection.hide_client is None:
        return await _first(connection, sources, "position", after[0], selection.limit)
    found = await _foreign(connection, sources, after[0], selection)
    return await connection.find(
        MESSAGES, {"_id": {"$in": found}}, sort={"position": 1}
    )


async def _foreign(
    connection: Connection, sources: list[Source], after: int, selection: Selection
) -> list[Any]:
    """Which documents a page has without those of one client, who is leapt over."""
    found: list[Any] = []
    limit = selection.limit
    runs = [(index.replace("in_order", "by_run"), query) for index, query in sources]
    while len(found) < limit:
        seen = await _first(connection, sources, "position", after, limit, _POSTER)
        found += [r["_id"] for r in seen if r["client"] != selection.hide_client]
        if len(seen) < limit:
            break
        after = seen[-1]["position"]
        if seen[-1]["client"] == selection.hide_client:
            ahead = await _first(connection, runs, "run", seen[-1]["run"], 1, _POSTER)
            if not ahead:
                break
            after = ahead[0]["run"] - 1
    return found[:limit]


async def free(
    connection: Connection, owner: ObjectId, limit: int, now: int
) -> list[Row]:
    """The oldest messages that can be handed out."""
    return await page(connection, owner, Selection(limit), now)


async def by_id(
    connection: Connection, owner: ObjectId, message_ids: Sequence[str], now: int
) -> list[Row]:
    """Existing messages, in the order asked for, each once."""
    wanted = dict.fromkeys(filter(None, map(parse_id, message_ids)))
    if not wanted:
        return []
    index, query = _stored(owner, VISIBLE, now)
    positions = [position for position, _ in wanted]
    rows = await connection.find(
        MESSAGES, {**query, "position": {"$in": positions}}, index=index
    )
    found = {(row["position"], row["random"]): row for row in rows}
    return [found[key] for key in wanted if key in found]


async def by_claim(
    connection: Connection, owner: ObjectId, claim_id: str, now: int
) -> list[Row]:
    """The messages of a live claim."""
    query = {"owner": owner, "state": CLAIMED, "expires": {"$gt": now}}
    return await connection.find(
        MESSAGES,
        {**query, "claim": claim_id},
        sort={"position": 1},
        index="by_claim",
    )


async def live_claims(
    connection: Connection, owner: ObjectId, claim_ids: Iterable[str], now: int
) -> list[Row]:
    """Those of some claims that are live, in this destination."""
    query = {"owner": owner, "expires": {"$gt": now}, "batch": None}
    return await connection.find(CLAIMS, {**query, "_id": {"$in": list(claim_ids)}})


async def ends(
    connection: Connection, owner: ObjectId, now: int
) -> tuple[Message | None, Message | None]:
    """The oldest and the newest message in any state."""
    index, query = _stored(owner, VISIBLE, now)
    found = [
        messages_of(
            await connection.find(
                MESSAGES, query, sort={"position": direction}, limit=1, index=index
            )
        )
        for direction in (1, -1)
    ]
    oldest, newest = (each[0] if each else None for each in found)
    return oldest, newest


async def unswept(connection: Connection, owner: ObjectId, now: int) -> tuple[int, int]:
    """How many messages are counted although they expired; so for claimed ones."""
    expired = {"expires": {"$lte": now}, "owner": owner}
    visible = {"state": {"$in": VISIBLE}}
    over = {"ready": {"$gt": 0, "$lte": now}}
    return (
        await connection.count(MESSAGES, {**expired, **visible}, "by_expiry"),
        await connection.count(
            MESSAGES, {"owner": owner, "state": CLAIMED, **over}, "waiting"
        ),
    )


async def next_ready(connection: Connection, owner: ObjectId, now: int) -> int | None:
    """The next end of a delay or claim."""
    _, query = _stored(owner, (DELAYED, CLAIMED), now)
    found = await connection.find(
        MESSAGES,
        {**query, "ready": {"$gt": now}},
        sort={"ready": 1},
        limit=1,
        index="waiting",
    )
    return found[0]["ready"] if found else None
