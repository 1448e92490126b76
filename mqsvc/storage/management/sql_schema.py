"""Tables of the SQL management store, as the last migration leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
)

from mqsvc.messaging.model import Destination
from mqsvc.storage.management.sql_dialects import ExactText, LongText


def _destination_key() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        Column("project", ExactText(256, controls=True), primary_key=True),
        Column("kind", ExactText(8), primary_key=True),
        Column("name", ExactText(64), primary_key=True),
    )


def _name() -> ExactText:
    return ExactText(255, controls=True)


tables = MetaData()

schema_versions = Table(
    "schema_versions",
    tables,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

destinations = Table(
    "destinations",
    tables,
    *_destination_key(),
    Column("metadata", LongText(), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("pool", _name()),
    Index("destinations_by_pool", "pool"),
)

subscriptions = Table(
    "subscriptions",
    tables,
    *_destination_key(),
    Column("id", ExactText(64), primary_key=True),
    Column("subscriber", LongText(), nullable=False),
    # A URI may be longer than any index takes.
    Column("subscriber_digest", ExactText(64), nullable=False),
    Column("ttl", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("options", LongText(), nullable=False),
    Column("confirmed", Boolean, nullable=False),
    # No foreign key: what names a lease that is gone is gone as well.
    Column("lease", ExactText(64)),
    UniqueConstraint(
        "project",
        "kind",
        "name",
        "subscriber_digest",
        name="one_subscription_of_a_subscriber",
    ),
    Index("subscriptions_by_expiry", "expires"),
    Index("subscriptions_by_lease", "lease"),
)

leases = Table(
    "leases",
    tables,
    Column("id", ExactText(64), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

pools = Table(
    "pools",
    tables,
    Column("name", _name(), primary_key=True),
    Column("uri", ExactText(255, controls=True), nullable=False),
    Column("weight", BigInteger, nullable=False),
    # No foreign key: the flavor need not exist.
    Column("flavor", _name()),
    Column("options", LongText(), nullable=False),
    UniqueConstraint("uri", name="one_pool_of_a_uri"),
)

flavors = Table(
    "flavors",
    tables,
    Column("name", _name(), primary_key=True),
)


def key_of(destination: Destination) -> dict[str, str]:
    """The key columns of a destination in either table, with their values."""
    return {
        "project": destination.project,
        "kind": destination.kind.value,
        "name": destination.name,
    }


def belongs_to(table: Table, destination: Destination) -> ColumnElement[bool]:
    """The condition that a row is of a destination."""
    return _matches(table, key_of(destination))


def belongs_to_bound(table: Table) -> ColumnElement[bool]:
    """The same of the destination whose :func:`key_of` a query is run with."""
    key = [column.name for column in destinations.primary_key]
    return _matches(table, {name: bindparam(name) for name in key})


def _matches(table: Table, values: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[column] == value for column, value in values.items()))
