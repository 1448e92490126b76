"""The client's side of HTTP, for what an ordinary client library refuses to send."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from tests.rest.answers import Answer

_HEAD = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


@implementer(IBodyProducer)
class WholeBody:
    """A request body written at once."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write everything."""
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Nothing is left to stop."""

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""


class RawConnection(Protocol):
    """Sends any bytes and cuts what comes back into answers."""

    def __init__(self) -> None:
        self.closed = False
        self._received = b""
        self._changed: Deferred[None] = Deferred()

    def send(self, *parts: bytes) -> None:
        """Write bytes as they are."""
        self.transport.write(b"".join(parts))

    def hang_up(self) -> None:
        """Close without a word."""
        self.transport.abortConnection()

    async def answer(self) -> Answer:
        """The next whole answer; fails when the connection ends before it."""
        while (answer := self._cut()) is None:
            if self.closed:
                raise ConnectionError(f"closed after {self._received!r}")
            await self._changed
        return answer

    async def end(self) -> bytes:
        """Waits until the service closes; what it sent that nobody took."""
        while not self.closed:
            await self._changed
        return self._received

    def has_answer(self) -> bool:
        """Whether anything came that nobody took."""
        return self._received != b""

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self._received += data
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember the end."""
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, Deferred()
        changed.callback(None)

    def _cut(self) -> Answer | None:
        match = _HEAD.match(self._received)
        if match is None:
            return None
        headers = Headers()
        for line in match[2].splitlines():
            name, _, value = line.partition(b":")
            headers.addRawHeader(name.strip(), value.strip())
        lengths = headers.getRawHeaders(b"content-length") or [b"0"]
        end = match.end() + int(lengths[0])
        if len(self._received) < end:
            return None
        body, self._received = self._received[match.end() : end], self._received[end:]
        return Answer("raw bytes", int(match[1]), headers, body)
