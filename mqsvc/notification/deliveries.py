"""What came of the deliveries of a subscription, and another try for those given up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from attrs import frozen
from msgspec import structs

from mqsvc.clock import Now
from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidBody
from mqsvc.messaging.model import Claim, Destination, Selection
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import to_its_end
from mqsvc.notification.entries import (
    CLIENT,
    KEPT_SECONDS,
    Attempt,
    Attempts,
    Delivery,
    due,
    given_up,
    history,
    stored,
)
from mqsvc.notification.history import MOST_SHOWN
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

MOST_RECORDS = 10_000
"""Of attempts; more than several processes can leave until they trim them."""

MOST_GIVEN_UP = 100
"""Deliveries that were given up, in one answer."""

_LEASE_SECONDS = 60


@frozen
class Report:
    """The last attempts, newest first, and what was given up, oldest first."""

    attempts: tuple[Attempt, ...]
    given_up: tuple[Delivery, ...]


@frozen
class _Again:
    """Which deliveries of a queue are to be made again.

    :ivar wanted: their ids; none is all.
    """

    pool: str | None
    queue: Destination
    wanted: Collection[str] | None
    encrypt: bool


@frozen
class Deliveries:
    """Operations on the deliveries of subscriptions.

    :ivar _store: below all message filters.
    :ivar _wake: called when there is something to deliver.
    """

    _management: IManagementStore
    _store: IMessageStore
    _records: Records
    _now: Now
    _wake: Callable[[], None]

    async def report(self, destination: Destination, subscription_id: str) -> Report:
        """What came of the deliveries of a subscription.

        :raise SubscriptionDoesNotExist: it is unknown or expired.
        """
        pool = await self._pool(destination, subscription_id)
        attempts = await self._read(
            history(pool, subscription_id), MOST_RECORDS, Attempts
        )
        newest = [each for record in attempts for each in record.attempts]
        left = await self._read(
            given_up(pool, subscription_id), MOST_GIVEN_UP, Delivery
        )
        return Report(tuple(reversed(newest[-MOST_SHOWN:])), tuple(left))

    async def resend(
        self, destination: Destination, subscription_id: str, document: Any
    ) -> int:
        """Deliver again what was given up; its attempts begin anew.

        :param document: ``{"deliveries": [ids]}``, or none for all.
        :return: how many are delivered again.
        :raise InvalidRequest: the document says something else.
        :raise SubscriptionDoesNotExist: the subscription is unknown or expired.
        """
        wanted = _wanted(document)
        pool = await self._pool(destination, subscription_id)
        encrypt = (await self._records.know(destination)).rules.encrypt
        queue = given_up(pool, subscription_id)
        again = _Again(pool, queue, wanted, encrypt)
        # To its end, also for those who hang up now: what is delivered again must not
        # count as given up any more.
        return await to_its_end(self._take(again))

    async def _take(self, again: _Again) -> int:
        """Deliver again what others do not right now; gives how many that are."""
        claimed = await self._store.claim(
            again.queue, _LEASE_SECONDS, 0, MOST_GIVEN_UP, self._now()
        )
        return 0 if claimed.claim is None else await self._resend(again, claimed.claim)

    async def _resend(self, again: _Again, claim: Claim) -> int:
        chosen = {
            message.id: delivery
            for message in claim.messages
            for delivery in [msgspec.json.decode(message.body, type=Delivery)]
            if again.wanted is None or delivery.id in again.wanted
        }
        if chosen:
            records = [
                stored(
                    structs.replace(delivery, attempt=1),
                    KEPT_SECONDS,
                    encrypt=again.encrypt,
                )
                for delivery in chosen.values()
            ]
            await self._store.post(due(again.pool), records, CLIENT, self._now())
            await self._store.delete(again.queue, list(chosen), self._now(), [claim.id])
        await self._store.release(again.queue, claim.id, self._now())
        self._wake()
        return len(chosen)

    async def _pool(self, destination: Destination, subscription_id: str) -> str | None:
        await self._management.subscription(destination, subscription_id, self._now())
        return await self._records.pool_of(destination)

    async def _read(self, queue: Destination, limit: int, kind: type[Any]) -> list[Any]:
        page = await self._store.page(
            queue, Selection(limit, include_claimed=True), self._now()
        )
        return [msgspec.json.decode(message.body, type=kind) for message in page]


def _wanted(document: Any) -> frozenset[str] | None:
    """The ids of deliveries that are asked for; none is all."""
    if document is None:
        return None
    ids = checks.mapping(document, "The body").get("deliveries")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise InvalidBody("'deliveries' must be an array of strings.")
    return frozenset(ids)
