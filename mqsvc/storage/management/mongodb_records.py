"""Operations on the records of queues and topics in MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError
from txmongo.filter import ASCENDING, hint, sort

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Destination, JsonObject, Kind, Record
from mqsvc.storage.management.json_text import from_text, holds, to_text
from mqsvc.storage.management.mongodb_calls import Database
from mqsvc.storage.management.mongodb_placement import place
from mqsvc.storage.management.mongodb_schema import BY_NAME, DESTINATIONS, key_of
from mqsvc.storage.management.mongodb_subscriptions import (
    MAX_ATTEMPTS,
    era_of,
    forget_era,
)

MAX_CHUNK = 256
"""Records read at a time while looking for those that a filter lets through."""

_IS_RECORD: dict[str, Any] = {"revision": {"$exists": True}}
_IS_NO_RECORD: dict[str, Any] = {"revision": {"$exists": False}}


async def create(
    database: Database,
    destination: Destination,
    metadata: JsonObject,
    pool: str | None,
    revision: int,
) -> bool:
    """Insert a record, or make one of a document that is none; unless there is one.

    :raise PoolDoesNotExist: there is no such pool.
    """
    none_yet = key_of(destination) | _IS_NO_RECORD
    change = {
        "$set": {"metadata": to_text(metadata), "revision": revision},
        "$setOnInsert": {"era": ObjectId()},
    }
    for _ in range(MAX_ATTEMPTS):
        try:
            if pool is not None:
                await place(database, none_yet, pool, change)
            else:
                await database[DESTINATIONS].update_one(none_yet, change, upsert=True)
        except DuplicateKeyError:
            if await get(database, destination) is not None:
                return False
        else:
            return True
    raise StoreUnavailable


async def get(database: Database, destination: Destination) -> Record | None:
    """Read one record."""
    document = await database[DESTINATIONS].find_one(key_of(destination) | _IS_RECORD)
    return None if document is None else _record(document)


async def update(
    database: Database, record: Record, metadata: JsonObject, pool: str | None
) -> Record | None:
    """Replace metadata and pool of a record whose revision is still the one given.

    :raise PoolDoesNotExist: there is no such pool.
    """
    revision = record.revision + 1
    same = key_of(record.destination) | {"revision": record.revision}
    change: dict[str, Any] = {
        "$set": {"metadata": to_text(metadata), "revision": revision}
    }
    if pool is not None and pool != record.pool:
        found = await place(database, same, pool, change)
    else:
        # A record keeps its pool there, so one that stays in it needs no placement.
        if pool is None:
            change["$unset"] = {"pool": ""}
        outcome = await database[DESTINATIONS].update_one(same, change)
        found = bool(outcome.matched_count)
    return Record(record.destination, metadata, revision, pool) if found else None


async def delete(database: Database, destination: Destination) -> None:
    """Delete a record, and with it the era of its subscriptions."""
    for _ in range(MAX_ATTEMPTS):
        era = await era_of(database, destination)
        # Also without an era: the answer must not come before the deletion by
        # somebody else, which this one has seen, is as durable as its own would be.
        outcome = await database[DESTINATIONS].delete_one(
            key_of(destination) | {"era": era}
        )
        if era is None:
            return
        if outcome.deleted_count:
            await forget_era(database, era)
            return
    raise StoreUnavailable


async def page(
    database: Database,
    project: str,
    kind: Kind,
    limit: int,
    after: str,
    name_contains: str,
    metadata: Mapping[str, Any],
) -> list[Record]:
    """Read the first records behind a name that pass the filters."""
    # Filters are applied here, never by the database: no query is made of what a
    # tenant sent.
    matching: list[Record] = []
    chunk = limit
    while True:
        records = await _records(database, project, kind, chunk, after)
        matching += [
            record
            for record in records
            if name_contains in record.destination.name
            and holds(record.metadata, metadata)
        ]
        if len(matching) >= limit or len(records) < chunk:
            return matching[:limit]
        after = records[-1].destination.name
        chunk = max(chunk, MAX_CHUNK)


async def records(
    database: Database, limit: int, after: Destination | None
) -> list[Record]:
    """Read the first records of all projects behind a destination."""
    order = sort(ASCENDING(BY_NAME)) + hint(ASCENDING(BY_NAME))
    if after is not None:
        # The bound is part of the page, so it is the very next name.
        bound = key_of(after) | {"name": f"{after.name}\0"}
        order["min"] = tuple(bound.items())
    documents = await database[DESTINATIONS].find(_IS_RECORD, sort=order, limit=limit)
    return [_record(document) for document in documents]


async def count(database: Database, project: str, kind: Kind) -> int:
    """Count the records of a project."""
    wanted = {"project": project, "kind": kind.value} | _IS_RECORD
    return int(await database[DESTINATIONS].count_documents(wanted))


async def _records(
    database: Database, project: str, kind: Kind, limit: int, after: str
) -> list[Record]:
    wanted = {"project": project, "kind": kind.value, "name": {"$gt": after}}
    documents = await database[DESTINATIONS].find(
        wanted | _IS_RECORD, sort=sort(ASCENDING("name")), limit=limit
    )
    return [_record(document) for document in documents]


def _record(document: Mapping[str, Any]) -> Record:
    destination = Destination(
        document["project"], Kind(document["kind"]), document["name"]
    )
    return Record(
        destination,
        from_text(document["metadata"]),
        int(document["revision"]),
        document.get("pool"),
    )
