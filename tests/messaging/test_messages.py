"""Messages: what a post accepts, what a page selects, who may delete."""

from __future__ import annotations

from typing import Any

from mqsvc.messaging.errors import (
    InvalidBody,
    InvalidRequest,
    MessageDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import View
from mqsvc.storage.ids import format_id
from tests.messaging.case import NOW, QUEUE, TOPIC, OperationsTestCase

UNKNOWN = format_id(NOW, 1)


class PostTests(OperationsTestCase):
    """Posting, all or nothing."""

    def refused(self, messages: Any, size: int = 0) -> str:
        """Why a post is refused, which must leave nothing behind."""
        post = self.operations.messages.post(QUEUE, "c", messages, size)
        error = self.fails(InvalidRequest, post)
        self.assertEqual([], self.messages.calls)
        self.assertNotIn("create", self.management.calls)
        return error.description

    def test_makes_the_queue_once(self) -> None:
        """The first post makes the record, later ones do not ask for it."""
        for _ in range(3):
            self.post("x")
        self.assertEqual(["get", "create", "get"], self.management.calls)

    def test_order(self) -> None:
        """Ids come in the order of the messages."""
        ids = self.post(*range(5))
        for number, message_id in enumerate(ids):
            message = self.done(self.operations.messages.get(QUEUE, message_id))
            self.assertEqual(b"%d" % number, message.body)

    def test_bodies(self) -> None:
        """Any JSON value is a body, and is kept exactly."""
        for body in (None, 0, 2**63 - 1, 1.5, "", "\u00fc\u2028", [], {"b": 1, "a": 2}):
            (message_id,) = self.post(body)
            self.done(self.operations.messages.get(QUEUE, message_id))
        self.post({"b": 1, "a": [None, True]})
        self.assertEqual(b'{"b":1,"a":[null,true]}', self.listed()[-1])

    def test_no_array(self) -> None:
        """Messages come in an array of at least one."""
        for messages in (None, [], {}, "x", 5, {"body": 1}):
            self.assertEqual(
                "'messages' must be an array of at least one message.",
                self.refused(messages),
            )

    def test_which_one(self) -> None:
        """A refusal names the message and the member, and nothing is posted."""
        fine = {"body": 1}
        for wrong, words in (
            (5, "messages[1]"),
            ([], "messages[1]"),
            ({}, "messages[1]: Missing parameter 'body'"),
            ({"ttl": 60}, "messages[1]: Missing parameter 'body'"),
            ({"body": 1, "ttl": 59}, "messages[1]: 'ttl' must be an integer from 60"),
            ({"body": 1, "ttl": None}, "messages[1]: 'ttl' must be an integer"),
            ({"body": 1, "ttl": 1209601}, "1209600"),
        ):
            self.assertIn(words, self.refused([fine, wrong]))

    def test_size(self) -> None:
        """The size of the request has a bound, which is itself allowed."""
        self.assertIn("262145", self.refused([{"body": 1}], 262145))
        post = self.operations.messages.post(QUEUE, "c", [{"body": 1}], 262144)
        self.assertEqual(1, len(self.done(post)))

    def test_size_of_the_queue(self) -> None:
        """A queue can have a smaller bound; size is looked at before the messages."""
        self.create(QUEUE, _max_messages_post_size=10)
        self.management.calls.clear()
        self.assertIn("at most 10", self.refused(None, 11))

    def test_encryption(self) -> None:
        """What ought to be encrypted is not stored in clear."""
        self.create(QUEUE, _enable_encrypt_messages=True)
        self.management.calls.clear()
        self.assertIn("_enable_encrypt_messages", self.refused([{"body": 1}]))

    def test_delay(self) -> None:
        """A delay counts only where the queue has one, and only there is checked."""
        self.post("x", delay="no")
        self.assertEqual([b'"x"'], self.listed())
        self.create(TOPIC, _default_message_delay=5)
        self.post("a", to=TOPIC)
        self.post("b", to=TOPIC, delay=0)
        self.post("c", to=TOPIC, delay=900)
        self.assertEqual([b'"b"'], self.listed(TOPIC))
        for delay in (-1, 901, None, "5", 1.0):
            messages = [{"body": 1, "delay": delay}]
            post = self.operations.messages.post(TOPIC, "c", messages, 0)
            self.fails(InvalidRequest, post)
        self.clock.advance(5)
        self.assertEqual([b'"a"', b'"b"'], self.listed(TOPIC))

    def test_ttl_of_the_queue(self) -> None:
        """A message without ttl has that of its queue."""
        self.create(QUEUE, _default_message_ttl=70)
        ids = [*self.post("a"), *self.post("b", ttl=60)]
        get_many = self.operations.messages.get_many(QUEUE, ids)
        self.assertEqual([70, 60], [each.ttl for each in self.done(get_many)])


class PageTests(OperationsTestCase):
    """Pages as clients see them."""

    def page(self, **view: Any) -> list[bytes]:
        """The bodies of one page."""
        listing = self.done(self.operations.messages.page(QUEUE, View(**view)))
        return [each.body for each in listing.messages]

    def test_sizes(self) -> None:
        """Ten without a limit, one to twenty with one."""
        self.post(*range(25))
        sizes = [len(self.page(limit=limit)) for limit in (None, 1, 20)]
        self.assertEqual([10, 1, 20], sizes)
        for limit in (0, -1, 21):
            self.fails(
                InvalidRequest, self.operations.messages.page(QUEUE, View(limit))
            )

    def test_wait(self) -> None:
        """A wait is from nothing to twenty seconds."""
        for wait in (-1, 21):
            page = self.operations.messages.page(QUEUE, View(), wait)
            self.fails(InvalidRequest, page)
        self.assertEqual([], self.messages.calls)

    def test_delayed(self) -> None:
        """Where the queue has no delay, delayed messages are shown, and said to be."""
        self.create(QUEUE, _default_message_delay=5)
        self.post("x")
        self.assertEqual([], self.page())
        self.assertEqual([b'"x"'], self.page(include_delayed=True))
        remove = {"op": "remove", "path": "/metadata/_default_message_delay"}
        self.done(self.operations.queues.change(QUEUE, [remove]))
        listing = self.done(self.operations.messages.page(QUEUE, View()))
        self.assertTrue(listing.selection.include_delayed)
        self.assertEqual([b'"x"'], [each.body for each in listing.messages])

    def test_marker(self) -> None:
        """A marker is the place behind which a page begins."""
        ids = self.post("a", "b", "c")
        self.assertEqual([b'"b"', b'"c"'], self.page(marker=ids[0]))
        self.assertEqual([], self.page(marker="nonsense"))


class GetTests(OperationsTestCase):
    """Messages by id."""

    def test_missing(self) -> None:
        """A single message must exist, of several those are given that do."""
        (known,) = self.post("x")
        error = self.fails(
            MessageDoesNotExist, self.operations.messages.get(QUEUE, UNKNOWN)
        )
        self.assertIn(UNKNOWN, error.description)
        found = self.done(
            self.operations.messages.get_many(QUEUE, [UNKNOWN, known, "?"])
        )
        self.assertEqual([known], [each.id for each in found])

    def test_numbers(self) -> None:
        """One to twenty ids can be asked for or deleted at once."""
        operations = self.operations.messages
        for ids in ([], [UNKNOWN] * 21):
            self.fails(InvalidRequest, operations.get_many(QUEUE, ids))
            self.fails(InvalidRequest, operations.delete_many(QUEUE, ids, None))
        self.assertEqual([], self.messages.calls)
        self.assertEqual([], self.done(operations.get_many(QUEUE, [UNKNOWN] * 20)))

    def test_pop(self) -> None:
        """One to twenty messages are taken away, oldest first."""
        self.post(1, 2, 3)
        taken = self.done(self.operations.messages.pop(QUEUE, 2))
        self.assertEqual([b"1", b"2"], [each.body for each in taken])
        self.assertEqual([b"3"], self.listed())
        for limit in (0, 21):
            self.fails(InvalidRequest, self.operations.messages.pop(QUEUE, limit))


class DeleteTests(OperationsTestCase):
    """Who may delete which message."""

    def setUp(self) -> None:
        """Post a message that is claimed and one that is not."""
        super().setUp()
        self.claimed, self.free = self.post("claimed", "free")
        self.claim_id = self.claim(1).id

    def delete(self, message_id: str, claim_id: str | None) -> Any:
        """A deletion of one message."""
        return self.operations.messages.delete(QUEUE, message_id, claim_id)

    def test_allowed(self) -> None:
        """A free message is deleted without a claim, a claimed one with its own."""
        self.done(self.delete(self.free, None))
        self.done(self.delete(self.claimed, self.claim_id))
        self.done(self.delete(UNKNOWN, None))
        self.assertEqual(0, self.done(self.operations.queues.stats(QUEUE)).total)

    def test_refused(self) -> None:
        """A claimed message needs its claim, a free one must not name any."""
        self.fails(MessageIsClaimed, self.delete(self.claimed, None))
        self.fails(MessageNotClaimed, self.delete(self.free, self.claim_id))
        self.fails(MessageNotClaimed, self.delete(self.claimed, UNKNOWN))
        self.assertEqual(2, self.done(self.operations.queues.stats(QUEUE)).total)

    def test_malformed_claim(self) -> None:
        """What cannot be a claim id of any server is refused without a look."""
        self.messages.calls.clear()
        for claim_id in ("", "x", "g" * 24, "a" * 23, "a" * 25, UNKNOWN + "\n"):
            self.fails(MessageNotClaimed, self.delete(UNKNOWN, claim_id))
        self.assertEqual([], self.messages.calls)
        for claim_id in ("A" * 24, "a" * 32, "01234567-89ab-cdef-0123-456789abcdef"):
            self.done(self.delete(UNKNOWN, claim_id))
        self.assertEqual(["delete"] * 3, self.messages.calls)

    def test_many(self) -> None:
        """Of many at once claims are not looked at, whatever claims are named."""
        delete = self.operations.messages.delete_many
        self.done(delete(QUEUE, [self.claimed, self.free, UNKNOWN], ["nonsense"]))
        self.assertEqual(0, self.done(self.operations.queues.stats(QUEUE)).total)


class DeleteWithClaimTests(OperationsTestCase):
    """Where many at once must name their claims."""

    limits = Limits(message_delete_with_claim_id=True)

    def setUp(self) -> None:
        """Post a message that is claimed and one that is not."""
        super().setUp()
        self.claimed, self.free = self.post("claimed", "free")
        self.claim_id = self.claim(1).id
        self.delete = self.operations.messages.delete_many

    def test_no_claim(self) -> None:
        """Naming no claim is refused."""
        for claim_ids in (None, []):
            error = self.fails(
                InvalidRequest, self.delete(QUEUE, [self.claimed], claim_ids)
            )
            self.assertNotIsInstance(error, InvalidBody)
            self.assertIn("Missing parameter", error.description)

    def test_not_under_the_claims(self) -> None:
        """One that is not under the claims keeps all of them."""
        for claim_ids in ([self.claim_id], [UNKNOWN], ["nonsense"]):
            ids = [self.claimed, self.free]
            self.fails(MessageIsClaimed, self.delete(QUEUE, ids, claim_ids))
        self.assertEqual(2, self.done(self.operations.queues.stats(QUEUE)).total)

    def test_under_the_claims(self) -> None:
        """Those under one of the claims are deleted."""
        self.done(self.delete(QUEUE, [self.claimed], [UNKNOWN, self.claim_id]))
        self.assertEqual([b'"free"'], self.listed())
