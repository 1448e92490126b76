"""Files that are no complete export: what is wrong, and where."""

from __future__ import annotations

from io import BytesIO

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands import reading
from mqsvc.commands.lines import (
    HEADER,
    End,
    FlavorLine,
    Header,
    MessageLine,
    PoolLine,
    QueueLine,
    SubscriptionLine,
    TopicLine,
    encode,
)
from mqsvc.commands.reading import Entry, FormatError, Reading
from mqsvc.messaging.model import Destination, Kind
from tests.commands.content import NOW, file_of

POOL = PoolLine(name="p", uri="redis://one", weight=1)
FLAVOR = FlavorLine(name="f", pools=("p",))
QUEUE = QueueLine(project="demo", name="orders")
TOPIC = TopicLine(project="demo", name="news")
SUBSCRIPTION = SubscriptionLine(id="s", subscriber="http://a", ttl=60, created=NOW)
MESSAGE = MessageLine(body=Raw(b'"secret"'), ttl=60, created=NOW, expires=NOW)
LINES = (POOL, FLAVOR, QUEUE, SUBSCRIPTION, MESSAGE, MESSAGE, TOPIC, MESSAGE)
WHOLE = file_of(*LINES)


def entries(file: bytes) -> list[Entry]:
    """All entries of a file."""
    source, found = Reading(BytesIO(file)), []
    while batch := source.batch():
        found += batch
    return found


class ReadingTests(SynchronousTestCase):
    """One way through a file."""

    def refusal(self, file: bytes) -> str:
        """What is wrong with a file, in one line that quotes no message."""
        text = str(self.assertRaises(FormatError, entries, file))
        self.assertEqual(1, len(text.splitlines()))
        self.assertNotIn("secret", text)
        return text

    def test_complete(self) -> None:
        """Each line has its number, and the queue or topic that it belongs to."""
        found = entries(WHOLE)
        self.assertEqual(list(range(2, 10)), [each.number for each in found])
        queue = Destination("demo", Kind.QUEUE, "orders")
        topic = Destination("demo", Kind.TOPIC, "news")
        self.assertEqual(
            [None] * 2 + [queue] * 4 + [topic] * 2, [each.destination for each in found]
        )
        bodies = [each.stored.message.body for each in found if each.stored]
        self.assertEqual([b'"secret"'] * 3, bodies)

    def test_batches(self) -> None:
        """A batch is bounded by its size."""
        self.patch(reading, "BATCH_BYTES", 1)
        source = Reading(BytesIO(WHOLE))
        self.assertEqual([2], [each.number for each in source.batch()])
        self.assertEqual([3], [each.number for each in source.batch()])

    def test_last_line_end(self) -> None:
        """Only the end of the last line may be missing."""
        self.assertEqual(8, len(entries(WHOLE[:-1])))

    def test_cut(self) -> None:
        """A file that was cut anywhere is refused."""
        for size in range(1, len(WHOLE) - 1):
            text = self.refusal(WHOLE[:size])
            if size > len(encode(HEADER)):
                self.assertIn("was cut off", text)

    def test_missing_line(self) -> None:
        """A file that lost a line in the middle is refused."""
        lines = WHOLE.splitlines(keepends=True)
        for number in (1, 2, 4, 5, 6):
            text = self.refusal(b"".join(lines[:number] + lines[number + 1 :]))
            self.assertIn("lines are missing", text)

    def test_too_long(self) -> None:
        """Nothing may follow the last line."""
        self.assertIn("line 11: ", self.refusal(WHOLE + WHOLE))

    def test_no_export(self) -> None:
        """A file of another kind is refused by its first line, however long that is."""
        for file in (
            b"",
            b"\n",
            b"a,b\n",
            b"{}\n",
            b"[]",
            b"\x1f\x8b\xff",
            b"x" * 9999,
        ):
            self.assertEqual("line 1: this is no export of mqsvc", self.refusal(file))
        file = b'{"format":"other","version":1}\n'
        self.assertEqual("line 1: this is no export of mqsvc", self.refusal(file))

    def test_version(self) -> None:
        """Another version of the format is refused, with what to do."""
        text = self.refusal(encode(Header("mqsvc-export", 2)) + WHOLE)
        self.assertIn("line 1: this is version 2", text)
        self.assertIn("use the mqsvc that wrote it", text)

    def test_broken_lines(self) -> None:
        """A broken line is told by its number and what is wrong in it."""
        for broken, reason in (
            (b"\n", "truncated"),
            (b"{\n", "truncated"),
            (b"\xff\n", "malformed"),
            (b"[]\n", "Expected `object`"),
            (b"{}\n", "missing required field `type`"),
            (b'{"type":"claim"}\n', "$.type"),
            (b'{"type":"queue","project":"p"}\n', "`name`"),
            (b'{"type":"queue","project":"p","name":"q","x":1}\n', "`x`"),
            (b'{"type":"queue","project":"p","name":"a/b"}\n', "A queue name has"),
            (b'{"type":"queue","project":1,"name":"q"}\n', "$.project"),
            (b'{"type":"message","body":1}\n', "`ttl`"),
            (encode(MESSAGE).replace(b"60", b"-1"), "$.ttl"),
            (encode(MESSAGE).replace(b'"secret"', b'"\\ud800"'), "hex escape"),
            (encode(MESSAGE).replace(b"body", b"base64"), "$.base64"),
            (encode(POOL).replace(b'"weight":1', b'"weight":1.5'), "$.weight"),
            (encode(FLAVOR).replace(b'["p"]', b"[]"), "$.pools"),
        ):
            file = encode(HEADER) + encode(QUEUE) + broken + encode(End(queues=2))
            text = self.refusal(file)
            self.assertTrue(text.startswith("line 3: "), text)
            self.assertIn(reason, text)

    def test_lines_of_nothing(self) -> None:
        """Messages and subscriptions stand below a queue or topic."""
        for line in (MESSAGE, SUBSCRIPTION):
            self.assertIn("line 2: no queue", self.refusal(file_of(line)))
            self.assertIn("line 3: no queue", self.refusal(file_of(POOL, line)))
