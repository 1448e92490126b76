"""Checks of decoded values; each returns the value or says what was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mqsvc.messaging.errors import InvalidBody, InvalidName, InvalidRequest
from mqsvc.messaging.limits import (
    DEFAULT_PAGE_SIZE,
    MAX_CATALOG_TEXT,
    MAX_NAME_LENGTH,
    MAX_PROJECT_LENGTH,
)
from mqsvc.messaging.model import Destination

DESTINATIONS_KNOWN = 4096
"""Destinations that are remembered as well-formed."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high``, both included.

    :raise InvalidBody: it is no integer.
    :raise InvalidRequest: it is out of bounds.
    """
    if type(value) is not int and not is_integer(value):
        raise InvalidBody(f"'{name}' must be an integer.")
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidRequest(f"'{name}' must be an integer {bounds}; it is {value}.")
    return int(value)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A JSON object.

    :raise InvalidBody: it is something else.
    """
    # Nearly always it is one, which is quickly seen.
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidBody(f"{name} must be a dict (a JSON object).")
    return value


def text(value: Any, name: str) -> str:
    """A string that is not empty.

    :raise InvalidBody: it is something else.
    """
    if not isinstance(value, str) or not value:
        raise InvalidBody(f"'{name}' must be a string that is not empty.")
    return value


def short_text(value: Any, name: str, least: int = 0) -> str:
    """A string of at most :data:`MAX_CATALOG_TEXT` characters.

    :raise InvalidBody: it is something else, or longer, or shorter than ``least``.
    """
    if not isinstance(value, str) or not least <= len(value) <= MAX_CATALOG_TEXT:
        raise InvalidBody(
            f"'{name}' must be a string of {least} to {MAX_CATALOG_TEXT} characters."
        )
    return value


def count(value: int, name: str, maximum: int) -> int:
    """A number of items, from 1 to a configured maximum.

    :raise InvalidRequest: it is out of bounds.
    """
    return integer(value, name, 1, maximum)


def body_size(size: int, maximum: int) -> None:
    """Accept the size of a request, in bytes.

    :raise InvalidRequest: it is above the maximum.
    """
    if size > maximum:
        raise InvalidRequest(
            f"The body has {size} bytes, at most {maximum} are allowed."
        )


def page_size(limit: int | None, maximum: int) -> int:
    """How many items a caller gets who asked for so many, or said nothing.

    :raise InvalidRequest: the number asked for is out of bounds.
    """
    # The default holds whatever the maximum is (rest.md 3.1).
    return DEFAULT_PAGE_SIZE if limit is None else count(limit, "limit", maximum)


def is_name(value: str) -> bool:
    """Whether a queue or topic can have this name (rest.md 1.3, D-33)."""
    return (
        len(value) <= MAX_NAME_LENGTH
        and _NAME.match(value) is not None
        and value not in {".", ".."}
    )


@lru_cache(DESTINATIONS_KNOWN)
def destination(value: Destination) -> Destination:
    """A well-formed name in a well-formed project.

    It is the same object each time as long as it is remembered, so that what is kept
    for it is found without comparing names.

    :raise InvalidName: it is not (rest.md 1.3).
    """
    if not is_name(value.name):
        raise InvalidName(
            value.kind,
            f"A {value.kind} name has 1 to {MAX_NAME_LENGTH} letters, digits, '_', "
            "'-' and '.', and is not '.' or '..'.",
        )
    if len(value.project) > MAX_PROJECT_LENGTH:
        raise InvalidName(
            value.kind, f"X-Project-ID has at most {MAX_PROJECT_LENGTH} characters."
        )
    return value
