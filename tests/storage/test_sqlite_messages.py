"""The embedded message store: the behaviour of every store, and its own."""

from __future__ import annotations

import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import MessageIsClaimed, StoreUnavailable
from mqsvc.messaging.model import (
    DeadLetterRule,
    Destination,
    Kind,
    Message,
    NewMessage,
    Posting,
    Selection,
)
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.messages import sqlite_statements
from mqsvc.storage.messages.sqlite import (
    SQLiteMessageStore,
    open_sqlite_messages,
    prepare,
)
from mqsvc.storage.messages.sqlite_listing import page
from mqsvc.storage.messages.sqlite_posting import Post, post
from mqsvc.storage.messages.sqlite_schema import MIGRATIONS
from mqsvc.storage.sqlite import Job, Reader, Result, Writer, connect, migrate
from tests.storage.contract import ORDERS, RETURNS, START, make_store_tests
from tests.storage.inline import InlineWorker
from tests.storage.state_machine import PROFILE, machine_for

SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\s")

VERSION_1 = f"""
    INSERT INTO destinations VALUES (1, 'tenant', 'queue', 'orders', 8, 1, 0, 0, 0);
    INSERT INTO destinations VALUES (2, 'tenant', 'topic', 'orders', 8, 1, 0, 0, 0);
    INSERT INTO destinations VALUES (3, 'neighbour', 'queue', 'empty', 8, 0, 0, 0, 0);
    INSERT INTO cleared VALUES (4);
    INSERT INTO messages SELECT id, 7, 0, 0, 0, {2 * START}, 0, 60, 0, 0, NULL, 0, body
    FROM (SELECT 1 AS id, CAST('1' AS BLOB) AS body
          UNION SELECT 2, zeroblob(22) UNION SELECT 4, zeroblob(4444));
"""
"""A queue and a topic, and what is left of a destination that was cleared."""

LOST = """
    SELECT * FROM messages WHERE state = 2 AND NOT EXISTS (
        SELECT 1 FROM claims WHERE claims.id = messages.claim
        AND claims.destination = messages.destination
        AND claims.expires = messages.ready_at)
"""
"""Claimed messages that no claim leads to."""

EVERYTHING = Selection(10_000, include_claimed=True, include_delayed=True)

SELECTIONS = [
    Selection(1, hide_client=client, include_claimed=claimed, include_delayed=delayed)
    for client in (None, "alice")
    for claimed in (False, True)
    for delayed in (False, True)
]
"""Lists of each kind, of one message."""


def open_store(testcase: TestCase, path: str | None = None) -> SQLiteMessageStore:
    """A store with its threads, on a file of its own unless one is given."""
    return open_sqlite_messages(path or testcase.mktemp(), IReactorFromThreads(reactor))


class CheckingWorker(InlineWorker):
    """Looks after each job whether each claimed message can be found by its claim."""

    def _transact(self, job: Job[Result]) -> Result:
        result = super()._transact(job)
        assert self._connection is not None
        lost = self._connection.execute(LOST).fetchall()
        if lost:
            raise AssertionError(f"No claim leads to {lost}.")
        return result


def open_inline(path: str) -> SQLiteMessageStore:
    """A store without threads, whose Deferreds have fired when they are returned."""
    prepare(path)
    # Random as hypothesis seeds it, so that a failure can be repeated.
    return SQLiteMessageStore(
        CheckingWorker(path), CheckingWorker(path), random.getrandbits
    )


globals().update(make_store_tests("SQLite", open_store))


class AgreementTests(SynchronousTestCase):
    """The driver against the model."""

    def test_agreement(self) -> None:
        """Store and model answer alike through any history."""
        run_state_machine_as_test(machine_for(open_inline), settings=PROFILE)


class FileTests(TestCase):
    """The file that a store keeps its messages in."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def test_schema_of_a_newer_program(self) -> None:
        """A file of a newer version is refused, naming it and both versions."""
        prepare(self.path)
        connection = connect(self.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with self.assertRaises(SchemaTooNew) as caught:
            open_store(self, self.path)
        for fact in (self.path, "version 99", "up to 3", "newer mqsvc"):
            self.assertIn(fact, str(caught.exception))

    def test_no_database(self) -> None:
        """A file that is something else is refused and left as it is."""
        Path(self.path).write_bytes(b"tenants: 7\n" * 100)
        with self.assertRaises(StoreOpenError) as caught:
            open_store(self, self.path)
        self.assertIn(self.path, str(caught.exception))
        self.assertEqual(Path(self.path).read_bytes(), b"tenants: 7\n" * 100)

    def test_no_folder(self) -> None:
        """A file in a folder that does not exist is refused, naming the file."""
        missing = f"{self.path}/messages"
        with self.assertRaises(StoreOpenError) as caught:
            open_store(self, missing)
        self.assertIn(missing, str(caught.exception))

    async def test_nobody_else_reads_it(self) -> None:
        """Only the owner may read the file and those that SQLite puts beside it."""
        store = open_store(self, self.path)
        store.startService()
        self.addCleanup(store.stopService)
        await store.post(ORDERS, [NewMessage(b"1", 60)], "alice", START)
        files = list(Path(self.path).parent.glob(f"{Path(self.path).name}*"))
        self.assertGreater(len(files), 1)
        self.assertEqual({each.stat().st_mode & 0o777 for each in files}, {0o600})

    async def test_one_name_of_two_kinds(self) -> None:
        """A queue and a topic of one name are apart, also in a file opened again."""
        topic = Destination(ORDERS.project, Kind.TOPIC, ORDERS.name)
        first = open_store(self, self.path)
        first.startService()
        for number, place in enumerate((ORDERS, topic)):
            new = [NewMessage(str(number).encode(), 60)]
            await first.post(place, new, "alice", START)
        await first.stopService()
        second = open_store(self, self.path)
        second.startService()
        self.addCleanup(second.stopService)
        pages = [
            await second.page(place, EVERYTHING, START) for place in (ORDERS, topic)
        ]
        self.assertEqual([[m.body for m in page] for page in pages], [[b"0"], [b"1"]])

    async def test_bytes_of_a_former_version(self) -> None:
        """What a file of version 1 keeps is counted when it is opened."""
        migrate(self.path, MIGRATIONS[:1])
        connection = connect(self.path)
        connection.executescript(VERSION_1)
        connection.close()
        store = open_store(self, self.path)
        store.startService()
        self.addCleanup(store.stopService)
        self.assertEqual(await store.stored_bytes("tenant"), 1 + 22)
        self.assertEqual(await store.stored_bytes("neighbour"), 0)
        popped = await store.pop(ORDERS, 1, START)
        self.assertEqual([each.body for each in popped], [b"1"])
        self.assertEqual(await store.stored_bytes("tenant"), 22)
        await store.post(ORDERS, [NewMessage(b"333", 60)], "alice", START)
        self.assertEqual(await store.stored_bytes("tenant"), 25)

    async def test_durability(self) -> None:
        """Both connections write ahead, and wait for the disk at every commit."""
        for worker in workers(self, self.path):
            settings = await worker.run(pragmas("journal_mode", "synchronous"))
            self.assertEqual(settings, ["wal", 2])


def workers(testcase: TestCase, path: str) -> tuple[Writer, Reader]:
    """A writer and a reader of a file, started."""
    prepare(path)
    threads = IReactorFromThreads(reactor)
    pair = Writer(path, threads), Reader(path, threads)
    for worker in pair:
        worker.start()
        testcase.addCleanup(worker.stop)
    return pair


def pragmas(*names: str) -> Callable[[sqlite3.Connection], list[Any]]:
    """A job that looks settings of its connection up."""
    return lambda connection: [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names
    ]


class GroupTests(TestCase):
    """Jobs that are committed together."""

    def setUp(self) -> None:
        path = self.mktemp()
        prepare(path)
        self.path = path
        self.writer = Writer(path, IReactorFromThreads(reactor))
        self.reader = Reader(path, IReactorFromThreads(reactor))
        self.store = SQLiteMessageStore(self.writer, self.reader, random.getrandbits)
        self.store.startService()
        self.addCleanup(self.store.stopService)
        self.statements: list[str] = []

    async def hold(self) -> Event:
        """Keep the writer busy: what is asked until the event is set is one group."""
        begun: Deferred[None] = Deferred()
        go_on = Event()
        self.addCleanup(go_on.set)

        def wait(connection: sqlite3.Connection) -> None:
            IReactorFromThreads(reactor).callFromThread(begun.callback, None)
            go_on.wait()

        self.writer.run(wait)
        await begun
        return go_on

    def watch(self) -> Deferred[None]:
        """Note the statements of a group, as its first job."""
        return self.writer.run(
            lambda connection: connection.set_trace_callback(self.statements.append)
        )

    def post(self, body: bytes) -> Deferred[list[str]]:
        return self.store.post(ORDERS, [NewMessage(body, 60)], "alice", START)

    def post_elsewhere(self, body: bytes) -> Deferred[list[str]]:
        return self.store.post(RETURNS, [NewMessage(body, 60)], "alice", START)

    async def bodies(self) -> list[bytes]:
        """What is stored, whoever holds it."""
        page: list[Message] = await self.store.page(ORDERS, EVERYTHING, START)
        return [message.body for message in page]

    async def assert_unavailable(self, *answers: Deferred[Any]) -> None:
        """Each of them fails as if the store could not be reached."""
        for answer in answers:
            with self.assertRaises(StoreUnavailable):
                await answer

    async def test_one_commit(self) -> None:
        """Everything that waits for the writer shares one commit."""
        go_on = await self.hold()
        watch = self.watch()
        posts = [self.post(b"%d" % number) for number in range(20)]
        go_on.set()
        await watch
        await gatherResults(posts)
        self.assertEqual(self.statements.count("COMMIT"), 1)
        self.assertEqual(await self.bodies(), [b"%d" % n for n in range(20)])

    def ran(self, beginning: str) -> int:
        """How many of the statements noted begin so."""
        words = beginning.split()
        return sum(each.split()[: len(words)] == words for each in self.statements)

    async def test_joined_posts(self) -> None:
        """Posts that wait together are inserted by as few statements as can be."""
        go_on = await self.hold()
        watch = self.watch()
        posts = [self.post(b"%d" % number) for number in range(20)]
        go_on.set()
        await watch
        await gatherResults(posts)
        self.assertEqual(self.ran("INSERT INTO messages"), 2)
        self.assertEqual(self.ran("UPDATE destinations"), 1)
        self.assertEqual(await self.bodies(), [b"%d" % n for n in range(20)])

    async def test_joined_claims(self) -> None:
        """Claims that wait together look once, and the first get the oldest."""
        for number in range(4):
            await self.post(b"%d" % number)
        await self.post_elsewhere(b"4")
        go_on = await self.hold()
        watch = self.watch()
        places = [*[(ORDERS, limit) for limit in (1, 2, 3, 1)], (RETURNS, 9)]
        claims = [
            self.store.claim(place, 60, 60, limit, START) for place, limit in places
        ]
        go_on.set()
        await watch
        lent = [each.claim for each in await gatherResults(claims)]
        self.assertEqual(
            [
                None if each is None else [m.body for m in each.messages]
                for each in lent
            ],
            [[b"0"], [b"1", b"2"], [b"3"], None, [b"4"]],
        )
        self.assertEqual(self.ran("SELECT id, EXISTS"), 2)
        self.assertEqual((await self.store.stats(ORDERS, START)).claimed, 4)

    async def test_joined_claims_under_a_rule(self) -> None:
        """What is due for another queue is so in the share that it falls into."""
        rule = DeadLetterRule(RETURNS, 1)
        for body in (b"worn", b"fresh"):
            await self.post(body)
        worn = (await self.store.claim(ORDERS, 60, 60, 1, START)).claim
        assert worn is not None
        await self.store.release(ORDERS, worn.id, START)
        go_on = await self.hold()
        claims = [self.store.claim(ORDERS, 60, 60, 1, START, rule) for _ in range(2)]
        go_on.set()
        first, second = await gatherResults(claims)
        self.assertEqual((first.claim, first.dead_lettered), (None, 1))
        assert second.claim is not None
        self.assertEqual([m.body for m in second.claim.messages], [b"fresh"])
        self.assertEqual((await self.store.stats(RETURNS, START)).free, 1)

    async def test_joined_deletes(self) -> None:
        """Deletes that wait together are counted once, and each has its outcome."""
        ids = [id for number in range(5) for id in await self.post(b"%d" % number)]
        lent = (await self.store.claim(ORDERS, 60, 60, 2, START)).claim
        assert lent is not None
        elsewhere = await self.post_elsewhere(b"elsewhere")
        go_on = await self.hold()
        watch = self.watch()
        refused = self.store.delete(ORDERS, [ids[2], ids[0]], START, [])
        deletes = [
            self.store.delete(ORDERS, [ids[0]], START, [lent.id]),
            self.store.delete(ORDERS, [ids[3]], START, []),
            self.store.delete(ORDERS, [ids[3], ids[4]], START),
            self.store.delete(RETURNS, elsewhere, START),
        ]
        go_on.set()
        with self.assertRaises(MessageIsClaimed):
            await refused
        await watch
        await gatherResults(deletes)
        self.assertEqual(self.statements.count("COMMIT"), 1)
        self.assertEqual(self.ran("SAVEPOINT"), 0)
        self.assertEqual(self.ran("UPDATE destinations"), 2)
        self.assertEqual(await self.bodies(), [b"1", b"2"])
        stats = await self.store.stats(ORDERS, START)
        self.assertEqual((stats.claimed, stats.free), (1, 1))
        self.assertEqual((await self.store.stats(RETURNS, START)).total, 0)

    async def test_refusal_is_its_own(self) -> None:
        """A job that is refused fails alone in its group."""
        ids = await self.post(b"claimed")
        await self.store.claim(ORDERS, 60, 60, 1, START)
        go_on = await self.hold()
        watch = self.watch()
        before = self.post(b"before")
        refused = self.store.delete(ORDERS, ids, START, [])
        after = self.post(b"after")
        go_on.set()
        with self.assertRaises(MessageIsClaimed):
            await refused
        await watch
        await gatherResults([before, after])
        self.assertEqual(self.statements.count("COMMIT"), 1)
        self.assertEqual(await self.bodies(), [b"claimed", b"before", b"after"])

    async def test_broken_job_is_undone(self) -> None:
        """A job that fails half-way leaves nothing, and the others of its group all."""

        def half_done(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM messages")
            raise ZeroDivisionError

        go_on = await self.hold()
        before = self.post(b"before")
        broken = self.writer.run(half_done)
        after = self.post(b"after")
        go_on.set()
        with self.assertRaises(ZeroDivisionError):
            await broken
        await gatherResults([before, after])
        self.assertEqual(await self.bodies(), [b"before", b"after"])

    async def test_statement_that_fails(self) -> None:
        """A statement that SQLite refuses fails its job alone, and is logged."""
        go_on = await self.hold()
        before = self.post(b"before")
        broken = self.writer.run(
            lambda connection: connection.execute("INSERT INTO cleared VALUES ('x')")
        )
        after = self.post(b"after")
        go_on.set()
        await self.assert_unavailable(broken)
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.IntegrityError)), 1)
        await gatherResults([before, after])
        self.assertEqual(await self.bodies(), [b"before", b"after"])

    async def test_second_half_fails(self) -> None:
        """Of a post to two destinations nothing is left when the second one fails."""
        unfit: Any = []
        also = Posting(RETURNS, [NewMessage(b"further", 60), NewMessage(unfit, 60)])
        go_on = await self.hold()
        before = self.post(b"before")
        new = [NewMessage(b"half", 60)]
        broken = self.store.post(ORDERS, new, "alice", START, also)
        after = self.post(b"after")
        go_on.set()
        await self.assert_unavailable(broken)
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.Error)), 1)
        await gatherResults([before, after])
        self.assertEqual(await self.bodies(), [b"before", b"after"])
        self.assertEqual((await self.store.stats(RETURNS, START)).total, 0)

    async def test_posts_to_two(self) -> None:
        """Posts to two destinations share one commit with the others."""
        go_on = await self.hold()
        watch = self.watch()
        new = [NewMessage(b"1", 60)]
        posts = [
            self.store.post(ORDERS, new, "alice", START, Posting(RETURNS, new))
            for _ in range(20)
        ]
        posts.append(self.post(b"1"))
        go_on.set()
        await watch
        await gatherResults(posts)
        self.assertEqual(self.statements.count("COMMIT"), 1)
        self.assertEqual(await self.bodies(), [b"1"] * 21)
        self.assertEqual((await self.store.stats(RETURNS, START)).total, 20)

    async def test_failed_commit(self) -> None:
        """Nothing of a group is acknowledged when its commit fails."""

        def no_commit(action: int, operation: str | None, *_: str | None) -> int:
            return sqlite3.SQLITE_DENY if operation == "COMMIT" else sqlite3.SQLITE_OK

        ids = await self.post(b"stored")
        await self.store.claim(ORDERS, 60, 60, 1, START)
        go_on = await self.hold()
        posts = [self.post(b"lost"), self.post(b"lost")]
        refused = self.store.delete(ORDERS, ids, START, [])
        forbid = self.writer.run(
            lambda connection: connection.set_authorizer(no_commit)
        )
        go_on.set()
        await self.assert_unavailable(*posts, refused, forbid)
        self.assertEqual(await self.bodies(), [b"stored"])
        await self.post(b"later")
        self.assertEqual(await self.bodies(), [b"stored", b"later"])

    async def test_full_disk(self) -> None:
        """When the disk is full a group fails as a whole, and later ones are tried."""
        await self.post(b"stored")
        go_on = await self.hold()
        fill = self.writer.run(pragmas("max_page_count = 1"))
        posts = [self.post(b"lost"), self.post(b"lost" * 50_000), self.post(b"lost")]
        go_on.set()
        await self.assert_unavailable(fill, *posts)
        self.assertEqual(await self.bodies(), [b"stored"])
        await self.post(b"later")
        self.assertEqual(await self.bodies(), [b"stored", b"later"])

    async def test_lost_connection(self) -> None:
        """A writer that lost its connection fails the group and opens another."""
        await self.post(b"stored")
        go_on = await self.hold()
        posts = [self.post(b"lost")]
        close = self.writer.run(lambda connection: connection.close())
        posts.append(self.post(b"lost"))
        go_on.set()
        await self.assert_unavailable(close, *posts)
        await self.post(b"later")
        self.assertEqual(await self.bodies(), [b"stored", b"later"])

    async def test_lost_connection_of_the_reader(self) -> None:
        """A reader that lost its connection opens another."""
        await self.post(b"stored")
        await self.assert_unavailable(
            self.reader.run(lambda connection: connection.close())
        )
        self.assertEqual(await self.bodies(), [b"stored"])

    async def test_locked_file(self) -> None:
        """A lock that somebody keeps is an unavailable store, until it is gone."""
        await self.writer.run(pragmas("busy_timeout = 0"))
        other = connect(self.path)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        await self.assert_unavailable(self.post(b"lost"))
        self.assertEqual(await self.bodies(), [])
        other.execute("ROLLBACK")
        await self.post(b"later")
        self.assertEqual(await self.bodies(), [b"later"])


def statements() -> Iterator[tuple[str, str]]:
    """Each SQL statement of the driver, with its name."""
    for name, value in vars(sqlite_statements).items():
        for text in value.values() if isinstance(value, dict) else [value]:
            if name.isupper() and SQL.match(str(text)):
                yield name, text


def explain(connection: sqlite3.Connection, statement: str) -> Iterator[Any]:
    """What SQLite says to a statement that begins with EXPLAIN."""
    names = re.findall(r":(\w+)", statement)
    values = dict.fromkeys(names) if names else [None] * statement.count("?")
    return connection.execute(statement, values)


def plan(connection: sqlite3.Connection, statement: str) -> list[list[str]]:
    """The steps by which SQLite would run it, those of one loop together."""
    rows = explain(connection, f"EXPLAIN QUERY PLAN {statement}")
    loops: defaultdict[int, list[str]] = defaultdict(list)
    for _, parent, _, detail in rows:
        loops[parent].append(detail)
    return list(loops.values())


class PlanTests(SynchronousTestCase):
    """How SQLite goes about the driver's statements."""

    def setUp(self) -> None:
        path = self.mktemp()
        prepare(path)
        self.connection = connect(path)
        self.addCleanup(self.connection.close)

    def test_all_statements_are_found(self) -> None:
        """The statements of every operation are among those looked at."""
        names = {name for name, _ in statements()}
        self.assertLessEqual(
            {"PAGE", "BY_ID", "CLAIM_ROW", "RENEW_ROW", "STATS", "SWEEP_DELAYED"},
            names,
        )

    def test_no_table_is_scanned(self) -> None:
        """Tables that grow with the messages are only entered by an index."""
        scan = re.compile(r"SCAN (messages|destinations|claims)\b")
        for name, statement in statements():
            for loop in plan(self.connection, statement):
                for step in loop:
                    self.assertIsNone(scan.match(step), f"{name}: {step}")

    def test_no_temporary_tables(self) -> None:
        """What each post, claim, delete and list runs makes none."""
        sql = sqlite_statements
        common = [
            *(sql.FIND_END, sql.MOVE_END),
            *(sql.insert_messages(1), sql.insert_messages(16)),
            *(sql.FIND_DUE, sql.PAGE[sql.NONE, sql.NONE], sql.COUNT_DOWN),
            *(sql.INSERT_CLAIM, sql.CLAIM_ROW, sql.EXTEND_ROW),
            *(sql.FIND_CLAIM, sql.ROWS_OF_CLAIM, sql.RENEW_ROW, sql.RELEASE_ROW),
            *(sql.FIND_DESTINATION, sql.HELD, sql.BY_ID, sql.DELETE_ROW),
            *(sql.PLACES[sql.NONE, sql.NONE], sql.BY_ROW),
            *(sql.RUNS_BEHIND[sql.NONE, sql.NONE], sql.RUNS_BEHIND[sql.ALL, sql.ALL]),
        ]
        for statement in common:
            self.assertEqual(set(), self.temporary_tables(statement), statement)
        self.assertNotEqual(set(), self.temporary_tables(sql.PAGE[sql.DUE, sql.DUE]))

    def test_no_temporary_tables_for_what_is_not_there(self) -> None:
        """Nor does a list that wants the delayed or claimed while there are none."""
        self.post(0)
        for selection in SELECTIONS:
            statements = self.run_by_page(selection)
            self.assertGreater(len(statements), 1)
            for statement in statements:
                self.assertEqual(set(), self.temporary_tables(statement), statement)
        self.post(900)
        tables = map(self.temporary_tables, self.run_by_page(EVERYTHING))
        self.assertNotEqual(set(), set.union(*tables))

    def post(self, delay: int) -> None:
        """Post one message."""
        new = [NewMessage(b"1", 3600, delay)]
        post(self.connection, [Post([(ORDERS, new, [0])], "alice", START)])

    def run_by_page(self, selection: Selection) -> list[str]:
        """The statements that a list runs."""
        statements: list[str] = []
        self.connection.set_trace_callback(statements.append)
        page(self.connection, ORDERS, selection, START)
        self.connection.set_trace_callback(None)
        return statements

    def temporary_tables(self, statement: str) -> set[str]:
        """The instructions that make them."""
        program = explain(self.connection, f"EXPLAIN {statement}")
        return {code for _, code, *_ in program} & {
            *("OpenEphemeral", "OpenAutoindex", "SorterOpen")
        }

    def test_only_little_is_sorted(self) -> None:
        """What is sorted is a limited part already, or what no sweep has seen yet."""
        little = re.compile(
            r"SCAN \(?subquery"
            r"|SEARCH messages .* COVERING INDEX messages_waiting "
            # The rows that a limited part has named.
            r"|SEARCH messages USING INTEGER PRIMARY KEY \(rowid=\?\)"
            # One row of each state.
            r"|SEARCH messages USING INDEX messages_waiting \(.*ready_at>\?\)"
        )
        sources = [
            (name, step)
            for name, statement in statements()
            for loop in plan(self.connection, statement)
            if any("TEMP B-TREE" in step for step in loop)
            for step in loop
            if step.startswith(("SCAN", "SEARCH"))
        ]
        self.assertNotEqual(sources, [])
        for name, step in sources:
            self.assertTrue(little.match(step), f"{name}: {step}")


class CostTests(SynchronousTestCase):
    """What an operation costs, in instructions of SQLite's virtual machine."""

    def setUp(self) -> None:
        self.instructions = 0

    def backlog(self, size: int) -> SQLiteMessageStore:
        """A store with so many messages each claimed, delayed, free and elsewhere."""
        path = self.mktemp()
        prepare(path)
        worker = InlineWorker(path)
        store = SQLiteMessageStore(worker, worker, random.getrandbits)
        store.startService()
        self.addCleanup(store.stopService)
        elsewhere = Destination("neighbour", Kind.QUEUE, "orders")
        for place, delay in ((ORDERS, 0), (ORDERS, 900), (ORDERS, 0), (elsewhere, 0)):
            new = [NewMessage(b"1", 3600, delay)] * size
            self.successResultOf(store.post(place, new, "alice", START))
        self.successResultOf(store.claim(ORDERS, 600, 60, size, START))
        self.successResultOf(worker.run(self.count_instructions))
        return store

    def count_instructions(self, connection: sqlite3.Connection) -> None:
        def count() -> int:
            self.instructions += 1
            return 0

        connection.set_progress_handler(count, 1)

    def costs(self, size: int) -> dict[str, int]:
        """What each operation costs with such a backlog."""
        store = self.backlog(size)
        everything = Selection(10, include_claimed=True, include_delayed=True)
        others = Selection(10, hide_client="alice")
        all_others = replace(everything, hide_client="alice")
        mixed = self.mixed(store, size)
        first, *_, last = self.successResultOf(
            store.page(ORDERS, Selection(size), START)
        )
        # It ends in the same moment as that of the backlog.
        lent = self.successResultOf(store.claim(ORDERS, 600, 60, 10, START)).claim
        assert lent is not None
        stored = self.successResultOf(store.stored(ORDERS, 10, None, START))
        operations: dict[str, Callable[[], Deferred[Any]]] = {
            "post": lambda: store.post(ORDERS, [NewMessage(b"1", 60)], "bob", START),
            "stored_bytes": lambda: store.stored_bytes(ORDERS.project),
            "page": lambda: store.page(ORDERS, Selection(10), START),
            "page of all": lambda: store.page(ORDERS, everything, START),
            "page after": lambda: store.page(ORDERS, Selection(10, first.id), START),
            "page of others": lambda: store.page(ORDERS, others, START),
            "page of all others": lambda: store.page(ORDERS, all_others, START),
            "page between": lambda: store.page(mixed, others, START),
            "get": lambda: store.get(ORDERS, [first.id, last.id], START),
            "stored": lambda: store.stored(ORDERS, 10, None, START),
            "stored after": lambda: store.stored(ORDERS, 10, first.id, START),
            "restore": lambda: store.restore(ORDERS, stored, START),
            "get_claim": lambda: store.get_claim(ORDERS, lent.id, START),
            "renew": lambda: store.renew(ORDERS, lent.id, 600, 60, START),
            "release": lambda: store.release(ORDERS, lent.id, START, undelivered=True),
            "stats": lambda: store.stats(ORDERS, START),
            "next_ready": lambda: store.next_ready(ORDERS, START),
            "delete": lambda: store.delete(ORDERS, [first.id, last.id], START, []),
            "pop": lambda: store.pop(ORDERS, 10, START),
            "claim": lambda: store.claim(ORDERS, 60, 60, 10, START),
            "sweep": lambda: store.sweep(START),
            "clear": lambda: store.clear(ORDERS),
        }
        return {name: self.cost(call) for name, call in operations.items()}

    def mixed(self, store: SQLiteMessageStore, size: int) -> Destination:
        """A queue with so many dead letters of one client in front of another's."""
        buried = Destination("shop", Kind.QUEUE, "buried")
        rule = DeadLetterRule(buried, 1)
        worn = Destination("shop", Kind.QUEUE, "worn")
        self.successResultOf(
            store.post(worn, [NewMessage(b"1", 3600)] * size, "alice", START)
        )
        for _ in range(2):
            claim = self.successResultOf(
                store.claim(worn, 60, 60, size, START, rule)
            ).claim
            if claim is not None:
                self.successResultOf(store.release(worn, claim.id, START))
        self.successResultOf(store.post(buried, [NewMessage(b"1", 60)], "bob", START))
        return buried

    def cost(self, call: Callable[[], Deferred[Any]]) -> int:
        before = self.instructions
        self.successResultOf(call())
        return self.instructions - before

    def test_flat(self) -> None:
        """No operation costs more when thirty times as much is waiting."""
        small, large = self.costs(100), self.costs(3000)
        for operation, cost in small.items():
            self.assertGreater(cost, 0, operation)
            self.assertLess(large[operation], cost * 1.1, operation)
