"""Which headers and body keys an action takes, and of which type.

These checks come before authentication (websocket.md 4.1), so they know nothing but
types; the operations know the bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from mqsvc.messaging.model import Kind
from mqsvc.websocket.envelope import Refused

QUEUE_KEY, TOPIC_KEY = "queue_name", "topic_name"
KINDS = {QUEUE_KEY: Kind.QUEUE, TOPIC_KEY: Kind.TOPIC}

_STRING, _INTEGER, _BOOLEAN = "a string", "an integer", "a boolean"
_ARRAY, _OBJECT, _ANYTHING = "an array", "an object", "anything"

_TYPES: Mapping[str, type] = {
    _STRING: str,
    _INTEGER: int,
    _BOOLEAN: bool,
    _ARRAY: list,
    _OBJECT: dict,
    _ANYTHING: object,
}

_KEYS: Mapping[str, str] = {
    **dict.fromkeys((QUEUE_KEY, TOPIC_KEY, "pool_name", "flavor_name"), _STRING),
    **dict.fromkeys(("message_id", "claim_id", "subscription_id"), _STRING),
    **dict.fromkeys(("marker", "name", "subscriber", "expires"), _STRING),
    **dict.fromkeys(("limit", "pop", "ttl", "grace", "wait"), _INTEGER),
    **dict.fromkeys(("detailed", "with_count", "echo", "confirmed"), _BOOLEAN),
    **dict.fromkeys(("include_claimed", "include_delayed"), _BOOLEAN),
    **dict.fromkeys(("messages", "message_ids", "claim_ids"), _ARRAY),
    **dict.fromkeys(("resource_types", "paths", "methods"), _ARRAY),
    **dict.fromkeys(("options", "kfilter"), _OBJECT),
    "metadata": _ANYTHING,
}

_REQUIRED_HEADERS = ("Client-ID", "X-Project-ID")
_AUTHENTICATION_HEADERS = ("X-Auth-Token", "X-Project-ID")
_STRING_HEADERS = ("User-Agent", "Date", "Accept", "Client-ID", "X-Auth-Token")


@frozen
class Schema:
    """The body keys of an action.

    :ivar kinds: the keys of which exactly one must name a queue or topic.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, required: str = "", optional: str = "", kinds: str = "") -> Schema:
        """A schema of keys written in one line each."""
        return cls(*(tuple(keys.split()) for keys in (required, optional, kinds)))

    def check(self, document: Mapping[str, Any]) -> None:
        """Accept a request that has the keys, with values of their types.

        :raise Refused: it does not.
        """
        check_headers(document, _REQUIRED_HEADERS)
        body = check_body(document)
        named = [key for key in self.kinds if key in body]
        if self.kinds and len(named) != 1:
            raise failed(f"'{' or '.join(self.kinds)}' is required.")
        for key in self.required:
            if key not in body:
                raise failed(f"'{key}' is required.")
        for key in (*named, *self.required, *self.optional):
            if key in body and not _is(body[key], _KEYS[key]):
                raise failed(f"'{key}' must be {_KEYS[key]}.")


def check_authentication(document: Mapping[str, Any]) -> None:
    """Accept a request that shows a token; its body is not looked at.

    :raise Refused: it shows none.
    """
    check_headers(document, _AUTHENTICATION_HEADERS)


def check_headers(document: Mapping[str, Any], required: Iterable[str]) -> None:
    """Accept headers of their types.

    :raise Refused: one is missing, or of another type.
    """
    headers = document.get("headers")
    if not isinstance(headers, Mapping):
        raise failed("'headers' must be an object.")
    for name in required:
        if not isinstance(headers.get(name), str):
            raise failed(f"The header {name} is required, as a string.")
    for name in _STRING_HEADERS:
        if name in headers and not isinstance(headers[name], str):
            raise failed(f"The header {name} must be a string.")


def check_body(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a request; none is an empty one.

    :raise Refused: it is no object.
    """
    body = document.get("body", {})
    if not isinstance(body, Mapping):
        raise failed("'body' must be an object.")
    return body


def failed(text: str) -> Refused:
    """The refusal of a request that has not the right shape."""
    return Refused(400, f"Schema validation failed. {text}")


def _is(value: Any, kind: str) -> bool:
    # JSON's true and false are no integers.
    is_swapped = kind == _INTEGER and isinstance(value, bool)
    return isinstance(value, _TYPES[kind]) and not is_swapped
