"""Claims and dead letters, as every message store has them."""

from __future__ import annotations

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import Claim, Claimed, DeadLetterRule, Message, Stats
from tests.storage.store_case import (
    GRAVEYARD,
    MALFORMED_IDS,
    ORDERS,
    RETURNS,
    START,
    UNKNOWN_ID,
    StoreTests,
    forged,
    ids_of,
)


class ClaimTests(StoreTests):
    """Lending messages to a worker."""

    async def test_claim(self) -> None:
        """A claim shows its ttl, its beginning and its messages, each lent once."""
        ids = await self.post("1", "2", ttl=3600)
        self.wait(5)
        claimed = await self.attempt(ttl=100)
        assert claimed.claim is not None
        claim_id = claimed.claim.id
        lent = tuple(
            Message(each, body, 3600, START, claim_id, 1)
            for each, body in zip(ids, (b"1", b"2"), strict=True)
        )
        self.assertEqual(claimed, Claimed(Claim(claim_id, 100, self.now, lent), 0))
        self.assertEqual(
            await self.store.get_claim(ORDERS, claim_id, self.now), claimed.claim
        )
        self.assertEqual(await self.existing(), list(lent))

    async def test_ids(self) -> None:
        """Claim ids are 24 hexadecimal digits and never the same."""
        await self.post("1", "2", "3")
        claims = [(await self.claim(limit=1)).id for _ in range(3)]
        self.assertEqual(len(set(claims)), 3)
        for claim_id in claims:
            self.assertRegex(claim_id, r"\A[0-9a-f]{24}\Z")

    async def test_oldest_free_first(self) -> None:
        """Claims take the oldest free messages, up to the limit, and never share."""
        ids = await self.post(*"12345")
        self.assertEqual(ids_of((await self.claim(limit=2)).messages), ids[:2])
        self.assertEqual(ids_of((await self.claim(limit=2)).messages), ids[2:4])
        self.assertEqual(ids_of((await self.claim(limit=2)).messages), ids[4:])
        self.assertEqual(await self.attempt(limit=2), Claimed(None, 0))

    async def test_claimed_between_free(self) -> None:
        """Messages under another claim are passed over, also behind a free one."""
        ids = await self.post(*"1234")
        first = await self.claim(limit=1)
        await self.claim(limit=2)
        await self.store.release(ORDERS, first.id, self.now)
        again = await self.claim()
        self.assertEqual(ids_of(again.messages), [ids[0], ids[3]])

    async def test_nothing_to_claim(self) -> None:
        """An attempt that finds nothing makes no claim."""
        self.assertEqual(await self.attempt(), Claimed(None, 0))
        await self.post("1", delay=10)
        self.assertEqual(await self.attempt(), Claimed(None, 0))
        await self.post("2", ttl=5)
        self.wait(5)
        self.assertEqual(await self.attempt(), Claimed(None, 0))

    async def test_own_messages(self) -> None:
        """Who posted a message plays no role."""
        await self.post("1", client="alice")
        await self.post("2", client="bob")
        self.assertEqual(len((await self.claim()).messages), 2)

    async def test_claim_expires(self) -> None:
        """A claim is live until its ttl has passed, and gone at that moment."""
        ids = await self.post("1")
        claim = await self.claim(ttl=60)
        self.now += 59_999
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)
        self.assertEqual(await self.listed(), [])
        self.assertEqual(await self.attempt(), Claimed(None, 0))
        self.assertEqual((await self.store.stats(ORDERS, self.now)).claimed, 1)
        self.now += 1
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(await self.listed(), ids)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).claimed, 0)
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_expired_claim_stays_visible_on_the_message(self) -> None:
        """A message carries an expired claim's id until the next claim."""
        (posted,) = await self.post("1")
        first = await self.claim(ttl=60)
        self.wait(60)
        self.assertEqual((await self.message(posted)).claim_id, first.id)
        second = await self.claim()
        self.assertEqual((await self.message(posted)).claim_id, second.id)

    async def test_freed_keep_their_place(self) -> None:
        """Messages of an expired claim come before newer ones again."""
        ids = await self.post("1", "2")
        await self.claim(limit=1, ttl=60)
        ids += await self.post("3")
        self.wait(60)
        self.assertEqual(await self.listed(), ids)
        self.assertEqual(ids_of((await self.claim(limit=2)).messages), ids[:2])

    async def test_count_grows_with_each_delivery(self) -> None:
        """Every delivery counts, also around renewal, release and expiry."""
        (posted,) = await self.post("1")
        for count in range(1, 6):
            claim = await self.claim(ttl=60)
            await self.store.renew(ORDERS, claim.id, 60, 60, self.now)
            self.assertEqual((await self.message(posted)).claim_count, count)
            if count % 2:
                await self.store.release(ORDERS, claim.id, self.now)
            else:
                self.wait(60)
            self.assertEqual((await self.message(posted)).claim_count, count)

    async def test_deleted_messages_leave_the_claim(self) -> None:
        """A claim goes on without what is deleted, to the last message."""
        ids = await self.post("1", "2")
        claim = await self.claim(ttl=60)
        await self.delete(ids[0])
        left = await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(ids_of(left.messages), ids[1:])
        await self.delete(ids[1])
        empty = await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(empty, Claim(claim.id, 60, START, ()))
        self.wait(60)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)

    async def test_claims_that_do_not_exist(self) -> None:
        """Unknown and malformed claims and those of another destination are none."""
        await self.post("1")
        claim = await self.claim()
        for unknown in (UNKNOWN_ID, forged(claim.id), *MALFORMED_IDS):
            with self.assertRaises(ClaimDoesNotExist):
                await self.store.get_claim(ORDERS, unknown, self.now)
        await self.post("2", to=RETURNS)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(RETURNS, claim.id, self.now)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(GRAVEYARD, claim.id, self.now)

    async def test_superseded_claim(self) -> None:
        """An ended claim has no power over messages that another one took."""
        (posted,) = await self.post("1")
        first = await self.claim(ttl=60)
        self.wait(60)
        second = await self.claim(ttl=300)
        await self.store.release(ORDERS, first.id, self.now)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.renew(ORDERS, first.id, 900, 60, self.now)
        held = await self.store.get_claim(ORDERS, second.id, self.now)
        self.assertEqual(ids_of(held.messages), [posted])
        self.assertEqual(held, second)


class ExtensionTests(StoreTests):
    """The life that a claim gives to its messages."""

    async def assert_lives(self, message_id: str, seconds: int) -> None:
        """It exists for so many seconds from now, to the millisecond."""
        end = self.now + seconds * 1000
        self.assertEqual(
            ids_of(await self.store.get(ORDERS, [message_id], end - 1)), [message_id]
        )
        self.assertEqual(await self.store.get(ORDERS, [message_id], end), [])

    async def test_longer_life_is_not_touched(self) -> None:
        """A message that outlives the claim keeps its ttl and expiry."""
        (posted,) = await self.post("1", ttl=101)
        claim = await self.claim(ttl=100, grace=60)
        self.assertEqual(claim.messages[0].ttl, 101)
        await self.assert_lives(posted, 101)

    async def test_equal_life_is_not_touched(self) -> None:
        """A message that expires just when the claim ends is not extended."""
        (posted,) = await self.post("1", ttl=100)
        claim = await self.claim(ttl=100, grace=60)
        self.assertEqual(claim.messages[0].ttl, 100)
        await self.assert_lives(posted, 100)
        self.wait(100)
        await self.assert_nothing_shown()

    async def test_shorter_life_is_extended(self) -> None:
        """A message that would expire first lives for the grace after the claim."""
        (posted,) = await self.post("1", ttl=100)
        claim = await self.claim(ttl=101, grace=60)
        self.assertEqual(claim.messages[0].ttl, 161)
        self.assertEqual((await self.message(posted)).ttl, 161)
        await self.assert_lives(posted, 161)

    async def test_extension_of_an_old_message(self) -> None:
        """Claim and grace count from the claim, not from the post."""
        (posted,) = await self.post("1", ttl=100)
        self.wait(50)
        claim = await self.claim(ttl=200, grace=60)
        self.assertEqual(claim.messages[0].ttl, 260)
        self.assertEqual(claim.messages[0].created, START)
        await self.assert_lives(posted, 260)

    async def test_less_than_a_second_short(self) -> None:
        """A life that is a millisecond too short is extended."""
        (posted,) = await self.post("1", ttl=100)
        self.now += 1
        claim = await self.claim(ttl=100, grace=60)
        self.assertEqual(claim.messages[0].ttl, 160)
        await self.assert_lives(posted, 160)

    async def test_each_message_for_itself(self) -> None:
        """One claim extends those that need it and no others."""
        short = await self.post("1", ttl=60)
        long = await self.post("2", ttl=3600)
        claim = await self.claim(ttl=120, grace=60)
        self.assertEqual([m.ttl for m in claim.messages], [180, 3600])
        await self.assert_lives(short[0], 180)
        await self.assert_lives(long[0], 3600)

    async def test_extension_is_permanent(self) -> None:
        """Release and expiry of the claim leave the longer life."""
        (posted,) = await self.post("1", ttl=60)
        claim = await self.claim(ttl=120, grace=60)
        await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual((await self.message(posted)).ttl, 180)
        await self.assert_lives(posted, 180)
        self.wait(179)
        self.assertEqual(await self.listed(), [posted])

    async def test_readable_under_the_claim(self) -> None:
        """A claimed message is there until the claim's end and the grace after it."""
        (posted,) = await self.post("1", ttl=60)
        claim = await self.claim(ttl=300, grace=60)
        self.wait(299)
        await self.sweep_all()
        held = await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(ids_of(held.messages), [posted])
        self.wait(1)
        await self.sweep_all()
        self.assertEqual(await self.listed(), [posted])
        self.wait(60)
        await self.assert_nothing_shown()

    async def test_renewal_extends(self) -> None:
        """Renewal extends like a claim made at that moment."""
        (posted,) = await self.post("1", ttl=100)
        claim = await self.claim(ttl=60, grace=60)
        self.wait(40)
        await self.store.renew(ORDERS, claim.id, 60, 30, self.now)
        self.assertEqual((await self.message(posted)).ttl, 100)
        await self.assert_lives(posted, 60)
        await self.store.renew(ORDERS, claim.id, 61, 30, self.now)
        self.assertEqual((await self.message(posted)).ttl, 91)
        await self.assert_lives(posted, 91)


class RenewalTests(StoreTests):
    """Moving the end of a claim."""

    async def test_renew(self) -> None:
        """A renewed claim begins anew, with its new ttl."""
        ids = await self.post("1")
        claim = await self.claim(ttl=60)
        self.wait(59)
        await self.store.renew(ORDERS, claim.id, 100, 60, self.now)
        renewed = await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual(renewed, Claim(claim.id, 100, self.now, claim.messages))
        self.wait(99)
        self.assertEqual(await self.listed(), [])
        await self.store.get_claim(ORDERS, claim.id, self.now)
        self.wait(1)
        self.assertEqual(await self.listed(), ids)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)

    async def test_renew_to_an_earlier_end(self) -> None:
        """A renewal may also bring the end nearer."""
        ids = await self.post("1")
        claim = await self.claim(ttl=300)
        await self.store.renew(ORDERS, claim.id, 60, 60, self.now)
        self.wait(60)
        self.assertEqual(await self.listed(), ids)
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_only_this_claim(self) -> None:
        """Other claims and free messages are not touched."""
        ids = await self.post("1", "2", "3")
        first = await self.claim(limit=1, ttl=60)
        await self.claim(limit=1, ttl=60)
        await self.store.renew(ORDERS, first.id, 600, 60, self.now)
        self.assertEqual(await self.listed(), ids[2:])
        self.wait(60)
        self.assertEqual(await self.listed(), ids[1:])

    async def test_without_messages(self) -> None:
        """A live claim can be renewed when all its messages are deleted."""
        ids = await self.post("1")
        claim = await self.claim(ttl=60)
        await self.delete(*ids)
        await self.store.renew(ORDERS, claim.id, 100, 60, self.now)
        self.wait(99)
        self.assertEqual(
            await self.store.get_claim(ORDERS, claim.id, self.now),
            Claim(claim.id, 100, START, ()),
        )

    async def test_claims_that_do_not_exist(self) -> None:
        """Unknown, malformed, foreign, released and ended claims are none."""
        ids = await self.post("1", "2")
        ended = await self.claim(limit=1, ttl=60)
        released = await self.claim(limit=1)
        await self.store.release(ORDERS, released.id, self.now)
        await self.post("3", to=RETURNS)
        foreign = await self.claim(of=RETURNS)
        self.wait(60)
        for dead in (
            *(UNKNOWN_ID, ended.id, released.id, foreign.id),
            *MALFORMED_IDS,
        ):
            with self.assertRaises(ClaimDoesNotExist):
                await self.store.renew(ORDERS, dead, 600, 60, self.now)
        self.assertEqual(await self.listed(), ids)
        self.assertEqual(
            await self.store.get_claim(RETURNS, foreign.id, self.now), foreign
        )


class ReleaseTests(StoreTests):
    """Ending a claim early."""

    async def test_release(self) -> None:
        """Released messages are free at once, in their place, and carry no claim."""
        ids = await self.post("1", "2", "3")
        claim = await self.claim(limit=2)
        await self.store.release(ORDERS, claim.id, self.now)
        page = await self.page()
        self.assertEqual(
            [(m.id, m.claim_id, m.claim_count) for m in page],
            [(ids[0], None, 1), (ids[1], None, 1), (ids[2], None, 0)],
        )
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).claimed, 0)
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_only_this_claim(self) -> None:
        """Other claims keep their messages."""
        ids = await self.post("1", "2")
        first = await self.claim(limit=1)
        second = await self.claim(limit=1)
        await self.store.release(ORDERS, first.id, self.now)
        self.assertEqual(await self.listed(), ids[:1])
        self.assertEqual(
            await self.store.get_claim(ORDERS, second.id, self.now), second
        )

    async def test_unknown_claims_are_no_error(self) -> None:
        """Releasing what is no claim changes nothing and does not fail."""
        await self.post("1")
        claim = await self.claim()
        for unknown in (UNKNOWN_ID, forged(claim.id), *MALFORMED_IDS):
            await self.store.release(ORDERS, unknown, self.now)
        await self.store.release(RETURNS, claim.id, self.now)
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)

    async def test_twice(self) -> None:
        """A second release does nothing, also when the messages are claimed again."""
        await self.post("1")
        first = await self.claim()
        await self.store.release(ORDERS, first.id, self.now)
        second = await self.claim()
        await self.store.release(ORDERS, first.id, self.now)
        self.assertEqual(
            await self.store.get_claim(ORDERS, second.id, self.now), second
        )

    async def test_claim_of_another_destination(self) -> None:
        """A claim cannot be released through another destination."""
        await self.post("1")
        claim = await self.claim()
        await self.post("2", to=RETURNS)
        await self.store.release(RETURNS, claim.id, self.now)
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)


class UndeliveredTests(StoreTests):
    """Ending a claim that never reached a worker."""

    async def undo(self, claim: Claim) -> None:
        """Release it as one that nobody got."""
        await self.store.release(ORDERS, claim.id, self.now, undelivered=True)

    async def counts(self) -> list[int]:
        """How often each message was handed out."""
        return [message.claim_count for message in await self.existing()]

    async def test_does_not_count(self) -> None:
        """The messages are free, in their place, as if they had not been claimed."""
        ids = await self.post("1", "2", "3")
        before = await self.existing()
        claim = await self.claim(limit=2)
        await self.undo(claim)
        self.assertEqual(await self.page(), before)
        with self.assertRaises(ClaimDoesNotExist):
            await self.store.get_claim(ORDERS, claim.id, self.now)
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual(stats, Stats(0, 3, before[0], before[-1]))
        self.assertIsNone(await self.store.next_ready(ORDERS, self.now))
        self.assertEqual(ids_of((await self.claim()).messages), ids)

    async def test_earlier_deliveries_count(self) -> None:
        """Only the claim itself is taken back, whatever was before and after it."""
        await self.post("1")
        await self.claim(ttl=60)
        self.wait(60)
        delivered = await self.claim()
        await self.store.release(ORDERS, delivered.id, self.now)
        await self.undo(await self.claim())
        self.assertEqual(await self.counts(), [2])
        await self.claim()
        self.assertEqual(await self.counts(), [3])

    async def test_renewed(self) -> None:
        """A claim that was renewed counts once, and is taken back once."""
        await self.post("1")
        claim = await self.claim()
        await self.store.renew(ORDERS, claim.id, 300, 60, self.now)
        await self.undo(claim)
        self.assertEqual(await self.counts(), [0])

    async def test_only_this_claim(self) -> None:
        """Messages under other claims keep their counts."""
        ids = await self.post("1", "2")
        first = await self.claim(limit=1)
        second = await self.claim(limit=1)
        await self.undo(first)
        self.assertEqual(await self.listed(), ids[:1])
        self.assertEqual(await self.counts(), [0, 1])
        self.assertEqual(
            await self.store.get_claim(ORDERS, second.id, self.now), second
        )

    async def test_what_it_still_holds(self) -> None:
        """Of a claim some of whose messages are deleted, the others are taken back."""
        ids = await self.post("1", "2")
        claim = await self.claim()
        await self.delete(ids[0])
        await self.undo(claim)
        self.assertEqual(await self.counts(), [0])
        self.assertEqual(await self.listed(), ids[1:])

    async def test_twice(self) -> None:
        """A claim is taken back once, also when the messages are claimed again."""
        await self.post("1")
        first = await self.claim()
        await self.undo(first)
        await self.undo(first)
        self.assertEqual(await self.counts(), [0])
        second = await self.claim()
        await self.undo(first)
        self.assertEqual(
            await self.store.get_claim(ORDERS, second.id, self.now), second
        )

    async def test_claims_that_ended(self) -> None:
        """A claim that ended by itself counts, and so do released ones."""
        await self.post("1")
        ended = await self.claim(ttl=60)
        self.wait(60)
        await self.undo(ended)
        self.assertEqual(await self.counts(), [1])
        released = await self.claim()
        await self.store.release(ORDERS, released.id, self.now)
        await self.undo(released)
        self.assertEqual(await self.counts(), [2])

    async def test_unknown_claims_are_no_error(self) -> None:
        """Taking back what is no claim here changes nothing and does not fail."""
        await self.post("1")
        claim = await self.claim()
        for unknown in (UNKNOWN_ID, forged(claim.id), *MALFORMED_IDS):
            await self.store.release(ORDERS, unknown, self.now, undelivered=True)
        await self.store.release(RETURNS, claim.id, self.now, undelivered=True)
        self.assertEqual(await self.store.get_claim(ORDERS, claim.id, self.now), claim)

    async def test_nobody_is_worn_out(self) -> None:
        """Claims that reached nobody bring no message nearer to the dead letters."""
        rule = DeadLetterRule(GRAVEYARD, max_claim_count=1)
        ids = await self.post("1")
        for _ in range(3):
            claim = await self.claim(rule=rule)
            self.assertEqual(ids_of(claim.messages), ids)
            await self.undo(claim)
        claim = await self.claim(rule=rule)
        await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.attempt(rule=rule), Claimed(None, 1))

    async def test_many(self) -> None:
        """All messages of a large claim are taken back."""
        await self.post(*["1"] * 1500)
        await self.undo(await self.claim(limit=1500))
        self.assertEqual(await self.counts(), [0] * 1500)


class DeadLetterTests(StoreTests):
    """What a claim moves away instead of handing it out again."""

    rule = DeadLetterRule(GRAVEYARD, max_claim_count=2)

    async def wear_out(self, deliveries: int = 2) -> None:
        """Hand everything out so often, and take it back."""
        for _ in range(deliveries):
            claim = await self.claim(rule=self.rule)
            await self.store.release(ORDERS, claim.id, self.now)

    async def test_move(self) -> None:
        """After so many deliveries the next attempt moves the message."""
        (posted,) = await self.post("1")
        for _ in range(2):
            await self.claim(ttl=60, rule=self.rule)
            self.wait(60)
        self.assertEqual(await self.attempt(rule=self.rule), Claimed(None, 1))
        await self.assert_nothing_shown()
        (moved,) = await self.page(GRAVEYARD)
        self.assertNotEqual(moved.id, posted)
        self.assertEqual(moved, Message(moved.id, b"1", 3600, START))
        self.assertEqual(await self.attempt(rule=self.rule), Claimed(None, 0))

    async def test_polite_workers(self) -> None:
        """Release and renewal in between do not save a message from the move."""
        await self.post("1")
        for _ in range(2):
            claim = await self.claim(rule=self.rule)
            await self.store.renew(ORDERS, claim.id, 300, 60, self.now)
            await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.attempt(rule=self.rule), Claimed(None, 1))

    async def test_first_delivery_counts(self) -> None:
        """With a bound of one the second attempt moves the message."""
        rule = DeadLetterRule(GRAVEYARD, max_claim_count=1)
        await self.post("1")
        claim = await self.claim(rule=rule)
        await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.attempt(rule=rule), Claimed(None, 1))

    async def test_rule_that_comes_later(self) -> None:
        """Deliveries made without a rule count when there is one."""
        await self.post("1")
        for _ in range(3):
            claim = await self.claim()
            await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.attempt(rule=self.rule), Claimed(None, 1))

    async def test_some_of_a_batch(self) -> None:
        """The others are handed out; the limit counts both."""
        worn = await self.post("1", "2")
        await self.wear_out()
        fresh = await self.post("3", "4", "5")
        claimed = await self.attempt(limit=4, rule=self.rule)
        assert claimed.claim is not None
        self.assertEqual(claimed.dead_lettered, 2)
        self.assertEqual(ids_of(claimed.claim.messages), fresh[:2])
        self.assertEqual(
            await self.store.get_claim(ORDERS, claimed.claim.id, self.now),
            claimed.claim,
        )
        self.assertEqual(await self.store.get(ORDERS, worn, self.now), [])
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (2, 1))
        stats = await self.store.stats(GRAVEYARD, self.now)
        self.assertEqual((stats.claimed, stats.free), (0, 2))

    async def test_end_of_the_target(self) -> None:
        """Dead letters are appended to the target in their order."""
        earlier = await self.post("earlier", to=GRAVEYARD)
        await self.post("1", "2", "3")
        await self.wear_out()
        await self.attempt(rule=self.rule)
        moved = await self.page(GRAVEYARD, after=earlier[0])
        self.assertEqual([m.body for m in moved], [b"1", b"2", b"3"])
        later = await self.post("later", to=GRAVEYARD)
        self.assertEqual(await self.listed(GRAVEYARD), earlier + ids_of(moved) + later)

    async def test_free_in_the_target(self) -> None:
        """A dead letter can be claimed at once, and is counted anew."""
        await self.post("1")
        await self.wear_out()
        await self.attempt(rule=self.rule)
        claim = await self.claim(of=GRAVEYARD)
        self.assertEqual([m.claim_count for m in claim.messages], [1])
        await self.store.release(GRAVEYARD, claim.id, self.now)
        self.assertEqual(len(await self.store.pop(GRAVEYARD, 1, self.now)), 1)
        await self.assert_nothing_shown(GRAVEYARD)

    async def test_remaining_life(self) -> None:
        """Without a ttl of the rule a dead letter keeps its expiry."""
        await self.post("1", ttl=600)
        await self.wear_out()
        self.wait(500)
        self.assertEqual(await self.attempt(rule=self.rule), Claimed(None, 1))
        self.assertEqual([m.ttl for m in await self.page(GRAVEYARD)], [600])
        self.now += 99_999
        self.assertEqual(len(await self.page(GRAVEYARD)), 1)
        self.now += 1
        await self.assert_nothing_shown(GRAVEYARD)

    async def test_life_of_the_rule(self) -> None:
        """A ttl of the rule counts from the move, longer or shorter than before."""
        for ttl in (60, 9000):
            rule = DeadLetterRule(GRAVEYARD, max_claim_count=2, ttl=ttl)
            await self.post("1", ttl=600)
            created = self.now
            await self.wear_out()
            self.wait(500)
            self.assertEqual(await self.attempt(rule=rule), Claimed(None, 1))
            (moved,) = await self.page(GRAVEYARD)
            self.assertEqual(moved, Message(moved.id, b"1", ttl, created))
            self.now += ttl * 1000 - 1
            self.assertEqual(await self.page(GRAVEYARD), [moved])
            self.now += 1
            await self.assert_nothing_shown(GRAVEYARD)

    async def test_no_extension(self) -> None:
        """The attempt that moves a message does not prolong its life."""
        await self.post("1", ttl=100)
        for _ in range(2):
            claim = await self.claim(ttl=60)
            await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.attempt(ttl=900, rule=self.rule), Claimed(None, 1))
        self.assertEqual([m.ttl for m in await self.page(GRAVEYARD)], [100])
        self.wait(100)
        await self.assert_nothing_shown(GRAVEYARD)

    async def test_poster_is_kept(self) -> None:
        """A dead letter is hidden from the client that posted it."""
        await self.post("1", client="alice")
        await self.wear_out()
        await self.attempt(rule=self.rule)
        self.assertEqual(await self.page(GRAVEYARD, hide_client="alice"), [])
        self.assertEqual(len(await self.page(GRAVEYARD, hide_client="bob")), 1)

    async def test_old_id_is_a_marker(self) -> None:
        """The id that a dead letter had still marks its place where it was."""
        (worn,) = await self.post("1")
        await self.wear_out()
        rest = await self.post("2")
        await self.attempt(limit=1, rule=self.rule)
        self.assertEqual(await self.listed(after=worn), rest)

    async def test_target_of_its_own(self) -> None:
        """A dead letter can be moved on from the target by the rule of the target."""
        await self.post("1")
        await self.wear_out()
        await self.attempt(rule=self.rule)
        onward = DeadLetterRule(RETURNS, max_claim_count=1)
        claim = await self.claim(of=GRAVEYARD, rule=onward)
        await self.store.release(GRAVEYARD, claim.id, self.now)
        self.assertEqual(
            await self.attempt(of=GRAVEYARD, rule=onward), Claimed(None, 1)
        )
        self.assertEqual([m.body for m in await self.page(RETURNS)], [b"1"])
