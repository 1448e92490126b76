"""Claims: dead letters on the way, callers who hang up, and terms."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from mqsvc.messaging import claims
from mqsvc.messaging.errors import InvalidBody, InvalidRequest, StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import View
from tests.messaging.case import GRAVE, QUEUE, WORN_OUT, OperationsTestCase


class HungUpTests(OperationsTestCase):
    """A claim that nobody waits for any more is given back."""

    def setUp(self) -> None:
        """Post what is to be claimed."""
        super().setUp()
        self.post("x")
        self.messages.calls.clear()

    def test_before_the_store_works(self) -> None:
        """A claim that is made after its caller left is released at once."""
        call = self.messages.hold_call("claim")
        claiming = self.claiming(wait=0)
        claiming.cancel()
        self.failureResultOf(claiming, CancelledError)
        self.assertEqual([b'"x"'], self.listed())
        call.callback(None)
        self.assertEqual([b'"x"'], self.listed())
        self.assertEqual(1, self.messages.calls.count("release"))

    def test_release(self) -> None:
        """Who releases a claim and leaves wakes those who wait for its messages."""
        held = self.claim()
        waiting = self.claiming(wait=20)
        answer = self.messages.hold_answer("release")
        self.cancel(self.start(self.operations.claims.release(QUEUE, held.id)))
        answer.callback(None)
        claim = self.successResultOf(waiting)
        self.assertEqual([b'"x"'], [each.body for each in claim.messages])

    def test_before_the_store_answers(self) -> None:
        """A claim that was made when its caller left is released with the answer."""
        answer = self.messages.hold_answer("claim")
        claiming = self.claiming(wait=0)
        claiming.cancel()
        self.failureResultOf(claiming, CancelledError)
        self.assertEqual([], self.listed())
        answer.callback(None)
        self.assertEqual([b'"x"'], self.listed())

    def test_no_delivery(self) -> None:
        """What is given back was not delivered; what a worker releases was."""
        for delivery in (1, 2):
            answer = self.messages.hold_answer("claim")
            self.cancel(self.claiming(wait=0))
            answer.callback(None)
            claim = self.claim()
            self.assertEqual([delivery], [m.claim_count for m in claim.messages])
            self.done(self.operations.claims.release(QUEUE, claim.id))

    def test_release_is_signalled(self) -> None:
        """What is given back wakes whoever waits for it."""
        answer = self.messages.hold_answer("claim")
        self.claiming(wait=0).addErrback(lambda _: None).cancel()
        listing = self.start(self.operations.messages.page(QUEUE, View(), 20))
        self.assertNoResult(listing)
        answer.callback(None)
        (message,) = self.successResultOf(listing).messages
        self.assertEqual(b'"x"', message.body)
        self.leaves_nothing()

    def test_nothing_was_claimed(self) -> None:
        """Where the store found nothing there is nothing to give back."""
        self.done(self.operations.messages.pop(QUEUE, 1))
        answer = self.messages.hold_answer("claim")
        self.cancel(self.claiming(wait=0))
        answer.callback(None)
        self.assertNotIn("release", self.messages.calls)

    def test_store_failed(self) -> None:
        """A failure of the store that nobody waits for is no event."""
        answer = self.messages.hold_answer("claim")
        self.cancel(self.claiming(wait=0))
        answer.errback(StoreUnavailable())
        self.assertNotIn("release", self.messages.calls)

    def test_release_fails(self) -> None:
        """A claim that cannot be given back is logged; it ends by itself."""
        answer = self.messages.hold_answer("claim")
        self.cancel(self.claiming(wait=0))
        self.messages.broken.add("release")
        answer.callback(None)
        self.assertEqual(1, len(self.flushLoggedErrors(StoreUnavailable)))
        self.clock.advance(300)
        self.assertEqual([b'"x"'], self.listed())

    def test_known_too_late(self) -> None:
        """Who leaves while the rules of the queue are read claims nothing."""
        self.create(QUEUE, **WORN_OUT)
        self.over(self.management, self.messages)
        answer = self.management.hold_answer("get")
        self.cancel(self.claiming(wait=0))
        answer.callback(None)
        self.assertEqual([], self.messages.calls)


class DeadLetterTests(OperationsTestCase):
    """Messages that were handed out too often go to another queue."""

    def setUp(self) -> None:
        """Make a queue that hands out each message once."""
        super().setUp()
        self.create(QUEUE, **WORN_OUT)

    def wear_out(self, count: int) -> None:
        """Post messages that the next claim moves away."""
        for first in range(0, count, 20):
            bodies = range(first, min(first + 20, count))
            self.post(*bodies)
            claim = self.claim(len(bodies))
            self.done(self.operations.claims.release(QUEUE, claim.id))

    def buried(self) -> int:
        """How many messages the other queue has."""
        return self.done(self.operations.queues.stats(GRAVE)).total

    def is_recorded(self) -> bool:
        """Whether the other queue has a record."""
        return self.successResultOf(self.management.get(GRAVE)) is not None

    def test_behind_what_is_moved(self) -> None:
        """A claim goes on past all that is moved to what can be handed out."""
        self.wear_out(20)
        self.post("fresh")
        self.messages.calls.clear()
        claim = self.claim(limit=3)
        self.assertEqual([b'"fresh"'], [each.body for each in claim.messages])
        self.assertEqual(["claim"] * 7, self.messages.calls)
        self.assertEqual(20, self.buried())

    def test_all_moved(self) -> None:
        """Where everything is moved there is no claim, and all is moved at once."""
        self.wear_out(5)
        self.assertIsNone(self.claim(limit=2))
        self.assertEqual((5, []), (self.buried(), self.listed()))

    def test_target_is_made(self) -> None:
        """The other queue is made with the first message for it, and once."""
        self.post("x")
        self.claim()
        self.assertFalse(self.is_recorded())
        self.management.calls.clear()
        self.wear_out(5)
        self.assertIsNone(self.claim(limit=1))
        self.assertTrue(self.is_recorded())
        self.assertEqual(1, self.management.calls.count("create"))

    def test_target_that_was_not_made(self) -> None:
        """A later claim makes known what lies in the other queue since a failure."""
        self.wear_out(1)
        self.management.broken.add("create")
        self.fails(StoreUnavailable, self.operations.claims.create(QUEUE, None, 1))
        self.management.broken.clear()
        self.assertEqual((1, False), (self.buried(), self.is_recorded()))
        self.assertIsNone(self.claim())
        self.assertTrue(self.is_recorded())

    def test_rounds(self) -> None:
        """One look moves so many at most; who waits goes on with the next look."""
        self.patch(claims, "_MAX_ROUNDS", 3)
        self.wear_out(10)
        self.assertIsNone(self.claim(limit=1))
        self.assertEqual(3, self.buried())
        self.post("fresh")
        claim = self.done(self.operations.claims.create(QUEUE, None, 1, wait=20))
        self.assertEqual([b'"fresh"'], [each.body for each in claim.messages])
        self.assertEqual(10, self.buried())

    def test_target_is_left_as_it_is(self) -> None:
        """Another queue that exists keeps its metadata."""
        self.create(GRAVE, owner="me")
        self.wear_out(1)
        self.claim()
        shown = self.done(self.operations.queues.describe(GRAVE))
        self.assertEqual("me", shown["owner"])

    def test_target_is_signalled(self) -> None:
        """Whoever waits at the other queue is woken."""
        self.wear_out(1)
        listing = self.start(self.operations.messages.page(GRAVE, View(), 20))
        self.assertNoResult(listing)
        self.claim()
        self.assertEqual(1, len(self.successResultOf(listing).messages))
        self.leaves_nothing()

    def test_target_cannot_be_made(self) -> None:
        """A claim that cannot be answered for want of the other queue is given back."""
        self.wear_out(1)
        self.post("fresh")
        self.management.broken.add("create")
        self.fails(
            StoreUnavailable, self.operations.claims.create(QUEUE, None, limit=2)
        )
        self.assertEqual([b'"fresh"'], self.listed())

    def test_hung_up_while_the_target_is_made(self) -> None:
        """Who leaves after the store has claimed, before the answer, keeps nothing."""
        self.wear_out(1)
        self.post("fresh")
        answer = self.management.hold_answer("create")
        self.cancel(self.claiming(wait=0, limit=2))
        answer.callback(None)
        self.assertEqual([b'"fresh"'], self.listed())

    def test_no_rule(self) -> None:
        """Once the queue has no other queue any more, messages are handed out again."""
        self.wear_out(1)
        remove = {"op": "remove", "path": "/metadata/_dead_letter_queue"}
        self.done(self.operations.queues.change(QUEUE, [remove]))
        self.assertEqual(1, len(self.claim().messages))
        self.assertEqual(0, self.buried())


class TermsTests(OperationsTestCase):
    """How long a claim lasts, and what it keeps alive."""

    limits = Limits(
        default_claim_ttl=100,
        default_claim_grace=70,
        max_claim_ttl=200,
        max_claim_grace=150,
        default_message_ttl=60,
    )

    def claim_with(self, document: object) -> tuple[int, int]:
        """The ttl of a claim, and the ttl that it gives to its message."""
        self.post("x")
        claim = self.done(self.operations.claims.create(QUEUE, document, None))
        return claim.ttl, claim.messages[0].ttl

    def test_defaults(self) -> None:
        """What is missing or null takes the configured default."""
        for document in (None, {}, {"ttl": None, "grace": None}, {"other": 1}):
            self.assertEqual((100, 170), self.claim_with(document))
        self.assertEqual((120, 190), self.claim_with({"ttl": 120}))
        self.assertEqual((100, 160), self.claim_with({"grace": 60}))

    def test_bounds(self) -> None:
        """The bounds themselves are allowed; a life that is as long is not extended."""
        self.assertEqual((60, 60), self.claim_with({"ttl": 60, "grace": 60}))
        self.assertEqual((61, 121), self.claim_with({"ttl": 61, "grace": 60}))
        self.assertEqual((200, 350), self.claim_with({"ttl": 200, "grace": 150}))

    def test_out_of_bounds(self) -> None:
        """Numbers outside the bounds are refused, and so are other values."""
        self.post("x")
        claim = self.claim()
        for error, document in (
            (InvalidRequest, {"ttl": 59}),
            (InvalidRequest, {"ttl": 201}),
            (InvalidRequest, {"grace": 59}),
            (InvalidRequest, {"grace": 151}),
            (InvalidBody, {"ttl": "100"}),
            (InvalidBody, {"grace": 60.0}),
            (InvalidBody, {"ttl": True}),
            (InvalidBody, []),
        ):
            self.fails(error, self.operations.claims.create(QUEUE, document, None))
            self.fails(error, self.operations.claims.renew(QUEUE, claim.id, document))

    def test_numbers(self) -> None:
        """Sizes and spans outside the bounds are refused before anything is done."""
        for limit, wait in ((0, 0), (21, 0), (None, -1), (None, 21)):
            self.fails(
                InvalidRequest,
                self.operations.claims.create(QUEUE, None, limit, wait),
            )
        self.assertEqual([], self.messages.calls + self.management.calls)

    def test_renew(self) -> None:
        """A renewed claim begins anew with its new terms."""
        self.post("x")
        claim = self.claim()
        self.clock.advance(90)
        self.done(self.operations.claims.renew(QUEUE, claim.id, {"ttl": 200}))
        renewed = self.done(self.operations.claims.get(QUEUE, claim.id))
        self.assertEqual((200, claim.created + 90_000), (renewed.ttl, renewed.created))
