"""Destinations as a whole, as every message store keeps them."""

from __future__ import annotations

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import Destination, Kind, Stats
from tests.storage.store_case import ORDERS, RETURNS, StoreTests, ids_of


class StatsTests(StoreTests):
    """Numbers of a destination."""

    async def test_states(self) -> None:
        """Claimed ones are counted apart; delayed ones are free."""
        await self.post("1", "2")
        await self.claim()
        await self.post("3", delay=10)
        await self.post("4", "5", "6")
        existing = await self.existing()
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual(stats, Stats(2, 4, existing[0], existing[-1]))
        self.assertEqual(stats.total, 6)

    async def test_ends_of_any_state(self) -> None:
        """The oldest may be delayed and the newest claimed."""
        (oldest,) = await self.post("1", delay=10)
        (newest,) = await self.post("2")
        claim = await self.claim()
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual(stats.oldest, await self.message(oldest))
        self.assertEqual(stats.newest, claim.messages[0])
        self.assertEqual(stats.newest, await self.message(newest))

    async def test_after_every_change(self) -> None:
        """The numbers agree with the messages after each kind of change."""
        ids = await self.post(*"12345678", ttl=600)
        await self.assert_numbers(claimed=0, free=8)
        await self.delete(ids[0])
        await self.assert_numbers(claimed=0, free=7)
        await self.store.pop(ORDERS, 1, self.now)
        await self.assert_numbers(claimed=0, free=6)
        first = await self.claim(limit=2, ttl=60)
        second = await self.claim(limit=2, ttl=60)
        await self.assert_numbers(claimed=4, free=2)
        await self.delete(first.messages[0].id)
        await self.assert_numbers(claimed=3, free=2)
        await self.store.release(ORDERS, second.id, self.now)
        await self.assert_numbers(claimed=1, free=4)
        self.wait(60)
        await self.assert_numbers(claimed=0, free=5)
        await self.claim(limit=3, ttl=900)
        await self.assert_numbers(claimed=3, free=2)
        self.wait(540)
        await self.assert_numbers(claimed=3, free=0)
        await self.sweep_all()
        await self.assert_numbers(claimed=3, free=0)
        await self.store.clear(ORDERS)
        await self.assert_numbers(claimed=0, free=0)

    async def assert_numbers(self, claimed: int, free: int) -> None:
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (claimed, free))
        self.assertEqual(len(await self.existing()), claimed + free)


class ClearTests(StoreTests):
    """Removing everything of a destination."""

    async def test_all_states(self) -> None:
        """Free, delayed and claimed messages go, and claims with them."""
        await self.post("1")
        claim = await self.claim()
        delayed = await self.post("2", delay=10)
        free = await self.post("3")
        await self.store.clear(ORDERS)
        await self.assert_nothing_shown()
        self.assertEqual(await self.store.get(ORDERS, delayed + free, self.now), [])
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.renew(ORDERS, claim.id, 60, 60, self.now)
        self.wait(300)
        await self.assert_nothing_shown()

    async def test_never_posted_to(self) -> None:
        """Clearing what is empty is no error."""
        await self.store.clear(ORDERS)
        await self.assert_nothing_shown()

    async def test_again(self) -> None:
        """A cleared destination begins anew with the next post."""
        await self.post("1", "2")
        old = await self.claim()
        await self.store.clear(ORDERS)
        new = await self.post("3")
        await self.store.release(ORDERS, old.id, self.now)
        await self.delete(*ids_of(old.messages))
        await self.sweep_all()
        self.assertEqual(await self.listed(), new)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)
        self.assertEqual(ids_of((await self.claim()).messages), new)
        await self.store.clear(ORDERS)
        await self.assert_nothing_shown()

    async def test_old_ids_are_markers(self) -> None:
        """A reader that goes on from an id of before misses nothing of after."""
        old = await self.post(*["old"] * 3000)
        await self.store.clear(ORDERS)
        self.wait(-1)
        new = await self.post("new")
        self.assertEqual(await self.listed(after=old[-1]), new)
        await self.store.clear(ORDERS)
        await self.sweep_all()
        newer = await self.post("newer")
        self.assertEqual(await self.listed(after=new[-1]), newer)

    async def test_others_stay(self) -> None:
        """Other destinations keep what they have."""
        await self.post("1")
        topic = Destination(ORDERS.project, Kind.TOPIC, ORDERS.name)
        others = [RETURNS, topic]
        for other in others:
            await self.post("2", to=other)
        claim = await self.claim(of=RETURNS)
        await self.store.clear(ORDERS)
        await self.sweep_all()
        self.assertEqual([len(await self.existing(of)) for of in others], [1, 1])
        self.assertEqual(await self.store.get_claim(RETURNS, claim.id, self.now), claim)


class IsolationTests(StoreTests):
    """Destinations never meet."""

    names = (
        Destination("p", Kind.QUEUE, "q"),
        Destination("p", Kind.TOPIC, "q"),
        Destination("p", Kind.QUEUE, "Q"),
        Destination("P", Kind.QUEUE, "q"),
        Destination("p ", Kind.QUEUE, "q"),
        Destination("p", Kind.QUEUE, "q.r"),
        Destination("p.q", Kind.QUEUE, "r"),
        Destination("p/queue", Kind.QUEUE, "q"),
        Destination("p:queue", Kind.QUEUE, "q"),
        Destination("p:queue:q", Kind.QUEUE, "q"),
        Destination("p\nqueue", Kind.QUEUE, "q"),
        Destination("p", Kind.QUEUE, "_"),
        Destination("_", Kind.QUEUE, "q"),
        Destination("%", Kind.QUEUE, "q"),
        Destination("*", Kind.QUEUE, "q"),
        Destination(".*", Kind.QUEUE, "q"),
        Destination("{p}", Kind.QUEUE, "q"),
        Destination("$p", Kind.QUEUE, "q"),
        Destination("'; --", Kind.QUEUE, "q"),
        Destination("\u00e9", Kind.QUEUE, "q"),
        Destination("e\u0301", Kind.QUEUE, "q"),
        Destination("", Kind.QUEUE, "q"),
        Destination("0", Kind.QUEUE, "0"),
        Destination("x" * 256, Kind.QUEUE, "q" * 64),
        Destination("x" * 256, Kind.QUEUE, "q" * 63),
    )
    """Names that are alike to somebody who joins, folds, trims or matches them."""

    async def test_messages(self) -> None:
        """Each destination shows its own messages and no others."""
        posted = [await self.post(str(n), to=of) for n, of in enumerate(self.names)]
        for ids, of in zip(posted, self.names, strict=True):
            self.assertEqual(await self.listed(of), ids)
            self.assertEqual((await self.store.stats(of, self.now)).total, 1)

    async def test_by_id(self) -> None:
        """A message is neither read nor deleted through another destination."""
        (posted,) = await self.post("1", to=self.names[0])
        for other in self.names[1:]:
            await self.store.delete(other, [posted], self.now)
            self.assertEqual(await self.store.get(other, [posted], self.now), [])
            await self.post("2", to=other)
            await self.store.delete(other, [posted], self.now)
            self.assertEqual(await self.store.get(other, [posted], self.now), [])
        self.assertEqual(await self.listed(self.names[0]), [posted])

    async def test_claims(self) -> None:
        """A claim takes from its destination, and is unknown in every other."""
        for of in self.names:
            await self.post("1", to=of)
        claim = await self.claim(of=self.names[0])
        self.assertEqual(len(claim.messages), 1)
        for other in self.names[1:]:
            with self.assertRaises(ClaimDoesNotExist):
                await self.store.get_claim(other, claim.id, self.now)
            with self.assertRaises(ClaimDoesNotExist):
                await self.store.renew(other, claim.id, 600, 60, self.now)
            await self.store.release(other, claim.id, self.now)
            self.assertEqual(len(await self.page(other)), 1)
        self.assertEqual(
            await self.store.get_claim(self.names[0], claim.id, self.now), claim
        )

    async def test_clear(self) -> None:
        """Clearing a destination leaves every other as it is."""
        for of in self.names:
            await self.post("1", to=of)
        for number, of in enumerate(self.names):
            await self.store.clear(of)
            await self.sweep_all()
            left = [each for each in self.names if await self.existing(each)]
            self.assertEqual(left, list(self.names[number + 1 :]))

    async def test_next_ready(self) -> None:
        """A delay in one destination is none in another."""
        await self.post("1", to=self.names[0], delay=10)
        for other in self.names[1:]:
            await self.post("2", to=other)
            self.assertIsNone(await self.store.next_ready(other, self.now))
