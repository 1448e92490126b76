"""The SQL management store on MariaDB: the common suite, and its own corners."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DataError
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.management.sql import open_sql_management
from mqsvc.storage.management.sql_dialects import make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_schema import (
    destinations,
    key_of,
    subscriptions,
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
from tests.servers.mariadb import shared_mariadb
from tests.storage.management_contract import (
    ManagementTestCase,
    OpenPlace,
    make_management_tests,
    queue,
)
from tests.storage.sql_migrating import VersionOneTests, version_1


def open_mariadb(case: TestCase) -> OpenPlace:
    """A database of the test."""
    server = shared_mariadb()
    uri = server.uri(server.new_database())
    return lambda: open_sql_management(uri, reactor)


globals().update(make_management_tests("MariaDB", open_mariadb))


class MariaDBTestCase(ManagementTestCase):
    """A running store in a database of the test."""

    open_store = staticmethod(open_mariadb)


class MariaDB_NULTests(NULTests, MariaDBTestCase):
    """See the base class."""


class MariaDB_OutageTests(OutageTests, MariaDBTestCase):
    """See the base class."""

    def kill(self) -> None:
        """Kill the server."""
        self.addCleanup(self.restart)
        shared_mariadb().kill()

    def restart(self) -> None:
        """Start the server unless it runs."""
        if not shared_mariadb().answers():
            shared_mariadb().start()

    async def test_ended_by_an_administrator(self) -> None:
        """A connection that the server closed is replaced at the next call."""
        await self.store.ping()
        server = shared_mariadb()
        clients = server.execute(
            "SELECT id FROM information_schema.processlist WHERE db LIKE 'mqsvc%'"
        )
        for (number,) in clients:
            server.execute(f"KILL {number}")
        await self.store.ping()


class MariaDB_FrozenTests(FrozenTests, TestCase):
    """See the base class."""

    LOCK = "LOCK TABLES destinations WRITE"

    def new_uri(self) -> str:
        """An empty database."""
        server = shared_mariadb()
        return server.uri(server.new_database())

    def freeze(self) -> None:
        """Stop the server in its tracks."""
        [(path,)] = shared_mariadb().execute("SELECT @@pid_file")
        self.number = int(Path(path).read_text())
        os.kill(self.number, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, if it was stopped."""
        if hasattr(self, "number"):
            os.kill(self.number, signal.SIGCONT)

    def until_nobody_waits(self) -> None:
        """Return when no statement waits for a lock."""
        until_none(
            lambda: shared_mariadb().execute(
                "SELECT info FROM information_schema.processlist "
                "WHERE state LIKE 'Waiting for table%'"
            )
        )


class MariaDB_VersionOneTests(VersionOneTests, TestCase):
    """See the base class."""

    version_1 = version_1(
        lambda length: f"VARBINARY({4 * length})",
        "MEDIUMTEXT CHARACTER SET utf8mb4",
        "BOOL",
    )

    def new_uri(self) -> str:
        """An empty database."""
        server = shared_mariadb()
        return server.uri(server.new_database())


class MariaDB_OpenTests(SynchronousTestCase):
    """Opening a database, before the reactor runs."""

    def setUp(self) -> None:
        """Make an empty database."""
        self.server = shared_mariadb()
        self.database = self.server.new_database()
        self.uri = self.server.uri(self.database)

    def engine(self) -> Engine:
        """Connections to it, after its tables were made."""
        engine = make_engine(self.uri, 1)
        self.addCleanup(engine.dispose)
        migrate(engine, MIGRATIONS)
        return engine

    def test_at_once(self) -> None:
        """Processes that start at once on an empty database all find it usable."""
        server = shared_mariadb()
        uris = [server.uri(server.new_database()) for _ in range(6)]
        said = open_at_once("mqsvc.storage.management.sql", "open_sql_management", uris)
        self.assertEqual(said, [""] * PROCESSES)

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

    def test_half_made(self) -> None:
        """Tables that a process left which died while it made them are taken over."""
        with self.engine().begin() as connection:
            connection.exec_driver_sql("DELETE FROM schema_versions")
            subscriptions.drop(connection)
        with self.engine().connect() as connection:
            connection.execute(subscriptions.select())

    def test_mysql(self) -> None:
        """A URI may call the database MySQL."""
        uri = self.server.uri(self.database, "mysql")
        open_sql_management(uri, reactor)
        with self.engine().connect() as connection:
            connection.execute(destinations.select())

    def test_tables(self) -> None:
        """Tables are transactional, whatever the default of the server is."""
        self.server.execute("SET GLOBAL default_storage_engine = 'Aria'")
        self.addCleanup(
            self.server.execute, "SET GLOBAL default_storage_engine = 'InnoDB'"
        )
        self.engine()
        engines = self.server.execute(
            "SELECT DISTINCT engine FROM information_schema.tables "
            f"WHERE table_schema = '{self.database}'"
        )
        self.assertEqual(engines, [("InnoDB",)])

    def test_strict(self) -> None:
        """A value that does not fit is refused where the server would cut it off."""
        row = key_of(queue("q" * 300)) | {"metadata": "{}", "revision": 1}
        with self.engine().begin() as connection:
            error = self.assertRaises(
                DataError, connection.execute, destinations.insert(), row
            )
        self.assertNotIn("qqq", str(error.statement))

    def test_no_server(self) -> None:
        """A server that is not there is named, in one line without a password."""
        uri = f"mariadb://user:secret@127.0.0.1:{free_port()}/mqsvc"
        error = self.assertRaises(StoreOpenError, open_sql_management, uri, reactor)
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertIn("127.0.0.1", str(error))
        self.assertNotIn("secret", str(error))
