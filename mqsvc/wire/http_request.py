"""A request as Klein and the resources of twisted.web know it, made for little.

It is twisted.web's own request with its expensive parts replaced: headers stay as they
were parsed until somebody wants them otherwise, what few ask for is made when they
ask, and a small answer goes out in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.error import UnsupportedMethod
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from mqsvc.wire.http_body import Content
from mqsvc.wire.http_head import Head
from mqsvc.wire.http_headers import AnswerHeaders

if TYPE_CHECKING:
    from mqsvc.wire.http_channel import Channel

T = TypeVar("T")

log = Logger()

_WITHOUT_BODY = frozenset([204, 304])
_OURS = frozenset(
    [b"Connection", b"Content-Length", b"Date", b"Keep-Alive", b"Transfer-Encoding"]
)
"""Headers of an answer that are the business of the connection."""


class Lazy(Generic[T]):
    """An attribute that is made when it is first looked at; it can also be set."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """The class gives its attribute a name."""
        self._name = name

    def __get__(self, instance: Any, owner: type) -> T:
        """Make it; from then on the instance has it."""
        made = self._make(instance)
        setattr(instance, self._name, made)
        return made


@implementer(IRequest)
class LeanRequest(Request):
    """One request and its answer.

    :ivar head: as it came.
    :ivar content: the body, a file in memory that also knows its ``size``.
    """

    responseHeaders: AnswerHeaders
    defaultContentType = None
    notifications: Any = ()
    _when_gone: Callable[[Failure], None] | None = None
    _left: int | None = None
    _is_without_body = False
    _is_head_written = False
    _uncounted = 0

    def __init__(self, channel: Channel, head: Head) -> None:
        # None of what the base class would set up here is needed by everybody.
        self.channel: Any = channel
        self.method = head.method
        self.uri, self.path = head.target, head.path
        self.clientproto = b"HTTP/1.1" if head.is_1_1 else b"HTTP/1.0"
        self.head = head
        self._known: dict[bytes, bytes] | None = head.known
        self.responseHeaders = AnswerHeaders()
        self.cookies: list[bytes] = []

    # What few ask for.

    @Lazy
    def args(self) -> dict[bytes, list[bytes]]:
        """The parameters of the query; never those of a form."""
        query = self.uri.partition(b"?")[2]
        return parse_qs(query, 1) if query else {}

    @Lazy
    def prepath(self) -> list[bytes]:
        """The segments of the path that led to where the request is now."""
        return []

    @Lazy
    def postpath(self) -> list[bytes]:
        """The segments of the path that are still to go, without escapes."""
        segments = self.path[1:].split(b"/")
        if b"%" not in self.path:
            return segments
        return [unquote_to_bytes(segment) for segment in segments]

    @Lazy
    def requestHeaders(self) -> Headers:
        """All headers; from now on these are what is looked at."""
        headers = Headers()
        for name, value in self.head.fields:
            headers.addRawHeader(name, value)
        self._known = None
        return headers

    @Lazy
    def received_cookies(self) -> dict[bytes, bytes]:
        """The cookies that came."""
        # The base class puts them where it expects them to be.
        self.received_cookies = {}
        self.parseCookies()
        return self.received_cookies

    @Lazy
    def content(self) -> Content:
        """The body; the connection sets one when there is one."""
        return Content(b"", 0)

    @Lazy
    def client(self) -> Any:
        """Where the client is."""
        return self.transport.getPeer()

    @Lazy
    def host(self) -> Any:
        """Where the client reached this server."""
        return self.channel.getHost()

    @Lazy
    def transport(self) -> Any:
        """The connection, for those who must know it."""
        return self.channel.transport

    @Lazy
    def _adapterCache(self) -> dict[str, Any]:
        return {}

    # The request.

    def getHeader(self, key: Any) -> Any:
        """The last value of a header, as text when the name is text."""
        known = self._known
        if known is None:
            return super().getHeader(key)
        if isinstance(key, bytes):
            return known.get(key.lower())
        value = known.get(key.lower().encode("latin-1"))
        return None if value is None else value.decode()

    def isSecure(self) -> bool:
        """Whether it came over TLS, or is to be taken as such."""
        return bool(self._forceSSL) or (
            self.channel is not None and self.channel.is_secure
        )

    # Its answer.

    def notifyFinish(self) -> Deferred[None]:
        """Fires when all is answered; fails when the client is gone before."""
        if not self.notifications:
            self.notifications = []
        finished: Deferred[None] = Deferred()
        self.notifications.append(finished)
        return finished

    def when_gone(self, act: Callable[[Failure], None]) -> None:
        """Have a function called when the client is gone before all is answered.

        For one who asks for that once, and so needs no :class:`Deferred`.
        """
        self._when_gone = act

    def serve(self, render: Callable[[LeanRequest], Any]) -> None:
        """Let somebody answer."""
        try:
            if self.uri == b"*":
                self._handleStar()
            else:
                self._take(render(self))
        except Exception:  # noqa: BLE001 - the border: a bug is logged and answered
            self.processingFailed(Failure())

    def render(self, resrc: IResource) -> None:
        """Let a resource answer."""
        self._take(self.rendered(resrc))

    def rendered(self, resource: IResource) -> Any:
        """What a resource answers: bytes, or that it will write them later."""
        try:
            return resource.render(self)
        except UnsupportedMethod as error:
            allowed = error.allowedMethods
        if self.method != b"HEAD" or b"GET" not in allowed:
            self.setHeader(b"Allow", b", ".join(sorted(allowed)))
            return self._described(405, "Method not allowed", "See the header Allow.")
        self.method = b"GET"
        try:
            return resource.render(self)
        finally:
            self.method = b"HEAD"

    def write(self, data: bytes) -> None:
        """Send a part of the body, the first one together with the headers."""
        if self.finished:
            raise RuntimeError("The request is finished: nothing can be written to it.")
        if self.channel is None:
            # finish() complains, as with twisted.web.
            return
        if not self.startedWriting:
            self._start(data, self._declared_length())
        elif data:
            self._continue(data)

    def answer(self, body: bytes) -> None:
        """Send all of a body, and end the answer."""
        if self.channel is not None:
            self._start(body, len(body))
        self.finish()

    def finish(self) -> None:
        """End the answer."""
        if self.finished:
            raise RuntimeError("The request was finished before.")
        channel = self.channel
        if channel is None:
            raise RuntimeError(
                "The client is gone, the request cannot be finished: "
                "notifyFinish() tells of that."
            )
        if not self.startedWriting:
            length = self._declared_length()
            # To HEAD a length is said when it is known, and none otherwise.
            is_known = length is not None or self.head.method == b"HEAD"
            self._start(b"", length if is_known else 0)
        self._end(channel)
        self.finished = 1
        self.channel = None
        for finished in self.notifications:
            finished.callback(None)
        channel.answered()

    def processingFailed(self, reason: Failure) -> Failure:
        """Log a bug; answer with an error, or break off what was begun."""
        log.failure("A request could not be answered", reason)
        if self.channel is None:
            return reason
        if self.startedWriting:
            self.channel.hang_up()
        else:
            self.responseHeaders = AnswerHeaders()
            title, advice = "Internal server error", "This is a fault of the server."
            self._take(self._described(500, title, advice))
        return reason

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone."""
        self._disconnected = True
        self.channel = None
        if self._when_gone is not None:
            self._when_gone(reason)
        notifications, self.notifications = self.notifications, ()
        for finished in notifications:
            finished.errback(reason)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let a producer write the body as fast as the client takes it."""
        if self.producer is not None:
            raise ValueError("There is a producer: unregister it before the next one.")
        if self.channel is None:
            producer.stopProducing()
            return
        self.producer = producer
        self.channel.begin_producing(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has written all it has."""
        if self.producer is not None and self.channel is not None:
            self.channel.end_producing()
        self.producer = None

    def _take(self, body: Any) -> None:
        if body is NOT_DONE_YET:
            return
        if not isinstance(body, bytes):
            raise TypeError(f"An answer is bytes or NOT_DONE_YET, not {type(body)}.")
        if self.startedWriting or self.channel is None:
            self.write(body)
        elif body:
            self._start(body, len(body))
        self.finish()

    def _described(self, status: int, title: str, description: str) -> bytes:
        self.setResponseCode(status)
        self.setHeader(b"Content-Type", b"application/json")
        body: bytes = self.channel.factory.describe(status, title, description)
        return body

    def _start(self, data: bytes, length: int | None) -> None:
        self.startedWriting = 1
        if self.etag is not None or self.lastModified is not None or self.cookies:
            self._set_late_headers()
        if self.head.method == b"HEAD" or self.code in _WITHOUT_BODY:
            self._start_without_body(length, len(data))
        elif length is not None:
            self._left = length - len(data)
            self._write_head(data, b"Content-Length: %d\r\n" % length)
        elif self.head.is_1_1:
            self.chunked = 1
            first = _chunk(data) if data else b""
            self._write_head(first, b"Transfer-Encoding: chunked\r\n")
        else:
            self.channel.persists = False
            self._write_head(data, b"")

    def _declared_length(self) -> int | None:
        length = self.responseHeaders.value(b"Content-Length")
        return None if length is None else int(length)

    def _start_without_body(self, length: int | None, size: int) -> None:
        self._is_without_body = True
        if self.code in _WITHOUT_BODY:
            self._write_head(b"", b"")
        elif length is not None:
            self._write_head(b"", b"Content-Length: %d\r\n" % length)
        else:
            # What is only counted must all be written before the length is known.
            self._uncounted = size

    def _continue(self, data: bytes) -> None:
        if self._is_without_body:
            self._uncounted += len(data)
            return
        if self.chunked:
            data = _chunk(data)
        elif self._left is not None:
            self._left -= len(data)
        self.channel.transport.write(data)

    def _end(self, channel: Channel) -> None:
        if self.chunked:
            channel.transport.write(b"0\r\n\r\n")
        elif self._left:
            # The client would take the next answer for the rest of this one.
            channel.persists = False
        elif not self._is_head_written:
            length = b"Content-Length: %d\r\n" % self._uncounted
            self._write_head(b"", length if self._uncounted else b"")

    def _set_late_headers(self) -> None:
        headers = self.responseHeaders
        if self.lastModified is not None and not headers.hasHeader(b"Last-Modified"):
            changed = datetimeToString(self.lastModified)
            headers.setRawHeaders(b"Last-Modified", [changed])
        if self.etag is not None:
            headers.setRawHeaders(b"ETag", [self.etag])
        if self.cookies:
            headers.setRawHeaders(b"Set-Cookie", self.cookies)

    def _write_head(self, data: bytes, framing: bytes) -> None:
        self._is_head_written = True
        channel = self.channel
        parts = [channel.factory.beginning(self.code, self.code_message), framing]
        for name, values in self.responseHeaders.getAllRawHeaders():
            if name not in _OURS:
                for value in values:
                    parts.append(b"%b: %b\r\n" % (name, value))
            elif name == b"Connection" and b"close" in values[-1].lower():
                channel.persists = False
            elif name == b"Connection" and b"upgrade" in values[-1].lower():
                parts.append(b"Connection: upgrade\r\n")
        if not channel.persists:
            parts.append(b"Connection: close\r\n")
        elif not self.head.is_1_1:
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        parts.append(data)
        channel.transport.write(b"".join(parts))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
