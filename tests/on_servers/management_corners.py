"""Corners of every management store that is a server of its own, to be mixed in."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.task import Clock

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Kind
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.storage.management.sql import SQLManagementStore, open_sql_management
from mqsvc.storage.management.sql_dialects import make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_transactions import ANSWER_SECONDS, Transactions
from tests.live import CHECKOUT
from tests.servers.process import START_SECONDS
from tests.storage.management_contract import (
    NOW,
    names,
    queue,
    subscription,
)

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


class FrozenTests:
    """A server that stands still: it takes connections and requests, and is silent."""

    IMPATIENT = "?read_timeout=1&connect_timeout=2"

    def starting(self: Any, store: SQLManagementStore) -> SQLManagementStore:
        """A store that runs until the test ends, and the server too."""
        store.startService()
        self.addCleanup(store.stopService)
        self.addCleanup(self.thaw)
        return store

    async def test_time_is_over(self: Any) -> None:
        """Callers are told in time, whatever the driver does, until it goes on."""
        clock, engine = Clock(), make_engine(self.new_uri(), 2)
        migrate(engine, MIGRATIONS)
        transactions = Transactions(engine, reactor, 2, clock)
        store = self.starting(SQLManagementStore(transactions, Random(0).getrandbits))
        await gatherResults([store.create(queue(name), {}) for name in "abcd"])
        self.freeze()
        for _ in range(3):
            calls = [store.delete(queue(name)) for name in "abcd"]
            clock.advance(ANSWER_SECONDS)
            for call in calls:
                self.failureResultOf(call, StoreUnavailable)
        self.thaw()
        kept = names(await store.page("p", Kind.QUEUE, 10))
        self.assertEqual(kept, list("abcd"))

    async def test_driver_gives_up(self: Any) -> None:
        """Threads come back from a silent server, and all is well when it goes on."""
        uri = self.new_uri() + self.IMPATIENT
        store = self.starting(open_sql_management(uri, reactor, threads=2))
        await gatherResults([store.ping() for _ in range(2)])
        self.freeze()
        for _ in range(2):
            calls = [store.create(queue(name), {}) for name in "abc"]
            for done, failure in await DeferredList(calls, consumeErrors=True):
                self.assertFalse(done)
                failure.trap(StoreUnavailable)
        self.thaw()
        self.assertTrue(await store.create(queue("d"), {}))

    async def test_stop(self: Any) -> None:
        """A store can be stopped while the server is silent."""
        uri = self.new_uri() + self.IMPATIENT
        store = self.starting(open_sql_management(uri, reactor, threads=2))
        await store.ping()
        self.freeze()
        call = store.ping()
        await store.stopService()
        self.failureResultOf(call, StoreUnavailable)

    def test_open(self: Any) -> None:
        """A store on a silent server is not opened, and does not wait for it."""
        uri = self.new_uri() + self.IMPATIENT
        self.addCleanup(self.thaw)
        self.freeze()
        error = self.assertRaises(StoreOpenError, open_sql_management, uri, reactor)
        self.assertIn("127.0.0.1", str(error))

    async def test_locked_table(self: Any) -> None:
        """A table that somebody has locked is an outage, and leaves no queue behind."""
        uri = self.new_uri() + self.IMPATIENT
        store = self.starting(open_sql_management(uri, reactor, threads=2))
        engine = make_engine(uri, 1)
        self.addCleanup(engine.dispose)
        with engine.connect() as other:
            # Closed at the end, which ends any lock.
            other.detach()
            other.exec_driver_sql(self.LOCK)
            with self.assertRaises(StoreUnavailable):
                await store.create(queue("q"), {})
            self.until_nobody_waits()
        self.assertTrue(await store.create(queue("q"), {}))


def until_none(found: Callable[[], list[Any]]) -> None:
    """Return when nothing is found any more."""
    deadline = time.monotonic() + START_SECONDS
    pause = threading.Event()
    while rows := found():
        if time.monotonic() > deadline:
            raise AssertionError(f"still there: {rows}")
        pause.wait(0.05)
