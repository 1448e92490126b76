"""What is written to a connection leaves at once, and nothing else changes."""

from __future__ import annotations

import socket
import struct
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mqsvc.wire.prompt import make_prompt

reactor: Any = installed

MEGABYTE = 2**20


class End(Protocol):
    """One end of a connection.

    :ivar made: fires when it is there.
    :ivar lost: fires when it is gone.
    """

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.got = bytearray()
        self._wanted = 0
        self._enough: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """The other end is there."""
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Something came."""
        self.got += data
        if self._wanted and len(self.got) >= self._wanted:
            self._wanted = 0
            self._enough.callback(None)

    async def receive(self, size: int) -> bytes:
        """So many bytes, when they have come."""
        if len(self.got) < size:
            self._wanted = size
            await self._enough
        return bytes(self.got)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other end is gone."""
        self.lost.callback(None)


@implementer(IPullProducer)
class Pieces:
    """Writes a piece each time it is asked to."""

    def __init__(self, end: End, count: int) -> None:
        self._end = end
        self._left = count

    def resumeProducing(self) -> None:
        """Write the next piece."""
        if not self._left:
            self._end.transport.unregisterProducer()
            return
        self._left -= 1
        self._end.transport.write(b"piece")

    def stopProducing(self) -> None:
        """The connection is gone."""


class PromptTests(TestCase):
    """Over real sockets."""

    timeout = 30

    async def connect(
        self, listen: str = "tcp:0:interface=127.0.0.1", to: str = "tcp:127.0.0.1:{}"
    ) -> tuple[End, End]:
        """The server's end and the client's."""
        server, client = End(), End()
        factory = Factory.forProtocol(lambda: server)
        port: Any = await serverFromString(reactor, listen).listen(factory)
        make_prompt(port)
        self.addCleanup(port.stopListening)
        number = getattr(port.getHost(), "port", None)
        endpoint = clientFromString(reactor, to.format(number))
        await connectProtocol(endpoint, client)
        await server.made
        self.addCleanup(lambda: server.lost)
        self.addCleanup(client.transport.loseConnection)
        return server, client

    async def test_sends_at_once(self) -> None:
        """What is written waits for no event of the reactor."""
        server, client = await self.connect()
        server.transport.write(b"hello")
        self.assertNotIn(server.transport, reactor.getWriters())
        self.assertEqual(b"hello", await client.receive(5))

    async def test_unix_socket(self) -> None:
        """A Unix socket is no different."""
        directory = mkdtemp()
        self.addCleanup(rmtree, directory)
        path = f"unix:{directory}/socket"
        server, client = await self.connect(path, path)
        server.transport.write(b"hello")
        self.assertNotIn(server.transport, reactor.getWriters())
        self.assertEqual(b"hello", await client.receive(5))

    async def test_what_the_socket_does_not_take(self) -> None:
        """What a slow reader leaves is sent later, all of it and in order."""
        server, client = await self.connect()
        client.transport.pauseProducing()
        pieces = [bytes([number]) * MEGABYTE for number in range(16)]
        for piece in pieces:
            server.transport.write(piece)
        self.assertIn(server.transport, reactor.getWriters())
        client.transport.resumeProducing()
        self.assertEqual(b"".join(pieces), await client.receive(16 * MEGABYTE))

    async def test_pull_producer(self) -> None:
        """A producer that waits to be asked is asked for each piece."""
        server, client = await self.connect()
        server.transport.registerProducer(Pieces(server, 5), False)
        self.assertEqual(b"piece" * 5, await client.receive(25))

    async def test_after_the_end(self) -> None:
        """What was written before the end arrives, what is written after it does not.

        So it is with the transports of Twisted.
        """
        server, client = await self.connect()
        server.transport.write(b"before")
        server.transport.loseWriteConnection()
        await client.lost
        server.transport.write(b"after")
        self.assertEqual(b"before", bytes(client.got))

    async def test_after_breaking_off(self) -> None:
        """What is written to a connection that was broken off goes nowhere."""
        server, client = await self.connect()
        server.transport.abortConnection()
        server.transport.write(b"too late")
        await client.lost
        self.assertEqual(b"", bytes(client.got))

    async def test_reset(self) -> None:
        """A connection that is lost while it is written to is known to be lost."""
        server, client = await self.connect()
        handle = client.transport.getHandle()
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abortConnection()
        await client.lost
        server.transport.write(b"too late")
        server.transport.write(b"and again")
        await server.lost
        server.transport.write(b"and for nobody")

    def test_other_ports(self) -> None:
        """What is no port of Twisted's own stays as it is."""
        memory = MemoryReactor()
        port = memory.listenTCP(1, Factory())
        make_prompt(port)
        self.assertFalse(hasattr(port, "transport"))
