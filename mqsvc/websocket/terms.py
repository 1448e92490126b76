"""What a client can ask of the pushes to its connection, in ``options``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidRequest

SCHEME = "websocket"
"""Of the URIs that stand for connections."""

OLDEST = "oldest"

MOST_INFLIGHT = 10_000

_POSITION = re.compile(r"[0-9a-f]{24}\Z")


@frozen
class Terms:
    """How a subscription is pushed.

    :ivar max_inflight: pushes that may be unacknowledged; none is no bound.
    :ivar after: push what came after this message, or everything after ``oldest``;
        none is from now on.
    :ivar template: text around each notification, see :data:`PLACE`.
    """

    max_inflight: int | None = None
    after: str | None = None
    template: str | None = None

    @property
    def is_extended(self) -> bool:
        """Whether the client asked for more than the plain protocol."""
        return self.max_inflight is not None or self.after is not None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Terms:
        """Read the options of a subscription; those of others are left alone.

        :raise InvalidRequest: one of them is malformed.
        """
        inflight = options.get("max_inflight")
        if inflight is not None:
            checks.integer(inflight, "max_inflight", 1, MOST_INFLIGHT)
        after = options.get("after")
        if after is not None and not _is_position(after):
            raise InvalidRequest(f"'after' must be the id of a message, or '{OLDEST}'.")
        template = options.get("post_data")
        return cls(inflight, after, template if isinstance(template, str) else None)


def _is_position(value: Any) -> bool:
    return isinstance(value, str) and (
        value == OLDEST or _POSITION.match(value) is not None
    )
