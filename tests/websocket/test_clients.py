"""Client libraries of others, each in a thread as its users run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.live import missing
from tests.websocket.client import CLIENT_ID
from tests.websocket.server import WebSocketTestCase

try:
    from websockets.sync.client import connect as websockets_connect
except ImportError:
    websockets_connect = None

try:
    import websocket
    from zaqarclient.transport import errors, request
    from zaqarclient.transport.ws import WebsocketTransport
except ImportError:
    WebsocketTransport = None

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": "p1"}


class WebsocketsTests(WebSocketTestCase):
    """The library ``websockets``."""

    def setUp(self) -> Deferred[None]:
        """Need the library."""
        if websockets_connect is None:
            missing("websockets", "install the project with its extra 'test'")
        return Deferred.fromCoroutine(super().setUp())

    async def test_round_trip(self) -> None:
        """It subscribes, posts, and gets reply and notification, compressed."""

        def converse() -> tuple[Any, Any]:
            with websockets_connect(self.url) as connection:
                self.assertIn("Deflate", str(connection.protocol.extensions))
                for action, body in (
                    ("subscription_create", {}),
                    ("message_post", {"messages": [{"body": "x" * 5000}]}),
                ):
                    named = {"queue_name": "q", **body}
                    document = {"action": action, "headers": HEADERS, "body": named}
                    connection.send(json.dumps(document))
                    reply = json.loads(connection.recv(timeout=20))
                return reply, json.loads(connection.recv(timeout=20))

        reply, notification = await deferToThread(converse)
        self.expect(reply, 201)
        self.assertEqual("x" * 5000, notification["body"])

    async def test_pong(self) -> None:
        """It measures the way to and fro by pings of its own."""

        def measure() -> bool:
            with websockets_connect(self.url) as connection:
                return connection.ping().wait(20)

        self.assertTrue(await deferToThread(measure))


class ZaqarClientTestCase(WebSocketTestCase):
    """python-zaqarclient's transport."""

    token: str | None = "tok-p1"

    def setUp(self) -> Deferred[None]:
        """Need the library."""
        if WebsocketTransport is None:
            missing(
                "python-zaqarclient or websocket-client",
                "install the project with its extra 'test'",
            )
        return Deferred.fromCoroutine(super().setUp())

    async def converse(self, talk: Callable[[Any], Any]) -> Any:
        """Let a transport talk in a thread; what the talk gives."""
        options = {"os_project_id": "p1", "os_auth_token": self.token}
        transport = WebsocketTransport({"auth_opts": {"options": options}})

        def talk_and_hang_up() -> Any:
            with transport:
                try:
                    return talk(transport)
                finally:
                    transport.cleanup()

        return await deferToThread(talk_and_hang_up)

    def send(self, transport: Any, operation: str, **content: Any) -> Any:
        """One request; the decoded content of its response."""
        asked = request.Request(self.url, operation, content=json.dumps(content))
        return json.loads(transport.send(asked).content)


class ZaqarClientTests(ZaqarClientTestCase):
    """Without authentication."""

    async def test_round_trip(self) -> None:
        """It makes a queue, subscribes, posts, gets the notification, and claims."""

        def talk(transport: Any) -> Any:
            named = {"queue_name": "q"}
            self.send(transport, "queue_create", **named)
            self.send(transport, "subscription_create", **named)
            self.send(transport, "message_post", **named, messages=[{"body": "x"}])
            notification = transport.recv()
            claim = self.send(transport, "claim_create", **named)
            return notification["body"], claim["messages"][0]["body"]

        self.assertEqual(("x", "x"), await self.converse(talk))

    async def test_errors(self) -> None:
        """Its exceptions name what was wrong."""

        def talk(transport: Any) -> str:
            with self.assertRaises(errors.MalformedRequest) as caught:
                self.send(transport, "queue_create", queue_name="m@rs")
            with self.assertRaises(errors.ResourceNotFound):
                self.send(transport, "claim_get", queue_name="q", claim_id="x")
            return str(caught.exception)

        self.assertIn("name", await self.converse(talk))


class AuthenticatedZaqarClientTests(ZaqarClientTestCase):
    """With authentication."""

    has_tokens = True

    async def test_accepted(self) -> None:
        """It shows its token before its first request."""

        def talk(transport: Any) -> Any:
            return self.send(transport, "queue_list")

        self.assertEqual({"queues": []}, await self.converse(talk))


class RefusedZaqarClientTests(ZaqarClientTestCase):
    """With a token that does not hold."""

    has_tokens = True
    token = "bad"

    async def test_refused(self) -> None:
        """It raises the exception for that."""

        def talk(transport: Any) -> None:
            with self.assertRaises(errors.UnauthorizedError):
                self.send(transport, "queue_list")

        await self.converse(talk)


class WebsocketClientTests(ZaqarClientTestCase):
    """The library ``websocket-client``."""

    async def test_binary(self) -> None:
        """It sends binary frames, and reads the binary reply."""

        def talk() -> tuple[int, bytes]:
            connection = websocket.create_connection(self.url, timeout=20)
            try:
                connection.send_binary(b"\xc1")
                return connection.recv_data()
            finally:
                connection.close()

        opcode, _ = await deferToThread(talk)
        self.assertEqual(websocket.ABNF.OPCODE_BINARY, opcode)
