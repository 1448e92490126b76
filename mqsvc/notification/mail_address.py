"""Addresses of mail, and the ``mailto`` URIs of subscribers (RFC 6068)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.headerregistry import Address
from urllib.parse import unquote, urlsplit

import idna
from attrs import field, frozen

from mqsvc.messaging.errors import InvalidRequest

_LOCAL = re.compile(r"[A-Za-z0-9#$&'*+/=?^_{}~-]+(\.[A-Za-z0-9#$&'*+/=?^_{}~-]+)*\Z")
"""What is before the at sign: no quotes, no routes, nothing a mail program runs."""

_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*\Z")
_WITH_NAME = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>\s*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

MAX_LINE = 500
"""Characters of a subject or another header that are sent."""

_USED = ("subject", "reply-to", "keywords")
"""Fields of a URI that become headers. Others could add recipients or pretend."""


@frozen
class MailTo:
    """What a subscriber's URI says.

    :ivar recipient: a plain address.
    :ivar fields: those of :data:`_USED` that it has, by name in lower case.
    """

    recipient: str
    fields: dict[str, str] = field(factory=dict)


def parse_mailto(uri: str) -> MailTo:
    """Take a ``mailto`` URI apart.

    :raise InvalidRequest: it does not name exactly one address.
    """
    parts = urlsplit(uri)
    recipient = parse_address(unquote(parts.path), "subscriber").addr_spec
    fields = {name: value for name, value in _fields(parts.query) if name in _USED}
    if "reply-to" in fields:
        fields["reply-to"] = str(parse_address(fields["reply-to"], "subscriber"))
    return MailTo(recipient, fields)


def _fields(query: str) -> Iterator[tuple[str, str]]:
    # From the end, so that of a name that is repeated the first value stays.
    for pair in reversed(query.split("&")):
        name, _, value = pair.partition("=")
        yield unquote(name).lower(), one_line(unquote(value))


def parse_address(text: str, name: str) -> Address:
    """One address, maybe with a name: ``a@example.org`` or ``Ann <a@example.org>``.

    :param name: of what is parsed, for the refusal.
    :raise InvalidRequest: it is something else.
    """
    match = _WITH_NAME.match(text)
    shown, address = (match["name"], match["address"]) if match else ("", text)
    local, _, domain = address.strip().rpartition("@")
    domain = _ascii(domain)
    if not (len(local) <= 64 and _LOCAL.match(local) and _DOMAIN.match(domain)):
        raise InvalidRequest(
            f"'{name}' must have exactly one mail address, such as ann@example.org, "
            "in plain characters."
        )
    return Address(one_line(shown).strip('" '), local, domain)


def one_line(text: str) -> str:
    """Text as it can stand in a header: line breaks and the like become blanks."""
    return _CONTROL.sub(" ", text).strip()[:MAX_LINE]


def _ascii(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:
        return ""
