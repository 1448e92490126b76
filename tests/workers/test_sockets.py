"""Sockets that one process binds and others listen on."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.config import ConfigError
from mqsvc.service import StartFailure
from mqsvc.workers.sockets import BoundSocket, inherited_endpoint, refuse_unshareable
from mqsvc.workers.spread import Counts, Seat


class Hello(Protocol):
    """Says hello."""

    def connectionMade(self) -> None:
        """Say it."""
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Ear(Protocol):
    """Listens to the end.

    :ivar heard: fires with all of it.
    """

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        """A part of it."""
        self._data += data

    def connectionLost(self, reason: Any) -> None:
        """That was all."""
        self.heard.callback(self._data)


class KindTests(SynchronousTestCase):
    """Which endpoints can be shared."""

    def test_shareable(self) -> None:
        """Those on a socket of the system are accepted, also behind a proxy."""
        for description in (
            *("tcp:8888:interface=127.0.0.1", "tcp6:8888", "unix:/run/x"),
            *("ssl:443:privateKey=k.pem", "systemd:domain=INET:index=0"),
            *("haproxy:tcp:8888", "tls:/etc/certificates:port=443"),
        ):
            refuse_unshareable("http", description)

    def test_others(self) -> None:
        """Others are refused in one line that says which would do."""
        for description in ("stdio:", "onion:80", "haproxy:systemd:index=0", "8888"):
            with self.assertRaises(ConfigError) as caught:
                refuse_unshareable("websocket", description)
            line = str(caught.exception)
            self.assertIn(f"websocket: workers cannot share {description!r};", line)
            self.assertIn("ssl, systemd, tcp, tcp6, tls, unix", line)


class BoundSocketTests(TestCase):
    """A socket from the supervisor to a worker, in one process."""

    def bound(self, description: str, stays_here: bool = True) -> BoundSocket:
        """A socket that is bound."""
        made = BoundSocket("http", description, reactor, reactor, stays_here=stays_here)
        made.privilegedStartService()
        made.startService()
        self.addCleanup(made.stopService)
        return made

    async def inherit(self, description: str, bound: BoundSocket) -> None:
        """Listen on it as a worker does."""
        counts = Counts.create(self.mktemp(), 1, 1)
        endpoint = inherited_endpoint(
            *(reactor, "http", description),
            *(os.dup(bound.descriptor), Seat(counts, 0, 0)),
        )
        port = await endpoint.listen(Factory.forProtocol(Hello))
        self.addCleanup(port.stopListening)

    async def heard(self, where: str) -> bytes:
        """What a server says."""
        ear = await connectProtocol(clientFromString(reactor, where), Ear())
        return await ear.heard

    async def test_tcp(self) -> None:
        """Connections wait until a worker takes them."""
        description = "tcp:0:interface=127.0.0.1"
        bound = self.bound(description)
        where = f"tcp:127.0.0.1:{bound.address.port}"
        ear = await connectProtocol(clientFromString(reactor, where), Ear())
        await self.inherit(description, bound)
        self.assertEqual(b"hello", await ear.heard)
        self.assertEqual(b"hello", await self.heard(where))

    async def test_unix(self) -> None:
        """The same on a UNIX socket, whose file goes with the supervisor."""
        path = self.mktemp()
        bound = self.bound(f"unix:{path}:lockfile=0")
        await self.inherit(f"unix:{path}:lockfile=0", bound)
        self.assertEqual(b"hello", await self.heard(f"unix:{path}"))
        await bound.stopService()
        self.assertNotIn(Path(path).name, os.listdir(Path(path).parent))

    async def test_systemd(self) -> None:
        """What systemd bound for the supervisor, a worker has from the supervisor."""
        bound = self.bound("tcp:0:interface=127.0.0.1")
        await self.inherit("systemd:domain=INET:index=0", bound)
        where = f"tcp:127.0.0.1:{bound.address.port}"
        self.assertEqual(b"hello", await self.heard(where))

    def test_refused(self) -> None:
        """What any listener refuses is refused here."""
        self.patch(sys, "__stderr__", StringIO())
        with capturedLogs(), self.assertRaises(StartFailure):
            self.bound("tcp:0:interface=0.0.0.0")
