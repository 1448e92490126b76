"""The SQL management store on PostgreSQL: the common suite, and its own corners.

The corners that any other server has too are mixed into the tests of those.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.dialects import postgresql
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Kind
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.storage.management.sql import open_sql_management
from mqsvc.storage.management.sql_dialects import ExactText, LongText, make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_schema import (
    destinations,
    key_of,
    schema_versions,
)
from mqsvc.storage.management.sql_servers import take_schema_turn
from tests.live import CHECKOUT, free_port
from tests.servers.postgresql import shared_postgresql
from tests.storage.management_contract import (
    NOW,
    ManagementTestCase,
    OpenPlace,
    make_management_tests,
    names,
    queue,
    subscription,
)
from tests.storage.test_management_sql import steady

PROCESSES = 4

OPENING = """
import sys
from twisted.internet import reactor
from {module} import {function} as open_store
for uri in {uris!r}:
    print("ready", flush=True)
    sys.stdin.readline()
    open_store(uri, reactor)
"""


def open_at_once(module: str, function: str, uris: Sequence[str]) -> list[str]:
    """What each of some processes says that open databases at the same moments.

    :param uris: empty databases, one for each moment.
    """
    program = OPENING.format(module=module, function=function, uris=uris)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(start(program)) for _ in range(PROCESSES)]
        for _ in uris:
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            for process in processes:
                release(process)
        return [process.communicate()[1] for process in processes]


def start(program: str) -> subprocess.Popen[str]:
    """A process that runs a program of this checkout."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def release(process: subprocess.Popen[str]) -> None:
    """Let a process go on, unless it ended before its time."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()


class NULTests:
    """Texts with the one character that PostgreSQL does not take."""

    store: IManagementStore

    PROJECTS = ("p", "p\0", "p\x01", "p\x02", "p\0\x01", "p\x01\x01", "\0" * 256)

    async def test_project(self: Any) -> None:
        """Projects that differ in control characters never meet."""
        for project in self.PROJECTS:
            created = self.store.create(queue("q", project), {"of": project})
            self.assertTrue(await created, project)
        for project in self.PROJECTS:
            (record,) = await self.store.page(project, Kind.QUEUE, 10)
            self.assertEqual(record.destination.project, project)
            self.assertEqual(record.metadata, {"of": project})

    async def test_marker(self: Any) -> None:
        """A marker with NUL is a position like any other."""
        await self.create_all(*map(queue, "abc"))
        for after, expected in (("a\0", "bc"), ("\0", "abc"), ("b\0\0", "c")):
            page = await self.store.page("p", Kind.QUEUE, 10, after)
            self.assertEqual(names(page), list(expected))
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "\0", NOW), [])

    async def test_subscriber(self: Any) -> None:
        """A subscriber with NUL comes back as it was, and is no other one."""
        kept = [
            subscription(number, subscriber=uri)
            for number, uri in enumerate(("http://s", "http://s\0", "http://s\x01\x01"))
        ]
        await self.subscribe_all(*kept)
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "", NOW), kept)

    async def test_subscription_id(self: Any) -> None:
        """An id with NUL is unknown and can be deleted like any unknown one."""
        await self.store.unsubscribe(queue("q"), "\0")
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "", NOW), [])


class OutageTests:
    """A server that is killed under load and comes back."""

    store: IManagementStore

    async def test_killed(self: Any) -> None:
        """Calls fail as an outage while it is away; none that succeeded is lost."""
        calls = [self.store.create(queue(f"q{n:03}"), {}) for n in range(200)]
        await calls[0]
        self.kill()
        late = self.store.ping()
        outcomes = await DeferredList(calls, consumeErrors=True)
        with self.assertRaises(StoreUnavailable):
            await late
        kept = [f"q{n:03}" for n, (done, _) in enumerate(outcomes) if done]
        failures = [outcome for done, outcome in outcomes if not done]
        for failure in failures:
            failure.trap(StoreUnavailable)
        self.restart()
        there = names(await self.store.page("p", Kind.QUEUE, 1000))
        self.assertLessEqual(set(kept), set(there))

    async def test_restarted(self: Any) -> None:
        """Connections that died while idle are replaced, and no caller sees it."""
        pings = [self.store.ping() for _ in range(4)]
        await gatherResults(pings)
        self.kill()
        self.restart()
        await gatherResults([self.store.ping() for _ in range(4)])
        self.assertTrue(await self.store.create(queue("q"), {}))


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
        for query, expected in (("", 5), ("?connect_timeout=9", 9)):
            with self.engine(query).connect() as connection:
                info = connection.connection.driver_connection.info
                parameters = info.get_parameters()
            self.assertEqual(parameters["connect_timeout"], str(expected))
            self.assertEqual(parameters["tcp_user_timeout"], "10000")

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
