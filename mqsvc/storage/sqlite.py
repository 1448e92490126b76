"""SQLite under Twisted: connections, migrations, and the threads that own them.

A connection lives on one thread. Work reaches it as a *job*, a function of the
connection; whatever is waiting when the thread becomes free is done as one group in
one transaction, so that one fsync serves all of it (group commit) and one wake-up of
the reactor brings all answers back.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.turns import Turn

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

MAX_GROUP = 256
"""Jobs in one transaction at most: bounds how long an answer waits for others."""

BUSY_TIMEOUT = 10.0
"""Seconds to wait for a lock of another connection before giving up."""

PAGE_CACHE = 16 * 1024
"""KiB of pages that a connection keeps in memory."""


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


@frozen
class _Call(Generic[Result]):
    """A job and the Deferred that waits for it."""

    job: Job[Result]
    answer: Deferred[Result]


@frozen
class _Outcome:
    """What to tell a Deferred, once back in the reactor's thread."""

    answer: Deferred[Any]
    result: Any = None
    error: Exception | None = None
    cause: Failure | None = None

    def log(self) -> None:
        if self.cause is not None:
            _JobThread.log.failure("An operation failed", self.cause)

    def deliver(self) -> None:
        if self.error is None:
            self.answer.callback(self.result)
        else:
            self.answer.errback(self.error)


Attempt = Callable[[sqlite3.Connection, _Call[Any]], _Outcome]


class _JobThread:
    """One thread with one connection and the jobs that wait for it.

    :param turn: held for each group, where other processes have the file as well.
    """

    log = Logger()

    def __init__(self, path: str, reactor: Any, turn: Turn | None = None) -> None:
        self._path = path
        self._turn = turn or Turn()
        self._reactor = reactor
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._collected: list[_Call[Any]] = []
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
        self._calls.put(None)
        return self._stopped

    def run(self, job: Job[Result]) -> Deferred[Result]:
        """See :class:`Worker`."""
        if not self._is_running:
            return fail(StoreUnavailable())
        answer: Deferred[Result] = Deferred()
        if not self._collected:
            # With the first job the thread would wake up and take the interpreter
            # from who brings the others: all of one turn of the reactor go together.
            self._reactor.callLater(0, self._hand_over)
        self._collected.append(_Call(job, answer))
        return answer

    def _hand_over(self) -> None:
        collected, self._collected = self._collected, []
        for call in collected:
            self._calls.put(call)

    def _work(self) -> None:
        while (first := self._calls.get()) is not None:
            outcomes = self._attempt_group(first)
            self._reactor.callFromThread(_deliver, outcomes)
        self._disconnect()
        self._turn.close()
        self._reactor.callFromThread(self._announce_stop)

    def _take(self, group: list[_Call[Any]]) -> None:
        """Add what is waiting."""
        while len(group) < MAX_GROUP and not self._calls.empty():
            call = self._calls.get()
            if call is None:
                # Nothing comes after this, which is for who takes the next group.
                self._calls.put(None)
                return
            group.append(call)

    def _attempt_group(self, first: _Call[Any]) -> list[_Outcome]:
        group = [first]
        try:
            with self._turn:
                # While it waited for its turn more may have come.
                self._take(group)
                if self._connection is None:
                    self._connection = connect(self._path)
                return self._transact(self._connection, group)
        except (sqlite3.Error, OSError) as error:
            self.log.error(
                "{path}: {count} operations failed: {error}",
                path=self._path,
                count=len(group),
                error=error,
            )
            # A new connection also ends whatever the old one had open.
            self._disconnect()
            return [_Outcome(call.answer, error=StoreUnavailable()) for call in group]

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> list[_Outcome]:
        raise NotImplementedError

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _announce_stop(self) -> None:
        if self._stopped is not None:
            self._stopped.callback(None)


class Reader(_JobThread):
    """Runs jobs that only read; a group sees one state of the database."""

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> list[_Outcome]:
        return _together(connection, group, "BEGIN", _attempt)


class Writer(_JobThread):
    """Runs jobs that write, each whole or not at all; answers after the fsync.

    A savepoint for each job would cost as much as its statements. So a group begins
    without them: only when a job fails that has already changed something, all are
    done again, with a savepoint each. Jobs may therefore run twice.
    """

    def _transact(
        self, connection: sqlite3.Connection, group: list[_Call[Any]]
    ) -> list[_Outcome]:
        begin = "BEGIN IMMEDIATE"
        try:
            return _together(connection, group, begin, _attempt_harmlessly)
        except _MustBeUndone:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return _together(connection, group, begin, _attempt_in_savepoint)


def _together(
    connection: sqlite3.Connection,
    group: list[_Call[Any]],
    begin: str,
    attempt: Attempt,
) -> list[_Outcome]:
    """Do all jobs of a group in one transaction."""
    connection.execute(begin)
    outcomes = [attempt(connection, call) for call in group]
    connection.execute("COMMIT")
    for outcome in outcomes:
        outcome.log()
    return outcomes


class _MustBeUndone(Exception):
    """A job that failed has changed something."""


def _attempt_harmlessly(connection: sqlite3.Connection, call: _Call[Any]) -> _Outcome:
    before = connection.total_changes
    outcome = _attempt(connection, call)
    if outcome.error is not None:
        is_changed = connection.total_changes != before
        if is_changed or not connection.in_transaction:
            raise _MustBeUndone
    return outcome


def _attempt_in_savepoint(connection: sqlite3.Connection, call: _Call[Any]) -> _Outcome:
    connection.execute("SAVEPOINT job")
    outcome = _attempt(connection, call)
    if outcome.error is not None:
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return outcome


def _attempt(connection: sqlite3.Connection, call: _Call[Any]) -> _Outcome:
    try:
        return _Outcome(call.answer, result=call.job(connection))
    except sqlite3.Error:
        if not connection.in_transaction:
            # SQLite gave up the whole transaction, so the whole group has failed.
            raise
        return _Outcome(call.answer, error=StoreUnavailable(), cause=Failure())
    except Exception as error:  # noqa: BLE001 - a bug fails its caller, not the group
        return _Outcome(call.answer, error=error)


def _deliver(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.deliver()
