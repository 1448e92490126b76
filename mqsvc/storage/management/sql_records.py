"""Statements on the records of queues and topics; each runs in a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, true

from mqsvc.messaging.model import Destination, JsonObject, Kind, Record
from mqsvc.storage.management.json_text import from_text, holds, to_text
from mqsvc.storage.management.sql_pools import hold
from mqsvc.storage.management.sql_schema import belongs_to, destinations, key_of
from mqsvc.storage.management.sql_subscriptions import unsubscribe_all

MAX_CHUNK = 256
"""Records read at a time while looking for those that a filter lets through."""


def create(
    connection: Connection,
    destination: Destination,
    metadata: JsonObject,
    pool: str | None,
    revision: int,
) -> bool:
    """Insert a record, unless there is one.

    :raise PoolDoesNotExist: its pool is missing.
    """
    if get(connection, destination) is not None:
        return False
    hold(connection, pool)
    row = key_of(destination) | _values(metadata, pool, revision)
    connection.execute(destinations.insert().values(row))
    return True


def get(connection: Connection, destination: Destination) -> Record | None:
    """Read one record."""
    query = select(destinations).where(belongs_to(destinations, destination))
    row = connection.execute(query).first()
    return None if row is None else _record(row)


def update(
    connection: Connection, record: Record, metadata: JsonObject, pool: str | None
) -> Record | None:
    """Replace metadata and pool of a record whose revision is still the one given.

    :raise PoolDoesNotExist: the new pool is missing.
    """
    hold(connection, pool)
    revision = record.revision + 1
    change = (
        destinations.update()
        .where(belongs_to(destinations, record.destination))
        .where(destinations.c.revision == record.revision)
        .values(_values(metadata, pool, revision))
    )
    if connection.execute(change).rowcount == 0:
        return None
    return Record(record.destination, metadata, revision, pool)


def delete(connection: Connection, destination: Destination) -> None:
    """Delete a record and the subscriptions of its destination."""
    condition = belongs_to(destinations, destination)
    connection.execute(destinations.delete().where(condition))
    unsubscribe_all(connection, destination)


def page(
    connection: Connection,
    project: str,
    kind: Kind,
    limit: int,
    after: str,
    name_contains: str,
    metadata: Mapping[str, Any],
) -> list[Record]:
    """Read the first records behind a name that pass the filters."""
    # Filters are applied here, never by the database: no pattern and no query is
    # made of what a tenant sent.
    matching = (
        record
        for row in _in_order(connection, project, kind, limit, after)
        if name_contains in row.name
        and holds((record := _record(row)).metadata, metadata)
    )
    return list(islice(matching, limit))


def records(
    connection: Connection, limit: int, after: Destination | None
) -> list[Record]:
    """Read the first records of all projects behind a destination."""
    found: list[Record] = []
    for condition in _ranges_behind(after):
        query = (
            select(destinations)
            .where(condition)
            .order_by(*destinations.primary_key)
            .limit(limit - len(found))
        )
        found += map(_record, connection.execute(query))
        if len(found) == limit:
            break
    return found


def count(connection: Connection, project: str, kind: Kind) -> int:
    """Count the records of a project."""
    query = (
        select(func.count())
        .select_from(destinations)
        .where(destinations.c.project == project, destinations.c.kind == kind.value)
    )
    return connection.scalar(query) or 0


def _ranges_behind(after: Destination | None) -> list[ColumnElement[bool]]:
    """Pieces of the key's order, one after the other.

    Each is a range that every database finds in its index; not every one does so
    with a comparison of whole keys.
    """
    if after is None:
        return [true()]
    project, kind, name = destinations.primary_key
    same_project = project == after.project
    return [
        same_project & (kind == after.kind.value) & (name > after.name),
        same_project & (kind > after.kind.value),
        project > after.project,
    ]


def _in_order(
    connection: Connection, project: str, kind: Kind, chunk: int, after: str
) -> Iterator[Row[Any]]:
    """All rows behind a name, read in growing pieces."""
    while True:
        rows = _rows(connection, project, kind, chunk, after)
        yield from rows
        if len(rows) < chunk:
            return
        after = rows[-1].name
        chunk = max(chunk, MAX_CHUNK)


def _rows(
    connection: Connection, project: str, kind: Kind, limit: int, after: str
) -> list[Row[Any]]:
    query = (
        select(destinations)
        .where(destinations.c.project == project, destinations.c.kind == kind.value)
        .where(destinations.c.name > after)
        .order_by(destinations.c.name)
        .limit(limit)
    )
    return list(connection.execute(query))


def _values(metadata: JsonObject, pool: str | None, revision: int) -> dict[str, Any]:
    return {"metadata": to_text(metadata), "pool": pool, "revision": revision}


def _record(row: Row[Any]) -> Record:
    destination = Destination(row.project, Kind(row.kind), row.name)
    return Record(destination, from_text(row.metadata), row.revision, row.pool)
