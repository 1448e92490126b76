"""Ids: sortable, reversible, and nothing else passes for one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.storage.ids import RANDOM_BITS, first_position, format_id, parse_id

exact = settings(deadline=None, derandomize=True)

positions = st.integers(0, 2**56 - 1)
randoms = st.integers(0, 2**RANDOM_BITS - 1)

NOW = 1_800_000_000_000


class IdTests(SynchronousTestCase):
    """The text of an id and its two parts."""

    @exact
    @given(positions, randoms)
    def test_round_trip(self, position: int, random: int) -> None:
        """An id has 24 digits, from which both parts can be read."""
        text = format_id(position, random)
        self.assertRegex(text, r"\A[0-9a-f]{24}\Z")
        self.assertEqual((position, random), parse_id(text))

    @exact
    @given(positions, randoms, positions, randoms)
    def test_order(self, position: int, random: int, other: int, more: int) -> None:
        """Ids sort like their positions, whatever their random parts."""
        one, two = format_id(position, random), format_id(other, more)
        self.assertEqual((position, random) < (other, more), one < two)

    @exact
    @given(st.text() | st.text("0123456789abcdefABCDEF", min_size=22, max_size=26))
    def test_any_text(self, text: str) -> None:
        """Exactly the texts that could have been made are read."""
        parsed = parse_id(text)
        if parsed is not None:
            self.assertEqual(text, format_id(*parsed))
        else:
            self.assertNotRegex(text, r"\A[0-9a-f]{24}\Z")

    def test_extremes(self) -> None:
        """The first and the last id that there can be are ids."""
        self.assertEqual((0, 0), parse_id("0" * 24))
        self.assertEqual((2**56 - 1, 2**RANDOM_BITS - 1), parse_id("f" * 24))

    def test_malformed(self) -> None:
        """Other lengths, upper case, blanks and foreign digits are no ids."""
        good = format_id(1, 2)
        for text in (
            *("", good[:-1], good + "0", good + "\n", " " + good[1:], good[:-1] + " "),
            *("A" * 24, "-" + good[1:], "+" + good[1:], "0x" + good[2:], "1_" * 12),
            *("\u0663" * 24, "g" * 24),
        ):
            self.assertIsNone(parse_id(text), text)


class FirstPositionTests(SynchronousTestCase):
    """Where a destination begins."""

    def test_behind_what_was_before(self) -> None:
        """A destination made again a moment later begins behind its old positions.

        As long as it took less than a thousand messages in a millisecond.
        """
        self.assertEqual(NOW * 1000, first_position(NOW))
        self.assertLess(first_position(NOW) + 999, first_position(NOW + 1))

    def test_room(self) -> None:
        """The positions of today and of the year 4000 fit into an id."""
        year_4000 = 64_060_588_800_000
        for now in (0, NOW, year_4000):
            position = first_position(now)
            self.assertEqual((position, 0), parse_id(format_id(position, 0)))
