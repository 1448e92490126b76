"""JSON as the service reads and writes it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.wire.codec import MAX_DEPTH, CodecError, Encoded, decode, encode

exact = settings(deadline=None, derandomize=True)

INT64 = st.integers(-(2**63), 2**63 - 1)

values = st.recursive(
    st.none()
    | st.booleans()
    | INT64
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)

PIECES = [
    *("[", "]", "{", "}", ",", ":", '"', "\\", "\\u", "\\ud800", "\\udc00", "d83d"),
    *("0", "1", "-", "+", ".", "e", "E", "9223372036854775807", "9223372036854775808"),
    *("true", "false", "null", "NaN", "Infinity", " ", "\n", "\x00", "\ufeff", "a"),
    *("1e400", "1e-400", "\u00fc", "\U0001f600", "[" * 130, "]" * 130, '{"":' * 130),
]

almost_json = st.lists(st.sampled_from(PIECES)).map("".join)

DECODE_SLOWLY = """
import sys
from mqsvc.wire.codec import CodecError, decode
try:
    decode(b"[" * 257 + b'"' + b'\\\\"' * 130_000)
except CodecError:
    sys.exit(7)
"""


def is_refused(raw: bytes) -> bool:
    """Whether bytes are refused, with words."""
    try:
        decode(raw)
    except CodecError as error:
        if not str(error):
            raise AssertionError("refused without words") from error
        return True
    return False


def nested(depth: int) -> list[bytes]:
    """Documents of a depth: of arrays, of objects, and of both in turn."""
    pairs = (depth // 2) * b'[{"":' + b"[" * (depth % 2)
    ends = b"]" * (depth % 2) + (depth // 2) * b"}]"
    odd = pairs + (b"" if depth % 2 else b"1") + ends
    objects = (depth - 1) * b'{"a":' + b"{}" + (depth - 1) * b"}"
    return [depth * b"[" + depth * b"]", objects, odd]


class RoundTripTests(SynchronousTestCase):
    """What goes in comes out."""

    @exact
    @given(values)
    def test_values(self, value: Any) -> None:
        """Decoding undoes encoding, to the type and the order of keys."""
        # The text tells 1 from 1.0 and True, which compare equal, and 0.0 from -0.0.
        self.assertEqual(repr(value), repr(decode(encode(value))))

    @exact
    @given(values)
    def test_another_decoder(self, value: Any) -> None:
        """What is written here is read alike by others, and the reverse."""
        self.assertEqual(value, json.loads(encode(value)))
        self.assertEqual(repr(value), repr(decode(json.dumps(value).encode())))

    @exact
    @given(almost_json.map(str.encode) | st.binary())
    def test_any_bytes(self, raw: bytes) -> None:
        """Any bytes are refused, or give a value that can be written and read again."""
        try:
            value = decode(raw)
        except CodecError:
            return
        again = encode(value)
        self.assertEqual(repr(value), repr(decode(again)))
        self.assertEqual(value, json.loads(again))

    def test_compact(self) -> None:
        """What is written has no blanks and leaves all characters as they are."""
        self.assertEqual(
            '{"b":[1,2.5],"a":"\u00fc\u2028"}'.encode(),
            encode({"b": [1, 2.5], "a": "\u00fc\u2028"}),
        )

    def test_encoded_parts(self) -> None:
        """Parts that are JSON already are put in byte by byte."""
        part = Encoded(b'{ "a" :1.50}')
        self.assertEqual(b'[null,{ "a" :1.50}]', encode([None, part]))


class StrictnessTests(SynchronousTestCase):
    """What is no JSON here."""

    def test_malformed(self) -> None:
        """Broken texts, other encodings and other languages' constants are refused."""
        for raw in (
            *(b"", b" ", b"[1,]", b"[1 2]", b"{1:2}", b"{'a':1}", b"01", b"+1", b".5"),
            *(b"1.", b"1 2", b"[]]", b"[", b'"a', b"'a'", b"nul", b"True", b"None"),
            *(b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"1e400", b"-1e400"),
            *(b"\xef\xbb\xbf1", '"\u00fc"'.encode("latin-1"), "[]".encode("utf-16")),
            *(b'"\xff"', b'"\xed\xa0\x80"', b'"\x00"', b'"\n"', b'"\\x41"', b"/**/1"),
        ):
            self.assertTrue(is_refused(raw), raw)

    def test_surrogates(self) -> None:
        """A pair of surrogates is one character; half of a pair is none."""
        self.assertEqual("\U0001f600", decode(b'"\\ud83d\\ude00"'))
        for raw in (b'"\\ud83d"', b'"\\ude00"', b'"\\ude00\\ud83d"', b'{"\\ud83d":1}'):
            self.assertTrue(is_refused(raw), raw)

    def test_duplicate_keys(self) -> None:
        """Of a key that is given twice the last one counts."""
        self.assertEqual({"a": 2}, decode(b'{"a":1,"a":2}'))

    def test_blanks(self) -> None:
        """Blanks around are no part of the value."""
        self.assertEqual([1], decode(b" \t\r\n[ 1 ]\n"))


class IntegerTests(SynchronousTestCase):
    """Integers have 64 bits."""

    def test_bounds(self) -> None:
        """The greatest and the smallest are read, those beyond are refused."""
        for value in (2**63 - 1, -(2**63)):
            self.assertEqual(value, decode(b"%d" % value))
        for value in (2**63, -(2**63) - 1, 2**64, 10**30, -(10**30)):
            self.assertTrue(is_refused(b"%d" % value), value)
        self.assertTrue(is_refused(b"1" * 100_000))

    def test_anywhere(self) -> None:
        """Integers are looked at wherever they stand."""
        for shape in (b"[[%d]]", b'{"a":{"b":%d}}', b'[{"a":[1,%d]}]', b'[1,"x",%d]'):
            self.assertFalse(is_refused(shape % (2**63 - 1)), shape)
            self.assertTrue(is_refused(shape % 2**63), shape)

    def test_only_integers(self) -> None:
        """Many digits in texts, keys and fractions are fine."""
        digits = "9" * 30
        self.assertEqual({digits: [digits]}, decode(encode({digits: [digits]})))
        self.assertEqual(1e30, decode(digits.encode() + b".0"))
        self.assertEqual([True, 2**63 - 1], decode(b"[true,9223372036854775807]"))

    @exact
    @given(st.integers(-(2**66), 2**66))
    def test_any(self, value: int) -> None:
        """Exactly the integers of 64 bits are read."""
        fits = -(2**63) <= value < 2**63
        self.assertEqual(not fits, is_refused(b"[%d]" % value))


class DepthTests(SynchronousTestCase):
    """Documents have a bounded depth."""

    def test_bound(self) -> None:
        """As many levels as allowed are read, one more is refused."""
        for raw in nested(MAX_DEPTH):
            self.assertEqual(raw, encode(decode(raw)))
        for raw in nested(MAX_DEPTH + 1):
            self.assertTrue(is_refused(raw), raw[:20])
        for raw in nested(100_000):
            self.assertTrue(is_refused(raw), raw[:20])

    def test_wide(self) -> None:
        """Many arrays and objects beside each other are not deep."""
        raw = b"[" + b",".join([b'[{"a":[]}]'] * 1000) + b"]"
        self.assertEqual(1000, len(decode(raw)))
        tower = nested(MAX_DEPTH - 1)[0]
        self.assertEqual(3, len(decode(b"[" + b",".join([tower] * 3) + b"]")))
        self.assertTrue(is_refused(b"[" + b",".join([b"[]", *nested(256)]) + b"]"))

    def test_brackets_in_texts(self) -> None:
        """Brackets in texts and keys are no levels, whatever is escaped beside them."""
        text = '[{"\\' * 1000
        for value in ([text], {text: text}, [text, [text]], ["\\", "[" * 300, '"']):
            self.assertEqual(value, decode(encode(value)))
        hidden = nested(MAX_DEPTH + 1)[0]
        self.assertTrue(is_refused(b'["\\"",' + hidden + b"]"))
        self.assertTrue(is_refused(b'["\\\\",' + hidden + b',"\\\\"]'))

    def test_unbalanced(self) -> None:
        """Closing what was not opened gives no room for more levels."""
        for raw in (b"]" * 300 + nested(300)[0], b"[" * 300, b"]" * 300, b"}{" * 300):
            self.assertTrue(is_refused(raw), raw[:20])

    @exact
    @given(st.integers(1, 2 * MAX_DEPTH), values)
    def test_any(self, depth: int, value: Any) -> None:
        """Exactly the documents up to the bound are read, whatever else is in them."""
        raw = b"[" * depth + encode([value]) + b"]" * depth
        self.assertEqual(depth + levels([value]) > MAX_DEPTH, is_refused(raw))

    def test_unfinished_text_costs_little(self) -> None:
        """A text without end, full of escaped quotes, is refused as fast as others."""
        # In a process of its own: what takes minutes cannot be stopped in this one.
        try:
            ended = subprocess.run(
                [sys.executable, "-c", DECODE_SLOWLY],
                env={"PYTHONPATH": ":".join(sys.path)},
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.fail("260 KB of escaped quotes keep the decoder busy for a long time")
        self.assertEqual(7, ended.returncode)


def levels(value: Any) -> int:
    """How deep a value is."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)
    return 0
