"""The head of a request: llhttp reads it, and what llhttp lets pass is refused here.

llhttp is given the bytes up to the empty line and nothing else. Where a body begins
and ends is never its business, so that nobody can make two parsers disagree on it. Nor
do headers depend on the request line in front of them, so that each is read by itself:
clients send the same headers again and again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from mqsvc.wire.http_limits import (
    HTTPLimits,
    Refusal,
    bad_request,
    head_too_large,
    line_too_long,
)

CRLF = b"\r\n"
END_OF_HEAD = CRLF + CRLF

_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]\Z")
_BARE_LINE_END = re.compile(rb"(?:^|[^\r])\n|\r[^\n]")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)\Z", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z"
)
# What stands for the other part of a head where one is read by itself.
_ANY_LINE = b"GET / HTTP/1.1\r\n"
_ANY_FIELDS = b"\r\nhost: h\r\n\r\n"
_ONLY_ONCE = frozenset([b"host", b"content-length", b"transfer-encoding"])

Field = tuple[bytes, bytes]


class Fields:
    """The headers of a request; once read they are never changed.

    :ivar listed: in their order, their names in small letters.
    :ivar known: by name, the last value of each.
    :ivar texts: of these, as text, those that were asked for.
    """

    __slots__ = ("known", "listed", "texts")

    def __init__(self, raw: bytes, limits: HTTPLimits) -> None:
        """Read headers that end with the empty line.

        :raise Refusal: they are none, or more than the limits allow.
        """
        self.listed: list[Field] = []
        _feed(self, _ANY_LINE + raw)
        if len(self.listed) > limits.headers:
            raise head_too_large(limits)
        if b" \r\n" in raw or b"\t\r\n" in raw:
            self.listed = [(name, value.rstrip(b" \t")) for name, value in self.listed]
        self.known = dict(self.listed)
        if len(self.known) != len(self.listed):
            self._join_repeated()
        self.texts: dict[str, str | None] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        self.listed.append((name.lower(), value))

    def _join_repeated(self) -> None:
        names = [name for name, _ in self.listed]
        for name in _ONLY_ONCE:
            if names.count(name) > 1:
                raise bad_request(f"Send the header {name.decode()} once.")
        tokens = [value for name, value in self.listed if name == b"connection"]
        if len(tokens) > 1:
            self.known[b"connection"] = b",".join(tokens)


class Head:
    """A request line and its headers; once read it is never changed.

    :ivar target: path and query, or an asterisk.
    :ivar path: of these, the path.
    :ivar fields: the headers in their order, their names in small letters.
    :ivar known: by name, the last value of each header.
    :ivar persists: whether the client would send further requests.
    :ivar length: bytes of the body; unknown when it comes in chunks.
    """

    __slots__ = (
        *("_texts", "fields", "is_1_1", "known", "length"),
        *("method", "path", "persists", "target"),
    )

    def __init__(
        self, raw: bytes, limits: HTTPLimits, read: Callable[[bytes], Fields]
    ) -> None:
        """Read a head that ends with the empty line.

        :param read: reads the headers.
        :raise Refusal: it is none, or has more than the limits allow.
        """
        line, _, rest = raw.partition(CRLF)
        if len(line) > limits.line:
            raise line_too_long(limits)
        self.method, self.target, self.is_1_1 = _read_request_line(line)
        _feed(None, line + _ANY_FIELDS)
        fields = read(rest)
        self.fields, self.known, self._texts = fields.listed, fields.known, fields.texts
        self._check_host()
        self.path = self.target.partition(b"?")[0]
        self.length = self._find_length()
        self.persists = self._find_persists()

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send the body."""
        expectation = self.known.get(b"expect")
        return (
            expectation is not None
            and self.is_1_1
            and expectation.lower() == b"100-continue"
        )

    def text(self, name: str) -> str | None:
        """The last value of a header, see :func:`as_text`.

        :param name: one of few, since answers are kept.
        """
        try:
            return self._texts[name]
        except KeyError:
            value = self.known.get(name.lower().encode())
            text = self._texts[name] = None if value is None else as_text(value)
            return text

    def _check_host(self) -> None:
        host = self.known.get(b"host")
        if host is None:
            if self.is_1_1:
                raise bad_request("HTTP/1.1 requests need a header host.")
        elif not _is_host(host):
            raise bad_request("The header host is no host name with or without port.")
        if self.target[:1] != b"/":
            self._read_unusual_target()

    def _read_unusual_target(self) -> None:
        if self.target == b"*" and self.method == b"OPTIONS":
            return
        absolute = _ABSOLUTE.match(self.target)
        if absolute is None:
            raise bad_request("The request line has no path: this is no proxy.")
        host, path = absolute.groups()
        if not host or not _is_host(host):
            raise bad_request("The URL in the request line has no valid host name.")
        # Whoever names the host twice means the one in the request line.
        self.known, self._texts = {**self.known, b"host": host}, {}
        self.fields = [field for field in self.fields if field[0] != b"host"]
        self.fields.append((b"host", host))
        if not path and self.method == b"OPTIONS":
            self.target = b"*"
        else:
            self.target = path if path[:1] == b"/" else b"/" + path

    def _find_length(self) -> int | None:
        coding = self.known.get(b"transfer-encoding")
        length = self.known.get(b"content-length")
        if coding is None:
            return 0 if length is None else int(length)
        if coding.lower() != b"chunked" or length is not None or not self.is_1_1:
            raise bad_request(
                "A body without a length is sent with transfer-encoding: chunked, "
                "in HTTP/1.1, and without a content-length."
            )
        return None

    def _find_persists(self) -> bool:
        connection = self.known.get(b"connection")
        if connection is None:
            return self.is_1_1
        tokens = [token.strip() for token in connection.lower().split(b",")]
        if b"close" in tokens:
            return False
        return self.is_1_1 or b"keep-alive" in tokens


def as_text(value: bytes) -> str:
    """The value of a header: UTF-8, or else the Latin-1 that older clients send."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.match(value) is not None


def _read_request_line(line: bytes) -> tuple[bytes, bytes, bool]:
    # llhttp would take several spaces, line feeds before the method, no version at
    # all, and those of other protocols.
    parts = line.split(b" ")
    if len(parts) != 3 or not line[0] >= 65:
        raise bad_request(
            "The request line is not: method, space, path, space, HTTP/1.1."
        )
    method, target, version = parts
    if version == b"HTTP/1.1":
        return method, target, True
    if version == b"HTTP/1.0":
        return method, target, False
    if _VERSION.match(version):
        raise Refusal(
            505, "HTTP version not supported", "Send the request as HTTP/1.1."
        )
    raise bad_request("The request line does not end with HTTP/1.1.")


def _feed(fields: Fields | None, raw: bytes) -> None:
    # A parser that has seen a head would want its body next, so each reads only one.
    try:
        HttpRequestParser(fields).feed_data(raw)
    except HttpParserUpgrade:
        # Whether something else is spoken is decided by others, see http_upgrade.
        pass
    except HttpParserError as error:
        refused = bad_request(f"This is not HTTP/1.1: {error}.")
        if "content-length" in refused.description.lower():
            # The API has a title of its own for it.
            refused = Refusal(400, "Invalid header value", refused.description)
        raise refused from error


def check_beginning(raw: bytes, seen: int, limits: HTTPLimits) -> None:
    """Refuse what cannot become a head, before its end has come.

    :param seen: how many bytes were checked before.
    :raise Refusal: whatever comes next, this is none.
    """
    if not 65 <= raw[0] <= 90:
        raise bad_request("This is not HTTP/1.1: a request begins with its method.")
    if _BARE_LINE_END.search(raw, max(0, seen - 1)):
        raise bad_request("Lines of a request end with CR and LF.")
    end = raw.find(CRLF, 0, limits.line + 2)
    if end < 0 and len(raw) > limits.line + 1:
        raise line_too_long(limits)
    if len(raw) > limits.head:
        raise head_too_large(limits)
