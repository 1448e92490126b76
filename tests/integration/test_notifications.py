"""Notifications of a real server that is killed again and again."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.traffic import Connection, UnansweredError
from tests.live import LiveServer

KILLS = 3
SECONDS_TO_ARRIVE = 120
"""For all of it, from the last start: leases of the killed process end in between."""


class Receiver(ThreadingHTTPServer):
    """Takes notifications, and fails at every tenth one.

    :ivar received: for each body that was accepted, the ids of its deliveries.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.received: defaultdict[str, list[str]] = defaultdict(list)
        self.count = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answering(BaseHTTPRequestHandler):
    """One connection to the receiver."""

    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        """Take a notification or refuse it."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.count += 1
            is_accepted = self.server.count % 10 != 0
            if is_accepted:
                body = json.loads(content)["body"]
                self.server.received[body].append(self.headers["webhook-id"])
        self.send_response(200 if is_accepted else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class KilledTests(SynchronousTestCase):
    """What was acknowledged is told."""

    timeout = 300

    def setUp(self) -> None:
        """Start a server and a receiver that has subscribed to it."""
        self.receiver = Receiver()
        self.addCleanup(self.receiver.server_close)
        self.addCleanup(self.receiver.shutdown)
        self.server = LiveServer()
        self.addCleanup(self.server.remove)
        self.server.start()
        self.connection = Connection(self.server.port)
        self.addCleanup(self.connection.close)
        url = f"http://127.0.0.1:{self.receiver.server_port}/"
        self.ask("subscriptions", {"subscriber": url})

    def ask(self, what: str, document: object) -> None:
        """Send something to the queue."""
        self.connection.ask("POST", f"/v2/queues/told/{what}", document)

    def post(self, body: str) -> bool:
        """Post one message; gives whether that was acknowledged."""
        try:
            self.ask("messages", {"messages": [{"body": body, "ttl": 3600}]})
        except UnansweredError:
            return False
        return True

    def test_killed(self) -> None:
        """Each message is told at least once, and always under one id."""
        random = Random(5)
        posted = set[str]()
        for round_number in range(KILLS):
            killer = threading.Timer(random.uniform(0.3, 1.0), self.server.kill)
            killer.start()
            for number in range(10_000):
                body = f"{round_number}-{number}"
                if not self.post(body):
                    break
                posted.add(body)
            killer.join()
            self.server.start()
        self.wait_for(posted)
        received = self.receiver.received
        self.assertEqual(set(), posted - set(received))
        told_under_several = [b for b, ids in received.items() if len(set(ids)) > 1]
        self.assertEqual([], told_under_several)

    def wait_for(self, bodies: set[str]) -> None:
        """Wait until all have arrived, or it has taken too long."""
        deadline = time.monotonic() + SECONDS_TO_ARRIVE
        pause = threading.Event()
        while bodies - set(self.receiver.received) and time.monotonic() < deadline:
            pause.wait(0.1)
