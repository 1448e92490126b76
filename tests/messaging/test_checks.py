"""Checks of values: bounds, types, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidBody, InvalidName, InvalidRequest
from mqsvc.messaging.model import NAMEABLE, Destination, Kind

exact = settings(deadline=None, derandomize=True)


class CheckTestCase(SynchronousTestCase):
    """What the tests of checks have in common."""

    def refused(self, check: Callable[[], Any]) -> InvalidRequest:
        """The refusal of a value."""
        with self.assertRaises(InvalidRequest) as caught:
            check()
        return caught.exception


class IntegerTests(CheckTestCase):
    """Whole numbers."""

    def test_kinds(self) -> None:
        """Only whole numbers are integers; true and false are none."""
        for value in (0, -1, 2**70):
            self.assertTrue(checks.is_integer(value))
        for value in (True, False, 1.0, "1", None, [1]):
            self.assertFalse(checks.is_integer(value))
            error = self.refused(lambda v=value: checks.integer(v, "n", 0))
            self.assertIsInstance(error, InvalidBody)
            self.assertEqual("'n' must be an integer.", error.description)

    def test_words(self) -> None:
        """A refusal says which bounds there are, and what was given."""
        self.assertEqual(
            "'n' must be an integer from 1 to 9; it is 0.",
            self.refused(lambda: checks.integer(0, "n", 1, 9)).description,
        )
        self.assertEqual(
            "'n' must be an integer at least 1; it is 0.",
            self.refused(lambda: checks.integer(0, "n", 1)).description,
        )

    @exact
    @given(st.integers(-5, 15), st.integers(-5, 15), st.integers(-5, 15) | st.none())
    def test_bounds(self, value: int, low: int, high: int | None) -> None:
        """Exactly the numbers within the bounds pass, bounds included."""
        if low <= value and (high is None or value <= high):
            self.assertEqual(value, checks.integer(value, "n", low, high))
        else:
            self.refused(lambda: checks.integer(value, "n", low, high))


class OtherValueTests(CheckTestCase):
    """Objects, texts and sizes."""

    def test_mapping(self) -> None:
        """An object passes as it is, and nothing else does."""
        value = {"a": 1}
        self.assertIs(value, checks.mapping(value, "X"))
        for wrong in (None, [], [["a", 1]], "x", 5):
            error = self.refused(lambda w=wrong: checks.mapping(w, "X"))
            self.assertEqual("X must be a dict (a JSON object).", error.description)

    def test_text(self) -> None:
        """A text that is not empty passes, and nothing else does."""
        self.assertEqual(" ", checks.text(" ", "t"))
        for wrong in ("", None, 5, ["x"], b"x"):
            error = self.refused(lambda w=wrong: checks.text(w, "t"))
            self.assertIn("'t' must be a string", error.description)

    def test_page_size(self) -> None:
        """Ten unless the caller says otherwise, which must be within bounds."""
        self.assertEqual(10, checks.page_size(None, 5))
        self.assertEqual([1, 5], [checks.page_size(size, 5) for size in (1, 5)])
        for size in (0, 6, -1):
            error = self.refused(lambda s=size: checks.page_size(s, 5))
            self.assertIn("'limit'", error.description)


class NameTests(CheckTestCase):
    """Names of queues and topics, and their projects."""

    def test_names(self) -> None:
        """Letters, digits, three other characters, 64 of them at most."""
        for name in ("a", "Z9", "_", "-", "a.b", "...", "x" * 64, ".a"):
            self.assertTrue(checks.is_name(name), name)
        for name in ("", ".", "..", "a b", "a/b", "a\n", "\u00fc", "\u0663", "x" * 65):
            self.assertFalse(checks.is_name(name), name)

    @exact
    @given(st.text(max_size=70))
    def test_any_name(self, name: str) -> None:
        """What is accepted needs no escapes in a path, and is never empty."""
        if checks.is_name(name):
            self.assertTrue(
                name.isascii() and name.isprintable() and 0 < len(name) < 65
            )
            self.assertFalse(set(name) & set(" /?#%&=,;:@\\\"'<>"))

    def test_destination(self) -> None:
        """A well-formed destination passes; what is wrong is said for its kind."""
        for kind in NAMEABLE:
            fine = Destination("p" * 256, kind, "x")
            self.assertEqual(fine, checks.destination(fine))
            for wrong, words in (
                (Destination("p", kind, ""), f"A {kind} name"),
                (Destination("p" * 257, kind, "x"), "256 characters"),
            ):
                error = self.refused(lambda w=wrong: checks.destination(w))
                self.assertIsInstance(error, InvalidName)
                self.assertEqual(f"Invalid {kind} identification", error.title)
                self.assertIn(words, error.description)

    def test_same_destination(self) -> None:
        """What is named again is the object that it was before."""
        one, other = (Destination("p", Kind.QUEUE, "same") for _ in range(2))
        self.assertIs(checks.destination(one), checks.destination(other))
