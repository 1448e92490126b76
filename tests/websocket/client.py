"""A client of the tests, under Autobahn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgpack
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS

CLIENT_ID = "11111111-1111-1111-1111-111111111111"
PROJECT = "p1"


class Client(WebSocketClientProtocol):
    """Sends requests, and hands out the frames that come, in their order.

    :ivar gone: fires with close code and reason when the connection is over.
    :ivar sizes: of the frames that came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[Client] = Deferred()
        self.gone: Deferred[tuple[int | None, str | None]] = Deferred()
        self.end: tuple[int | None, str | None] | None = None
        self._frames: DeferredQueue[Any] = DeferredQueue()
        self.is_up = False

    def onOpen(self) -> None:
        """The handshake is over."""
        self.is_up = True
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A frame came."""
        decode = msgpack.unpackb if isBinary else json.loads
        try:
            self._frames.put((decode(payload), isBinary))
        except ValueError:
            self._frames.put((payload, isBinary))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The connection is over."""
        self.end = (code, reason)
        if not self.is_up:
            self.opened.errback(ConnectionError(reason))
        # What was closed properly also names the code that came.
        self.gone.callback((code, reason))

    def hang_up(self) -> None:
        """Drop the connection, if it is still there."""
        if self.end is None:
            self.transport.abortConnection()

    async def frame(self) -> tuple[Any, bool]:
        """The next frame, and whether it is binary."""
        return await self._frames.get()

    async def received(self) -> Any:
        """The value in the next frame."""
        return (await self.frame())[0]

    def ask(
        self,
        action: Any,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        binary: bool = False,
        **more: Any,
    ) -> None:
        """Send a request; headers are on top of the usual ones, none removes one."""
        given = {"Client-ID": CLIENT_ID, "X-Project-ID": PROJECT, **(headers or {})}
        request = {"action": action, **more}
        request["headers"] = {k: v for k, v in given.items() if v is not None}
        if body is not None:
            request["body"] = body
        encode = msgpack.packb if binary else lambda value: json.dumps(value).encode()
        self.sendMessage(encode(request), binary)

    async def call(self, action: Any, body: Any = None, **options: Any) -> Any:
        """Send a request; the next frame, which must be its reply."""
        self.ask(action, body, **options)
        return await self.received()

    async def raw(self, payload: bytes, binary: bool = False) -> Any:
        """Send a frame as it is; the next frame."""
        self.sendMessage(payload, binary)
        return await self.received()


def _accept(response: object) -> object:
    if isinstance(response, PerMessageDeflateResponse):
        return PerMessageDeflateResponseAccept(response)
    return None


async def connect(
    url: str,
    origin: str | None = None,
    compression: bool = False,
    trusted: Certificate | None = None,
) -> Client:
    """Connect, with TLS if a certificate is trusted, and wait for the handshake."""
    factory = WebSocketClientFactory(url, origin=origin, reactor=reactor)
    factory.protocol = Client
    if compression:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=_accept,
        )
    endpoint: IStreamClientEndpoint
    endpoint = HostnameEndpoint(reactor, factory.host, factory.port)
    if trusted is not None:
        endpoint = wrapClientTLS(optionsForClientTLS("localhost", trusted), endpoint)
    client: Client = await endpoint.connect(factory)
    return await client.opened
