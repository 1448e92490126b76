"""The URL of a webhook, taken apart in one way for all who look at it.

What two readers of a URL could understand differently is refused or brought into one
form: hosts are lower-case ASCII without a dot at the end, numbers that stand for an
IPv4 address become that address.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, quote, unquote, urlsplit

import idna
from attrs import field, frozen

from mqsvc.messaging.errors import InvalidRequest

Address = IPv4Address | IPv6Address

_PORTS = {"http": 80, "https": 443}

MOST_PARSED = 5000
"""Targets that are kept, since each delivery needs its own."""

LONGEST_KEPT = 2000
"""Characters of a URL whose target is kept."""

_UNUSABLE = re.compile(r"[\x00-\x20\x7f\\]")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\Z")
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\Z")

_KEPT = "!#$%&'()*+,/:;=?@[]~"
"""Characters of path and query that are not encoded; what is encoded stays so."""


@frozen
class Target:
    """Where a webhook goes.

    :ivar host: a name, or an address without brackets.
    :ivar rest: path and query, encoded; begins with a slash.
    :ivar authorization: the header that its user information stands for.
    """

    scheme: str
    host: str
    port: int
    rest: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    @property
    def address(self) -> Address | None:
        """The address that its host is, unless that is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def origin(self) -> str:
        """Scheme, host and port; the same for all targets on one server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def url(self) -> str:
        """What is asked for, without user information and fragment."""
        origin = self.origin
        if self.port == _PORTS[self.scheme]:
            origin = origin.removesuffix(f":{self.port}")
        return origin + self.rest


def parse_target(url: str) -> Target:
    """Take a URL apart.

    :raise InvalidRequest: it is no usable URL of a webhook.
    """
    return (_known if len(url) <= LONGEST_KEPT else _parse)(url)


def _parse(url: str) -> Target:
    if _UNUSABLE.search(url):
        raise _unusable("it must not have blanks, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unusable("its host or port is malformed") from None
    if parts.scheme not in _PORTS:
        raise _unusable("its scheme must be http or https")
    if port == 0:
        raise _unusable("its port must be from 1 to 65535")
    return Target(
        scheme=parts.scheme,
        host=_host(host or ""),
        port=port or _PORTS[parts.scheme],
        rest=_rest(parts),
        authorization=_authorization(parts),
    )


_known = lru_cache(MOST_PARSED)(_parse)


def _host(host: str) -> str:
    if ":" in host:
        return _ipv6(host)
    name = _ascii(unquote(host)).lower().removesuffix(".")
    if _NUMERIC.match(name):
        return _ipv4(name)
    if not _NAME.match(name):
        raise _unusable("its host must be a name or an address")
    return name


def _ipv6(host: str) -> str:
    if "%" in host:
        raise _unusable("an address with a zone means something on one machine only")
    try:
        return str(IPv6Address(host))
    except ValueError:
        raise _unusable("its host is no IPv6 address") from None


def _ipv4(name: str) -> str:
    """The address that a resolver makes of decimal, octal or hexadecimal numbers."""
    try:
        return str(IPv4Address(socket.inet_aton(name)))
    except OSError:
        raise _unusable("its host is no IPv4 address") from None


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError:
        raise _unusable("its host is no internationalized name") from None


def _rest(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    path = parts.path or "/"
    return quote(path + query, safe=_KEPT)


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _unusable(why: str) -> InvalidRequest:
    # The URL itself may hold a password or a token.
    return InvalidRequest(f"The URL of 'subscriber' cannot be used: {why}.")
