"""What a webhook is sent: body and headers (semantics.md 7.2)."""

from __future__ import annotations

import re
from typing import Any

from mqsvc.messaging.checks import mapping
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject, NewMessage
from mqsvc.wire import codec

PLACEHOLDER = b'"$zaqar_message$"'
"""Stands for the notification in ``post_data``; the quotes belong to it."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")

_NOT_SETTABLE = frozenset(
    (
        *("connection", "content-length", "expect", "host", "keep-alive", "te"),
        *("proxy-connection", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""Headers that say how the request is transferred, and to whom."""

_OURS = "webhook-"

MAX_HEADERS = 50


def message_content(
    queue_name: str, message: NewMessage, is_delay_shown: bool = False
) -> bytes:
    """The JSON object that tells a subscriber of a message.

    :param is_delay_shown: whether the message came with a delay that its queue heeds.
    """
    told: dict[str, Any] = {"ttl": message.ttl, "body": codec.Encoded(message.body)}
    if is_delay_shown:
        told["delay"] = message.delay
    told |= {"Message_Type": "Notification", "queue_name": queue_name}
    return codec.encode(told)


def body_of(options: JsonObject, content: bytes) -> bytes:
    """The body of a request: the content, alone or within ``post_data``."""
    post_data = options.get("post_data")
    if not isinstance(post_data, str) or not post_data:
        return content
    return post_data.encode().replace(PLACEHOLDER, content)


def headers_of(options: JsonObject) -> dict[str, str]:
    """The headers of a request that the subscription decides, names in lower case.

    :raise InvalidRequest: ``post_headers`` cannot be sent.
    """
    headers = {"content-type": "application/json"}
    given = options.get("post_headers")
    if given is not None:
        headers |= _checked(mapping(given, "'options.post_headers'"))
    return headers


def check_options(options: JsonObject) -> None:
    """Accept ``post_data`` and ``post_headers``.

    :raise InvalidRequest: one of them cannot be used.
    """
    if not isinstance(options.get("post_data") or "", str):
        raise InvalidRequest("'options.post_data' must be a string.")
    headers_of(options)


def _checked(given: JsonObject) -> dict[str, str]:
    if len(given) > MAX_HEADERS:
        raise InvalidRequest(
            f"'options.post_headers' must have at most {MAX_HEADERS} members."
        )
    return {name.lower(): _value(name, value) for name, value in given.items()}


def _value(name: str, value: Any) -> str:
    lower = name.lower()
    if not _NAME.match(name):
        raise InvalidRequest("'options.post_headers' has a name that is no header's.")
    if lower in _NOT_SETTABLE or lower.startswith(_OURS):
        raise InvalidRequest(f"'options.post_headers' must not set '{name}'.")
    if not isinstance(value, str) or not _VALUE.match(value):
        raise InvalidRequest(
            f"'options.post_headers.{name}' must be a string without line breaks."
        )
    return value
