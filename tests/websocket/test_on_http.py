"""The WebSocket API on the port of the HTTP API, under ``/v2/ws``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import Certificate
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqsvc.rest.cors import CORS
from mqsvc.rest.server import APIServer, upgrades_to
from tests.websocket import test_authentication, test_connections, test_push
from tests.websocket.client import Client, connect
from tests.websocket.server import WebSocketTestCase
from tests.websocket.test_connections import HandshakeTestCase
from tests.wire.test_http_sockets import self_signed

PATH = "/v2/ws"

SUBJECTS = (
    *(test_connections.HandshakeTests, test_connections.CompressionTests),
    *(test_connections.BoundTests, test_connections.CrowdTests),
    *(test_connections.SilenceTests, test_connections.SlowClientTests),
    *(test_push.LifeTests, test_authentication.FailureTests),
)
"""What depends on how a connection began, on its transport, or on how it ends."""


class OnHTTP:
    """In front of a case: its service is reached over HTTP."""

    path = PATH

    def make_server(self: Any, factory: Any) -> APIServer:
        """The HTTP API, with a way to the WebSocket API."""
        # Klein installs a reactor, so it comes when there is one.
        from mqsvc.rest.app import make_api  # noqa: PLC0415

        api = make_api(
            *(self.operations, self.guard, self.limits, self.clock, CORS()),
            has_websocket=True,
        )
        return APIServer(api, self.clock, upgrades_to(factory))

    def _listen(self: Any, factory: Any) -> IListeningPort:
        self.server = self.make_server(factory)
        return reactor.listenTCP(0, self.server, interface="127.0.0.1")


def on_http(case: type[WebSocketTestCase]) -> type[TestCase]:
    """The tests of a case, on the port of HTTP."""
    subject = case.__module__.rpartition(".test_")[2]
    name = f"{subject}_{case.__name__}"
    said = {"__doc__": case.__doc__, "__module__": __name__, "__qualname__": name}
    return type(name, (OnHTTP, case), said)


globals().update({made.__name__: made for made in map(on_http, SUBJECTS)})


class HandOverTests(OnHTTP, HandshakeTestCase):
    """Where HTTP ends and WebSocket begins."""

    async def test_no_upgrade(self) -> None:
        """Who asks for nothing but HTTP is told what to ask for."""
        for head in (
            await self.head(upgrade=False),
            await self.head("Connection: Upgrade", "Upgrade: h2c", upgrade=False),
            await self.head("Upgrade: websocket", upgrade=False),
        ):
            self.assertTrue(head.startswith("HTTP/1.1 426 "), head)
            self.assertIn("\r\nupgrade: websocket", head.lower())
            self.assertIn("\r\nconnection: upgrade\r\n", head.lower())
            self.assertIn("\r\nx-openstack-request-id: req-", head.lower())

    async def test_bad_handshake(self) -> None:
        """A handshake that is none is refused."""
        for lines in (
            ["Sec-WebSocket-Key: x"],
            ["Sec-WebSocket-Version: 99"],
            ["Sec-WebSocket-Protocol: a, a"],
        ):
            head = await self.head(*lines)
            self.assertTrue(head.startswith("HTTP/1.1 400 "), head)

    async def test_other_paths(self) -> None:
        """Elsewhere such a request is one like any other."""
        for path, status in (("/healthz", 200), ("/", 300)):
            head = await self.head(path=path)
            self.assertTrue(head.startswith(f"HTTP/1.1 {status} "), head)

    async def test_pushes_and_counts(self) -> None:
        """HTTP does not count it any more, and messages are pushed."""
        client = await self.connect()
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        server = self.server
        self.assertEqual((0, 0), (server.connections, server.requests_in_flight))
        for _ in range(10):
            self.clock.pump([1] * 20)
            self.expect(await client.call("ping"), 204)
        await self.post("q", "x")
        self.assertEqual("x", (await client.received())["body"])


class StopTests(OnHTTP, WebSocketTestCase):
    """When the service stops."""

    async def test_stop(self) -> None:
        """Clients are told to go, and nobody is let in any more."""
        client = await self.connect()
        self.server.stopFactory()
        self.assertEqual((1001, "The server stops."), await client.gone)
        late = Deferred.fromCoroutine(self.connect())
        self.assertIn("503", str(await self.assertFailure(late, ConnectionError)))


class TLSTests(OnHTTP, WebSocketTestCase):
    """Over TLS."""

    def _listen(self, factory: Any) -> IListeningPort:
        self.server, path = self.make_server(factory), Path(self.mktemp())
        pem = self_signed()
        path.write_bytes(pem)
        self.trusted = Certificate.loadPEM(pem[pem.index(b"-----BEGIN CERT") :])
        text = f"ssl:0:interface=127.0.0.1:privateKey={path}"
        return self.successResultOf(serverFromString(reactor, text).listen(self.server))

    async def connect(self, **options: Any) -> Client:
        """A client that trusts the server."""
        url = self.url.replace("ws:", "wss:")
        client = await connect(url, trusted=self.trusted, **options)
        self.clients.append(client)
        return client

    async def test_slow_client(self) -> None:
        """A client that pauses and goes on misses nothing, and is told of the end."""
        client = await self.connect()
        await client.call("subscription_create", {"queue_name": "q"})
        client.transport.pauseProducing()
        (connection,) = self.factory.connections
        posted = 0
        while connection.has_room:
            await self.post("q", f"{posted}:" + "x" * 200_000)
            await deferLater(reactor, 0)
            posted += 1
        client.transport.resumeProducing()
        for number in range(posted):
            frame = await client.received()
            self.assertTrue(frame["body"].startswith(f"{number}:"))
        self.factory.stopFactory()
        self.assertEqual(1001, (await client.gone)[0])
