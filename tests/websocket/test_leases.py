"""Subscriptions of connections, while their process is cut off from the store."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.task import deferLater

from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Subscription
from mqsvc.storage.interfaces import LEFT_ALONE
from tests.websocket.client import Client
from tests.websocket.server import STOP_STEP_SECONDS
from tests.websocket.test_push import NAMED, PushTestCase

LEASE_SECONDS = 40


class LeaseTests(PushTestCase):
    """A client that is there all the time, and others who look at its subscription."""

    lease_time = LEASE_SECONDS

    async def setUp(self) -> None:
        """Subscribe a client that asks for more than the plain protocol."""
        await super().setUp()
        self.management = self.stores[0]
        self.client = await self.connect()
        told = await self.subscribe(
            self.client, ttl=3600, options={"max_inflight": 100}
        )
        self.subscription_id: str = told["subscription_id"]
        self.renew = self.management.renew_lease

    async def shown(self) -> list[Any]:
        """The subscriptions as another client sees them."""
        reply = await self.client.call("subscription_list", NAMED)
        return self.expect(reply, 200)["subscriptions"]

    async def kept(self) -> list[Subscription]:
        """The subscriptions as the store gives them out."""
        now = milliseconds(self.clock)()
        return await self.management.subscriptions(self.queue("q"), 9, "", now)

    def cut_off(self) -> None:
        """Let no renewal through."""
        self.patch(
            *(self.management, "renew_lease"), lambda *_: fail(StoreUnavailable())
        )

    async def come_back(self) -> None:
        """Let renewals through, and wait for one."""
        self.patch(self.management, "renew_lease", self.renew)
        self.clock.advance(LEASE_SECONDS / 4)
        while not self.lease.was_held_since(milliseconds(self.clock)()):
            await deferLater(reactor, STOP_STEP_SECONDS)

    async def lose(self) -> None:
        """Stay away until somebody else gives the lease up."""
        self.cut_off()
        self.clock.advance(LEASE_SECONDS + LEFT_ALONE / 1000)
        now = milliseconds(self.clock)()
        while await self.management.sweep(now):
            pass

    async def until_kept(self) -> None:
        """Look once a second until it is kept again."""
        while not await self.kept():
            self.clock.advance(1)
            await deferLater(reactor, STOP_STEP_SECONDS)

    async def test_shown(self) -> None:
        """A client sees the subscription, and nothing of a lease."""
        (shown,) = await self.shown()
        keys = {"id", "source", "subscriber", "ttl", "age", "options", "confirmed"}
        self.assertEqual(keys, set(shown))
        self.assertEqual((3600, 0), (shown["ttl"], shown["age"]))
        self.assertEqual({"max_inflight": 100}, shown["options"])
        (kept,) = await self.kept()
        self.assertEqual(self.lease.id, kept.lease)
        self.assertNotIn(self.lease.id, str(shown))

    async def test_others_need_none(self) -> None:
        """A subscription of anybody else is under no lease."""
        body = {"queue_name": "other", "subscriber": "http://example.org/"}
        self.expect(await self.client.call("subscription_create", body), 201)
        now = milliseconds(self.clock)()
        page = await self.management.subscriptions(self.queue("other"), 9, "", now)
        self.assertEqual([None], [each.lease for each in page])

    async def test_cut_off(self) -> None:
        """Hidden from others it goes on, and when the lease is renewed it is shown."""
        self.cut_off()
        self.clock.advance(LEASE_SECONDS)
        self.assertEqual([], await self.shown())
        await self.post("q", 1)
        self.assertEqual([1], await self.pushed(self.client, 1))
        await self.come_back()
        (shown,) = await self.shown()
        self.assertEqual((self.subscription_id, 3600), (shown["id"], shown["ttl"]))
        self.assertEqual(LEASE_SECONDS * 5 / 4, shown["age"])
        await self.post("q", 2)
        self.assertEqual([2], await self.pushed(self.client, 1))

    async def test_lost(self) -> None:
        """Given up by others, it is made again as it was, and goes on all the time."""
        renewed = {
            "queue_name": "q",
            "subscription_id": self.subscription_id,
            "ttl": 7200,
        }
        self.clock.advance(2)
        self.expect(await self.client.call("subscription_update", renewed), 204)
        (push,) = self.factory.feeds._following(self.queue("q"))
        while push.subscription.ttl != 7200:
            self.clock.advance(1)
            await self.post("q", 1)
            self.assertEqual([1], await self.pushed(self.client, 1))
        (before,) = await self.kept()
        await self.lose()
        await self.come_back()
        self.assertEqual([], await self.kept())
        await self.until_kept()
        (after,) = await self.kept()
        self.assertNotEqual(before.lease, after.lease)
        self.assertEqual(self.lease.id, after.lease)
        self.assertEqual(
            (before.id, before.subscriber, 7200, before.created, True),
            (after.id, after.subscriber, after.ttl, after.created, after.confirmed),
        )
        await self.post("q", 2)
        self.assertEqual([2], await self.pushed(self.client, 1))

    async def test_over_meanwhile(self) -> None:
        """One whose own time ended meanwhile is not made again; its client is told."""
        short = await self.connect()
        told = await self.subscribe(short, ttl=60, options={"max_inflight": 1})
        await self.lose()
        await self.come_back()
        await self.until_kept()
        ended = await short.received()
        self.assertEqual("SubscriptionEnded", ended["Message_Type"])
        self.assertEqual(told["subscription_id"], ended["subscription_id"])
        self.assertEqual(
            [self.subscription_id], [each.id for each in await self.kept()]
        )

    async def test_client_leaves_meanwhile(self) -> None:
        """One whose client leaves just when it is made again is removed after that."""
        await self.lose()
        subscribe, made = self.management.subscribe, []

        async def leave_first(wanted: Subscription, now: int) -> Subscription:
            self.patch(self.management, "subscribe", subscribe)
            self.client.hang_up()
            while self.factory.connections:
                await deferLater(reactor, STOP_STEP_SECONDS)
            kept = await subscribe(wanted, now)
            made.append(kept)
            return kept

        self.patch(self.management, "subscribe", leave_first)
        await self.come_back()
        while not made:
            # Nothing looks any more once it is under way.
            self.clock.advance(int(self.management.subscribe is leave_first))
            await deferLater(reactor, STOP_STEP_SECONDS)
        # What is made for nobody is removed: else this never ends.
        while await self.kept():
            await deferLater(reactor, STOP_STEP_SECONDS)
        await self.client.gone

    async def test_removed(self) -> None:
        """One that is removed under a lease that is held ends, as ever."""
        other: Client = await self.connect()
        body = {"queue_name": "q", "subscription_id": self.subscription_id}
        self.expect(await other.call("subscription_delete", body), 204)
        ended = await self.client.received()
        self.assertEqual("SubscriptionEnded", ended["Message_Type"])

    async def test_another_subscriber(self) -> None:
        """One that gets another subscriber is no connection, and needs no lease."""
        changed = {"subscriber": "http://example.org/"}
        body = {"queue_name": "q", "subscription_id": self.subscription_id, **changed}
        other = await self.connect()
        self.expect(await other.call("subscription_update", body), 204)
        (kept,) = await self.kept()
        self.assertEqual((changed["subscriber"], None), (kept.subscriber, kept.lease))
        await self.lease.stopService()
        self.assertEqual([kept], await self.kept())

    async def test_stop(self) -> None:
        """When the service stops nothing is left."""
        await self.lease.stopService()
        self.assertEqual([], await self.kept())
