"""The server's side of requests: bounded bodies, requests in flight, hanging up."""

from __future__ import annotations

import json

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.model import Destination, Kind
from mqsvc.rest import site
from mqsvc.rest.site import BoundedBody
from tests.messaging.stores import Watched, open_management, open_messages
from tests.rest.answers import flaw
from tests.rest_units.connection import USUAL, Connection, InMemoryTestCase, encoded

QUEUE = Destination("p1", Kind.QUEUE, "q")
MESSAGES = "/v2/queues/q/messages"
CLAIMS = "/v2/queues/q/claims"


class BoundedBodyTests(SynchronousTestCase):
    """Bodies in memory."""

    def test_within(self) -> None:
        """A body up to its bound is kept, in however many pieces it comes."""
        body = BoundedBody(6)
        for piece in (b"abc", b"", b"def"):
            self.assertEqual(len(piece), body.write(piece))
        self.assertEqual((6, b"abcdef"), (body.size, body.getvalue()))

    def test_beyond(self) -> None:
        """A body beyond its bound is counted to its end, and nothing of it is kept."""
        for pieces in ([b"abcdefg"], [b"abcdef", b"g"], [b"abcd", b"efgh", b"", b"i"]):
            body = BoundedBody(6)
            for piece in pieces:
                self.assertEqual(len(piece), body.write(piece))
                body.seek(0)
                body.seek(0, 2)
            self.assertEqual(sum(map(len, pieces)), body.size)
            self.assertEqual(b"", body.getvalue())


class SiteTestCase(InMemoryTestCase):
    """A site over real stores."""

    def setUp(self) -> None:
        """Serve."""
        self.messages = Watched(open_messages(self))
        self.serve(open_management(self), self.messages)

    def posted(self) -> int:
        """How many messages there are."""
        stats = self.operations.queues.stats(QUEUE)
        return self.successResultOf(stats).total

    def refused_with(self, connection: Connection, status: int, title: str) -> None:
        """Fail unless a refusal is all that was answered, and it was hung up."""
        answer = self.successResultOf(connection.answer())
        self.assertEqual("", flaw(answer, status, title))
        self.assertEqual("close", answer.header("connection"))
        self.assertTrue(connection.transport.disconnecting)
        self.assertNoResult(connection.answer())


class EndlessBodyTests(SiteTestCase):
    """Bodies beyond all bounds."""

    def setUp(self) -> None:
        """Set a bound that a test can cross."""
        super().setUp()
        self.patch(site, "MOST_READ", 1000)

    def chunked(self, path: str = MESSAGES, method: str = "POST") -> bytes:
        """The beginning of a request with a body in pieces."""
        headers = {**USUAL, "Transfer-Encoding": "chunked"}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def chunk(self, size: int) -> bytes:
        """A piece of a body."""
        return b"%x\r\n%s\r\n" % (size, b"x" * size)

    def test_announced(self) -> None:
        """A length that is too much is refused before any of the body has come."""
        connection = self.connect()
        head = encoded("POST", MESSAGES, USUAL, b"x" * 1001)[:-1001]
        connection.send(head)
        self.refused_with(connection, 413, "Request body too large")

    def test_at_the_bound(self) -> None:
        """As many bytes as the bound are read to the end."""
        document = {"messages": [{"body": "x"}], "filler": ""}
        document["filler"] = "x" * (1000 - len(json.dumps(document)))
        self.assertEqual(1000, len(json.dumps(document)))
        self.assertEqual(201, self.call("POST", MESSAGES, document).status)

    def test_in_pieces(self) -> None:
        """A body that grows too large is refused as soon as it has."""
        connection = self.connect()
        connection.send(self.chunked(), self.chunk(600), self.chunk(400))
        self.assertEqual(b"", connection.transport.value())
        connection.send(self.chunk(1))
        self.refused_with(connection, 413, "Request body too large")

    def test_more_after_the_answer(self) -> None:
        """What still comes after the refusal is answered by nothing."""
        connection = self.connect()
        connection.send(self.chunked(), self.chunk(1001))
        connection.send(self.chunk(600), self.chunk(600))
        self.refused_with(connection, 413, "Request body too large")

    def test_end_after_the_answer(self) -> None:
        """A body that ends after its refusal does not make a request of it."""
        connection = self.connect()
        connection.send(self.chunked(), self.chunk(1001), b"0\r\n\r\n")
        self.refused_with(connection, 413, "Request body too large")
        self.assertEqual(0, self.site.requests_in_flight)

    def test_nothing_is_done(self) -> None:
        """What was refused is not done, also where the body means nothing."""
        self.call("POST", MESSAGES, {"messages": [{"body": 1}]})
        connection = self.connect()
        connection.send(
            self.chunked("/v2/queues/q", "DELETE"), self.chunk(1001), b"0\r\n\r\n"
        )
        self.assertEqual(1, self.posted())


class LengthTests(SiteTestCase):
    """Lengths that are none."""

    def test_no_number(self) -> None:
        """A length that is no number is refused in the form of the API."""
        for length in ("x", "-1", "+1", "1.0", "", "0x10", "1 1", "9" * 5000):
            connection = self.connect()
            head = encoded("POST", MESSAGES, USUAL)
            connection.send(head.replace(b"Length: 0", b"Length: " + length.encode()))
            self.refused_with(connection, 400, "Invalid header value")

    def test_nothing_is_done(self) -> None:
        """Nothing that comes behind such a header is taken for a request."""
        connection = self.connect()
        head = encoded("POST", MESSAGES, USUAL).replace(b"Length: 0", b"Length: x")
        body = b'{"messages":[{"body":1}]}'
        connection.send(head, encoded("POST", MESSAGES, USUAL, body))
        self.refused_with(connection, 400, "Invalid header value")
        self.assertEqual(0, self.posted())


class InFlightTests(SiteTestCase):
    """Requests that are not answered yet are counted."""

    def waiting(self, path: str = f"{CLAIMS}?wait=20") -> Connection:
        """A connection with a request that waits."""
        connection = self.connect()
        connection.send(encoded("POST", path, USUAL))
        self.assertEqual(b"", connection.transport.value())
        return connection

    def test_answered(self) -> None:
        """Nothing is in flight before a request and after its answer."""
        self.assertEqual(0, self.site.requests_in_flight)
        for path in ("/", "/nowhere", MESSAGES, "/%ff"):
            self.call("GET", path)
            self.assertEqual(0, self.site.requests_in_flight, path)

    def test_waiting(self) -> None:
        """Requests that wait are in flight until they are answered."""
        connections = [self.waiting() for _ in range(3)]
        self.assertEqual(3, self.site.requests_in_flight)
        self.clock.advance(20)
        for connection in connections:
            self.assertEqual(204, self.successResultOf(connection.answer()).status)
        self.assertEqual(0, self.site.requests_in_flight)

    def test_hung_up(self) -> None:
        """Who hangs up is not in flight, and nothing is done for them any more."""
        first, second = self.waiting(), self.waiting()
        first.hang_up(ConnectionDone())
        self.assertEqual(1, self.site.requests_in_flight)
        self.call("POST", MESSAGES, {"messages": [{"body": 1}]})
        answer = self.successResultOf(second.answer())
        self.assertEqual([1], [each["body"] for each in answer.json["messages"]])
        self.assertEqual(0, self.site.requests_in_flight)

    def test_hung_up_while_the_store_works(self) -> None:
        """What is claimed for somebody who has gone is free again."""
        self.call("POST", MESSAGES, {"messages": [{"body": 1}]})
        held = self.messages.hold_answer("claim")
        self.waiting(CLAIMS).hang_up(ConnectionDone())
        self.assertEqual(0, self.site.requests_in_flight)
        held.callback(None)
        answer = self.call("POST", CLAIMS)
        self.assertEqual([1], [each["body"] for each in answer.json["messages"]])

    def test_one_after_the_other(self) -> None:
        """Requests that come at once on a connection are answered in their order."""
        connection = self.connect()
        connection.send(*(encoded("GET", path, USUAL) for path in ("/", "/x", "/v2/")))
        statuses = [self.successResultOf(connection.answer()).status for _ in range(3)]
        self.assertEqual([300, 404, 200], statuses)
        self.assertEqual(0, self.site.requests_in_flight)

    def test_stop(self) -> None:
        """When the last port is closed, those who wait are answered."""
        waiting = self.waiting()
        self.site.numPorts = 1
        self.site.doStop()
        self.assertEqual(204, self.successResultOf(waiting.answer()).status)
        self.assertEqual(0, self.site.requests_in_flight)

    def test_idle_connections(self) -> None:
        """A connection on which nothing comes is closed after a while."""
        connection = self.connect()
        self.clock.advance(61)
        self.assertTrue(connection.transport.disconnecting)


class PatienceTests(SiteTestCase):
    """Requests that wait make room for others, and only those."""

    def running(self, held: str, method: str, path: str, body: bytes = b"") -> int:
        """How many count as running while the store works on a request."""
        gate = self.messages.hold_answer(held)
        connection = self.connect()
        connection.send(encoded(method, path, USUAL, body))
        counted = sum(self.guard.turns._running.values())
        gate.callback(None)
        return counted

    def test_waiting(self) -> None:
        """A claim or a list that waits does not count."""
        self.assertEqual(0, self.running("claim", "POST", f"{CLAIMS}?wait=5"))
        self.assertEqual(0, self.running("page", "GET", f"{MESSAGES}?wait=5"))

    def test_not_waiting(self) -> None:
        """What cannot wait, or does not want to, counts whatever it says."""
        body = b'{"messages": [{"body": 1}]}'
        path = f"{MESSAGES}?wait=5"
        self.assertEqual(1, self.running("post", "POST", path, body))
        for wait in ("wait=0", "nowait=5", "wait="):
            path = f"{CLAIMS}?{wait}"
            self.assertEqual(1, self.running("claim", "POST", path), wait)

    def test_malformed(self) -> None:
        """A time that is no number is refused."""
        self.assertEqual(400, self.call("POST", f"{CLAIMS}?wait=x").status)


class StopTests(SiteTestCase):
    """The site takes no more connections."""

    def test_idle(self) -> None:
        """A connection with nothing to answer is closed at once."""
        fresh, used = self.connect(), self.connect()
        used.send(encoded("GET", "/", USUAL))
        self.site.stopFactory()
        for connection in (fresh, used):
            self.assertTrue(connection.transport.disconnecting)

    def test_waiting(self) -> None:
        """A request that waits is answered, and that was the last on its connection."""
        connection = self.connect()
        connection.send(encoded("POST", f"{CLAIMS}?wait=20", USUAL))
        self.site.stopFactory()
        answer = self.successResultOf(connection.answer())
        self.assertEqual(204, answer.status)
        self.assertEqual("close", answer.header("connection"))
        self.assertTrue(connection.transport.disconnecting)
        self.assertEqual(0, self.site.requests_in_flight)

    def test_gone(self) -> None:
        """Connections that ended before are forgotten."""
        connection = self.connect()
        connection.hang_up(ConnectionDone())
        self.assertEqual(set(), self.site.channels)


class HostTests(SiteTestCase):
    """The name that a client calls the service by."""

    def test_any_name(self) -> None:
        """Nothing depends on it, be it a name or not."""
        for host in ("..", ".a", "a..b", "x" * 64, "\u00fc", "[::1", "a:b:c", " "):
            answer = self.call("GET", MESSAGES, headers={"Host": host})
            self.assertEqual(200, answer.status, host)
