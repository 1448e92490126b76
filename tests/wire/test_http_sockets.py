"""Over real sockets: TCP, UNIX and TLS."""

from __future__ import annotations

import datetime
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    clientFromString,
    connectProtocol,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.static import Data, File
from zope.interface import implementer

from mqsvc.wire.http import HTTPFactory
from mqsvc.wire.http_channel import Channel
from mqsvc.wire.http_limits import HTTPLimits
from mqsvc.wire.http_request import LeanRequest
from mqsvc.wire.prompt import make_prompt
from tests.wire.test_http import Later, Leaf, describe, echo, get, hello, post

HALF_A_MEGABYTE = 512 * 1024


class Watched(HTTPFactory):
    """A server of which a test sees when something happens."""

    def __init__(self, root: Any, limits: HTTPLimits) -> None:
        super().__init__(root, limits, reactor, describe, {})
        self.all_gone: Deferred[None] | None = None

    def closed(self, channel: Channel) -> None:
        """A connection is no more."""
        super().closed(channel)
        if not self.connections and self.all_gone is not None:
            self.all_gone.callback(None)

    async def wait_until_all_are_gone(self) -> None:
        """Return when there are no connections."""
        if self.connections:
            self.all_gone = Deferred()
            await self.all_gone


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """A client that keeps what it gets.

    :ivar ended: fires with the kind of the reason when the connection is closed.
    """

    transport: Any

    def __init__(self) -> None:
        self.got: Any = bytearray()
        self.ended: Deferred[Any] = Deferred()
        self.is_told = False
        self._awaited: tuple[Callable[[bytes], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        """The server has said something."""
        self.got += data
        if self._awaited is not None and self._awaited[0](self.got):
            (_, done), self._awaited = self._awaited, None
            done.callback(None)

    async def wait_for(self, is_enough: Callable[[bytes], bool]) -> bytes:
        """Return what was got when it is enough."""
        if not is_enough(self.got):
            self._awaited = is_enough, Deferred()
            await self._awaited[1]
        return self.got

    def readConnectionLost(self) -> None:
        """The server sends no more."""
        self.is_told = True
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The server knows that no more is sent."""

    def connectionLost(self, reason: Failure) -> None:
        """All is over."""
        self.ended.callback(reason.type)


class SocketTestCase(TestCase):
    """A server on a socket."""

    timeout = 30

    async def serve(
        self, root: Any, description: str = "tcp:0:interface=127.0.0.1", **limits: Any
    ) -> None:
        """Listen until the test is over."""
        self.factory = Watched(root, HTTPLimits(**limits))
        endpoint = serverFromString(reactor, description)
        self.port = await endpoint.listen(self.factory)
        make_prompt(self.port)
        self.addCleanup(self.stop)

    async def stop(self) -> None:
        """Stop listening, and leave nothing behind."""
        await maybeDeferred(self.port.stopListening)
        await self.factory.wait_until_all_are_gone()

    async def connect(self) -> Client:
        """A client, gone when the test is over."""
        port = self.port.getHost().port
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
        return self.keep(await connectProtocol(endpoint, Client()))

    def keep(self, client: Client) -> Client:
        """Let a client be gone when the test is over."""
        self.addCleanup(client.transport.loseConnection)
        return client

    async def ask(self, client: Client, raw: bytes, end: bytes) -> bytes:
        """Send a request; gives what is there when the answer ends."""
        client.transport.write(raw)
        return await client.wait_for(lambda got: got.endswith(end))


class TCPTests(SocketTestCase):
    """Over TCP."""

    async def test_keep_alive(self) -> None:
        """Many requests go over one connection."""
        await self.serve(echo)
        client = await self.connect()
        for number in range(5):
            await self.ask(client, post(b"%d" % number), b"POST / %d" % number)
        self.assertEqual(1, self.factory.connections)

    async def test_close(self) -> None:
        """After the last answer the server closes, and the client is told so."""
        await self.serve(echo)
        client = await self.connect()
        client.transport.write(get(b"/1", b"Connection: close") + get(b"/2"))
        self.assertIs(ConnectionDone, await client.ended)
        self.assertTrue(client.got.endswith(b"GET /1 "))

    async def test_half_closed(self) -> None:
        """A client that sends no more gets all the answers it asked for."""
        later = Later()
        await self.serve(later)
        client = await self.connect()
        client.transport.write(get(b"/1") + get(b"/2"))
        client.transport.loseWriteConnection()
        for number in range(2):
            while len(later.requests) <= number:
                await turn()
            await turn()
            later.answer(number, b"<%d>" % number)
        self.assertIs(ConnectionDone, await client.ended)
        self.assertEqual(2, client.got.count(b"HTTP/1.1 200 OK"))
        self.assertTrue(client.got.endswith(b"<1>"))

    async def test_refusal_is_seen(self) -> None:
        """Who sends far too much gets to see the refusal."""
        await self.serve(echo, body=1000)
        client = await self.connect()
        client.transport.write(post(b"x" * 40 * HALF_A_MEGABYTE)[: 8 * HALF_A_MEGABYTE])
        self.assertIs(ConnectionDone, await client.ended)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 413 "))
        self.assertTrue(client.got.endswith(b'at most 1000 bytes."}'))

    async def test_slow_reader(self) -> None:
        """Of a client that does not read, no more requests are begun than fit."""
        begun: list[LeanRequest] = []

        def render(request: LeanRequest) -> bytes:
            begun.append(request)
            return b"x" * HALF_A_MEGABYTE

        await self.serve(render)
        client = await self.connect()
        client.transport.pauseProducing()
        client.transport.write(get() * 40)
        while len(begun) < 2:
            await turn()
        for _ in range(100):
            await turn()
        self.assertLess(len(begun), 40)
        client.transport.resumeProducing()
        await client.wait_for(lambda got: len(got) > 40 * HALF_A_MEGABYTE)
        self.assertEqual(40, len(begun))

    async def test_vanished(self) -> None:
        """A request whose client is gone is told so."""
        later = Later()
        await self.serve(later)
        client = await self.connect()
        client.transport.write(get())
        while not later.requests:
            await turn()
        client.transport.abortConnection()
        await self.factory.wait_until_all_are_gone()
        self.assertIsInstance(later.ends[0], Failure)

    async def test_finish(self) -> None:
        """A server that stops closes idle connections, and others when answered."""
        later = Later()
        await self.serve(later)
        idle, busy = await self.connect(), await self.connect()
        busy.transport.write(get())
        while not later.requests:
            await turn()
        await self.port.stopListening()
        self.assertIs(ConnectionDone, await idle.ended)
        later.answer(0, b"done")
        self.assertIs(ConnectionDone, await busy.ended)
        self.assertIn(b"Connection: close\r\n", busy.got)
        self.assertTrue(busy.got.endswith(b"done"))


class StaticTests(SocketTestCase):
    """What twisted.web serves by itself."""

    def folder(self, files: dict[str, bytes]) -> File:
        """A folder of files."""
        path = Path(self.mktemp())
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
        return File(str(path))

    async def test_file(self) -> None:
        """Files are served, also in parts, large, to HEAD, and not at all."""
        content = b"0123456789" * 200_000
        await self.serve(self.folder({"large.bin": content, "a b.txt": b"small"}))
        client = await self.connect()
        client.transport.write(get(b"/large.bin"))
        answer = await client.wait_for(is_whole)
        self.assertTrue(answer.endswith(b"\r\n\r\n" + content))
        answer = await self.ask(client, get(b"/a%20b.txt"), b"small")
        self.assertIn(b"Content-Type: text/plain", answer)
        answer = await self.ask(
            client, get(b"/large.bin", b"Range: bytes=5-7"), b"\r\n\r\n567"
        )
        self.assertIn(b"HTTP/1.1 206 ", answer)
        client.got = b""
        answer = await self.ask(client, get(b"/large.bin", method=b"HEAD"), b"\r\n\r\n")
        self.assertIn(b"Content-Length: 2000000\r\n", answer)
        client.got = b""
        client.transport.write(get(b"/none"))
        answer = await client.wait_for(is_whole)
        self.assertIn(b"HTTP/1.1 404 ", answer)

    async def test_data(self) -> None:
        """Data is served by a producer or not, in a tree of resources."""
        root = Data(b"root", "text/plain")
        root.putChild(b"child", Data(b"child", "text/plain"))
        await self.serve(root)
        client = await self.connect()
        await self.ask(client, get(b"/child"), b"\r\n\r\nchild")


class UNIXTests(SocketTestCase):
    """Over a UNIX socket."""

    async def test_answers(self) -> None:
        """Requests are answered, and the end of the connection is told."""
        # The name of a socket must be short, which that of a test's folder is not.
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        await self.serve(hello, f"unix:{folder}/socket")
        endpoint = clientFromString(reactor, f"unix:{folder}/socket")
        client = self.keep(await connectProtocol(endpoint, Client()))
        await self.ask(client, get(), b"hello")
        client.transport.write(get(b"/", b"Connection: close"))
        self.assertIs(ConnectionDone, await client.ended)
        self.assertTrue(client.is_told)


class TLSTests(SocketTestCase):
    """Over TLS."""

    def setUp(self) -> None:
        """Make a certificate of our own."""
        pem = self_signed()
        self.path = Path(self.mktemp())
        self.path.write_bytes(pem)
        self.certificate = Certificate.loadPEM(pem[pem.index(b"-----BEGIN CERT") :])

    async def serve_tls(self, root: Any) -> None:
        """Serve with the certificate."""
        path = self.path
        await self.serve(root, f"ssl:0:interface=127.0.0.1:privateKey={path}")

    async def connect_tls(self) -> Client:
        """A client that trusts the certificate."""
        port = self.port.getHost().port
        endpoint = wrapClientTLS(
            optionsForClientTLS("localhost", self.certificate),
            clientFromString(reactor, f"tcp:127.0.0.1:{port}"),
        )
        return self.keep(await connectProtocol(endpoint, Client()))

    async def test_answers(self) -> None:
        """Requests are answered, large ones too, and are known to be encrypted."""

        def render(request: LeanRequest) -> bytes:
            return b"%r%d" % (request.isSecure(), len(request.content.read()))

        await self.serve_tls(render)
        client = await self.connect_tls()
        for size in (1, HALF_A_MEGABYTE):
            await self.ask(client, post(b"x" * size), b"True%d" % size)

    async def test_close(self) -> None:
        """The end of the connection is told, after all of a large answer."""
        await self.serve_tls(lambda _: b"x" * 10 * HALF_A_MEGABYTE)
        client = await self.connect_tls()
        client.transport.write(get(b"/", b"Connection: close"))
        self.assertIs(ConnectionDone, await client.ended)
        self.assertEqual(10 * HALF_A_MEGABYTE, client.got.count(b"x"))

    async def test_refused(self) -> None:
        """A refusal is seen over TLS as well."""
        await self.serve_tls(hello)
        client = await self.connect_tls()
        client.transport.write(b"\x00" * 1000)
        self.assertIs(ConnectionDone, await client.ended)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 400 "))

    async def test_vanished(self) -> None:
        """A request whose client is gone is told so."""
        later = Later()
        await self.serve_tls(later)
        client = await self.connect_tls()
        client.transport.write(get())
        while not later.requests:
            await turn()
        client.transport.abortConnection()
        await self.factory.wait_until_all_are_gone()
        self.assertIsInstance(later.ends[0], Failure)


class KleinTests(SocketTestCase):
    """A Klein app."""

    async def serve_klein(self) -> None:
        """Serve an app with one route of each kind."""
        # It installs a reactor, so it comes when there is one.
        from klein import Klein  # noqa: PLC0415

        app = Klein()
        self.waiting: list[Deferred[bytes]] = []
        self.cancelled: list[Deferred[bytes]] = []

        @app.route("/item/<name>", methods=["GET", "PUT"])
        def item(request: LeanRequest, name: str) -> str:
            return f"{name}: {request.content.read().decode()}"

        @app.route("/later")
        def later(request: LeanRequest) -> Deferred[bytes]:
            waiting: Deferred[bytes] = Deferred(self.cancelled.append)
            self.waiting.append(waiting)
            return waiting

        @app.route("/coroutine")
        async def coroutine(request: LeanRequest) -> bytes:
            await turn()
            request.setResponseCode(201)
            return b"made"

        @app.route("/bug")
        def bug(request: LeanRequest) -> bytes:
            raise ZeroDivisionError

        @app.route("/refused")
        async def refused(request: LeanRequest) -> bytes:
            raise LookupError("known")

        @app.handle_errors(LookupError)
        def handle(request: LeanRequest, failure: Failure) -> bytes:
            request.setResponseCode(409)
            return b"handled"

        @app.route("/tree/", branch=True)
        def tree(request: LeanRequest) -> Leaf:
            return Leaf()

        await self.serve(app.resource())
        self.client = await self.connect()

    async def answer(self, raw: bytes) -> tuple[bytes, bytes]:
        """The status and the body of an answer."""
        self.client.got = b""
        self.client.transport.write(raw)
        head, _, body = (await self.client.wait_for(is_whole)).partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].partition(b" ")[2], body

    async def test_routes(self) -> None:
        """Routes answer at once, later, or with an error, and others are unknown."""
        await self.serve_klein()
        put = post(b"abc").replace(b"POST /", b"PUT /item/a%20b")
        for raw, status, expected in (
            (put, b"200 OK", b"a b: abc"),
            (get(b"/coroutine"), b"201 Created", b"made"),
            (get(b"/refused"), b"409 Conflict", b"handled"),
            (get(b"/nothing"), b"404 Not Found", b"not found"),
            (get(b"/item/x", method=b"DELETE"), b"405 Method Not Allowed", b"method"),
            (get(b"/tree/"), b"200 OK", b"leaf"),
        ):
            said, body = await self.answer(raw)
            self.assertEqual(status, said)
            self.assertIn(expected, body)

    async def test_bug(self) -> None:
        """A bug is logged and answered with 500."""
        await self.serve_klein()
        status, _ = await self.answer(get(b"/bug"))
        self.assertEqual(b"500 Internal Server Error", status)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_cancelled(self) -> None:
        """What a client waited for is cancelled when the client is gone."""
        await self.serve_klein()
        self.client.transport.write(get(b"/later"))
        while not self.waiting:
            await turn()
        self.client.transport.abortConnection()
        await self.factory.wait_until_all_are_gone()
        self.assertEqual(self.waiting, self.cancelled)
        self.assertEqual(0, self.factory.requests_in_flight)

    async def test_later(self) -> None:
        """What becomes known later is answered then."""
        await self.serve_klein()
        self.client.transport.write(get(b"/later"))
        while not self.waiting:
            await turn()
        self.waiting[0].callback(b"now")
        await self.client.wait_for(lambda got: got.endswith(b"now\r\n0\r\n\r\n"))


def is_whole(got: bytes) -> bool:
    """Whether an answer has come to its end."""
    head, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    if length is not None:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n")


def turn() -> Awaitable[None]:
    """Return when the reactor has looked at all sockets once more."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


def self_signed() -> bytes:
    """A key and a certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
