"""Transactions for callers that must not block: each runs whole on a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.management.sql_dialects import (
    for_writing,
    lost_a_race,
    writing_turn,
)

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")
Step = Callable[Concatenate[Connection, Inputs], Result]
"""Statements on a connection that is in a transaction."""

MAX_ATTEMPTS = 5
"""How often a transaction is begun that others keep getting in the way of."""

ANSWER_SECONDS = 10
"""How long a caller waits at most, whatever the database does."""


class _Call(Generic[Result]):
    """A transaction on its way through the threads, and the caller who waits for it.

    When the time is over the caller is told so, and the transaction comes to nothing
    unless its commit is underway: what did not begin never will, and what began is
    rolled back as soon as the database answers. A caller who asks again later need
    not fear the remains of the first attempt.

    A caller who cancels is free as well, but the transaction goes on.

    :ivar answer: what the caller gets.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.answer: Deferred[Result] = Deferred()
        # Written by the reactor's thread, read by another one.
        self._is_over = False
        self._timer = clock.callLater(ANSWER_SECONDS, self._give_up)

    def go_on(self) -> None:
        """Called by the thread where the transaction can still be left undone.

        :raise StoreUnavailable: it is too late to go on.
        """
        if self._is_over:
            raise StoreUnavailable

    def finish(self, outcome: Result | Failure) -> None:
        """Pass on how it ended, unless the caller has gone."""
        if self._timer.active():
            self._timer.cancel()
        self._tell(outcome)

    def _give_up(self) -> None:
        self._is_over = True
        self.log.error(
            "The management store did not answer within {seconds} seconds",
            seconds=ANSWER_SECONDS,
        )
        self._tell(Failure(StoreUnavailable()))

    def _tell(self, outcome: Result | Failure) -> None:
        if not self.answer.called:
            self.answer.callback(outcome)


class Transactions:
    """A bounded number of threads, each with a connection for the asking.

    A failure of the database becomes
    :class:`~mqsvc.messaging.errors.StoreUnavailable` and is logged; the next call
    tries anew. So does a database that does not answer in time. Its threads are left
    to end by themselves, which the time-outs of the drivers see to; while they are
    all stuck further calls wait in line, each no longer than its own time.

    :param engine: has as many connections as there are threads.
    :param clock: measures the time that a call may take.
    :param shared: whether other processes on this machine have the database as well.
    """

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        reactor: IReactorFromThreads,
        threads: int,
        clock: IReactorTime,
        shared: bool = False,
    ) -> None:
        self._reading = engine
        self._writing = for_writing(engine)
        self._writing_turn = writing_turn(engine, shared)
        self._reactor = reactor
        self._threads = threads
        self._clock = clock
        self._pool: ThreadPool | None = None
        self._underway: set[Deferred[Any]] = set()

    def start(self) -> None:
        """Take calls from now on."""
        # Always a new one: a pool that was stopped cannot be started again.
        self._pool = ThreadPool(0, self._threads, "management")
        self._pool.start()

    def stop(self) -> Deferred[None]:
        """Take no more calls; fires when those underway are done."""
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(pool))

    async def _close(self, pool: ThreadPool) -> None:
        await DeferredList(list(self._underway))
        await deferToThreadPool(self._reactor, pool, self._reading.dispose)
        pool.stop()

    def read(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        """Fires with what the step returns, or fails with what it raises."""

        def work(call: _Call[Result]) -> Result:
            call.go_on()
            with self._reading.begin() as connection:
                return step(connection, *args, **kwargs)

        return self._call(work)

    def write(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        """As :meth:`read`, after the commit; a step that raises changes nothing.

        :param step: may run more than once, but takes effect once.
        """

        def attempt(call: _Call[Result]) -> Result:
            with self._writing_turn:
                call.go_on()
                with self._writing.begin() as connection:
                    result = step(connection, *args, **kwargs)
                    call.go_on()
                    return result

        def work(call: _Call[Result]) -> Result:
            for _ in range(MAX_ATTEMPTS - 1):
                try:
                    return attempt(call)
                except DBAPIError as error:
                    if not lost_a_race(error):
                        raise
            return attempt(call)

        return self._call(work)

    def _call(self, work: Callable[[_Call[Result]], Result]) -> Deferred[Result]:
        if self._pool is None:
            return fail(StoreUnavailable())
        call: _Call[Result] = _Call(self._clock)
        running = deferToThreadPool(self._reactor, self._pool, work, call)
        self._underway.add(running)
        running.addBoth(self._finish, running)
        # The caller has an answer of its own: whether it cancels or its time is over,
        # the thread goes on, and stop() waits for it.
        running.addBoth(call.finish)
        return call.answer

    def _finish(
        self, outcome: Result | Failure, running: Deferred[Any]
    ) -> Result | Failure:
        self._underway.remove(running)
        if isinstance(outcome, Failure) and isinstance(outcome.value, SQLAlchemyError):
            reason = reason_of(outcome.value)
            self.log.error("The management store failed: {reason}", reason=reason)
            return Failure(StoreUnavailable())
        return outcome


def reason_of(error: SQLAlchemyError) -> str:
    """What may be shown of an error, on one line: nothing that a tenant stored."""
    # Errors about values quote them, and some databases add the whole row concerned
    # on further lines.
    about_values = isinstance(error, (DataError, IntegrityError))
    if about_values or not isinstance(error, DBAPIError):
        return type(error).__name__
    return f"{type(error.orig).__name__}: {error.orig}".splitlines()[0]
