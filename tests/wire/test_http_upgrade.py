"""Connections that go on in another protocol."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from mqsvc.wire.http_upgrade import Upgrades
from tests.wire.test_http import Connection, Later, WireTestCase, get, hello

WANTED = (b"Connection: Upgrade", b"Upgrade: parrot")


class Parrot(Protocol):
    """Says what it hears.

    :ivar heard: all of it.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.is_gone = False

    def dataReceived(self, data: bytes) -> None:
        """Hear."""
        self.heard += data
        self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody speaks any more."""
        self.is_gone = True


class Parrots(ServerFactory[Parrot]):
    """Makes parrots, unless there are none left."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.made: list[Parrot] = []
        self.is_stopped = False

    def buildProtocol(self, addr: IAddress | None) -> Parrot | None:
        """The next one."""
        if len(self.made) == self.number:
            return None
        self.made.append(Parrot())
        return self.made[-1]

    def stopFactory(self) -> None:
        """No more."""
        self.is_stopped = True


class UpgradeTestCase(WireTestCase):
    """A server that has a parrot at one path."""

    def serve(self, root: Any, **limits: Any) -> None:
        """Make the server."""
        self.parrots = Parrots(1)
        self.upgrades: Upgrades = {(b"/p", b"parrot"): self.parrots}  # type: ignore[misc]
        super().serve(root, **limits)

    def receive(self, connection: Connection, data: bytes) -> None:
        """Let bytes reach whoever has the connection."""
        connection.transport.protocol.dataReceived(data)


class HandOverTests(UpgradeTestCase):
    """Who gets the connection."""

    def test_whole_head(self) -> None:
        """The other protocol gets the head as it was sent, and what came behind it."""
        self.serve(hello)
        request = get(b"/p?x=1", *WANTED)
        self.assertEqual(
            (request + b"more").upper(), self.connect().send(request + b"more")
        )

    def test_in_pieces(self) -> None:
        """A head that comes in pieces is handed over when it is whole."""
        self.serve(hello)
        connection, request = self.connect(), get(b"/p", *WANTED)
        connection.send(*(request[n : n + 1] for n in range(len(request))))
        self.assertEqual(request, self.parrots.made[0].heard)

    def test_afterwards(self) -> None:
        """From then on the server has nothing to do with the connection."""
        self.serve(hello, idle_time=5)
        connection = self.connect()
        connection.send(get(b"/p", *WANTED))
        self.assertEqual(
            (0, 0), (self.factory.connections, self.factory.requests_in_flight)
        )
        self.assertIs(None, connection.transport.producer)
        self.clock.pump([1] * 200)
        self.factory.finish()
        self.assertFalse(connection.is_closed)
        self.receive(connection, b"hi")
        self.assertTrue(self.parrots.made[0].heard.endswith(b"\r\n\r\nhi"))

    def test_after_requests(self) -> None:
        """Requests before it on the connection are answered first."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get(b"/p", *WANTED), b"x" * 100_000)
        self.assertEqual([], self.parrots.made)
        self.assertEqual("paused", connection.transport.producerState)
        later.answer(0, b"first")
        self.assertIn(b"first", connection.sent)
        self.assertTrue(self.parrots.made[0].heard.endswith(b"x" * 100_000))
        self.assertEqual("producing", connection.transport.producerState)

    def test_wrapped(self) -> None:
        """Where TLS is in between, it is the decrypted side that is handed over."""
        self.serve(hello)
        wrapper = ProtocolWrapper(
            WrappingFactory(self.factory), self.factory.buildProtocol(None)
        )
        wrapper.makeConnection(StringTransport())
        wrapper.dataReceived(get(b"/p", *WANTED))
        wrapper.dataReceived(b"hi")
        self.assertTrue(self.parrots.made[0].heard.endswith(b"hi"))
        wrapper.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.parrots.made[0].is_gone)

    def test_one_of_several(self) -> None:
        """The names of protocols are a list, in which case does not count."""
        self.serve(hello)
        connection = b"Connection: keep-alive, UPGRADE"
        self.connect().send(get(b"/p", connection, b"Upgrade: x, PARROT"))
        self.assertEqual(1, len(self.parrots.made))

    def test_stop(self) -> None:
        """The other protocol stops with the server."""
        self.serve(hello)
        self.factory.stopFactory()
        self.assertTrue(self.parrots.is_stopped)


class NoHandOverTests(UpgradeTestCase):
    """What stays HTTP."""

    def test_ordinary_requests(self) -> None:
        """Anything else than this protocol at this path in a plain GET is a request."""
        self.serve(hello)
        body = (b"Content-Length: 2", *WANTED)
        for raw in (
            *(get(b"/p"), get(b"/q", *WANTED), get(b"/p/", *WANTED)),
            get(b"/p", b"Connection: Upgrade", b"Upgrade: h2c"),
            get(b"/p", b"Upgrade: parrot"),
            get(b"/p", b"Connection: keep-alive", b"Upgrade: parrot"),
            get(b"/p", *WANTED, method=b"POST"),
            get(b"/p", *body) + b"hi",
            get(b"/p", b"Transfer-Encoding: chunked", *WANTED) + b"0\r\n\r\n",
            get(b"/p", *WANTED).replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            self.assertIn(b"hello", self.connect().send(raw), raw)
        self.assertEqual([], self.parrots.made)

    def test_none_left(self) -> None:
        """Where the other protocol takes nobody, the client is told to come later."""
        self.serve(hello)
        self.connect().send(get(b"/p", *WANTED))
        connection = self.connect()
        self.assertIn(b" 503 ", connection.send(get(b"/p", *WANTED)))
        self.assertTrue(connection.is_closed)

    def test_no_more_to_say(self) -> None:
        """Who has shut down its sending side is closed instead."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get(b"/p", *WANTED))
        connection.channel.readConnectionLost()
        later.answer(0, b"first")
        self.assertTrue(connection.is_closed)
        self.assertEqual([], self.parrots.made)
