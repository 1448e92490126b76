"""The management store on MongoDB, stand-alone or a replica set, through txmongo.

Each operation takes effect in one write to one document, since a stand-alone server
has no transactions. What else it does before and after that cannot be seen. See
:mod:`.mongodb_schema` for how the removal of a destination is such a write, and
:mod:`.mongodb_pools` for that of a pool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from random import SystemRandom
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
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
from mqsvc.storage.ids import RANDOM_BITS, RandomBits
from mqsvc.storage.interfaces import IManagementStore
from mqsvc.storage.management import (
    mongodb_leases,
    mongodb_pools,
    mongodb_records,
    mongodb_subscriptions,
)
from mqsvc.storage.management.mongodb_calls import Calls, Database
from mqsvc.storage.management.mongodb_schema import prepare
from mqsvc.storage.mongodb_uri import read_uri

__all__ = ["MongoDBManagementStore", "open_mongodb_management"]


def open_mongodb_management(uri: str, reactor: IReactorTime) -> MongoDBManagementStore:
    """A store in the database of a URI, whose indexes are made.

    Blocks; for the time before the reactor runs. No connection is left open, so that
    the process may fork before it starts the store.

    :param uri: ``mongodb://host/database``, with the options that
        :func:`~mqsvc.storage.mongodb_uri.read_uri` takes.
    :param reactor: the one that Twisted has installed; txmongo knows no other.
    :raise SchemaTooNew: a newer version of the program made the database.
    :raise StoreOpenError: the database cannot be used.
    """
    address = read_uri(uri)
    prepare(address)
    return MongoDBManagementStore(Calls(address, reactor), SystemRandom().getrandbits)


@implementer(IManagementStore)
class MongoDBManagementStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IManagementStore`.

    :param random_bits: where the revisions of new documents come from.
    """

    def __init__(self, calls: Calls, random_bits: RandomBits) -> None:
        self._calls = calls
        self._random_bits = random_bits

    def startService(self) -> None:
        """Take operations from now on."""
        super().startService()
        self._calls.start()

    def stopService(self) -> Deferred[None]:
        """Take no more operations; fires when those underway are done."""
        super().stopService()
        return self._calls.stop()

    def ping(self) -> Deferred[None]:
        """See :class:`~mqsvc.storage.interfaces.IStore`."""
        return self._calls.repeat(_ping)

    def sweep(self, now: int) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IStore`.

        At most :data:`~.sweeping.MAX_SWEPT` of a lease, and as many expired ones.
        """
        return self._calls.repeat(_sweep, now)

    def create(
        self, destination: Destination, metadata: JsonObject, pool: str | None = None
    ) -> Deferred[bool]:
        """See :class:`~mqsvc.storage.interfaces.IManagementStore`, as all below."""
        return self._calls.call(
            mongodb_records.create, destination, metadata, pool, self._new_revision()
        )

    def get(self, destination: Destination) -> Deferred[Record | None]:
        """One record."""
        return self._calls.repeat(mongodb_records.get, destination)

    def update(
        self, record: Record, metadata: JsonObject, pool: str | None
    ) -> Deferred[Record | None]:
        """Compare and set."""
        return self._calls.call(mongodb_records.update, record, metadata, pool)

    def delete(self, destination: Destination) -> Deferred[None]:
        """A record and its subscriptions."""
        return self._calls.repeat(mongodb_records.delete, destination)

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
        return self._calls.repeat(
            mongodb_records.page, project, kind, limit, after, name_contains, filters
        )

    def records(
        self, limit: int, after: Destination | None = None
    ) -> Deferred[list[Record]]:
        """Records of all projects."""
        return self._calls.repeat(mongodb_records.records, limit, after)

    def count(self, project: str, kind: Kind) -> Deferred[int]:
        """Records of a project."""
        return self._calls.repeat(mongodb_records.count, project, kind)

    def subscribe(self, subscription: Subscription, now: int) -> Deferred[Subscription]:
        """A new subscription or the one that was there."""
        return self._calls.repeat(
            mongodb_subscriptions.subscribe, subscription, now, self._new_revision()
        )

    def subscription(
        self, destination: Destination, subscription_id: str, now: int
    ) -> Deferred[Subscription]:
        """One subscription."""
        return self._calls.repeat(
            mongodb_subscriptions.get, destination, subscription_id, now
        )

    def subscriptions(
        self, destination: Destination, limit: int, after: str, now: int
    ) -> Deferred[list[Subscription]]:
        """Subscriptions by id."""
        return self._calls.repeat(
            mongodb_subscriptions.page, destination, limit, after, now
        )

    def update_subscription(
        self,
        subscription: Subscription,
        now: int,
        expected: Subscription | None = None,
    ) -> Deferred[bool]:
        """Compare and replace."""
        return self._calls.call(
            mongodb_subscriptions.update, subscription, now, expected
        )

    def unsubscribe(
        self, destination: Destination, subscription_id: str
    ) -> Deferred[None]:
        """Remove a subscription."""
        return self._calls.repeat(
            mongodb_subscriptions.unsubscribe, destination, subscription_id
        )

    def unsubscribe_all(self, destination: Destination) -> Deferred[None]:
        """Remove the subscriptions of a destination."""
        return self._calls.repeat(mongodb_subscriptions.unsubscribe_all, destination)

    def begin_lease(self, lease: str, until: int) -> Deferred[None]:
        """A new lease."""
        return self._calls.repeat(mongodb_leases.begin, lease, until)

    def renew_lease(self, lease: str, until: int) -> Deferred[bool]:
        """A longer lease, if it is still there."""
        return self._calls.repeat(mongodb_leases.renew, lease, until)

    def end_lease(self, lease: str) -> Deferred[None]:
        """A lease that nobody holds any more."""
        return self._calls.repeat(mongodb_leases.end, lease)

    def put_pool(self, pool: Pool) -> Deferred[None]:
        """A new pool or another one of that name."""
        return self._calls.call(mongodb_pools.put_pool, pool)

    def pool(self, name: str) -> Deferred[Pool | None]:
        """One pool."""
        return self._calls.repeat(mongodb_pools.get_pool, name)

    def pools(
        self, limit: int, after: str = "", flavor: str | None = None
    ) -> Deferred[list[Pool]]:
        """Pools by name."""
        return self._calls.repeat(mongodb_pools.pools, limit, after, flavor)

    def delete_pool(self, name: str) -> Deferred[None]:
        """Remove a pool that nothing needs."""
        return self._calls.repeat(mongodb_pools.delete_pool, name)

    def put_flavor(self, name: str, pools: Collection[str]) -> Deferred[None]:
        """A new flavor or another one of that name."""
        return self._calls.call(mongodb_pools.put_flavor, name, pools)

    def flavor(self, name: str) -> Deferred[Flavor | None]:
        """One flavor."""
        return self._calls.repeat(mongodb_pools.get_flavor, name)

    def flavors(self, limit: int, after: str = "") -> Deferred[list[Flavor]]:
        """Flavors by name."""
        return self._calls.repeat(mongodb_pools.flavors, limit, after)

    def delete_flavor(self, name: str) -> Deferred[None]:
        """Remove a flavor."""
        return self._calls.repeat(mongodb_pools.delete_flavor, name)

    def _new_revision(self) -> int:
        # Random, so that the revision of a document that was deleted and made again
        # is none that a reader of the former one may still hold.
        return self._random_bits(RANDOM_BITS)


async def _sweep(database: Database, now: int) -> bool:
    more_of_leases = await mongodb_leases.sweep(database, now)
    return await mongodb_subscriptions.sweep(database, now) or more_of_leases


async def _ping(database: Database) -> None:
    await database.command("ping")
