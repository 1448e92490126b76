"""Notifications of a real server that is killed again and again."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.traffic import Connection, UnansweredError
from tests.live import LiveServer

KILLS = 3
SECONDS_TO_ARRIVE = 120
"""For all of it, from the last start: leases of the killed process end in between."""

PAUSE = 0.1

POLICY = {
    "retries_with_no_delay": 2,
    "minimum_delay_retries": 0,
    "minimum_delay": 1,
    "maximum_delay": 11,
    "maximum_delay_retries": 0,
}
"""Five attempts within seven seconds."""


class Receiver(ThreadingHTTPServer):
    """Takes notifications, and does with each what it is told.

    :param scripts: for one request each; the last one is for all that follow.
    :ivar came: for each body the ids of its deliveries.
    :ivar accepted: the same of those that were answered with success.
    :ivar strayed: paths that were asked for and should not.
    """

    daemon_threads = True

    def __init__(self, *scripts: Script) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.came: defaultdict[str, list[str]] = defaultdict(list)
        self.accepted: defaultdict[str, list[str]] = defaultdict(list)
        self.strayed: list[str] = []
        self.is_over = threading.Event()
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next_script(self) -> Script:
        """What to do with the next request."""
        with self._lock:
            return self._scripts.pop(0) if self._scripts[1:] else self._scripts[0]

    def close(self) -> None:
        """Stop, and let go of what is under way."""
        self.is_over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *arguments: object) -> None:
        """Say nothing of connections that the other side closed."""


class Answering(BaseHTTPRequestHandler):
    """One connection to the receiver."""

    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        """Take a notification, and do what the script says."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.told = str(json.loads(content)["body"])
        self.server.came[self.told].append(self.headers["webhook-id"])
        if self.path != "/":
            self.server.strayed.append(self.path)
        self.server.next_script()(self)

    def answer(self, status: int, length: int = 0, **fields: str) -> None:
        """Send the head of an answer."""
        if status < 300:
            ids = self.server.accepted[self.told]
            ids.append(self.headers["webhook-id"])
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


Script = Callable[[Answering], None]


def says(status: int, **fields: str) -> Script:
    """Answer with a status."""
    return lambda request: request.answer(status, **fields)


def is_silent(request: Answering) -> None:
    """Never answer."""
    request.server.is_over.wait()


def resets(request: Answering) -> None:
    """Break the connection."""
    linger = struct.pack("ii", 1, 0)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.close_connection = True


def drips(request: Answering) -> None:
    """Begin an answer with a body that does not end."""
    request.answer(200, length=10_000)
    while not request.server.is_over.wait(PAUSE):
        request.wfile.write(b".")


def redirects(request: Answering) -> None:
    """Send the caller to its own machine."""
    request.answer(302, Location="http://127.0.0.1:1/latest")


OK = says(200)

DELIVERED: dict[str, Sequence[Script]] = {
    "well": [OK],
    "broken for a while": [says(500), says(503), OK],
    "busy": [says(429, Retry_After="2"), OK],
    "silent twice": [is_silent, is_silent, OK],
    "resetting": [resets, resets, OK],
    "dripping": [drips],
}

GIVEN_UP: dict[str, Sequence[Script]] = {
    "broken": [says(500)],
    "redirecting": [redirects],
}


class KilledTests(SynchronousTestCase):
    """What was acknowledged is told."""

    timeout = 300

    def setUp(self) -> None:
        """Start a server."""
        self.server = LiveServer()
        self.addCleanup(self.server.remove)
        self.server.start()
        self.connection = Connection(self.server.port)
        self.addCleanup(self.connection.close)

    def subscribed(self, source: str, *scripts: Script) -> tuple[Receiver, str]:
        """A receiver that has subscribed to something, and its subscription."""
        receiver = Receiver(*scripts)
        self.addCleanup(receiver.close)
        url = f"http://127.0.0.1:{receiver.server_port}/"
        body = {"subscriber": url, "options": {"_retry_policy": POLICY}}
        made = self.ask("POST", f"{source}/subscriptions", body)
        return receiver, made["subscription_id"]

    def ask(self, method: str, path: str, document: object = None) -> Any:
        """Ask for something of a queue or topic."""
        return self.connection.ask(method, f"/v2/{path}", document)

    def post(self, where: str, body: str) -> bool:
        """Post one message; gives whether that was acknowledged."""
        messages = {"messages": [{"body": body, "ttl": 3600}]}
        try:
            self.ask("POST", f"{where}/messages", messages)
        except UnansweredError:
            return False
        return True

    def test_killed(self) -> None:
        """Each message is told at least once, and always under one id."""
        tenth = [OK, OK, OK, OK, says(500), OK, OK, OK, OK]
        receiver, _ = self.subscribed("topics/told", *tenth * 200)
        copies = ("copy1", "copy2")
        for copy in copies:
            body = {"subscriber": f"queue:{copy}"}
            self.ask("POST", "topics/told/subscriptions", body)
        scripted = {**DELIVERED, **GIVEN_UP, "gone": [says(410)]}
        others = {
            name: self.subscribed("queues/scripted", *scripts)
            for name, scripts in scripted.items()
        }
        self.assertTrue(self.post("queues/scripted", "once"))
        posted = self.post_and_kill()
        self.wait_for(lambda: posted <= set(receiver.accepted))
        self.assertEqual(set(), posted - set(receiver.accepted))
        self.check_one_id(receiver)
        for copy in copies:
            self.check_copy(copy, posted)
        for name, (other, subscription_id) in others.items():
            self.check_end(name, other, subscription_id)

    def post_and_kill(self) -> set[str]:
        """Post while the server is killed and started; what was acknowledged."""
        random = Random(5)
        posted = set[str]()
        for round_number in range(KILLS):
            killer = threading.Timer(random.uniform(0.3, 1.0), self.server.kill)
            killer.start()
            for number in range(10_000):
                body = f"{round_number}-{number}"
                if not self.post("topics/told", body):
                    break
                posted.add(body)
            killer.join()
            self.server.start()
        return posted

    def check_copy(self, queue: str, posted: set[str]) -> None:
        """A queue gets all that was posted, at a pace of its own."""
        found = set[str]()

        def has_all() -> bool:
            found.update(self.bodies_in(queue))
            return posted <= found

        self.wait_for(has_all)
        self.assertEqual(set(), posted - found)

    def bodies_in(self, queue: str) -> set[str]:
        """The bodies of the messages of a queue, which are taken."""
        found = set[str]()
        while page := self.ask("DELETE", f"queues/{queue}/messages?pop=20")["messages"]:
            found |= {message["body"] for message in page}
        return found

    def check_end(self, name: str, receiver: Receiver, subscription_id: str) -> None:
        """Each delivery ends as it should, and has had one id all the time."""
        path = f"queues/scripted/subscriptions/{subscription_id}"

        def given_up() -> list[str]:
            found = self.ask("GET", f"{path}/deliveries")["given_up"]
            return [each["delivery_id"] for each in found]

        if name in DELIVERED:
            self.wait_for(lambda: bool(receiver.accepted))
            self.assertTrue(receiver.accepted, name)
            self.assertEqual([], given_up(), name)
        elif name in GIVEN_UP:
            self.wait_for(lambda: bool(given_up()))
            self.assertEqual(set(receiver.came["once"]), set(given_up()), name)
        else:
            status, _ = self.connection.answer("GET", f"/v2/{path}")
            self.assertEqual(404, status, name)
        self.assertEqual([], receiver.strayed)
        self.check_one_id(receiver)

    def check_one_id(self, receiver: Receiver) -> None:
        """Nothing was told under several ids."""
        several = [b for b, ids in receiver.came.items() if len(set(ids)) > 1]
        self.assertEqual([], several)

    def wait_for(self, is_over: Callable[[], bool]) -> None:
        """Wait until something is so, or it has taken too long."""
        deadline = time.monotonic() + SECONDS_TO_ARRIVE
        pause = threading.Event()
        while not is_over() and time.monotonic() < deadline:
            pause.wait(PAUSE)
