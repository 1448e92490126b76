"""The behaviour of a message store, to which every driver is held.

One mixin per concern; :func:`make_store_tests` turns them into test cases of one
driver. The tests see a store only through its interface, and time only as
``self.now``, which they move themselves.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
)
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
    StoreUnavailable,
)
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    Message,
    NewMessage,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.ids import format_id, parse_id
from mqsvc.storage.interfaces import IMessageStore

ORDERS = Destination("tenant", Kind.QUEUE, "orders")
RETURNS = Destination("tenant", Kind.QUEUE, "returns")
GRAVEYARD = Destination("tenant", Kind.QUEUE, "graveyard")

Item = TypeVar("Item")

START = 1_700_000_000_123
"""Where ``self.now`` begins: any moment that is no whole second."""

UNKNOWN_ID = format_id(START * 1000 - 1, 7)
"""Well formed, and older than any message of the tests."""

MALFORMED_IDS = (
    "",
    "3",
    "x" * 24,
    UNKNOWN_ID + "0",
    UNKNOWN_ID[:-1],
    UNKNOWN_ID + "\n",
    " " + UNKNOWN_ID[1:],
    "A" + UNKNOWN_ID[1:],
    "-" + UNKNOWN_ID[1:],
    "\u0663" * 24,
)


class OpenStore(Protocol):
    """Makes a store for one test, and clears away after it."""

    def __call__(self, testcase: TestCase, path: str | None = None) -> IMessageStore:
        """A store that is not started yet.

        :param path: where it keeps its messages: the same path is the same messages,
            also while another store has it open. None is a new and empty place.
        """


if TYPE_CHECKING:
    Mixin = TestCase
else:
    # The mixins are no test cases, so that trial does not run them by themselves.
    Mixin = object


class StoreTests(Mixin):
    """What the tests of all concerns are written with."""

    open_store: OpenStore
    timeout = 30
    """Seconds after which a store that does not answer fails its test."""

    def setUp(self) -> None:
        self.now = START
        self.store = self.start(self.open_store(self))

    def start(self, store: IMessageStore) -> IMessageStore:
        store.startService()
        self.addCleanup(self.stop, store)
        return store

    async def stop(self, store: IMessageStore) -> None:
        if store.running:
            await maybeDeferred(store.stopService)

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds * 1000

    async def post(
        self,
        *bodies: str,
        to: Destination = ORDERS,
        ttl: int = 3600,
        delay: int = 0,
        client: str = "alice",
    ) -> list[str]:
        new = [NewMessage(body.encode(), ttl, delay) for body in bodies]
        return await self.store.post(to, new, client, self.now)

    async def page(
        self, of: Destination = ORDERS, limit: int = 100, **filters: Any
    ) -> list[Message]:
        return await self.store.page(of, Selection(limit, **filters), self.now)

    async def listed(
        self, of: Destination = ORDERS, limit: int = 100, **filters: Any
    ) -> list[str]:
        return ids_of(await self.page(of, limit, **filters))

    async def existing(self, of: Destination = ORDERS) -> list[Message]:
        """All messages, in any state."""
        return await self.page(
            of, limit=20_000, include_claimed=True, include_delayed=True
        )

    async def attempt(
        self,
        limit: int = 20,
        ttl: int = 300,
        grace: int = 60,
        of: Destination = ORDERS,
        rule: DeadLetterRule | None = None,
    ) -> Claimed:
        """Try to claim."""
        return await self.store.claim(of, ttl, grace, limit, self.now, rule)

    async def claim(self, **options: Any) -> Claim:
        """Claim something."""
        claimed = await self.attempt(**options)
        assert claimed.claim is not None, "there was nothing to claim"
        return claimed.claim

    async def message(self, message_id: str, of: Destination = ORDERS) -> Message:
        """One message that exists."""
        (found,) = await self.store.get(of, [message_id], self.now)
        return found

    async def delete(
        self, *message_ids: str, claims: Sequence[str] | None = None
    ) -> None:
        await self.store.delete(ORDERS, message_ids, self.now, claims)

    async def stored(
        self, of: Destination = ORDERS, limit: int = 20_000, after: str | None = None
    ) -> list[StoredMessage]:
        """Everything, as it is taken to another store."""
        return await self.store.stored(of, limit, after, self.now)

    async def restore(
        self, *messages: StoredMessage, to: Destination = RETURNS
    ) -> list[str]:
        """Bring what another store kept."""
        return await self.store.restore(to, messages, self.now)

    async def sweep_all(self) -> None:
        """Sweep until there is nothing left to do."""
        for _ in range(100):
            if not await self.store.sweep(self.now):
                return
        self.fail("sweep always says that there may be more")

    async def assert_nothing_shown(self, of: Destination = ORDERS) -> None:
        """No view of a destination has anything in it."""
        self.assertEqual(await self.existing(of), [])
        self.assertEqual(await self.stored(of), [])
        self.assertEqual(await self.store.stats(of, self.now), Stats())
        self.assertIsNone(await self.store.next_ready(of, self.now))
        self.assertEqual(await self.store.pop(of, 100, self.now), [])
        self.assertEqual(await self.attempt(of=of), Claimed(None, 0))

    def test_interface(self) -> None:
        """The driver provides IMessageStore."""
        self.assertTrue(verifyObject(IMessageStore, self.store))


def ids_of(messages: Sequence[Message]) -> list[str]:
    """The ids, in the same order."""
    return [message.id for message in messages]


def position_of(message_id: str) -> int:
    """The place that an id stands for."""
    parsed = parse_id(message_id)
    assert parsed is not None, f"{message_id!r} is not a message id"
    return parsed[0]


def forged(message_id: str) -> str:
    """The id of the same position with another random part."""
    parsed = parse_id(message_id)
    assert parsed is not None, f"{message_id!r} is not a message id"
    return format_id(parsed[0], parsed[1] ^ 1)


def running(*coroutines: Coroutine[Any, Any, Any]) -> list[Deferred[Any]]:
    """Start all of them without waiting for any."""
    return [Deferred.fromCoroutine(each) for each in coroutines]


def flat(lists: Iterable[Sequence[Item]]) -> list[Item]:
    """One list of all."""
    return [item for each in lists for item in each]


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


CONCERNS = (
    PostingTests,
    PagingTests,
    GetTests,
    DeleteTests,
    DeleteWithClaimsTests,
    PopTests,
    ClaimTests,
    ExtensionTests,
    RenewalTests,
    ReleaseTests,
    UndeliveredTests,
    ExpiryTests,
    DelayTests,
    DeadLetterTests,
    StatsTests,
    ClearTests,
    IsolationTests,
    NextReadyTests,
    StoredTests,
    RestoreTests,
    SweepTests,
    ConcurrencyTests,
    RestartTests,
    NeighbourTests,
)


def make_store_tests(
    name: str, open_store: OpenStore, skip: str | None = None
) -> dict[str, type[TestCase]]:
    """A test case for each concern, to be put among the globals of a test module.

    :param name: of the driver; the cases are called ``NAME_PostingTests`` and so on.
    :param open_store: a function of that test module, which the cases belong to.
    :param skip: why the driver cannot be tested here, if so.
    """
    cases: dict[str, type[TestCase]] = {}
    for concern in CONCERNS:
        title = f"{name}_{concern.__name__}"
        attributes: dict[str, Any] = {
            "open_store": staticmethod(open_store),
            "__module__": open_store.__module__,
            "__qualname__": title,
            "__doc__": concern.__doc__,
        }
        if skip is not None:
            attributes["skip"] = skip
        cases[title] = type(title, (concern, TestCase), attributes)
    return cases
