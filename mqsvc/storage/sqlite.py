"""SQLite under Twisted: connections, migrations, and the threads that own them.

A connection lives on one thread. Work reaches it as a *job*, a function of the
connection; whatever is waiting when the thread becomes free is done as one group in
one transaction, so that one fsync serves all of it (group commit) and one wake-up of
the reactor brings all answers back.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import MessagingError, StoreUnavailable
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.turns import Turn

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

Joint = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]
"""A job for any number of items, whole or not at all: a result for each."""

MAX_GROUP = 256
"""Jobs in one transaction at most: bounds how long an answer waits for others."""

BUSY_TIMEOUT = 10.0
"""Seconds to wait for a lock of another connection before giving up."""

TURN_TIMEOUT = 10.0
"""Seconds that jobs wait at least for a turn before they are given up."""

PAGE_CACHE = 1024
"""KiB of pages that a connection keeps in memory; the system keeps the others."""


class Worker(Protocol):
    """Runs jobs on a connection of its own."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self) -> Deferred[None]:
        """Finish what was submitted, then fire."""

    def run(self, job: Job[Result]) -> Deferred[Result]:
        """Fire with what the job returns, or fail with what it raises.

        A failure of SQLite itself becomes
        :class:`~mqsvc.messaging.errors.StoreUnavailable`.
        """

    def join(self, job: Joint[Item, Result], item: Item) -> Deferred[Result]:
        """Like :meth:`run`, but items that wait next to each other are one job.

        Each has its own failure all the same.
        """


def connect(path: str) -> sqlite3.Connection:
    """Open a database, creating the file, with the durability the service promises.

    Transactions are begun and ended by explicit statements only.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        _configure(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode FULL is what syncs the log at every commit.
    connection.execute("PRAGMA synchronous = FULL")
    # Some builds overwrite deleted content by default, which doubles the writing.
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE}")


def migrate(path: str, migrations: Sequence[Iterable[str]]) -> None:
    """Bring the schema of a file up to date, blocking; it is made when missing.

    :param migrations: entry *i* holds the statements from version *i* to *i + 1*.
    :raise SchemaTooNew: its version is above the last known one.
    :raise StoreOpenError: the file cannot be opened or is no database.
    """
    try:
        if not os.path.exists(path):
            # For its owner's eyes only; SQLite gives its other files the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        connection = connect(path)
        try:
            _apply(connection, path, migrations)
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise StoreOpenError(f"{path} cannot be used: {error}") from error


def _apply(
    connection: sqlite3.Connection, path: str, migrations: Sequence[Iterable[str]]
) -> None:
    if _version(connection) == len(migrations):
        # Nothing to wait for, whoever is writing.
        return
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
    if version > len(migrations):
        raise SchemaTooNew(path, version, len(migrations))
    for statements in migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


@define(eq=False)
class _Call(Generic[Result]):
    """A job, the Deferred that waits for it, and what came of its last attempt.

    :ivar joint: where the job is one for several items.
    """

    job: Job[Result]
    joint: Joint[Any, Result] | None = None
    item: Any = None
    answer: Deferred[Result] = field(factory=Deferred)
    result: Result | None = None
    error: Exception | None = None
    cause: Failure | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        self.error = self.cause = None
        try:
            self.result = self.job(connection)
        except sqlite3.Error:
            if not connection.in_transaction:
                # SQLite gave up the whole transaction, so the whole group has failed.
                raise
            self.error, self.cause = StoreUnavailable(), Failure()
        except MessagingError as error:
            # Its frames, which nobody looks at, would keep the whole group.
            self.error = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - a bug fails its caller, not the group
            self.error = error


class _JobThread:
    """One thread with one connection and the jobs that wait for it.

    :param turn: held for each group, where other processes have the file as well.
    """

    log = Logger()

    def __init__(self, path: str, reactor: Any, turn: Turn | None = None) -> None:
        self._path = path
        self._turn = turn or Turn()
        self._reactor = reactor
        self._collected: list[_Call[Any]] = []
        # Whoever takes a call from here, the thread or who gives up, answers it.
        self._waiting: deque[_Call[Any]] = deque()
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._watch: IDelayedCall | None = None
        self._connection: sqlite3.Connection | None = None
        self._is_running = False
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._is_running = True
        Thread(target=self._work, name=type(self).__name__, daemon=True).start()

    def stop(self) -> Deferred[None]:
        """Finish what was submitted, close the connection, then fire."""
        if not self._is_running:
            return succeed(None)
        self._is_running = False
        self._stopped = Deferred()
        self._hand_over()
        self._signals.put(False)
        return self._stopped

    def run(self, job: Job[Result]) -> Deferred[Result]:
        """See :class:`Worker`."""
        return self._submit(_Call(job))

    def join(self, job: Joint[Item, Result], item: Item) -> Deferred[Result]:
        """See :class:`Worker`."""
        return self._submit(
            _Call(lambda connection: job(connection, [item])[0], job, item)
        )

    def _submit(self, call: _Call[Result]) -> Deferred[Result]:
        if not self._is_running:
            return fail(StoreUnavailable())
        if not self._collected:
            # With the first job the thread would wake up and take the interpreter
            # from who brings the others: all of one turn of the reactor go together.
            self._reactor.callLater(0, self._hand_over)
        self._collected.append(call)
        return call.answer

    def _hand_over(self) -> None:
        if not self._collected:
            return
        self._waiting.extend(self._collected)
        self._collected = []
        if self._turn.is_shared and self._watch is None:
            self._watch_first()
        self._signals.put(True)

    def _first(self) -> _Call[Any] | None:
        with suppress(IndexError):
            return self._waiting[0]
        return None

    def _watch_first(self) -> None:
        """See to it that what waits first does not do so for ever.

        A thread that waits for its turn cannot be told to give up.
        """
        first = self._first()
        self._watch = self._reactor.callLater(TURN_TIMEOUT, self._look_for, first)

    def _look_for(self, first: _Call[Any] | None) -> None:
        self._watch = None
        if first is not None and first is self._first():
            self._give_up()
        elif self._waiting:
            self._watch_first()

    def _give_up(self) -> None:
        """Fail all that waits, which so is never done."""
        calls = self._take(len(self._waiting))
        self.log.error(
            "{path}: {count} operations are given up: they have waited for "
            "{seconds:.0f} seconds to be written; is another process stopped?",
            path=self._path,
            count=len(calls),
            seconds=TURN_TIMEOUT,
        )
        _deliver(_unavailable(calls))

    def _work(self) -> None:
        while self._signals.get():
            while self._waiting:
                # No name for the group: it would keep it until there is another one.
                self._reactor.callFromThread(_deliver, self._attempt_group())
        self._disconnect()
        self._turn.close()
        self._reactor.callFromThread(self._announce_stop)

    def _take(self, most: int) -> list[_Call[Any]]:
        """So many of those that wait, or all."""
        taken: list[_Call[Any]] = []
        with suppress(IndexError):
            while len(taken) < most:
                taken.append(self._waiting.popleft())
        return taken

    def _attempt_group(self) -> list[_Call[Any]]:
        """Do a part of what waits; the calls that can be answered now."""
        group: list[_Call[Any]] = []
        try:
            with self._turn:
                # While it waited for its turn more may have come, or all gone.
                group = self._take(MAX_GROUP)
                if self._connection is None:
                    self._connection = connect(self._path)
                if group:
                    self._transact(self._connection, group)
                return group
        except Exception as error:  # noqa: BLE001 - others need this thread
            group = group or self._take(MAX_GROUP)
            self._log_outage(error, len(group))
        # A new connection also ends whatever the old one had open.
        self._disconnect()
        return _unavailable(group)

    def _log_outage(self, error: Exception, count: int) -> None:
        form = "{path}: {count} operations failed"
        if isinstance(error, sqlite3.Error | OSError):
            form += ": {error}"
            self.log.error(form, path=self._path, count=count, error=error)
        else:
            self.log.failure(form, Failure(error), path=self._path, count=count)

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> None:
        raise NotImplementedError

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _announce_stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._stopped is not None:
            self._stopped.callback(None)


class Reader(_JobThread):
    """Runs jobs that only read; a group sees one state of the database."""

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> None:
        _together(connection, group, "BEGIN", _attempt)


class Writer(_JobThread):
    """Runs jobs that write, each whole or not at all; answers after the fsync.

    A savepoint for each job would cost as much as its statements. So a group begins
    without them, and joins what can be: only when a job fails that has already changed
    something, all are done again, each by itself and with a savepoint. Jobs may
    therefore run twice.
    """

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> None:
        begin = "BEGIN IMMEDIATE"
        with suppress(_MustBeUndone):
            _together(connection, group, begin, _attempt_harmlessly)
            return
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        _together(connection, group, begin, _attempt_in_savepoint)


def _together(
    connection: sqlite3.Connection,
    group: list[_Call[Any]],
    begin: str,
    attempt: Callable[[sqlite3.Connection, list[_Call[Any]]], None],
) -> None:
    """Do all jobs of a group in one transaction."""
    connection.execute(begin)
    attempt(connection, group)
    connection.execute("COMMIT")
    for call in group:
        if call.cause is not None:
            _JobThread.log.failure("An operation failed", call.cause)


class _MustBeUndone(Exception):
    """A job that failed has changed something."""


def _attempt(connection: sqlite3.Connection, group: list[_Call[Any]]) -> None:
    for call in group:
        call.attempt(connection)


def _attempt_harmlessly(
    connection: sqlite3.Connection, group: list[_Call[Any]]
) -> None:
    for joint, calls in groupby(group, attrgetter("joint")):
        if joint is None:
            for call in calls:
                _attempt_alone(connection, call)
        else:
            _attempt_jointly(connection, joint, list(calls))


def _attempt_alone(connection: sqlite3.Connection, call: _Call[Any]) -> None:
    before = connection.total_changes
    call.attempt(connection)
    if call.error is not None:
        is_changed = connection.total_changes != before
        if is_changed or not connection.in_transaction:
            raise _MustBeUndone


def _attempt_jointly(
    connection: sqlite3.Connection, job: Joint[Any, Any], calls: list[_Call[Any]]
) -> None:
    try:
        results = job(connection, [call.item for call in calls])
    except Exception as error:
        # Whose fault it is shows when each is done by itself.
        raise _MustBeUndone from error
    for call, result in zip(calls, results, strict=True):
        call.result = result


def _attempt_in_savepoint(
    connection: sqlite3.Connection, group: list[_Call[Any]]
) -> None:
    for call in group:
        connection.execute("SAVEPOINT job")
        call.attempt(connection)
        if call.error is not None:
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")


def _unavailable(calls: list[_Call[Any]]) -> list[_Call[Any]]:
    for call in calls:
        call.error = StoreUnavailable()
    return calls


def _deliver(calls: list[_Call[Any]]) -> None:
    for call in calls:
        # Both hold frames, and those the call.
        error, call.error, call.cause = call.error, None, None
        if error is None:
            call.answer.callback(call.result)
        else:
            call.answer.errback(error)
