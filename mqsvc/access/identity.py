"""Who is calling, as far as the request itself says (rest.md 1.3).

Without an identity service the project and the roles are taken as sent.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from attrs import frozen

from mqsvc.messaging.errors import InvalidHeader
from mqsvc.messaging.limits import Limits

Headers = Callable[[str], str | None]
"""The value of a request header, or none; names in any case."""


@frozen
class Caller:
    """On whose behalf an operation runs.

    :ivar project: the tenant.
    :ivar client_id: tells one client of a project from another; UUIDs as 32 digits.
    :ivar roles: in lower case.
    :ivar user: who it is within the project, where that is known.
    """

    project: str
    client_id: str
    roles: frozenset[str] = frozenset()
    user: str | None = None


def roles_of(headers: Headers) -> frozenset[str]:
    """The roles that a caller claims to have, in lower case."""
    roles = (role.strip().lower() for role in (headers("X-Roles") or "").split(","))
    return frozenset(filter(None, roles))


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
        try:
            return UUID(text).hex
        except ValueError:
            raise InvalidHeader(
                "Wrong UUID value", "The Client-ID header must be a UUID."
            ) from None
    low, high = limits.min_length_client_id, limits.max_length_client_id
    if not low <= len(text) <= high:
        raise InvalidHeader(
            "Wrong UUID value",
            f"The Client-ID header must have {low} to {high} characters.",
        )
    return text
