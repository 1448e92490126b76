"""The WebSocket API until a client asks for it, which on most servers none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer


class Connections(Protocol):
    """What makes connections, and knows them."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A connection, or none."""

    def in_flight(self) -> int:
        """How much there is to be waited for when the service stops."""

    def stopFactory(self) -> None:
        """Let everybody go."""


@implementer(IProtocolNegotiationFactory)
class LateFactory(ServerFactory[Any]):
    """Makes the API when the first client wants it.

    Autobahn and what stands on it take more than five megabytes of every process, and
    a tenth of a second, once.

    :param make: makes the API.
    """

    noisy = False

    def __init__(self, make: Callable[[], Connections]) -> None:
        self._make = make
        self._made: Connections | None = None
        self._is_stopped = False

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """A connection; none when the service stops and nobody was there before."""
        if self._made is None:
            if self._is_stopped:
                return None
            self._made = self._make()
        built: IProtocol | None = self._made.buildProtocol(addr)
        return built

    def acceptableProtocols(self) -> list[bytes]:
        """What connections begin with, for clients that choose (ALPN)."""
        return [b"http/1.1"]

    def in_flight(self) -> int:
        """How much there is to be waited for when the service stops."""
        return 0 if self._made is None else self._made.in_flight()

    def stopFactory(self) -> None:
        """The service stops: let everybody go."""
        self._is_stopped = True
        if self._made is not None:
            self._made.stopFactory()
