"""The management store on a relational database, through SQLAlchemy Core.

Each operation is one transaction, run on a thread of the store's own pool: one hop
there and one back. The statements are in :mod:`.sql_records` and
:mod:`.sql_subscriptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import SystemRandom
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import (
    Destination,
    JsonObject,
    Kind,
    Record,
    Subscription,
)
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.ids import RANDOM_BITS, RandomBits
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.storage.management import sql_records, sql_subscriptions
from mqsvc.storage.management.sql_dialects import for_writing, make_engine
from mqsvc.storage.management.sql_schema import MIGRATIONS, migrate, schema_versions

__all__ = ["SQLManagementStore", "SchemaTooNew", "open_sql_management"]

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")
Step = Callable[Concatenate[Connection, Inputs], Result]


def open_sql_management(
    uri: str, reactor: IReactorFromThreads, threads: int = 4
) -> SQLManagementStore:
    """A store on the database of a URI, whose schema is made or brought up to date.

    Blocks; for the time before the reactor runs. No connection is left open, so that
    the process may fork before it starts the store.

    :param uri: as SQLAlchemy reads it, ``sqlite:////var/lib/mqsvc/management.db``.
    :param threads: operations, and so connections, at one time.
    :raise SchemaTooNew: a newer version of the program made the database.
    :raise StoreOpenError: the database cannot be used.
    """
    engine = make_engine(uri, threads)
    try:
        migrate(engine, MIGRATIONS)
    except SQLAlchemyError as error:
        where = engine.url.render_as_string()
        raise StoreOpenError(f"{where} cannot be used: {_reason(error)}") from error
    finally:
        engine.dispose()
    return SQLManagementStore(engine, reactor, threads, SystemRandom().getrandbits)


@implementer(IManagementStore)
class SQLManagementStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IManagementStore`.

    :param engine: connections to a database with the schema of today, as many as
        there are threads.
    :param random_bits: where the revisions of new records come from.
    """

    log = Logger()

    def __init__(
        self,
        engine: Engine,
        reactor: IReactorFromThreads,
        threads: int,
        random_bits: RandomBits,
    ) -> None:
        self._engine = engine
        self._writing_engine = for_writing(engine)
        self._reactor = reactor
        self._threads = threads
        self._random_bits = random_bits
        self._underway: set[Deferred[Any]] = set()

    def startService(self) -> None:
        """Take operations from now on."""
        super().startService()
        # A pool that was stopped cannot be started again.
        self._pool = ThreadPool(0, self._threads, "management")
        self._pool.start()

    def stopService(self) -> Deferred[None]:
        """Take no more operations; fires when those underway are done."""
        if not self.running:
            return succeed(None)
        super().stopService()
        return Deferred.fromCoroutine(self._close(self._pool))

    async def _close(self, pool: ThreadPool) -> None:
        await DeferredList(list(self._underway))
        await deferToThreadPool(self._reactor, pool, self._engine.dispose)
        pool.stop()

    def ping(self) -> Deferred[None]:
        """See :class:`~mqsvc.storage.interfaces.IStore`."""
        return self._read(_touch)

    def sweep(self, now: int) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IStore`; at most 500 at a time."""
        return self._write(sql_subscriptions.sweep, now)

    def create(self, destination: Destination, metadata: JsonObject) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IManagementStore`, as all below."""
        # Random, so that the revision of a record that was deleted and made again
        # is none that a reader of the former one may still hold.
        revision = self._random_bits(RANDOM_BITS)
        return self._write(sql_records.create, destination, metadata, revision)

    def get(self, destination: Destination) -> Deferred[Record | None]:
        """One record."""
        return self._read(sql_records.get, destination)

    def update(self, record: Record, metadata: JsonObject) -> Deferred[Record | None]:
        """Compare and set."""
        return self._write(sql_records.update, record, metadata)

    def delete(self, destination: Destination) -> Deferred[None]:
        """A record and its subscriptions."""
        return self._write(sql_records.delete, destination)

    def page(
        self,
        project: str,
        kind: Kind,
        limit: int,
        after: str = "",
        name_contains: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Deferred[list[Record]]:
        """Records by name."""
        filters = metadata or {}
        return self._read(
            sql_records.page, project, kind, limit, after, name_contains, filters
        )

    def count(self, project: str, kind: Kind) -> Deferred[int]:
        """Records of a project."""
        return self._read(sql_records.count, project, kind)

    def subscribe(self, subscription: Subscription, now: int) -> Deferred[Subscription]:
        """A new subscription or the one that was there."""
        return self._write(sql_subscriptions.subscribe, subscription, now)

    def subscription(
        self, destination: Destination, subscription_id: str, now: int
    ) -> Deferred[Subscription]:
        """One subscription."""
        return self._read(sql_subscriptions.get, destination, subscription_id, now)

    def subscriptions(
        self, destination: Destination, limit: int, after: str, now: int
    ) -> Deferred[list[Subscription]]:
        """Subscriptions by id."""
        return self._read(sql_subscriptions.page, destination, limit, after, now)

    def update_subscription(
        self, subscription: Subscription, now: int
    ) -> Deferred[None]:
        """Replace a subscription."""
        return self._write(sql_subscriptions.update, subscription, now)

    def unsubscribe(
        self, destination: Destination, subscription_id: str
    ) -> Deferred[None]:
        """Remove a subscription."""
        return self._write(sql_subscriptions.unsubscribe, destination, subscription_id)

    def unsubscribe_all(self, destination: Destination) -> Deferred[None]:
        """Remove the subscriptions of a destination."""
        return self._write(sql_subscriptions.unsubscribe_all, destination)

    def _read(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        return self._call(_transact, self._engine, step, *args, **kwargs)

    def _write(
        self,
        step: Step[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        return self._call(_transact_again, self._writing_engine, step, *args, **kwargs)

    def _call(
        self,
        function: Callable[Inputs, Result],
        *args: Inputs.args,
        **kwargs: Inputs.kwargs,
    ) -> Deferred[Result]:
        """Call a function on a thread; the store waits for it, the caller need not."""
        if not self.running:
            return fail(StoreUnavailable())
        work = deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)
        self._underway.add(work)
        work.addBoth(self._settle, work)
        answer: Deferred[Result] = Deferred()
        work.chainDeferred(answer)
        return answer

    def _settle(
        self, outcome: Result | Failure, work: Deferred[Any]
    ) -> Result | Failure:
        self._underway.remove(work)
        if isinstance(outcome, Failure) and outcome.check(SQLAlchemyError):
            reason = _reason(outcome.value)
            self.log.error("The management store failed: {reason}", reason=reason)
            return Failure(StoreUnavailable())
        return outcome


def _transact(
    engine: Engine,
    step: Step[Inputs, Result],
    *args: Inputs.args,
    **kwargs: Inputs.kwargs,
) -> Result:
    with engine.begin() as connection:
        return step(connection, *args, **kwargs)


def _transact_again(
    engine: Engine,
    step: Step[Inputs, Result],
    *args: Inputs.args,
    **kwargs: Inputs.kwargs,
) -> Result:
    try:
        return _transact(engine, step, *args, **kwargs)
    except IntegrityError:
        # Where writers do not wait for each other, one inserted the same row after
        # this one had looked. Looking again shows that row.
        return _transact(engine, step, *args, **kwargs)


def _touch(connection: Connection) -> None:
    # A statement without a table would not touch the file of an SQLite database.
    connection.execute(select(func.max(schema_versions.c.version)))


def _reason(error: SQLAlchemyError) -> str:
    """What may be shown: an error about values may quote what a tenant stored."""
    if not isinstance(error, DBAPIError) or isinstance(
        error, (DataError, IntegrityError)
    ):
        return type(error).__name__
    # Some databases give the row concerned in the lines that follow.
    return f"{type(error.orig).__name__}: {error.orig}".splitlines()[0]
