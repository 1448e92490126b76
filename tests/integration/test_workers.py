"""Several worker processes that serve as one."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus.board import Board, board_path
from mqsvc.bus.signals import interest_slot
from mqsvc.messaging.model import Destination, Kind
from tests.integration.audit import Event, Posted, audit
from tests.integration.processes import (
    children,
    connections,
    connections_to_each,
    is_alive,
    sockets,
    wait_until,
)
from tests.integration.traffic import (
    PROJECT,
    Client,
    Connection,
    Consumer,
    Producer,
    UnansweredError,
    at_work,
    traffic_seed,
    whole_queue,
)
from tests.live import LiveServer, shared_server

WORKERS = 2
ARGUMENTS = ("--workers", str(WORKERS))
WAIT_SECONDS = 20


def workers(server: LiveServer) -> list[int]:
    """The workers of a server, once all of them run."""
    wait_until(lambda: len(children(server.process)) == WORKERS, "all workers run")
    return children(server.process)


def listening(server: LiveServer) -> list[int]:
    """The workers of a server, once all of them take connections."""
    found = workers(server)
    for connection in connections_to_each(server.port, found):
        connection.close()
    return found


class Follower(Client):
    """Reads a queue from its begin to its end, always behind the last id it saw."""

    def __init__(self, port: int, queue: str, stop: threading.Event) -> None:
        super().__init__("follower", port, stop)
        self.seen: list[str] = []
        self._next = f"/v2/queues/{queue}/messages?limit=20&echo=true"

    def step(self) -> None:
        """Read one page."""
        page = self._connection.ask("GET", self._next)
        self.seen += [message["id"] for message in page["messages"]]
        if page["messages"]:
            self._next = page["links"][0]["href"]


class ServingTests(SynchronousTestCase):
    """Two workers, and clients that do not know which one they talk to."""

    def setUp(self) -> None:
        """A server that all of these tests share."""
        self.server = shared_server(*ARGUMENTS)
        self.workers = listening(self.server)
        self.first, self.second = self.connect_to_each()

    def connect_to_each(self) -> list[Connection]:
        """A connection to each worker."""
        found = connections_to_each(self.server.port, self.workers)
        for connection in found:
            self.addCleanup(connection.close)
        return found

    def later(
        self, connection: Connection, method: str, path: str, body: Any = None
    ) -> Future[Any]:
        """Ask in a thread."""
        threads = ThreadPoolExecutor(1)
        self.addCleanup(threads.shutdown)
        return threads.submit(connection.ask, method, path, body)

    def taken(self) -> list[int]:
        """How many connections each worker has."""
        established = connections(self.server.port).keys()
        return [len(established & sockets(worker)) for worker in self.workers]

    def waiters(self, queue: str) -> list[int]:
        """The workers in which somebody waits at a queue, by what their board says."""
        path = board_path(str(self.server.directory / "data" / "workers"))
        board = Board(bytearray(Path(path).read_bytes()), None)
        destination = Destination(PROJECT, Kind.QUEUE, queue)
        return board.interested(interest_slot(destination))

    def test_spread(self) -> None:
        """Connections are spread over both workers."""
        before = self.taken()
        for _ in range(40):
            connection = Connection(self.server.port)
            self.addCleanup(connection.close)
            connection.ask("GET", "/healthz")
        shares = [now - then for now, then in zip(self.taken(), before, strict=True)]
        self.assertEqual(40, sum(shares))
        # Even, but for what a busy machine does to the moment of patience.
        self.assertGreaterEqual(min(shares), 5, shares)

    def test_processors(self) -> None:
        """Workers have a processor each where there are as many, and else all."""
        usable = os.sched_getaffinity(0)
        expected = [usable] * WORKERS
        if len(usable) == WORKERS:
            expected = [{processor} for processor in usable]
        found = [os.sched_getaffinity(worker) for worker in self.workers]
        self.assertCountEqual(expected, found)

    def test_waiting(self) -> None:
        """Who waits in one worker is answered with what is posted in another."""
        for path, method, body, found in (
            (f"messages?wait={WAIT_SECONDS}&echo=true", "GET", None, "messages"),
            (f"claims?wait={WAIT_SECONDS}", "POST", {"ttl": 60}, "messages"),
        ):
            name = f"waiting-{method}"
            queue = f"/v2/queues/{name}"
            self.first.ask("PUT", queue)
            answer = self.later(self.second, method, f"{queue}/{path}", body)
            wait_until(lambda name=name: self.waiters(name), "the other one waits")
            self.first.ask("POST", f"{queue}/messages", {"messages": [{"body": "x"}]})
            # A signal that was lost would let it wait to the end.
            answered = answer.result(WAIT_SECONDS / 2)
            bodies = [message["body"] for message in answered[found]]
            self.assertEqual(["x"], bodies)

    def test_queues(self) -> None:
        """What one worker has done another knows at once."""
        here, there = self.first, self.second
        queue, names = "/v2/queues/known", "/v2/queues?limit=20"
        message = {"messages": [{"body": "x"}]}
        for _ in range(20):
            here, there = there, here
            here.ask("PUT", queue, {"_max_messages_post_size": 100})
            metadata = there.ask("GET", queue)
            self.assertEqual(100, metadata["_max_messages_post_size"])
            large = {"messages": [{"body": "x" * 200}]}
            status, _ = there.answer("POST", f"{queue}/messages", large)
            self.assertEqual(400, status)
            there.ask("POST", f"{queue}/messages", message)
            here.ask("DELETE", queue)
            listed = [one["name"] for one in there.ask("GET", names)["queues"]]
            self.assertNotIn("known", listed)
            self.assertEqual([], there.ask("GET", f"{queue}/messages")["messages"])

    def test_order(self) -> None:
        """A reader behind the posts of eight clients sees each once, in one order."""
        stop = threading.Event()
        follower = Follower(self.server.port, "followed", stop)
        posted: list[list[str]] = [[] for _ in range(8)]

        def post(number: int) -> None:
            connection = Connection(self.server.port)
            for _ in range(25):
                answer = connection.ask(
                    "POST",
                    "/v2/queues/followed/messages",
                    {"messages": [{"body": 1}, {"body": 2}]},
                )
                ids = [href.rpartition("/")[2] for href in answer["resources"]]
                posted[number] += ids
            connection.close()

        with at_work([follower], stop), ThreadPoolExecutor(8) as threads:
            list(threads.map(post, range(8)))
            wait_until(lambda: len(follower.seen) >= 400, "all messages were read")
        self.assertEqual(sorted(follower.seen), follower.seen)
        self.assertEqual(sorted(chain.from_iterable(posted)), follower.seen)
        for ids in posted:
            self.assertEqual(sorted(ids), ids)

    def test_killed(self) -> None:
        """A worker that is killed takes nothing with it, and another comes."""
        stop, seed = threading.Event(), traffic_seed()
        port = self.server.port
        clients: list[Client] = [
            *(Producer(f"producer-{n}", port, stop, seed) for n in range(4)),
            *(Consumer(f"consumer-{n}", port, stop, seed) for n in range(4)),
        ]
        with at_work(clients, stop):
            for victim in self.workers:
                before = len(self.events(clients))
                wait_until(
                    lambda before=before: len(self.events(clients)) > before + 100,
                    "clients were at work",
                )
                os.kill(victim, signal.SIGKILL)
                wait_until(
                    lambda victim=victim: victim not in workers(self.server),
                    "another worker took its place",
                )
                listening(self.server)
        events = self.events(clients)
        self.assertEqual([], audit(events, list(whole_queue(port))))
        self.assertTrue(any(isinstance(event, Posted) for event in events))
        self.assertGreater(sum(client.unanswered for client in clients), 0)
        self.assertTrue(set(self.workers).isdisjoint(workers(self.server)))

    def test_told_to_stop(self) -> None:
        """A worker that is told to stop is replaced, so they can be renewed in turn."""
        os.kill(self.workers[0], signal.SIGTERM)
        wait_until(
            lambda: self.workers[0] not in workers(self.server), "it was replaced"
        )
        self.assertIn(self.workers[1], listening(self.server))

    def events(self, clients: list[Client]) -> list[Event]:
        """All that clients have noted."""
        return [event for client in clients for event in list(client.journal)]


class StoppingTests(SynchronousTestCase):
    """A server of two workers that ends."""

    def setUp(self) -> None:
        """Start one."""
        self.server = LiveServer(*ARGUMENTS)
        self.addCleanup(self.server.remove)
        self.server.start()
        self.workers = listening(self.server)

    def wait_for_all(self) -> None:
        """Return when no process of the server is left."""
        with open(self.server.directory / "data" / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def waiting(self, threads: ThreadPoolExecutor) -> Iterator[Future[Any]]:
        """A client of each worker that waits for messages."""
        for connection in connections_to_each(self.server.port, self.workers):
            self.addCleanup(connection.close)
            path = "/v2/queues/empty/messages?wait=20"
            yield threads.submit(connection.answer, "GET", path)

    def test_graceful(self) -> None:
        """Who waits is answered, and what was acknowledged is there afterwards."""
        stop, seed = threading.Event(), traffic_seed()
        clients: list[Client] = [
            Producer(f"producer-{n}", self.server.port, stop, seed) for n in range(4)
        ]
        with ThreadPoolExecutor(WORKERS) as threads, at_work(clients, stop):
            answers = list(self.waiting(threads))
            wait_until(
                lambda: all(len(client.journal) > 10 for client in clients), "posts"
            )
            self.server.stop()
            self.assertEqual([200] * WORKERS, [each.result()[0] for each in answers])
            self.wait_for_all()
            self.assertRaises(
                UnansweredError, Connection(self.server.port).ask, "GET", "/"
            )
            stop.set()
        self.server.start()
        events = [event for client in clients for event in client.journal]
        self.assertEqual([], audit(events, list(whole_queue(self.server.port))))

    def test_second_signal(self) -> None:
        """A second signal ends all at once, also a worker that cannot stop."""
        stuck, _ = self.workers
        os.kill(stuck, signal.SIGSTOP)
        os.kill(self.server.process, signal.SIGTERM)
        wait_until(
            lambda: children(self.server.process) == [stuck], "the other one stopped"
        )
        os.kill(self.server.process, signal.SIGTERM)
        self.server.wait_until_it_ended()
        self.wait_for_all()

    def test_supervisor_killed(self) -> None:
        """Workers whose supervisor was killed do not stay behind."""
        self.server.kill()
        self.wait_for_all()
        wait_until(lambda: not any(map(is_alive, self.workers)), "workers ended")
