"""Transactions for callers that must not block: each runs whole on a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
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


class Transactions:
    """A bounded number of threads, each with a connection for the asking.

    A failure of the database becomes
    :class:`~mqsvc.messaging.errors.StoreUnavailable` and is logged; the next call
    tries anew.

    :param engine: has as many connections as there are threads.
    """

    log = Logger()

    def __init__(
        self, engine: Engine, reactor: IReactorFromThreads, threads: int
    ) -> None:
        self._reading = engine
        self._writing = for_writing(engine)
        self._writing_turn = writing_turn(engine)
        self._reactor = reactor
        self._threads = threads
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

        def work() -> Result:
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

        def attempt() -> Result:
            with self._writing_turn, self._writing.begin() as connection:
                return step(connection, *args, **kwargs)

        def work() -> Result:
            for _ in range(MAX_ATTEMPTS - 1):
                try:
                    return attempt()
                except DBAPIError as error:
                    if not lost_a_race(error):
                        raise
            return attempt()

        return self._call(work)

    def _call(self, work: Callable[[], Result]) -> Deferred[Result]:
        if self._pool is None:
            return fail(StoreUnavailable())
        running = deferToThreadPool(self._reactor, self._pool, work)
        self._underway.add(running)
        running.addBoth(self._finish, running)
        # A caller that gives up cancels only the answer: the thread goes on, and
        # stop() waits for it.
        answer: Deferred[Result] = Deferred()
        running.chainDeferred(answer)
        return answer

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
