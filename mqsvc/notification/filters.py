"""``options.filter``: which messages a subscription is told of, by their bodies.

A filter is an object. Each member names a member of the body and holds an array of
conditions, one of which must hold, or a filter for the object there. All members of
a filter must hold. A condition is a string, a number, true, false or null, for
equality, or an object with one operator::

    {"kind": ["order", {"prefix": "return-"}],
     "price": [{"numeric": [">", 0, "<=", 100]}],
     "buyer": {"country": [{"anything-but": ["DE", "AT"]}]},
     "coupon": [{"exists": false}]}

Where the body has an array, one of its elements must satisfy the condition.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject

KEY = "filter"

MAX_CONDITIONS = 150
"""In one filter, so that no message costs more than so many comparisons a value."""

MAX_DEPTH = 5
"""Levels of objects in a filter."""

_Test = Callable[[Any], bool]

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_ABSENT: tuple[Any, ...] = (None, "", [])
"""What counts as not being there."""


@frozen
class _Member:
    """The conditions on one member of a body.

    :ivar path: names from the outermost object inwards.
    :ivar tests: one must hold for one of the values there.
    :ivar matches_absence: whether it holds, too, where there is no value.
    """

    path: tuple[str, ...]
    tests: tuple[_Test, ...]
    matches_absence: bool

    def matches(self, body: Any) -> bool:
        """Whether a body satisfies it."""
        values = list(_values(body, self.path))
        if self.matches_absence and all(value in _ABSENT for value in values):
            return True
        return any(test(value) for value in values for test in self.tests)


@frozen
class Filter:
    """A filter that is ready to be applied."""

    _members: tuple[_Member, ...]

    def matches(self, body: Any) -> bool:
        """Whether a subscription is told of a message.

        :param body: decoded. What is no object satisfies no filter but the empty one.
        """
        if not self._members:
            return True
        return isinstance(body, Mapping) and all(
            member.matches(body) for member in self._members
        )


def compile_filter(options: JsonObject) -> Filter:
    """The filter of a subscription's options; one that lets all pass if they have none.

    :raise InvalidRequest: it is malformed.
    """
    value = options.get(KEY)
    members = () if value is None else tuple(_members(value, f"options.{KEY}", ()))
    if sum(len(member.tests) for member in members) > MAX_CONDITIONS:
        raise InvalidRequest(
            f"'options.{KEY}' must have at most {MAX_CONDITIONS} conditions."
        )
    return Filter(members)


def _members(value: Any, place: str, path: tuple[str, ...]) -> Iterator[_Member]:
    if not isinstance(value, Mapping):
        raise _malformed(place, "an object")
    if len(path) >= MAX_DEPTH:
        raise _malformed(place, f"at most {MAX_DEPTH} levels deep")
    for name, inner in value.items():
        inner_place, inner_path = f"{place}.{name}", (*path, name)
        if name.startswith("$"):
            raise InvalidRequest(f"'{inner_place}' is an operator that is not known.")
        if isinstance(inner, Mapping):
            yield from _members(inner, inner_place, inner_path)
        else:
            yield _member(inner, inner_place, inner_path)


def _member(value: Any, place: str, path: tuple[str, ...]) -> _Member:
    if not isinstance(value, list) or not value:
        raise _malformed(place, "an array with conditions, or an object")
    tests = tuple(_test(one, f"{place}[{at}]") for at, one in enumerate(value))
    matches_absence = any(one == {"exists": False} for one in value)
    return _Member(path, tests, matches_absence)


def _test(condition: Any, place: str) -> _Test:
    """One condition as a function of a value that is there."""
    if isinstance(condition, list):
        raise _malformed(place, "a string, a number, true, false, null or an object")
    if not isinstance(condition, Mapping):
        return _equality(condition)
    if len(condition) != 1:
        raise _malformed(place, "an object with one operator")
    [(name, argument)] = condition.items()
    make = _OPERATORS.get(name)
    if make is None:
        raise InvalidRequest(
            f"'{place}' must have one of the operators {', '.join(_OPERATORS)}."
        )
    return make(argument, f"{place}.{name}")


def _equality(wanted: Any) -> _Test:
    # In Python 1 equals True, in JSON it does not.
    if _is_number(wanted):
        return lambda value: _is_number(value) and value == wanted
    return lambda value: type(value) is type(wanted) and value == wanted


def _prefix(argument: Any, place: str) -> _Test:
    prefix = _text(argument, place)
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def _suffix(argument: Any, place: str) -> _Test:
    suffix = _text(argument, place)
    return lambda value: isinstance(value, str) and value.endswith(suffix)


def _anything_but(argument: Any, place: str) -> _Test:
    unwanted = argument if isinstance(argument, list) else [argument]
    if not unwanted or len(unwanted) > MAX_CONDITIONS:
        raise _malformed(place, f"1 to {MAX_CONDITIONS} values")
    tests = tuple(_unwanted(one, f"{place}[{at}]") for at, one in enumerate(unwanted))
    return lambda value: not any(test(value) for test in tests)


def _unwanted(argument: Any, place: str) -> _Test:
    if isinstance(argument, Mapping) and not argument.keys() <= {"prefix", "suffix"}:
        raise _malformed(place, "a value, or an object with 'prefix' or 'suffix'")
    return _test(argument, place)


def _numeric(argument: Any, place: str) -> _Test:
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise _malformed(place, 'one or two pairs, such as [">", 0, "<=", 5]')
    pairs = list(zip(argument[::2], argument[1::2], strict=True))
    for sign, bound in pairs:
        if not isinstance(sign, str) or sign not in _COMPARISONS:
            raise _malformed(place, f"pairs that begin with {', '.join(_COMPARISONS)}")
        if not _is_number(bound):
            raise _malformed(place, "pairs that end with a number")
    comparisons = [(_COMPARISONS[sign], bound) for sign, bound in pairs]
    return lambda value: _is_number(value) and _all_hold(comparisons, value)


def _all_hold(
    comparisons: Sequence[tuple[Callable[[Any, Any], bool], float]], value: float
) -> bool:
    return all(compare(value, bound) for compare, bound in comparisons)


def _exists(argument: Any, place: str) -> _Test:
    if not isinstance(argument, bool):
        raise _malformed(place, "true or false")
    # Absence is no value, so that no test sees it.
    return lambda value: argument and value not in _ABSENT


_OPERATORS: Mapping[str, Callable[[Any, str], _Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}


def _values(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """What stands at a path: of an array each element, of an object nothing."""
    if isinstance(value, list):
        for element in value:
            yield from _values(element, path)
    elif path:
        if isinstance(value, Mapping) and path[0] in value:
            yield from _values(value[path[0]], path[1:])
    elif not isinstance(value, Mapping):
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise _malformed(place, "a string that is not empty")
    return value


def _malformed(place: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"'{place}' must be {wanted}.")
