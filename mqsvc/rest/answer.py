"""What a handler gives back, and how it is written to a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from msgspec import Struct
from twisted.web.iweb import IRequest

from mqsvc.entropy import random_bits
from mqsvc.wire import codec


class Answer(Struct, frozen=True):
    """A response.

    :ivar body: a JSON value; bytes as they are; none is no body at all.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


_REQUEST_ID = b"x-openstack-request-id"

_FIRST_DIGITS = f"req-{str(uuid4())[:-12]}"
"""Of this process. A count behind them would tell each client of the others."""


def give_id(request: IRequest) -> None:
    """Give a request the id under which its answer and the log know it."""
    request.setHeader(_REQUEST_ID, new_request_id().encode())


def request_id(request: IRequest) -> str:
    """The id that was given to a request."""
    (known,) = request.responseHeaders.getRawHeaders(_REQUEST_ID)
    return str(known, "ascii")


def new_request_id() -> str:
    """A request id: ``req-`` and a UUID (RFC 9562, version 4)."""
    return f"{_FIRST_DIGITS}{random_bits(48):012x}"


def write(request: IRequest, answer: Answer) -> bytes:
    """Set status and headers of a request that has its id.

    :return: the bytes of the body, still to be sent; their length is not set.
    """
    request.setResponseCode(answer.status)
    headers = request.responseHeaders
    for name, value in answer.headers.items():
        if name == "vary":
            # There may be one already, for the sake of pages of other sites.
            headers.addRawHeader(name, value)
        else:
            headers.setRawHeaders(name.encode(), [value.encode()])
    if answer.status == 204:
        return b""
    body = b"" if answer.body is None else answer.body
    if not isinstance(body, bytes):
        body = codec.encode(body)
    headers.setRawHeaders(b"content-type", [answer.content_type.encode()])
    return body
