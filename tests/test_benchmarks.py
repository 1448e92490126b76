"""The load generator: each scenario on a real server, and what it reports."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from threading import Thread
from typing import ClassVar

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from benchmarks import compare, load, memory
from benchmarks.chart import chart
from benchmarks.connections import Answer, HTTPConnection, Refused
from benchmarks.engine import ONE, Lane, Operation, Pace, Role, Run
from benchmarks.figures import percentiles
from benchmarks.queues import Queue
from benchmarks.scenarios import (
    Claim,
    EmptyClaim,
    EndToEnd,
    List,
    Ping,
    Post,
    Scenario,
    Waiting,
)
from benchmarks.servers import Mqsvc
from benchmarks.websocket_scenarios import PostAndList, Push

MOMENT = 0.05


@functools.cache
def measured() -> Mqsvc:
    """A server that these tests share, until the end of the run."""
    directory = Path(tempfile.mkdtemp(prefix="mqsvc-bench-"))
    server = Mqsvc(directory / "mqsvc", workers=1)

    def remove() -> None:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)

    reactor.addSystemEventTrigger("before", "shutdown", remove)
    server.start()
    return server


class EachScenario(SynchronousTestCase):
    """Scenarios, made small, for a moment."""

    def setUp(self) -> None:
        """Take the server."""
        self.target = measured().target()

    def assert_runs(self, scenario: Scenario, rate: float | None = None) -> None:
        """It does something, every answer is as it expects, and nothing stays."""
        scenario.create()
        scenario.prepare()
        tally = Run(scenario.roles(rate)).measure(MOMENT, 0.0)
        scenario.remove()
        self.assertEqual((tally.errors, tally.first_error), (0, ""))
        self.assertGreater(tally.units, 0)
        self.assertEqual(0, scenario.queue.depth())

    def test_ping(self) -> None:
        """Pings are answered."""
        self.assert_runs(Ping(self.target))

    def test_posts(self) -> None:
        """Posts give a reference for each message."""
        self.assert_runs(Post(self.target, 10))

    def test_post_at_a_rate(self) -> None:
        """Posts can be sent at a fixed rate."""
        self.assert_runs(Post(self.target, 1), rate=500)

    def test_list(self) -> None:
        """Lists give pages of ten, also behind claimed messages."""
        self.assert_runs(List(self.target, 20, claimed=30))

    def test_claim(self) -> None:
        """Single claims are deleted, and the run ends when nothing is left."""
        self.assert_runs(Claim(self.target, 1, supply=50))

    def test_claim_behind(self) -> None:
        """What others have claimed before stays theirs."""
        self.assert_runs(Claim(self.target, 1, supply=50, claimed=30))

    def test_claims(self) -> None:
        """Batches of claims are deleted in one request."""
        self.assert_runs(Claim(self.target, 10, supply=200))

    def test_end_to_end(self) -> None:
        """Consumers get what producers post, one by one."""
        self.assert_runs(EndToEnd(self.target, 1))

    def test_end_to_end_in_batches(self) -> None:
        """Consumers get what producers post, by ten."""
        self.assert_runs(EndToEnd(self.target, 10))

    def test_empty_claim(self) -> None:
        """Claims of an empty queue give nothing."""
        self.assert_runs(EmptyClaim(self.target))

    def test_waiting(self) -> None:
        """Claims that wait are woken by posts."""
        self.assert_runs(Waiting(self.target, 20))

    def test_websocket(self) -> None:
        """Frames are posted and listed."""
        self.assert_runs(PostAndList(self.target))

    def test_push(self) -> None:
        """What is posted is pushed."""
        self.assert_runs(Push(self.target))


class Reports(SynchronousTestCase):
    """The command lines."""

    def setUp(self) -> None:
        """Make room for files."""
        self.path = Path(self.mktemp())
        self.path.mkdir()

    def test_load(self) -> None:
        """Figures are printed, and written with the machine, and drawn."""
        printed = StringIO()
        files = [self.path / "load.json", self.path / "load.svg"]
        options = ["--json", str(files[0]), "--chart", str(files[1]), "--share", "0.5"]
        with redirect_stdout(printed):
            code = load.main(
                [measured().target().url, "--seconds", str(MOMENT), *options, "ping"]
            )
        report = json.loads(files[0].read_text())
        self.assertEqual(code, 0)
        self.assertEqual(printed.getvalue().count("\nping"), 2)
        self.assertEqual([run["scenario"] for run in report["runs"]], ["ping"] * 2)
        self.assertGreater(report["machine"]["cores"], 0)
        self.assertIn("</svg>", files[1].read_text())

    def test_wrong_answers(self) -> None:
        """A server that answers otherwise makes the run fail."""
        printed = StringIO()
        with redirect_stdout(printed):
            code = load.main(
                [f"{measured().target().url}/no", "ping", "--seconds", str(MOMENT)]
            )
        self.assertEqual(code, 1)
        self.assertIn("the first error: ping: 404", printed.getvalue())

    def test_compare(self) -> None:
        """Servers are started, measured in turn, and set in relation."""
        printed = StringIO()
        figures = self.path / "compare.json"
        with redirect_stdout(printed):
            code = compare.main(
                [
                    *("ping", "--servers", "bare,mqsvc-1", "--base", "mqsvc-1"),
                    *("--rounds", "1", "--seconds", str(MOMENT)),
                    *("--directory", str(self.path), "--json", str(figures)),
                    *("--chart", str(self.path / "compare.svg")),
                ]
            )
        results = json.loads(figures.read_text())["results"]
        self.assertEqual(code, 0)
        self.assertEqual([each["server"] for each in results], ["bare", "mqsvc-1"])
        self.assertEqual(results[1]["ratio"], 1.0)
        self.assertIn("bare", (self.path / "compare.svg").read_text())
        self.assertEqual({each.name for each in self.path.iterdir()}, FILES)

    def test_memory(self) -> None:
        """The memory of each process is read before and after many messages."""
        scenario = Post(measured().target(), 100, 64)
        result = memory.measure(measured(), scenario, 10, 60)
        self.assertEqual(result["errors"], 0)
        self.assertGreaterEqual(result["messages"], 1000)
        self.assertGreater(min(result["before"] + result["after"]), 10)


FILES = {"compare.json", "compare.svg"}
"""What a comparison leaves in its directory, when both are asked for."""


class Reading(SynchronousTestCase):
    """Answers out of bytes."""

    def answers(self, *pieces: bytes) -> list[list[Answer]]:
        """What is whole after each piece that the server sends."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = HTTPConnection(f"http://127.0.0.1:{listening.getsockname()[1]}")
            server = listening.accept()[0]
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        given = []
        for piece in pieces:
            server.sendall(piece)
            given.append(list(client.answers()))
        return given

    def test_in_pieces(self) -> None:
        """An answer is given when it is whole."""
        given = self.answers(
            b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 5\r\n\r\n12", b"345"
        )
        self.assertEqual(given, [[], [], [(200, b"12345")]])

    def test_several(self) -> None:
        """Answers that come together are told apart."""
        no_content = b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"
        created = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"
        given = self.answers(no_content + created + no_content[:9], no_content[9:])
        self.assertEqual(given, [[(204, b""), (201, b"{}")], [(204, b"")]])

    def test_closed(self) -> None:
        """A server that hangs up ends the run."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = HTTPConnection(f"http://127.0.0.1:{listening.getsockname()[1]}")
            listening.accept()[0].close()
        self.addCleanup(client.close)
        self.assertRaises(Refused, list, client.answers())


class OneAnswer(StreamRequestHandler):
    """A server that hangs up after an answer, without saying that it will."""

    asked: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        """Answer."""
        self.asked.append(self.rfile.readline())
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class Preparing(SynchronousTestCase):
    """What is asked beside what is measured."""

    def test_closed(self) -> None:
        """It does not matter that the server hung up since it was asked last."""
        with TCPServer(("127.0.0.1", 0), OneAnswer) as server:
            Thread(target=server.serve_forever, args=[0.01]).start()
            queue = Queue(f"http://127.0.0.1:{server.server_address[1]}")
            try:
                queue.create()
                queue.remove()
            finally:
                server.shutdown()
        methods = [line.partition(b" ")[0] for line in OneAnswer.asked]
        self.assertEqual([b"PUT", b"DELETE"], methods)


class FixedRate(SynchronousTestCase):
    """When operations begin that are due at fixed moments."""

    def setUp(self) -> None:
        """One lane, ten operations a second from the moment 100."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        connection = HTTPConnection(f"http://127.0.0.1:{listening.getsockname()[1]}")
        self.addCleanup(connection.close)
        self.pace = Pace(Role([connection], operation, rate=10))
        self.pace.begin_at(100.0)
        self.lane = Lane(connection, self.pace, operation())
        self.pace.free(self.lane)

    def test_not_yet(self) -> None:
        """Nothing begins before it is due."""
        self.pace.start_due(99.9)
        self.assertEqual((self.lane.since, self.pace.next_due()), (0.0, 100.0))

    def test_busy(self) -> None:
        """What had to wait for a free connection counts from when it was due."""
        self.pace.start_due(100.0)
        self.pace.start_due(100.35)
        self.assertEqual((self.lane.since, self.pace.next_due()), (100.0, None))
        self.pace.free(self.lane)
        self.pace.start_due(100.35)
        self.assertAlmostEqual(self.lane.since, 100.1)


def operation() -> Operation:
    """Sends one byte."""
    yield b"x"
    return ONE


class Figures(SynchronousTestCase):
    """Numbers."""

    def test_percentiles(self) -> None:
        """A percentile is the least time that so many are not above."""
        found = percentiles([number / 1000 for number in range(1, 201)])
        self.assertEqual(
            found, {"p50": 100, "p90": 180, "p99": 198, "p99.9": 200, "p100": 200}
        )

    def test_none(self) -> None:
        """Nothing measured has no percentiles, and can be drawn."""
        self.assertEqual(percentiles([]), {})
        self.assertIn("nothing was measured", chart("Empty", {}))
