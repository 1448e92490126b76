"""One attempt at a delivery, and what follows from it (semantics.md 7.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import field, frozen
from msgspec import structs
from twisted.internet.defer import CancelledError

from mqsvc.clock import Now
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import NewMessage, Subscription
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import shielded
from mqsvc.notification.breaker import Breaker
from mqsvc.notification.channel import (
    Channel,
    Notice,
    Outcome,
    Verdict,
    refused,
    scheme_of,
)
from mqsvc.notification.entries import (
    CLIENT,
    KEPT_SECONDS,
    Attempt,
    Delivery,
    given_up,
    stored,
)
from mqsvc.notification.forwarding import target_of
from mqsvc.notification.history import History
from mqsvc.notification.lanes import Lanes
from mqsvc.notification.places import Places, most_places
from mqsvc.notification.retry import next_delay, policy_in_force
from mqsvc.notification.target import parse_target
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

EXHAUSTED = "exhausted"
"""The outcome of the last attempt that a policy allows."""


@frozen
class Deliverer:
    """Makes attempts.

    :ivar _channels: by the scheme of subscribers.
    """

    _management: IManagementStore
    _store: IMessageStore
    _records: Records
    _channels: Mapping[str, Channel]
    _breaker: Breaker
    _lanes: Lanes
    _history: History
    _audience: Audience
    _now: Now
    _places: Places = field(factory=lambda: Places(most_places()))

    async def make(
        self, pool: str | None, delivery: Delivery, subscription: Subscription
    ) -> NewMessage | None:
        """Make an attempt, when the subscription has its turn.

        :param pool: where it is written down what was given up.
        :return: the delivery that is to be made later, if it is not over.
        """
        rest = self._lanes.rest(subscription.id)
        if rest:
            return await self._later(delivery, rest)
        try:
            async with (
                self._lanes.turn(subscription.id),
                self._places.place(subscription.destination),
            ):
                outcome = await self._attempt_unless_resting(delivery, subscription)
            if not isinstance(outcome, Outcome):
                return await self._later(delivery, math.ceil(outcome))
            return await self._settle(pool, delivery, subscription, outcome)
        except CancelledError:
            # Others of the same entry may be over, and must not be made again.
            return await self._later(delivery, self._lanes.rest(subscription.id))

    async def _attempt_unless_resting(
        self, delivery: Delivery, subscription: Subscription
    ) -> Outcome | float:
        """What came of an attempt, or the seconds that its host still rests."""
        host = _host(subscription)
        if not host:
            return await self._attempt(delivery, subscription)
        # What one project is told by a host, by one path there, is not for others.
        own = f"{subscription.destination.project} {host}"
        rest = self._breaker.wait(host, own)
        if rest:
            return rest
        with self._breaker.trying(host, own):
            outcome = await self._attempt(delivery, subscription)
        if outcome.verdict is not Verdict.RETRY:
            self._breaker.succeeded(host)
            self._breaker.succeeded(own)
        elif outcome.status is None:
            self._breaker.failed(host)
        else:
            self._breaker.succeeded(host)
            self._breaker.failed(own)
        return outcome

    async def _attempt(self, delivery: Delivery, subscription: Subscription) -> Outcome:
        scheme = scheme_of(subscription.subscriber)
        channel = self._channels.get(scheme)
        if channel is None:
            return refused(f"this server does not deliver to {scheme}")
        notice = Notice(
            subscription,
            delivery.id,
            delivery.attempt,
            bytes(delivery.content),
            posted=delivery.posted,
            via=delivery.via,
            letter=delivery.letter,
        )
        return await channel.deliver(notice)

    async def _settle(
        self,
        pool: str | None,
        delivery: Delivery,
        subscription: Subscription,
        outcome: Outcome,
    ) -> NewMessage | None:
        delay = None
        if outcome.verdict is Verdict.RETRY:
            delay = await self._delay(delivery, subscription, outcome)
        self._history.add(
            pool, subscription.id, self._described(delivery, outcome, delay)
        )
        if delay is not None:
            following = structs.replace(delivery, attempt=delivery.attempt + 1)
            return await self._later(following, delay)
        if outcome.verdict is Verdict.GONE:
            await self._unsubscribe(subscription)
        elif outcome.verdict is not Verdict.DELIVERED:
            record = await self._later(delivery, 0)
            where = given_up(pool, subscription.id)
            await self._store.post(where, [record], CLIENT, self._now())
        return None

    async def _unsubscribe(self, subscription: Subscription) -> None:
        destination = subscription.destination
        step = self._management.unsubscribe(destination, subscription.id)
        await shielded(step.addCallback(lambda _: self._audience.forget(destination)))

    async def _delay(
        self, delivery: Delivery, subscription: Subscription, outcome: Outcome
    ) -> int | None:
        """Seconds until the next attempt; none when that was the last one."""
        record = await self._management.get(delivery.destination)
        metadata = {} if record is None else record.metadata
        policy = policy_in_force(metadata, subscription.options)
        return next_delay(policy, delivery.attempt, outcome.retry_after)

    def _described(
        self, delivery: Delivery, outcome: Outcome, delay: int | None
    ) -> Attempt:
        now, verdict = self._now(), outcome.verdict
        is_last = verdict is Verdict.RETRY and delay is None
        return Attempt(
            delivery=delivery.id,
            attempt=delivery.attempt,
            time=now,
            outcome=EXHAUSTED if is_last else verdict.value,
            status=outcome.status,
            duration=round(outcome.duration, 3),
            error=outcome.error,
            next_try=None if delay is None else now + delay * 1000,
        )

    async def _later(self, delivery: Delivery, delay: int) -> NewMessage:
        encrypt = (await self._records.know(delivery.destination)).rules.encrypt
        return stored(delivery, KEPT_SECONDS, delay, encrypt)


def _host(subscription: Subscription) -> str:
    """What fails together: a web server, or else one subscriber.

    It is empty for a queue or topic, which need no rest.
    """
    subscriber = subscription.subscriber
    if target_of(subscription.destination, subscriber) is not None:
        return ""
    try:
        return parse_target(subscriber.removeprefix("trust+")).origin
    except InvalidRequest:
        return subscriber
