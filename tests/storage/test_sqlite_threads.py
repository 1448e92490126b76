"""The threads that own SQLite connections: groups, failures, waiting, stopping.

On real files and in real threads. Where the order of things matters the thread is
held inside of a job until the test lets it go on.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event, current_thread
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mqsvc.messaging.errors import MessageIsClaimed, StoreUnavailable
from mqsvc.storage import sqlite
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.sqlite import MAX_GROUP, Job, Reader, Writer, connect, migrate

SCHEMA = (("CREATE TABLE numbers (n INTEGER NOT NULL)",),)


class Refusal(Exception):
    """What a job raises when it does not want to."""


def insert(number: int) -> Job[int]:
    """A job that adds a number, and gives it back."""

    def job(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return job


def refuse(connection: sqlite3.Connection) -> None:
    """A job that changes something and then raises."""
    insert(-1)(connection)
    raise Refusal


def break_a_rule(connection: sqlite3.Connection) -> None:
    """A job that SQLite refuses after a part of it."""
    insert(-2)(connection)
    connection.execute("INSERT INTO numbers VALUES (NULL)")


def give_up(connection: sqlite3.Connection) -> None:
    """A job in which SQLite ends the whole transaction, as on a full disk."""
    connection.execute("ROLLBACK")
    raise sqlite3.OperationalError("database or disk is full")


def forbid_commit(connection: sqlite3.Connection) -> None:
    """A job after which this connection cannot commit any more."""

    def judge(action: int, argument: str | None, *_: object) -> int:
        is_commit = action == sqlite3.SQLITE_TRANSACTION and argument == "COMMIT"
        return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK

    connection.set_authorizer(judge)


def numbers(connection: sqlite3.Connection) -> list[int]:
    """A job that reads all numbers."""
    return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


class Doorstep:
    """A job that holds its thread until it is let go.

    :ivar reached: fires in the reactor's thread when the job runs.
    """

    def __init__(self) -> None:
        self.reached: Deferred[None] = Deferred()
        self._open = Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        reactor.callFromThread(self.reached.callback, None)
        self._open.wait()

    def open(self) -> None:
        """Let the thread go on."""
        self._open.set()


class Trace:
    """The statements that a connection runs, from the job on that this is."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __call__(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self.statements.append)

    def count(self, statement: str) -> int:
        """How often a statement was run."""
        return self.statements.count(statement)


class ThreadTestCase(TestCase):
    """A file with a writer, a reader and a connection of somebody else."""

    timeout = 60

    def setUp(self) -> None:
        """Start both threads."""
        self.path = str(Path(self.mktemp()).absolute())
        migrate(self.path, SCHEMA)
        self.writer = self.start(Writer)
        self.reader = self.start(Reader)
        self.other = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        self.addCleanup(self.other.close)

    def start(self, kind: type[Writer] | type[Reader]) -> Writer | Reader:
        """A thread that is stopped after the test."""
        worker = kind(self.path, reactor)
        worker.start()
        self.addCleanup(worker.stop)
        return worker

    def stored(self) -> list[int]:
        """What somebody else sees in the file."""
        return numbers(self.other)

    async def hold(self, worker: Writer | Reader) -> Doorstep:
        """Keep a thread busy."""
        doorstep = Doorstep()
        self.addCleanup(doorstep.open)
        worker.run(doorstep)
        await doorstep.reached
        return doorstep

    async def fails(self, error: type[Exception], answer: Deferred[Any]) -> Exception:
        """The error with which a job ends."""
        with self.assertRaises(error) as caught:
            await answer
        return caught.exception


class GroupTests(ThreadTestCase):
    """What waits together is written together."""

    async def test_answers(self) -> None:
        """Each job is answered with what it returned, in the order of the jobs."""
        order: list[int] = []
        answers = [self.writer.run(insert(n)) for n in range(20)]
        for answer in answers:
            answer.addCallback(lambda n: order.append(n) or n)
        self.assertEqual([*range(20)], await gatherResults(answers))
        self.assertEqual([*range(20)], order)

    async def test_one_commit(self) -> None:
        """Jobs that waited for the thread share one transaction."""
        trace = Trace()
        await self.writer.run(trace)
        doorstep = await self.hold(self.writer)
        answers = [self.writer.run(insert(n)) for n in range(50)]
        trace.statements.clear()
        doorstep.open()
        await gatherResults(answers)
        # One for the job that held the thread, one for all that waited.
        self.assertEqual(2, trace.count("COMMIT"))
        self.assertEqual(1, trace.count("BEGIN IMMEDIATE"))
        self.assertEqual(0, trace.count("SAVEPOINT job"))
        self.assertEqual([*range(50)], self.stored())

    async def test_one_turn_of_the_reactor(self) -> None:
        """Jobs of one turn go together, however soon the thread wakes."""
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-6)
        trace = Trace()
        await self.writer.run(trace)
        for _ in range(10):
            trace.statements.clear()
            await gatherResults([self.writer.run(insert(n)) for n in range(MAX_GROUP)])
            self.assertEqual(1, trace.count("COMMIT"))

    async def test_bounded_group(self) -> None:
        """A group has a bound, and what is beyond it comes in the next one."""
        trace = Trace()
        await self.writer.run(trace)
        doorstep = await self.hold(self.writer)
        answers = [self.writer.run(insert(n)) for n in range(MAX_GROUP + 1)]
        trace.statements.clear()
        doorstep.open()
        await gatherResults(answers)
        self.assertEqual(3, trace.count("COMMIT"))
        self.assertEqual(MAX_GROUP + 1, len(self.stored()))

    async def test_alone(self) -> None:
        """A job that nobody shares a transaction with is committed at once."""
        trace = Trace()
        await self.writer.run(trace)
        trace.statements.clear()
        for n in range(3):
            await self.writer.run(insert(n))
        self.assertEqual(3, trace.count("COMMIT"))

    async def test_answered_after_the_commit(self) -> None:
        """By the time of an answer others see what was written."""
        for n in range(10):
            seen = self.writer.run(insert(n)).addCallback(lambda _: self.stored())
            self.assertEqual([*range(n + 1)], await seen)

    async def test_not_before_the_commit(self) -> None:
        """While a group is under way nobody sees any of it, and nobody is answered."""
        held = await self.hold(self.writer)
        first = self.writer.run(insert(1))
        doorstep = Doorstep()
        self.addCleanup(doorstep.open)
        self.writer.run(doorstep)
        held.open()
        await doorstep.reached
        self.assertFalse(first.called)
        self.assertEqual([], self.stored())
        self.assertEqual([], await self.reader.run(numbers))
        doorstep.open()
        await first
        self.assertEqual([1], await self.reader.run(numbers))

    async def test_one_state(self) -> None:
        """Jobs of a group of readers see the same state of the file."""
        held = await self.hold(self.reader)
        before = self.reader.run(numbers)
        doorstep = Doorstep()
        self.addCleanup(doorstep.open)
        self.reader.run(doorstep)
        after = self.reader.run(numbers)
        held.open()
        await doorstep.reached
        await self.writer.run(insert(1))
        doorstep.open()
        self.assertEqual([[], []], await gatherResults([before, after]))
        self.assertEqual([1], await self.reader.run(numbers))

    async def test_threads(self) -> None:
        """Jobs run in one thread each for writing and reading, answers in neither."""
        where = [
            await worker.run(lambda _: current_thread())
            for worker in (self.writer, self.writer, self.reader, self.reader)
        ]
        self.assertIs(where[0], where[1])
        self.assertIs(where[2], where[3])
        self.assertEqual(3, len({*where, current_thread()}))
        self.assertEqual(["Writer", "Reader"], [where[0].name, where[2].name])


class FailingJobTests(ThreadTestCase):
    """A job that fails touches no other."""

    async def group_with(self, job: Job[Any]) -> list[Any]:
        """The outcomes of a group with this job in the middle of others."""
        doorstep = await self.hold(self.writer)
        jobs = [insert(1), insert(2), job, insert(3), insert(4)]
        answers = [self.writer.run(each) for each in jobs]
        doorstep.open()
        outcomes = await DeferredList(answers, consumeErrors=True)
        return [result if done else result.type for done, result in outcomes]

    async def test_raising(self) -> None:
        """What a job raises goes to its caller, and what it changed is undone."""
        outcomes = await self.group_with(refuse)
        self.assertEqual([1, 2, Refusal, 3, 4], outcomes)
        self.assertEqual([1, 2, 3, 4], self.stored())

    async def test_refused_by_sqlite(self) -> None:
        """An error of SQLite is an outage for its caller only, and is logged."""
        outcomes = await self.group_with(break_a_rule)
        self.assertEqual([1, 2, StoreUnavailable, 3, 4], outcomes)
        self.assertEqual([1, 2, 3, 4], self.stored())
        self.assertEqual(1, len(self.flushLoggedErrors(sqlite3.IntegrityError)))

    async def test_words_of_sqlite(self) -> None:
        """Callers learn nothing of the inside."""
        error = await self.fails(StoreUnavailable, self.writer.run(break_a_rule))
        self.assertEqual(StoreUnavailable().description, error.description)
        self.flushLoggedErrors(sqlite3.IntegrityError)

    async def test_whole_group(self) -> None:
        """When SQLite ends the transaction, all of the group have failed."""
        outcomes = await self.group_with(give_up)
        self.assertEqual([StoreUnavailable] * 5, outcomes)
        self.assertEqual([], self.stored())

    async def test_ended_by_a_job(self) -> None:
        """So they have when a job ends the transaction and raises something else."""

        def end_and_refuse(connection: sqlite3.Connection) -> None:
            connection.execute("ROLLBACK")
            raise Refusal

        outcomes = await self.group_with(end_and_refuse)
        self.assertEqual([StoreUnavailable] * 5, outcomes)
        self.assertEqual([], self.stored())

    async def test_context(self) -> None:
        """An error has no other one as its context, though its job was done again."""
        error = await self.fails(Refusal, self.writer.run(refuse))
        self.assertIsNone(error.__context__)

    async def test_reason_of_the_last_attempt(self) -> None:
        """What a job failed with before it was done again is not logged."""
        attempts = iter([break_a_rule, refuse])

        def fail_anew(connection: sqlite3.Connection) -> None:
            attempt = next(attempts)
            attempt(connection)

        await self.fails(Refusal, self.writer.run(fail_anew))
        self.assertEqual([], self.flushLoggedErrors())

    async def test_traceback(self) -> None:
        """Where a bug was raised is kept, where a request was refused is not."""

        def decline(connection: sqlite3.Connection) -> None:
            raise MessageIsClaimed

        for job, is_kept in ((refuse, True), (decline, False)):
            failures: list[Failure] = []
            await self.writer.run(job).addErrback(failures.append)
            (failure,) = failures
            self.assertEqual(is_kept, failure.value.__traceback__ is not None)

    async def test_nothing_is_kept(self) -> None:
        """Once it is answered nothing holds a job that failed."""
        self.addCleanup(gc.enable)
        gc.disable()
        for job in (refuse, break_a_rule):
            failing = partial(job)
            kept = weakref.ref(failing)
            answer = self.writer.run(failing).addErrback(lambda _: None)
            del failing
            await answer
            self.flushLoggedErrors(sqlite3.IntegrityError)
            # By then both threads are at something else.
            await self.writer.run(lambda _: None)
            self.assertIsNone(kept())

    async def test_every_one(self) -> None:
        """A group of nothing but failures leaves the thread at work."""
        doorstep = await self.hold(self.writer)
        answers = [self.writer.run(refuse) for _ in range(3)]
        doorstep.open()
        for answer in answers:
            await self.fails(Refusal, answer)
        self.assertEqual(5, await self.writer.run(insert(5)))

    async def test_reader(self) -> None:
        """Readers that fail do not touch each other either."""

        def read_nothing(connection: sqlite3.Connection) -> None:
            connection.execute("SELECT n FROM nowhere")

        await self.writer.run(insert(1))
        doorstep = await self.hold(self.reader)
        before, wrong = self.reader.run(numbers), self.reader.run(read_nothing)
        after = self.reader.run(numbers)
        doorstep.open()
        self.assertEqual([[1], [1]], await gatherResults([before, after]))
        await self.fails(StoreUnavailable, wrong)
        self.assertEqual(1, len(self.flushLoggedErrors(sqlite3.OperationalError)))


def insert_all(connection: sqlite3.Connection, items: Sequence[Any]) -> list[Any]:
    """A job that adds several numbers, and says how many with each."""
    for item in items:
        connection.execute("INSERT INTO numbers VALUES (?)", (item,))
    return [(item, len(items)) for item in items]


def give_up_together(connection: sqlite3.Connection, items: Sequence[Any]) -> list[Any]:
    """A job in which SQLite ends the transaction, if it is for several items."""
    results = insert_all(connection, items)
    if len(items) > 1:
        give_up(connection)
    return results


class JointJobTests(ThreadTestCase):
    """Items that are done by one job."""

    async def outcomes(self, *items: Any) -> list[Any]:
        """What comes of items that wait together; of a job where one is given."""
        doorstep = await self.hold(self.writer)
        answers = [
            self.writer.run(item)
            if callable(item)
            else self.writer.join(insert_all, item)
            for item in items
        ]
        doorstep.open()
        outcomes = await DeferredList(answers, consumeErrors=True)
        return [result if done else result.type for done, result in outcomes]

    async def test_neighbours(self) -> None:
        """Those next to each other are one job, in the order of all."""
        outcomes = await self.outcomes(1, 2, insert(3), 4, 5, 6)
        expected = [(1, 2), (2, 2), 3, (4, 3), (5, 3), (6, 3)]
        self.assertEqual(expected, outcomes)
        self.assertEqual([*range(1, 7)], self.stored())

    async def test_failing_item(self) -> None:
        """An item that fails does so alone: all are done again, each by itself."""
        outcomes = await self.outcomes(1, None, 2)
        self.assertEqual([(1, 1), StoreUnavailable, (2, 1)], outcomes)
        self.assertEqual([1, 2], self.stored())
        self.assertEqual(1, len(self.flushLoggedErrors(sqlite3.IntegrityError)))

    async def test_failing_neighbour(self) -> None:
        """So they are when another job of the group fails half-way."""
        outcomes = await self.outcomes(1, 2, refuse, 3)
        self.assertEqual([(1, 1), (2, 1), Refusal, (3, 1)], outcomes)
        self.assertEqual([1, 2, 3], self.stored())

    async def test_ended_transaction(self) -> None:
        """So they are when SQLite ends the transaction in such a job."""
        doorstep = await self.hold(self.writer)
        answers = [
            self.writer.run(insert(1)),
            *(self.writer.join(give_up_together, n) for n in (2, 3)),
            self.writer.join(insert_all, 4),
        ]
        doorstep.open()
        outcomes = await gatherResults(answers)
        self.assertEqual([1, (2, 1), (3, 1), (4, 1)], outcomes)
        self.assertEqual([1, 2, 3, 4], self.stored())

    async def test_ended_again(self) -> None:
        """All of the group have failed when it ends it for one item too."""

        def give_up_always(connection: sqlite3.Connection, _: Sequence[Any]) -> Any:
            give_up(connection)

        doorstep = await self.hold(self.writer)
        answers = [self.writer.join(insert_all, 1)]
        answers += [self.writer.join(give_up_always, n) for n in (2, 3)]
        doorstep.open()
        for answer in answers:
            await self.fails(StoreUnavailable, answer)
        self.assertEqual([], self.stored())
        self.assertEqual(4, await self.writer.run(insert(4)))

    async def test_reader(self) -> None:
        """A reader does each by itself."""

        def count(connection: sqlite3.Connection, items: Sequence[Any]) -> list[int]:
            return [len(items) for _ in items]

        doorstep = await self.hold(self.reader)
        answers = [self.reader.join(count, None) for _ in range(2)]
        doorstep.open()
        self.assertEqual([1, 1], await gatherResults(answers))

    async def test_stopped(self) -> None:
        """A stopped thread takes none."""
        await self.writer.stop()
        await self.fails(StoreUnavailable, self.writer.join(insert_all, 1))


class FailingCommitTests(ThreadTestCase):
    """A commit that fails is no commit for anybody, and not the end."""

    async def test_all_fail(self) -> None:
        """All of the group fail as an outage, and nothing of it is stored."""
        doorstep = await self.hold(self.writer)
        jobs = (insert(1), forbid_commit, insert(2), refuse)
        answers = [self.writer.run(job) for job in jobs]
        doorstep.open()
        for answer in answers:
            await self.fails(StoreUnavailable, answer)
        self.assertEqual([], self.stored())

    async def test_recovery(self) -> None:
        """The next group is done on a new connection."""
        connections: list[sqlite3.Connection] = []
        await self.writer.run(connections.append)
        await self.fails(StoreUnavailable, self.writer.run(forbid_commit))
        await self.writer.run(connections.append)
        self.assertIsNot(connections[0], connections[1])
        self.assertEqual(1, await self.writer.run(insert(1)))
        self.assertEqual([1], self.stored())

    async def test_no_lock_is_left(self) -> None:
        """A transaction that could not be committed does not keep others out."""
        await self.fails(StoreUnavailable, self.writer.run(forbid_commit))
        self.other.execute("BEGIN IMMEDIATE")
        self.other.execute("ROLLBACK")

    async def test_reader(self) -> None:
        """The same holds for a reader."""
        answers = [self.reader.run(numbers), self.reader.run(forbid_commit)]
        await self.fails(StoreUnavailable, answers[1])
        await DeferredList(answers, consumeErrors=True)
        self.assertEqual([], await self.reader.run(numbers))

    async def test_no_connection(self) -> None:
        """While the file cannot be opened each call fails, and then they work again."""
        await self.fails(StoreUnavailable, self.writer.run(forbid_commit))
        away = f"{self.path}.away"
        self.other.close()
        await self.reader.stop()
        os.rename(self.path, away)
        os.mkdir(self.path)
        for _ in range(2):
            await self.fails(StoreUnavailable, self.writer.run(insert(1)))
        os.rmdir(self.path)
        os.rename(away, self.path)
        self.assertEqual(2, await self.writer.run(insert(2)))
        self.reader.start()
        self.assertEqual([2], await self.reader.run(numbers))


class SurpriseTests(ThreadTestCase):
    """Whatever goes wrong in a thread, it works on."""

    async def test_no_memory(self) -> None:
        """What nobody expected is an outage, is logged, and the next call is done."""

        def no_memory(path: str) -> sqlite3.Connection:
            raise MemoryError

        with self.running_out(no_memory):
            await self.fails(StoreUnavailable, self.writer.run(insert(1)))
        self.assertEqual(1, len(self.flushLoggedErrors(MemoryError)))
        self.assertEqual(2, await self.writer.run(insert(2)))
        self.assertEqual([2], self.stored())
        await self.writer.stop()

    @contextlib.contextmanager
    def running_out(self, fail: Callable[[str], sqlite3.Connection]) -> Iterator[None]:
        """Let connections fail for a while."""
        patch = self.patch(sqlite, "connect", fail)
        yield
        patch.restore()


class StopTests(ThreadTestCase):
    """Stopping finishes what was asked for, and nothing is taken after it."""

    async def test_finishes(self) -> None:
        """What was submitted before is done and answered before it has stopped."""
        events: list[Any] = []
        doorstep = await self.hold(self.writer)
        for n in range(MAX_GROUP + 5):
            self.writer.run(insert(n)).addCallback(events.append)
        stopped = self.writer.stop().addCallback(events.append)
        self.assertEqual([], events)
        doorstep.open()
        await stopped
        self.assertEqual([*range(MAX_GROUP + 5), None], events)
        self.assertEqual(MAX_GROUP + 5, len(self.stored()))
        self.writer.start()

    async def test_failures_too(self) -> None:
        """A job that fails at the end does not keep the thread from stopping."""
        refused = self.writer.run(refuse)
        stopped = self.writer.stop()
        await self.fails(Refusal, refused)
        await stopped
        self.writer.start()

    async def test_closes(self) -> None:
        """A stopped thread has let go of the file."""
        directory, name = os.path.split(self.path)
        await self.writer.run(insert(1))
        self.other.close()
        self.assertIn(f"{name}-wal", os.listdir(directory))
        for worker in (self.writer, self.reader):
            await worker.stop()
        # Whoever closes a database last clears its log away.
        self.assertNotIn(f"{name}-wal", os.listdir(directory))
        for worker in (self.writer, self.reader):
            worker.start()
        self.assertEqual([1], await self.reader.run(numbers))

    async def test_afterwards(self) -> None:
        """A stopped thread fails what it is asked for, until it is started again."""
        for worker, job in ((self.writer, insert(1)), (self.reader, numbers)):
            stopping = worker.stop()
            await self.fails(StoreUnavailable, worker.run(job))
            await stopping
            await self.fails(StoreUnavailable, worker.run(job))
            worker.start()
            await worker.run(job)
        self.assertEqual([1], self.stored())

    async def test_never_started(self) -> None:
        """What was never started fails every job, and stops at once."""
        for kind in (Writer, Reader):
            worker = kind(self.path, reactor)
            await self.fails(StoreUnavailable, worker.run(numbers))
            self.assertTrue(worker.stop().called)

    async def test_words(self) -> None:
        """Callers are told no more of it than of any other outage."""
        answer = Reader(self.path, reactor).run(numbers)
        error = await self.fails(StoreUnavailable, answer)
        self.assertEqual(StoreUnavailable().description, error.description)

    async def test_stopped_twice(self) -> None:
        """Stopping once more is no error, and does not end the next run."""
        worker = Writer(self.path, reactor)
        worker.start()
        await worker.stop()
        self.assertTrue(worker.stop().called)
        worker.start()
        self.assertEqual(1, await worker.run(insert(1)))
        self.assertEqual(2, await worker.run(insert(2)))
        await worker.stop()


class CancelTests(ThreadTestCase):
    """Who gives up is free at once; the work goes on."""

    async def test_waiting(self) -> None:
        """A job whose caller gave up is done all the same, and others get answers."""
        doorstep = await self.hold(self.writer)
        answers = [self.writer.run(insert(n)) for n in range(3)]
        answers[1].cancel()
        await self.fails(CancelledError, answers[1])
        doorstep.open()
        self.assertEqual([0, 2], await gatherResults([answers[0], answers[2]]))
        self.assertEqual([0, 1, 2], self.stored())

    async def test_failing(self) -> None:
        """The failure of a job whose caller gave up is nobody's."""
        doorstep = await self.hold(self.writer)
        refused, other = self.writer.run(refuse), self.writer.run(insert(1))
        refused.cancel()
        await self.fails(CancelledError, refused)
        doorstep.open()
        self.assertEqual(1, await other)

    async def test_everybody(self) -> None:
        """A group that nobody waits for any more is stored."""
        doorstep = await self.hold(self.writer)
        for n in range(3):
            answer = self.writer.run(insert(n))
            answer.cancel()
            await self.fails(CancelledError, answer)
        doorstep.open()
        await self.writer.run(lambda _: None)
        self.assertEqual([0, 1, 2], self.stored())


class LockTests(ThreadTestCase):
    """Somebody else's lock is waited for."""

    async def attempted(self) -> Deferred[None]:
        """Fires when the writer tries to begin the next transaction."""
        beginning: Deferred[None] = Deferred()

        def tell(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                reactor.callFromThread(beginning.callback, None)

        await self.writer.run(lambda connection: connection.set_trace_callback(tell))
        return beginning

    async def test_waits(self) -> None:
        """A writer waits for the lock of another connection, and nobody is told."""
        beginning = await self.attempted()
        self.other.execute("BEGIN IMMEDIATE")
        answer = self.writer.run(insert(1))
        await beginning
        # Between the attempt and this round trip lies all the time it takes to fail.
        await deferToThread(lambda: None)
        self.assertFalse(answer.called)
        self.other.execute("INSERT INTO numbers VALUES (0)")
        self.other.execute("COMMIT")
        self.assertEqual(1, await answer)
        self.assertEqual([0, 1], self.stored())

    async def test_readers_go_on(self) -> None:
        """A lock for writing does not keep readers waiting."""
        self.other.execute("BEGIN IMMEDIATE")
        self.other.execute("INSERT INTO numbers VALUES (0)")
        self.assertEqual([], await self.reader.run(numbers))
        self.other.execute("COMMIT")
        self.assertEqual([0], await self.reader.run(numbers))

    async def test_endless_lock(self) -> None:
        """A lock that is never given back is an outage, and after it all goes on."""
        self.patch(sqlite, "BUSY_TIMEOUT", 0)
        impatient = self.start(Writer)
        self.other.execute("BEGIN IMMEDIATE")
        answers = [impatient.run(insert(n)) for n in range(3)]
        for answer in answers:
            error = await self.fails(StoreUnavailable, answer)
            self.assertEqual(StoreUnavailable().description, error.description)
        self.other.execute("ROLLBACK")
        self.assertEqual(4, await impatient.run(insert(4)))
        self.assertEqual([4], self.stored())

    async def test_two_writers(self) -> None:
        """Two writers on a file take turns, and lose nothing."""
        second = self.start(Writer)
        answers = [
            worker.run(insert(n))
            for n in range(100)
            for worker in (self.writer, second)
        ]
        await gatherResults(answers)
        self.assertEqual(sorted([*range(100)] * 2), self.stored())


class DurabilityTests(ThreadTestCase):
    """What connections promise."""

    async def pragma(self, name: str) -> list[Any]:
        """The value of a setting, for writer and reader."""

        def job(connection: sqlite3.Connection) -> Any:
            return connection.execute(f"PRAGMA {name}").fetchone()[0]

        return [await worker.run(job) for worker in (self.writer, self.reader)]

    async def test_settings(self) -> None:
        """Each commit goes to the disk before it is answered."""
        full = 2
        self.assertEqual(["wal"] * 2, await self.pragma("journal_mode"))
        self.assertEqual([full] * 2, await self.pragma("synchronous"))
        self.assertEqual([0] * 2, await self.pragma("secure_delete"))
        self.assertEqual([10_000] * 2, await self.pragma("busy_timeout"))

    async def test_after_a_failure(self) -> None:
        """A connection that takes the place of another one promises the same."""
        for worker in (self.writer, self.reader):
            await self.fails(StoreUnavailable, worker.run(forbid_commit))
        self.assertEqual([2] * 2, await self.pragma("synchronous"))
        self.assertEqual(["wal"] * 2, await self.pragma("journal_mode"))


class MigrationTests(TestCase):
    """Schemas that grow by numbered steps."""

    def setUp(self) -> None:
        """Name a file that does not exist."""
        self.path = str(Path(self.mktemp()).absolute())

    def read(self, statement: str) -> list[Any]:
        """What a statement gives."""
        connection = connect(self.path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def version(self) -> int:
        """The version of the schema."""
        return self.read("PRAGMA user_version")[0][0]

    def test_from_nothing(self) -> None:
        """A missing file is made, for its owner only, with all steps in order."""
        migrate(self.path, [["CREATE TABLE a (x)"], ["ALTER TABLE a ADD COLUMN y"]])
        self.assertEqual(2, self.version())
        self.assertEqual([], self.read("SELECT x, y FROM a"))
        self.assertEqual(0o600, Path(self.path).stat().st_mode & 0o777)

    def test_further(self) -> None:
        """Only the steps that are missing are done, and data stays."""
        first = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"]
        migrate(self.path, [first])
        migrate(self.path, [first])
        migrate(self.path, [first, ["ALTER TABLE a ADD COLUMN y DEFAULT 2"]])
        self.assertEqual([(1, 2)], self.read("SELECT x, y FROM a"))
        self.assertEqual(2, self.version())

    def test_step_that_fails(self) -> None:
        """When a step fails none of the new ones is done, and the reason is said."""
        migrate(self.path, [["CREATE TABLE a (x)"]])
        steps = [["CREATE TABLE a (x)"], ["CREATE TABLE b (x)"], ["NONSENSE"]]
        with self.assertRaises(StoreOpenError) as caught:
            migrate(self.path, steps)
        self.assertIn(self.path, str(caught.exception))
        self.assertIn("NONSENSE", str(caught.exception))
        self.assertEqual(1, self.version())
        self.assertEqual([("a",)], self.read("SELECT name FROM sqlite_master"))

    def test_newer(self) -> None:
        """A file of a newer version is refused and not touched."""
        migrate(self.path, [["CREATE TABLE a (x)"], ["CREATE TABLE b (x)"]])
        with self.assertRaises(SchemaTooNew) as caught:
            migrate(self.path, [["CREATE TABLE a (x)"]])
        self.assertIn("schema version 2", str(caught.exception))
        self.assertEqual(2, self.version())

    def test_unusable(self) -> None:
        """A directory, a missing directory and other files are refused."""
        Path(self.path).mkdir()
        text = Path(self.path) / "text"
        text.write_text("no database " * 1000)
        for path in (self.path, f"{self.path}/none/x.db", str(text)):
            with self.assertRaises(StoreOpenError) as caught:
                migrate(path, SCHEMA)
            self.assertIn(path, str(caught.exception))

    async def test_beside_another(self) -> None:
        """Of several who bring a file up to date at once, one does each step."""
        migrate(self.path, SCHEMA)
        self.addCleanup(connect(self.path).close)
        steps = [*SCHEMA, ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"]]
        threads = [deferToThread(migrate, self.path, steps) for _ in range(4)]
        await gatherResults(threads)
        self.assertEqual([(1,)], self.read("SELECT x FROM a"))
