"""What is no request here: malformed, ambiguous, too large, or too slow."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.wire.http_body import ChunkedBody, SizedBody
from mqsvc.wire.http_limits import HTTPLimits, Refusal
from tests.wire.test_http import Connection, Later, WireTestCase, echo, get, post

GET = b"GET / HTTP/1.1\r\nHost: h\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

MALFORMED = [
    # The request line.
    *(b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(b"GET /\r\n\r\n", b"GET / http/1.1\r\nHost: h\r\n\r\n", b"GET\r\n\r\n"),
    *(b"GET / RTSP/1.0\r\nHost: h\r\n\r\n", b"SOURCE / ICE/1.0\r\nHost: h\r\n\r\n"),
    *(b"PRI / HTTP/1.1\r\nHost: h\r\n\r\n", b"PRI * HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(b"FOO / HTTP/1.1\r\nHost: h\r\n\r\n", b"get / HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(
        b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    *(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", b"GET a HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"),
    *(
        b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    b"GET http://u:p@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    # Line ends.
    *(b"GET / HTTP/1.1\nHost: h\r\n\r\n", b"GET / HTTP/1.1\nHost: h\n\n"),
    *(b"GET / HTTP/1.1\r\nHost: h\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    *(
        b"GET / HTTP/1.1\rHost: h\r\n\r\n",
        GET + b"A: b\rc\r\n\r\n",
        GET + b"A: b\r\r\n\r\n",
    ),
    *(
        GET + b"A: b\r\n c\r\n\r\n",
        GET + b"A:\r\n\tc\r\n\r\n",
        GET + b"A: b\r\n \r\n\r\n",
    ),
    b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    # Headers.
    *(GET + b"A : b\r\n\r\n", GET + b"A\t: b\r\n\r\n", GET + b" A: b\r\n\r\n"),
    *(GET + b"A\r\n\r\n", GET + b": b\r\n\r\n", GET + b"A b: c\r\n\r\n"),
    *(GET + b"A(: b\r\n\r\n", GET + b"\xc3\xa4: b\r\n\r\n", GET + b"A\x00: b\r\n\r\n"),
    *(GET + b"A: \x00\r\n\r\n", GET + b"A: \x01\r\n\r\n", GET + b"A: b\x7f\r\n\r\n"),
    *(GET + b"A: \x0bb\r\n\r\n", GET + b"A: b\x1b[0m\r\n\r\n"),
    # The host.
    *(
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"Host: h\r\n\r\n",
        GET + b"hOST: other\r\n\r\n",
    ),
    *(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    # The length.
    *(POST + b"Content-Length: +1\r\n\r\nx", POST + b"Content-Length: -1\r\n\r\nx"),
    *(POST + b"Content-Length: 1 1\r\n\r\nx", POST + b"Content-Length: 1,1\r\n\r\nx"),
    *(POST + b"Content-Length: 0x1\r\n\r\nx", POST + b"Content-Length: 1_0\r\n\r\nx"),
    *(POST + b"Content-Length:\r\n\r\nx", POST + b"Content-Length: a\r\n\r\nx"),
    POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nx",
    POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    POST + b"Content-Length: 1\r\nCONTENT-length: 1\r\n\r\nx",
    POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    # The encoding.
    *(
        POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n"
        for coding in [
            *(b"", b"gzip", b"identity", b"xchunked", b"chunkedx", b"chunked;q=1"),
            *(b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,"),
            *(b",chunked", b"\x0bchunked", b"\xa0chunked", b'"chunked"', b"c hunked"),
            *(b"chunked\r\nTransfer-Encoding: chunked", b"\r\n chunked"),
            *(b"chunked\r\nTransfer-Encoding: identity", b"chunked\r\n , gzip"),
        ]
    ),
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    # The chunks.
    *(
        CHUNKED + chunks
        for chunks in [
            *(
                b"0x1\r\nx\r\n0\r\n\r\n",
                b"+1\r\nx\r\n0\r\n\r\n",
                b"-1\r\nx\r\n0\r\n\r\n",
            ),
            *(b" 1\r\nx\r\n0\r\n\r\n", b"1_0\r\nx\r\n0\r\n\r\n", b"\r\nx\r\n0\r\n\r\n"),
            *(
                b"g\r\nx\r\n0\r\n\r\n",
                b";a\r\nx\r\n0\r\n\r\n",
                b"1 2\r\nx\r\n0\r\n\r\n",
            ),
            *(b"1\nx\r\n0\r\n\r\n", b"1\rx\r\n0\r\n\r\n", b"1;a\nb\r\nx\r\n0\r\n\r\n"),
            *(
                b"1;\x00\r\nx\r\n0\r\n\r\n",
                b"1\r\r\nx\r\n0\r\n\r\n",
                b"1\r\nxx\r\n0\r\n",
            ),
            *(b"1\r\nx\n0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"2\r\nx\r\n0\r\n\r\n"),
            *(b"1" * 17 + b"\r\nx", b"f" * 16 + b"\r\nx", b"0" * 20 + b"1\r\nx"),
            *(b"0\r\nA\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\n A: b\r\n\r\n"),
            *(b"0\r\nA: \x00\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\nA: b\r\r\n\r\n"),
            *(b"0\r\n\n", b"0\n\r\n", b"0\r\nGET / HTTP/1.1\r\n\r\n"),
            *(b"1;a\rb", b"1;a\n", b"0\r\nA: b\rc"),
        ]
    ),
    # Other protocols.
    *(
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00",
        b"SSH-2.0-x\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ),
]

WELL_FORMED = [
    *(get(), post(b"abc"), get(b"/?a b".replace(b" ", b"%20")), get(b"//a//")),
    *(GET + b"A:b\r\n\r\n", GET + b"A: \xc3\xa4\r\n\r\n", GET + b"A: \t b \t\r\n\r\n"),
    *(GET + b"A:\r\n\r\n", GET + b"!#$%&'*+-.^_`|~: b\r\n\r\n", b"\r\n" + get()),
    *(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: a_b-c.d:80\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
    *(POST + b"Content-Length: 001 \r\n\r\nx", POST + b"Content-Length: \t1\r\n\r\nx"),
    *(CHUNKED + b"0\r\n\r\n", CHUNKED + b"01\r\nx\r\n00\r\n\r\n", get(method=b"PURGE")),
    POST + b"Transfer-Encoding: CHUNKED \r\n\r\n1 ;a\r\nx\r\n0\r\nA: b\r\n\r\n",
]


class RefusalTestCase(WireTestCase):
    """A server that refuses."""

    def assert_refused(self, connection: Connection, status: int) -> dict[str, Any]:
        """Fail unless a refusal is all that was said; gives what it says."""
        head, _, body = connection.sent.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), connection.sent)
        self.assertIn(b"\r\nConnection: close", head)
        self.assertIn(b"\r\nContent-Type: application/json", head)
        self.assertIn(b"\r\nContent-Length: %d" % len(body), head)
        self.assertIn(b"\r\nDate: ", head)
        self.assertTrue(connection.is_closed)
        self.assertEqual(0, self.factory.requests_in_flight)
        document: dict[str, Any] = json.loads(body)
        self.assertEqual({"title", "description"}, set(document))
        return document

    def refused(self, raw: bytes, status: int, **limits: Any) -> dict[str, Any]:
        """Fail unless bytes are refused, whole or in pieces, and never begun."""
        for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
            self.serve(lambda request: self.fail(f"begun: {request}"), **limits)
            connection = self.connect()
            connection.send(*pieces)
            document = self.assert_refused(connection, status)
        return document


class MalformedTests(RefusalTestCase):
    """What no two servers might understand alike."""

    def test_refused(self) -> None:
        """All that is malformed is refused with 400, whole or byte by byte."""
        for raw in MALFORMED:
            self.refused(raw, 400)

    def test_taken(self) -> None:
        """What only looks odd is taken."""
        for raw in WELL_FORMED:
            self.serve(echo)
            connection = self.connect()
            self.assertTrue(connection.send(raw).startswith(b"HTTP/1.1 200 OK"), raw)

    def test_version(self) -> None:
        """Other versions of HTTP are refused as such."""
        for version in (b"0.9", b"1.2", b"2.0", b"3.0"):
            self.refused(b"GET / HTTP/%b\r\nHost: h\r\n\r\n" % version, 505)
        self.refused(b"PRI * HTTP/2.0\r\n\r\n", 505)

    def test_half_known(self) -> None:
        """A good line does not make up for bad headers, nor good headers for it."""
        good, bad = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /\x7f HTTP/1.1"
        self.serve(echo)
        for raw in (good.replace(b"GET / HTTP/1.1", bad), good.replace(b":", b" :")):
            for asked, status in ((good, b"200"), (raw, b"400"), (good, b"200")):
                said = self.connect().send(asked)
                self.assertTrue(said.startswith(b"HTTP/1.1 " + status), (asked, said))

    def test_after_others(self) -> None:
        """Those before a malformed request are answered, and nothing after it is."""
        self.serve(echo)
        connection = self.connect()
        connection.send(get(b"/1") + b"\x00" + get(b"/2"), get(b"/3"))
        first, second = connection.sent.split(b"HTTP/1.1 ")[1:]
        self.assertTrue(first.startswith(b"200 OK"))
        self.assertTrue(second.startswith(b"400 Bad request"))

    def test_behind_work(self) -> None:
        """A malformed request is refused when it is its turn."""
        later = Later()
        self.serve(later)
        connection = self.connect()
        connection.send(get(b"/1") + b"\x00")
        self.assertEqual(b"", connection.sent)
        later.answer(0, b"one")
        answers = connection.sent.split(b"HTTP/1.1 ")[1:]
        self.assertEqual([b"200", b"400"], [answer[:3] for answer in answers])


class SizeTests(RefusalTestCase):
    """What is too large."""

    def test_line(self) -> None:
        """A request line has a longest length, with or without its end."""
        line = b"GET /" + b"x" * 76 + b" HTTP/1.1"
        rest = b"\r\nHost: h\r\n\r\n"
        document = self.refused(line + b"x" + rest, 414, line=90)
        self.assertIn("90 bytes", document["description"])
        self.refused(b"GET /" + b"x" * 90, 414, line=90)
        self.assertIn(b"200 OK", self.ask(line + rest, echo, line=90))

    def test_head(self) -> None:
        """A head has a largest size, with or without its end."""
        head = get(b"/", b"A: " + b"x" * 100)
        self.refused(head, 431, head=len(head) - 1)
        self.refused(head[:-4] + b"x" * 10, 431, head=len(head) + 2)
        self.assertIn(b"200 OK", self.ask(head, echo, head=len(head)))

    def test_headers(self) -> None:
        """There are only so many headers."""
        head = get(b"/", *[b"A%d: x" % number for number in range(9)])
        self.refused(head, 431, headers=9)
        self.assertIn(b"200 OK", self.ask(head, echo, headers=10))

    def test_body(self) -> None:
        """A body has a largest size, announced or not."""
        self.refused(post(b"x" * 11)[:-11], 413, body=10)
        self.refused(CHUNKED + b"6\r\nabcdef\r\n5\r\n", 413, body=10)
        for raw in (post(b"x" * 10), CHUNKED + b"a\r\n" + b"x" * 10 + b"\r\n0\r\n\r\n"):
            self.assertIn(b"200 OK", self.ask(raw, echo, body=10))

    def test_beside_the_chunks(self) -> None:
        """Extensions and trailers together are bounded as heads are."""
        chunk = b"1;" + b"x" * 90 + b"\r\nx\r\n"
        self.refused(CHUNKED + chunk * 3, 400, head=200)
        self.refused(CHUNKED + b"0\r\n" + b"A: b\r\n" * 60, 400, head=200)
        self.refused(CHUNKED + b"1;" + b"x" * 300, 400, head=200)

    def test_many_small_chunks(self) -> None:
        """Chunks of one byte may be as many as the body may have bytes."""
        raw = CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"
        self.assertIn(b"x" * 5000, self.ask(raw, echo))

    def test_dropped(self) -> None:
        """After a refusal so much is read and dropped, and no more."""
        self.serve(echo, body=10, dropped=100)
        connection = self.connect()
        connection.send(post(b"x" * 11)[:-11])
        self.assert_refused(connection, 413)
        connection.send(b"x" * 60, b"x" * 40)
        self.assertFalse(connection.transport.disconnected)
        connection.send(b"x")
        self.assertTrue(connection.transport.disconnected)


class BodyTests(SynchronousTestCase):
    """Bodies by themselves."""

    def test_rest(self) -> None:
        """Bytes beyond the end of a body are not taken."""
        limits = HTTPLimits()
        sized, chunked = SizedBody(limits, 3), ChunkedBody(limits)
        self.assertEqual(3, sized.read(b"abcdef"))
        self.assertEqual(13, chunked.read(b"3\r\nabc\r\n0\r\n\r\ndef"))
        for body in (sized, chunked):
            self.assertTrue(body.is_complete)
            self.assertEqual(b"abc", body.content().getvalue())

    def test_at_once(self) -> None:
        """A length that is too much is refused before a byte has come."""
        limits = HTTPLimits(body=10)
        self.assertRaises(Refusal, SizedBody, limits, 11)
        self.assertRaises(Refusal, ChunkedBody(limits).read, b"b\r\n")


class TimeTests(RefusalTestCase):
    """What is too slow."""

    def setUp(self) -> None:
        """Serve with times that are all different."""
        super().setUp()
        self.later = Later()
        self.serve(
            self.later,
            idle_time=60,
            head_time=20,
            body_time=30,
            least_rate=10,
            stalled_time=100,
            linger_time=5,
        )

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.pump([1] * seconds)

    def test_idle(self) -> None:
        """Idle connections are closed without a word."""
        fresh, used = self.connect(), self.connect()
        self.wait(40)
        used.send(get())
        self.wait(100)
        self.assertEqual((True, False), (fresh.is_closed, used.is_closed))
        self.later.answer(0)
        before = used.sent
        self.wait(59)
        self.assertFalse(used.is_closed)
        self.wait(1)
        self.assertTrue(used.is_closed)
        self.assertEqual((b"", before), (fresh.sent, used.sent))

    def test_head(self) -> None:
        """A head has its time from its first byte on, however it trickles in."""
        connection = self.connect()
        self.wait(50)
        for byte in get()[:19]:
            connection.send(bytes([byte]))
            self.wait(1)
        self.assertFalse(connection.is_closed)
        self.wait(1)
        self.assert_refused(connection, 408)

    def test_body(self) -> None:
        """A body has its time, and more while it comes fast enough."""
        connection = self.connect()
        connection.send(post(b"x" * 1000)[:-1000])
        self.wait(29)
        connection.send(b"x" * 100)
        self.wait(10)
        self.assertFalse(connection.is_closed)
        self.wait(1)
        self.assert_refused(connection, 408)

    def test_trickle(self) -> None:
        """A body that only trickles in does not hold a connection."""
        connection = self.connect()
        connection.send(post(b"x" * 1000)[:-1000])
        for _ in range(34):
            connection.send(b"x")
            self.wait(1)
        self.assert_refused(connection, 408)

    def test_stray_line_end(self) -> None:
        """A connection with nothing but an empty line is idle."""
        for stray in (b"\r", b"\r\n", b"\r\n\r"):
            connection = self.connect()
            connection.send(stray)
            self.wait(60)
            self.assertTrue(connection.is_closed)
            self.assertEqual(b"", connection.sent)

    def test_stalled(self) -> None:
        """A client that does not take its answer is dropped in the end."""
        connection = self.connect()
        connection.send(get())
        connection.channel.pauseProducing()
        self.wait(99)
        self.assertFalse(connection.is_closed)
        connection.channel.resumeProducing()
        self.wait(1000)
        self.assertFalse(connection.is_closed)
        connection.channel.pauseProducing()
        self.wait(100)
        self.assertTrue(connection.transport.disconnected)

    def test_closing(self) -> None:
        """A client that does not take the last answer is dropped in the end."""
        connection = self.connect()
        connection.send(b"\x00")
        self.assert_refused(connection, 400)
        self.wait(99)
        self.assertFalse(connection.transport.disconnected)
        self.wait(1)
        self.assertTrue(connection.transport.disconnected)

    def test_lingering(self) -> None:
        """A client that was told of the end has a moment to go."""
        connection = self.connect()
        connection.send(b"\x00")
        connection.channel.writeConnectionLost()
        self.wait(4)
        self.assertFalse(connection.transport.disconnected)
        self.wait(1)
        self.assertTrue(connection.transport.disconnected)

    def test_one_timer(self) -> None:
        """All connections share a timer, which ends with the last of them."""
        connections = [Connection(self.factory) for _ in range(20)]
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.wait(3)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        for connection in connections:
            connection.vanish()
        self.assertEqual([], self.clock.getDelayedCalls())
