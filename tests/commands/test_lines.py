"""Lines: values to bytes and back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands.lines import (
    HEADER,
    AnyLine,
    DestinationLine,
    End,
    FlavorLine,
    MessageLine,
    PoolLine,
    SubscriptionLine,
    encode,
    line_of_record,
)
from mqsvc.messaging.model import (
    NAMEABLE,
    Destination,
    Flavor,
    Kind,
    Message,
    Pool,
    Record,
    StoredMessage,
    Subscription,
)
from mqsvc.wire.codec import CodecError
from tests.commands.content import BODIES, METADATA, NOW

QUEUE = Destination("demo", Kind.QUEUE, "orders")


def decoded(raw: bytes) -> Any:
    """The line of some bytes."""
    return msgspec.json.decode(raw, type=AnyLine)


def stored(body: bytes, delayed_until: int | None = None, count: int = 0) -> Any:
    """A message that lives for a minute."""
    message = Message(id="", body=body, ttl=60, created=NOW, claim_count=count)
    return StoredMessage(message, NOW + 60_000, delayed_until)


class LinesTests(SynchronousTestCase):
    """Each type of line."""

    def through(self, line: Any) -> Any:
        """A line that was written and read."""
        raw = encode(line)
        self.assertTrue(raw.endswith(b"\n"))
        self.assertEqual(1, raw.count(b"\n"))
        return decoded(raw)

    def test_header(self) -> None:
        """The first line names the format and its version."""
        self.assertEqual(b'{"format":"mqsvc-export","version":1}\n', encode(HEADER))

    def test_pool(self) -> None:
        """A pool keeps all that it has."""
        for flavor in (None, "fast"):
            pool = Pool("p 1", "redis://:secret@one/0", 7, flavor, {"a": [1, "\n"]})
            self.assertEqual(pool, self.through(PoolLine.of(pool)).pool())

    def test_flavor(self) -> None:
        """A flavor keeps its pools."""
        line = self.through(FlavorLine.of(Flavor("fast", ("a", "b"))))
        self.assertEqual(("fast", ("a", "b")), (line.name, line.pools))

    def test_destination(self) -> None:
        """Queues and topics keep kind, metadata and pool."""
        for kind in NAMEABLE:
            destination = Destination("größe\n", kind, "orders")
            for pool in (None, "p"):
                record = Record(destination, METADATA, 17, pool)
                line = self.through(line_of_record(record, has_pools=True))
                self.assertIsInstance(line, DestinationLine)
                self.assertEqual(destination, line.destination)
                self.assertEqual((METADATA, pool), (line.metadata, line.pool))

    def test_no_pools(self) -> None:
        """Where there are no pools, nothing is said of them."""
        record = Record(QUEUE, {}, 1, "p")
        line = encode(line_of_record(record, has_pools=False))
        self.assertNotIn("pool", json.loads(line))

    def test_subscription(self) -> None:
        """A subscription keeps all that it has."""
        for confirmed in (True, False):
            kept = Subscription(
                "id", QUEUE, "http://ü", 60, NOW, {"a": None}, confirmed
            )
            line = self.through(SubscriptionLine.of(kept))
            self.assertEqual(kept, line.subscription(QUEUE))

    def test_message(self) -> None:
        """A message keeps its body to the byte, its times and its count."""
        for body in BODIES:
            for message in (stored(body), stored(body, NOW + 1, 3)):
                line = self.through(MessageLine.of(message))
                self.assertEqual(message, line.stored())

    def test_other_integers(self) -> None:
        """Integers of a type that a database brings are written as numbers."""

        class Wide(int):
            """As MongoDB has it."""

        kept = MessageLine.of(StoredMessage(stored(b"1").message, Wide(NOW)))
        self.assertEqual(NOW, self.through(kept).expires)

    @given(body=st.binary() | st.text().map(lambda text: json.dumps(text).encode()))
    def test_any_body(self, body: bytes) -> None:
        """Any bytes are kept."""
        message = stored(body)
        self.assertEqual(message, self.through(MessageLine.of(message)).stored())

    def test_readable(self) -> None:
        """A body that is JSON is part of its line's JSON; sealed ones are not."""
        plain, sealed = (encode(MessageLine.of(stored(BODIES[i]))) for i in (0, 4))
        self.assertEqual(json.loads(BODIES[0]), json.loads(plain)["body"])
        self.assertIn(BODIES[0], plain)
        self.assertNotIn("body", json.loads(sealed))

    def test_body_or_not(self) -> None:
        """A message has one body, which is JSON that the service can answer."""
        times = {"ttl": 60, "created": NOW, "expires": NOW}
        for fields in (
            {},
            {"body": Raw(b"1"), "base64": b"1"},
            {"body": Raw(b"1e999")},
            {"body": Raw(b'"\xff"')},
            {"body": Raw(b"[" * 300 + b"]" * 300)},
        ):
            line = MessageLine(**times, **fields)
            self.assertRaises(CodecError, line.stored)

    def test_end(self) -> None:
        """The last line counts the others by type."""
        end = End()
        self.assertEqual("nothing", str(end))
        end.count(FlavorLine(name="f", pools=("a",)))
        end.count(MessageLine.of(stored(b"1")))
        end.count(MessageLine.of(stored(b"1")))
        self.assertEqual("flavors: 1, messages: 2", str(end))
        self.assertEqual(End(flavors=1, messages=2), self.through(end))
