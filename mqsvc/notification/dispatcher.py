"""Takes entries and deliveries from the internal queues, and sees to them.

They are claimed like messages: those of a process that dies are free again when the
claim ends, and are then seen to once more, with the same ids of deliveries. So each
delivery is made at least once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from attrs import define
from msgspec import structs
from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.clock import milliseconds
from mqsvc.messaging.audience import CONNECTION
from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessagingError,
    SubscriptionDoesNotExist,
)
from mqsvc.messaging.model import (
    Destination,
    Kind,
    Message,
    NewMessage,
    Subscription,
)
from mqsvc.messaging.shield import finished
from mqsvc.notification.deliverer import Deliverer
from mqsvc.notification.entries import CLIENT, Delivery, Entry, due, outbox
from mqsvc.notification.filters import compile_filter
from mqsvc.notification.forwarding import ends, share
from mqsvc.notification.history import History
from mqsvc.notification.questions import can_answer
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

Pools = Callable[[], Awaitable[Sequence[str | None]]]
"""The names of all pools; none is the default one."""

INTERVAL = 1.0
"""Seconds between two looks when nothing is heard of new entries."""

MOST_YOUNG = 200
"""Entries, and as many due deliveries, that one process has just taken."""

YOUNG_SECONDS = 1.0
"""After which others are taken beside those that are still under way: they may wait
for somebody who is dead, and must not hold up the rest."""

MOST_UNDER_WAY = 500
"""Entries and due deliveries that one process sees to at a time."""

PER_CLAIM = 20

LEASE_SECONDS = 30
"""After the death of a process, until others see to what it had taken."""

RENEW_SECONDS = 10.0
"""How long after its last renewal a lease is renewed."""

PER_PAGE = 100


@define(eq=False)
class _Lease:
    """A claim on entries or deliveries.

    :ivar left: of its messages that are not yet seen to.
    :ivar taken: seconds of the clock at which it began.
    :ivar renewed: seconds of the clock.
    """

    queue: Destination
    claim_id: str
    left: int
    taken: float
    renewed: float


_SeeTo = Callable[[str | None, Message, str], Coroutine[Any, Any, None]]


class Dispatcher(Service):
    """Delivers what is in the outboxes.

    :param store: below all message filters.
    :param require_confirmation: whether only confirmed subscriptions are told.
    :param close: called when nothing is under way any more.
    """

    log = Logger()

    def __init__(
        self,
        management: IManagementStore,
        store: IMessageStore,
        deliverer: Deliverer,
        history: History,
        pools: Pools,
        clock: IReactorTime,
        require_confirmation: bool,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._management = management
        self._store = store
        self._deliverer = deliverer
        self._history = history
        self._pools = pools
        self._clock = clock
        self._now = milliseconds(clock)
        self._require_confirmation = require_confirmation
        self._close = close
        self._under_way: set[Deferred[None]] = set()
        self._leases: set[_Lease] = set()
        self._young: dict[Kind, deque[_Lease]] = {
            kind: deque() for kind in (Kind.OUTBOX, Kind.DELIVERY)
        }
        self._is_full = False
        self._looking: Deferred[None] | None = None
        self._is_news = False
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        """Look for what is there."""
        super().startService()
        self.wake()

    def stopService(self) -> Deferred[None]:
        """Take nothing more; what is under way is left to others."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._looking is not None:
            await self._looking
        leaving = list(self._under_way)
        for one in leaving:
            one.cancel()
        await DeferredList(leaving)
        for lease in list(self._leases):
            await self._store.release(
                lease.queue, lease.claim_id, self._now(), undelivered=True
            )
        await self._history.write(is_last=True)
        await self._close()

    def wake(self) -> None:
        """There may be something new."""
        self._is_news = True
        if self._looking is None and self.running:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._looking = Deferred.fromCoroutine(self._look())
            if self._looking.called:
                self._looking = None

    async def _look(self) -> None:
        try:
            while self._is_news and self.running:
                self._is_news = False
                await self._take_all()
                await self._look_after_what_was_taken()
        except MessagingError as error:
            self.log.warn("Notifications wait: {error}", error=error)
        except Exception:  # noqa: BLE001 - there is a next time
            self.log.failure("Notifications could not be looked for")
        self._looking = None
        if self.running:
            self._timer = self._clock.callLater(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.wake()

    async def _look_after_what_was_taken(self) -> None:
        await self._renew()
        await self._history.write()

    async def _take_all(self) -> None:
        for pool in await self._pools():
            await self._take(pool)

    async def _take(self, pool: str | None) -> None:
        for queue, see_to in (
            (outbox(pool), self._see_to_entry),
            (due(pool), self._see_to_delivery),
        ):
            is_more = True
            while self.running and is_more and (free := self._free(queue.kind)) > 0:
                is_more = await self._take_some(pool, queue, see_to, free)
                # Where there is always more, this is the only time for it.
                await self._look_after_what_was_taken()
            self._is_full |= is_more

    async def _take_some(
        self, pool: str | None, queue: Destination, see_to: _SeeTo, free: int
    ) -> bool:
        """Begin with what is claimed; gives whether there was something."""
        claimed = await self._store.claim(
            *(queue, LEASE_SECONDS, LEASE_SECONDS),
            *(min(PER_CLAIM, free), self._now()),
        )
        claim = claimed.claim
        if claim is None:
            return False
        now = self._clock.seconds()
        lease = _Lease(queue, claim.id, len(claim.messages), now, now)
        self._leases.add(lease)
        self._young[queue.kind].append(lease)
        for message in claim.messages:
            self._begin(lease, see_to(pool, message, claim.id))
        return True

    def _free(self, kind: Kind) -> int:
        """How many entries or deliveries there is room for."""
        young = self._young[kind]
        recently = self._clock.seconds() - YOUNG_SECONDS
        while young and (young[0].taken <= recently or not young[0].left):
            young.popleft()
        taken = sum(lease.left for lease in young)
        return min(MOST_YOUNG - taken, MOST_UNDER_WAY - len(self._under_way))

    async def _renew(self) -> None:
        """Keep what is under way from others."""
        now = self._clock.seconds()
        for lease in list(self._leases):
            if now - lease.renewed < RENEW_SECONDS:
                continue
            lease.renewed = now
            with suppress(ClaimDoesNotExist):
                await self._store.renew(
                    *(lease.queue, lease.claim_id, LEASE_SECONDS, LEASE_SECONDS),
                    self._now(),
                )

    def _begin(self, lease: _Lease, work: Coroutine[Any, Any, None]) -> None:
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._under_way.add(running)
        running.addErrback(self._failed)
        running.addBoth(self._finish, lease, running)

    def _failed(self, failure: Failure) -> None:
        # It is seen to again when its lease ends.
        if failure.check(MessagingError):
            self.log.warn("A notification waits: {error}", error=failure.value)
        elif not failure.check(CancelledError):
            self.log.failure("A notification failed", failure)

    def _finish(self, _: object, lease: _Lease, running: Deferred[None]) -> None:
        self._under_way.discard(running)
        # What was cancelled is left to be released.
        lease.left -= self.running
        if not lease.left:
            self._leases.discard(lease)
        if self._is_full and self._free(lease.queue.kind) >= PER_CLAIM:
            self._is_full = False
            self.wake()

    async def _see_to_entry(
        self, pool: str | None, message: Message, claim_id: str
    ) -> None:
        entry = msgspec.json.decode(message.body, type=Entry)
        subscriptions, via = share(entry.via, await self._subscriptions(entry))
        entry = structs.replace(entry, via=via)
        attempts = [
            Deferred.fromCoroutine(self._deliverer.make(pool, *one))
            for one in _deliveries(message, entry, subscriptions)
        ]
        await self._keep(pool, await _all_of(attempts))
        await self._done(outbox(pool), message, claim_id)

    async def _see_to_delivery(
        self, pool: str | None, message: Message, claim_id: str
    ) -> None:
        delivery = msgspec.json.decode(message.body, type=Delivery)
        try:
            subscription = await self._management.subscription(
                delivery.destination, delivery.subscription, self._now()
            )
            following = None
            if self._is_due(delivery, subscription):
                following = await self._deliverer.make(pool, delivery, subscription)
        except SubscriptionDoesNotExist:
            following = None
        await self._keep(pool, [following])
        await self._done(due(pool), message, claim_id)

    async def _done(self, queue: Destination, message: Message, claim_id: str) -> None:
        """Drop what was seen to."""
        step = self._store.delete(queue, [message.id], self._now(), [claim_id])
        await finished(step)

    async def _keep(
        self, pool: str | None, following: Sequence[NewMessage | None]
    ) -> None:
        """Write down what is to be delivered later."""
        records = [each for each in following if each is not None]
        if records:
            step = self._store.post(due(pool), records, CLIENT, self._now())
            await finished(step)

    async def _subscriptions(self, entry: Entry) -> list[Subscription]:
        """Who is to be told."""
        found: list[Subscription] = []
        after = ""
        while True:
            page = await self._management.subscriptions(
                entry.destination, PER_PAGE, after, self._now()
            )
            found += page
            if len(page) < PER_PAGE:
                break
            after = page[-1].id
        return [each for each in found if self._is_told(each, entry.via)]

    def _is_due(self, delivery: Delivery, subscription: Subscription) -> bool:
        """Whether it is still wanted: the subscriber may have answered or changed."""
        if delivery.is_question:
            return can_answer(subscription) and not subscription.confirmed
        return self._is_told(subscription, delivery.via)

    def _is_told(self, subscription: Subscription, via: str) -> bool:
        """Whether there is a delivery: connections follow their queues themselves."""
        source, subscriber = subscription.destination, subscription.subscriber
        if subscriber.startswith(CONNECTION) or ends(via, source, subscriber):
            return False
        is_asked = self._require_confirmation and can_answer(subscription)
        return subscription.confirmed or not is_asked


async def _all_of(
    attempts: Sequence[Deferred[NewMessage | None]],
) -> list[NewMessage | None]:
    """What all of them give, when the last one is over; or why one of them failed."""
    outcomes: list[tuple[bool, Any]] = await DeferredList(attempts, consumeErrors=True)
    for has_succeeded, failure in outcomes:
        if not has_succeeded:
            failure.raiseException()
    return [following for _, following in outcomes]


def _deliveries(
    record: Message, entry: Entry, subscriptions: Sequence[Subscription]
) -> Iterator[tuple[Delivery, Subscription]]:
    """One for each message and subscription whose filter lets it pass.

    :param record: the entry as it is stored.
    """
    filters = [compile_filter(each.options) for each in subscriptions]
    for number, content in enumerate(entry.contents):
        body = msgspec.json.decode(content)["body"]
        for subscription, wanted in zip(subscriptions, filters, strict=True):
            if wanted.matches(body):
                delivery = Delivery(
                    id=f"{record.id}-{number}-{subscription.id}",
                    project=entry.project,
                    kind=entry.kind,
                    name=entry.name,
                    subscription=subscription.id,
                    content=content,
                    posted=record.created,
                    via=entry.via,
                )
                yield delivery, subscription
