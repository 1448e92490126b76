"""Changes of metadata as a list of operations (rest.md 5.9).

A subset of JSON Patch (RFC 6902): ``add``, ``replace`` and ``remove`` of
``/metadata/KEY``, with JSON Pointer's escapes (RFC 6901).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from attrs import frozen
from jsonpointer import JsonPointer, JsonPointerException

from mqsvc.messaging import checks
from mqsvc.messaging.errors import Conflict, InvalidBody
from mqsvc.messaging.model import JsonObject

MEDIA_TYPE = "application/openstack-messaging-v2.0-json-patch"

_OPERATIONS = ("add", "replace", "remove")


@frozen
class Change:
    """One operation on one key."""

    operation: str
    key: str
    value: Any = None


def parse_patch(document: Any) -> list[Change]:
    """The operations of a patch document.

    :raise InvalidBody: it is not a list of well-formed operations.
    """
    if not isinstance(document, list):
        raise InvalidBody("A patch must be an array of operations.")
    return [_parse_one(f"Operation {i}", item) for i, item in enumerate(document)]


def _parse_one(where: str, item: Any) -> Change:
    item = checks.mapping(item, where)
    for member in ("op", "path"):
        if member not in item:
            raise InvalidBody(f"{where} has no '{member}'.")
    operation = item["op"]
    if operation not in _OPERATIONS:
        raise InvalidBody(f"'op' must be one of {', '.join(_OPERATIONS)}.")
    if operation != "remove" and "value" not in item:
        raise InvalidBody(f"{where} ('{operation}') has no 'value'.")
    return Change(operation, _key(item["path"]), item.get("value"))


def _key(path: Any) -> str:
    """The KEY of ``/metadata/KEY``."""
    if isinstance(path, str):
        try:
            # A leading slash may be doubled (rest.md 5.9).
            pointer = JsonPointer(path[1:] if path.startswith("//") else path)
            parts = [part.strip() for part in pointer.parts]
        except JsonPointerException:
            parts = []
        if len(parts) == 2 and parts[0].lower() == "metadata" and parts[1]:
            return parts[1]
    raise InvalidBody("'path' must be /metadata/KEY, with ~1 for / and ~0 for ~.")


def apply_changes(
    changes: list[Change], metadata: JsonObject, reserved: Collection[str]
) -> dict[str, Any]:
    """The metadata after all changes, in their order.

    :param reserved: keys that count as present although they are not stored.
    :raise Conflict: a key to be replaced or removed does not exist.
    """
    result = dict(metadata)
    for change in changes:
        if change.operation != "add" and not (
            change.key in result or change.key in reserved
        ):
            raise Conflict(f"There is no '{change.key}' to {change.operation}.")
        if change.operation == "remove":
            result.pop(change.key, None)
        else:
            result[change.key] = change.value
    return result
