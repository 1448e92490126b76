"""The SQL management store on PostgreSQL: the common suite, and its own corners."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.management.sql import open_sql_management
from mqsvc.storage.management.sql_dialects import ExactText, LongText, make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_schema import (
    destinations,
    key_of,
    schema_versions,
)
from mqsvc.storage.management.sql_servers import take_schema_turn
from tests.live import free_port
from tests.on_servers.management_corners import (
    PROCESSES,
    FrozenTests,
    NULTests,
    OutageTests,
    open_at_once,
    until_none,
)
from tests.servers.postgresql import shared_postgresql
from tests.storage.management_contract import (
    NOW,
    ManagementTestCase,
    OpenPlace,
    make_management_tests,
    queue,
    subscription,
)
from tests.storage.sql_migrating import VersionOneTests, version_1
from tests.storage.test_management_sql import steady


def open_postgresql(case: TestCase) -> OpenPlace:
    """A database of the test."""
    server = shared_postgresql()
    uri = server.uri(server.new_database())
    return lambda: open_sql_management(uri, reactor)


globals().update(make_management_tests("PostgreSQL", open_postgresql))


class PostgreSQLTestCase(ManagementTestCase):
    """A running store in a database of the test."""

    open_store = staticmethod(open_postgresql)


class PostgreSQL_NULTests(NULTests, PostgreSQLTestCase):
    """See the base class."""


class PostgreSQL_OutageTests(OutageTests, PostgreSQLTestCase):
    """See the base class."""

    def kill(self) -> None:
        """Kill the server."""
        self.addCleanup(self.restart)
        shared_postgresql().kill()

    def restart(self) -> None:
        """Start the server unless it runs."""
        if not shared_postgresql().answers():
            shared_postgresql().start()

    async def test_ended_by_an_administrator(self) -> None:
        """A connection that the server closed is replaced at the next call."""
        await self.store.ping()
        shared_postgresql().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname LIKE 'mqsvc%'"
        )
        await self.store.ping()

    async def test_log(self) -> None:
        """What is logged of an outage quotes nothing that a tenant sent."""
        await self.store.subscribe(subscription(1), NOW)
        with capturedLogs() as events:
            taken = self.store.subscribe(
                subscription(1, subscriber="http://secret"), NOW
            )
            with self.assertRaises(StoreUnavailable):
                await taken
        (text,) = [formatEvent(event) for event in events]
        self.assertEqual(text, "The management store failed: IntegrityError")
        self.assertNotIn("secret", repr(events))


class PostgreSQL_FrozenTests(FrozenTests, TestCase):
    """See the base class."""

    LOCK = "LOCK TABLE destinations IN ACCESS EXCLUSIVE MODE"

    def new_uri(self) -> str:
        """An empty database."""
        server = shared_postgresql()
        return server.uri(server.new_database())

    def freeze(self) -> None:
        """Stop the processes of the server in their tracks."""
        # The first one makes the others, so it has to stop first.
        number = self.first_process()
        os.kill(number, signal.SIGSTOP)
        for child in self.children(number):
            os.kill(child, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        number = self.first_process()
        for each in (*self.children(number), number):
            os.kill(each, signal.SIGCONT)

    def first_process(self) -> int:
        """The process that listens."""
        path = shared_postgresql().directory / "data" / "postmaster.pid"
        return int(path.read_text().split()[0])

    def children(self, number: int) -> list[int]:
        """The processes that it has made."""
        path = Path(f"/proc/{number}/task/{number}/children")
        return [int(each) for each in path.read_text().split()]

    def until_nobody_waits(self) -> None:
        """Return when no statement waits for a lock."""
        until_none(
            lambda: shared_postgresql().execute(
                "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )
        )


class PostgreSQL_VersionOneTests(VersionOneTests, TestCase):
    """See the base class."""

    version_1 = version_1('VARCHAR({}) COLLATE "C"'.format, "TEXT", "BOOLEAN", 512)

    def new_uri(self) -> str:
        """An empty database."""
        server = shared_postgresql()
        return server.uri(server.new_database())


class PostgreSQL_OpenTests(SynchronousTestCase):
    """Opening a database, before the reactor runs."""

    def setUp(self) -> None:
        """Make an empty database."""
        server = shared_postgresql()
        self.uri = server.uri(server.new_database())

    def engine(self, query: str = "") -> Engine:
        """Connections to it."""
        engine = make_engine(self.uri + query, 1)
        self.addCleanup(engine.dispose)
        return engine

    def test_at_once(self) -> None:
        """Processes that start at once on an empty database all find it usable."""
        server = shared_postgresql()
        uris = [server.uri(server.new_database()) for _ in range(6)]
        said = open_at_once("mqsvc.storage.management.sql", "open_sql_management", uris)
        self.assertEqual(said, [""] * PROCESSES)

    def test_turn(self) -> None:
        """Whoever migrates gives the turn back."""
        engine = self.engine()
        migrate(engine, MIGRATIONS)
        with engine.connect() as connection:
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            self.assertEqual(connection.exec_driver_sql(locks).scalar(), 0)

    def test_turn_taken(self) -> None:
        """Who waits too long for the turn is told so, until it is given back."""
        engine = self.engine()
        with engine.connect() as first:
            take_schema_turn(first)
            with engine.connect() as second:
                error = self.assertRaises(
                    StoreOpenError, take_schema_turn, second, 0.001
                )
        self.assertIn("another process", str(error))
        with engine.connect() as third:
            take_schema_turn(third)

    def test_too_new(self) -> None:
        """A database of a newer program is refused."""
        engine = self.engine()
        migrate(engine, MIGRATIONS)
        with engine.begin() as connection:
            connection.execute(schema_versions.insert().values(version=7))
        error = self.assertRaises(SchemaTooNew, open_sql_management, self.uri, reactor)
        self.assertIn("version 7", str(error))

    def test_no_server(self) -> None:
        """A server that is not there is named, in one line without a password."""
        uri = f"postgresql://user:secret@127.0.0.1:{free_port()}/mqsvc"
        error = self.assertRaises(StoreOpenError, open_sql_management, uri, reactor)
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertIn("127.0.0.1", str(error))
        self.assertNotIn("secret", str(error))

    def test_options(self) -> None:
        """Time-outs have defaults, which the URI overrides."""
        for query, expected in (
            ("", (5, 10)),
            ("?connect_timeout=9&read_timeout=8", (9, 8)),
        ):
            with self.engine(query).connect() as connection:
                driver = connection.connection.driver_connection
                parameters = driver.info.get_parameters()
            found = (int(parameters["connect_timeout"]), driver.read_timeout)
            self.assertEqual(found, expected)
            self.assertEqual(parameters["tcp_user_timeout"], "10000")

    def test_patient(self) -> None:
        """Who changes the schema has all the time it takes."""
        engine = make_engine(self.uri, 1, patient=True)
        self.addCleanup(engine.dispose)
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
        self.assertEqual(driver.read_timeout, 0)

    def test_order(self) -> None:
        """Names are ordered by code points whatever the order of the database is."""
        engine = self.engine()
        migrate(engine, MIGRATIONS)
        with engine.begin() as connection:
            for name in ("b", "B", "a-b", "ab"):
                row = key_of(queue(name)) | {"metadata": "{}", "revision": 1}
                connection.execute(destinations.insert().values(row))
            column = destinations.c.name
            ordered = connection.scalars(
                destinations.select().with_only_columns(column).order_by(column)
            )
            self.assertEqual(list(ordered), ["B", "a-b", "ab", "b"])


class EscapeTests(SynchronousTestCase):
    """Text on its way to PostgreSQL and back."""

    TEXTS = st.text(alphabet="\0\x01\x02a\U0001f4ec", max_size=8)

    @steady
    @given(TEXTS, TEXTS)
    def test_exact(self, one: str, other: str) -> None:
        """Text comes back as it was, keeps its order, and loses its NULs."""
        dialect = postgresql.dialect()
        for column in (ExactText(8, controls=True), LongText()):
            kept = [column.process_bind_param(each, dialect) for each in (one, other)]
            self.assertNotIn("\0", "".join(kept))
            self.assertLessEqual(len(kept[0]), 2 * len(one))
            self.assertEqual(kept[0] < kept[1], one < other)
            self.assertEqual(column.process_result_value(kept[0], dialect), one)
