"""Numbered migrations, which make the tables of the SQL management store.

What a released migration makes never changes: a later one that alters a table leaves
a copy of the table's old definition to those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    func,
    inspect,
    select,
)
from sqlalchemy.schema import CreateColumn

from mqsvc.storage.errors import SchemaTooNew
from mqsvc.storage.management.sql_dialects import (
    ExactText,
    LongText,
    for_writing,
    make_tables_transactional,
)
from mqsvc.storage.management.sql_schema import (
    destinations,
    flavors,
    leases,
    pools,
    schema_versions,
    subscriptions,
    tables,
)
from mqsvc.storage.management.sql_servers import take_schema_turn

Migration = Callable[[Connection], None]

destinations_before_pools = Table(
    "destinations",
    MetaData(),
    Column("project", ExactText(256, controls=True), primary_key=True),
    Column("kind", ExactText(8), primary_key=True),
    Column("name", ExactText(64), primary_key=True),
    Column("metadata", LongText(), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

subscriptions_before_leases = Table(
    "subscriptions",
    MetaData(),
    Column("project", ExactText(256, controls=True), primary_key=True),
    Column("kind", ExactText(8), primary_key=True),
    Column("name", ExactText(64), primary_key=True),
    Column("id", ExactText(64), primary_key=True),
    Column("subscriber", LongText(), nullable=False),
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
)


def _create_catalog(connection: Connection) -> None:
    destinations_before_pools.create(connection, checkfirst=True)
    subscriptions_before_leases.create(connection, checkfirst=True)


def _add_pools(connection: Connection) -> None:
    # MySQL commits at each of these, so each may have been done already.
    pools.create(connection, checkfirst=True)
    flavors.create(connection, checkfirst=True)
    _add_column(connection, destinations.c.pool)


def _add_leases(connection: Connection) -> None:
    leases.create(connection, checkfirst=True)
    _add_column(connection, subscriptions.c.lease)


def _add_column(connection: Connection, column: Column[Any]) -> None:
    """Add a column to its table, and the indexes of the table that are missing."""
    table = column.table
    known = inspect(connection).get_columns(table.name)
    if all(each["name"] != column.name for each in known):
        made = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {made}")
    for index in table.indexes:
        index.create(connection, checkfirst=True)


MIGRATIONS: tuple[Migration, ...] = (_create_catalog, _add_pools, _add_leases)
"""Entry *i* makes version *i + 1* of version *i*."""


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
        make_tables_transactional(connection)
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
