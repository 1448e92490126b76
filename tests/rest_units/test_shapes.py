"""Messages and numbers as documents."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.model import Message, Stats
from mqsvc.rest.shapes import Shapes
from mqsvc.wire.codec import decode, encode

NOW = 1_800_000_000_500
PATH = "/v2/queues/q"
BODY = b'{"event":"BackupStarted"}'
CHECKSUM = "MD5:82eb2714b7c0237d373947c046cac78d"


def message(body: bytes = BODY, **values: Any) -> Message:
    """A message that is a little over twelve seconds old."""
    return Message("ID", body, 300, NOW - 12_400, **values)


class ShapesTestCase(SynchronousTestCase):
    """Shapes with and without checksums."""

    def setUp(self) -> None:
        """Stop the time."""
        self.plain = Shapes(lambda: NOW, False)
        self.summed = Shapes(lambda: NOW, True)


class MessageTests(ShapesTestCase):
    """Messages."""

    def test_message(self) -> None:
        """A message has five members and no more, and its body as it was posted."""
        shape = decode(encode(self.plain.message(message(), PATH)))
        self.assertEqual(
            {
                "id": "ID",
                "href": "/v2/queues/q/messages/ID",
                "ttl": 300,
                "age": 12,
                "body": {"event": "BackupStarted"},
            },
            shape,
        )

    def test_body_is_not_touched(self) -> None:
        """The bytes of a body are those that were stored."""
        body = b'{"b":1.50,"a":"\xc3\xbc\\u00fc"}'
        self.assertIn(body, encode(self.plain.message(message(body), PATH)))
        self.assertIn(body, encode(self.summed.popped(message(body))))

    def test_claimed(self) -> None:
        """The path of a message names its claim; the members do not."""
        shape = self.plain.message(message(claim_id="C", claim_count=3), PATH)
        self.assertEqual("/v2/queues/q/messages/ID?claim_id=C", shape["href"])
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(shape))

    def test_several(self) -> None:
        """Several messages keep their order."""
        shapes = self.plain.messages([message(b"1"), message(b"2")], PATH)
        self.assertEqual([1, 2], [decode(encode(shape))["body"] for shape in shapes])

    def test_popped(self) -> None:
        """A message that is gone has no path and no claim, but what it went through."""
        shape = decode(encode(self.plain.popped(message(claim_id="C", claim_count=3))))
        self.assertEqual(
            {
                "id": "ID",
                "age": 12,
                "ttl": 300,
                "claim_count": 3,
                "claim_id": None,
                "body": {"event": "BackupStarted"},
            },
            shape,
        )

    def test_age(self) -> None:
        """Ages are whole seconds, cut off, and never below nothing."""
        for created, age in (
            (NOW, 0),
            (NOW - 999, 0),
            (NOW - 1000, 1),
            (NOW - 59_999, 59),
            (NOW + 1, 0),
            (NOW + 5000, 0),
        ):
            self.assertEqual(age, self.plain.age(created), created)


class ChecksumTests(ShapesTestCase):
    """Checksums of bodies."""

    def test_known(self) -> None:
        """A checksum is that of Python's form of the body, as others compute it."""
        for body, digest in (
            (BODY, CHECKSUM.removeprefix("MD5:")),
            (b'"s"', "c5b15f346c83772af77657154ff7ce3b"),
            (b"{}", "99914b932bd37a50b983c5e7c90ae93b"),
            (b'{"k":"v"}', "180e4758e293f0a9970762a970fb0dfb"),
            (b"[1,2]", "04cd0e0151f352e7fd414d694a604136"),
            (b"5.5", "ad9995c0d305d650bc1a138f32113af7"),
        ):
            shape = self.summed.message(message(body), PATH)
            self.assertEqual(f"MD5:{digest}", shape["checksum"], body)

    def test_other_forms(self) -> None:
        """The same text in another writing has the same checksum, other order not."""
        one, same, other = (
            self.summed.message(message(body), PATH)["checksum"]
            for body in (
                b'{"a":"\xc3\xbc","b":1}',
                b'{"a":"\\u00fc","b":1}',
                b'{"b":1}',
            )
        )
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_where(self) -> None:
        """Every shape of a message has one, if it is wanted and there is a body."""
        self.assertEqual(CHECKSUM, self.summed.popped(message())["checksum"])
        self.assertNotIn("checksum", self.plain.popped(message()))
        self.assertNotIn("checksum", self.summed.message(message(b"null"), PATH))
        self.assertNotIn("checksum", self.summed.popped(message(b"null")))


class StatsTests(ShapesTestCase):
    """Numbers of a destination."""

    def test_empty(self) -> None:
        """Of nothing there is neither an oldest nor a newest."""
        self.assertEqual(
            {"messages": {"claimed": 0, "free": 0, "total": 0}},
            self.plain.stats(Stats(), PATH),
        )

    def test_ends(self) -> None:
        """The oldest and the newest are named without what is in them."""
        newest = Message("NEW", b"1", 60, NOW)
        stats = Stats(2, 3, message(claim_id="C"), newest)
        shape = self.summed.stats(stats, PATH)["messages"]
        self.assertEqual((2, 3, 5), (shape["claimed"], shape["free"], shape["total"]))
        self.assertEqual(
            {
                "age": 12,
                "created": "2027-01-15T07:59:48Z",
                "href": "/v2/queues/q/messages/ID",
            },
            shape["oldest"],
        )
        self.assertEqual("2027-01-15T08:00:00Z", shape["newest"]["created"])
        self.assertEqual("/v2/queues/q/messages/NEW", shape["newest"]["href"])
