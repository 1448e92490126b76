"""How the server ends connections; docs/websocket.rst tells clients what to do then."""

from __future__ import annotations

from attrs import frozen


@frozen
class Closing:
    """A code and a reason, as RFC 6455 has them."""

    code: int
    reason: str


GOING_AWAY = Closing(1001, "The server stops.")
SLOW_CONSUMER = Closing(1013, "Slow consumer.")
NOT_AUTHENTICATED = Closing(4001, "Not authenticated.")
EXPIRED = Closing(4003, "Authentication expired.")
TOO_MANY_CONNECTIONS = Closing(4101, "Too many connections of this project.")
