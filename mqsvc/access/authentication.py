"""Who a request's credentials stand for; one way for all transports.

The choice is the operator's (option ``auth_strategy``): an identity service, a file of
tokens, or nobody asks.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from attrs import frozen

from mqsvc.messaging.errors import NotAuthenticated

TOKEN_HEADER = "X-Auth-Token"  # noqa: S105 - the name of a header


@frozen
class Identity:
    """What credentials say about who shows them.

    :ivar project: the tenant; none where the credentials are for no project.
    :ivar roles: in lower case.
    :ivar expires: the moment from which the credentials are void, in milliseconds
        since the epoch; none is never.
    """

    project: str | None
    user: str | None
    roles: frozenset[str]
    expires: int | None = None


class Authenticator(Protocol):
    """Knows whose a token is."""

    challenge: str
    """What ``WWW-Authenticate`` says to those without a valid token."""

    async def identify(self, token: str) -> Identity:
        """Whose a token is.

        :raise NotAuthenticated: it is unknown, malformed, revoked or expired.
        :raise IdentityUnavailable: that cannot be found out now.
        """


class TokenFile:
    """Tokens of a file, for installations without an identity service.

    The file keeps no token, only digests, so that who reads it cannot use it::

        [tokens.reporting]
        sha256 = "5e88..."
        project = "shop"
        roles = ["reader"]
    """

    challenge = 'Token realm="mqsvc"'

    def __init__(self, identities: Mapping[str, Identity]) -> None:
        self._identities = identities

    async def identify(self, token: str) -> Identity:
        """See :class:`Authenticator`."""
        # Who does not know a token cannot aim at its digest, so that the time which
        # the search takes tells nothing.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        identity = self._identities.get(digest)
        if identity is None:
            raise NotAuthenticated
        return identity


class TokenFileError(ValueError):
    """The file of tokens cannot be used; the text is one line for the operator."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    sha256: str
    project: str
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        digits = self.sha256.lower()
        if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 hexadecimal digits")
        if not self.project:
            raise ValueError("project must not be empty")


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    tokens: dict[str, _Entry]


def read_tokens(path: str) -> TokenFile:
    """The tokens of a file, blocking.

    :raise TokenFileError: it cannot be read or is not of the form above.
    """
    try:
        with open(path, "rb") as file:
            document: Any = tomllib.load(file)
        entries = msgspec.convert(document, _Document).tokens
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        # The text of these names the place and the rule, not what stands there.
        raise TokenFileError(f"{path}: {error}") from None
    identities: dict[str, Identity] = {}
    for name, entry in entries.items():
        if entry.sha256.lower() in identities:
            raise TokenFileError(f"{path}: tokens.{name} repeats the token of another")
        roles = frozenset(role.lower() for role in entry.roles)
        identity = Identity(entry.project, name, roles)
        identities[entry.sha256.lower()] = identity
    return TokenFile(identities)
