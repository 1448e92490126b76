"""Operations on a MongoDB database that end, whatever the server does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from twisted.internet import error
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.mongodb_connections import Connections
from mqsvc.storage.mongodb_uri import Address

Database = Any
"""A database of txmongo, which has no types."""

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")
Step = Callable[Concatenate[Database, Inputs], Awaitable[Result]]
"""One operation, of any number of commands."""

CALL_SECONDS = 10
"""How long an operation may take. While a replica set elects a primary it waits."""

CONNECTIONS = 4

_OUTAGES = (
    PyMongoError,
    TimeoutError,
    error.ConnectError,
    error.ConnectionClosed,
)


class Calls:
    """Connections to a database for the time from start to stop.

    A failure of the database becomes
    :class:`~mqsvc.messaging.errors.StoreUnavailable` and is logged; the next call
    tries anew.

    :param clock: measures how long a call takes, and waits for a connection.
    """

    log = Logger()

    def __init__(self, address: Address, clock: IReactorTime) -> None:
        self._address = address
        self._clock = clock
        self._pool: Any = None
        self._underway: set[Deferred[Any]] = set()

    def start(self) -> None:
        """Connect, and take calls from now on."""
        size = min(self._address.connections or CONNECTIONS, CONNECTIONS)
        self._pool = Connections(self._address, size, self._clock)

    def stop(self) -> Deferred[None]:
        """Take no more calls; fires when those underway are done."""
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._close(pool))

    async def _close(self, pool: Any) -> None:
        await DeferredList(list(self._underway))
        await pool.disconnect()

    def call(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        """Fires with what the step returns, or fails with what it raises."""

        async def once(database: Database) -> Result:
            return await step(database, *args, **kwargs)

        return self._call(once)

    def repeat(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        """As :meth:`call`, begun again whenever a connection or primary is lost.

        :param step: nobody can tell whether it took effect once or more often.
        """

        async def until_done(database: Database) -> Result:
            while True:
                # Each time it waits for a new connection.
                with suppress(AutoReconnect):
                    return await step(database, *args, **kwargs)

        return self._call(until_done)

    def _call(
        self, work: Callable[[Database], Coroutine[Deferred[Any], Any, Result]]
    ) -> Deferred[Result]:
        if self._pool is None:
            return fail(StoreUnavailable())
        database = self._pool[self._address.database]
        running = Deferred.fromCoroutine(work(database))
        running.addTimeout(CALL_SECONDS, self._clock)
        self._underway.add(running)
        running.addBoth(self._finish, running)
        # A caller that gives up cancels only the answer: the step goes on, and stop()
        # waits for it.
        answer: Deferred[Result] = Deferred()
        running.chainDeferred(answer)
        return answer

    def _finish(
        self, outcome: Result | Failure, running: Deferred[Any]
    ) -> Result | Failure:
        self._underway.remove(running)
        if isinstance(outcome, Failure) and isinstance(outcome.value, _OUTAGES):
            reason = reason_of(outcome.value)
            self.log.error("The management store failed: {reason}", reason=reason)
            return Failure(StoreUnavailable())
        return outcome


def reason_of(error: BaseException) -> str:
    """What may be shown of an error, on one line: nothing that a tenant stored."""
    kind = type(error).__name__
    # The server quotes keys, and txmongo adds whole commands.
    if isinstance(error, OperationFailure):
        name = (error.details or {}).get("codeName", "")
        return f"{kind}: {name or f'code {error.code}'}"
    return f"{kind}: {error}".partition("\n")[0]
