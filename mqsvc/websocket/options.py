"""The bounds of the WebSocket API."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Bound = Annotated[int, Meta(ge=0)]

ANY = "*"


class WebSocketOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``websocket_limits`` group; spans are in seconds, sizes in bytes.

    :ivar allowed_origins: origins of the pages that may connect, or ``*`` for all;
        programs, which send no origin, always may.
    :ivar compression: whether permessage-deflate is negotiated.
    :ivar lease_time: for which subscriptions of a process that died are still listed.
    :ivar max_connections: of this process; 0 is no bound.
    :ivar max_message_size: of a request.
    :ivar max_subscriptions: of one connection.
    :ivar max_waiting_requests: of one connection, before no more are read.
    :ivar max_failed_authentications: of one connection, before it is closed.
    :ivar authentication_time: until a connection must be authenticated, where
        authentication is on.
    :ivar token_check_interval: until it is asked again whether a token holds.
    :ivar ping_interval: of silence before a ping.
    :ivar ping_timeout: until a ping must be answered, or the connection is dropped.
    :ivar send_timeout: for which a client may take nothing of what is sent to it.
    """

    allowed_origins: tuple[str, ...] = (ANY,)
    compression: bool = True
    lease_time: Annotated[int, Meta(ge=2)] = 30
    max_connections: Bound = 10_000
    max_message_size: Annotated[int, Meta(ge=1024)] = 1_048_576
    max_subscriptions: Count = 1000
    max_waiting_requests: Count = 64
    max_failed_authentications: Count = 10
    authentication_time: Count = 30
    token_check_interval: Count = 60
    ping_interval: Count = 30
    ping_timeout: Count = 10
    send_timeout: Count = 30
