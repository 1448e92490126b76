"""Any bytes in any pieces: nothing raises, hangs, or is read in two ways."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET

from mqsvc.wire.http import HTTPFactory
from mqsvc.wire.http_limits import HTTPLimits
from mqsvc.wire.http_request import LeanRequest
from tests.wire.test_http import Connection, describe

exact = settings(deadline=None, derandomize=True)
LONG_AFTER_ALL_TIMES = 1000

FRAGMENTS = [
    *(b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n"),
    *(b"HEAD /", b" ", b" HTTP/1.1", b"OPTIONS * HTTP/1.1\r\n", b"GET http://h/"),
    *(b"Host: h\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
    *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: "),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: x\r\n",
    ),
    *(b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b"ffff", b";x=y", b"A: b\r\n"),
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b":", b"\t", b"\x00", b"\xff", b"/"),
]

anything = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8)).map(b"".join)

tokens = st.text("abcXYZ-_.", min_size=1, max_size=8).map(str.encode)
values = st.text('ab :,;="\u00e4', max_size=12).map(lambda text: text.strip().encode())


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[Any, ...]]:
    """A request as it is sent, and as it is to be seen."""
    method = draw(st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"]))
    target = b"/" + draw(st.text("ab/%?=&", max_size=12)).encode()
    headers = [
        (b"X-" + name, value)
        for name, value in draw(st.lists(st.tuples(tokens, values), max_size=4))
    ]
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: h"]
    lines += [name + b": " + value for name, value in headers]
    if draw(st.booleans()):
        lines.append(b"Transfer-Encoding: chunked")
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        raw_body = b"".join([*chunks, b"0\r\n\r\n"])
    else:
        raw_body = b"".join(pieces)
        lines.append(b"Content-Length: %d" % len(raw_body))
    raw = b"\r\n".join([*lines, b"", raw_body])
    seen = {name.lower(): value for name, value in headers}
    return raw, (method, target, seen, b"".join(pieces))


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Bytes in pieces."""
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(edges)]


class Server:
    """A server that remembers what it was asked; every second answer comes later."""

    def __init__(self, is_prompt: bool) -> None:
        self.clock = Clock()
        limits = HTTPLimits(head=2000, line=1000, body=1000, dropped=1000)
        self.factory = HTTPFactory(self.render, limits, self.clock, describe, {})
        self.seen: list[tuple[Any, ...]] = []
        self.waiting: list[LeanRequest] = []
        self._is_prompt = is_prompt

    def render(self, request: LeanRequest) -> Any:
        """Answer a request with its number."""
        headers = request.requestHeaders.getAllRawHeaders()
        seen = {
            name.lower(): values[-1]
            for name, values in headers
            if name.startswith(b"X-")
        }
        body = request.content.read()
        self.seen.append((request.method, request.uri, seen, body))
        if self._is_prompt:
            return b"<%d>" % len(self.seen)
        request.setHeader(b"x-number", b"<%d>" % len(self.seen))
        self.waiting.append(request)
        return NOT_DONE_YET

    def answer_all(self) -> None:
        """Answer what waits, and what only then gets its turn."""
        while self.waiting:
            self.waiting.pop().finish()


class PiecesTests(SynchronousTestCase):
    """Connections that hypothesis talks to."""

    def setUp(self) -> None:
        """Watch the log."""
        self.failures: list[Any] = []
        globalLogPublisher.addObserver(self._note)
        self.addCleanup(globalLogPublisher.removeObserver, self._note)

    def _note(self, event: Any) -> None:
        if "log_failure" in event:
            self.failures.append(event)

    @exact
    @given(anything, st.lists(st.integers(0, 500), max_size=6), st.booleans())
    def test_anything(self, raw: bytes, places: list[int], is_prompt: bool) -> None:
        """Any bytes are answered or waited for, and in the end all is over."""
        server = Server(is_prompt)
        connection = Connection(server.factory)
        connection.send(*cut(raw, places))
        server.answer_all()
        if not connection.is_closed:
            self.assertEqual("producing", connection.transport.producerState)
        self.assertEqual(0, server.factory.requests_in_flight)
        server.clock.pump([1] * LONG_AFTER_ALL_TIMES)
        self.assertTrue(connection.is_closed)
        connection.vanish()
        self.assertEqual(0, server.factory.connections)
        self.assertEqual([], server.clock.getDelayedCalls())
        self.assertEqual([], self.failures)

    @exact
    @given(anything, st.lists(st.integers(0, 500), max_size=6), st.booleans())
    def test_same_in_pieces(
        self, raw: bytes, places: list[int], is_prompt: bool
    ) -> None:
        """Bytes mean the same in however many pieces they come."""
        servers = []
        for pieces in ([raw], cut(raw, places), cut(raw, list(range(len(raw))))):
            server = Server(is_prompt)
            servers.append(server)
            connection = Connection(server.factory)
            connection.send(*pieces)
            server.answer_all()
            connection.vanish()
        self.assertEqual(servers[0].seen, servers[1].seen)
        self.assertEqual(servers[0].seen, servers[2].seen)

    @exact
    @given(
        st.lists(requests(), min_size=1, max_size=5),
        st.lists(st.integers(0, 1000), max_size=8),
        st.booleans(),
    )
    def test_requests(
        self,
        sent: list[tuple[bytes, tuple[Any, ...]]],
        places: list[int],
        is_prompt: bool,
    ) -> None:
        """Good requests in any pieces are seen as sent, and answered in their order."""
        server = Server(is_prompt)
        connection = Connection(server.factory)
        connection.send(*cut(b"".join(raw for raw, _ in sent), places))
        server.answer_all()
        self.assertEqual([seen for _, seen in sent], server.seen)
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", connection.sent)
        self.assertEqual([b"200"] * len(sent), statuses)
        said = [int(number) for number in re.findall(rb"<(\d+)>", connection.sent)]
        expected = [
            number
            for number, (_, seen) in enumerate(sent, 1)
            # The number is in the body, which HEAD does not have.
            if not is_prompt or seen[0] != b"HEAD"
        ]
        self.assertEqual(expected, said)
        self.assertFalse(connection.is_closed)
        connection.vanish()
