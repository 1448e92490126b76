"""The audit of the kill test finds what it is there to find."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.audit import (
    Claimed,
    Deleted,
    Event,
    Listed,
    Loss,
    Posted,
    Released,
    Renewed,
    audit,
    audit_of_forgetful,
    loss,
)

POST = Posted("p", ("p-1", "p-2"), ("a1", "a2"))
LISTING = [Listed("a1", "p-1"), Listed("a2", "p-2")]


def claim(name: str, at: float, ttl: float = 60) -> Claimed:
    """A claim on the first message, sent at a moment and answered a second later."""
    return Claimed(name, (("a1", "p-1"),), at, at + 1, ttl)


class AuditTests(SynchronousTestCase):
    """:func:`audit` over small journals."""

    def assert_clean(self, events: Sequence[Event], listing: Sequence[Listed]) -> None:
        """The audit has nothing to say."""
        self.assertEqual(audit(events, listing), [])

    def assert_found(
        self, complaint: str, events: Sequence[Event], listing: Sequence[Listed]
    ) -> None:
        """The audit says exactly one thing, and it is this."""
        found = audit(events, listing)
        self.assertEqual(len(found), 1, found)
        self.assertIn(complaint, found[0])

    def test_all_there(self) -> None:
        """Acknowledged messages that are all there are right."""
        self.assert_clean([POST], LISTING)

    def test_lost(self) -> None:
        """An acknowledged message that is gone is found."""
        self.assert_found("lost", [POST], LISTING[:1])

    def test_deleted(self) -> None:
        """A message whose deletion was answered is rightly gone."""
        self.assert_clean([POST, Deleted("a2", answered=5)], LISTING[:1])

    def test_perhaps_deleted(self) -> None:
        """After a deletion without an answer both outcomes are right."""
        self.assert_clean([POST, Deleted("a2")], LISTING[:1])
        self.assert_clean([POST, Deleted("a2")], LISTING)

    def test_resurrected_in_the_listing(self) -> None:
        """A deleted message in the final listing is found."""
        self.assert_found("there again", [POST, Deleted("a1", answered=5)], LISTING)

    def test_resurrected_in_a_claim(self) -> None:
        """A message that is claimed after its deletion was answered is found."""
        events: list[Event] = [POST, Deleted("a1", answered=5), claim("c", 6)]
        self.assert_found("claimed after", events, LISTING[1:])

    def test_claimed_twice(self) -> None:
        """A message under two live claims is found."""
        self.assert_found("at once", [POST, claim("c", 1), claim("d", 30)], LISTING)

    def test_claimed_twice_at_the_same_time(self) -> None:
        """Two claims made in the same instant are found."""
        self.assert_found("at once", [POST, claim("c", 1), claim("d", 1)], LISTING)

    def test_claimed_again_after_expiry(self) -> None:
        """A claim that may have expired does not stand against the next one."""
        self.assert_clean([POST, claim("c", 1), claim("d", 60.5)], LISTING)

    def test_claimed_again_after_release(self) -> None:
        """From the moment a release is sent the message may be claimed again."""
        events: list[Event] = [POST, claim("c", 1), Released("c", 5), claim("d", 4.5)]
        self.assert_clean(events, LISTING)

    def test_claimed_again_before_release(self) -> None:
        """A second claim that was answered before the release left is found."""
        events: list[Event] = [POST, claim("c", 1), Released("c", 5), claim("d", 3)]
        self.assert_found("at once", events, LISTING)

    def test_claimed_again_after_renewal(self) -> None:
        """A renewed claim lives on beyond its first ttl."""
        events: list[Event] = [
            POST,
            claim("c", 1),
            Renewed("c", 50, 60),
            claim("d", 70),
        ]
        self.assert_found("at once", events, LISTING)

    def test_unanswered_post(self) -> None:
        """A post without an answer may be there as a whole or not at all."""
        unanswered = Posted("p", ("p-3", "p-4"))
        stored = [Listed("a3", "p-3"), Listed("a4", "p-4")]
        self.assert_clean([POST, unanswered], LISTING)
        self.assert_clean([POST, unanswered], LISTING + stored)

    def test_torn_post(self) -> None:
        """A part of a post without an answer is found."""
        events: list[Event] = [POST, Posted("p", ("p-3", "p-4"))]
        self.assert_found("part", events, [*LISTING, Listed("a3", "p-3")])

    def test_stored_twice(self) -> None:
        """A message that is there under two ids is found."""
        listing = [*LISTING, Listed("a3", "p-2")]
        self.assert_found("2 times", [POST], listing)

    def test_never_posted(self) -> None:
        """A message that nobody posted is found."""
        listing = [*LISTING, Listed("a3", "x-1")]
        self.assert_found("never posted", [POST], listing)

    def test_altered(self) -> None:
        """An id that changed its body is found."""
        events: list[Event] = [POST, Posted("p", ("p-3",))]
        listing = [Listed("a1", "p-3"), LISTING[1]]
        self.assert_found("became", events, listing)

    def test_listed_out_of_order(self) -> None:
        """A listing that is not in the order of ids is found."""
        self.assert_found("do not grow", [POST], LISTING[::-1])

    def test_posted_out_of_order(self) -> None:
        """Ids that do not grow from post to post of a producer are found."""
        events: list[Event] = [
            Posted("p", ("p-2",), ("a2",)),
            Posted("p", ("p-1",), ("a1",)),
        ]
        self.assert_found("do not grow", events, LISTING)


class ForgetfulTests(SynchronousTestCase):
    """Stores that may lose their last changes."""

    def test_all_there(self) -> None:
        """Where nothing is missing nothing is counted."""
        self.assertEqual(loss([POST], LISTING), Loss(2, 0, 0))

    def test_gone(self) -> None:
        """An acknowledged message that is gone counts, unless it may be deleted."""
        events = [POST, Deleted("a2")]
        self.assertEqual(loss(events, []), Loss(1, 1, 0))
        self.assertEqual(audit_of_forgetful(events, []), [])

    def test_returned(self) -> None:
        """A message whose deletion is forgotten is there again, and counts."""
        events = [POST, Deleted("a2", answered=5)]
        self.assertEqual(loss(events, LISTING), Loss(1, 0, 1))
        self.assertEqual(audit_of_forgetful(events, LISTING), [])

    def test_in_part(self) -> None:
        """A post of which a part is there is wrong, also when it was answered."""
        (found,) = audit_of_forgetful([POST], LISTING[:1])
        self.assertIn("only a part", found)

    def test_consumed_in_part(self) -> None:
        """What was claimed may be deleted, so a part may be gone."""
        self.assertEqual(audit_of_forgetful([POST, claim("c", 1)], LISTING[1:]), [])

    def test_made_up(self) -> None:
        """Messages that nobody posted, twice or out of order are wrong."""
        (never,) = audit_of_forgetful([], LISTING[:1])
        self.assertIn("never posted", never)
        twice = audit_of_forgetful([POST], [LISTING[0], LISTING[0], LISTING[1]])
        self.assertEqual(len(twice), 3, twice)
        (order,) = audit_of_forgetful([POST], LISTING[::-1])
        self.assertIn("do not grow", order)
