"""Connections: handshakes, bounds, pings, and clients that do not read."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.websocket.server import WebSocketTestCase

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class RawHandshake(Protocol):
    """Sends bytes, and keeps what comes.

    :ivar answered: fires with the status line.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.received = b""
        self.answered: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Keep."""
        self.received += data
        if b"\r\n\r\n" in self.received and not self.answered.called:
            self.answered.callback(self.received.partition(b"\r\n\r\n")[0])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over."""
        self.gone.callback(None)


class HandshakeTestCase(WebSocketTestCase):
    """Handshakes as bytes."""

    options = {"allowed_origins": ("https://app.example.org",)}  # noqa: RUF012

    async def head(self, *lines: str, path: str = "", upgrade: bool = True) -> str:
        """The head of the answer to a handshake with more headers."""
        path = path or self.path
        wanted = ["Connection: Upgrade", "Upgrade: websocket"] if upgrade else []
        fixed = [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
        head = [f"GET {path} HTTP/1.1", "Host: localhost", *wanted, *fixed, *lines]
        request = "".join(f"{line}\r\n" for line in (*head, "")).encode()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        raw = await connectProtocol(endpoint, RawHandshake(request))
        answer = await raw.answered
        raw.transport.abortConnection()
        await raw.gone
        return answer.decode()


class OwnPortTests(HandshakeTestCase):
    """On a port where nothing else is spoken."""

    async def test_any_path(self) -> None:
        """Any path leads here, and the server does not say what it is."""
        for path in ("/", "/v2/anything?x=1"):
            head = await self.head(path=path)
            self.assertTrue(head.startswith("HTTP/1.1 101 "), head)
            self.assertNotIn("Server:", head)

    async def test_no_delay(self) -> None:
        """What is sent goes out at once, whether the client took what was before."""
        client = await self.connect()
        self.expect(await client.call("ping"), 204)
        (connection,) = self.factory.connections
        self.assertTrue(connection.transport.getTcpNoDelay())

    async def test_no_upgrade(self) -> None:
        """Who does not ask for a WebSocket is told to; nothing redirects."""
        for path in ("/", "/?redirect=http%3A%2F%2Fevil.example%2F"):
            head = await self.head(path=path, upgrade=False)
            self.assertTrue(head.startswith("HTTP/1.1 426 "), head)


class HandshakeTests(HandshakeTestCase):
    """How a connection begins."""

    async def test_origins(self) -> None:
        """A page must come from an origin of the list; a program has none."""
        for origin, status in (
            ("https://app.example.org", 101),
            ("https://evil.example", 403),
            ("https://app.example.org.evil.example", 403),
            ("http://app.example.org", 403),
            ("null", 403),
            ("foo", 400),
        ):
            head = await self.head(f"Origin: {origin}")
            self.assertTrue(head.startswith(f"HTTP/1.1 {status} "), head)

    async def test_subprotocols(self) -> None:
        """No subprotocol is spoken."""
        head = await self.head("Sec-WebSocket-Protocol: zaqar, wamp.2.json")
        self.assertTrue(head.startswith("HTTP/1.1 101 "), head)
        self.assertNotIn("Sec-WebSocket-Protocol", head)

    async def test_compression(self) -> None:
        """Compression is agreed to, without memory between messages."""
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        head = await self.head(offer)
        self.assertIn("permessage-deflate", head)


class CompressionTests(WebSocketTestCase):
    """permessage-deflate."""

    async def test_large_frames(self) -> None:
        """Replies and notifications of all sizes arrive whole."""
        client = await self.connect(compression=True)
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        for size in (1, 5_000, 250_000):
            await self.post("q", "x" * size)
            self.assertEqual("x" * size, (await client.received())["body"])
        listing = {"queue_name": "q", "echo": True}
        page = self.expect(await client.call("message_list", listing), 200)
        self.assertEqual(3, len(page["messages"]))


class BoundTests(WebSocketTestCase):
    """What a client may not do."""

    options = {"max_message_size": 100_000, "max_subscriptions": 2}  # noqa: RUF012

    async def test_too_large(self) -> None:
        """A message beyond the bound closes the connection, and no other."""
        client, other = await self.connect(), await self.connect()
        client.sendMessage(b" " * 100_001)
        self.assertEqual(1009, (await client.gone)[0])
        self.expect(await other.call("queue_list"), 200)

    async def test_deflated_too_large(self) -> None:
        """Nor does a bomb get in by compression."""
        client = await self.connect(compression=True)
        client.sendMessage(b" " * 5_000_000)
        self.assertEqual(1009, (await client.gone)[0])

    async def test_replies_may_be_larger(self) -> None:
        """What is sent has no such bound."""
        for _ in range(3):
            await self.post("q", "x" * 90_000)
        client = await self.connect()
        listing = {"queue_name": "q", "echo": True}
        page = self.expect(await client.call("message_list", listing), 200)
        self.assertEqual(3, len(page["messages"]))

    async def test_subscriptions(self) -> None:
        """A connection has a bound of subscriptions; one that ended makes room."""
        client = await self.connect()
        for name, status in (("a", 201), ("b", 201), ("c", 400)):
            reply = await client.call("subscription_create", {"queue_name": name})
            self.expect(reply, status)
        self.expect(await client.call("queue_delete", {"queue_name": "a"}), 204)
        reply = await client.call("subscription_create", {"queue_name": "c"})
        self.expect(reply, 201)

    async def test_invalid_text(self) -> None:
        """Text that is no UTF-8 is closed with its code."""
        client = await self.connect()
        client.sendFrame(opcode=1, payload=b"\xff\xfe")
        self.assertEqual(1007, (await client.gone)[0])

    async def test_protocol_error(self) -> None:
        """A frame against the protocol is closed with its code."""
        client = await self.connect()
        client.sendFrame(opcode=3, payload=b"x")
        self.assertEqual(1002, (await client.gone)[0])

    async def test_flood(self) -> None:
        """Many requests at once are all answered, in order, in bounded memory."""
        client = await self.connect()
        for number in range(1000):
            client.ask("ping", id=number)
        ids = [(await client.received())["id"] for _ in range(1000)]
        self.assertEqual(list(range(1000)), ids)


class CrowdTests(WebSocketTestCase):
    """How many there may be."""

    options = {"max_connections": 2}  # noqa: RUF012

    async def test_full(self) -> None:
        """A process that is full refuses in the handshake."""
        for _ in range(2):
            await self.connect()
        error = await self.assertFailure(
            Deferred.fromCoroutine(self.connect()), ConnectionError
        )
        self.assertIn("503", str(error))


class SilenceTests(WebSocketTestCase):
    """Is anybody there."""

    async def test_ping(self) -> None:
        """A silent client is pinged, and stays when it answers."""
        client = await self.connect()
        pinged: Deferred[bytes] = Deferred()
        answer = client.onPing

        def note(payload: bytes) -> None:
            answer(payload)
            pinged.callback(payload)

        client.onPing = note
        self.clock.pump([1] * 30)
        await pinged
        self.expect(await client.call("queue_list"), 200)
        self.clock.pump([1] * 15)
        self.expect(await client.call("queue_list"), 200)

    async def test_dead(self) -> None:
        """A client that does not answer a ping is dropped."""
        client = await self.connect()
        client.onPing = lambda _: None
        self.clock.pump([1] * 30)
        self.clock.pump([1] * 10)
        self.assertEqual(1006, (await client.gone)[0])


class SlowClientTests(WebSocketTestCase):
    """Clients that do not read."""

    timeout = 240

    def resident(self) -> int:
        """Bytes of memory that this process has."""
        with open("/proc/self/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def flood(self, posts: int, size: int) -> None:
        """Post large messages."""
        for number in range(posts):
            await self.post("q", f"{number}:" + "x" * size)

    async def test_memory_is_flat(self) -> None:
        """A client that never reads costs no memory, and is closed in the end."""
        client = await self.connect()
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        client.transport.pauseProducing()
        await self.flood(20, 250_000)
        before = self.resident()
        await self.flood(400, 250_000)
        self.assertLess(self.resident() - before, 30_000_000)
        (connection,) = self.factory.connections
        self.assertFalse(connection.has_room)
        self.clock.advance(30)
        client.transport.resumeProducing()
        self.assertIn((await client.gone)[0], (1013, 1006))
        self.assertEqual(1013, connection.localCloseCode)

    async def test_slow_but_reading(self) -> None:
        """A client that pauses and goes on misses nothing."""
        client = await self.connect()
        await client.call("subscription_create", {"queue_name": "q"})
        client.transport.pauseProducing()
        await self.flood(60, 100_000)
        (connection,) = self.factory.connections
        self.assertFalse(connection.has_room)
        client.transport.resumeProducing()
        frames = [await client.received() for _ in range(60)]
        numbers = [int(frame["body"].partition(":")[0]) for frame in frames]
        self.assertEqual(list(range(60)), numbers)

    async def test_others_are_not_held_up(self) -> None:
        """Who reads gets everything beside somebody who does not."""
        slow, quick = await self.connect(), await self.connect()
        for client in (slow, quick):
            await client.call("subscription_create", {"queue_name": "q"})
        slow.transport.pauseProducing()
        await self.flood(60, 100_000)
        for number in range(60):
            frame = await quick.received()
            self.assertTrue(frame["body"].startswith(f"{number}:"))

    async def test_requests_without_reading(self) -> None:
        """Who asks and asks and never reads is read no more from."""
        await self.flood(10, 200_000)
        client = await self.connect()
        client.transport.pauseProducing()
        for _ in range(300):
            client.ask("message_list", {"queue_name": "q", "echo": True})
        (connection,) = self.factory.connections
        while connection.has_room:
            await deferLater(reactor, 0.01)
        self.assertLess(len(connection._requests), 300)
        self.clock.advance(30)
        client.transport.resumeProducing()
        await client.gone
        self.assertEqual(1013, connection.localCloseCode)
