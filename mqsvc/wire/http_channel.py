"""One connection: requests in, answers out, one request at a time.

Requests that a client sends ahead of answers stay bytes until it is their turn, so
that answers are in order, whatever waits is bounded, and a request sees all that the
one before it did.
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProducer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    IUNIXTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mqsvc.wire.http_body import Body, ChunkedBody, Content, SizedBody
from mqsvc.wire.http_head import (
    CRLF,
    END_OF_HEAD,
    Head,
    check_beginning,
)
from mqsvc.wire.http_limits import Refusal, head_too_large, too_slow
from mqsvc.wire.http_request import LeanRequest
from mqsvc.wire.http_upgrade import take_over, wanted_upgrade

if TYPE_CHECKING:
    from mqsvc.wire.http import HTTPFactory

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Phase(Enum):
    """What a connection is about."""

    HEAD = auto()
    """A head is awaited, or has come in part."""
    BODY = auto()
    """The body of a request is coming in."""
    WORK = auto()
    """A request is being answered."""
    CLOSING = auto()
    """Nothing is read or answered any more."""


# Enum members cost a look-up each time.
_HEAD, _BODY, _WORK, _CLOSING = Phase


@implementer(IHalfCloseableProtocol, IPushProducer)
class Channel(Protocol):
    """A connection.

    :ivar persists: whether it stays open after the answer to the current request.
    :ivar is_secure: whether it is encrypted.
    :ivar deadline: when it is to be told that it :meth:`expired`.
    """

    transport: Any  # what is asked of it depends on what it can do
    factory: HTTPFactory
    is_secure = False
    persists = True
    deadline = inf

    def __init__(self, factory: HTTPFactory) -> None:
        self.factory = factory
        self._limits = factory.limits
        self._phase = _HEAD
        self._unread = b""
        self._request: LeanRequest | None = None
        self._incoming: tuple[LeanRequest, Body] | None = None
        self._body_deadline = inf
        self._checked = 0
        self._dropped = 0
        self._host: IAddress | None = None
        self._is_last = self._has_ended = False
        self._is_reading = self._is_stalled = self._is_paused = False

    # Called by the transport.

    def connectionMade(self) -> None:
        """The client is there."""
        self.is_secure = ISSLTransport.providedBy(self.transport)
        if ITCPTransport.providedBy(self.transport) and not (
            IUNIXTransport.providedBy(self.transport)
        ):
            self.transport.setTcpNoDelay(True)
        self.factory.opened(self)
        self._await_head()
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        if self._phase is _CLOSING:
            self._drop(len(data))
            return
        self._unread = self._unread + data if self._unread else data
        if self._phase is _WORK or self._is_stalled:
            if len(self._unread) > self._limits.ahead:
                self._pause_reading()
        else:
            self._read()

    def readConnectionLost(self) -> None:
        """The client has sent all it wants to send."""
        self._has_ended = True
        if self._phase is _CLOSING:
            self.transport.loseConnection()
        elif not (self._limits.half_close and self._is_worth_answering()):
            self.hang_up()
        elif self._phase is not _WORK and not self._is_stalled:
            self._read()

    def _is_worth_answering(self) -> bool:
        request = self._request
        return request is None or self.factory.is_worth_answering(request)

    def writeConnectionLost(self) -> None:
        """All is sent, and the client knows that nothing follows."""
        self._set_deadline(self._limits.linger_time)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._phase, self._unread, self.deadline = _CLOSING, b"", inf
        request, self._request = self._request, None
        if request is not None:
            self.factory.requests_in_flight -= 1
            request.connectionLost(reason)
        self.factory.closed(self)

    def pauseProducing(self) -> None:
        """The client does not take its answers."""
        self._is_stalled = True
        self._set_deadline(self._limits.stalled_time)
        self._pause_reading()

    def resumeProducing(self) -> None:
        """The client has taken its answers."""
        if not self._is_stalled:
            return
        self._is_stalled = False
        if self._phase is _WORK:
            self.deadline = inf
            self._resume_reading()
        elif self._phase is not _CLOSING:
            self._set_deadline(self._limits.idle_time)
            self._read()

    def stopProducing(self) -> None:
        """The transport is gone; that is told by other means as well."""

    # Called by requests.

    def getHost(self) -> IAddress:
        """Where the client reached this server."""
        if self._host is None:
            self._host = self.transport.getHost()
        return self._host

    def answered(self) -> None:
        """The request at work has its answer."""
        self._request = None
        self.factory.requests_in_flight -= 1
        if self._phase is _CLOSING:
            return
        if not self.persists:
            self.hang_up()
            return
        self._await_head()
        if not self._is_stalled:
            self._read()

    def begin_producing(self, producer: IProducer, streaming: bool) -> None:
        """Let somebody else write as fast as the client takes it."""
        self.transport.unregisterProducer()
        # From here on it is the producer that is told when to pause.
        self._is_stalled = False
        self.deadline = inf
        self._resume_reading()
        self.transport.registerProducer(producer, streaming)

    def end_producing(self) -> None:
        """Write by ourselves again."""
        if self._phase is not _CLOSING:
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)

    def loseConnection(self) -> None:
        """Send what was written, and close."""
        self.hang_up()

    # Called by the factory.

    def finish(self) -> None:
        """Close as soon as everything that has begun is answered."""
        self._is_last = True
        self.persists = False
        if self._phase is _HEAD and not self._checked:
            self.hang_up()

    def expired(self) -> None:
        """The deadline has passed."""
        if self._phase is _CLOSING or self._is_stalled:
            self.transport.abortConnection()
        elif self._phase is _BODY:
            self._refuse(too_slow("body"))
        elif self._checked:
            self._refuse(too_slow("request"))
        else:
            self.hang_up()

    def hang_up(self) -> None:
        """Close, and let the client see all that was written.

        A socket that is closed while bytes come in is reset, which takes away what
        the client has not read yet: so its own closing is awaited where that can be.
        """
        if self._phase is _CLOSING:
            return
        self._phase, self._unread, self._incoming = _CLOSING, b"", None
        self._set_deadline(self._limits.stalled_time)
        transport = self.transport
        transport.unregisterProducer()
        self._resume_reading()
        can_half_close = IHalfCloseableDescriptor.providedBy(transport)
        if self.is_secure or self._has_ended or not can_half_close:
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    # Reading.

    def _await_head(self) -> None:
        self._phase = _HEAD
        self.persists = not self._is_last
        if not self._is_stalled:
            self._set_deadline(self._limits.idle_time)

    def _read(self) -> None:
        if self._is_reading:
            # An answer at once; the loop below goes on.
            return
        self._is_reading = True
        try:
            while self._unread and not self._is_stalled and self._read_part():
                pass
        except Refusal as refusal:
            self._refuse(refusal)
        finally:
            self._is_reading = False
        if self._phase is _HEAD or self._phase is _BODY:
            self._await_more()

    def _await_more(self) -> None:
        if self._is_stalled:
            return
        if self._has_ended:
            self.hang_up()
        else:
            self._resume_reading()

    def _read_part(self) -> bool:
        """Read a head or a part of a body; gives whether there may be more to read."""
        if self._phase is _HEAD:
            return self._read_head()
        if self._incoming is not None:
            return self._read_body(*self._incoming)
        return False

    def _read_head(self) -> bool:
        unread = self._unread
        # An empty line after the body before is a mistake of old clients.
        start = 2 if unread.startswith(CRLF) else 0
        end = unread.find(END_OF_HEAD, max(start, self._checked - 3))
        if end < 0:
            self._check_beginning(unread[start:])
            return False
        end += 4
        if end - start > self._limits.head:
            raise head_too_large(self._limits)
        self._checked = 0
        self._unread = unread[end:]
        head = self.factory.head(unread[start:end])
        upgrade = wanted_upgrade(head, self.factory.upgrades)
        if upgrade is None:
            self._begin(head)
        else:
            self._hand_over(upgrade, unread[start:])
        return True

    def _check_beginning(self, raw: bytes) -> None:
        if raw and raw != b"\r":
            if not self._checked:
                self._set_deadline(self._limits.head_time)
            check_beginning(raw, self._checked, self._limits)
            self._checked = len(raw)

    def _begin(self, head: Head) -> None:
        self.persists = head.persists and not self._is_last
        request = self.factory.request_class(self, head)
        if head.length == 0:
            self._work(request)
        elif head.length is not None and head.length <= self._at_once():
            request.content = Content(self._unread[: head.length], head.length)
            self._unread = self._unread[head.length :]
            self._work(request)
        else:
            self._await_body(request, head)

    def _at_once(self) -> int:
        """Bytes that a body may have for which there is nothing to be awaited."""
        return min(len(self._unread), self._limits.body_kept, self._limits.body)

    def _await_body(self, request: LeanRequest, head: Head) -> None:
        body: Body
        if head.length is None:
            body = ChunkedBody(self._limits)
        else:
            body = SizedBody(self._limits, head.length)
        self._incoming = request, body
        self._phase = _BODY
        self._body_deadline = self._set_deadline(self._limits.body_time)
        if head.expects_continue and not self._unread:
            self.transport.write(CONTINUE)

    def _hand_over(self, upgrade: ServerFactory[Any], unread: bytes) -> None:
        """Let another protocol have the connection, from this head on."""
        if self._has_ended:
            # A client that sends no more has nothing to say in it.
            self.hang_up()
            return
        protocol = upgrade.buildProtocol(self.transport.getPeer())
        if protocol is None:
            raise Refusal(503, "Service unavailable", "Try again later.")
        self._phase, self._unread, self.deadline = _CLOSING, b"", inf
        self.transport.unregisterProducer()
        self._resume_reading()
        self.factory.closed(self)
        take_over(protocol, self.transport)
        protocol.dataReceived(unread)

    def _read_body(self, request: LeanRequest, body: Body) -> bool:
        taken = body.read(self._unread)
        self._unread = self._unread[taken:]
        if body.is_complete:
            self._incoming = None
            request.content = body.content()
            self._work(request)
            return True
        self.deadline = self._body_deadline + body.size / self._limits.least_rate
        return False

    def _work(self, request: LeanRequest) -> None:
        self._request = request
        self._phase = _WORK
        if not self._is_stalled:
            self.deadline = inf
        self.factory.requests_in_flight += 1
        request.serve(self.factory.render)

    def _refuse(self, refusal: Refusal) -> None:
        self.transport.write(self.factory.refusal(refusal))
        self.hang_up()

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > self._limits.dropped:
            self.transport.abortConnection()

    # Small things.

    def _set_deadline(self, seconds: float) -> float:
        self.deadline = self.factory.clock.seconds() + seconds
        return self.deadline

    def _pause_reading(self) -> None:
        if not self._is_paused and not self._has_ended:
            self._is_paused = True
            self.transport.pauseProducing()

    def _resume_reading(self) -> None:
        if self._is_paused and not self._has_ended:
            self._is_paused = False
            self.transport.resumeProducing()
