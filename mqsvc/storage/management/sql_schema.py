"""Tables of the SQL management store, and the numbered migrations that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    and_,
    func,
    select,
)

from mqsvc.messaging.model import Destination
from mqsvc.storage.errors import SchemaTooNew
from mqsvc.storage.management.sql_dialects import ExactText, LongText, for_writing
from mqsvc.storage.management.sql_servers import take_schema_turn

Migration = Callable[[Connection], None]

_TRANSACTIONAL: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
"""What a table needs whatever the server's default is."""


def _destination_key() -> tuple[Column[str], Column[str], Column[str]]:
    return (
        Column("project", ExactText(256, controls=True), primary_key=True),
        Column("kind", ExactText(8), primary_key=True),
        Column("name", ExactText(64), primary_key=True),
    )


tables = MetaData()

schema_versions = Table(
    "schema_versions",
    tables,
    Column("version", Integer, primary_key=True, autoincrement=False),
    **_TRANSACTIONAL,
)

destinations = Table(
    "destinations",
    tables,
    *_destination_key(),
    Column("metadata", LongText(), nullable=False),
    Column("revision", BigInteger, nullable=False),
    **_TRANSACTIONAL,
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
    UniqueConstraint(
        "project",
        "kind",
        "name",
        "subscriber_digest",
        name="one_subscription_of_a_subscriber",
    ),
    Index("subscriptions_by_expiry", "expires"),
    **_TRANSACTIONAL,
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
    return and_(
        *(table.c[column] == value for column, value in key_of(destination).items())
    )


def _create_catalog(connection: Connection) -> None:
    tables.create_all(connection, [destinations, subscriptions])


# What a released migration makes never changes: a later one that alters a table
# leaves a copy of the table's old definition to those before it.
MIGRATIONS: tuple[Migration, ...] = (_create_catalog,)


def migrate(engine: Engine, migrations: Sequence[Migration]) -> None:
    """Bring the schema up to date, blocking.

    Each migration has a transaction of its own together with the row that says it
    is done, so that whatever ends the process in between, the next run goes on.

    :param migrations: entry *i* makes version *i + 1* of version *i*.
    :raise SchemaTooNew: the database is above the last version known.
    :raise StoreOpenError: another process is at it and does not end.
    """
    with for_writing(engine).connect() as connection:
        take_schema_turn(connection)
        while _migrate_once(connection, migrations):
            pass


def _migrate_once(connection: Connection, migrations: Sequence[Migration]) -> bool:
    with connection.begin():
        return _next_migration(connection, migrations)


def _next_migration(connection: Connection, migrations: Sequence[Migration]) -> bool:
    version = _version(connection)
    if version > len(migrations):
        where = connection.engine.url.render_as_string()
        raise SchemaTooNew(where, version, len(migrations))
    if version == len(migrations):
        return False
    migrations[version](connection)
    connection.execute(schema_versions.insert().values(version=version + 1))
    return True


def _version(connection: Connection) -> int:
    tables.create_all(connection, [schema_versions])
    newest = select(func.max(schema_versions.c.version))
    return connection.scalar(newest) or 0
