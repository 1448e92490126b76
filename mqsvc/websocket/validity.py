"""How long a token that was shown keeps its connection open."""

from __future__ import annotations

from typing import Any

from mqsvc.access.authentication import TOKEN_HEADER, Identity
from mqsvc.access.gate import Gate
from mqsvc.messaging.errors import IdentityUnavailable, NotAuthenticated
from mqsvc.websocket.frames import Format

WARN_KEY = "warn_before"
"""In the body of ``authenticate``: seconds before the end to be warned of it."""

LONGEST_WARNING = 86_400


class Shown:
    """A token that was accepted.

    :ivar identity: whose it is; none once it holds no more.
    :ivar token: the token itself, for what only its user may do.
    """

    def __init__(self, token: str, identity: Identity, body: Any, form: Format) -> None:
        self.identity: Identity | None = identity
        self.token = token
        self._form = form
        self._warns_before = _span(body)

    async def check_again(self, gate: Gate) -> None:
        """Ask whose it is now: it may be revoked, or its roles may have changed.

        As long as that cannot be found out, what was known holds.
        """
        before, found = self.identity, None
        try:
            found = await gate.authenticate({TOKEN_HEADER: self.token}.get)
        except IdentityUnavailable:
            return
        except NotAuthenticated:
            pass
        is_same = before and found and found.project == before.project
        self.identity = found if is_same else None

    def warning(self, now: int) -> tuple[bytes, Format] | None:
        """What the client wants to be told now of the end; it is told once.

        :param now: in milliseconds since the epoch.
        """
        identity = self.identity
        if identity is None or identity.expires is None or not self._warns_before:
            return None
        left = identity.expires - now
        if left > self._warns_before * 1000:
            return None
        self._warns_before = 0
        shape: dict[str, Any] = {"Message_Type": "AuthenticationExpires", "body": None}
        shape["expires_in"] = max(left, 0) // 1000
        return self._form.encode(shape), self._form


def _span(body: Any) -> int:
    """The seconds that a client asks for; what is none asks for nothing."""
    value = body.get(WARN_KEY) if isinstance(body, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 < value <= LONGEST_WARNING else 0
