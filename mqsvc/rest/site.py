"""The API on twisted.web's server: bodies in bounded memory, requests counted.

The only file that knows how twisted.web reads a request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel
from twisted.web.server import Request, Site

from mqsvc.messaging.errors import BodyTooLarge, InvalidHeader, MessagingError
from mqsvc.rest.answer import give_id, write
from mqsvc.rest.app import API
from mqsvc.rest.problems import answer_of

_LENGTH = re.compile(rb"[0-9]{1,18}\Z")

MOST_READ = 16 * 1024 * 1024
"""Bytes of a body that are read, so that its sender gets to see the answer."""


class BoundedBody(BytesIO):
    """A request body in memory; one that is too large is counted and dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self.size = 0

    def write(self, data: Any) -> int:
        """Keep the next piece."""
        self.size += len(data)
        if self.size <= self._limit:
            return super().write(data)
        self.truncate(0)
        return len(data)


class BoundedRequest(Request):
    """A request whose sender is cut off when the body is beyond all bounds."""

    # Answers say themselves what they are, or nothing.
    defaultContentType = None
    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        """The headers have come; a length of none means chunks."""
        super().gotLength(length)
        if length is not None and length > MOST_READ:
            self._cut_off()

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body has come."""
        super().handleContentChunk(data)
        body: Any = self.content
        if body.size > MOST_READ:
            self._cut_off()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it has come; what was refused before is not done after all."""
        if not self._is_refused:
            super().requestReceived(command, path, version)

    def _cut_off(self) -> None:
        if not self._is_refused:
            self.hang_up(BodyTooLarge(f"A body has at most {MOST_READ} bytes."))

    def say_goodbye(self) -> None:
        """Let the connection end with the answer to this request."""
        self.channel.persistent = False
        self.setHeader(b"connection", b"close")

    def hang_up(self, error: MessagingError) -> None:
        """Answer while the request is still coming in, and close the connection."""
        self._is_refused = True
        # What twisted.web would have set by the time it asks for an answer.
        self.clientproto = b"HTTP/1.1"
        self.setHeader(b"connection", b"close")
        give_id(self)
        self._write_whole(write(self, answer_of(error, self)))
        self.channel.loseConnection()

    def when_gone(self, act: Callable[[Failure], None]) -> None:
        """Have a function called when the client is gone before all is answered."""
        self.notifyFinish().addErrback(act)

    def answer(self, body: bytes) -> None:
        """Send all of a body."""
        self._write_whole(body)
        self.finish()

    def _write_whole(self, body: bytes) -> None:
        if self.code not in NO_BODY_CODES:
            self.setHeader(b"content-length", b"%d" % len(body))
        self.write(body)


class Channel(HTTPChannel):
    """A connection that refuses a length that is none in the form of the API.

    The site knows it, so that it can be closed when the service stops.
    """

    site: CountingSite

    def connectionMade(self) -> None:
        """The client is there."""
        super().connectionMade()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self.site.channels.discard(self)
        super().connectionLost(reason)

    def finish(self) -> None:
        """Close when what runs is answered; at once when nothing does."""
        if not self.requests:
            self.loseConnection()
        for request in self.requests:
            request.say_goodbye()

    def headerReceived(self, line: bytes) -> bool:
        """One header has come; gives whether to go on."""
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and not _LENGTH.match(value.strip()):
            self.requests[-1].hang_up(
                InvalidHeader("Invalid header value", "Content-Length is no number.")
            )
            return False
        return bool(super().headerReceived(line))


class CountingSite(Site):
    """A site that knows how many requests it has not answered yet."""

    # Its declared type is the wrapper that also speaks HTTP/2, which is not wanted.
    protocol = Channel  # type: ignore[assignment]
    requestFactory = BoundedRequest
    displayTracebacks = False

    def __init__(self, api: API) -> None:
        # Forms are refused anyway, and looking for them costs more than routing.
        super().__init__(api.front, parsePOSTFormSubmission=False)
        self.requests_in_flight = 0
        self.channels: set[Channel] = set()
        self._largest_body = api.largest_body
        self._on_stop = api.finish

    def stopFactory(self) -> None:
        """The last port was closed."""
        super().stopFactory()
        for channel in list(self.channels):
            channel.finish()
        self._on_stop()

    def getContentFile(self, length: int | None) -> BoundedBody:
        """Where twisted.web puts the body of a request."""
        return BoundedBody(self._largest_body)

    def getResourceFor(self, request: Request) -> Any:
        """Every path leads to the root; its request is now in flight."""
        self.requests_in_flight += 1
        request.notifyFinish().addBoth(self._finished)
        return self.resource

    def _finished(self, _: object) -> None:
        self.requests_in_flight -= 1

    def log(self, request: Any) -> None:
        """No access log: it would cost as much as the routing."""
