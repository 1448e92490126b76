"""The envelope of requests and replies (websocket.md 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from mqsvc.messaging.errors import MessagingError, QuotaExceeded

_SECRET_HEADERS = frozenset({"x-auth-token", "url-signature"})
_HIDDEN = "***"

_LONGEST_ID = 256


@frozen
class Reply:
    """The answer to a request.

    :ivar body: a value that the format of the reply can encode.
    :ivar hides_request: whether nothing of body and headers is echoed.
    """

    status: int
    body: Any = field(factory=dict)
    hides_request: bool = False


class Refused(Exception):
    """A request is answered before its action is looked at."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(status, {"error": text})


def problem(error: MessagingError) -> Reply:
    """What an error of an operation looks like."""
    text = error.description or error.title
    body: dict[str, Any] = {"exception": text, "error": text}
    if isinstance(error, QuotaExceeded):
        body["retry_after"] = error.retry_after
    return Reply(error.status, body)


def enveloped(document: Any, reply: Reply) -> dict[str, Any]:
    """A reply with the echo of its request.

    :param document: the request as it was decoded; anything but an object is not
        echoed.
    """
    request = document if isinstance(document, Mapping) else {}
    shown = {} if reply.hides_request else request
    answer: dict[str, Any] = {
        "request": {
            "action": request.get("action"),
            "body": shown.get("body", {}),
            "headers": _without_secrets(shown.get("headers", {})),
            "api": "v2",
        },
        "body": reply.body,
        "headers": {"status": reply.status},
    }
    if _is_request_id(request.get("id")):
        answer["id"] = request["id"]
    return answer


def _without_secrets(headers: Any) -> Any:
    if not isinstance(headers, Mapping):
        return headers
    return {
        name: _HIDDEN if name.lower() in _SECRET_HEADERS else value
        for name, value in headers.items()
    }


def _is_request_id(value: Any) -> bool:
    return isinstance(value, int) or (
        isinstance(value, str) and len(value) <= _LONGEST_ID
    )
