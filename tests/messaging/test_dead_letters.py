"""Dead letters that a store cannot move by itself: other pools, and encryption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.messages import View
from mqsvc.messaging.model import Destination, Kind, StoredMessage
from tests.messaging.case import GRAVE, QUEUE, WORN_OUT
from tests.messaging.pooled import PooledTestCase
from tests.messaging.stores import Watched


class DeadLettersTestCase(PooledTestCase):
    """A queue in one pool and its dead-letter queue in another."""

    metadata: ClassVar[Mapping[str, Any]] = WORN_OUT
    target: ClassVar[Mapping[str, Any]] = {}

    def setUp(self) -> None:
        """Make both."""
        super().setUp()
        self.add_pool("a")
        self.add_flavor("f", "b")
        self.create(QUEUE, **self.metadata)
        self.create(GRAVE, _flavor="f", **self.target)
        self.listed()
        self.listed(GRAVE)
        self.watched.calls.clear()

    def store(self, pool: str) -> Watched:
        """The store of a pool."""
        return self.stores[f"test:{pool}"]

    def wear_out(self, *bodies: Any, **fields: Any) -> None:
        """Post messages that were delivered once."""
        self.post(*bodies, **fields)
        self.hand_out()

    def hand_out(self) -> None:
        """Deliver what there is, and take it back."""
        claim = self.claim()
        self.assertIsNotNone(claim)
        self.done(self.operations.claims.release(QUEUE, claim.id))
        self.watched.calls.clear()

    def stored(self, pool: str, destination: Destination) -> list[StoredMessage]:
        """All that a pool knows of a destination."""
        step = self.store(pool).stored(destination, 100, None, self.now)
        return self.successResultOf(step)

    def claimed_bodies(self, limit: int = 10) -> list[bytes]:
        """What a claim gives now."""
        claim = self.claim(limit)
        return [] if claim is None else [each.body for each in claim.messages]

    def is_at_rest(self) -> None:
        """Fail if anything is still claimed, waited for or remembered."""
        self.assertEqual(0, self.done(self.operations.queues.stats(QUEUE)).claimed)
        self.leaves_nothing()


class OtherPoolTests(DeadLettersTestCase):
    """The target lives in another pool."""

    def test_moves(self) -> None:
        """What is worn out goes to the end of the target, in its order, and no more."""
        self.post("there", to=GRAVE)
        self.wear_out("x", "y")
        self.assertIsNone(self.claim())
        self.assertEqual(1, self.watched.calls.count("release"))
        self.assertEqual([b'"there"', b'"x"', b'"y"'], self.in_pool("b", GRAVE))
        self.assertEqual([b'"there"', b'"x"', b'"y"'], self.listed(GRAVE))
        self.assertEqual([[], []], [self.in_pool("a"), self.in_pool("a", GRAVE)])
        self.is_at_rest()

    def test_the_rest_is_given(self) -> None:
        """The claim has what is not worn out, and can be used for it."""
        self.wear_out("x")
        self.post("y")
        claim = self.claim()
        self.assertEqual([b'"y"'], [each.body for each in claim.messages])
        shown = self.done(self.operations.claims.get(QUEUE, claim.id))
        self.assertEqual(claim.messages, shown.messages)
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))
        self.done(self.operations.claims.release(QUEUE, claim.id))
        self.is_at_rest()

    def test_more_behind(self) -> None:
        """Where all that was found moves away, the next ones are tried at once."""
        self.wear_out("x", "y")
        self.post("z")
        self.assertEqual([b'"z"'], self.claimed_bodies(limit=1))
        self.assertEqual([b'"x"', b'"y"'], self.in_pool("b", GRAVE))

    def test_deliveries(self) -> None:
        """It takes as many deliveries as the rule says, whatever it takes to give."""
        self.successResultOf(self.change(_max_claim_count=3))
        self.post("x")
        for _ in range(3):
            self.hand_out()
        self.assertEqual([b'"x"'], self.in_pool("a"))
        self.assertIsNone(self.claim())
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))

    def test_what_a_letter_is(self) -> None:
        """It is new in its place; creation, ttl and the end of its life stay."""
        self.wear_out("x", ttl=600)
        (before,) = self.stored("a", QUEUE)
        self.clock.advance(100)
        self.assertIsNone(self.claim())
        (after,) = self.stored("b", GRAVE)
        self.assertEqual((0, None), (after.message.claim_count, after.message.claim_id))
        self.assertIsNone(after.delayed_until)
        self.assertEqual(
            (before.message.created, 600, before.expires),
            (after.message.created, after.message.ttl, after.expires),
        )

    def test_ttl_of_the_rule(self) -> None:
        """The rule may give it another life from now on."""
        self.successResultOf(self.change(_dead_letter_queue_messages_ttl=900))
        self.wear_out("x", ttl=600)
        self.clock.advance(100)
        self.assertIsNone(self.claim())
        (after,) = self.stored("b", GRAVE)
        self.assertEqual((900, self.now + 900_000), (after.message.ttl, after.expires))

    def test_signal(self) -> None:
        """Who waits at the target gets it at once."""
        self.wear_out("x")
        listing = self.start(self.operations.messages.page(GRAVE, View(), 20))
        self.assertNoResult(listing)
        self.assertIsNone(self.claim())
        (message,) = self.successResultOf(listing).messages
        self.assertEqual(b'"x"', message.body)

    def test_missing_target(self) -> None:
        """A target that does not exist is made in the pool of the source."""
        self.done(self.operations.queues.delete(GRAVE))
        self.wear_out("x")
        self.add_pool("a", weight=0)
        self.assertIsNone(self.claim())
        self.assertEqual("a", self.pool_of(GRAVE))
        self.assertEqual([b'"x"'], self.listed(GRAVE))

    def test_missing_target_of_the_default_pool(self) -> None:
        """Where nobody else could find it, it is made in the default pool."""
        other = Destination("p1", Kind.QUEUE, "old")
        metadata = {"_max_claim_count": 1, "_dead_letter_queue": "new"}
        self.successResultOf(self.management.create(other, metadata, None))
        self.post("x", to=other)
        claims = self.operations.claims
        claim = self.done(claims.create(other, None, 1))
        self.done(claims.release(other, claim.id))
        self.assertIsNone(self.done(claims.create(other, None, 1)))
        target = Destination("p1", Kind.QUEUE, "new")
        self.assertIsNone(self.pool_of(target))
        self.assertEqual([b'"x"'], self.listed(target))

    def test_target_of_the_same_pool(self) -> None:
        """Within a pool the store does it in one step."""
        self.done(self.operations.queues.delete(GRAVE))
        self.create(GRAVE)
        self.wear_out("x")
        self.assertIsNone(self.claim())
        self.assertEqual(["claim", "claim"], self.watched.calls)
        self.assertEqual([b'"x"'], self.listed(GRAVE))

    def test_nothing_worn_out(self) -> None:
        """As long as nothing is worn out the claim is all that is done."""
        self.post("x")
        self.watched.calls.clear()
        self.assertEqual([b'"x"'], self.claimed_bodies())
        self.assertEqual(["claim"], self.watched.calls)

    def test_deleted_meanwhile(self) -> None:
        """A letter that somebody deletes by its id does not come back."""
        self.post("x", "y")
        self.hand_out()
        first = self.listed_ids()[0]
        held = self.store("a").hold_call("stored")
        claiming = self.claiming(wait=0, limit=10)
        self.successResultOf(self.store("a").delete(QUEUE, [first], self.now))
        held.callback(None)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertEqual([b'"y"'], self.in_pool("b", GRAVE))
        self.assertEqual([], self.in_pool("a"))

    def listed_ids(self) -> list[str]:
        """The ids of the messages in the queue."""
        listing = self.done(self.operations.messages.page(QUEUE, View()))
        return [message.id for message in listing.messages]

    def test_all_deleted_meanwhile(self) -> None:
        """Where nothing is left to carry nothing is made for it."""
        self.done(self.operations.queues.delete(GRAVE))
        self.wear_out("x")
        held = self.store("a").hold_call("stored")
        claiming = self.claiming(wait=0)
        self.successResultOf(self.store("a").clear(QUEUE))
        held.callback(None)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertIsNone(self.record(GRAVE))

    def test_target_is_deleted_after_the_claim(self) -> None:
        """Letters wait for a removal that comes before them, and are not part of it."""
        self.wear_out("x")
        read = self.store("a").hold_call("stored")
        claiming = self.claiming(wait=0)
        held = self.management.hold_call("delete")
        deleting = self.start(self.operations.queues.delete(GRAVE))
        read.callback(None)
        self.assertNoResult(claiming)
        held.callback(None)
        self.successResultOf(deleting)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertEqual([b'"x"'], self.listed(GRAVE))
        self.assertEqual([], self.in_pool("b", GRAVE))

    def test_target_is_deleted_before_the_claim(self) -> None:
        """A target that is deleted is made again for letters that come after it."""
        self.wear_out("x")
        held = self.management.hold_answer("delete")
        deleting = self.start(self.operations.queues.delete(GRAVE))
        claiming = self.claiming(wait=0)
        held.callback(None)
        self.successResultOf(deleting)
        self.assertIsNone(self.successResultOf(claiming))
        self.assertEqual([b'"x"'], self.listed(GRAVE))
        self.assertEqual("a", self.pool_of(GRAVE))


class FailureTests(DeadLettersTestCase):
    """A failure in the middle gives the claim back and loses nothing."""

    def setUp(self) -> None:
        """Wear a message out, with another one behind it."""
        super().setUp()
        self.wear_out("x")
        self.post("y")

    def fails_with(self, pool: str, method: str) -> None:
        """A claim fails because a pool does not do its part."""
        self.store(pool).broken = {method}
        self.fails(StoreUnavailable, self.operations.claims.create(QUEUE, None, 10))
        self.store(pool).broken = set()
        self.is_at_rest()
        self.assertEqual([b'"x"', b'"y"'], self.listed())

    def goes_on(self) -> None:
        """The next claim does all of it, and no delivery was counted."""
        claim = self.claim()
        found = [(each.body, each.claim_count) for each in claim.messages]
        self.assertEqual([(b'"y"', 1)], found)
        self.assertEqual([b'"y"'], self.in_pool("a"))

    def test_before_the_target(self) -> None:
        """Nothing has arrived where the source or the target failed before."""
        for pool, method in (("a", "claim"), ("a", "stored"), ("b", "restore")):
            self.fails_with(pool, method)
            self.assertEqual([], self.in_pool("b", GRAVE))
        self.goes_on()
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))

    def test_after_the_target(self) -> None:
        """What could not be deleted at the source is in both, and arrives again."""
        self.fails_with("a", "delete")
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))
        self.goes_on()
        self.assertEqual([b'"x"', b'"x"'], self.in_pool("b", GRAVE))

    def test_catalog(self) -> None:
        """Where a missing target cannot be made the letters stay."""
        self.done(self.operations.queues.delete(GRAVE))
        self.management.broken = {"create"}
        self.fails(StoreUnavailable, self.operations.claims.create(QUEUE, None, 10))
        self.management.broken = set()
        self.is_at_rest()
        self.assertEqual([b'"x"', b'"y"'], self.listed())

    def test_not_even_given_back(self) -> None:
        """A claim that cannot be given back either ends by itself."""
        self.store("b").broken = {"restore"}
        self.store("a").broken = {"release"}
        self.fails(StoreUnavailable, self.operations.claims.create(QUEUE, None, 10))
        self.store("a").broken = self.store("b").broken = set()
        self.clock.advance(300)
        self.assertEqual([b'"x"', b'"y"'], self.listed())

    def test_too_slow(self) -> None:
        """Where the claim is over before the delete, nothing of it is handed out."""
        self.successResultOf(self.change(_max_claim_count=2))
        first = self.claim(limit=1)
        self.done(self.operations.claims.release(QUEUE, first.id))
        held = self.store("b").hold_answer("restore")
        claiming = self.claiming(wait=0, limit=10)
        self.clock.advance(300)
        held.callback(None)
        claim = self.successResultOf(claiming)
        self.assertEqual([b'"y"'], [each.body for each in claim.messages])
        self.assertEqual([b'"x"', b'"x"'], self.in_pool("b", GRAVE))
        self.assertEqual([b'"y"'], self.in_pool("a"))

    def test_caller_leaves(self) -> None:
        """Who leaves in the middle gets nothing, and what is worn out moves."""
        held = self.store("b").hold_answer("restore")
        claiming: Deferred[Any] = self.claiming(wait=0, limit=10)
        self.cancel(claiming)
        held.callback(None)
        self.is_at_rest()
        self.assertEqual([b'"x"'], self.in_pool("b", GRAVE))
        claim = self.claim()
        self.assertEqual([1], [each.claim_count for each in claim.messages])


class EncryptedTargetTests(DeadLettersTestCase):
    """The target is encrypted and the source is not."""

    target: ClassVar[Mapping[str, Any]] = {"_enable_encrypt_messages": True}

    def test_other_pool(self) -> None:
        """A letter is sealed on its way, and its life ends when it would have."""
        self.wear_out({"card": 4711}, ttl=600)
        self.clock.advance(100)
        self.assertIsNone(self.claim())
        (after,) = self.stored("b", GRAVE)
        self.assertNotIn(b"4711", after.message.body)
        self.assertEqual([b'{"card":4711}'], self.listed(GRAVE))
        self.assertEqual(self.now + 500_000, after.expires)
        self.assertEqual([], self.in_pool("a"))

    def test_same_pool(self) -> None:
        """Within a pool it is sealed too."""
        self.done(self.operations.queues.delete(GRAVE))
        self.create(GRAVE, _enable_encrypt_messages=True)
        self.assertEqual("a", self.pool_of(GRAVE))
        self.wear_out({"card": 4711})
        self.assertIsNone(self.claim())
        (body,) = self.in_pool("a", GRAVE)
        self.assertNotIn(b"4711", body)
        self.assertEqual([b'{"card":4711}'], self.listed(GRAVE))


class EncryptedSourceTests(DeadLettersTestCase):
    """The source is encrypted and the target is not."""

    metadata: ClassVar[Mapping[str, Any]] = {
        **WORN_OUT,
        "_enable_encrypt_messages": True,
    }

    def test_stays_sealed(self) -> None:
        """What was sealed stays so wherever it goes, and can be read there."""
        self.wear_out({"card": 4711})
        (before,) = self.in_pool("a")
        self.assertIsNone(self.claim())
        self.assertEqual([before], self.in_pool("b", GRAVE))
        self.assertNotIn(b"4711", before)
        self.assertEqual([b'{"card":4711}'], self.listed(GRAVE))
