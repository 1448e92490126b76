"""Posting, reading and deleting messages, as every message store does it."""

from __future__ import annotations

from collections.abc import Sequence

from mqsvc.messaging.errors import MessageIsClaimed, MessageNotClaimed
from mqsvc.messaging.model import Message, NewMessage
from tests.storage.store_case import (
    MALFORMED_IDS,
    ORDERS,
    RETURNS,
    START,
    UNKNOWN_ID,
    StoreTests,
    forged,
    ids_of,
    position_of,
)


class PostingTests(StoreTests):
    """What is accepted, and its order."""

    async def test_ids_answer_in_order(self) -> None:
        """A post answers with one id for each message, in the order posted."""
        ids = await self.post("1", "2", "3")
        bodies = {message.id: message.body for message in await self.existing()}
        self.assertEqual([bodies[each] for each in ids], [b"1", b"2", b"3"])

    async def test_ids_are_positions(self) -> None:
        """Ids are well formed and their positions grow with each message."""
        ids = await self.post("1", "2") + await self.post("3")
        positions = [position_of(each) for each in ids]
        self.assertEqual(positions, sorted(set(positions)))

    async def test_message_as_posted(self) -> None:
        """A message shows its body, ttl and moment of acceptance, and no claim."""
        (posted,) = await self.post('{"a": [1, null]}', ttl=77)
        self.assertEqual(
            await self.page(), [Message(posted, b'{"a": [1, null]}', 77, START)]
        )

    async def test_bodies_are_kept_exactly(self) -> None:
        """Bodies of any content and size come back byte by byte."""
        bodies = (
            "null",
            '""',
            '"\\u0000 é 漢 🎈 \' %s {0} \\""',
            '"' + "x" * 300_000 + '"',
        )
        await self.post(*bodies)
        self.assertEqual(
            [message.body.decode() for message in await self.page()], list(bodies)
        )

    async def test_posts_follow_one_another(self) -> None:
        """Messages of a later post come after those of an earlier one."""
        first = await self.post("1", "2")
        self.wait(1)
        second = await self.post("3")
        self.assertEqual(await self.listed(), first + second)

    async def test_order_within_a_millisecond(self) -> None:
        """Posts at one moment keep the order in which they were accepted."""
        posted = [each for _ in range(20) for each in await self.post("1", "2")]
        self.assertEqual(await self.listed(), posted)

    async def test_order_when_clock_goes_back(self) -> None:
        """A poster whose clock is behind still appends at the end."""
        first = await self.post("1")
        self.wait(-60)
        second = await self.post("2")
        self.wait(60)
        self.assertEqual(await self.listed(), first + second)

    async def test_large_batch(self) -> None:
        """A post of very many messages is kept whole and in order."""
        bodies = [str(number) for number in range(9000)]
        ids = await self.post(*bodies)
        existing = await self.existing()
        self.assertEqual(ids_of(existing), ids)
        self.assertEqual([message.body.decode() for message in existing], bodies)

    async def test_each_message_has_its_own_times(self) -> None:
        """Messages of one post may differ in ttl and delay."""
        new = [NewMessage(b"1", 60), NewMessage(b"2", 120, 30), NewMessage(b"3", 180)]
        ids = await self.store.post(ORDERS, new, "alice", self.now)
        self.assertEqual(await self.listed(), [ids[0], ids[2]])
        self.wait(60)
        self.assertEqual(await self.listed(), ids[1:])
        self.wait(60)
        self.assertEqual(await self.listed(), ids[2:])

    async def test_longest_client_id(self) -> None:
        """A client id may be any text up to 64 characters."""
        client = "'é漢🎈%_\" " * 8
        (posted,) = await self.post("1", client=client)
        self.assertEqual(await self.listed(), [posted])
        self.assertEqual(await self.listed(hide_client=client), [])
        self.assertEqual(await self.listed(hide_client=client[:-1]), [posted])


class PagingTests(StoreTests):
    """Pages: filters, limits and markers."""

    async def test_never_posted_to(self) -> None:
        """A destination that was never posted to reads as empty."""
        await self.assert_nothing_shown()

    async def test_limit(self) -> None:
        """A page holds the oldest messages up to the limit."""
        ids = await self.post("1", "2", "3")
        self.assertEqual(await self.listed(limit=1), ids[:1])
        self.assertEqual(await self.listed(limit=2), ids[:2])
        self.assertEqual(await self.listed(limit=3), ids)
        self.assertEqual(await self.listed(limit=4), ids)

    async def test_following_markers(self) -> None:
        """Going on from the last id seen visits each message once, and ends."""
        ids = await self.post(*"1234567")
        pages, after = [], None
        while page := await self.listed(limit=3, after=after):
            pages.append(page)
            after = page[-1]
        self.assertEqual(pages, [ids[:3], ids[3:6], ids[6:]])

    async def test_following_markers_while_posting(self) -> None:
        """What is posted while a reader pages is met at the end."""
        first = await self.post("1", "2")
        page = await self.listed(limit=2)
        second = await self.post("3")
        self.assertEqual(await self.listed(after=page[-1]), second)
        self.assertEqual(await self.listed(after=second[-1]), [])
        third = await self.post("4")
        self.assertEqual(await self.listed(after=second[-1]), third)
        self.assertEqual(await self.listed(after=first[0]), first[1:] + second + third)

    async def test_marker_of_a_deleted_message(self) -> None:
        """The id of a deleted message still marks its place."""
        ids = await self.post("1", "2", "3")
        await self.delete(*ids[:2])
        self.assertEqual(await self.listed(after=ids[0]), ids[2:])
        self.assertEqual(await self.listed(after=ids[1]), ids[2:])

    async def test_marker_of_a_popped_message(self) -> None:
        """The id of a popped message still marks its place."""
        ids = await self.post("1", "2", "3")
        (popped,) = await self.store.pop(ORDERS, 1, self.now)
        self.assertEqual(await self.listed(after=popped.id), ids[1:])

    async def test_marker_of_an_expired_message(self) -> None:
        """The id of an expired message marks its place, swept or not."""
        (early,) = await self.post("1")
        (short,) = await self.post("2", ttl=60)
        (late,) = await self.post("3")
        self.wait(60)
        self.assertEqual(await self.listed(after=short), [late])
        await self.sweep_all()
        self.assertEqual(await self.listed(after=short), [late])
        self.assertEqual(await self.listed(), [early, late])

    async def test_marker_of_a_claimed_message(self) -> None:
        """The id of a claimed message marks its place."""
        ids = await self.post("1", "2")
        await self.claim(limit=1)
        self.assertEqual(await self.listed(after=ids[0]), ids[1:])

    async def test_unknown_marker(self) -> None:
        """A well-formed id that nobody has is a place like any other."""
        ids = await self.post("1", "2")
        self.assertEqual(await self.listed(after=UNKNOWN_ID), ids)
        self.assertEqual(await self.listed(after="0" * 24), ids)
        self.assertEqual(await self.listed(after=forged(ids[0])), ids[1:])
        self.assertEqual(await self.listed(after="f" * 24), [])

    async def test_foreign_marker(self) -> None:
        """The id of a message of another destination marks its position here."""
        ids = await self.post("1", "2", "3")
        foreign = await self.post("4", "5", to=RETURNS)
        for marker in foreign:
            expected = [i for i in ids if position_of(i) > position_of(marker)]
            self.assertEqual(await self.listed(after=marker), expected)

    async def test_malformed_marker(self) -> None:
        """A marker that is no id is behind everything."""
        await self.post("1", "2")
        for marker in MALFORMED_IDS:
            self.assertEqual(await self.listed(after=marker), [], repr(marker))

    async def test_hide_client(self) -> None:
        """A client's own messages are left out before the page is cut."""
        for _ in range(3):
            await self.post("mine", client="alice")
            await self.post("other", client="bob")
        page = await self.page(limit=2, hide_client="alice")
        self.assertEqual([message.body for message in page], [b"other", b"other"])
        rest = await self.page(limit=2, hide_client="alice", after=page[-1].id)
        self.assertEqual([message.body for message in rest], [b"other"])
        self.assertEqual(len(await self.page(hide_client="carol")), 6)

    async def test_claimed_are_hidden(self) -> None:
        """Claimed messages are left out before the page is cut, unless asked for."""
        ids = await self.post(*"12345")
        claim = await self.claim(limit=2)
        self.assertEqual(await self.listed(limit=2), ids[2:4])
        page = await self.page(limit=3, include_claimed=True)
        self.assertEqual(ids_of(page), ids[:3])
        self.assertEqual([m.claim_id for m in page], [claim.id, claim.id, None])

    async def test_delayed_are_hidden(self) -> None:
        """Delayed messages are left out before the page is cut, unless asked for."""
        delayed = await self.post("1", "2", delay=10)
        free = await self.post("3", "4", "5")
        self.assertEqual(await self.listed(limit=2), free[:2])
        self.assertEqual(
            await self.listed(limit=3, include_delayed=True), delayed + free[:1]
        )

    async def test_filters_are_independent(self) -> None:
        """Each filter lets through its own state and no other."""
        claimed = await self.post("1")
        await self.claim()
        delayed = await self.post("2", delay=10)
        free = await self.post("3", client="bob")
        self.assertEqual(await self.listed(), free)
        self.assertEqual(await self.listed(include_claimed=True), claimed + free)
        self.assertEqual(await self.listed(include_delayed=True), delayed + free)
        self.assertEqual(ids_of(await self.existing()), claimed + delayed + free)
        self.assertEqual(
            await self.listed(
                include_claimed=True, include_delayed=True, hide_client="bob"
            ),
            claimed + delayed,
        )

    async def test_states_are_merged_in_order(self) -> None:
        """A page of all states is in order of position, whatever the states."""
        ids = []
        for _ in range(4):
            ids += await self.post("claimed")
            await self.claim()
            ids += await self.post("delayed", delay=10)
        ids += await self.post("free", "free")
        self.assertEqual(ids_of(await self.existing()), ids)
        pages, after = [], None
        while page := await self.listed(
            limit=3, after=after, include_claimed=True, include_delayed=True
        ):
            pages += page
            after = page[-1]
        self.assertEqual(pages, ids)


class GetTests(StoreTests):
    """Messages by id."""

    async def test_order_asked_for(self) -> None:
        """Messages come in the order of the ids, each once."""
        one, two, three = await self.post("1", "2", "3")
        found = await self.store.get(ORDERS, [three, one, three, two, one], self.now)
        self.assertEqual(ids_of(found), [three, one, two])
        self.assertEqual([message.body for message in found], [b"3", b"1", b"2"])

    async def test_no_ids(self) -> None:
        """Nothing asked for is nothing found."""
        await self.post("1")
        self.assertEqual(await self.store.get(ORDERS, [], self.now), [])

    async def test_any_state(self) -> None:
        """Free, delayed and claimed messages are found, as they are."""
        (claimed,) = await self.post("1")
        claim = await self.claim()
        (delayed,) = await self.post("2", delay=10)
        (free,) = await self.post("3")
        found = await self.store.get(ORDERS, [free, delayed, claimed], self.now)
        self.assertEqual(
            [(m.id, m.claim_id, m.claim_count) for m in found],
            [(free, None, 0), (delayed, None, 0), (claimed, claim.id, 1)],
        )

    async def test_what_is_left_out(self) -> None:
        """Unknown, malformed, deleted, expired and foreign ids are left out."""
        kept, deleted = await self.post("1", "2")
        (expired,) = await self.post("3", ttl=60)
        (foreign,) = await self.post("4", to=RETURNS)
        await self.delete(deleted)
        self.wait(60)
        asked = [UNKNOWN_ID, *MALFORMED_IDS, deleted, expired, foreign, kept]
        self.assertEqual(ids_of(await self.store.get(ORDERS, asked, self.now)), [kept])

    async def test_ids_cannot_be_guessed(self) -> None:
        """The right position with another random part finds nothing."""
        (posted,) = await self.post("1")
        self.assertEqual(await self.store.get(ORDERS, [forged(posted)], self.now), [])
        found = await self.store.get(ORDERS, [forged(posted), posted], self.now)
        self.assertEqual(ids_of(found), [posted])

    async def test_empty_destination(self) -> None:
        """Nothing is found in a destination that was never posted to."""
        (posted,) = await self.post("1")
        self.assertEqual(await self.store.get(RETURNS, [posted], self.now), [])


class DeleteTests(StoreTests):
    """Deleting by id, claims not looked at."""

    async def test_delete(self) -> None:
        """Deleted messages are gone from every view, the others are not."""
        one, two, three = await self.post("1", "2", "3")
        await self.delete(three, one)
        self.assertEqual(ids_of(await self.existing()), [two])
        self.assertEqual(await self.store.get(ORDERS, [one, three], self.now), [])
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)
        self.assertEqual(ids_of((await self.claim()).messages), [two])

    async def test_unknown_ids_are_no_error(self) -> None:
        """Unknown, malformed and repeated ids change nothing and do not fail."""
        one, two = await self.post("1", "2")
        await self.delete(UNKNOWN_ID, *MALFORMED_IDS, forged(one), two, two)
        self.assertEqual(await self.listed(), [one])
        await self.delete(two)
        await self.delete()
        self.assertEqual(await self.listed(), [one])
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)

    async def test_never_posted_to(self) -> None:
        """Deleting from a destination that does not exist is no error."""
        (posted,) = await self.post("1")
        await self.store.delete(RETURNS, [posted], self.now)
        await self.store.delete(RETURNS, [posted], self.now, [])
        self.assertEqual(await self.listed(), [posted])

    async def test_delayed(self) -> None:
        """A delayed message can be deleted, and does not appear later."""
        (posted,) = await self.post("1", delay=10)
        await self.delete(posted)
        await self.assert_nothing_shown()
        self.wait(10)
        await self.assert_nothing_shown()

    async def test_claimed(self) -> None:
        """A claimed message can be deleted, and its claim goes on."""
        one, two = await self.post("1", "2")
        claim = await self.claim()
        await self.delete(one)
        self.assertEqual(
            ids_of((await self.store.get_claim(ORDERS, claim.id, self.now)).messages),
            [two],
        )
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (1, 0))
        await self.store.release(ORDERS, claim.id, self.now)
        self.assertEqual(await self.listed(), [two])

    async def test_expired(self) -> None:
        """Deleting what is expired is no error, and counts nothing twice."""
        (short,) = await self.post("1", ttl=60)
        (kept,) = await self.post("2")
        self.wait(60)
        await self.delete(short)
        await self.delete(short, claims=[])
        await self.sweep_all()
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)
        self.assertEqual(await self.listed(), [kept])


class DeleteWithClaimsTests(StoreTests):
    """Deleting by id with the claims that are shown."""

    async def assert_refused(
        self, error: type[Exception], *message_ids: str, claims: Sequence[str]
    ) -> None:
        """The deletion fails so, and nothing is deleted."""
        before = await self.existing()
        with self.assertRaises(error):
            await self.delete(*message_ids, claims=claims)
        self.assertEqual(await self.existing(), before)

    async def test_free_without_claim(self) -> None:
        """Free and delayed messages are deleted when no claim is shown."""
        free = await self.post("1")
        delayed = await self.post("2", delay=10)
        await self.delete(*free, *delayed, claims=[])
        self.assertEqual(await self.existing(), [])

    async def test_claimed_without_claim(self) -> None:
        """One claimed message refuses the deletion of all when no claim is shown."""
        ids = await self.post("1", "2", "3")
        await self.claim(limit=2)
        await self.assert_refused(MessageIsClaimed, *ids, claims=[])
        await self.assert_refused(MessageIsClaimed, ids[2], ids[1], claims=[])
        await self.delete(ids[2], claims=[])
        self.assertEqual(ids_of(await self.existing()), ids[:2])

    async def test_right_claim(self) -> None:
        """The claim that holds the messages deletes them."""
        ids = await self.post("1", "2", "3")
        claim = await self.claim(limit=2)
        await self.delete(*ids[:2], claims=[claim.id])
        self.assertEqual(ids_of(await self.existing()), ids[2:])

    async def test_several_claims(self) -> None:
        """Each message may be under any one of the claims shown."""
        ids = await self.post("1", "2")
        first = await self.claim(limit=1)
        second = await self.claim(limit=1)
        await self.delete(*ids, claims=[second.id, first.id])
        self.assertEqual(await self.existing(), [])

    async def test_right_claim_among_dead_ones(self) -> None:
        """Claims shown that do not exist do not matter beside the right one."""
        ids = await self.post("1")
        claim = await self.claim()
        await self.delete(*ids, claims=["", UNKNOWN_ID, claim.id])
        self.assertEqual(await self.existing(), [])

    async def test_wrong_live_claim(self) -> None:
        """A live claim deletes nothing that another one holds."""
        ids = await self.post("1", "2")
        await self.claim(limit=1)
        other = await self.claim(limit=1)
        await self.assert_refused(MessageIsClaimed, ids[0], claims=[other.id])
        await self.assert_refused(MessageIsClaimed, *ids, claims=[other.id])
        await self.assert_refused(
            MessageIsClaimed, ids[0], claims=[UNKNOWN_ID, other.id]
        )

    async def test_emptied_claim_is_live(self) -> None:
        """A claim all of whose messages are deleted is still a live one to show."""
        ids = await self.post("1", "2")
        await self.claim(limit=1)
        other = await self.claim(limit=1)
        await self.delete(ids[1], claims=[other.id])
        await self.assert_refused(MessageIsClaimed, ids[0], claims=[other.id])

    async def test_claims_that_do_not_exist(self) -> None:
        """Unknown and malformed claims hold nothing."""
        ids = await self.post("1", "2")
        await self.claim(limit=1)
        for dead in (UNKNOWN_ID, *MALFORMED_IDS):
            await self.assert_refused(MessageNotClaimed, ids[0], claims=[dead])
            await self.assert_refused(MessageNotClaimed, ids[1], claims=[dead])

    async def test_expired_claim(self) -> None:
        """A claim that has ended deletes nothing, also not what still carries it."""
        ids = await self.post("1")
        expired = await self.claim(ttl=60)
        self.wait(60)
        self.assertEqual((await self.message(ids[0])).claim_id, expired.id)
        await self.assert_refused(MessageNotClaimed, *ids, claims=[expired.id])
        await self.claim()
        await self.assert_refused(MessageNotClaimed, *ids, claims=[expired.id])

    async def test_after_the_claim_expired(self) -> None:
        """What was claimed is free to delete without a claim once the claim ended."""
        ids = await self.post("1")
        await self.claim(ttl=60)
        self.wait(60)
        await self.delete(*ids, claims=[])
        self.assertEqual(await self.existing(), [])

    async def test_released_claim(self) -> None:
        """A released claim deletes nothing."""
        ids = await self.post("1")
        claim = await self.claim()
        await self.store.release(ORDERS, claim.id, self.now)
        await self.assert_refused(MessageNotClaimed, *ids, claims=[claim.id])

    async def test_free_message_with_live_claim(self) -> None:
        """A live claim deletes no message that is under none."""
        ids = await self.post("1", "2")
        claim = await self.claim(limit=1)
        await self.assert_refused(MessageNotClaimed, ids[1], claims=[claim.id])
        await self.assert_refused(MessageNotClaimed, *ids, claims=[claim.id])

    async def test_claim_of_another_destination(self) -> None:
        """A claim of another destination does not exist here."""
        ids = await self.post("1")
        await self.claim()
        await self.post("2", to=RETURNS)
        foreign = await self.claim(of=RETURNS)
        await self.assert_refused(MessageNotClaimed, *ids, claims=[foreign.id])

    async def test_unknown_messages_with_any_claim(self) -> None:
        """Messages that do not exist are no error, whatever claim is shown."""
        (posted,) = await self.post("1")
        claim = await self.claim()
        for claims in ([], [claim.id], [UNKNOWN_ID], [""]):
            await self.delete(UNKNOWN_ID, forged(posted), "", claims=claims)
        self.assertEqual(ids_of(await self.existing()), [posted])


class PopTests(StoreTests):
    """Taking and deleting in one step."""

    async def test_oldest_first(self) -> None:
        """The oldest messages are taken, in order, up to the limit."""
        ids = await self.post("1", "2", "3")
        popped = await self.store.pop(ORDERS, 2, self.now)
        self.assertEqual(ids_of(popped), ids[:2])
        self.assertEqual([message.body for message in popped], [b"1", b"2"])
        self.assertEqual(ids_of(await self.existing()), ids[2:])
        self.assertEqual(ids_of(await self.store.pop(ORDERS, 2, self.now)), ids[2:])
        self.assertEqual(await self.store.pop(ORDERS, 2, self.now), [])
        await self.assert_nothing_shown()

    async def test_only_claimable(self) -> None:
        """Claimed and delayed messages are passed over."""
        await self.post("claimed")
        await self.claim()
        await self.post("delayed", delay=10)
        (free,) = await self.post("free")
        self.assertEqual(ids_of(await self.store.pop(ORDERS, 9, self.now)), [free])
        self.assertEqual(len(await self.existing()), 2)

    async def test_after_a_claim(self) -> None:
        """What a claim let go is popped in its place, with its count."""
        ids = await self.post("1", "2")
        expired = await self.claim(limit=1, ttl=60)
        self.wait(60)
        popped = await self.store.pop(ORDERS, 2, self.now)
        self.assertEqual(
            [(m.id, m.claim_id, m.claim_count) for m in popped],
            [(ids[0], expired.id, 1), (ids[1], None, 0)],
        )
        await self.assert_nothing_shown()
