"""Statements on the records of queues and topics; each runs in a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, func, select

from mqsvc.messaging.model import Destination, JsonObject, Kind, Record
from mqsvc.storage.management.json_text import from_text, holds, to_text
from mqsvc.storage.management.sql_schema import belongs_to, destinations, key_of
from mqsvc.storage.management.sql_subscriptions import unsubscribe_all

MAX_CHUNK = 256
"""Records read at a time while looking for those that a filter lets through."""


def create(
    connection: Connection,
    destination: Destination,
    metadata: JsonObject,
    revision: int,
) -> bool:
    """Insert a record, unless there is one."""
    if get(connection, destination) is not None:
        return False
    row = key_of(destination) | {"metadata": to_text(metadata), "revision": revision}
    connection.execute(destinations.insert().values(row))
    return True


def get(connection: Connection, destination: Destination) -> Record | None:
    """Read one record."""
    query = select(destinations).where(belongs_to(destinations, destination))
    row = connection.execute(query).first()
    return None if row is None else _record(row)


def update(
    connection: Connection, record: Record, metadata: JsonObject
) -> Record | None:
    """Replace the metadata of a record whose revision is still the one given."""
    revision = record.revision + 1
    change = (
        destinations.update()
        .where(belongs_to(destinations, record.destination))
        .where(destinations.c.revision == record.revision)
        .values(metadata=to_text(metadata), revision=revision)
    )
    if connection.execute(change).rowcount == 0:
        return None
    return Record(record.destination, metadata, revision)


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


def count(connection: Connection, project: str, kind: Kind) -> int:
    """Count the records of a project."""
    query = (
        select(func.count())
        .select_from(destinations)
        .where(destinations.c.project == project, destinations.c.kind == kind.value)
    )
    return connection.scalar(query) or 0


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


def _record(row: Row[Any]) -> Record:
    destination = Destination(row.project, Kind(row.kind), row.name)
    return Record(destination, from_text(row.metadata), row.revision)
