"""Who is calling, as far as the request itself says (rest.md 1.3).

Without an identity service the project and the roles are taken as sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from uuid import UUID

from msgspec import Struct

from mqsvc.messaging.errors import InvalidHeader
from mqsvc.messaging.limits import Limits

Headers = Callable[[str], str | None]
"""The value of a request header, or none; names in any case."""


_NO_ROLES: frozenset[str] = frozenset()

_CLIENTS_KNOWN = 4096

_LONGEST_KNOWN = 64
"""Characters; a UUID may have any number of dashes."""


class Caller(Struct, frozen=True):
    """On whose behalf an operation runs.

    :ivar project: the tenant.
    :ivar client_id: tells one client of a project from another; UUIDs as 32 digits.
    :ivar roles: in lower case.
    :ivar user: who it is within the project, where that is known.
    :ivar token: the token that told who it is, for what only that user may do.
    """

    project: str
    client_id: str
    roles: frozenset[str] = frozenset()
    user: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        """All but the token, which nobody is to find in a log."""
        shown = (self.project, self.client_id, sorted(self.roles), self.user)
        return f"Caller{shown!r}"


def roles_of(headers: Headers) -> frozenset[str]:
    """The roles that a caller claims to have, in lower case."""
    sent = headers("X-Roles")
    if not sent:
        return _NO_ROLES
    return frozenset(filter(None, (role.strip().lower() for role in sent.split(","))))


def project_of(headers: Headers) -> str | None:
    """The project named, by its newer or older header; none when by neither."""
    project = headers("X-Project-ID")
    return headers("X-Tenant-ID") if project is None else project


def client_id_of(headers: Headers, limits: Limits) -> str:
    """The client that a request says it comes from; UUIDs as 32 digits.

    :raise InvalidHeader: it does not say, or not in the form that is configured.
    """
    text = headers("Client-ID")
    if text is None:
        raise InvalidHeader("Missing header value", "The Client-ID header is missing.")
    if limits.client_id_uuid_safe == "strict":
        return (_known if len(text) <= _LONGEST_KNOWN else _digits_of)(text)
    low, high = limits.min_length_client_id, limits.max_length_client_id
    if not low <= len(text) <= high:
        raise InvalidHeader(
            "Wrong UUID value",
            f"The Client-ID header must have {low} to {high} characters.",
        )
    return text


def _digits_of(uuid: str) -> str:
    try:
        return UUID(uuid).hex
    except ValueError:
        raise InvalidHeader(
            "Wrong UUID value", "The Client-ID header must be a UUID."
        ) from None


# Clients come again and again, and reading a UUID costs more than looking it up.
_known = lru_cache(_CLIENTS_KNOWN)(_digits_of)
