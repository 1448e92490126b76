"""What time does in every message store: expiry, delays, and what is swept."""

from __future__ import annotations

from typing import Any

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import Claim, Claimed, Message, Stats
from tests.storage.store_case import ORDERS, RETURNS, START, StoreTests, ids_of


class ExpiryTests(StoreTests):
    """The end of messages."""

    async def test_boundary(self) -> None:
        """A message is there until its ttl has passed, and gone at that moment."""
        (posted,) = await self.post("1", ttl=60)
        self.now += 59_999
        self.assertEqual(await self.listed(), [posted])
        self.assertEqual((await self.message(posted)).id, posted)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)
        self.now += 1
        self.assertEqual(await self.store.get(ORDERS, [posted], self.now), [])
        await self.assert_nothing_shown()

    async def test_claimable_to_the_last(self) -> None:
        """A message can be claimed in the last moment of its life."""
        ids = await self.post("1", ttl=60)
        self.now += 59_999
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_expired_before_live_ones(self) -> None:
        """Expired messages do not stand in the way of later ones."""
        await self.post(*["old"] * 30, ttl=60)
        ids = await self.post("1", "2", "3", ttl=61)
        self.wait(60)
        self.assertEqual(await self.listed(limit=1), ids[:1])
        self.assertEqual(ids_of((await self.claim(limit=1)).messages), ids[:1])
        self.assertEqual(ids_of(await self.store.pop(ORDERS, 1, self.now)), ids[1:2])
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (1, 1))
        self.assertEqual((stats.oldest, stats.newest), tuple(await self.existing()))

    async def test_with_the_claim(self) -> None:
        """A message that expires when its claim ends is never free again."""
        await self.post("1", ttl=60)
        claim = await self.claim(ttl=60)
        self.now += 59_999
        held = await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(len(held.messages), 1)
        self.now += 1
        await self.assert_nothing_shown()

    async def test_after_everything_expired(self) -> None:
        """A destination whose messages all expired goes on behind them."""
        old = await self.post(*["old"] * 5, ttl=60)
        self.wait(60)
        await self.sweep_all()
        self.now = START
        new = await self.post("new")
        self.assertEqual(await self.listed(after=old[-1]), new)


class DelayTests(StoreTests):
    """Messages that may be claimed later."""

    async def test_boundary(self) -> None:
        """A delayed message is free when its delay has passed, not before."""
        (posted,) = await self.post("1", delay=10)
        self.now += 9_999
        self.assertEqual(await self.listed(), [])
        self.assertEqual(await self.attempt(), Claimed(None, 0))
        self.assertEqual(await self.store.pop(ORDERS, 1, self.now), [])
        self.now += 1
        self.assertEqual(await self.listed(), [posted])
        self.assertEqual(ids_of((await self.claim()).messages), [posted])

    async def test_pop_at_the_boundary(self) -> None:
        """A delayed message can be popped when its delay has passed."""
        ids = await self.post("1", delay=10)
        self.wait(10)
        self.assertEqual(ids_of(await self.store.pop(ORDERS, 1, self.now)), ids)
        await self.assert_nothing_shown()

    async def test_no_delay(self) -> None:
        """Without a delay a message is free at once."""
        ids = await self.post("1", delay=0)
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_place(self) -> None:
        """A message whose delay is over comes before newer ones."""
        first = await self.post("1")
        delayed = await self.post("2", delay=10)
        last = await self.post("3")
        self.assertEqual(await self.listed(), first + last)
        self.wait(10)
        self.assertEqual(await self.listed(), first + delayed + last)
        self.assertEqual(ids_of((await self.claim(limit=2)).messages), first + delayed)

    async def test_life_counts_from_the_post(self) -> None:
        """A delay does not prolong a life: the ttl runs from the post."""
        await self.post("1", ttl=60, delay=59)
        await self.post("2", ttl=60, delay=60)
        self.wait(59)
        self.assertEqual([m.body for m in await self.page()], [b"1"])
        self.wait(1)
        await self.assert_nothing_shown()

    async def test_visible_by_id_and_in_stats(self) -> None:
        """A delayed message is found by id and counts as free."""
        (posted,) = await self.post("1", delay=10)
        message = await self.message(posted)
        self.assertEqual(message, Message(posted, b"1", 3600, START))
        self.assertEqual(
            await self.store.stats(ORDERS, self.now), Stats(0, 1, message, message)
        )


class NextReadyTests(StoreTests):
    """When it is worth asking again."""

    async def next_ready(self) -> int | None:
        """Seconds from now."""
        moment = await self.store.next_ready(ORDERS, self.now)
        return None if moment is None else (moment - self.now) // 1000

    async def test_nothing_waits(self) -> None:
        """There is no such moment while everything is free."""
        self.assertIsNone(await self.next_ready())
        await self.post("1")
        self.assertIsNone(await self.next_ready())

    async def test_exact_moment(self) -> None:
        """The moment is given to the millisecond."""
        await self.post("1", delay=10)
        self.now += 1
        self.assertEqual(await self.store.next_ready(ORDERS, self.now), START + 10_000)

    async def test_first_of_all(self) -> None:
        """The nearest end of any delay or claim is given, one after the other."""
        await self.post("1", delay=30)
        await self.post("2", delay=20)
        await self.post("3")
        await self.claim(ttl=25)
        moments = []
        while (moment := await self.store.next_ready(ORDERS, self.now)) is not None:
            moments.append(moment - START)
            self.now = moment
        self.assertEqual(moments, [20_000, 25_000, 30_000])

    async def test_renewal(self) -> None:
        """A renewed claim counts with its new end."""
        await self.post("1")
        claim = await self.claim(ttl=60)
        await self.store.renew(ORDERS, claim.id, 90, 60, self.now)
        self.assertEqual(await self.next_ready(), 90)

    async def test_what_is_gone_does_not_count(self) -> None:
        """Released claims and deleted messages end nothing."""
        ids = await self.post("1", "2")
        first = await self.claim(limit=1)
        await self.claim(limit=1, ttl=400)
        delayed = await self.post("3", delay=10)
        await self.delete(*delayed)
        self.assertEqual(await self.next_ready(), 300)
        await self.store.release(ORDERS, first.id, self.now)
        self.assertEqual(await self.next_ready(), 400)
        await self.delete(ids[1])
        self.assertIsNone(await self.next_ready())

    async def test_expired(self) -> None:
        """A delayed message that expired is not waited for."""
        await self.post("1", ttl=5, delay=10)
        self.wait(5)
        self.assertIsNone(await self.next_ready())

    async def test_after_sweep(self) -> None:
        """What is still to come is not swept away."""
        await self.post("1", delay=10)
        await self.post("2", delay=20)
        self.wait(10)
        await self.sweep_all()
        self.assertEqual(await self.next_ready(), 10)


class SweepTests(StoreTests):
    """Freeing what expired, unseen."""

    async def test_nothing_to_sweep(self) -> None:
        """Sweeping an empty store is done at once."""
        self.assertFalse(await self.store.sweep(self.now))

    async def test_nothing_visible_changes(self) -> None:
        """Every view is the same before and after, in any mixture of states."""
        await self.post(*"123", ttl=60)
        await self.post(*"456", ttl=120)
        await self.post(*"789", ttl=600, delay=60)
        live = await self.claim(limit=2, ttl=100)
        ended = await self.claim(limit=2, ttl=30)
        for _ in range(7):
            self.wait(20)
            before = await self.views(live.id, ended.id)
            await self.sweep_all()
            self.assertEqual(await self.views(live.id, ended.id), before)

    async def views(self, *claim_ids: str) -> list[Any]:
        """Everything that a caller can see now."""
        pages = [
            await self.page(include_claimed=claimed, include_delayed=delayed)
            for claimed in (False, True)
            for delayed in (False, True)
        ]
        claims = [await self.claim_or_none(each) for each in claim_ids]
        stats = await self.store.stats(ORDERS, self.now)
        return [*pages, claims, stats, await self.store.next_ready(ORDERS, self.now)]

    async def claim_or_none(self, claim_id: str) -> Claim | None:
        try:
            return await self.store.get_claim(ORDERS, claim_id, self.now)
        except ClaimDoesNotExist:
            return None

    async def test_many(self) -> None:
        """Any number of expired messages is swept in the end, and nothing else."""
        await self.post(*["old"] * 1200, ttl=60)
        await self.post(*["old"] * 1200, ttl=60, to=RETURNS)
        kept = await self.post("new", ttl=61)
        self.wait(60)
        await self.sweep_all()
        self.assertEqual(await self.listed(), kept)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)
        await self.assert_nothing_shown(RETURNS)

    async def test_many_claims(self) -> None:
        """Claims that ended are swept, and their messages stay."""
        ids = await self.post(*["1"] * 30)
        for _ in range(30):
            await self.claim(limit=1, ttl=60)
        self.wait(60)
        await self.sweep_all()
        self.assertEqual(await self.listed(), ids)
        self.assertEqual(len((await self.claim(limit=30)).messages), 30)

    async def test_boundary(self) -> None:
        """What has a millisecond to live is not swept."""
        (posted,) = await self.post("1", ttl=60)
        claim = await self.claim(ttl=50)
        self.now += 49_999
        await self.sweep_all()
        await self.store.get_claim(ORDERS, claim.id, self.now)
        self.now = START + 59_999
        await self.sweep_all()
        self.assertEqual(await self.listed(), [posted])
