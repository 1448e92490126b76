"""An HTTP/1.1 server (RFC 9112) on llhttp, for Klein and what twisted.web renders.

docs/wire.rst says what it does beyond the standard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource, getChildForRequest
from zope.interface import implementer

from mqsvc.wire.http_channel import Channel
from mqsvc.wire.http_head import Fields, Head
from mqsvc.wire.http_limits import Describe, HTTPLimits, Refusal
from mqsvc.wire.http_request import LeanRequest
from mqsvc.wire.http_upgrade import Upgrades

SWEEP_SECONDS = 1.0
"""How often connections are looked through for those that took too long."""

HEADS_KNOWN = 512
"""Heads, and headers, that are remembered as they were read, of each so many.

Clients send the same heads often, and nearly always the same headers.
"""

LONGEST_KNOWN = 1024
"""Bytes of a head, or of headers, that are remembered."""

Render = Callable[[LeanRequest], Any]
"""Answers a request: gives the whole body, or NOT_DONE_YET and writes it later."""


@implementer(IProtocolNegotiationFactory)
class HTTPFactory(ServerFactory[Channel]):
    """Makes connections, and knows what they have in common.

    :param root: renders every request, or is the resource to begin with.
    :param describe: makes the body of an answer when no resource is asked.
    :param upgrades: what else than HTTP is spoken where; their factories are stopped
        together with this one.
    :ivar requests_in_flight: requests that are not answered yet.
    """

    noisy = False
    request_class = LeanRequest

    def __init__(
        self,
        root: IResource | Render,
        limits: HTTPLimits,
        clock: IReactorTime,
        describe: Describe,
        upgrades: Upgrades,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.describe = describe
        self.upgrades = upgrades
        self.render = _rendering(root) if IResource.providedBy(root) else root
        self.requests_in_flight = 0
        self._channels: set[Channel] = set()
        self._sweep: IDelayedCall | None = None
        self._second = -1
        self._beginnings: dict[tuple[int, bytes], bytes] = {}
        self._known_head = lru_cache(HEADS_KNOWN)(self._read_head)
        self._known_fields = lru_cache(HEADS_KNOWN)(self._read_fields)

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        """See :class:`twisted.internet.interfaces.IProtocolFactory`."""
        return Channel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """What is spoken here, for clients that choose while they set up TLS.

        Those that offer a choice are turned away when nobody says what is accepted.
        """
        return [b"http/1.1"]

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._channels)

    def is_worth_answering(self, request: LeanRequest) -> bool:
        """Whether to go on with a request whose client sends no more, or is gone."""
        return True

    def finish(self) -> None:
        """Close connections: idle ones now, the others after their answer."""
        for channel in list(self._channels):
            channel.finish()

    def stopFactory(self) -> None:
        """The last port was closed."""
        self.finish()
        for upgrade in self.upgrades.values():
            upgrade.stopFactory()

    # Called by connections.

    def opened(self, channel: Channel) -> None:
        """Here is another connection."""
        self._channels.add(channel)
        if self._sweep is None:
            self._sweep = self.clock.callLater(SWEEP_SECONDS, self._look_through)

    def closed(self, channel: Channel) -> None:
        """One connection is no more."""
        self._channels.discard(channel)
        if not self._channels and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def head(self, raw: bytes) -> Head:
        """Read the head of a request, which ends with the empty line.

        :raise Refusal: it is none, or has more than the limits allow.
        """
        is_short = len(raw) <= LONGEST_KNOWN
        return self._known_head(raw) if is_short else self._read_head(raw)

    def _read_head(self, raw: bytes) -> Head:
        return Head(raw, self.limits, self._fields)

    def _fields(self, raw: bytes) -> Fields:
        is_short = len(raw) <= LONGEST_KNOWN
        return self._known_fields(raw) if is_short else self._read_fields(raw)

    def _read_fields(self, raw: bytes) -> Fields:
        return Fields(raw, self.limits)

    def beginning(self, status: int, reason: bytes) -> bytes:
        """The status line and the date of an answer."""
        second = int(self.clock.seconds())
        if second != self._second:
            self._second = second
            self._beginnings.clear()
        known = self._beginnings.get((status, reason))
        if known is None:
            known = b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (
                status,
                b" ".join(reason.split()),
                datetimeToString(second),
            )
            self._beginnings[status, reason] = known
        return known

    def refusal(self, refusal: Refusal) -> bytes:
        """The whole answer to what is no request."""
        status = refusal.status
        body = self.describe(status, refusal.title, refusal.description)
        return (
            b"%bContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (self.beginning(status, refusal.title.encode()), len(body), body)
        )

    def _look_through(self) -> None:
        self._sweep = self.clock.callLater(SWEEP_SECONDS, self._look_through)
        now = self.clock.seconds()
        for channel in [one for one in self._channels if one.deadline <= now]:
            channel.expired()


def _rendering(root: IResource) -> Render:
    def render(request: LeanRequest) -> Any:
        return request.rendered(getChildForRequest(root, request))

    def render_at_root(request: LeanRequest) -> Any:
        return request.rendered(root)

    return render_at_root if root.isLeaf else render
