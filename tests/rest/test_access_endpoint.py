"""Where the service listens: TLS, and who may reach it without a token."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.ssl import (
    Certificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    PartialDownloadError,
    ResponseNeverReceived,
    readBody,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from mqsvc.config import load
from mqsvc.service import StartFailure
from mqsvc.tap import make_root
from tests.rest.server import CONSUMER

EVERYWHERE = "tcp:0:interface=0.0.0.0"
A_DAY = datetime.timedelta(days=1)


def self_signed(key_path: Path, certificate_path: Path) -> bytes:
    """Write a key and a certificate for this machine; gives the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - A_DAY)
        .not_valid_after(now + A_DAY)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_path.write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_path.write_bytes(certificate.public_bytes(pem))
    return certificate.public_bytes(pem)


@implementer(IPolicyForHTTPS)
class Choosing:
    """A client that offers a choice of protocols (ALPN), as curl and browsers do."""

    def __init__(self, trusted: Certificate) -> None:
        self._trusted = trusted

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Of which an address sends no name of a host."""
        return optionsForClientTLS(
            hostname.decode(),
            trustRoot=self._trusted,
            acceptableProtocols=[b"h2", b"http/1.1"],
        )


class EndpointCase(TestCase):
    """A service on an endpoint of the test's choice."""

    timeout = 30

    def prepare(self, *settings: str) -> None:
        """Make a service; nothing runs yet."""
        places = [f"data_dir={self.mktemp()}", "websocket="]
        configured = load(None, {}, [*places, *settings])
        self.root = make_root(configured, reactor, clock=Clock())

    async def start(self, *settings: str) -> int:
        """Start a service, which is stopped after the test; the port it listens on."""
        self.prepare(*settings)
        self.addCleanup(self.root.stopService)
        self.root.privilegedStartService()
        self.root.startService()
        await self.root.started
        port: int = self.root.addresses[0].port
        return port


class TlsTests(EndpointCase):
    """An ``ssl:`` endpoint with a certificate of its own."""

    def setUp(self) -> None:
        """Make the certificate, and a client that trusts it."""
        key, certificate = (os.path.abspath(self.mktemp()) for _ in range(2))
        pem = self_signed(Path(key), Path(certificate))
        self.endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}"
        self.endpoint += f":certKey={certificate}"
        self.trusting = self.client([Certificate.loadPEM(pem)])
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.choosing = Agent(reactor, Choosing(Certificate.loadPEM(pem)), pool=pool)

    def client(self, trusted: Sequence[Certificate]) -> Agent:
        """A client that trusts these certificates and no others."""
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates(trusted))
        pool = HTTPConnectionPool(reactor, persistent=False)
        return Agent(reactor, policy, pool=pool)

    async def status(self, agent: Agent, url: str) -> int:
        """The status of an answer that was read to its end."""
        headers = {"Client-ID": [CONSUMER], "X-Project-ID": ["p1"]}
        response = await agent.request(b"GET", url.encode(), Headers(headers))
        # Nobody says how long the refusals of a WebSocket port are.
        with contextlib.suppress(PartialDownloadError):
            await readBody(response)
        return int(response.code)

    async def test_served(self) -> None:
        """The API is served under the certificate."""
        port = await self.start(f"http={self.endpoint}")
        url = f"https://localhost:{port}/v2/queues"
        self.assertEqual(200, await self.status(self.trusting, url))

    async def test_choice(self) -> None:
        """Who offers a choice of protocols is served, by name and by address."""
        await self.start(f"http={self.endpoint}", f"websocket={self.endpoint}")
        for agent in (self.trusting, self.choosing):
            for host in ("localhost", "127.0.0.1"):
                url = [f"https://{host}:{at.port}/" for at in self.root.addresses]
                status = [await self.status(agent, each) for each in url]
                self.assertEqual([300, 426], status)

    async def test_not_trusted(self) -> None:
        """Who does not trust the certificate sends nothing."""
        port = await self.start(f"http={self.endpoint}")
        with self.assertRaises(ResponseNeverReceived):
            await self.status(self.client([]), f"https://localhost:{port}/")

    async def test_plain(self) -> None:
        """Nothing is served to who speaks without TLS."""
        port = await self.start(f"http={self.endpoint}")
        with self.assertRaises(ResponseNeverReceived):
            await self.status(self.trusting, f"http://localhost:{port}/")


class AnonymousTests(EndpointCase):
    """Reachable from other machines, with tokens or without."""

    def setUp(self) -> None:
        """Write a file of tokens."""
        self.tokens = os.path.abspath(self.mktemp())
        Path(self.tokens).write_text("[tokens]", encoding="utf-8")

    def test_refused(self) -> None:
        """The service does not start, and says what there is to choose from."""
        self.prepare(f"http={EVERYWHERE}")
        self.addCleanup(next(iter(self.root)).stopService)
        error = self.assertRaises(StartFailure, self.root.privilegedStartService)
        for way in ("auth_strategy", "127.0.0.1", "allow_anonymous"):
            self.assertIn(way, error.line)

    async def test_allowed(self) -> None:
        """It starts when the operator said that this is meant."""
        port = await self.start(f"http={EVERYWHERE}", "allow_anonymous=true")
        self.assertTrue(port)

    async def test_with_tokens(self) -> None:
        """It starts when tokens are asked for."""
        tokens = ("auth_strategy=token_file", f"token_file={self.tokens}")
        self.assertTrue(await self.start(f"http={EVERYWHERE}", *tokens))
