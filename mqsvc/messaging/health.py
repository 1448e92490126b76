"""Is the service able to work: ping and the end-to-end exercise (rest.md 5.3, 5.4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.messaging.claims import Claims
from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.messages import Messages, View
from mqsvc.messaging.model import Destination, Kind
from mqsvc.messaging.queues import Queues
from mqsvc.messaging.shield import shielded
from mqsvc.storage.interfaces import IStore

_PROJECT = "mqsvc-health"
_CLIENT = "mqsvc-health"

Step = Callable[[], Awaitable[Any]]


@frozen
class Health:
    """What load balancers and operators ask."""

    _stores: tuple[IStore, ...]
    _queues: Queues
    _messages: Messages
    _claims: Claims
    _clock: IReactorTime

    log = Logger()

    async def ping(self) -> None:
        """Fires when every store answers.

        :raise StoreUnavailable: one does not.
        """
        for store in self._stores:
            await store.ping()

    async def report(self) -> dict[str, Any]:
        """Use a queue of its own from creation to removal and say how each step went.

        :return: the document of rest.md 5.4.
        """
        return await shielded(Deferred.fromCoroutine(self._exercise()))

    async def _exercise(self) -> dict[str, Any]:
        queue = Destination(_PROJECT, Kind.QUEUE, uuid4().hex)
        steps: dict[str, Step] = {
            "create_queue": lambda: self._queues.create(queue, {}),
            "post_messages": lambda: self._post(queue),
            "claim_messages": lambda: self._claims.create(queue, None, 1),
            "list_messages": lambda: self._messages.page(queue, View(1)),
            "delete_messages": lambda: self._messages.pop(queue, 1),
            "delete_claim": lambda: self._claim_and_release(queue),
            "bulk_delete_messages": lambda: self._claim_and_delete(queue),
            "delete_queue": lambda: self._queues.delete(queue),
        }
        status = {name: await self._timed(step) for name, step in steps.items()}
        return {
            "storage_reachable": await self._reachable(),
            "operation_status": status,
        }

    async def _reachable(self) -> bool:
        try:
            await self.ping()
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
