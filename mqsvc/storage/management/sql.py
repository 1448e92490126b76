"""The management store on a relational database, through SQLAlchemy Core.

Each operation is one transaction on a thread (:mod:`.sql_transactions`). The
statements are in :mod:`.sql_records`, :mod:`.sql_subscriptions`, :mod:`.sql_leases` and
:mod:`.sql_pools`, what differs between databases in :mod:`.sql_dialects`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import SystemRandom
from typing import Any

from sqlalchemy import URL, Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from zope.interface import implementer

from mqsvc.messaging.model import (
    Destination,
    Flavor,
    JsonObject,
    Kind,
    Pool,
    Record,
    Subscription,
)
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.ids import RANDOM_BITS, RandomBits
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.storage.management import (
    sql_leases,
    sql_pools,
    sql_records,
    sql_subscriptions,
)
from mqsvc.storage.management.sql_dialects import make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.management.sql_schema import schema_versions
from mqsvc.storage.management.sql_transactions import Transactions, reason_of

__all__ = ["SQLManagementStore", "SchemaTooNew", "open_sql_management"]


def open_sql_management(
    uri: str | URL,
    reactor: IReactorFromThreads,
    threads: int = 4,
    shared: bool = False,
) -> SQLManagementStore:
    """A store on the database of a URI, whose schema is made or brought up to date.

    Blocks; for the time before the reactor runs. No connection is left open, so that
    the process may fork before it starts the store.

    :param uri: as SQLAlchemy reads it, ``sqlite:////var/lib/mqsvc/management.db``.
    :param threads: operations, and so connections, at one time.
    :param shared: whether other processes on this machine have it at the same time;
        the one that started them has brought the schema up to date.
    :raise SchemaTooNew: a newer version of the program made the database.
    :raise StoreOpenError: the database cannot be used.
    """
    engine = make_engine(uri, threads)
    # A large table may take long to change.
    patient = make_engine(uri, 1, patient=True)
    try:
        # A server that hangs is found out by the one that does not wait.
        engine.connect().close()
        if not shared:
            migrate(patient, MIGRATIONS)
    except SQLAlchemyError as error:
        where = engine.url.render_as_string()
        raise StoreOpenError(f"{where} cannot be used: {reason_of(error)}") from error
    finally:
        engine.dispose()
        patient.dispose()
    transactions = Transactions(engine, reactor, threads, IReactorTime(reactor), shared)
    return SQLManagementStore(transactions, SystemRandom().getrandbits)


@implementer(IManagementStore)
class SQLManagementStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IManagementStore`.

    :param random_bits: where the revisions of new records come from.
    """

    def __init__(self, transactions: Transactions, random_bits: RandomBits) -> None:
        self._transactions = transactions
        self._random_bits = random_bits

    def startService(self) -> None:
        """Take operations from now on."""
        super().startService()
        self._transactions.start()

    def stopService(self) -> Deferred[None]:
        """Take no more operations; fires when those underway are done."""
        super().stopService()
        return self._transactions.stop()

    def ping(self) -> Deferred[None]:
        """See :class:`~mqsvc.storage.interfaces.IStore`."""
        return self._transactions.read(_touch)

    def sweep(self, now: int) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IStore`.

        At most :data:`~.sweeping.MAX_SWEPT` of a lease, and as many expired ones.
        """
        return self._transactions.write(_sweep, now)

    def create(
        self, destination: Destination, metadata: JsonObject, pool: str | None = None
    ) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IManagementStore`, as all below."""
        # Random, so that the revision of a record that was deleted and made again
        # is none that a reader of the former one may still hold.
        revision = self._random_bits(RANDOM_BITS)
        return self._transactions.write(
            sql_records.create, destination, metadata, pool, revision
        )

    def get(self, destination: Destination) -> Deferred[Record | None]:
        """One record."""
        return self._transactions.read(sql_records.get, destination)

    def update(
        self, record: Record, metadata: JsonObject, pool: str | None
    ) -> Deferred[Record | None]:
        """Compare and set."""
        return self._transactions.write(sql_records.update, record, metadata, pool)

    def delete(self, destination: Destination) -> Deferred[None]:
        """A record and its subscriptions."""
        return self._transactions.write(sql_records.delete, destination)

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
        return self._transactions.read(
            sql_records.page, project, kind, limit, after, name_contains, filters
        )

    def records(
        self, limit: int, after: Destination | None = None
    ) -> Deferred[list[Record]]:
        """Records of all projects."""
        return self._transactions.read(sql_records.records, limit, after)

    def count(self, project: str, kind: Kind) -> Deferred[int]:
        """Records of a project."""
        return self._transactions.read(sql_records.count, project, kind)

    def subscribe(self, subscription: Subscription, now: int) -> Deferred[Subscription]:
        """A new subscription or the one that was there."""
        return self._transactions.write(sql_subscriptions.subscribe, subscription, now)

    def subscription(
        self, destination: Destination, subscription_id: str, now: int
    ) -> Deferred[Subscription]:
        """One subscription."""
        return self._transactions.read(
            sql_subscriptions.get, destination, subscription_id, now
        )

    def subscriptions(
        self, destination: Destination, limit: int, after: str, now: int
    ) -> Deferred[list[Subscription]]:
        """Subscriptions by id."""
        return self._transactions.read(
            sql_subscriptions.page, destination, limit, after, now
        )

    def update_subscription(
        self,
        subscription: Subscription,
        now: int,
        expected: Subscription | None = None,
    ) -> Deferred[bool]:
        """Compare and replace."""
        return self._transactions.write(
            sql_subscriptions.update, subscription, now, expected
        )

    def unsubscribe(
        self, destination: Destination, subscription_id: str
    ) -> Deferred[None]:
        """Remove a subscription."""
        return self._transactions.write(
            sql_subscriptions.unsubscribe, destination, subscription_id
        )

    def unsubscribe_all(self, destination: Destination) -> Deferred[None]:
        """Remove the subscriptions of a destination."""
        return self._transactions.write(sql_subscriptions.unsubscribe_all, destination)

    def begin_lease(self, lease: str, until: int) -> Deferred[None]:
        """A new lease."""
        return self._transactions.write(sql_leases.begin, lease, until)

    def renew_lease(self, lease: str, until: int) -> Deferred[bool]:
        """A longer lease, if it is still there."""
        return self._transactions.write(sql_leases.renew, lease, until)

    def end_lease(self, lease: str) -> Deferred[None]:
        """A lease that nobody holds any more."""
        return self._transactions.write(sql_leases.end, lease)

    def put_pool(self, pool: Pool) -> Deferred[None]:
        """A new pool in its place."""
        return self._transactions.write(sql_pools.put, pool)

    def pool(self, name: str) -> Deferred[Pool | None]:
        """One pool."""
        return self._transactions.read(sql_pools.get, name)

    def pools(
        self, limit: int, after: str = "", flavor: str | None = None
    ) -> Deferred[list[Pool]]:
        """Pools by name."""
        return self._transactions.read(sql_pools.page, limit, after, flavor)

    def delete_pool(self, name: str) -> Deferred[None]:
        """Remove a pool that is not needed."""
        return self._transactions.write(sql_pools.delete, name)

    def put_flavor(self, name: str, pools: Collection[str]) -> Deferred[None]:
        """A flavor, and which pools belong to it."""
        return self._transactions.write(sql_pools.put_flavor, name, pools)

    def flavor(self, name: str) -> Deferred[Flavor | None]:
        """One flavor with its pools."""
        return self._transactions.read(sql_pools.get_flavor, name)

    def flavors(self, limit: int, after: str = "") -> Deferred[list[Flavor]]:
        """Flavors by name."""
        return self._transactions.read(sql_pools.page_of_flavors, limit, after)

    def delete_flavor(self, name: str) -> Deferred[None]:
        """Remove a flavor and free its pools."""
        return self._transactions.write(sql_pools.delete_flavor, name)


def _sweep(connection: Connection, now: int) -> bool:
    more_of_leases = sql_leases.sweep(connection, now)
    return sql_subscriptions.sweep(connection, now) or more_of_leases


def _touch(connection: Connection) -> None:
    # A statement without a table would not touch the file of an SQLite database.
    connection.execute(select(func.max(schema_versions.c.version)))
