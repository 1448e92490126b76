"""A receiver of webhooks on a real socket that does what a test tells it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from attrs import define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

_reactor: Any = reactor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """An answer of one piece."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@define
class Received:
    """One request as it came.

    :ivar connection: which one of the receiver's connections, 1 is the first.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


Script = Callable[["Connection"], None]
"""Answers a request on a connection, or does worse."""


class Connection(Protocol):
    """Reads requests; a script answers each of them."""

    def __init__(self, receiver: Receiver, number: int) -> None:
        self._receiver = receiver
        self._number = number
        self._buffer = b""

    @property
    def wire(self) -> Any:
        """The transport, which is always there once something was received."""
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        """Collect until a request is complete."""
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        line, *fields = head.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in headers.items()}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        self._receiver.got(self, Received(line, headers, rest[:length], self._number))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the receiver."""
        self._receiver.lost(self)


@define(eq=False)
class Receiver(Factory):
    """Listens on a loopback address.

    :ivar scripts: for one request each; the last one is for all that follow.
    :ivar accepted: is told of the first connection.
    """

    scripts: list[Script]
    requests: list[Received] = field(factory=list)
    connections: int = 0
    accepted: Deferred[None] | None = None
    _open: set[Connection] = field(factory=set)
    _waiting: Deferred[None] | None = None
    _port: Any = None

    noisy = False

    def listen(self, interface: str = "127.0.0.1", tls: Any = None) -> int:
        """Start; gives the port."""
        if tls is None:
            self._port = _reactor.listenTCP(0, self, interface=interface)
        else:
            self._port = _reactor.listenSSL(0, self, tls, interface=interface)
        number: int = self._port.getHost().port
        return number

    def buildProtocol(self, addr: Any) -> Connection:
        """See :class:`Factory`."""
        self.connections += 1
        connection = Connection(self, self.connections)
        self._open.add(connection)
        if self.accepted is not None:
            self.accepted.callback(None)
        return connection

    def got(self, connection: Connection, request: Received) -> None:
        """Answer a request by its script."""
        self.requests.append(request)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        script(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if self._waiting is not None and not self._open:
            self._waiting.callback(None)

    async def close(self) -> None:
        """Stop, and wait until every connection is closed."""
        await maybeDeferred(self._port.stopListening)
        for connection in list(self._open):
            connection.wire.abortConnection()
        await self.all_closed()

    async def all_closed(self) -> None:
        """Wait until no connection is open."""
        if self._open:
            self._waiting = Deferred()
            await self._waiting
            self._waiting = None


def says(data: bytes) -> Script:
    """Answer with some bytes and keep the connection."""
    return lambda connection: connection.wire.write(data)


def silent(connection: Connection) -> None:
    """Never answer."""


def resets(connection: Connection) -> None:
    """Close without an answer."""
    connection.wire.abortConnection()


class Certificate:
    """A key and a self-signed certificate, for a name or an address."""

    def __init__(self, host: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
        now = datetime.now(UTC)
        alternative: x509.GeneralName = (
            x509.IPAddress(ip_address(host))
            if host[0].isdigit()
            else x509.DNSName(host)
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(key, hashes.SHA256())
        )
        self.key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.pem = certificate.public_bytes(Encoding.PEM)

    def server_options(self) -> Any:
        """What a server presents it with."""
        return ssl.PrivateCertificate.loadPEM(self.key + self.pem).options()

    def trust(self) -> Any:
        """What trusts it and nothing else."""
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(self.pem)])
