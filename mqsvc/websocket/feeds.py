"""Followed destinations: each new message is read once and handed to all who follow.

A feed wakes up when the bus says that there may be something new, and reads on from
where it was; a signal that was lost costs time, never a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.bus import Bus, Unsubscribe
from mqsvc.clock import Now
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.messages import Messages
from mqsvc.messaging.model import Destination, Message, Subscription
from mqsvc.messaging.queues import Queues
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.websocket.notification import Notification
from mqsvc.websocket.push import Push
from mqsvc.websocket.reading import MOST_AT_A_TIME, Arrivals, Reader
from mqsvc.websocket.shapes import Ages
from mqsvc.websocket.terms import OLDEST

VERIFIED_EVERY = 1000
"""Milliseconds for which a subscription that others removed may still be pushed."""

UNSIGNALLED_EVERY = 10
"""Seconds after which feeds look though no other process said anything."""


class Feed:
    """One destination that somebody follows."""

    log = Logger()

    def __init__(self, destination: Destination, reader: Reader, feeds: Feeds) -> None:
        self.destination = destination
        self.pushes: dict[Push, None] = {}
        self.reader = reader
        self._feeds = feeds
        self._live: dict[Push, None] = {}
        self._place = ""
        self._arrivals = Arrivals()
        self._is_reading = False
        self._is_called = False
        self._has_failed = False
        self._verified = feeds.now()
        self._verified_under = feeds.lease.id

    def add(self, push: Push) -> None:
        """Let a push follow; it is live when it has joined."""
        self.pushes[push] = None

    def signal(self, posted: Sequence[Message] = ()) -> None:
        """There may be something new.

        :param posted: what is known of it, where whoever posted it is in this process.
        """
        if self._live:
            self._arrivals.add(posted)
        self._is_called = True
        if not self._is_reading:
            self._is_reading = True
            Deferred.fromCoroutine(self._read()).addErrback(self._stumble)

    def look_again(self) -> None:
        """What became due, or failed the last time, is to be handed over now."""
        has_other_lease = self._verified_under != self._feeds.lease.id
        is_overdue = self._has_failed or self.reader.has_delayed or has_other_lease
        if is_overdue or self._feeds.may_miss():
            self._has_failed = False
            self.signal()
        for push in list(self.pushes):
            push.go_on()

    async def _read(self) -> None:
        try:
            while self._is_called:
                self._is_called = False
                await self._verify()
                await self._hand_over_late()
                await self._hand_over_new()
        finally:
            self._is_reading = False

    async def _hand_over_new(self) -> None:
        is_last = False
        while self._live and not is_last:
            place = self._place
            page = await self.reader.read(place, MOST_AT_A_TIME)
            page = self._arrivals.merged(page, place)
            self._place, is_last = page.end, page.is_last
            for message in page.messages:
                notification = self._notification(message)
                for push in list(self._live):
                    push.take(notification)
            for push in self._live:
                # Also past what was left out, which comes when it is due.
                push.place = max(push.place, page.end)

    async def _hand_over_late(self) -> None:
        for message in await self.reader.due():
            notification = self._notification(message)
            for push in list(self.pushes):
                push.take_late(notification)

    def _stumble(self, failure: Failure) -> None:
        self._has_failed = True
        if failure.check(StoreUnavailable):
            self.log.warn("Pushes wait for the store: {reason}", reason=failure.value)
        else:
            self.log.failure("Reading for pushes failed; it is tried again", failure)

    def _notification(self, message: Message) -> Notification:
        return Notification(self.destination, message, self._feeds.ages.of(message))

    async def notifications(
        self, after: str, limit: int
    ) -> tuple[list[Notification], str, bool]:
        """See :class:`~mqsvc.websocket.push.Source`."""
        place = self._place
        page = await self.reader.read(after, limit)
        found = [self._notification(message) for message in page.messages]
        # What the feed had beyond it is not in the store any more.
        end = max(page.end, place) if page.is_last else page.end
        return found, end, page.is_last

    async def has_gap(self, after: str | None) -> bool:
        """Whether messages behind a place may be gone: the one of the place is."""
        if after is None or after == OLDEST:
            return False
        return not await self.reader.exists(after)

    def join(self, push: Push) -> bool:
        """See :class:`~mqsvc.websocket.push.Source`."""
        if push not in self.pushes:
            return False
        if not self._live:
            self._place = push.place
        if push.place < self._place:
            return False
        self._live[push] = None
        # Something may have come since it looked.
        self.signal()
        return True

    def leave(self, push: Push) -> None:
        """See :class:`~mqsvc.websocket.push.Source`."""
        self._live.pop(push, None)
        if push.is_over:
            self.pushes.pop(push, None)
            self._feeds.close_if_unused(self)

    async def _verify(self) -> None:
        """End the pushes whose subscriptions are over or were removed by others."""
        now, lease = self._feeds.now(), self._feeds.lease
        if now - self._verified < VERIFIED_EVERY:
            return
        self._verified, before = now, list(self.pushes)
        under, known = lease.id, await self._feeds.subscribed(self.destination)
        if not lease.was_held_since(now):
            # What is not known may only be hidden.
            return
        for push in before:
            await self._verify_one(push, known)
        self._verified_under = under

    async def _verify_one(self, push: Push, known: Mapping[str, Subscription]) -> None:
        found = known.get(push.subscription.id)
        if found is not None:
            self._take(push, found)
        elif push.subscription.lease in (None, self._feeds.lease.id):
            push.end(is_told=True)
        else:
            await self._feeds.restore(push)

    def _take(self, push: Push, found: Subscription) -> None:
        """Go on with what others made of it, if it is still of its client."""
        if found.subscriber == push.subscription.subscriber:
            push.subscription = found
        else:
            push.end(is_told=True)


class Feeds:
    """The feeds of a process, by destination."""

    def __init__(
        self,
        messages: Messages,
        queues: Queues,
        subscriptions: Subscriptions,
        bus: Bus,
        now: Now,
        largest_page: int,
        lease: Lease,
    ) -> None:
        self.now = now
        self.lease = lease
        self.ages = Ages(now)
        self._messages = messages
        self._queues = queues
        self._subscriptions = subscriptions
        self._bus = bus
        self._largest_page = largest_page
        self._feeds: dict[Destination, tuple[Feed, Unsubscribe]] = {}
        self._looks = 0

    def open(self, destination: Destination) -> Feed:
        """The feed of a destination."""
        if destination not in self._feeds:
            reader = Reader(self._messages, destination, self._largest_page)
            feed = Feed(destination, reader, self)
            unsubscribe = self._bus.subscribe(destination, feed.signal)
            self._feeds[destination] = (feed, unsubscribe)
        return self._feeds[destination][0]

    def close_if_unused(self, feed: Feed) -> None:
        """Forget a feed that nobody follows any more."""
        known, unsubscribe = self._feeds.get(feed.destination, (None, None))
        if known is feed and unsubscribe is not None and not feed.pushes:
            del self._feeds[feed.destination]
            unsubscribe()

    async def end_of(self, destination: Destination) -> str:
        """The place behind all messages that there are now."""
        newest = (await self._queues.stats(destination)).newest
        return "" if newest is None else newest.id

    async def subscribed(self, destination: Destination) -> dict[str, Subscription]:
        """All subscriptions of a destination, by their ids."""
        known: dict[str, Subscription] = {}
        after = ""
        while page := await self._subscriptions.page(destination, None, after):
            known.update((subscription.id, subscription) for subscription in page)
            after = page[-1].id
        return known

    async def restore(self, push: Push) -> None:
        """Keep a subscription again whose lease was given up while its client was here.

        One whose own time is over meanwhile is not.
        """
        wanted = evolve(push.subscription, lease=await self.lease.held())
        is_over = wanted.expires <= self.now()
        if is_over or not await self._subscriptions.restore(wanted):
            push.end(is_told=True)
            return
        push.subscription = wanted
        if push.is_over:
            # The client left just then.
            await self._subscriptions.leave(wanted)

    def end(self, destination: Destination, subscription_id: str) -> None:
        """A subscription was removed, or given to another subscriber."""
        for push in self._following(destination):
            if push.subscription.id == subscription_id:
                push.end(is_told=True)

    def end_all(self, destination: Destination) -> None:
        """Somebody removed all subscriptions of a destination."""
        for push in self._following(destination):
            push.end(is_told=True)

    def _following(self, destination: Destination) -> list[Push]:
        entry = self._feeds.get(destination)
        return [] if entry is None else list(entry[0].pushes)

    def may_miss(self) -> bool:
        """Whether to look without a signal, since one may not have come."""
        if not self._bus.is_whole:
            return True
        return self._bus.has_links and self._looks % UNSIGNALLED_EVERY == 0

    def look_again(self) -> None:
        """Once a second: for what is due by time alone."""
        self._looks += 1
        for feed, _ in list(self._feeds.values()):
            feed.look_again()
