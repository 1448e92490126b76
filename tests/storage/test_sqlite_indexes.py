"""What the embedded message store finds by few indexes, and how little it writes.

Without threads: each call is one transaction, after which ``CheckingWorker`` of
:mod:`tests.storage.test_sqlite_messages` looks for the claim of each claimed message.
"""

from __future__ import annotations

import sqlite3
from itertools import product
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import (
    Claim,
    DeadLetterRule,
    Kind,
    Message,
    NewMessage,
    Selection,
    StoredMessage,
)
from mqsvc.storage.messages.sqlite import SQLiteMessageStore, prepare
from mqsvc.storage.messages.sqlite_schema import MIGRATIONS
from mqsvc.storage.messages.sqlite_sweep import SWEEP_SIZE
from mqsvc.storage.sqlite import connect, migrate
from tests.storage.contract import ORDERS, RETURNS, START
from tests.storage.test_sqlite_messages import LOST, open_inline

LATER = START + 60_000
"""When claims of a minute are over."""


class InlineCase(SynchronousTestCase):
    """A store, and its file as another process sees it."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.store = self.open()

    def open(self) -> SQLiteMessageStore:
        """The store on the file."""
        store = open_inline(self.path)
        store.startService()
        self.addCleanup(store.stopService)
        return store

    def connect(self) -> sqlite3.Connection:
        """A connection of its own."""
        connection = connect(self.path)
        self.addCleanup(connection.close)
        return connection

    def count(self, rows: str) -> int:
        """How many rows a table has, or a part of it."""
        (found,) = self.connect().execute(f"SELECT count(*) FROM {rows}").fetchone()
        return int(found)

    def post(self, client: str, count: int, ttl: int = 3600, delay: int = 0) -> Any:
        """The ids of so many messages of a client."""
        new = [NewMessage(b"1", ttl, delay)] * count
        return self.successResultOf(self.store.post(ORDERS, new, client, START))

    def claim(self, count: int, ttl: int = 60, now: int = START) -> Claim:
        """So many messages under a claim."""
        claimed = self.successResultOf(self.store.claim(ORDERS, ttl, 60, count, now))
        assert claimed.claim is not None
        self.assertEqual(len(claimed.claim.messages), count)
        return claimed.claim

    def sweep(self, now: int) -> bool:
        """Whether there may be more to be swept."""
        return self.successResultOf(self.store.sweep(now))


class LeapTests(InlineCase):
    """Lists that hide a client's messages, which are many."""

    def setUp(self) -> None:
        """Long runs of alice between short ones: of bob claimed, of carol delayed."""
        super().setUp()
        for _ in range(3):
            self.post("alice", 40)
            self.post("bob", 2)
        for _ in range(3):
            alice = self.claim(40)
            self.claim(2)
            self.successResultOf(self.store.release(ORDERS, alice.id, START))
            # Those of alice that are free again are in front.
            self.claim(40, ttl=30)
        self.sweep(START + 30_000)
        self.post("carol", 3, delay=900)
        self.post("alice", 1000, delay=900)
        self.post("dave", 1)
        self.post("alice", 5)
        self.post("erin", 2)
        self.posters = dict(self.places())

    def places(self) -> list[tuple[str, int]]:
        """Ids of all messages, and who posted them."""
        stored = self.successResultOf(
            self.store.stored(ORDERS, 10_000, None, START + 30_000)
        )
        clients = self.connect().execute(
            "SELECT client FROM messages ORDER BY position"
        )
        return [
            (each.message.id, client)
            for each, (client,) in zip(stored, clients, strict=True)
        ]

    def page(self, **selected: Any) -> list[Message]:
        """One page in the order of positions."""
        selection = Selection(**selected)
        return self.successResultOf(self.store.page(ORDERS, selection, START + 30_000))

    def test_pages(self) -> None:
        """Runs are leapt over to all that others have there, and to nothing else."""
        alice = self.posters[self.page(limit=1)[0].id]
        for claimed, delayed, limit in product((False, True), (False, True), (1, 2, 7)):
            states = {"include_claimed": claimed, "include_delayed": delayed}
            expected = [
                each.id
                for each in self.page(limit=10_000, **states)
                if self.posters[each.id] != alice
            ]
            self.assertEqual(len(expected), 3 + 6 * claimed + 3 * delayed)
            found: list[str] = []
            for _ in range(0, len(expected) + 1, limit):
                page = self.page(
                    limit=limit,
                    hide_client="alice",
                    after=found[-1] if found else None,
                    **states,
                )
                found += [each.id for each in page]
            self.assertEqual(found, expected)


class SweepTests(InlineCase):
    """Claims that ended, and what they have held."""

    def claimed_rows(self) -> int:
        """How many messages are claimed as they are stored."""
        return self.count("messages WHERE state = 2")

    def test_in_pieces(self) -> None:
        """A sweep frees a bounded number, and keeps claims until they hold nothing."""
        size = 2 * SWEEP_SIZE + 60
        self.post("alice", size)
        for count in (SWEEP_SIZE + 60, SWEEP_SIZE - 10):
            self.claim(count)
        self.claim(10, ttl=600)
        self.post("bob", 1)
        seen = []
        for _ in range(3):
            more = self.sweep(LATER)
            seen.append((more, self.claimed_rows(), self.count("claims")))
        self.assertEqual(
            seen,
            [
                (True, size - SWEEP_SIZE, 3),
                (True, size - 2 * SWEEP_SIZE, 3),
                (False, 10, 1),
            ],
        )
        stats = self.successResultOf(self.store.stats(ORDERS, LATER))
        self.assertEqual((stats.claimed, stats.free), (10, size - 10 + 1))

    def test_many_claims(self) -> None:
        """Of claims that hold nothing any more a bounded number goes, too."""
        for _ in range(SWEEP_SIZE + 1):
            self.post("alice", 1)
            claim = self.claim(1)
            ids = [each.id for each in claim.messages]
            self.successResultOf(self.store.delete(ORDERS, ids, START, [claim.id]))
        self.assertFalse(self.sweep(LATER - 1))
        self.assertEqual(self.count("claims"), SWEEP_SIZE + 1)
        self.assertTrue(self.sweep(LATER))
        self.assertEqual(self.count("claims"), 1)
        self.assertFalse(self.sweep(LATER))
        self.assertEqual(self.count("claims"), 0)

    def test_claims_of_one_moment(self) -> None:
        """Claims that end in the same millisecond hold what is theirs."""
        self.post("alice", 6)
        first, second, third = (self.claim(2) for _ in range(3))
        self.successResultOf(self.store.release(ORDERS, first.id, START))
        self.successResultOf(self.store.renew(ORDERS, second.id, 600, 60, START))
        held = [
            self.successResultOf(self.store.get_claim(ORDERS, each.id, START)).messages
            for each in (second, third)
        ]
        self.assertEqual(held, [second.messages, third.messages])
        self.assertFalse(self.sweep(LATER))
        self.assertEqual(self.claimed_rows(), 2)

    def test_every_way(self) -> None:
        """However messages leave a claim, in the end none is left to be claimed."""
        self.post("alice", 9)
        self.post("alice", 1, ttl=60)
        lent = self.claim(2)
        self.successResultOf(self.store.release(ORDERS, lent.id, START))
        for seconds in (1, 2, 120):
            self.claim(2, seconds, START)
        # Two under claims that are over, before any sweep has seen it.
        rule = DeadLetterRule(RETURNS, 1)
        moved = self.successResultOf(
            self.store.claim(ORDERS, 60, 60, 2, START + 1000, rule)
        )
        self.assertEqual((moved.claim, moved.dead_lettered), (None, 2))
        self.claim(1, 600, START + 2000)
        self.successResultOf(self.store.pop(ORDERS, 2, START + 2000))
        kept = StoredMessage(Message("1", b"1", 60, START, "claim", 1), LATER)
        self.successResultOf(self.store.restore(ORDERS, [kept], START))
        self.successResultOf(self.store.claim(RETURNS, 60, 60, 1, START))
        self.successResultOf(self.store.clear(RETURNS))
        self.assertEqual(self.claimed_rows(), 4)
        self.sweep(START + 700_000)
        self.assertEqual((self.claimed_rows(), self.count("claims")), (0, 0))
        self.assertEqual(self.count("destinations WHERE claimed <> 0"), 0)

    def test_delayed(self) -> None:
        """A sweep makes a bounded number of messages ready whose delay is over."""
        self.post("alice", SWEEP_SIZE + 5, delay=30)
        self.post("alice", 1, delay=900)
        self.assertTrue(self.sweep(START + 30_000))
        self.assertEqual(self.count("messages WHERE state = 1"), 6)
        self.assertFalse(self.sweep(START + 30_000))
        self.assertEqual(self.count("messages WHERE state = 1"), 1)


class VersionTwoTests(InlineCase):
    """A file of version 2, with messages in all states."""

    def setUp(self) -> None:
        """Two under a live claim, two under ended ones, of which one is swept."""
        self.path = self.mktemp()
        migrate(self.path, MIGRATIONS[:2])
        rows = [
            (1, 1, 0, 0, 2 * START, None),
            (1, 2, 1, LATER, 2 * START, None),
            (1, 3, 2, LATER, 2 * START, "live"),
            (1, 4, 2, LATER, 2 * START, "live"),
            (1, 5, 2, START, 2 * START, "ended"),
            (1, 6, 2, START - 1, 2 * START, "swept"),
            (1, 7, 0, 0, START, None),
            (2, 8, 2, LATER, 2 * START, "cleared"),
        ]
        connection = self.connect()
        connection.execute(
            "INSERT INTO destinations VALUES (1, ?, ?, ?, 8, 7, 4, 1, 1, 7)",
            (ORDERS.project, Kind.QUEUE.value, ORDERS.name),
        )
        connection.execute("INSERT INTO cleared VALUES (2)")
        connection.executemany(
            "INSERT INTO messages VALUES "
            f"(?, ?, 0, ?, ?, ?, {START}, 60, 1, 1, ?, 0, CAST('1' AS BLOB))",
            rows,
        )
        connection.executemany(
            f"INSERT INTO claims VALUES (?, 1, 60, {START}, ?)",
            [("live", LATER), ("ended", START)],
        )
        self.store = self.open()

    def test_same_file(self) -> None:
        """Tables and indexes are those of a new file."""
        new = self.mktemp()
        prepare(new)
        other = connect(new)
        self.addCleanup(other.close)
        schema = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        self.assertEqual(
            *(each.execute(schema).fetchall() for each in (self.connect(), other))
        )
        self.assertEqual(self.connect().execute(LOST).fetchall(), [])

    def test_use(self) -> None:
        """What was free, delayed or claimed is so, by its claim as before."""
        live = self.successResultOf(self.store.get_claim(ORDERS, "live", START))
        self.assertEqual([live.ttl, len(live.messages)], [60, 2])
        for gone in ("ended", "swept"):
            self.failureResultOf(
                self.store.get_claim(ORDERS, gone, START), ClaimDoesNotExist
            )
        stats = self.successResultOf(self.store.stats(ORDERS, START))
        self.assertEqual((stats.claimed, stats.free), (2, 4))
        self.successResultOf(self.store.renew(ORDERS, "live", 600, 60, START))
        self.sweep(LATER)
        self.assertEqual(
            self.connect().execute("SELECT id FROM claims").fetchall(), [("live",)]
        )
        self.assertEqual(self.count("messages WHERE state <> 0"), 2)
        stats = self.successResultOf(self.store.stats(ORDERS, LATER))
        self.assertEqual((stats.claimed, stats.free), (2, 4))
        self.successResultOf(self.store.release(ORDERS, "live", LATER))
        popped = self.successResultOf(self.store.pop(ORDERS, 9, LATER))
        self.assertEqual(len(popped), 6)


class PagesTests(InlineCase):
    """How much an operation writes, which is most of what it costs."""

    def written(self) -> int:
        """Pages in the log."""
        log = Path(f"{self.path}-wal").stat().st_size
        return log // 4096

    def test_pages(self) -> None:
        """In a small file a post writes four pages, a claim six and a delete five."""
        self.post("alice", 30)
        self.successResultOf(self.store.claim(ORDERS, 60, 60, 10, START))
        before = self.written()
        self.post("alice", 1)
        posted = self.written()
        lent = self.claim(1)
        claimed = self.written()
        ids = [each.id for each in lent.messages]
        self.successResultOf(self.store.delete(ORDERS, ids, START, [lent.id]))
        deleted = self.written()
        self.assertEqual(
            [posted - before, claimed - posted, deleted - claimed], [4, 6, 5]
        )
