"""Databases that the first released schema made, and what becomes of them.

The statements are written out here, since what is in the field does not change when
the program does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, inspect
from twisted.internet import reactor

from mqsvc.messaging.errors import PoolInUse
from mqsvc.messaging.model import Pool, Record
from mqsvc.storage.management.sql import open_sql_management
from mqsvc.storage.management.sql_dialects import make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from tests.storage.management_case import NOW, queue, subscription

DIGEST = "3b0ddcdcc8fc6d0d8e04dabf0a4a2e8cc1ea1ddf1ef4fa14a5f2e9bbd6a5bd26"
"""Takes the place of a hash, which nothing looks at here."""

ROWS = (
    "INSERT INTO schema_versions (version) VALUES (1)",
    "INSERT INTO destinations (project, kind, name, metadata, revision) "
    """VALUES ('p', 'queue', 'q', '{"a":1}', 41)""",
    "INSERT INTO subscriptions (project, kind, name, id, subscriber, "
    "subscriber_digest, ttl, created, expires, options, confirmed) "
    f"VALUES ('p', 'queue', 'q', '{1:024x}', 'http://subscriber.example/1', "
    f"'{DIGEST}', 60, {NOW}, {NOW + 60_000}, '{{}}', FALSE)",
)


def version_1(
    text: Callable[[int], str], document: str, flag: str, project: int = 256
) -> list[str]:
    """The statements that make a database of version 1.

    :param text: the type of a short text of so many characters.
    :param document: the type of a long one.
    :param flag: the type of a truth value.
    :param project: how many characters a project has room for.
    """
    key = (
        f"project {text(project)} NOT NULL, kind {text(8)} NOT NULL, "
        f"name {text(64)} NOT NULL"
    )
    return [
        "CREATE TABLE schema_versions "
        "(version INTEGER NOT NULL, PRIMARY KEY (version))",
        f"CREATE TABLE destinations ({key}, metadata {document} NOT NULL, "
        "revision BIGINT NOT NULL, PRIMARY KEY (project, kind, name))",
        f"CREATE TABLE subscriptions ({key}, id {text(64)} NOT NULL, "
        f"subscriber {document} NOT NULL, subscriber_digest {text(64)} NOT NULL, "
        "ttl BIGINT NOT NULL, created BIGINT NOT NULL, expires BIGINT NOT NULL, "
        f"options {document} NOT NULL, confirmed {flag} NOT NULL, "
        "PRIMARY KEY (project, kind, name, id), "
        "CONSTRAINT one_subscription_of_a_subscriber "
        "UNIQUE (project, kind, name, subscriber_digest))",
        "CREATE INDEX subscriptions_by_expiry ON subscriptions (expires)",
    ]


def shape(engine: Engine) -> dict[str, Any]:
    """All that a database says of its tables."""
    seen = inspect(engine)
    return {
        table: {
            "columns": [
                {**column, "type": repr(column["type"])}
                for column in seen.get_columns(table)
            ],
            "key": seen.get_pk_constraint(table)["constrained_columns"],
            "indexes": sorted(seen.get_indexes(table), key=lambda each: each["name"]),
        }
        for table in seen.get_table_names()
    }


class VersionOneTests:
    """A database of version 1, with a record and a subscription.

    To be mixed into a test case of some database.

    :ivar version_1: the statements that make it.
    """

    version_1: list[str]

    def new_uri(self) -> str:
        """Where an empty database is."""
        raise NotImplementedError

    def engine(self: Any) -> Engine:
        """Connections to an empty database."""
        engine = make_engine(self.new_uri(), 1)
        self.addCleanup(engine.dispose)
        return engine

    def made(self: Any) -> Engine:
        """Connections to a database that the release has made."""
        engine = self.engine()
        with engine.begin() as connection:
            for statement in (*self.version_1, *ROWS):
                connection.exec_driver_sql(statement)
        return engine

    def test_first_migration(self: Any) -> None:
        """The first migration makes what it made when it was released."""
        old, new = self.made(), self.engine()
        migrate(new, MIGRATIONS[:1])
        self.assertEqual(shape(new), shape(old))

    def test_shape(self: Any) -> None:
        """Migrated tables are the same as new ones."""
        old, new = self.made(), self.engine()
        migrate(old, MIGRATIONS)
        migrate(new, MIGRATIONS)
        self.assertEqual(shape(old), shape(new))
        self.assertLessEqual({"pools", "leases"}, shape(old).keys())

    async def test_use(self: Any) -> None:
        """What was kept is there, in the default pool, and can be moved to others."""
        uri = self.made().url.render_as_string(hide_password=False)
        store = open_sql_management(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        record = await store.get(queue("q"))
        assert record is not None
        self.assertEqual(record, Record(queue("q"), {"a": 1}, 41))
        self.assertEqual(
            await store.subscriptions(queue("q"), 9, "", NOW), [subscription(1)]
        )
        await store.put_pool(Pool("a", "redis://a", 1))
        await store.update(record, {}, "a")
        with self.assertRaises(PoolInUse):
            await store.delete_pool("a")

    def test_interrupted(self: Any) -> None:
        """Migrations that ended anywhere on their way are brought to their end."""
        complete = self.engine()
        migrate(complete, MIGRATIONS)
        is_mysql = complete.dialect.name in {"mysql", "mariadb"}
        of_table = " ON {}".format if is_mysql else "".format
        steps = (
            (2, f"DROP INDEX subscriptions_by_lease{of_table('subscriptions')}"),
            (2, "ALTER TABLE subscriptions DROP COLUMN lease"),
            (1, "DROP TABLE leases"),
            (1, f"DROP INDEX destinations_by_pool{of_table('destinations')}"),
            (1, "ALTER TABLE destinations DROP COLUMN pool"),
            (1, "DROP TABLE flavors"),
        )
        for count in range(len(steps) + 1):
            engine = self.made()
            migrate(engine, MIGRATIONS)
            version = steps[count - 1][0] if count else 2
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    f"DELETE FROM schema_versions WHERE version > {version}"
                )
                for _, statement in steps[:count]:
                    connection.exec_driver_sql(statement)
            migrate(engine, MIGRATIONS)
            self.assertEqual(shape(engine), shape(complete), count)
