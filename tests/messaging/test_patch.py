"""Patches of metadata: how they are read, and what they do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import Conflict, InvalidBody, MessagingError
from mqsvc.messaging.patch import Change, apply_changes, parse_patch

exact = settings(deadline=None, derandomize=True)

RESERVED = ("_r", "_s")

keys = st.sampled_from(["a", "b", "a/b", "a~b", "~1", *RESERVED])
operations = st.builds(
    Change, st.sampled_from(["add", "replace", "remove"]), keys, st.integers(0, 9)
)


def escaped(key: str) -> str:
    """A key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def documented(change: Change) -> dict[str, Any]:
    """A change as a client sends it."""
    item = {"op": change.operation, "path": f"/metadata/{escaped(change.key)}"}
    return item if change.operation == "remove" else {**item, "value": change.value}


def plainly(changes: list[Change], metadata: dict[str, Any]) -> dict[str, Any] | None:
    """What a patch does, one step after the other; none for a conflict."""
    result = dict(metadata)
    for change in changes:
        present = change.key in result
        if change.operation == "add":
            result[change.key] = change.value
        elif not present and change.key not in RESERVED:
            return None
        elif change.operation == "replace":
            result[change.key] = change.value
        elif present:
            del result[change.key]
    return result


class ParseTests(SynchronousTestCase):
    """What counts as a patch."""

    def test_nothing(self) -> None:
        """A patch may have no operations."""
        self.assertEqual([], parse_patch([]))

    def test_operations(self) -> None:
        """Each operation names a key, and all but a removal bring a value."""
        patch = [
            {"op": "add", "path": "/metadata/a", "value": None},
            {"op": "replace", "path": "/metadata/b", "value": [1], "extra": 1},
            {"op": "remove", "path": "/metadata/c"},
        ]
        self.assertEqual(
            [Change("add", "a"), Change("replace", "b", [1]), Change("remove", "c")],
            parse_patch(patch),
        )

    def test_paths(self) -> None:
        """Keys are unescaped once; the root is read in any case and without blanks."""
        for path, key in (
            ("/metadata/a~1b", "a/b"),
            ("/metadata/a~0b", "a~b"),
            ("/metadata/~01", "~1"),
            ("/METADATA/a", "a"),
            ("/ metadata / a ", "a"),
            ("//metadata/a", "a"),
            ("/metadata/0", "0"),
            ("/metadata/-", "-"),
            ("/metadata/\u00fc", "\u00fc"),
        ):
            (change,) = parse_patch([{"op": "remove", "path": path}])
            self.assertEqual(key, change.key, path)

    def test_refused_paths(self) -> None:
        """A path of any other form is refused."""
        for path in (
            *("", "/", "metadata/a", "/metadata", "/metadata/", "/metadata//"),
            *("/metadata/a/", "/metadata/a/b", "/other/a", "/metadata/~2"),
            *("/metadata/a~", "//metadata/a/b", "/metadata/ ", "#/metadata/a"),
            *(None, 5, ["metadata", "a"], {}),
        ):
            with self.assertRaises(InvalidBody, msg=path):
                parse_patch([{"op": "remove", "path": path}])

    def test_refused_documents(self) -> None:
        """What is no list of whole operations is refused."""
        fine = {"op": "add", "path": "/metadata/a", "value": 1}
        for document in (
            None,
            {},
            fine,
            "add",
            5,
            [fine, None],
            [[fine]],
            ["add"],
            *([{k: v for k, v in fine.items() if k != gone}] for gone in fine),
            [{**fine, "op": "move"}],
            [{**fine, "op": "ADD"}],
            [{**fine, "op": None}],
            [{**fine, "op": ["add"]}],
            [{**fine, "op": {}}],
            [{"op": "replace", "path": "/metadata/a"}],
        ):
            with self.assertRaises(InvalidBody, msg=document):
                parse_patch(document)

    def test_which_one(self) -> None:
        """The text of a refusal says which operation is wrong."""
        with self.assertRaises(InvalidBody) as caught:
            parse_patch([{"op": "remove", "path": "/metadata/a"}, {"op": "remove"}])
        self.assertEqual("Operation 1 has no 'path'.", caught.exception.description)

    @exact
    @given(st.lists(operations))
    def test_round_trip(self, changes: list[Change]) -> None:
        """What is sent is what is read, whatever characters keys have."""
        wanted = [
            Change(each.operation, each.key) if each.operation == "remove" else each
            for each in changes
        ]
        self.assertEqual(wanted, parse_patch([documented(each) for each in changes]))

    @exact
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.sampled_from(["add", "remove", "/metadata/a", "/", "~"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["op", "path", "value"]), inner)
            ),
        )
    )
    def test_any_document(self, document: Any) -> None:
        """Whatever is sent is either read or refused in so many words."""
        try:
            parse_patch(document)
        except MessagingError as error:
            self.assertIsInstance(error, InvalidBody)
            self.assertTrue(error.description)


class ApplyTests(SynchronousTestCase):
    """What changes do."""

    def test_the_original_stays(self) -> None:
        """The metadata given is not touched."""
        metadata = {"a": 1}
        changed = apply_changes([Change("remove", "a")], metadata, ())
        self.assertEqual(({}, {"a": 1}), (changed, metadata))

    def test_conflicts(self) -> None:
        """A key to be replaced or removed must be there, or be reserved."""
        for operation in ("replace", "remove"):
            with self.assertRaises(Conflict) as caught:
                apply_changes([Change(operation, "a", 1)], {"b": 1}, RESERVED)
            self.assertEqual(
                f"There is no 'a' to {operation}.", caught.exception.description
            )

    def test_reserved_keys(self) -> None:
        """A reserved key that is not stored can be replaced, and removed to no end."""
        changed = apply_changes(
            [Change("replace", "_r", 1), Change("remove", "_s")], {}, RESERVED
        )
        self.assertEqual({"_r": 1}, changed)

    def test_order(self) -> None:
        """Later changes see what earlier ones did."""
        changes = [
            Change("add", "a", 1),
            Change("replace", "a", 2),
            Change("remove", "a"),
            Change("add", "a", 3),
        ]
        self.assertEqual({"a": 3}, apply_changes(changes, {}, ()))
        with self.assertRaises(Conflict):
            apply_changes([*changes[:3], Change("remove", "a")], {}, ())

    @exact
    @given(st.lists(operations), st.dictionaries(keys, st.integers(0, 9)))
    def test_model(self, changes: list[Change], metadata: dict[str, Any]) -> None:
        """All is done, or nothing and a conflict."""
        expected = plainly(changes, metadata)
        try:
            changed = apply_changes(changes, metadata, RESERVED)
        except Conflict:
            self.assertIsNone(expected)
        else:
            self.assertEqual(expected, changed)
