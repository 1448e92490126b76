"""One connection in memory: what goes out for what comes in, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mqsvc.wire.http import HTTPFactory
from mqsvc.wire.http_channel import Channel
from mqsvc.wire.http_limits import HTTPLimits
from mqsvc.wire.http_request import LeanRequest
from mqsvc.wire.http_upgrade import Upgrades

EPOCH = 1_800_000_000
DATE = b"Fri, 15 Jan 2027 08:00:00 GMT"

Render = Callable[[LeanRequest], Any]


def describe(status: int, title: str, description: str) -> bytes:
    """The body of a refusal."""
    return json.dumps({"title": title, "description": description}).encode()


class Wire(StringTransport):
    """A transport that remembers each write, and closes when all has been said."""

    def __init__(self) -> None:
        super().__init__(hostAddress=IPv4Address("TCP", "127.0.0.1", 8888))
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        """The server sends."""
        self.writes.append(data)
        super().write(data)


class Connection:
    """A connection of which both ends are here."""

    def __init__(self, factory: HTTPFactory) -> None:
        self.transport = Wire()
        self.channel: Channel = factory.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, *parts: bytes) -> bytes:
        """Let bytes reach the server; gives what it says to them."""
        before = len(self.transport.value())
        for part in parts:
            self.channel.dataReceived(part)
        return self.transport.value()[before:]

    @property
    def sent(self) -> bytes:
        """All that the server has said."""
        return self.transport.value()

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it."""
        return bool(self.transport.disconnecting)

    def vanish(self) -> None:
        """Let the client be gone."""
        self.channel.connectionLost(Failure(ConnectionLost()))


class WireTestCase(SynchronousTestCase):
    """A server in memory.

    :cvar upgrades: what it speaks beside HTTP.
    """

    upgrades: ClassVar[Upgrades] = MappingProxyType({})

    def serve(self, root: Any, **limits: Any) -> None:
        """Make the server."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.factory = HTTPFactory(
            root, HTTPLimits(**limits), self.clock, describe, self.upgrades
        )

    def connect(self) -> Connection:
        """A connection, gone when the test is over."""
        connection = Connection(self.factory)
        self.addCleanup(connection.vanish)
        return connection

    def ask(self, raw: bytes, root: Render, **limits: Any) -> bytes:
        """What a server answers to bytes on a connection of their own."""
        self.serve(root, **limits)
        return self.connect().send(raw)


def get(path: bytes = b"/", *headers: bytes, method: bytes = b"GET") -> bytes:
    """A request without a body."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: h", *headers, b"", b""]
    return b"\r\n".join(lines)


def post(body: bytes, *headers: bytes) -> bytes:
    """A request with a body."""
    length = b"Content-Length: %d" % len(body)
    return get(b"/", length, *headers, method=b"POST") + body


def hello(request: LeanRequest) -> bytes:
    """A small answer."""
    request.setHeader(b"content-type", b"text/plain")
    return b"hello"


def echo(request: LeanRequest) -> bytes:
    """An answer that tells the request."""
    body: bytes = request.content.read()
    return b"%b %b %b" % (request.method, request.uri, body)


class Later:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.requests: list[LeanRequest] = []
        self.ends: list[Any] = []

    def __call__(self, request: LeanRequest) -> int:
        """Begin with a request."""
        self.requests.append(request)
        request.notifyFinish().addBoth(self.ends.append)
        return NOT_DONE_YET

    def answer(self, number: int, body: bytes = b"") -> None:
        """Answer the request of a number."""
        request = self.requests[number]
        request.setHeader(b"content-length", b"%d" % len(body))
        request.write(body)
        request.finish()


class AnswerTests(WireTestCase):
    """The bytes of answers."""

    def test_small(self) -> None:
        """A small answer is one write of status, headers, length and body."""
        self.serve(hello)
        connection = self.connect()
        connection.send(get())
        self.assertEqual(
            [
                b"HTTP/1.1 200 OK\r\nDate: " + DATE + b"\r\nContent-Length: 5\r\n"
                b"Content-Type: text/plain\r\n\r\nhello"
            ],
            connection.transport.writes,
        )
        self.assertFalse(connection.is_closed)

    def test_date(self) -> None:
        """The date of an answer is that of its second."""
        self.serve(hello)
        connection = self.connect()
        self.assertIn(b"08:00:00 GMT", connection.send(get()))
        self.clock.advance(0.9)
        self.assertIn(b"08:00:00 GMT", connection.send(get()))
        self.clock.advance(0.1)
        self.assertIn(b"08:00:01 GMT", connection.send(get()))

    def test_status(self) -> None:
        """Status and reason are those that were set, on one line."""

        def render(request: LeanRequest) -> bytes:
            request.setResponseCode(299, b"So\r\nso: x")
            return b""

        self.assertTrue(
            self.ask(get(), render).startswith(b"HTTP/1.1 299 So so: x\r\n")
        )

    def test_no_new_headers_in_values(self) -> None:
        """A line feed in the value of a header does not begin another header."""

        def render(request: LeanRequest) -> bytes:
            request.setHeader(b"location", b"/\r\nSet-Cookie: a=b")
            return b""

        self.assertIn(b"\r\nLocation: / Set-Cookie: a=b\r\n", self.ask(get(), render))

    def test_late_headers(self) -> None:
        """Cookies, entity tags and dates of changes are sent."""

        def render(request: LeanRequest) -> bytes:
            request.addCookie(b"a", b"1")
            request.addCookie(b"b", b"2")
            request.setETag(b'"tag"')
            request.setLastModified(EPOCH)
            return b""

        head = self.ask(get(), render)
        self.assertIn(b"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", head)
        self.assertIn(b'\r\nETag: "tag"\r\n', head)
        self.assertIn(b"\r\nLast-Modified: " + DATE + b"\r\n", head)

    def test_declared_length(self) -> None:
        """A body whose length is declared may come in parts."""

        def render(request: LeanRequest) -> int:
            request.setHeader(b"content-length", b"6")
            request.write(b"abc")
            request.write(b"def")
            request.finish()
            return NOT_DONE_YET

        self.serve(render)
        connection = self.connect()
        head, body = connection.send(get()).split(b"\r\n\r\n")
        self.assertEqual((1, b"abcdef"), (head.count(b"Content-Length: 6"), body))
        self.assertFalse(connection.is_closed)

    def test_wrong_length(self) -> None:
        """When less or more is written than declared, the connection ends with it."""
        for body in (b"abc", b"abcdefghi"):

            def render(request: LeanRequest, body: bytes = body) -> int:
                request.setHeader(b"content-length", b"6")
                request.write(body)
                request.finish()
                return NOT_DONE_YET

            self.serve(render)
            connection = self.connect()
            connection.send(get() + get())
            self.assertEqual(1, connection.sent.count(b"HTTP/1.1 200"))
            self.assertTrue(connection.is_closed)

    def test_chunks(self) -> None:
        """A body of unknown length goes out in chunks, as it is written."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        request = later.requests[0]
        request.write(b"abc")
        self.assertTrue(
            connection.sent.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        )
        request.write(b"")
        request.write(b"x" * 17)
        request.finish()
        self.assertEqual(
            [b"11\r\n" + b"x" * 17 + b"\r\n", b"0\r\n\r\n"],
            connection.transport.writes[1:],
        )
        self.assertNotIn(b"Content-Length", connection.sent)
        self.assertFalse(connection.is_closed)

    def test_headers_first(self) -> None:
        """Writing nothing sends the headers, and does not end the body."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        later.requests[0].write(b"")
        self.assertTrue(connection.sent.endswith(b"chunked\r\n\r\n"))
        later.requests[0].write(b"abc")
        later.requests[0].finish()
        self.assertTrue(connection.sent.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))

    def test_nothing_written(self) -> None:
        """An answer that ends without a body has the length 0."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        later.requests[0].finish()
        self.assertIn(b"Content-Length: 0\r\n", connection.sent)

    def test_own_framing(self) -> None:
        """Headers about the connection are not the business of whoever answers."""

        def render(request: LeanRequest) -> bytes:
            for name in (b"transfer-encoding", b"keep-alive", b"date"):
                request.setHeader(name, b"mine")
            request.setHeader(b"content-length", b"9999")
            return b"hello"

        answer = self.ask(get(), render)
        self.assertNotIn(b"mine", answer)
        self.assertIn(b"Content-Length: 5\r\n", answer)

    def test_connection_close_of_the_answer(self) -> None:
        """An answer can say that the connection ends with it."""

        def render(request: LeanRequest) -> bytes:
            request.setHeader(b"connection", b"Close")
            return b""

        self.serve(render)
        connection = self.connect()
        self.assertEqual(1, connection.send(get()).count(b"Connection: close\r\n"))
        self.assertTrue(connection.is_closed)

    def test_without_body(self) -> None:
        """Answers 204 and 304 have neither body nor length."""
        for code in (204, 304):

            def render(request: LeanRequest, code: int = code) -> bytes:
                request.setResponseCode(code)
                return b"not to be seen"

            answer = self.ask(get(), render)
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            self.assertNotIn(b"Content-Length", answer)
            self.assertNotIn(b"Transfer-Encoding", answer)


class WholeTests(WireTestCase):
    """Answers that are given with all of their body, now or later."""

    def answer(self, method: bytes, body: bytes, status: int = 200) -> bytes:
        """What a client gets."""

        def render(request: LeanRequest) -> int:
            request.setResponseCode(status)
            request.answer(body)
            return NOT_DONE_YET

        return self.ask(get(method=method) + get(b"/next"), render)

    def test_body(self) -> None:
        """The length is said, and the next request is answered as well."""
        said = self.answer(b"GET", b"hello")
        self.assertEqual(2, said.count(b"\r\nContent-Length: 5\r\n\r\nhello"))

    def test_empty(self) -> None:
        """A body may be empty, and to HEAD its length is said all the same."""
        for method in (b"GET", b"HEAD"):
            said = self.answer(method, b"")
            self.assertEqual(2, said.count(b"\r\nContent-Length: 0\r\n\r\n"), method)

    def test_head(self) -> None:
        """To HEAD the length is said and the body left out."""
        head, _, rest = self.answer(b"HEAD", b"hello").partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Length: 5", head)
        self.assertTrue(rest.startswith(b"HTTP/1.1 200 "), rest)

    def test_no_content(self) -> None:
        """No content has no length."""
        self.assertNotIn(b"Content-Length", self.answer(b"GET", b"", 204))

    def test_when_gone(self) -> None:
        """Who asked is told of a client that is gone, and only before the answer."""
        later, told = Later(), []
        self.serve(later)
        for is_answered in (True, False):
            connection = self.connect()
            connection.send(get())
            request = later.requests[-1]
            request.when_gone(lambda reason: told.append(reason.type))
            if is_answered:
                request.answer(b"x")
            connection.vanish()
        self.assertEqual([ConnectionLost], told)

    def test_gone(self) -> None:
        """Nobody can be answered who is gone, nor twice."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        connection.vanish()
        self.assertRaises(RuntimeError, later.requests[0].answer, b"x")
        self.connect().send(get())
        later.requests[1].answer(b"x")
        self.assertRaises(RuntimeError, later.requests[1].answer, b"x")


class HeadTests(WireTestCase):
    """The method HEAD."""

    def head(self, render: Render) -> bytes:
        """What is answered to HEAD."""
        answer = self.ask(get(method=b"HEAD"), render)
        self.assertEqual(b"", answer.partition(b"\r\n\r\n")[2])
        return answer

    def test_body_at_once(self) -> None:
        """The length is that of the body which is not sent."""
        self.assertIn(b"Content-Length: 5\r\n", self.head(hello))

    def test_body_in_parts(self) -> None:
        """The length is counted when nobody declares it."""

        def render(request: LeanRequest) -> int:
            request.write(b"abc")
            request.write(b"de")
            request.finish()
            return NOT_DONE_YET

        answer = self.head(render)
        self.assertIn(b"Content-Length: 5\r\n", answer)
        self.assertNotIn(b"chunked", answer)

    def test_declared(self) -> None:
        """A declared length is sent as it is, with or without the body."""
        for body in (b"", b"abc"):

            def render(request: LeanRequest, body: bytes = body) -> bytes:
                request.setHeader(b"content-length", b"3")
                return body

            self.assertIn(b"Content-Length: 3\r\n", self.head(render))

    def test_unknown(self) -> None:
        """Of what neither was written nor declared no length is said."""
        self.assertNotIn(b"Content-Length", self.head(lambda _: b""))

    def test_resources_that_only_know_get(self) -> None:
        """A resource without HEAD is asked as for GET."""

        class OnlyGet(Resource):
            isLeaf = True
            render_HEAD = None

            def render_GET(self, request: LeanRequest) -> bytes:
                return request.method * 2

        self.serve(OnlyGet())
        answer = self.connect().send(get(method=b"HEAD"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))
        self.assertIn(b"Content-Length: 6\r\n", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))


class PersistenceTests(WireTestCase):
    """Which connections stay open."""

    def closes(self, raw: bytes, render: Render = hello) -> tuple[bool, bytes]:
        """Whether the connection ends with the answer, and what that says of it."""
        self.serve(render)
        connection = self.connect()
        head = connection.send(raw).partition(b"\r\n\r\n")[0]
        said = [
            line.partition(b": ")[2]
            for line in head.split(b"\r\n")
            if line.startswith(b"Connection")
        ]
        return connection.is_closed, b"".join(said)

    def test_http_1_1(self) -> None:
        """Connections of HTTP/1.1 stay open unless the client says otherwise."""
        self.assertEqual((False, b""), self.closes(get()))
        for value in (
            b"close",
            b"Close",
            b"keep-alive, close",
            b"close\r\nConnection: x",
        ):
            raw = get(b"/", b"Connection: " + value)
            self.assertEqual((True, b"close"), self.closes(raw), value)

    def test_http_1_0(self) -> None:
        """Connections of HTTP/1.0 end unless the client says otherwise."""
        raw = b"GET / HTTP/1.0\r\n"
        self.assertEqual((True, b"close"), self.closes(raw + b"\r\n"))
        raw += b"Connection: Keep-Alive\r\n\r\n"
        self.assertEqual((False, b"keep-alive"), self.closes(raw))

    def test_http_1_0_unknown_length(self) -> None:
        """To HTTP/1.0 an answer of unknown length ends with the connection."""

        def render(request: LeanRequest) -> int:
            request.write(b"abc")
            request.finish()
            return NOT_DONE_YET

        raw = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        self.assertEqual((True, b"close"), self.closes(raw, render))
        self.assertTrue(self.ask(raw, render).endswith(b"\r\n\r\nabc"))

    def test_nothing_after_close(self) -> None:
        """What comes after a request that said close is not answered."""
        self.serve(echo)
        connection = self.connect()
        connection.send(get(b"/1", b"Connection: close") + get(b"/2"), get(b"/3"))
        self.assertEqual(1, connection.sent.count(b"HTTP/1.1"))

    def test_upgrade(self) -> None:
        """Who asks for another protocol gets HTTP/1.1, and its body is a body."""
        upgrade = [b"Connection: Upgrade", b"Upgrade: h2c"]
        self.serve(echo)
        answer = self.connect().send(post(b"GET /x HTTP/1.1", *upgrade) + get(b"/2"))
        self.assertEqual(2, answer.count(b"HTTP/1.1 200 OK"))
        self.assertIn(b"POST / GET /x HTTP/1.1HTTP/1.1 200", answer)


class RequestTests(WireTestCase):
    """What a resource sees of a request."""

    def seen(self, raw: bytes, look: Callable[[LeanRequest], Any]) -> Any:
        """What a look at a request finds."""
        found: list[Any] = []

        def render(request: LeanRequest) -> bytes:
            found.append(look(request))
            return b""

        self.ask(raw, render)
        return found[0]

    def test_interface(self) -> None:
        """It is a request in the sense of twisted.web."""
        raw = get()
        self.assertTrue(self.seen(raw, lambda request: verifyObject(IRequest, request)))

    def test_target(self) -> None:
        """Path, query, arguments and segments come from the target."""
        raw = get(b"/a/b%2Fc//?x=1&x=%20&y=")

        def look(request: LeanRequest) -> Any:
            return request.uri, request.path, request.args, request.postpath

        self.assertEqual(
            (
                b"/a/b%2Fc//?x=1&x=%20&y=",
                b"/a/b%2Fc//",
                {b"x": [b"1", b" "], b"y": [b""]},
                [b"a", b"b/c", b"", b""],
            ),
            self.seen(raw, look),
        )

    def test_headers(self) -> None:
        """Headers are found in any case, as bytes and as text, the last one first."""
        raw = get(b"/", b"X-One: 1", b"x-one:\t2 \t", b"X-Two:", b"Cookie: a=b; c=d")

        def look(request: LeanRequest) -> Any:
            return (
                request.getHeader(b"X-ONE"),
                request.getHeader("x-One"),
                request.getHeader(b"x-two"),
                request.getHeader("x-three"),
                request.getCookie(b"c"),
            )

        expected = (b"2", "2", b"", None, b"d")
        self.assertEqual(expected, self.seen(raw, look))

        def look_again(request: LeanRequest) -> Any:
            every = request.requestHeaders.getRawHeaders(b"x-one")
            request.requestHeaders.setRawHeaders(b"x-two", [b"changed"])
            return every, *look(request)

        self.assertEqual(
            ([b"1", b"2"], b"2", "2", b"changed", None, b"d"),
            self.seen(raw, look_again),
        )

    def test_same_head_again(self) -> None:
        """What is done to a request changes nothing of the next one like it."""
        seen: list[tuple[Any, ...]] = []

        def change(request: LeanRequest) -> bytes:
            names = [name for name, _ in request.requestHeaders.getAllRawHeaders()]
            seen.append((request.method, request.path, request.args, sorted(names)))
            request.requestHeaders.setRawHeaders(b"X-Project-ID", [b"other"])
            request.args[b"a"] = [b"9"]
            request.path = request.uri = request.method = b"PUT"
            return request.content.getvalue()

        self.serve(change)
        raw = b"POST /p?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"
        connection = self.connect()
        for body in (b"one", b"two"):
            self.assertEqual(body, connection.send(raw + body)[-3:])
        self.assertEqual(seen[0], seen[1])

    def test_same_headers_again(self) -> None:
        """Headers that were read before say of each request what they would alone."""
        lines = (
            *(b"GET /1 HTTP/1.1", b"GET http://other/2 HTTP/1.1", b"GET /3 HTTP/1.1"),
            *(b"PUT /4 HTTP/1.1", b"GET /5 HTTP/1.0", b"GET /6 HTTP/1.1"),
        )
        seen: list[tuple[Any, ...]] = []

        def look(request: LeanRequest) -> bytes:
            host, text = request.getHeader(b"host"), request.head.text("Host")
            fields = list(request.head.fields)
            seen.append((request.method, request.uri, host, text, fields))
            return b""

        said = [self.ask(line + b"\r\nHost: h\r\n\r\n", look) for line in lines]
        alone, seen = seen, []
        self.serve(look)
        for line, before in zip(lines, said, strict=True):
            raw = line + b"\r\nHost: h\r\n\r\n"
            self.assertEqual(before, self.connect().send(raw), line)
        self.assertEqual(alone, seen)
        self.assertEqual([b"h", b"other", b"h"], [each[2] for each in seen[:3]])

    def test_host(self) -> None:
        """The host is that of the header, or what it is set to."""
        raw = get(b"/").replace(b"Host: h", b"Host: example.org:81")

        def look(request: LeanRequest) -> Any:
            before = request.getRequestHostname(), request.getHost().port
            request.setHost(b"other", 80)
            return *before, request.getRequestHostname(), request.getHost().port

        self.assertEqual((b"example.org", 8888, b"other", 80), self.seen(raw, look))

    def test_client(self) -> None:
        """The address of the client is known, and that it came in the clear."""

        def look(request: LeanRequest) -> Any:
            return request.getClientAddress().host, request.isSecure()

        self.assertEqual(("192.168.1.1", False), self.seen(get(), look))

    def test_body(self) -> None:
        """A body is a file that knows how many bytes came."""

        def look(request: LeanRequest) -> Any:
            return request.content.size, request.content.read()

        self.assertEqual((3, b"abc"), self.seen(post(b"abc"), look))
        self.assertEqual((0, b""), self.seen(get(), look))
        raw = get(b"/", b"Transfer-Encoding: Chunked", method=b"PUT")
        raw += b'2;a=b\r\nab\r\n0A \t; c="d"\r\n0123456789\r\n0\r\nX: y\r\nZ:\r\n\r\n'
        self.assertEqual((12, b"ab0123456789"), self.seen(raw, look))

    def test_body_not_kept(self) -> None:
        """Of a body that is too large to be kept the size is known."""
        for raw in (
            post(b"abcdef"),
            get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
            + b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        ):
            for kept, expected in ((6, b"abcdef"), (5, b"")):
                found: list[Any] = []

                def render(request: LeanRequest, found: list[Any] = found) -> bytes:
                    found.extend([request.content.size, request.content.getvalue()])
                    return b""

                self.ask(raw, render, body_kept=kept)
                self.assertEqual([6, expected], found)

    def test_absolute_target(self) -> None:
        """A whole URL in the request line is its path, and its host is the host."""

        def look(request: LeanRequest) -> Any:
            return request.uri, request.getRequestHostname(), request.prePathURL()

        for url, uri in (
            (b"http://other:81/p?q", b"/p?q"),
            (b"HTTPS://other", b"/"),
            (b"http://other?q", b"/?q"),
        ):
            seen = self.seen(get(url), look)
            self.assertEqual((uri, b"other", b"http://other:8888/"), seen)

    def test_asterisk(self) -> None:
        """OPTIONS of the server as a whole is answered without asking anybody."""
        for target in (b"*", b"http://h"):
            answer = self.ask(get(target, method=b"OPTIONS"), self.fail)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertTrue(answer.endswith(b"Content-Length: 0\r\n\r\n"))

    def test_empty_line_before(self) -> None:
        """An empty line before a request is passed over."""
        self.serve(echo)
        connection = self.connect()
        answers = connection.send(post(b"x") + b"\r", b"\n", get(b"/2"))
        self.assertEqual(b"GET /2 ", answers[-7:])
        self.assertEqual(2, answers.count(b"200 OK"))


class ExpectationTests(WireTestCase):
    """Clients that ask before they send a body."""

    def setUp(self) -> None:
        """Serve."""
        super().setUp()
        self.serve(echo, body=10)

    def head(self, *headers: bytes) -> bytes:
        """A head that waits for leave to send its body."""
        return get(b"/", b"Expect: 100-Continue", *headers, method=b"POST")

    def test_continue(self) -> None:
        """Leave is given once, and the body answered."""
        connection = self.connect()
        for framing, body in (
            (b"Content-Length: 3", b"abc"),
            (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        ):
            said = connection.send(self.head(framing))
            self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", said)
            said = connection.send(body)
            self.assertTrue(said.startswith(b"HTTP/1.1 200 OK"))
            self.assertTrue(said.endswith(b"POST / abc"))

    def test_needless(self) -> None:
        """Without a body to come, nothing is said beside the answer."""
        for raw in (
            self.head(),
            self.head(b"Content-Length: 0"),
            self.head(b"Content-Length: 3") + b"a",
            self.head(b"Content-Length: 3").replace(b"/1.1", b"/1.0"),
        ):
            self.assertNotIn(b"100 Continue", self.connect().send(raw))

    def test_not_wanted(self) -> None:
        """A body that is too large is refused instead."""
        said = self.connect().send(self.head(b"Content-Length: 11"))
        self.assertTrue(said.startswith(b"HTTP/1.1 413 "))


class PipelineTests(WireTestCase):
    """Requests that come before the answers to earlier ones."""

    def test_in_one_piece(self) -> None:
        """Requests in one piece are answered in their order."""
        self.serve(echo)
        connection = self.connect()
        answers = connection.send(get(b"/1") + post(b"two") + get(b"/3"))
        bodies = [
            part.rpartition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 ")
        ]
        self.assertEqual([b"", b"GET /1 ", b"POST / two", b"GET /3 "], bodies)

    def test_one_after_the_other(self) -> None:
        """A request is begun when the one before it is answered, in order."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get(b"/1") + get(b"/2"), get(b"/3"))
        for number in range(3):
            self.assertEqual(number + 1, len(later.requests))
            self.assertEqual(1, self.factory.requests_in_flight)
            later.answer(number, b"%d" % number)
        answers = connection.sent.split(b"HTTP/1.1 200 OK")
        self.assertEqual([b"0", b"1", b"2"], [answer[-1:] for answer in answers[1:]])
        self.assertEqual([None] * 3, later.ends)
        self.assertEqual(0, self.factory.requests_in_flight)

    def test_many(self) -> None:
        """Thousands of requests in one piece need no deep stack."""
        self.serve(hello)
        answers = self.connect().send(get() * 3000)
        self.assertEqual(3000, answers.count(b"HTTP/1.1 200 OK"))

    def test_bounded(self) -> None:
        """Reading pauses when too much waits for a request at work."""
        later = Later()
        self.serve(later, ahead=100)
        connection = self.connect()
        connection.send(get(b"/1"))
        connection.send(b"GET /2 HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 50)
        self.assertEqual("producing", connection.transport.producerState)
        connection.send(b"x" * 50)
        self.assertEqual("paused", connection.transport.producerState)
        later.answer(0)
        self.assertEqual("producing", connection.transport.producerState)
        connection.send(b"\r\n\r\n")
        self.assertEqual(2, len(later.requests))


class BackPressureTests(WireTestCase):
    """Clients that do not read."""

    def test_nothing_is_read(self) -> None:
        """While answers are not taken, nothing is read or begun."""
        self.serve(hello)
        connection = self.connect()
        connection.channel.pauseProducing()
        self.assertEqual("paused", connection.transport.producerState)
        self.assertEqual(b"", connection.send(get()))
        connection.channel.resumeProducing()
        self.assertEqual("producing", connection.transport.producerState)
        self.assertIn(b"200 OK", connection.sent)

    def test_in_the_middle(self) -> None:
        """Requests that wait behind an answer which is not taken are not begun."""
        self.serve(hello)
        connection = self.connect()
        writes = connection.transport.writes

        def stall(data: bytes) -> None:
            writes.append(data)
            connection.channel.pauseProducing()

        self.patch(connection.transport, "write", stall)
        connection.send(get() * 3)
        for expected in (1, 2, 3, 3):
            self.assertEqual(expected, len(writes))
            connection.channel.resumeProducing()

    def test_producer(self) -> None:
        """A producer is told by the transport itself, then the connection again."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        request = later.requests[0]
        producer = Counting()
        connection.channel.pauseProducing()
        request.registerProducer(producer, True)
        self.assertIs(producer, connection.transport.producer)
        self.assertEqual("producing", connection.transport.producerState)
        self.assertRaises(ValueError, request.registerProducer, producer, True)
        request.write(b"abc")
        request.unregisterProducer()
        request.unregisterProducer()
        self.assertIs(connection.channel, connection.transport.producer)
        request.finish()
        later.requests.clear()
        connection.send(get())
        self.assertEqual(1, len(later.requests))

    def test_producer_for_nobody(self) -> None:
        """A producer for a client that is gone is stopped at once."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        connection.vanish()
        producer = Counting()
        later.requests[0].registerProducer(producer, False)
        self.assertEqual(1, producer.stopped)


@implementer(IProducer)
class Counting:
    """A producer that counts how often it is stopped."""

    stopped = 0

    def stopProducing(self) -> None:
        """It is not wanted any more."""
        self.stopped += 1


class GoneTests(WireTestCase):
    """Clients that vanish, and requests that go wrong."""

    def test_at_work(self) -> None:
        """Who waits for the end of a request learns that its client is gone."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get())
        connection.vanish()
        self.assertEqual(0, self.factory.requests_in_flight)
        self.assertEqual(1, len(later.ends))
        later.ends[0].trap(ConnectionLost)
        request = later.requests[0]
        request.write(b"x")
        self.assertRaises(RuntimeError, request.finish)
        self.assertEqual((1, b""), (len(later.requests), connection.sent))

    def test_in_the_middle(self) -> None:
        """A request that has come in part is forgotten with its client."""
        later = Later()
        self.serve(later)
        for raw in (get()[:-1], post(b"abc")[:-1]):
            connection = Connection(self.factory)
            connection.send(raw)
            self.assertEqual(1, self.factory.connections)
            connection.vanish()
        self.assertEqual((0, []), (self.factory.connections, later.requests))
        self.assertEqual(0, self.factory.requests_in_flight)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_finished(self) -> None:
        """A finished request has no say in the connection any more."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get())
        later.answer(0)
        later.requests[0].loseConnection()
        self.assertFalse(connection.is_closed)

    def test_finished_twice(self) -> None:
        """An answer ends once, and nothing is written to it later."""
        later = Later()
        self.serve(later)
        self.connect().send(get())
        later.answer(0)
        self.assertRaises(RuntimeError, later.requests[0].finish)
        self.assertRaises(RuntimeError, later.requests[0].write, b"x")

    def test_bug(self) -> None:
        """A bug is logged and answered with an error, and the connection goes on."""

        def render(request: LeanRequest) -> bytes:
            request.setHeader(b"x-half", b"done")
            raise ZeroDivisionError

        answer = self.ask(get() + get(), render)
        self.assertEqual(2, answer.count(b"HTTP/1.1 500 Internal Server Error"))
        self.assertEqual(2, answer.count(b'{"title": "Internal server error"'))
        self.assertNotIn(b"X-Half", answer)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_no_bytes(self) -> None:
        """What gives neither bytes nor a promise of them has a bug."""
        answer = self.ask(get(), lambda _: "text")
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 "))
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))

    def test_bug_in_the_middle(self) -> None:
        """An answer that cannot be completed ends with the connection, not before."""

        def render(request: LeanRequest) -> bytes:
            request.write(b"abc")
            raise ZeroDivisionError

        self.serve(render)
        connection = self.connect()
        answer = connection.send(get() + get())
        self.assertEqual(1, answer.count(b"HTTP/1.1"))
        self.assertTrue(answer.endswith(b"3\r\nabc\r\n"))
        self.assertTrue(connection.is_closed)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_hung_up(self) -> None:
        """Who hangs up on a client may still finish the request, for nobody."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get())
        request = later.requests[0]
        producer = Counting()
        request.registerProducer(producer, True)
        request.loseConnection()
        self.assertTrue(connection.is_closed)
        request.unregisterProducer()
        later.answer(0)
        request.loseConnection()
        self.assertEqual((1, 0), (len(later.requests), self.factory.requests_in_flight))

    def test_bug_after_the_answer(self) -> None:
        """A bug after the answer is logged, and nothing else."""

        def render(request: LeanRequest) -> int:
            request.finish()
            raise ZeroDivisionError

        answer = self.ask(get(), render)
        self.assertEqual(1, answer.count(b"HTTP/1.1 200"))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_unknown_method(self) -> None:
        """A method that a resource does not know is 405 with those that it does."""
        self.serve(Leaf())
        answer = self.connect().send(get(method=b"DELETE"))
        self.assertTrue(answer.startswith(b"HTTP/1.1 405 Method Not Allowed"))
        self.assertIn(b"\r\nAllow: GET, HEAD\r\n", answer)


class Leaf(Resource):
    """A resource that can be read."""

    isLeaf = True

    def render_GET(self, request: LeanRequest) -> bytes:
        """Read it."""
        return b"leaf"


class FinishTests(WireTestCase):
    """A server that stops."""

    def test_idle(self) -> None:
        """Idle connections are closed."""
        self.serve(hello)
        fresh, used = self.connect(), self.connect()
        used.send(get())
        self.factory.finish()
        self.assertEqual((True, True), (fresh.is_closed, used.is_closed))

    def test_at_work(self) -> None:
        """A request at work is answered; the answer says that it was the last."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get())
        self.factory.stopFactory()
        self.assertFalse(connection.is_closed)
        later.answer(0)
        self.assertIn(b"Connection: close\r\n", connection.sent)
        self.assertTrue(connection.is_closed)
        self.assertEqual(1, len(later.requests))

    def test_coming_in(self) -> None:
        """A request that has come in part is answered when it has come."""
        self.serve(echo)
        for raw in (get(), post(b"abc")):
            connection = self.connect()
            connection.send(raw[:-2])
            self.factory.finish()
            self.assertFalse(connection.is_closed)
            self.assertIn(b"Connection: close\r\n", connection.send(raw[-2:]))
            self.assertTrue(connection.is_closed)


class HalfCloseTests(WireTestCase):
    """Clients that send no more, but still listen."""

    def test_idle(self) -> None:
        """Without anything to answer the connection is closed."""
        self.serve(hello)
        for raw in (b"", get(), get()[:-1], post(b"abc")[:-1]):
            connection = self.connect()
            connection.send(raw)
            connection.channel.readConnectionLost()
            self.assertTrue(connection.is_closed)

    def test_at_work(self) -> None:
        """All that was asked is answered, then the connection is closed."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get() + get())
        connection.channel.readConnectionLost()
        later.answer(0)
        self.assertFalse(connection.is_closed)
        later.answer(1)
        self.assertTrue(connection.is_closed)
        self.assertEqual(2, connection.sent.count(b"HTTP/1.1 200"))

    def test_not_wanted(self) -> None:
        """Where that is set, such a client counts as gone."""
        later = Later()
        self.serve(later, half_close=False)
        connection = self.connect()
        connection.send(get())
        connection.channel.readConnectionLost()
        self.assertTrue(connection.is_closed)
        connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(1, len(later.ends))
        later.ends[0].trap(ConnectionDone)


class DeferredTests(WireTestCase):
    """What is only made for those who ask."""

    def test_nobody_asked(self) -> None:
        """A request that nobody waits for makes no Deferred."""
        seen: list[LeanRequest] = []

        def render(request: LeanRequest) -> bytes:
            seen.append(request)
            return b""

        self.ask(get(), render)
        self.assertFalse(seen[0].notifications)

    def test_everybody(self) -> None:
        """All who wait for the end are told."""
        ends: list[Deferred[None]] = []

        def render(request: LeanRequest) -> bytes:
            ends.extend([request.notifyFinish(), request.notifyFinish()])
            return b""

        self.ask(get(), render)
        self.assertEqual([None, None], [self.successResultOf(end) for end in ends])
