"""What the MongoDB message store reads of messages and claims.

Each function asks one connection about a destination; only a look or a step of
:mod:`~mqsvc.storage.messages.mongodb_ledger` makes the answers belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bson import MaxKey

from mqsvc.messaging.model import (
    NAMEABLE,
    Destination,
    Message,
    Selection,
    StoredMessage,
)
from mqsvc.storage.ids import format_id, parse_id
from mqsvc.storage.messages.mongodb_commands import Connection, together
from mqsvc.storage.messages.mongodb_notes import View, destination_of
from mqsvc.storage.messages.mongodb_schema import (
    CLAIMED,
    CLAIMS,
    DELAYED,
    DESTINATIONS,
    MESSAGES,
    READY,
    VISIBLE,
)

Row = dict[str, Any]
Source = tuple[str, dict[str, Any]]
"""An index, and a query that it answers."""

WITHOUT_BODY = ("position", "random", "state", "ready", "expires", "claim", "size")
"""What says whether a message can be deleted."""

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


def is_free(row: Row, now: int) -> bool:
    """Whether a message can be handed out."""
    return bool(row["expires"] > now and row["ready"] <= now)


def claimed_states(rows: Iterable[Row]) -> int:
    """How many of them are kept as claimed, also after the claim's end."""
    return sum(row["state"] == CLAIMED for row in rows)


def _stored(view: View, states: Sequence[int], now: int) -> Source:
    """Messages in some states, by position, without those of later steps."""
    return "in_order", {
        "owner": view.owner,
        "state": {"$in": states},
        "position": {"$lt": view.next},
        "expires": {"$gt": now},
    }


def _due(view: View, states: Sequence[int], now: int, by: int) -> Source:
    """Those whose delay or claim is over; few, for a sweep makes them ready."""
    over = {"ready": {"$gt": 0, "$lte": by}}
    return "waiting", {**_stored(view, states, now)[1], **over}


def _sources(view: View, selection: Selection, now: int) -> list[Source]:
    """Where the messages of a selection are."""
    included = {
        DELAYED: selection.include_delayed,
        CLAIMED: selection.include_claimed,
    }
    whole = [READY, *(state for state in included if included[state])]
    due = [state for state in included if not included[state]]
    sources = [_stored(view, whole, now)]
    return [*sources, _due(view, due, now, now)] if due else sources


async def _first(
    connection: Connection,
    sources: Iterable[Source],
    field: str,
    after: int,
    limit: int,
    fields: Sequence[str] | None = None,
) -> list[Row]:
    """The first messages of all sources in the order of a field."""
    searches = [
        connection.find(
            MESSAGES,
            {**query, field: {**query.get(field, {}), "$gt": after}},
            sort={field: 1},
            limit=limit,
            fields=fields,
            index=index,
        )
        for index, query in sources
    ]
    rows: list[Row] = [row for found in await together(*searches) for row in found]
    return sorted(rows, key=lambda row: row[field])[:limit]


async def page(
    connection: Connection, view: View, selection: Selection, now: int
) -> list[Row]:
    """The messages of a selection."""
    after = (0, 0) if selection.after is None else parse_id(selection.after)
    if after is None:
        return []
    sources = _sources(view, selection, now)
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
    connection: Connection, view: View, limit: int, earliest: int, latest: int
) -> list[Row]:
    """The oldest messages that can be handed out at some moment of two or between."""
    if not limit:
        return []
    sources = [
        _stored(view, (READY,), earliest),
        _due(view, (DELAYED, CLAIMED), earliest, latest),
    ]
    return await _first(connection, sources, "position", 0, limit)


async def by_id(
    connection: Connection,
    view: View,
    message_ids: Sequence[str],
    now: int,
    fields: Sequence[str] | None = None,
) -> list[Row]:
    """Existing messages, in the order asked for, each once."""
    wanted = dict.fromkeys(filter(None, map(parse_id, message_ids)))
    if not wanted:
        return []
    index, query = _stored(view, VISIBLE, now)
    positions = [position for position, _ in wanted if position < view.next]
    rows = await connection.find(
        MESSAGES, {**query, "position": {"$in": positions}}, fields=fields, index=index
    )
    found = {(row["position"], row["random"]): row for row in rows}
    return [found[key] for key in wanted if key in found]


async def by_claim(
    connection: Connection, view: View, claim_id: str, now: int
) -> list[Row]:
    """The messages of a live claim."""
    query = {"owner": view.owner, "state": CLAIMED, "expires": {"$gt": now}}
    return await connection.find(
        MESSAGES,
        {**query, "claim": claim_id},
        sort={"position": 1},
        index="by_claim",
    )


async def live_claims(
    connection: Connection, view: View, claim_ids: Iterable[str], now: int
) -> list[Row]:
    """Those of some claims that are live, in this destination."""
    wanted = {"_id": {"$in": list(claim_ids)}}
    if not wanted["_id"]["$in"]:
        return []
    query = {"owner": view.owner, "expires": {"$gt": now}, "batch": None}
    return await connection.find(CLAIMS, {**wanted, **query})


async def claim_and_rows(
    connection: Connection, view: View, claim_id: str, now: int
) -> tuple[Row | None, list[Row]]:
    """A live claim, or none, and its messages."""
    found, rows = await together(
        live_claims(connection, view, [claim_id], now),
        by_claim(connection, view, claim_id, now),
    )
    return next(iter(found), None), rows


async def ends(
    connection: Connection, view: View, now: int
) -> tuple[Message | None, Message | None]:
    """The oldest and the newest message in any state."""
    index, query = _stored(view, VISIBLE, now)
    searches = [
        connection.find(
            MESSAGES, query, sort={"position": direction}, limit=1, index=index
        )
        for direction in (1, -1)
    ]
    oldest, newest = (messages_of(found) for found in await together(*searches))
    return next(iter(oldest), None), next(iter(newest), None)


async def bytes_of_project(
    connection: Connection, project: str
) -> tuple[int, list[Destination]]:
    """Bytes of bodies of queues and topics, and where copies still wait.

    What those have is not among the bytes: it depends on other destinations.
    """
    # Keys are compared field by field, and this is the first one.
    behind = {"project": project, "kind": MaxKey()}
    of_project = {"$gt": {"project": project}, "$lt": behind}
    copies_wait = {"$gt": ["$pending.condition", None]}
    counted = {
        "_id": {"$cond": [copies_wait, "$_id", None]},
        "bytes": {"$sum": "$bytes"},
    }
    found = await connection.grouped(
        DESTINATIONS,
        {"_id": of_project, "_id.kind": {"$in": [kind.value for kind in NAMEABLE]}},
        {"$group": counted},
        "_id_",
    )
    settled = sum(row["bytes"] for row in found if row["_id"] is None)
    return settled, [destination_of(row["_id"]) for row in found if row["_id"]]


async def unswept(connection: Connection, view: View, now: int) -> tuple[int, int]:
    """How many messages are counted although they expired; so for claimed ones."""
    earlier = {"owner": view.owner, "position": {"$lt": view.next}}
    expired = {"expires": {"$lte": now}, "state": {"$in": VISIBLE}}
    over = {"ready": {"$gt": 0, "$lte": now}, "state": CLAIMED}
    counted, claimed = await together(
        connection.count(MESSAGES, {**earlier, **expired}, "by_expiry"),
        connection.count(MESSAGES, {**earlier, **over}, "waiting"),
    )
    return counted, claimed


def stored_of(row: Row, now: int) -> StoredMessage:
    """All that is known of a message."""
    is_delayed = row["state"] == DELAYED and row["ready"] > now
    return StoredMessage(
        message_of(row), row["expires"], row["ready"] if is_delayed else None
    )


async def next_ready(connection: Connection, view: View, now: int) -> int | None:
    """The next end of a delay or claim."""
    _, query = _stored(view, (DELAYED, CLAIMED), now)
    found = await connection.find(
        MESSAGES,
        {**query, "ready": {"$gt": now}},
        sort={"ready": 1},
        limit=1,
        index="waiting",
    )
    return found[0]["ready"] if found else None
