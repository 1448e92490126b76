"""The SQL management store on SQLite files: the common suite, and its own corners."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Column, Connection, Integer, MetaData, Table
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import ColumnCollectionConstraint, CreateTable
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Kind, Subscription
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.management import sql_records
from mqsvc.storage.management.json_text import from_text, holds, same, to_text
from mqsvc.storage.management.sql import (
    SchemaTooNew,
    SQLManagementStore,
    open_sql_management,
)
from mqsvc.storage.management.sql_dialects import ExactText, lost_a_race, make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_postgresql import bounded
from mqsvc.storage.management.sql_schema import (
    destinations,
    key_of,
    subscriptions,
)
from mqsvc.storage.management.sql_transactions import (
    ANSWER_SECONDS,
    Transactions,
    reason_of,
)
from tests.storage.management_contract import (
    NOW,
    OpenPlace,
    make_management_tests,
    names,
    queue,
    subscription,
)
from tests.storage.sql_migrating import VersionOneTests, version_1


def new_path(case: SynchronousTestCase) -> Path:
    """Where a database of the test may be."""
    return Path(case.mktemp()).absolute()


def open_sqlite(case: TestCase) -> OpenPlace:
    """A file of the test."""
    path = new_path(case)
    return lambda: open_sql_management(f"sqlite:///{path}", reactor)


globals().update(make_management_tests("SQLite", open_sqlite))


class FileTestCase(TestCase):
    """A running store, and another connection to its file."""

    query = ""

    def setUp(self) -> None:
        """Open both."""
        self.path = new_path(self)
        self.store = self.open()
        self.store.startService()
        self.addCleanup(self.store.stopService)
        self.other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.other.close)

    def open(self) -> SQLManagementStore:
        """A store on the file."""
        return open_sql_management(f"sqlite:///{self.path}{self.query}", reactor)

    def rows(self, table: str) -> int:
        """How many rows a table really has."""
        (count,) = self.other.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


class FailureTests(FileTestCase):
    """What happens while the database does not do its part."""

    query = "?timeout=0"

    async def assert_unavailable(self, call: Deferred[Any]) -> None:
        """The call fails as an outage, with nothing else in its text."""
        with self.assertRaises(StoreUnavailable) as caught:
            await call
        self.assertEqual(caught.exception.description, StoreUnavailable().description)

    async def test_locked(self) -> None:
        """While the file is locked nothing is written, reading goes on."""
        self.other.execute("BEGIN IMMEDIATE")
        await self.assert_unavailable(self.store.create(queue("q"), {}))
        self.assertIsNone(await self.store.get(queue("q")))
        self.other.execute("ROLLBACK")
        self.assertTrue(await self.store.create(queue("q"), {}))

    async def test_table_missing(self) -> None:
        """When a table is missing each call fails, until it is there again."""
        await self.store.create(queue("q"), {"a": 1})
        self.other.execute("ALTER TABLE destinations RENAME TO hidden")
        await self.assert_unavailable(self.store.get(queue("q")))
        await self.assert_unavailable(self.store.create(queue("q"), {}))
        await self.assert_unavailable(self.store.delete(queue("q")))
        self.other.execute("ALTER TABLE hidden RENAME TO destinations")
        record = await self.store.get(queue("q"))
        assert record is not None
        self.assertEqual(record.metadata, {"a": 1})

    async def test_half_done(self) -> None:
        """A deletion that fails at the subscriptions has not touched the record."""
        await self.store.create(queue("q"), {})
        self.other.execute("ALTER TABLE subscriptions RENAME TO hidden")
        await self.assert_unavailable(self.store.delete(queue("q")))
        self.assertIsNotNone(await self.store.get(queue("q")))

    async def test_file_damaged(self) -> None:
        """A file that is no database is an outage, until it is put right."""
        self.other.close()
        await self.store.create(queue("q"), {})
        await self.store.stopService()
        good = self.path.read_bytes()
        self.path.write_bytes(b"This is no database." * 500)
        self.store.startService()
        await self.assert_unavailable(self.store.ping())
        await self.assert_unavailable(self.store.get(queue("q")))
        self.path.write_bytes(good)
        self.assertIsNotNone(await self.store.get(queue("q")))

    async def test_ping(self) -> None:
        """A ping asks the database, not only the driver."""
        self.other.execute("DROP TABLE schema_versions")
        await self.assert_unavailable(self.store.ping())

    async def test_log(self) -> None:
        """An outage is logged with its cause and without what tenants sent."""
        self.other.execute("ALTER TABLE destinations RENAME TO hidden")
        with capturedLogs() as events:
            await self.assert_unavailable(
                self.store.create(queue("q", "tenant"), {"key": "secret"})
            )
        (text,) = [formatEvent(event) for event in events]
        self.assertEqual(
            text,
            "The management store failed: "
            "OperationalError: no such table: destinations",
        )
        self.assertNotIn("secret", repr(events))

    async def test_id_taken(self) -> None:
        """A second subscriber under a live id is refused and replaces nothing."""
        await self.store.subscribe(subscription(1), NOW)
        with capturedLogs() as events:
            await self.assert_unavailable(
                self.store.subscribe(subscription(1, subscriber="http://x"), NOW)
            )
        (text,) = [formatEvent(event) for event in events]
        self.assertEqual(text, "The management store failed: IntegrityError")
        kept = await self.store.subscription(queue("q"), subscription(1).id, NOW)
        self.assertEqual(kept, subscription(1))


class SweepTests(FileTestCase):
    """How much goes at a time."""

    async def test_bound(self) -> None:
        """A sweep removes 500 rows at most and says when there may be more."""
        expired = [subscription(number) for number in range(501)]
        await gatherResults([self.store.subscribe(each, NOW) for each in expired])
        now = NOW + 60_000
        self.assertIs(await self.store.sweep(now), True)
        self.assertEqual(self.rows("subscriptions"), 1)
        self.assertIs(await self.store.sweep(now), False)
        self.assertEqual(self.rows("subscriptions"), 0)

    async def test_replaced(self) -> None:
        """An expired subscription leaves no row behind when it is made anew."""
        await self.store.subscribe(subscription(1), NOW)
        now = NOW + 60_000
        again: Subscription = subscription(
            2, subscriber=subscription(1).subscriber, created=now
        )
        await self.store.subscribe(again, now)
        self.assertEqual(self.rows("subscriptions"), 1)


class ThreadTests(FileTestCase):
    """Calls that a lock of another connection keeps waiting on their threads."""

    def setUp(self) -> None:
        """Start a second store, then hold the lock."""
        super().setUp()
        self.elsewhere = self.open()
        self.elsewhere.startService()
        self.addCleanup(self.elsewhere.stopService)
        self.other.execute("BEGIN IMMEDIATE")

    async def test_stop_waits(self) -> None:
        """A stop is over when the last running call is."""
        created = self.store.create(queue("q"), {})
        stopped = self.store.stopService()
        self.assertNoResult(stopped)
        self.other.execute("ROLLBACK")
        await stopped
        self.assertTrue(self.successResultOf(created))

    async def test_stop_waits_for_cancelled(self) -> None:
        """A cancelled call is done all the same, and before the stop."""
        created = self.store.create(queue("q"), {})
        created.cancel()
        self.failureResultOf(created, CancelledError)
        stopped = self.store.stopService()
        # The reactor goes on meanwhile: nobody joins a thread in it.
        await self.elsewhere.ping()
        self.assertNoResult(stopped)
        self.other.execute("ROLLBACK")
        await stopped
        self.assertEqual(self.rows("destinations"), 1)

    async def test_start_while_stopping(self) -> None:
        """A store may be started again before its stop is over."""
        created = self.store.create(queue("q"), {})
        stopped = self.store.stopService()
        self.store.startService()
        self.assertIsNone(await self.store.get(queue("q")))
        self.other.execute("ROLLBACK")
        await stopped
        self.assertTrue(self.successResultOf(created))
        self.assertIsNotNone(await self.store.get(queue("q")))

    async def test_readers_go_on(self) -> None:
        """A writer that waits keeps no reader waiting."""
        created = self.store.create(queue("q"), {})
        self.assertEqual(await self.store.count("p", Kind.QUEUE), 0)
        self.assertNoResult(created)
        self.other.execute("ROLLBACK")
        self.assertTrue(await created)


class RaceTests(TestCase):
    """Transactions on databases whose writers do not wait for each other."""

    async def test_second_look(self) -> None:
        """A step that met a row made meanwhile is run once more."""
        engine = make_engine(f"sqlite:///{new_path(self)}", 1)
        migrate(engine, MIGRATIONS)
        transactions = Transactions(engine, reactor, 1, reactor)
        transactions.start()
        self.addCleanup(transactions.stop)
        looks = []

        def step(connection: Connection, name: str) -> int:
            looks.append(name)
            row = key_of(queue(name)) | {"metadata": "{}", "revision": 1}
            insert = destinations.insert().values(row)
            connection.execute(insert)
            if len(looks) == 1:
                connection.execute(insert)
            return len(looks)

        self.assertEqual(await transactions.write(step, "q"), 2)

    def test_lost_races(self) -> None:
        """Deadlocks and rows made meanwhile are worth another attempt, no others."""
        postgresql_deadlock = sqlite3.OperationalError("deadlock detected")
        postgresql_deadlock.sqlstate = "40P01"  # type: ignore[attr-defined]
        for cause, expected in (
            (postgresql_deadlock, True),
            (sqlite3.OperationalError(1213, "Deadlock found"), True),
            (sqlite3.OperationalError(1205, "Lock wait timeout exceeded"), False),
            (sqlite3.OperationalError("database is locked"), False),
        ):
            error = OperationalError("UPDATE", {}, cause)
            self.assertIs(lost_a_race(error), expected, cause)


class AnswerTests(TestCase):
    """Calls whose time is over while the database keeps their thread."""

    def setUp(self) -> None:
        """Start transactions on one thread, and a clock that stands still."""
        self.clock = Clock()
        self.engine = make_engine(f"sqlite:///{new_path(self)}", 1)
        migrate(self.engine, MIGRATIONS)
        self.transactions = Transactions(self.engine, reactor, 1, self.clock)
        self.transactions.start()
        self.addCleanup(self.transactions.stop)
        self.begun: Deferred[None] = Deferred()
        self.inserts: list[str] = []
        self.gate = Event()
        self.addCleanup(self.gate.set)

    def insert(self, connection: Connection, name: str) -> None:
        """Make a record."""
        self.inserts.append(name)
        row = key_of(queue(name)) | {"metadata": "{}", "revision": 1}
        connection.execute(destinations.insert().values(row))

    def insert_at_last(self, connection: Connection, name: str) -> None:
        """Make a record, as a database does that stands still meanwhile."""
        reactor.callFromThread(self.begun.callback, None)
        self.gate.wait()
        self.insert(connection, name)

    async def stuck(self) -> Deferred[None]:
        """A call that has the thread until the gate is opened."""
        call = self.transactions.write(self.insert_at_last, "stuck")
        await self.begun
        return call

    async def kept(self) -> list[str]:
        """The names of the records that are there, once the thread is free."""
        page = self.transactions.read(sql_records.page, "p", Kind.QUEUE, 10, "", "", {})
        return names(await page)

    async def test_in_time(self) -> None:
        """A call that is answered in time leaves nothing behind."""
        call = await self.stuck()
        self.clock.advance(ANSWER_SECONDS - 1)
        self.assertNoResult(call)
        self.gate.set()
        await call
        self.assertEqual(await self.kept(), ["stuck"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_over(self) -> None:
        """When the time is over the caller is told, and the rest is undone."""
        call = await self.stuck()
        self.clock.advance(ANSWER_SECONDS)
        self.failureResultOf(call, StoreUnavailable)
        self.gate.set()
        self.assertEqual(await self.kept(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_in_line(self) -> None:
        """Who waits for the thread is told in time too, and nothing is done late."""
        first = await self.stuck()
        self.clock.advance(1)
        others = [
            call(self.insert, f"late{number}")
            for number in range(9)
            for call in (self.transactions.read, self.transactions.write)
        ]
        self.clock.advance(ANSWER_SECONDS - 1)
        self.failureResultOf(first, StoreUnavailable)
        self.assertNoResult(others[0])
        self.clock.advance(1)
        for other in others:
            self.failureResultOf(other, StoreUnavailable)
        last = self.transactions.write(self.insert, "in time")
        self.gate.set()
        await last
        self.assertEqual(await self.kept(), ["in time"])
        self.assertEqual(self.inserts, ["stuck", "in time"])

    async def test_cancelled(self) -> None:
        """Who cancelled hears nothing more when the time is over."""
        call = await self.stuck()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.clock.advance(ANSWER_SECONDS)
        self.gate.set()
        self.assertEqual(await self.kept(), [])

    async def test_stop(self) -> None:
        """A stop waits for the threads, also those whose callers have gone."""
        call = await self.stuck()
        self.clock.advance(ANSWER_SECONDS)
        self.failureResultOf(call, StoreUnavailable)
        stopped = self.transactions.stop()
        self.assertNoResult(stopped)
        self.gate.set()
        await stopped

    async def test_log(self) -> None:
        """What took too long is in the log."""
        call = await self.stuck()
        with capturedLogs() as events:
            self.clock.advance(ANSWER_SECONDS)
        self.failureResultOf(call, StoreUnavailable)
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["The management store did not answer within 10 seconds"],
        )


class OpenTests(SynchronousTestCase):
    """Opening a database, before the reactor runs."""

    def open(self, path: Path, query: str = "") -> SQLManagementStore:
        """A store on a file."""
        return open_sql_management(f"sqlite:///{path}{query}", reactor)

    def refused(self, uri: str) -> str:
        """The one line with which a URI is refused."""
        error = self.assertRaises(StoreOpenError, open_sql_management, uri, reactor)
        self.assertEqual(len(str(error).splitlines()), 1)
        return str(error)

    def test_too_new(self) -> None:
        """A database of a newer program is refused and not touched."""
        path = new_path(self)
        self.open(path)
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("INSERT INTO schema_versions VALUES (7)")
        before = path.read_bytes()
        error = self.assertRaises(SchemaTooNew, self.open, path)
        self.assertIn(str(path), str(error))
        self.assertIn("version 7", str(error))
        self.assertIn(f"up to {len(MIGRATIONS)}", str(error))
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertEqual(path.read_bytes(), before)

    def test_nothing_stays_open(self) -> None:
        """No connection is left for a fork to inherit."""
        path = new_path(self)
        self.open(path)
        # SQLite removes the log of a database with its last connection.
        self.assertEqual([each.name for each in path.parent.iterdir()], [path.name])

    def test_durability(self) -> None:
        """The log is written ahead, and synced at each commit."""
        engine = make_engine(f"sqlite:///{new_path(self)}", 1)
        self.addCleanup(engine.dispose)
        with engine.connect() as connection:
            read = connection.exec_driver_sql
            self.assertEqual(read("PRAGMA journal_mode").scalar(), "wal")
            self.assertEqual(read("PRAGMA synchronous").scalar(), 2)
            self.assertEqual(read("PRAGMA busy_timeout").scalar(), 10_000)

    def test_parameters_are_hidden(self) -> None:
        """The text of an error does not hold what a statement was to store."""
        engine = make_engine(f"sqlite:///{new_path(self)}", 1)
        self.addCleanup(engine.dispose)
        row = key_of(queue("q")) | {"metadata": "secret", "revision": 1}
        with engine.begin() as connection:
            error = self.assertRaises(
                OperationalError, connection.execute, destinations.insert(), row
            )
        self.assertIn("no such table", str(error))
        self.assertNotIn("secret", str(error))

    def test_private_file(self) -> None:
        """A new file is for its owner only; the mode of an existing one stays."""
        path = new_path(self)
        self.open(path)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        path.chmod(0o640)
        self.open(path)
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)

    def test_directory_missing(self) -> None:
        """A path that cannot be made is refused by name."""
        path = new_path(self) / "missing" / "management.db"
        self.assertIn(str(path), self.refused(f"sqlite:///{path}"))

    def test_no_database(self) -> None:
        """A file of another kind is refused by name, and not changed."""
        path = new_path(self)
        path.write_bytes(b"This is no database." * 500)
        text = self.refused(f"sqlite:///{path}")
        self.assertIn(str(path), text)
        self.assertIn("file is not a database", text)
        self.assertEqual(path.read_bytes(), b"This is no database." * 500)

    def test_locked(self) -> None:
        """A file that another program keeps locked is refused."""
        path = new_path(self)
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        text = self.refused(f"sqlite:///{path}?timeout=0")
        self.assertIn("database is locked", text)

    def test_memory(self) -> None:
        """A database that would be gone with its connection is refused."""
        for uri in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
            self.assertIn("needs a file", self.refused(uri))

    def test_bad_uri(self) -> None:
        """A URI that names no known database is refused."""
        for uri in ("", "management.db", "nosuch:///file"):
            self.assertIn("URI cannot be used", self.refused(uri))

    def test_odd_path(self) -> None:
        """A URL made of a path names that path, whatever characters it has."""
        path = new_path(self).with_name("a b?timeout=x#%20;.db")
        open_sql_management(URL.create("sqlite", database=str(path)), reactor)
        self.assertGreater(path.stat().st_size, 0)

    def test_password_is_not_shown(self) -> None:
        """The text that names a database keeps its password back."""
        uri = "sqlite://user:secret@/relative.db"
        self.assertNotIn("secret", self.refused(uri))

    def test_relative_path(self) -> None:
        """A relative path is that of the directory in which the store was opened."""
        path = new_path(self)
        engine = make_engine(f"sqlite:///{os.path.relpath(path)}", 1)
        self.addCleanup(engine.dispose)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE proof (number INTEGER)")
        self.assertGreater(path.stat().st_size, 0)


def make_table(name: str) -> Table:
    """A small table for a migration to make."""
    return Table(name, MetaData(), Column("number", Integer))


class MigrationTests(SynchronousTestCase):
    """Numbered steps from one schema to the next."""

    def setUp(self) -> None:
        """Begin with an empty file."""
        self.path = new_path(self)
        self.engine = make_engine(f"sqlite:///{self.path}", 1)
        self.addCleanup(self.engine.dispose)

    def tables(self) -> set[str]:
        """The tables that are there."""
        with self.engine.connect() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master")
            return set(names.scalars()) - {"schema_versions"}

    def test_order(self) -> None:
        """Each migration runs once, in order, also over several starts."""
        done: list[str] = []

        def first(connection: Connection) -> None:
            done.append("first")

        def second(connection: Connection) -> None:
            done.append("second")

        def third(connection: Connection) -> None:
            done.append("third")

        migrate(self.engine, [first, second])
        migrate(self.engine, [first, second])
        migrate(self.engine, [first, second, third])
        self.assertEqual(done, ["first", "second", "third"])

    def test_interrupted(self) -> None:
        """A migration that fails leaves nothing; the next start goes on from there."""

        def broken(connection: Connection) -> None:
            make_table("half").create(connection)
            connection.exec_driver_sql("NO SQL AT ALL")

        first, second = make_table("one").create, make_table("two").create
        self.assertRaises(OperationalError, migrate, self.engine, [first, broken])
        self.assertEqual(self.tables(), {"one"})
        migrate(self.engine, [first, second])
        self.assertEqual(self.tables(), {"one", "two"})

    def test_left_behind(self) -> None:
        """Tables of a database that cannot undo their making are taken over."""
        # As after a crash of MySQL, which commits at each CREATE TABLE.
        with self.engine.begin() as connection:
            destinations.create(connection)
        migrate(self.engine, MIGRATIONS)
        self.assertLessEqual({"destinations", "subscriptions"}, self.tables())


class SQLite_VersionOneTests(VersionOneTests, TestCase):
    """See the base class."""

    version_1 = version_1("VARCHAR({})".format, "TEXT", "BOOLEAN")

    def new_uri(self) -> str:
        """A file of the test."""
        return f"sqlite:///{new_path(self)}"


class DialectTests(SynchronousTestCase):
    """What other databases are told."""

    def sql(self, table: Table, dialect: Dialect) -> str:
        """How a table is made there."""
        return str(CreateTable(table).compile(dialect=dialect))

    def test_postgresql(self) -> None:
        """PostgreSQL is told to order names by code points."""
        sql = self.sql(destinations, postgresql.dialect())
        self.assertIn('name VARCHAR(64) COLLATE "C" NOT NULL', sql)
        self.assertIn("metadata TEXT NOT NULL", sql)

    def test_mysql(self) -> None:
        """MySQL and MariaDB keep names as bytes and have room for large documents."""
        for dialect in (mysql.dialect(), mysql.dialect(is_mariadb=True)):
            sql = self.sql(destinations, dialect)
            self.assertIn("project VARBINARY(1024) NOT NULL", sql)
            self.assertIn("metadata MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL", sql)

    def test_mysql_key_size(self) -> None:
        """No key is larger than the 3072 bytes that InnoDB takes."""
        for constraint in chain(destinations.constraints, subscriptions.constraints):
            assert isinstance(constraint, ColumnCollectionConstraint), constraint
            types = [column.type for column in constraint.columns]
            lengths = [each.length for each in types if isinstance(each, ExactText)]
            self.assertLessEqual(4 * sum(lengths), 3072, constraint)

    def test_bytes(self) -> None:
        """Text goes to MySQL as UTF-8 and comes back as text."""
        column = ExactText(64)
        for dialect, kept in (
            (mysql.dialect(), b"\xc3\xa9 "),
            (sqlite.dialect(), "\u00e9 "),
        ):
            self.assertEqual(column.process_bind_param("\u00e9 ", dialect), kept)
            self.assertEqual(column.process_result_value(kept, dialect), "\u00e9 ")


class BrokenOff(Exception):
    """An exchange was broken off."""


class BoundedTests(SynchronousTestCase):
    """Exchanges with PostgreSQL that take no longer than they may."""

    def setUp(self) -> None:
        """Begin an exchange that waits twice, in good time."""
        self.is_late = False
        self.sent: list[int] = []
        self.steps = bounded(self.exchange(), lambda: self.is_late, self.break_off)
        self.assertEqual(next(self.steps), "first")

    def exchange(self) -> Generator[str, int, str]:
        """Wait for two things and give an answer."""
        for wanted in ("first", "second"):
            while not (ready := (yield wanted)):
                self.sent.append(ready)
            self.sent.append(ready)
        return "answer"

    def break_off(self) -> NoReturn:
        """Let no one overlook it."""
        raise BrokenOff

    def test_in_time(self) -> None:
        """Whatever is sent goes through, however often nothing came."""
        self.assertEqual(self.steps.send(0), "first")
        self.assertEqual(self.steps.send(1), "second")
        with self.assertRaises(StopIteration) as end:
            self.steps.send(2)
        self.assertEqual(end.exception.value, "answer")
        self.assertEqual(self.sent, [0, 1, 2])

    def test_late(self) -> None:
        """When it is late and nothing came, the exchange is over."""
        self.is_late = True
        with self.assertRaises(BrokenOff):
            self.steps.send(0)
        self.assertEqual(self.sent, [])

    def test_late_answer(self) -> None:
        """What has come is used, however late it is."""
        self.is_late = True
        self.assertEqual(self.steps.send(1), "second")
        self.assertEqual(self.sent, [1])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)

# The same examples at each run, however slow the machine is.
steady = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def shape(value: Any) -> Any:
    """A value with the type of each part and the order of keys spelled out."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [type(value), *map(shape, value)]
    return type(value), repr(value)


class JSONTextTests(SynchronousTestCase):
    """Documents as text, and their comparison."""

    @steady
    @given(st.dictionaries(st.text(max_size=3), json_values))
    def test_round_trip(self, document: dict[str, Any]) -> None:
        """Whatever is valid JSON comes back with its types and key order."""
        self.assertEqual(shape(from_text(to_text(document))), shape(document))

    @steady
    @given(json_values, json_values)
    def test_same(self, one: Any, other: Any) -> None:
        """A value is the same as itself, and sameness works in both directions."""
        self.assertTrue(same(one, from_text(to_text({"": one}))[""]))
        self.assertEqual(same(one, other), same(other, one))

    def test_different(self) -> None:
        """Values that only Python takes for equal are different."""
        for one, other in (
            (True, 1),
            (False, 0),
            (True, 1.0),
            ([True], [1]),
            ({"a": False}, {"a": 0}),
            ([], {}),
            ([1], [1, 2]),
            ({"a": 1}, {"a": 1, "b": 2}),
            ({"a": None}, {"b": None}),
            ("1", 1),
            (None, False),
            (2**53 + 1, float(2**53)),
        ):
            self.assertFalse(same(one, other), (one, other))
            self.assertFalse(same(other, one), (other, one))

    def test_same_number(self) -> None:
        """A number is the same however it is written."""
        self.assertTrue(same({"a": [1, 0]}, {"a": [1.0, -0.0]}))

    def test_holds(self) -> None:
        """A document holds what it has among other things."""
        self.assertTrue(holds({"a": 1, "b": 2}, {"b": 2}))
        self.assertFalse(holds({"a": 1}, {"b": None}))


class ReasonTests(SynchronousTestCase):
    """What is shown of an error."""

    def test_first_line(self) -> None:
        """Further lines, in which some databases quote the row, are left out."""
        inner = sqlite3.OperationalError("it failed\nDETAIL: Failing row (secret)")
        error = OperationalError("INSERT", {"a": "secret"}, inner)
        self.assertEqual(reason_of(error), "OperationalError: it failed")
