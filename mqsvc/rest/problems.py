"""The one place where an error becomes an answer (rest.md 1.5)."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.http import parse_accept_header

from mqsvc.messaging.errors import (
    Conflict,
    MessagingError,
    MethodNotAllowed,
    NotAcceptable,
    NotAuthenticated,
    QuotaExceeded,
    UnusableFlavor,
)
from mqsvc.rest.answer import Answer

JSON = "application/json"

_TAKES_JSON = (b"*/*", JSON.encode())
"""What nearly all clients send."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML document cannot have, not even escaped."""

log = Logger()


def accepts(request: IRequest, media_type: str) -> bool:
    """Whether the client takes a media type; one that says nothing takes all."""
    return quality(request, media_type) > 0


def quality(request: IRequest, media_type: str) -> float:
    """How much the client wants a media type, from 0 to 1 (RFC 9110, 12.5.1).

    Parameters of media types in the header are not looked at.
    """
    sent = request.getHeader(b"accept")
    if not sent or (sent in _TAKES_JSON and media_type == JSON):
        return 1
    ranges: dict[str, float] = {}
    for value, weight in parse_accept_header(sent.decode("latin-1")):
        name = value.partition(";")[0].strip().lower()
        ranges[name] = max(weight, ranges.get(name, 0))
    whole_type = f"{media_type.partition('/')[0]}/*"
    for candidate in (media_type, whole_type, "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0


def unexpected(failure: Failure, request_id: str) -> MessagingError:
    """Log an error of ours, and say nothing of it but where to look."""
    log.failure("Request {request_id} failed", failure, request_id=request_id)
    return MessagingError(f"Something went wrong here, see the log for {request_id}.")


def answer_of(error: MessagingError, request: IRequest) -> Answer:
    """The answer that tells a client of an error."""
    headers = {"vary": "Accept"}
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allowed)
    if isinstance(error, Conflict | UnusableFlavor) and error.location is not None:
        headers["location"] = error.location
    if isinstance(error, NotAuthenticated) and error.challenge:
        headers["www-authenticate"] = error.challenge
    if isinstance(error, QuotaExceeded):
        headers["retry-after"] = str(error.retry_after)
    content_type, body = _body(error, request)
    return Answer(error.status, body, headers, content_type)


def _body(error: MessagingError, request: IRequest) -> tuple[str, Any]:
    fields: dict[str, Any] = {"title": error.title}
    if error.description:
        fields["description"] = error.description
    wanted = quality(request, JSON)
    for media_type in ("application/xml", "text/xml"):
        if quality(request, media_type) > wanted:
            return media_type, _xml(fields)
    if wanted or b"+json" in (request.getHeader(b"accept") or b""):
        if isinstance(error, NotAcceptable):
            fields["link"] = {"text": "Versions", "href": "/", "rel": "help"}
        if isinstance(error, NotAuthenticated):
            # What clients of the identity service look for.
            fields["error"] = {
                "code": error.status,
                "title": error.title,
                "message": error.description,
            }
        return JSON, fields
    return JSON, b""


def _xml(fields: dict[str, str]) -> bytes:
    members = "".join(
        f"<{name}>{escape(_NOT_XML.sub('?', text))}</{name}>"
        for name, text in fields.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><error>{members}</error>'.encode()
