"""Query parameters: how they are read, and how they are given back in links."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import InvalidParameter
from mqsvc.rest.query import Query, next_links

exact = settings(deadline=None, derandomize=True)

words = st.text(min_size=1).filter(lambda text: "," not in text)
parameters = st.lists(st.tuples(st.sampled_from("abc"), words))

TRUE = ["true", "True", "t", "yes", "y", "1", "on"]
FALSE = ["false", "False", "f", "no", "n", "0", "off"]


class QueryTestCase(SynchronousTestCase):
    """What the tests of queries have in common."""

    def refused(self, text: str, kind: str) -> str:
        """The words with which a reading of ``x`` is refused."""
        query = Query(text)
        with self.assertRaises(InvalidParameter, msg=text) as caught:
            getattr(query, kind)("x")
        return caught.exception.description


class TextTests(QueryTestCase):
    """Single values as they are."""

    def test_last_one(self) -> None:
        """Of several values the last one counts, be they repeated or in a list."""
        for text in ("x=2&x=3", "x=2,3", "x=1,2&x=3", "x=3", "x=&x=3", "x=3&x="):
            self.assertEqual("3", Query(text).text("x"), text)

    def test_nothing(self) -> None:
        """An empty value is as if it were not there."""
        for text in ("", "x", "x=", "x=&x", "&", "y=1", "x=,", "x=3,", "=3"):
            self.assertIsNone(Query(text).text("x"), text)

    def test_escapes(self) -> None:
        """Escapes and plus signs are read as in forms; bad ones do no harm."""
        for text, value in (
            ("x=a%20b+c", "a b c"),
            ("x=%C3%BC", "\u00fc"),
            ("x=%26%3D", "&="),
            ("%78=1", "1"),
            ("x=a=b", "a=b"),
            ("x=%zz", "%zz"),
            ("x=%ff", "\ufffd"),
            ("x=a;y=b", "a;y=b"),
        ):
            self.assertEqual(value, Query(text).text("x"), text)

    @exact
    @given(parameters)
    def test_any(self, pairs: list[tuple[str, str]]) -> None:
        """Whatever is encoded is read back."""
        query = Query(urlencode(pairs))
        for name in "abc":
            values = [value for key, value in pairs if key == name]
            self.assertEqual(values[-1] if values else None, query.text(name))
            self.assertEqual(values or None, query.items(name))

    @exact
    @given(st.text() | st.text("xy=&,%0;+ \u0663"))
    def test_no_harm(self, text: str) -> None:
        """Any text is read in each way, or refused as a parameter."""
        query = Query(text)
        for kind in ("text", "integer", "boolean", "items"):
            try:
                getattr(query, kind)("x")
            except InvalidParameter as error:
                self.assertIn("'x'", error.description)

    def test_bounded(self) -> None:
        """A thousand parameters are read, and not one more."""
        self.assertEqual("1", Query("&".join(["x=1"] * 1000)).text("x"))
        with self.assertRaises(InvalidParameter):
            Query("&".join(["x=1"] * 1001))


class IntegerTests(QueryTestCase):
    """Numbers."""

    def test_forms(self) -> None:
        """Numbers may have a sign and blanks around them."""
        for text, value in (
            *(("5", 5), ("+5", 5), ("-5", -5), ("%205%20", 5), ("007", 7)),
            *(("1,2", 2), ("", None), ("1&x=2", 2)),
        ):
            self.assertEqual(value, Query(f"x={text.replace('+', '%2B')}").integer("x"))
        self.assertEqual(10**30, Query(f"x={10**30}").integer("x"))

    def test_refused(self) -> None:
        """Whatever else it is, it is no number."""
        for text in ("a", "1.5", "1e3", "0x1", "--1", "1%20000", "null", "9" * 5000):
            self.assertEqual(
                "'x' must be an integer.", self.refused(f"x={text}", "integer")
            )

    @exact
    @given(st.integers())
    def test_any(self, value: int) -> None:
        """A number of any size is read as it is."""
        self.assertEqual(value, Query(urlencode({"x": value})).integer("x"))


class BooleanTests(QueryTestCase):
    """Flags."""

    def test_forms(self) -> None:
        """There are seven words for either value."""
        self.assertEqual([True] * 7, [Query(f"x={w}").boolean("x") for w in TRUE])
        self.assertEqual([False] * 7, [Query(f"x={w}").boolean("x") for w in FALSE])
        self.assertIsNone(Query("x=").boolean("x"))
        self.assertIs(False, Query("x=true,false").boolean("x"))

    def test_refused(self) -> None:
        """No other word is a flag."""
        for text in ("TRUE", "None", "2", "-1", "yes!", "%20true", "nul"):
            self.assertEqual(
                "'x' must be true or false.", self.refused(f"x={text}", "boolean")
            )


class ItemsTests(QueryTestCase):
    """Lists."""

    def test_forms(self) -> None:
        """Lists and repetitions may be mixed; nothing between commas is nothing."""
        for text, items in (
            ("x=1,2&x=3", ["1", "2", "3"]),
            ("x=,1,,2,", ["1", "2"]),
            ("x=1&y=2&x=1", ["1", "1"]),
            ("x=%2C", []),
            ("x=,", []),
            ("x=", None),
            ("y=1", None),
        ):
            self.assertEqual(items, Query(text).items("x"), text)


class OthersTests(QueryTestCase):
    """Filters."""

    def test_rest(self) -> None:
        """What is not known by name is a filter, with its text as it is."""
        query = Query("limit=1&a=%201&b=x&limit=2,3&c=")
        self.assertEqual({"a": " 1", "b": "x"}, query.others(["limit"]))

    def test_one_value(self) -> None:
        """A filter has one value; what is known may have more."""
        for text in ("x=1&x=2", "x=1,2", "x=,"):
            with self.assertRaises(InvalidParameter, msg=text) as caught:
                Query(text).others([])
            self.assertIn("'x'", caught.exception.description)
            self.assertEqual({}, Query(text).others(["x"]))


class LinkTests(QueryTestCase):
    """Links to the next page."""

    def test_values(self) -> None:
        """Nothing is left out but what is none; flags are written in small letters."""
        (link,) = next_links(
            "/v2/queues",
            {"limit": 2, "detailed": False, "echo": True, "name": None, "marker": "a"},
        )
        self.assertEqual("next", link["rel"])
        self.assertEqual(
            "/v2/queues?limit=2&detailed=false&echo=true&marker=a", link["href"]
        )

    @exact
    @given(st.dictionaries(words, words | st.integers() | st.booleans(), min_size=1))
    def test_any(self, given_parameters: dict[str, str | int | bool]) -> None:
        """A link is read as it was meant."""
        (link,) = next_links("/p", given_parameters)
        address = urlsplit(link["href"])
        self.assertEqual("/p", address.path)
        self.assertEqual(
            {
                name: str(value).lower() if isinstance(value, bool) else str(value)
                for name, value in given_parameters.items()
            },
            dict(parse_qsl(address.query, strict_parsing=True)),
        )
