"""Operations over pools, all of them real stores and in the hands of the test."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Destination, Pool, Record
from mqsvc.messaging.operations import Administration, Operations
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.records import Records
from mqsvc.storage.encryption import Encryption
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.messages.sqlite import SQLiteMessageStore, prepare
from mqsvc.storage.pools import PooledMessages
from mqsvc.storage.sealing import Keys
from tests.messaging.case import QUEUE, OperationsTestCase
from tests.messaging.stores import Watched, unlimited
from tests.storage.inline import InlineWorker


class Tickets:
    """Draws what the test says, and the lowest ticket when it says nothing.

    :ivar sums: what was drawn below, so far.
    """

    def __init__(self) -> None:
        self.next: list[int] = []
        self.sums: list[int] = []

    def __call__(self, below: int) -> int:
        self.sums.append(below)
        return self.next.pop(0) if self.next else 0


class PooledTestCase(OperationsTestCase):
    """All operations over a default pool and the pools that a test adds.

    :cvar has_default: whether the default pool takes what no other pool is for.
    :ivar stores: of the pools that were used, by URI; to be watched.
    """

    has_default = True

    def setUp(self) -> None:
        """Make the default pool."""
        self.tickets = Tickets()
        self.paths: dict[str, str] = {}
        self.stores: dict[str, Watched] = {}
        super().setUp()

    def over(self, management: Any, messages: Any) -> None:
        """Wire the operations over pools; a key is there to encrypt."""
        limits = Limits()
        placement = Placement(management, self.tickets, self.has_default)
        self.records = Records(management, limits, unlimited(management), placement)
        self.pooled = PooledMessages(
            messages, management, self.records.pool_of, self._open, self.clock
        )
        # The default store was started when it was made.
        self.pooled._stores.start()
        self.addCleanup(lambda: self.successResultOf(self._stopped()))
        self.sealed = Encryption(self.pooled, Keys({"k": b"k" * 32}))
        self.watched = Watched(self.sealed)
        self.operations = Operations.over(
            *(management, self.watched, self.records, limits, self.clock),
            pooled=self.pooled,
            can_encrypt=True,
        )

    def _stopped(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.pooled._stores.stop())

    def _open(self, uri: str, options: Mapping[str, Any]) -> Deferred[Any]:
        if not uri.startswith("test:"):
            return fail(StoreOpenError(f"there is no store {uri}"))
        if uri not in self.paths:
            self.paths[uri] = self.mktemp()
            prepare(self.paths[uri])
        workers = [InlineWorker(self.paths[uri]) for _ in range(2)]
        self.stores[uri] = Watched(SQLiteMessageStore(*workers, Random(0).getrandbits))
        return succeed(self.stores[uri])

    @property
    def administration(self) -> Administration:
        """The operations on pools and flavors."""
        administration = self.operations.administration
        assert administration is not None
        return administration

    def add_pool(self, name: str, weight: int = 1, flavor: str | None = None) -> None:
        """Put a pool into the catalog."""
        pool = Pool(name, f"test:{name}", weight, flavor)
        self.successResultOf(self.management.put_pool(pool))

    def add_flavor(self, name: str, *pools: str) -> None:
        """Put a flavor into the catalog, and its pools, which are new."""
        for pool in pools:
            self.add_pool(pool)
        self.successResultOf(self.management.put_flavor(name, pools))

    def record(self, destination: Destination = QUEUE) -> Record | None:
        """The record as the catalog has it."""
        return self.successResultOf(self.management.get(destination))

    def pool_of(self, destination: Destination = QUEUE) -> str | None:
        """Where a destination lives; it must exist."""
        record = self.record(destination)
        assert record is not None
        return record.pool

    def in_pool(
        self, pool: str | None, destination: Destination = QUEUE
    ) -> list[bytes]:
        """The bodies of a destination in a pool, as they are kept there."""
        store = self.messages if pool is None else self.stores[f"test:{pool}"]
        page = self.successResultOf(store.stored(destination, 100, None, self.now))
        return [each.message.body for each in page]

    @property
    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.seconds() * 1000)

    def change(self, destination: Destination = QUEUE, **values: Any) -> Deferred[Any]:
        """A patch under way that sets keys; none as a value removes one."""
        patch = [
            {"op": "remove", "path": f"/metadata/{key}"}
            if value is None
            else {"op": "add", "path": f"/metadata/{key}", "value": value}
            for key, value in values.items()
        ]
        return self.start(self.operations.queues.change(destination, patch))
