"""Subscriptions: who is told of new messages (rest.md 5.23 to 5.28)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from attrs import frozen

from mqsvc.clock import Now
from mqsvc.messaging import checks, retry_policy
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.errors import (
    Conflict,
    InvalidBody,
    InvalidRequest,
    SubscriptionDoesNotExist,
    UnusableSubscription,
)
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.limits import MIN_TTL, Limits
from mqsvc.messaging.model import Destination, Subscription
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import shielded, to_its_end
from mqsvc.messaging.subscribers import Subscribers
from mqsvc.messaging.subscription_options import changed
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, first_position, format_id
from mqsvc.storage.interfaces import IManagementStore

_END_OF_TIME = 253_402_300_800
"""Seconds since the epoch at which the year 10000 begins, which no date can show."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")

_LONGEST_SUBSCRIBER = 2000
"""Characters: as much of a URL as servers and proxies take for certain."""

_CHANGE_ATTEMPTS = 100
"""How often a change is made again to a subscription that others changed meanwhile."""

_TOO_BUSY = "Others change this subscription all the time. Try again."

_CHANGEABLE = ("subscriber", "ttl", "options")
_FIXED = ("source", "queue", "project", "subscription_id")


@frozen
class Subscriptions:
    """Operations on the subscriptions of a destination.

    :ivar _lease: that new ones are under, where subscribers are connections.
    """

    _store: IManagementStore
    _records: Records
    _limits: Limits
    _now: Now
    _random_bits: RandomBits
    _audience: Audience
    _subscribers: Subscribers
    _lease: Lease | None = None

    async def create(
        self, destination: Destination, document: Any, token: str | None = None
    ) -> Subscription:
        """Subscribe; the destination is made when it is missing.

        An unconfirmed subscription of the same subscriber is given back unchanged, and
        the subscriber is asked once more.

        :param document: ``subscriber``, and maybe ``ttl`` and ``options``.
        :param token: of the user who asks, for what needs a user.
        :raise InvalidRequest: one of them is malformed.
        :raise NotAuthorized: the user may not give what the subscriber needs.
        :raise Conflict: the subscriber has a confirmed subscription there.
        """
        document = checks.mapping(document, "The body")
        if "subscriber" not in document:
            raise InvalidBody("Missing parameter 'subscriber' in the body.")
        now = self._now()
        values: dict[str, Any] = {
            "ttl": self._limits.default_subscription_ttl,
            "options": {},
            **self._values(document, now),
        }
        wanted = Subscription(
            id=format_id(first_position(now), self._random_bits(RANDOM_BITS)),
            destination=destination,
            created=now,
            lease=await self._lease.held() if self._lease else None,
            **values,
        )
        wanted = await self._accepted(wanted, token)
        await self._records.ensure(destination)
        # Also for those who hang up now: it is there.
        kept = await to_its_end(self._keep(wanted, now))
        if kept.confirmed and kept.id != wanted.id:
            raise Conflict(f"Subscription {kept.id} of this subscriber exists.")
        return kept

    async def _accepted(
        self, subscription: Subscription, token: str | None
    ) -> Subscription:
        """The subscription, if its subscriber can be told, with the right to that.

        :raise InvalidRequest: it never can, or is what it subscribes to.
        """
        destination, subscriber = subscription.destination, subscription.subscriber
        scheme, _, name = subscriber.partition(":")
        if (scheme.lower(), name) == (destination.kind.value, destination.name):
            raise InvalidRequest(
                f"A {destination.kind.value} cannot be its own 'subscriber'. Name "
                "another one."
            )
        await self._subscribers.check(subscriber, subscription.options)
        return await self._subscribers.entitle(subscription, token)

    async def _keep(self, wanted: Subscription, now: int) -> Subscription:
        kept = await self._store.subscribe(wanted, now)
        self._audience.forget(wanted.destination)
        if not kept.confirmed:
            await self._subscribers.invite(kept)
        return kept

    async def restore(self, subscription: Subscription) -> bool:
        """Keep one again that was given up with the lease it was under.

        :return: whether it is there: not when its subscriber has another one by now.
        """
        return await to_its_end(self._restore(subscription))

    async def _restore(self, wanted: Subscription) -> bool:
        kept = await self._store.subscribe(wanted, self._now())
        self._audience.forget(wanted.destination)
        return kept.id == wanted.id

    def _values(self, document: Mapping[str, Any], now: int) -> dict[str, Any]:
        """The checked members of a document that can be set."""
        values: dict[str, Any] = {}
        if "subscriber" in document:
            values["subscriber"] = self._subscriber(document["subscriber"])
        if "ttl" in document:
            values["ttl"] = _ttl(document["ttl"], now)
        if document.get("options") is not None:
            values["options"] = _options(document["options"])
        return values

    def _subscriber(self, value: Any) -> str:
        subscriber = checks.text(value, "subscriber")
        if len(subscriber) > _LONGEST_SUBSCRIBER:
            raise InvalidRequest(
                f"'subscriber' must not be longer than {_LONGEST_SUBSCRIBER} "
                "characters. Use a shorter URL."
            )
        match = _SCHEME.match(subscriber)
        if match is None or match[1].lower() not in self._limits.subscriber_types:
            raise InvalidRequest(
                "The scheme of 'subscriber' must be supported in the list "
                f"{', '.join(self._limits.subscriber_types)}."
            )
        return subscriber

    async def get(self, destination: Destination, subscription_id: str) -> Subscription:
        """One subscription.

        :raise SubscriptionDoesNotExist: it is unknown or expired.
        """
        return await self._store.subscription(destination, subscription_id, self._now())

    async def page(
        self, destination: Destination, limit: int | None, after: str
    ) -> list[Subscription]:
        """Subscriptions by id.

        :raise InvalidRequest: the limit is out of bounds.
        """
        size = checks.page_size(limit, self._limits.max_subscriptions_per_page)
        return await self._store.subscriptions(destination, size, after, self._now())

    async def update(
        self,
        destination: Destination,
        subscription_id: str,
        document: Any,
        token: str | None = None,
    ) -> None:
        """Change subscriber, ttl or options. A new subscriber is asked to confirm.

        :param document: at least one of them; a new ttl counts from now.
        :param token: of the user who asks, for what needs a user.
        :raise InvalidRequest: one is malformed, or none is given.
        :raise SubscriptionDoesNotExist: it is unknown or expired.
        :raise Conflict: another subscription there has the new subscriber.
        """
        values = self._changes(document)
        for _ in range(_CHANGE_ATTEMPTS):
            current = await self.get(destination, subscription_id)
            wanted = await self._accepted(changed(current, values), token)
            # To its end, also for those who hang up now.
            if await to_its_end(self._replace(wanted, current)):
                return
        raise Conflict(_TOO_BUSY)

    async def _replace(self, wanted: Subscription, current: Subscription) -> bool:
        """Change a subscription, unless others did; gives whether it is changed."""
        if not await self._store.update_subscription(wanted, self._now(), current):
            return False
        if wanted.subscriber != current.subscriber:
            self._audience.forget(wanted.destination)
            await self._subscribers.invite(wanted)
        return True

    def _changes(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, Mapping):
            raise InvalidBody("Subscriptions must be a dict.")
        for name in _FIXED:
            if name in document:
                raise UnusableSubscription("update", f"'{name}' cannot be changed.")
        given = {k: v for k, v in document.items() if v is not None}
        now = self._now()
        values = self._values(given, now)
        if "ttl" in values:
            values["created"] = now
        if not values:
            raise UnusableSubscription(
                "update", f"At least one of {', '.join(_CHANGEABLE)} is needed."
            )
        return values

    async def delete(self, destination: Destination, subscription_id: str) -> None:
        """Unsubscribe; an unknown one is no error."""
        step = self._store.unsubscribe(destination, subscription_id)
        await shielded(step.addCallback(lambda _: self._audience.forget(destination)))

    async def leave(self, subscription: Subscription) -> None:
        """Unsubscribe a subscriber that is gone, unless another one has its place."""
        destination, subscription_id = subscription.destination, subscription.id
        with suppress(SubscriptionDoesNotExist):
            current = await self.get(destination, subscription_id)
            if current.subscriber != subscription.subscriber:
                return
        await self.delete(destination, subscription_id)

    async def confirm(
        self, destination: Destination, subscription_id: str, document: Any
    ) -> None:
        """Set whether the subscriber agreed; one that leaves is told how to come back.

        :param document: ``{"confirmed": true}`` or ``false``.
        :raise UnusableSubscription: it says something else.
        :raise SubscriptionDoesNotExist: it is unknown or expired.
        """
        confirmed = document.get("confirmed") if isinstance(document, Mapping) else None
        if not isinstance(confirmed, bool):
            raise UnusableSubscription("confirm", "The 'confirmed' should be boolean.")
        for _ in range(_CHANGE_ATTEMPTS):
            current = await self.get(destination, subscription_id)
            wanted = changed(current, {"confirmed": confirmed})
            if await to_its_end(self._agree(wanted, current)):
                return
        raise Conflict(_TOO_BUSY)

    async def _agree(self, wanted: Subscription, current: Subscription) -> bool:
        """Write down an agreement or its end, unless others changed something."""
        if not await self._store.update_subscription(wanted, self._now(), current):
            return False
        if not wanted.confirmed:
            await self._subscribers.farewell(wanted)
        return True


def _ttl(value: Any, now: int) -> int:
    return checks.integer(value, "ttl", MIN_TTL, _END_OF_TIME - now // 1000 - 1)


def _options(value: Any) -> Mapping[str, Any]:
    options = checks.mapping(value, "'options'")
    retry_policy.check(options.get(retry_policy.KEY))
    return options
