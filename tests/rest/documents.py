"""Documents for hypothesis to spoil: any JSON, and good JSON with one bad place."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from json import dumps
from typing import Any

from hypothesis import strategies as st

Place = tuple[str | int, ...]

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 59, 1.5, -0.0, 2**31, 2**63 - 1, 2**63, -(2**70)),
    *(float("nan"), float("inf"), "", "x", "5", "\ud800", "\x00", "é" * 300),
    *([], [[]], [None], [1], ["x"], {}, {"a": None}, {"": {"": []}}),
]
"""One of everything that a field may be given instead of what it wants."""

NASTY_BYTES = [
    *(b"\xff", b"\xc3", b"\x00", b"\xef\xbb\xbf", b'"', b"\\", b"\\u", b"\\ud800"),
    *(b"[" * 500, b'{"":' * 500, b"9" * 500, b"1e999", b"-", b"NaN", b",", b"}", b"]"),
]

TEXTS = st.text(st.characters(), max_size=20)
"""Texts with unpaired surrogates among their characters."""

NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats()

VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=8,
)


def places(document: Any, at: Place = ()) -> Iterator[Place]:
    """Where a document can be changed, itself included."""
    yield at
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, (*at, index))


def changed(document: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    if not place:
        return value
    copy = deepcopy(document)
    parent = copy
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    return copy


def without(document: Any, place: Place) -> Any:
    """A copy in which a place is missing."""
    copy = deepcopy(document)
    parent = copy
    for step in place[:-1]:
        parent = parent[step]
    del parent[place[-1]]
    return copy


def encoded(document: Any) -> bytes:
    """What Python writes, also where that is not JSON."""
    return dumps(document).encode()


def every_odd_body(document: Any) -> Iterator[bytes]:
    """Each place in turn missing, and with each odd value."""
    for place in places(document):
        if place:
            yield encoded(without(document, place))
        for value in ODD_VALUES:
            yield encoded(changed(document, place, value))


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> bytes:
    """Good JSON with any value in one place."""
    place = draw(st.sampled_from(list(places(document))))
    return encoded(changed(document, place, draw(VALUES)))


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> bytes:
    """The bytes of good JSON, cut or with something put in."""
    good = encoded(document)
    at = draw(st.integers(0, len(good)))
    end = draw(st.sampled_from([b"", good[at:], good[at + 1 :]]))
    middle = draw(st.just(b"") | st.sampled_from(NASTY_BYTES) | st.binary(max_size=4))
    return good[:at] + middle + end


def bodies(document: Any) -> st.SearchStrategy[bytes]:
    """Bodies for an operation that takes a document like this."""
    anything = VALUES.map(encoded) | st.binary(max_size=30)
    raw = VALUES.map(lambda value: dumps(value, ensure_ascii=False))
    unescaped = raw.map(lambda text: text.encode("utf-8", "surrogatepass"))
    return mutated(document) | damaged(document) | anything | unescaped
