"""How much a client may send over a connection, and how long it may take.

Also what it is told when that was too much, or no HTTP at all.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

Describe = Callable[[int, str, str], bytes]
"""Makes the JSON body of a refusal out of its status, title and description."""


@frozen(kw_only=True)
class HTTPLimits:
    """Bounds of one connection; sizes are in bytes and times in seconds.

    :ivar line: of the request line.
    :ivar head: of a request up to its body; also of what chunks carry beside the body.
    :ivar headers: how many there may be.
    :ivar body_kept: of a body that is handed on; a larger one is counted and dropped.
    :ivar body: beyond this, a request is refused.
    :ivar dropped: read after a refusal, so that its sender gets to see it.
    :ivar ahead: read of later requests while one is at work.
    :ivar idle_time: between requests.
    :ivar head_time: for a head once its first byte was there.
    :ivar body_time: for a body, to which one second is added for every
        ``least_rate`` bytes that have come.
    :ivar stalled_time: for a client to take what was written, once it is more than
        the socket takes; also what is left when the connection is to be closed.
    :ivar linger_time: for a client to close after we have.
    :ivar half_close: whether a client that shut down its sending side is still there
        to be answered; otherwise it counts as gone.
    """

    line: int = 8 * 1024
    head: int = 32 * 1024
    headers: int = 100
    body_kept: int = 1024 * 1024
    body: int = 16 * 1024 * 1024
    dropped: int = 16 * 1024 * 1024
    ahead: int = 64 * 1024
    idle_time: float = 60
    head_time: float = 20
    body_time: float = 30
    least_rate: float = 1024
    stalled_time: float = 120
    linger_time: float = 5
    half_close: bool = True


class Refusal(Exception):
    """What a client sent is not taken; the connection ends with the answer."""

    def __init__(self, status: int, title: str, description: str) -> None:
        super().__init__(status, title, description)
        self.status = status
        self.title = title
        self.description = description


def bad_request(description: str) -> Refusal:
    """What was sent is not the HTTP that is spoken here."""
    return Refusal(400, "Bad request", description)


def line_too_long(limits: HTTPLimits) -> Refusal:
    """The path or its query is endless."""
    return Refusal(
        414,
        "Request line too long",
        f"The request line has at most {limits.line} bytes: send a shorter path.",
    )


def head_too_large(limits: HTTPLimits) -> Refusal:
    """There are too many headers, or they are too long."""
    return Refusal(
        431,
        "Request headers too large",
        f"A request has at most {limits.headers} headers of {limits.head} bytes.",
    )


def body_too_large(limits: HTTPLimits) -> Refusal:
    """The body is larger than any may be."""
    return Refusal(
        413, "Request body too large", f"A body has at most {limits.body} bytes."
    )


def too_slow(what: str) -> Refusal:
    """Something was announced, and did not come."""
    return Refusal(
        408, "Request time-out", f"The {what} did not come in time: send it anew."
    )
