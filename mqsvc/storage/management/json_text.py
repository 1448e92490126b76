"""JSON objects as a store keeps them, and when two JSON values are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mqsvc.messaging.model import JsonObject


def to_text(document: JsonObject) -> str:
    """Compact JSON; key order, 64-bit integers and all characters stay as they are."""
    return msgspec.json.encode(dict(document)).decode()


def from_text(text: str) -> dict[str, Any]:
    """The object that :func:`to_text` wrote."""
    return msgspec.json.decode(text, type=dict[str, Any])


def holds(document: JsonObject, wanted: Mapping[str, Any]) -> bool:
    """Whether an object has each of some keys, with that very value."""
    return all(
        key in document and same(document[key], value) for key, value in wanted.items()
    )


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON: a boolean is no number, 1 is 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and holds(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
