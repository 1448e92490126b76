"""Many calls, many stores, and restarts, as every message store stands them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from mqsvc.messaging.errors import ClaimDoesNotExist, MessageIsClaimed, StoreUnavailable
from mqsvc.messaging.model import Claim, DeadLetterRule, NewMessage, StoredMessage
from mqsvc.storage.interfaces import IMessageStore
from tests.storage.store_case import (
    GRAVEYARD,
    ORDERS,
    RETURNS,
    START,
    UNKNOWN_ID,
    StoreTests,
    flat,
    ids_of,
    position_of,
    running,
)


class ConcurrencyTests(StoreTests):
    """Calls that do not wait for one another."""

    async def test_posts(self) -> None:
        """Posts at once are each kept whole, together and in order."""
        batches = await gatherResults(
            running(*(self.post(*"12345") for _ in range(20)))
        )
        ids = await self.listed()
        self.assertEqual(sorted(ids), sorted(flat(batches)))
        for batch in batches:
            start = ids.index(batch[0])
            self.assertEqual(ids[start : start + 5], batch)

    async def test_claims(self) -> None:
        """Claims at once never share a message, and leave none behind."""
        ids = await self.post(*["1"] * 30)
        attempts = await gatherResults(
            running(*(self.attempt(limit=4) for _ in range(10)))
        )
        claims = [each.claim for each in attempts if each.claim is not None]
        lent = [message.id for claim in claims for message in claim.messages]
        self.assertEqual(sorted(lent), ids)
        self.assertEqual(len({claim.id for claim in claims}), 8)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).claimed, 30)

    async def test_claims_and_pops(self) -> None:
        """What one caller claims no other pops."""
        ids = await self.post(*["1"] * 40)
        claiming = running(*(self.claim(limit=5) for _ in range(4)))
        popping = [self.store.pop(ORDERS, 5, self.now) for _ in range(4)]
        lent = flat(ids_of(each.messages) for each in await gatherResults(claiming))
        popped = flat(ids_of(each) for each in await gatherResults(popping))
        self.assertEqual(sorted(lent + popped), ids)
        self.assertEqual(ids_of(await self.existing()), sorted(lent))

    async def test_one_delete_wins(self) -> None:
        """A message deleted and claimed by many at once is counted once."""
        ids = await self.post("1", "2")
        deletions = running(*(self.delete(ids[0]) for _ in range(10)))
        claims = running(*(self.attempt(limit=1) for _ in range(3)))
        await gatherResults(deletions + claims)
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (1, 0))

    async def test_moves_and_posts(self) -> None:
        """Dead letters and posts that come at once stand in one order, none lost."""
        await self.post(*["dead"] * 10)
        claim = await self.claim()
        await self.store.release(ORDERS, claim.id, self.now)
        rule = DeadLetterRule(GRAVEYARD, max_claim_count=1)
        coming: list[Deferred[Any]] = []
        for _ in range(5):
            coming += running(self.attempt(limit=2, rule=rule))
            coming += running(self.post("posted", "posted", to=GRAVEYARD))
        await gatherResults(coming)
        page = await self.page(GRAVEYARD)
        self.assertEqual(
            sorted(message.body for message in page), [b"dead"] * 10 + [b"posted"] * 10
        )
        positions = [position_of(message.id) for message in page]
        self.assertEqual(positions, sorted(set(positions)))
        await self.assert_nothing_shown()

    async def test_readers_see_whole_posts(self) -> None:
        """A page taken while posts run shows each post whole or not at all."""
        posts, pages = [], []
        for _ in range(20):
            posts += running(self.post(*"12345"))
            pages += running(self.listed())
        await gatherResults(posts)
        ids = await self.listed()
        for page in await gatherResults(pages):
            self.assertEqual(len(page) % 5, 0)
            self.assertEqual(page, ids[: len(page)])

    async def test_reader_behind_producers(self) -> None:
        """A reader that follows markers while many post misses and repeats nothing."""
        producing = gatherResults(
            running(*(self.produce(str(number)) for number in range(4)))
        )
        seen: list[str] = []
        while not producing.called:
            seen += await self.listed(limit=3, after=seen[-1] if seen else None)
        await producing
        while page := await self.listed(limit=3, after=seen[-1] if seen else None):
            seen += page
        self.assertEqual(seen, await self.listed())
        self.assertEqual(len(seen), 80)

    async def produce(self, body: str) -> None:
        """Post one after the other."""
        for _ in range(10):
            await self.post(body, body)

    async def test_failure_is_its_own(self) -> None:
        """A call that fails among others fails alone."""
        ids = await self.post("1", "2")
        await self.claim(limit=1)
        (before,) = running(self.post("3"))
        (refused,) = running(self.delete(*ids, claims=[]))
        (after,) = running(self.post("4"))
        with self.assertRaises(MessageIsClaimed):
            await refused
        posted = [*(await before), *(await after)]
        self.assertEqual(ids_of(await self.existing()), ids + sorted(posted))

    async def test_cancelled_caller(self) -> None:
        """A caller that gives up is freed at once; the step is whole or not done."""
        posted = self.store.post(
            ORDERS, [NewMessage(b"1", 60), NewMessage(b"2", 60)], "alice", self.now
        )
        outcomes: list[Any] = []
        posted.addErrback(lambda failure: failure.trap(CancelledError))
        posted.addBoth(outcomes.append)
        posted.cancel()
        self.assertEqual(len(outcomes), 1)
        later = await self.post("3")
        bodies = [message.body for message in await self.page()]
        self.assertIn(bodies, ([b"1", b"2", b"3"], [b"3"]))
        self.assertEqual((await self.listed())[-1:], later)


class SharedPlaceTests(StoreTests):
    """Tests that open the same messages more than once."""

    def setUp(self) -> None:
        self.now = START
        self.path = self.mktemp()
        self.store = self.open_again()

    def open_again(self) -> IMessageStore:
        """Another store on the same messages."""
        return self.start(self.open_store(self, path=self.path))


class RestartTests(SharedPlaceTests):
    """What outlives a store that is stopped."""

    async def restart(self) -> None:
        """Go on with a new store after the old one is closed."""
        await self.stop(self.store)
        self.store = self.open_again()

    async def test_everything_is_kept(self) -> None:
        """Messages in every state, claims and numbers are there after a restart."""
        await self.post("1", "2")
        claim = await self.claim(limit=1)
        await self.post("3", delay=10)
        existing = await self.existing()
        stats = await self.store.stats(ORDERS, self.now)
        await self.restart()
        self.assertEqual(await self.existing(), existing)
        self.assertEqual(await self.store.stats(ORDERS, self.now), stats)
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)
        self.assertEqual(await self.store.next_ready(ORDERS, self.now), START + 10_000)

    async def test_restored_are_kept(self) -> None:
        """What was restored, free or delayed, is there after a restart."""
        await self.post("1")
        await self.claim(ttl=60)
        await self.post("2", delay=10)
        await self.restore(*await self.stored())
        stored = await self.stored(RETURNS)
        await self.restart()
        self.assertEqual(await self.stored(RETURNS), stored)
        self.assertEqual([each.message.claim_count for each in stored], [1, 0])

    async def test_what_is_gone_stays_gone(self) -> None:
        """Deleted, popped, released and cleared things do not come back."""
        ids = await self.post("1", "2", "3", "4")
        await self.store.pop(ORDERS, 1, self.now)
        await self.delete(ids[1])
        claim = await self.claim(limit=1)
        await self.store.release(ORDERS, claim.id, self.now)
        await self.post("5", to=RETURNS)
        await self.store.clear(RETURNS)
        await self.restart()
        self.assertEqual(await self.listed(), ids[2:])
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)
        await self.assert_nothing_shown(RETURNS)

    async def test_positions_grow_on(self) -> None:
        """Markers of before a restart hold after it, also over a cleared queue."""
        first = await self.post(*["1"] * 2000)
        await self.restart()
        second = await self.post("2")
        self.assertEqual(await self.listed(after=first[-1]), second)
        await self.store.clear(ORDERS)
        await self.restart()
        third = await self.post("3")
        self.assertEqual(await self.listed(after=second[-1]), third)

    async def test_stop_finishes_what_runs(self) -> None:
        """What was asked before the stop is answered, and kept when so answered."""
        posts = running(*(self.post(*"12345") for _ in range(10)))
        await self.stop(self.store)
        batches = await gatherResults(posts)
        self.store = self.open_again()
        self.assertEqual(await self.listed(), sorted(flat(batches)))

    async def test_stopped(self) -> None:
        """A stopped store fails every call, as one that cannot be reached."""
        (posted,) = await self.post("1")
        (stored,) = await self.stored()
        expired = StoredMessage(stored.message, self.now)
        await self.stop(self.store)
        for call in (
            self.store.ping,
            lambda: self.store.sweep(self.now),
            lambda: self.post("2"),
            self.page,
            lambda: self.message(posted),
            lambda: self.delete(posted),
            lambda: self.store.pop(ORDERS, 1, self.now),
            self.attempt,
            lambda: self.store.get_claim(ORDERS, UNKNOWN_ID, self.now),
            lambda: self.store.renew(ORDERS, UNKNOWN_ID, 60, 60, self.now),
            lambda: self.store.release(ORDERS, UNKNOWN_ID, self.now),
            lambda: self.store.release(ORDERS, UNKNOWN_ID, self.now, undelivered=True),
            lambda: self.store.stats(ORDERS, self.now),
            self.stored,
            lambda: self.restore(stored),
            lambda: self.restore(expired),
            lambda: self.store.clear(ORDERS),
            lambda: self.store.next_ready(ORDERS, self.now),
        ):
            with self.assertRaises(StoreUnavailable):
                await call()
        self.store = self.open_again()
        self.assertEqual(await self.listed(), [posted])

    async def test_ping(self) -> None:
        """A started store answers, also after a restart."""
        await self.store.ping()
        await self.restart()
        await self.store.ping()


class NeighbourTests(SharedPlaceTests):
    """Two stores on the same messages, as two processes have them."""

    def setUp(self) -> None:
        super().setUp()
        self.neighbour = self.open_again()

    def swap(self) -> None:
        """Go on through the other store."""
        self.store, self.neighbour = self.neighbour, self.store

    async def test_every_change_is_seen(self) -> None:
        """What one store answered, the other one shows at once."""
        ids = await self.post("1", "2", "3")
        self.swap()
        self.assertEqual(await self.listed(), ids)
        claim = await self.claim(limit=2, ttl=60)
        self.swap()
        self.assertEqual(await self.listed(), ids[2:])
        await self.store.renew(ORDERS, claim.id, 100, 60, self.now)
        await self.delete(ids[0], claims=[claim.id])
        self.swap()
        self.assertEqual(
            await self.store.get_claim(ORDERS, claim.id, self.now),
            Claim(claim.id, 100, START, claim.messages[1:]),
        )
        await self.store.release(ORDERS, claim.id, self.now)
        self.swap()
        self.assertEqual(ids_of(await self.store.pop(ORDERS, 1, self.now)), ids[1:2])
        self.swap()
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)

    async def test_one_order(self) -> None:
        """Positions grow over both stores, also when one clears."""
        ids = []
        for _ in range(4):
            ids += await self.post("1", "2")
            self.swap()
        self.assertEqual(await self.listed(), ids)
        await self.store.clear(ORDERS)
        self.swap()
        new = await self.post("3")
        self.swap()
        self.assertEqual(await self.listed(after=ids[-1]), new)

    async def test_posts_at_once(self) -> None:
        """Posts through both stores at once all succeed, each kept whole."""
        posts = []
        for _ in range(20):
            posts += running(self.post(*"123"))
            self.swap()
        batches = await gatherResults(posts)
        ids = await self.listed()
        self.assertEqual(sorted(ids), sorted(flat(batches)))
        self.assertEqual([ids[i : i + 3] for i in range(0, 60, 3)], sorted(batches))

    async def test_claims_at_once(self) -> None:
        """Claims through both stores at once never share a message."""
        ids = await self.post(*["1"] * 40)
        attempts = []
        for _ in range(20):
            attempts += running(self.attempt(limit=2))
            self.swap()
        claims = [each.claim for each in await gatherResults(attempts)]
        self.assertEqual(sorted(flat(ids_of(c.messages) for c in claims)), ids)

    async def test_one_goes_on(self) -> None:
        """A store goes on when its neighbour stops."""
        ids = await self.post("1")
        await self.stop(self.store)
        self.swap()
        self.assertEqual(await self.listed(), ids)
        ids += await self.post("2")
        self.assertEqual(await self.listed(), ids)
