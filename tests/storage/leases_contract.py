"""What every management store does with the subscriptions of connections.

They name the lease of the process that has the connection, and are there while it is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults

from mqsvc.messaging.errors import Conflict, SubscriptionDoesNotExist
from mqsvc.messaging.model import Subscription
from mqsvc.storage.interfaces import LEFT_ALONE, IManagementStore
from mqsvc.storage.management import sweeping
from tests.storage.management_case import (
    NOW,
    ConcurrentTestCase,
    ManagementTestCase,
    queue,
    subscription,
    topic,
)

END = NOW + 30_000
"""When the leases of the tests end, long before the subscriptions do."""

REMOVED = END + LEFT_ALONE
"""From when on they are swept."""


def leased(number: int, lease: str = "lease", **changes: Any) -> Subscription:
    """A subscription of a connection."""
    values = {"subscriber": f"websocket:{number}", "ttl": 3600, "lease": lease}
    return subscription(number, **(values | changes))


class LeaseTests(ManagementTestCase):
    """One lease, and what names it."""

    async def setUp(self) -> None:
        """Begin a lease."""
        super().setUp()
        await self.store.begin_lease("lease", END)

    async def listed(self, now: int) -> list[Subscription]:
        """The subscriptions of queue ``q`` at some moment."""
        return await self.store.subscriptions(queue("q"), 2000, "", now)

    async def test_held(self) -> None:
        """Until just before the end of its lease a subscription is as any other."""
        kept = leased(1, options={"a": 1})
        self.assertEqual(await self.store.subscribe(kept, NOW), kept)
        last = END - 1
        self.assertEqual(await self.listed(last), [kept])
        self.assertEqual(await self.store.subscription(queue("q"), kept.id, last), kept)
        confirmed = leased(1, options={"a": 1}, confirmed=True)
        self.assertTrue(await self.store.update_subscription(confirmed, last, kept))
        self.assertEqual(await self.listed(last), [confirmed])
        again = leased(2, subscriber=kept.subscriber)
        self.assertEqual(await self.store.subscribe(again, last), confirmed)

    async def test_own_end(self) -> None:
        """A lease makes nothing live longer."""
        await self.store.subscribe(leased(1, ttl=10), NOW)
        self.assertEqual(await self.listed(NOW + 10_000), [])

    async def test_over(self) -> None:
        """When its lease ends a subscription is gone from every view."""
        await self.subscribe_all(leased(1), subscription(2))
        self.assertEqual(await self.listed(END), [subscription(2)])
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.subscription(queue("q"), leased(1).id, END)
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.update_subscription(leased(1), END)

    async def test_unknown_lease(self) -> None:
        """What names a lease that does not exist is not there."""
        await self.store.subscribe(leased(1, lease="Lease"), NOW)
        self.assertEqual(await self.listed(NOW), [])

    async def test_others_are_apart(self) -> None:
        """The end of one lease says nothing of what is under another one."""
        await self.store.begin_lease("other", END + 1)
        other = leased(2, lease="other")
        await self.subscribe_all(leased(1), other)
        self.assertEqual(await self.listed(END), [other])

    async def test_renew(self) -> None:
        """A lease that is renewed ends later."""
        await self.store.subscribe(leased(1), NOW)
        self.assertIs(await self.store.renew_lease("lease", END + 5), True)
        self.assertEqual(await self.listed(END + 4), [leased(1)])
        self.assertEqual(await self.listed(END + 5), [])

    async def test_renew_unknown(self) -> None:
        """A lease that does not exist cannot be renewed, and is not made by that."""
        await self.store.subscribe(leased(1, lease="other"), NOW)
        self.assertIs(await self.store.renew_lease("other", END), False)
        self.assertEqual(await self.listed(NOW), [])

    async def test_renew_late(self) -> None:
        """What was under a lease that ended is there again when it is renewed."""
        await self.store.subscribe(leased(1), NOW)
        await self.store.sweep(REMOVED - 1)
        self.assertIs(await self.store.renew_lease("lease", REMOVED + 9), True)
        self.assertEqual(await self.listed(REMOVED), [leased(1)])

    async def test_end(self) -> None:
        """A lease that is given up is over at once, and for good."""
        await self.store.subscribe(leased(1), NOW)
        await self.store.end_lease("lease")
        self.assertEqual(await self.listed(NOW), [])
        self.assertIs(await self.store.renew_lease("lease", END), False)
        self.assertEqual(await self.listed(NOW), [])

    async def test_end_unknown(self) -> None:
        """Giving up a lease that does not exist is no error, and makes none."""
        await self.store.end_lease("other")
        self.assertIs(await self.store.renew_lease("other", END), False)

    async def test_no_room_on_a_page(self) -> None:
        """A page is filled with live ones, however many are over before them."""
        await self.subscribe_all(*map(leased, range(5)))
        live = [subscription(number) for number in (5, 6)]
        await self.subscribe_all(*live)
        page = await self.store.subscriptions(queue("q"), 2, "", END)
        self.assertEqual(page, live)

    async def test_subscriber_is_free(self) -> None:
        """A subscriber whose lease is over can be subscribed by another process."""
        await self.store.begin_lease("other", END + 9)
        await self.store.subscribe(leased(1), NOW)
        new = leased(2, lease="other", subscriber=leased(1).subscriber)
        self.assertEqual(await self.store.subscribe(new, END), new)
        self.assertEqual(await self.listed(END), [new])

    async def test_id_is_free(self) -> None:
        """The id of a subscription whose lease is over can be used again."""
        await self.store.subscribe(leased(1), NOW)
        again = subscription(1)
        self.assertEqual(await self.store.subscribe(again, END), again)
        self.assertEqual(await self.listed(END), [again])

    async def test_no_conflict(self) -> None:
        """A subscriber whose lease is over can be taken over by an update."""
        await self.subscribe_all(leased(1), subscription(2))
        moved = subscription(2, subscriber=leased(1).subscriber)
        with self.assertRaises(Conflict):
            await self.store.update_subscription(moved, NOW)
        await self.store.update_subscription(moved, END)
        self.assertEqual(await self.listed(END), [moved])

    async def test_lease_is_dropped(self) -> None:
        """An update can free a subscription of its lease."""
        await self.store.subscribe(leased(1), NOW)
        free = subscription(1, ttl=3600)
        await self.store.update_subscription(free, NOW)
        await self.sweep_all(REMOVED)
        self.assertEqual(await self.listed(END), [free])

    async def test_sweep(self) -> None:
        """A sweep removes what an ended lease has left anywhere, and nothing else."""
        await self.store.begin_lease("other", REMOVED + 1)
        live = [
            leased(1, lease="other"),
            subscription(2, ttl=3600),
        ]
        dead = [leased(number) for number in range(3, 9)]
        elsewhere = leased(9, destination=topic("t"))
        await self.subscribe_all(*live, *dead, elsewhere)
        await self.sweep_all(REMOVED)
        self.assertIs(await self.store.renew_lease("lease", REMOVED + 1), False)
        # Were one of them only hidden, it would be seen again.
        await self.store.begin_lease("lease", REMOVED + 1)
        self.assertEqual(await self.listed(REMOVED), live)
        self.assertEqual(await self.store.subscriptions(topic("t"), 9, "", REMOVED), [])

    async def test_sweep_many(self) -> None:
        """What does not fit in one sweep is removed by those that follow."""
        dead = [leased(number, subscriber=f"websocket:{number}") for number in range(9)]
        await self.subscribe_all(*dead)
        self.patch(sweeping, "MAX_SWEPT", 4)
        self.assertIs(await self.store.sweep(REMOVED), True)
        # It is over from the first one on.
        self.assertIs(await self.store.renew_lease("lease", REMOVED + 1), False)
        await self.sweep_all(REMOVED)
        await self.store.begin_lease("lease", REMOVED + 1)
        self.assertEqual(await self.listed(REMOVED), [])

    async def test_sweep_given_up(self) -> None:
        """What was given up is swept at once."""
        await self.store.subscribe(leased(1), NOW)
        await self.store.end_lease("lease")
        await self.sweep_all(NOW)
        await self.store.begin_lease("lease", END)
        self.assertEqual(await self.listed(NOW), [])

    async def sweep_all(self, now: int) -> None:
        """Sweep until nothing is left."""
        while await self.store.sweep(now):
            pass


class LeaseConcurrencyTests(ConcurrentTestCase):
    """Processes that renew and sweep at the same time."""

    async def test_renew_or_sweep(self) -> None:
        """A lease is renewed with all that is under it, or gone with all of it."""
        many = {number: leased(number, lease=f"{number}") for number in self.CALLERS}
        begun = [self.store.begin_lease(f"{number}", END) for number in many]
        await gatherResults(begun)
        await self.subscribe_all(*many.values())

        def call(store: IManagementStore, number: int) -> Any:
            if number % 4:
                return store.renew_lease(f"{number}", REMOVED + 9)
            return store.sweep(REMOVED)

        renewed = await self.at_once(call)
        while await self.store.sweep(REMOVED):
            pass
        left = await self.store.subscriptions(queue("q"), 99, "", REMOVED)
        kept = [one for number, one in many.items() if number % 4 and renewed[number]]
        self.assertEqual(left, kept)
        # A sweep removes one lease, and there are more that renew than sweep.
        self.assertTrue(kept)
        self.assertLessEqual(set(renewed), {True, False}, "somebody failed")


SUITES = (LeaseTests, LeaseConcurrencyTests)
