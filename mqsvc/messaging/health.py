"""Is the service able to work: ping and the end-to-end exercise (rest.md 5.3, 5.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.messaging.claims import Claims
from mqsvc.messaging.errors import MessagingError, StoreUnavailable
from mqsvc.messaging.messages import Messages, View
from mqsvc.messaging.model import Destination, Kind
from mqsvc.messaging.placement import all_pools
from mqsvc.messaging.pulse import Pulse
from mqsvc.messaging.queues import Queues
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import to_its_end
from mqsvc.storage.interfaces import (
    IManagementStore,
    IPooledMessageStore,
)

_PROJECT = "mqsvc-health"
_CLIENT = "mqsvc-health"

_DEFAULT = "default"
"""What the default pool is called, unless another pool has that name."""

Step = Callable[[], Awaitable[Any]]


@frozen
class Health:
    """What load balancers and operators ask.

    :ivar _pooled: none where there are no pools.
    """

    _management: IManagementStore
    _pooled: IPooledMessageStore | None
    _records: Records
    _queues: Queues
    _messages: Messages
    _claims: Claims
    _clock: IReactorTime
    _pulse: Pulse

    log = Logger()

    async def ping(self) -> None:
        """Fires when every store answers, or did a moment ago.

        :raise StoreUnavailable: one does not.
        """
        await self._pulse.check()

    async def report(self) -> dict[str, Any]:
        """Use queues of its own from creation to removal and say how each step went.

        :return: the document of rest.md 5.4.
        """
        report = self._report() if self._pooled is None else self._by_pool(self._pooled)
        return await to_its_end(report)

    async def _report(self) -> dict[str, Any]:
        status = await self._exercise(None)
        return {
            "storage_reachable": await self._works(self._pulse.ask),
            "operation_status": status,
        }

    async def _by_pool(self, pooled: IPooledMessageStore) -> dict[str, Any]:
        names = {_DEFAULT: None} | {name: name for name in await self._pool_names()}
        # At the same time: one that does not answer holds up nobody else's report.
        reports = await gatherResults(
            [
                Deferred.fromCoroutine(self._on_pool(pooled, pool))
                for pool in names.values()
            ]
        )
        return {
            "catalog_reachable": await self._works(self._management.ping),
            **dict(zip(names, reports, strict=True)),
        }

    async def _pool_names(self) -> list[str]:
        try:
            return [pool.name for pool in await all_pools(self._management)]
        except StoreUnavailable:
            return []

    async def _on_pool(
        self, pooled: IPooledMessageStore, pool: str | None
    ) -> dict[str, Any]:
        status = await self._exercise(pool)
        return {
            "storage_reachable": await self._works(lambda: pooled.ping_pool(pool)),
            "operation_status": status,
        }

    async def _exercise(self, pool: str | None) -> dict[str, Any]:
        queue = Destination(_PROJECT, Kind.QUEUE, uuid4().hex)
        steps: dict[str, Step] = {
            "create_queue": lambda: self._records.create_in(pool, queue, {}),
            "post_messages": lambda: self._post(queue),
            "claim_messages": lambda: self._claims.create(queue, None, 1),
            "list_messages": lambda: self._messages.page(queue, View(1)),
            "delete_messages": lambda: self._messages.pop(queue, 1),
            "delete_claim": lambda: self._claim_and_release(queue),
            "bulk_delete_messages": lambda: self._claim_and_delete(queue),
            "delete_queue": lambda: self._queues.delete(queue),
        }
        status = {name: await self._timed(step) for name, step in steps.items()}
        if not status["delete_queue"]["succeeded"]:
            # The messages expire by themselves; a record would keep the pool in use.
            await self._works(lambda: self._records.delete(queue))
        return status

    async def _works(self, step: Step) -> bool:
        try:
            await step()
        except MessagingError:
            return False
        return True

    async def _timed(self, step: Step) -> dict[str, Any]:
        began, reference = self._clock.seconds(), None
        try:
            await step()
        except MessagingError:
            reference = uuid4().hex
            self.log.failure("Health check {reference} failed", reference=reference)
        return {
            "succeeded": reference is None,
            "seconds": self._clock.seconds() - began,
            "ref": reference,
        }

    async def _post(self, queue: Destination) -> None:
        messages = [{"body": "health", "ttl": 60}] * 3
        await self._messages.post(queue, _CLIENT, messages, 0)

    async def _claim_and_release(self, queue: Destination) -> None:
        claim = await self._claims.create(queue, None, 1)
        if claim is not None:
            await self._claims.release(queue, claim.id)

    async def _claim_and_delete(self, queue: Destination) -> None:
        claim = await self._claims.create(queue, None, 1)
        if claim is not None:
            ids = [message.id for message in claim.messages]
            await self._messages.delete_many(queue, ids, [claim.id])
