"""Which messages a filter lets pass."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification.filters import MAX_CONDITIONS, compile_filter


def passes(wanted: Any, body: Any) -> bool:
    """Whether a filter lets a body pass."""
    return compile_filter({"filter": wanted}).matches(body)


class OperatorTests(SynchronousTestCase):
    """One condition on one member."""

    def check(self, conditions: list[Any], good: list[Any], bad: list[Any]) -> None:
        """The conditions hold for the good values and not for the bad ones."""
        for value in good:
            self.assertTrue(passes({"a": conditions}, {"a": value}), value)
        for value in bad:
            self.assertFalse(passes({"a": conditions}, {"a": value}), value)

    def test_exact(self) -> None:
        """Values are equal by type and value, numbers however they are written."""
        self.check(["x"], ["x"], ["X", "xx", 1, None, True, {}])
        self.check([1], [1, 1.0], [True, "1", 2])
        self.check([1.5], [1.5], [1, "1.5"])
        self.check([True], [True], [1, "true", False])
        self.check([False], [False], [0, "", None])
        self.check([None], [None], [False, 0, "null"])

    def test_any_of_several(self) -> None:
        """One of several conditions is enough."""
        self.check(["x", 2, {"prefix": "y"}], ["x", 2, "yes"], ["z", 3])

    def test_prefix_and_suffix(self) -> None:
        """Both look at strings only."""
        self.check([{"prefix": "ab"}], ["ab", "abc"], ["a", "cab", 5, None])
        self.check([{"suffix": "ab"}], ["ab", "cab"], ["b", "abc", 5, None])

    def test_anything_but(self) -> None:
        """All values but some, which must be there."""
        self.check([{"anything-but": "x"}], ["y", 1, True], ["x"])
        self.check([{"anything-but": ["x", 1]}], ["y", True, 2], ["x", 1])
        self.check([{"anything-but": {"prefix": "x"}}], ["y", 1], ["x", "xy"])
        self.check([{"anything-but": [{"suffix": "x"}]}], ["xy"], ["yx"])
        self.assertFalse(passes({"a": [{"anything-but": "x"}]}, {"b": "y"}))

    def test_numeric(self) -> None:
        """Numbers are compared with one or two bounds."""
        self.check([{"numeric": ["=", 5]}], [5, 5.0], [4, "5", True, None])
        self.check([{"numeric": [">", 0, "<=", 5]}], [1, 5, 0.1], [0, 6, "1"])
        self.check([{"numeric": [">=", 0]}], [0, 10**30], [-0.1, False])
        self.check([{"numeric": ["<", 1.5]}], [1, -3], [1.5, 2])

    def test_exists(self) -> None:
        """Null, an empty string and an empty array count as absent."""
        absent: list[Any] = [None, "", []]
        present: list[Any] = [0, False, "x", [1]]
        self.check([{"exists": True}], present, absent)
        self.check([{"exists": False}], absent, present)
        self.assertFalse(passes({"a": [{"exists": True}]}, {}))
        self.assertTrue(passes({"a": [{"exists": False}]}, {}))

    def test_absent_or(self) -> None:
        """Absence can be one of several conditions."""
        conditions = [{"exists": False}, "x"]
        self.assertTrue(passes({"a": conditions}, {}))
        self.check(conditions, ["x", None], ["y", ["y"]])

    def test_arrays(self) -> None:
        """Of an array one element is enough."""
        self.check(["x"], [["x", "y"], [["x"]]], [["y"], []])
        self.check([{"anything-but": "x"}], [["x", "y"]], [["x"], []])


class ShapeTests(SynchronousTestCase):
    """Filters as a whole."""

    def test_all_members(self) -> None:
        """All members of a filter must hold; others of the body play no role."""
        wanted = {"a": [1], "b": [2]}
        self.assertTrue(passes(wanted, {"a": 1, "b": 2, "c": 3}))
        self.assertFalse(passes(wanted, {"a": 1, "b": 3}))
        self.assertFalse(passes(wanted, {"a": 1}))

    def test_nested(self) -> None:
        """Objects are looked into, also those in arrays."""
        wanted = {"a": {"b": {"c": [1]}}}
        self.assertTrue(passes(wanted, {"a": {"b": {"c": 1}}}))
        self.assertTrue(passes(wanted, {"a": [{"b": 5}, {"b": [{"c": 1}]}]}))
        for body in ({"a": {"b": 1}}, {"a": 1}, {"a": {"c": 1}}, {}):
            self.assertFalse(passes(wanted, body))

    def test_no_object(self) -> None:
        """A body that is no object satisfies no filter."""
        for body in (1, "x", [{"a": 1}], None):
            self.assertFalse(passes({"a": [1]}, body))
            self.assertFalse(passes({"a": [{"exists": False}]}, body))

    def test_none(self) -> None:
        """Without conditions every message passes."""
        bodies: list[Any] = [1, {}, [], {"a": 1}]
        for body in bodies:
            self.assertTrue(compile_filter({}).matches(body))
            self.assertTrue(passes(None, body))
            self.assertTrue(passes({}, body))


class MalformedTests(SynchronousTestCase):
    """What is no filter."""

    def test_places(self) -> None:
        """The refusal names the place and what is wanted there."""
        for wanted, text in (
            ([], "'options.filter' must be an object"),
            ("x", "'options.filter' must be an object"),
            ({"a": "x"}, "'options.filter.a' must be an array"),
            ({"a": []}, "'options.filter.a' must be an array"),
            ({"a": {"b": 1}}, "'options.filter.a.b' must be an array"),
            ({"a": [[1]]}, "'options.filter.a[0]' must be a string"),
            ({"a": [1, {}]}, "'options.filter.a[1]' must be an object with one"),
            ({"a": [{"prefix": "x", "suffix": "y"}]}, "an object with one operator"),
            ({"a": [{"like": "x"}]}, "one of the operators prefix, suffix"),
            ({"a": [{"prefix": 1}]}, "'options.filter.a[0].prefix' must be a string"),
            ({"a": [{"suffix": ""}]}, "not empty"),
            ({"a": [{"exists": 0}]}, "must be true or false"),
            ({"a": [{"anything-but": []}]}, "must be 1 to 150 values"),
            ({"a": [{"anything-but": {"exists": True}}]}, "'prefix' or 'suffix'"),
            ({"a": [{"anything-but": [[1]]}]}, "a[0].anything-but[0]' must be"),
            ({"a": [{"numeric": [">"]}]}, "one or two pairs"),
            ({"a": [{"numeric": []}]}, "one or two pairs"),
            ({"a": [{"numeric": {">": 1}}]}, "one or two pairs"),
            ({"a": [{"numeric": ["!", 1]}]}, "pairs that begin with"),
            ({"a": [{"numeric": [[], 1]}]}, "pairs that begin with"),
            ({"a": [{"numeric": [">", "1"]}]}, "end with a number"),
            ({"a": [{"numeric": [">", True]}]}, "end with a number"),
            ({"$or": [{"a": [1]}]}, "'options.filter.$or' is an operator"),
            ({"a": [*range(MAX_CONDITIONS + 1)]}, "at most 150 conditions"),
        ):
            with self.assertRaises(InvalidRequest) as caught:
                passes(wanted, {})
            self.assertIn(text, str(caught.exception))

    def test_depth(self) -> None:
        """Five levels of objects are allowed and six are not."""
        wanted: Any = [1]
        for _ in range(5):
            wanted = {"a": wanted}
        compile_filter({"filter": wanted})
        with self.assertRaises(InvalidRequest) as caught:
            compile_filter({"filter": {"a": wanted}})
        self.assertIn("at most 5 levels", str(caught.exception))
