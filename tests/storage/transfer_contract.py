"""Taking messages out of any message store, and bringing them into any."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    Message,
    Stats,
    StoredMessage,
)
from tests.storage.store_case import (
    GRAVEYARD,
    MALFORMED_IDS,
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


class StoredTests(StoreTests):
    """Everything that is known of messages, to be taken elsewhere."""

    async def test_each_state(self) -> None:
        """Free, claimed and delayed messages come in order with all that is known."""
        await self.post("1", ttl=600)
        claim = await self.claim(ttl=60)
        await self.post("2", ttl=700, delay=10)
        await self.post("3", ttl=800)
        claimed, delayed, free = await self.existing()
        self.assertEqual(claimed.claim_id, claim.id)
        self.assertEqual(
            await self.stored(),
            [
                StoredMessage(claimed, START + 600_000),
                StoredMessage(delayed, START + 700_000, START + 10_000),
                StoredMessage(free, START + 800_000),
            ],
        )

    async def test_nothing_changes(self) -> None:
        """Looking at everything leaves messages and claims as they are."""
        await self.post("1", "2")
        claim = await self.claim(limit=1)
        before = await self.existing()
        self.assertEqual(await self.stored(), await self.stored())
        self.assertEqual(await self.existing(), before)
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)

    async def test_following_markers(self) -> None:
        """Going on from the last id seen visits each message once, and ends."""
        ids = await self.post("1", "2")
        await self.claim()
        ids += await self.post("3", "4", delay=10)
        ids += await self.post("5", "6", "7")
        pages, after = [], None
        while stored := await self.stored(limit=3, after=after):
            pages.append([each.message.id for each in stored])
            after = pages[-1][-1]
        self.assertEqual(pages, [ids[:3], ids[3:6], ids[6:]])

    async def test_markers(self) -> None:
        """Any id marks its place; what is no id is behind everything."""
        ids = await self.post("1", "2", "3")
        await self.delete(ids[0])
        for marker, rest in ((ids[0], 2), (ids[1], 1), (UNKNOWN_ID, 2), ("f" * 24, 0)):
            self.assertEqual(len(await self.stored(after=marker)), rest, marker)
        for marker in MALFORMED_IDS:
            self.assertEqual(await self.stored(after=marker), [], repr(marker))

    async def test_extended_life(self) -> None:
        """The expiry is the one that a claim gave."""
        await self.post("1", ttl=60)
        await self.claim(ttl=100, grace=30)
        (stored,) = await self.stored()
        self.assertEqual((stored.message.ttl, stored.expires), (130, START + 130_000))

    async def test_delay_that_is_over(self) -> None:
        """A delay is told until it has passed, and not from that moment on."""
        await self.post("1", delay=10)
        self.now += 9_999
        (stored,) = await self.stored()
        self.assertEqual(stored.delayed_until, START + 10_000)
        self.now += 1
        (stored,) = await self.stored()
        self.assertIsNone(stored.delayed_until)
        await self.sweep_all()
        self.assertEqual(await self.stored(), [stored])

    async def test_claim_that_is_over(self) -> None:
        """A message whose claim ended has no delay, swept or not."""
        await self.post("1")
        claim = await self.claim(ttl=60)
        self.wait(60)
        (stored,) = await self.stored()
        self.assertEqual(stored.message.claim_id, claim.id)
        self.assertIsNone(stored.delayed_until)
        await self.sweep_all()
        self.assertEqual(await self.stored(), [stored])

    async def test_expired(self) -> None:
        """What expired is left out, before the cut."""
        await self.post("1", "2", ttl=60)
        ids = await self.post("3")
        self.wait(60)
        self.assertEqual([m.message.id for m in await self.stored(limit=1)], ids)

    async def test_never_posted_to(self) -> None:
        """There is nothing in a destination that was never posted to."""
        await self.post("1")
        self.assertEqual(await self.stored(RETURNS), [])


class RestoreTests(StoreTests):
    """Appending what another store kept."""

    async def taken(self) -> list[StoredMessage]:
        """What is in ORDERS, which is empty afterwards."""
        stored = await self.stored()
        await self.store.clear(ORDERS)
        return stored

    async def test_as_it_was(self) -> None:
        """Body, ttl, creation, expiry and count stay; the id is new, no claim is."""
        (posted,) = await self.post('{"a": "\u00e9\\u0000"}', ttl=600)
        await self.claim(ttl=60)
        self.wait(60)
        taken = await self.taken()
        self.wait(5)
        (restored,) = await self.restore(*taken)
        self.assertNotEqual(restored, posted)
        message = Message(restored, taken[0].message.body, 600, START, None, 1)
        self.assertEqual(await self.page(RETURNS), [message])
        self.assertEqual(
            await self.stored(RETURNS), [StoredMessage(message, START + 600_000)]
        )

    async def test_at_the_end(self) -> None:
        """What is restored stands in its order, behind what is there."""
        earlier = await self.post("0", to=RETURNS)
        await self.post("1", "2", "3")
        restored = await self.restore(*await self.taken())
        later = await self.post("4", to=RETURNS)
        page = await self.page(RETURNS)
        self.assertEqual(ids_of(page), earlier + restored + later)
        self.assertEqual(b"".join(message.body for message in page), b"01234")
        self.assertEqual(
            await self.listed(RETURNS, after=earlier[0], limit=3), restored
        )
        positions = [position_of(each) for each in restored]
        self.assertEqual(positions, sorted(set(positions)))

    async def test_first_of_a_destination(self) -> None:
        """A destination may begin with what is restored, and goes on behind it."""
        await self.post("1")
        restored = await self.restore(*await self.taken())
        self.wait(-60)
        posted = await self.post("2", to=RETURNS)
        self.wait(60)
        self.assertEqual(await self.listed(RETURNS), restored + posted)
        self.assertEqual(await self.listed(RETURNS, after=restored[0]), posted)

    async def test_ids_of_before(self) -> None:
        """The ids that messages had before play no role, whatever they are."""
        (kept,) = await self.post("1", to=RETURNS)
        for old in (kept, UNKNOWN_ID, *MALFORMED_IDS):
            stored = StoredMessage(Message(old, b"2", 60, START), START + 60_000)
            (restored,) = await self.restore(stored)
            self.assertNotEqual(restored, old)
            self.assertEqual(await self.listed(RETURNS), [kept, restored])
            await self.store.delete(RETURNS, [restored], self.now)

    async def test_beside_the_original(self) -> None:
        """What is restored where it is already is there twice."""
        (posted,) = await self.post("1")
        claim = await self.claim()
        (copy,) = await self.restore(*await self.stored(), to=ORDERS)
        self.assertEqual(ids_of(await self.existing()), [posted, copy])
        self.assertEqual(await self.listed(), [copy])
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)

    async def test_claimed_become_free(self) -> None:
        """A message that was claimed is free, and its claim unknown here."""
        await self.post("1")
        claim = await self.claim()
        restored = await self.restore(*await self.stored())
        self.assertEqual(await self.listed(RETURNS), restored)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(RETURNS, claim.id, self.now)
        await self.store.release(RETURNS, claim.id, self.now, undelivered=True)
        self.assertIsNone(await self.store.next_ready(RETURNS, self.now))
        again = await self.claim(of=RETURNS)
        self.assertEqual([m.claim_count for m in again.messages], [2])

    async def test_delayed(self) -> None:
        """A delay ends when it would have, to the millisecond."""
        await self.post("1", delay=10)
        await self.post("2")
        taken = await self.taken()
        self.wait(5)
        restored = await self.restore(*taken)
        self.assertEqual(await self.store.next_ready(RETURNS, self.now), START + 10_000)
        self.assertEqual(
            [m.delayed_until for m in await self.stored(RETURNS)],
            [START + 10_000, None],
        )
        self.now = START + 9_999
        self.assertEqual(await self.listed(RETURNS), restored[1:])
        self.now += 1
        self.assertEqual(await self.listed(RETURNS), restored)
        self.assertEqual(ids_of((await self.claim(of=RETURNS)).messages), restored)

    async def test_delay_that_ended_meanwhile(self) -> None:
        """A delay that is over when a message is restored is none."""
        await self.post("1", delay=10)
        taken = await self.taken()
        self.wait(10)
        restored = await self.restore(*taken)
        self.assertEqual(await self.listed(RETURNS), restored)
        self.assertIsNone(await self.store.next_ready(RETURNS, self.now))
        self.assertEqual(ids_of(await self.store.pop(RETURNS, 1, self.now)), restored)

    async def test_delay_longer_than_life(self) -> None:
        """A message that expires before its delay ends is never free."""
        await self.post("1", ttl=20, delay=30)
        restored = await self.restore(*await self.taken())
        self.assertEqual(len(restored), 1)
        self.wait(19)
        self.assertEqual(await self.attempt(of=RETURNS), Claimed(None, 0))
        self.wait(1)
        await self.assert_nothing_shown(RETURNS)

    async def test_expired_meanwhile(self) -> None:
        """What expired is left out, and no id answered for it."""
        await self.post("1", ttl=10)
        await self.post("2", ttl=600)
        await self.post("3", ttl=10)
        await self.post("4", ttl=600)
        taken = await self.taken()
        self.wait(10)
        restored = await self.restore(*taken)
        page = await self.page(RETURNS)
        self.assertEqual(ids_of(page), restored)
        self.assertEqual([message.body for message in page], [b"2", b"4"])
        self.assertEqual((await self.store.stats(RETURNS, self.now)).total, 2)

    async def test_all_expired(self) -> None:
        """Where everything expired nothing happens."""
        await self.post("1", "2", ttl=10)
        taken = await self.taken()
        self.wait(10)
        self.assertEqual(await self.restore(*taken), [])
        await self.assert_nothing_shown(RETURNS)

    async def test_end_of_life(self) -> None:
        """A restored message expires when it would have, and is swept."""
        await self.post("1", ttl=60)
        taken = await self.taken()
        self.wait(30)
        restored = await self.restore(*taken)
        self.now = START + 59_999
        await self.sweep_all()
        self.assertEqual(await self.listed(RETURNS), restored)
        self.now += 1
        await self.assert_nothing_shown(RETURNS)
        await self.sweep_all()
        await self.assert_nothing_shown(RETURNS)

    async def test_extended_life(self) -> None:
        """The life that a claim gave stays, and can be extended again."""
        await self.post("1", ttl=60)
        await self.claim(ttl=100, grace=30)
        restored = await self.restore(*await self.taken())
        self.wait(129)
        self.assertEqual(await self.listed(RETURNS), restored)
        claim = await self.claim(of=RETURNS, ttl=60, grace=60)
        self.assertEqual([m.ttl for m in claim.messages], [120])

    async def test_no_poster(self) -> None:
        """Nobody posted it: it is hidden from no client."""
        await self.post("1", client="alice")
        taken = await self.taken()
        await self.post("0", to=RETURNS, client="alice")
        restored = await self.restore(*taken)
        await self.post("2", to=RETURNS, client="alice")
        self.assertEqual(await self.listed(RETURNS, hide_client="alice"), restored)
        for client in ("", "None", "false", "0", "-1"):
            shown = await self.listed(RETURNS, hide_client=client)
            self.assertEqual(len(shown), 3, repr(client))

    async def test_between_the_clients_own(self) -> None:
        """A list without a client's own messages finds what was restored among them."""
        await self.post(*["theirs"] * 40)
        taken = await self.taken()
        restored = []
        for each in range(0, 40, 10):
            await self.post(*["mine"] * 50, to=RETURNS, client="bob")
            restored += await self.restore(*taken[each : each + 10])
        await self.post(*["mine"] * 50, to=RETURNS, client="bob")
        self.assertEqual(await self.listed(RETURNS, hide_client="bob"), restored)
        self.assertEqual(
            await self.listed(RETURNS, limit=15, hide_client="bob"), restored[:15]
        )

    async def test_numbers(self) -> None:
        """Stats count what was restored as free, with its ends, after each change."""
        await self.post("1", "2")
        await self.claim()
        await self.post("3", delay=10)
        restored = await self.restore(*await self.taken())
        existing = await self.existing(RETURNS)
        self.assertEqual(ids_of(existing), restored)
        self.assertEqual(
            await self.store.stats(RETURNS, self.now),
            Stats(0, 3, existing[0], existing[-1]),
        )
        await self.claim(of=RETURNS)
        stats = await self.store.stats(RETURNS, self.now)
        self.assertEqual((stats.claimed, stats.free), (2, 1))
        await self.store.delete(RETURNS, restored, self.now)
        await self.assert_nothing_shown(RETURNS)

    async def test_count_matters(self) -> None:
        """A rule of dead letters sees the count that a message brought."""
        rule = DeadLetterRule(GRAVEYARD, max_claim_count=2)
        await self.post("worn", "half")
        for limit in (2, 1):
            claim = await self.claim(limit=limit)
            await self.store.release(ORDERS, claim.id, self.now)
        await self.restore(*await self.taken())
        claimed = await self.attempt(of=RETURNS, rule=rule)
        assert claimed.claim is not None
        self.assertEqual(claimed.dead_lettered, 1)
        self.assertEqual([m.body for m in claimed.claim.messages], [b"half"])
        self.assertEqual([m.claim_count for m in claimed.claim.messages], [2])
        (buried,) = await self.page(GRAVEYARD, hide_client="alice")
        self.assertEqual(buried, Message(buried.id, b"worn", 3600, START))

    async def test_large_batch(self) -> None:
        """Very many messages are restored whole and in order."""
        bodies = [str(number) for number in range(9000)]
        await self.post(*bodies)
        restored = await self.restore(*await self.taken())
        existing = await self.existing(RETURNS)
        self.assertEqual(ids_of(existing), restored)
        self.assertEqual([message.body.decode() for message in existing], bodies)

    async def test_at_once(self) -> None:
        """What is posted and restored at once is each kept whole, none lost."""
        await self.post(*"12345")
        taken = await self.taken()
        coming: list[Deferred[Any]] = []
        for _ in range(10):
            coming += running(self.restore(*taken), self.post("6", "7", to=RETURNS))
        batches = await gatherResults(coming)
        ids = await self.listed(RETURNS)
        self.assertEqual(sorted(ids), sorted(flat(batches)))
        for batch in batches:
            start = ids.index(batch[0])
            self.assertEqual(ids[start : start + len(batch)], batch)

    async def test_others_stay(self) -> None:
        """Other destinations show nothing of it."""
        await self.post("1")
        await self.restore(*await self.taken())
        topic = Destination(RETURNS.project, Kind.TOPIC, RETURNS.name)
        for other in (ORDERS, GRAVEYARD, topic):
            await self.assert_nothing_shown(other)
