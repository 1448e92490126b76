"""Embedded stores that several processes have open.

Two stores of one process are as good as two processes: locks belong to open files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Destination, Kind, NewMessage
from mqsvc.storage import sqlite
from mqsvc.storage.management.sql import SQLManagementStore, open_sql_management
from mqsvc.storage.open import Stores, open_pool, open_stores
from mqsvc.storage.sqlite import TURN_TIMEOUT, Writer, migrate
from mqsvc.storage.turns import SharedTurn
from tests.storage.test_management_sql import new_path
from tests.storage.test_sqlite_threads import SCHEMA, Trace, insert, numbers
from tests.storage.test_turns import wait_until_taken

ORDERS = Destination("p", Kind.QUEUE, "orders")


class Timeless(Clock):
    """A reactor in which the time does not pass by itself."""

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        """As any reactor."""
        reactor.callFromThread(call, *arguments)


class WriterTests(TestCase):
    """Threads that write to one file."""

    timeout = 60

    def setUp(self) -> None:
        """A file, and nobody who tries again when it is locked."""
        self.patch(sqlite, "BUSY_TIMEOUT", 0)
        self.path = str(Path(self.mktemp()).absolute())
        migrate(self.path, SCHEMA)

    def writer(self, path: str | None = None) -> Writer:
        """A writer that takes turns, until the end of the test."""
        writer = Writer(self.path, reactor, SharedTurn(path or self.path))
        writer.start()
        self.addCleanup(writer.stop)
        return writer

    async def test_waiting(self) -> None:
        """What comes while a writer waits for its turn is written together."""
        writer, trace, turn = self.writer(), Trace(), SharedTurn(self.path)
        await writer.run(trace)
        trace.statements.clear()
        with turn:
            answers = [writer.run(insert(1))]
            await deferToThread(wait_until_taken, f"{self.path}-next")
            answers += [writer.run(insert(n)) for n in (2, 3)]
            # Jobs come to the thread at the end of a turn of the reactor.
            await deferLater(reactor, 0)
            self.assertEqual([], trace.statements)
        self.assertEqual([1, 2, 3], await gatherResults(answers))
        self.assertEqual(1, trace.count("COMMIT"))
        turn.close()

    async def test_stopped_holder(self) -> None:
        """What gets no turn for long is given up, is never done, and all goes on."""
        clock, turn = Timeless(), SharedTurn(self.path)
        writer = Writer(self.path, clock, SharedTurn(self.path))
        writer.start()
        with turn:
            answers = [writer.run(insert(1))]
            clock.advance(0)
            await deferToThread(wait_until_taken, f"{self.path}-next")
            clock.advance(TURN_TIMEOUT / 2)
            answers.append(writer.run(insert(2)))
            with capturedLogs() as events:
                clock.advance(TURN_TIMEOUT / 2)
        for answer in answers:
            self.failureResultOf(answer, StoreUnavailable)
        self.assertIn(" 2 operations are given up", formatEvent(events[0]))
        answer = writer.run(insert(3))
        clock.advance(0)
        await answer
        seen = writer.run(numbers)
        clock.advance(0)
        self.assertEqual([3], await seen)
        await writer.stop()
        self.assertEqual([], clock.getDelayedCalls())
        turn.close()

    async def test_patience(self) -> None:
        """A writer that had turns meanwhile gives up nothing."""
        clock = Timeless()
        writer = Writer(self.path, clock, SharedTurn(self.path))
        writer.start()
        for n in range(4):
            answer = writer.run(insert(n))
            clock.advance(TURN_TIMEOUT * 0.75)
            self.assertEqual(n, await answer)
        await writer.stop()

    async def test_many(self) -> None:
        """Two writers never find the file locked."""
        first, second = self.writer(), self.writer()
        for n in range(0, 200, 2):
            await gatherResults(
                [first.run(insert(n)), second.run(insert(n + 1)), *self.some(first)]
            )
        self.assertEqual([*range(200)], await first.run(numbers))

    def some(self, writer: Writer) -> list[Any]:
        """Work that changes nothing."""
        return [writer.run(numbers) for _ in range(3)]

    async def test_no_turn(self) -> None:
        """Where there can be no turns the store is out of order, and says why."""
        writer = self.writer("/nowhere/file")
        with capturedLogs() as events, self.assertRaises(StoreUnavailable):
            await writer.run(insert(1))
        [event] = events
        self.assertIn("No such file or directory", formatEvent(event))


class ManagementTests(TestCase):
    """Catalogs on one file."""

    timeout = 60

    async def test_many(self) -> None:
        """Two of them never find the file locked."""
        uri = f"sqlite:///{new_path(self)}?timeout=0"
        open_sql_management(uri, reactor)
        stores = [self.started(uri), self.started(uri)]
        names = [f"q{n}" for n in range(40)]
        made = [
            stores[n % 2].create(Destination("p", Kind.QUEUE, name), {})
            for n, name in enumerate(names)
        ]
        self.assertEqual([True] * 40, await gatherResults(made))
        page = await stores[0].page("p", Kind.QUEUE, 100)
        self.assertEqual(sorted(names), [record.destination.name for record in page])

    def started(self, uri: str) -> SQLManagementStore:
        """A store that shares its file."""
        store = open_sql_management(uri, reactor, shared=True)
        store.startService()
        self.addCleanup(store.stopService)
        return store


class OpenTests(TestCase):
    """Which stores take turns."""

    def setUp(self) -> None:
        """A directory."""
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)

    async def written(self, stores: Stores) -> list[str]:
        """The locks that there are when something was written to both stores."""
        for store in (stores.management, stores.messages):
            store.startService()
            self.addCleanup(store.stopService)
        await stores.management.create(ORDERS, {})
        await stores.messages.post(ORDERS, [NewMessage(b"1", 60)], "alice", 1)
        return self.locks()

    def locks(self) -> list[str]:
        """The files that are locks."""
        return sorted(
            name
            for name in os.listdir(self.directory)
            if name.endswith(("-turn", "-next"))
        )

    def expected(self, *databases: str) -> list[str]:
        """The locks of databases."""
        return [f"{name}-{kind}" for name in databases for kind in ("next", "turn")]

    async def test_alone(self) -> None:
        """Those of a lone process take none, which would cost time."""
        stores = open_stores("", "", self.directory, reactor)
        self.assertEqual([], await self.written(stores))

    async def test_shared(self) -> None:
        """Those that other processes have open do, named by a URI or not."""
        open_stores("", "", self.directory, reactor)
        stores = open_stores("", "", self.directory, reactor, shared=True)
        both = self.expected("management.db", "messages.db")
        self.assertEqual(both, await self.written(stores))

    async def test_uris(self) -> None:
        """So do those that are named by a URI."""
        uris = [f"sqlite:///{self.directory}/{name}.db" for name in "ab"]
        open_stores(*uris, self.directory, reactor)
        stores = open_stores(*uris, self.directory, reactor, shared=True)
        self.assertEqual(self.expected("a.db", "b.db"), await self.written(stores))

    async def test_pools(self) -> None:
        """So do those of pools."""
        uri = f"sqlite:///{self.directory}/pool.db"
        store = await open_pool(uri, {}, reactor, shared=True)
        store.startService()
        self.addCleanup(store.stopService)
        await store.post(ORDERS, [NewMessage(b"1", 60)], "alice", 1)
        self.assertEqual(self.expected("pool.db"), self.locks())
