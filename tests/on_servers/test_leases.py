"""Processes that are killed, and what others then see of their WebSocket connections.

The processes are real: a server with two workers, and another one on the same stores.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.processes import children, connections, sockets, wait_until
from tests.integration.traffic import PROJECT, Connection
from tests.live import LiveServer, free_port, missing
from tests.matrix import Combination

try:
    from websockets.sync.client import ClientConnection, connect
except ImportError:
    connect = None

WORKERS = 2
LEASE_SECONDS = 3
LISTED = "/v2/queues/q/subscriptions"


class KilledTests(SynchronousTestCase):
    """A server whose workers die, and one that is asked what it sees."""

    stores: ClassVar = "redis+postgresql"
    server: LiveServer

    def setUp(self) -> None:
        """Start both, and subscribe a connection to each of the workers."""
        if connect is None:
            missing("websockets", "install the project with its extra 'test'")
        options = Combination.named(self.stores).settings("leases")
        words = [word for each in options for word in ("--set", each)]
        words += ["--set", f"websocket_limits.lease_time={LEASE_SECONDS}"]
        self.port = free_port()
        endpoint = f"tcp:{self.port}:interface=127.0.0.1"
        self.server = self.started(
            *(*words, "--workers", str(WORKERS), "--websocket", endpoint)
        )
        self.other = self.started(*words)
        wait_until(lambda: len(self.workers()) == WORKERS, "all workers run")
        self.connected: dict[int, ClientConnection] = {}
        while len(self.connected) < WORKERS:
            self.connect()
        self.ids = {worker: self.subscribe(worker) for worker in self.connected}
        # On a busy machine a lease may be late once, and what is under it hidden.
        self.wait_until_listed(*self.ids.values())

    def started(self, *words: str) -> LiveServer:
        """A server that is there until the test ends."""
        server = LiveServer(*words)
        self.addCleanup(server.remove)
        server.start()
        return server

    def workers(self) -> list[int]:
        """The workers that run."""
        return children(self.server.process)

    def connect(self) -> None:
        """Connect to some worker; a second connection to one is not kept."""
        client = connect(f"ws://127.0.0.1:{self.port}/")
        self.addCleanup(client.close_socket)
        (inode,) = connections(self.port, client.socket.getsockname()[1])
        (owner,) = [each for each in self.workers() if inode in sockets(each)]
        if self.connected.setdefault(owner, client) is not client:
            client.close()

    def ask(self, worker: int, action: str, **body: Any) -> Any:
        """What a worker answers to its client."""
        headers = {"Client-ID": f"{worker:032x}", "X-Project-ID": PROJECT}
        client = self.connected[worker]
        client.send(json.dumps({"action": action, "headers": headers, "body": body}))
        return json.loads(client.recv())["body"]

    def subscribe(self, worker: int) -> str:
        """Subscribe the client of a worker; the id of the subscription."""
        made = self.ask(worker, "subscription_create", queue_name="q", ttl=3600)
        return str(made["subscription_id"])

    def listed(self) -> list[str]:
        """The subscriptions that the other server knows."""
        connection = Connection(self.other.port)
        try:
            page = connection.ask("GET", LISTED)
            return sorted(each["id"] for each in page["subscriptions"])
        finally:
            connection.close()

    def listed_by(self, worker: int) -> list[str]:
        """The subscriptions that a worker knows."""
        page = self.ask(worker, "subscription_list", queue_name="q")
        return sorted(each["id"] for each in page["subscriptions"])

    def wait_until_listed(self, *ids: str) -> None:
        """Go on when the other server knows these, and no others."""
        wait_until(lambda: self.listed() == sorted(ids), f"listed are {ids}")

    def test_killed(self) -> None:
        """What they had is gone: of one worker, and then of a machine that dies."""
        killed, left = self.connected
        os.kill(killed, signal.SIGKILL)
        one = self.ids[left]
        self.wait_until_listed(one)
        # Its neighbour has renewed its own lease meanwhile, and sees the same.
        wait_until(lambda: self.listed_by(left) == [one], "the neighbour sees it")
        wait_until(lambda: len(self.workers()) == WORKERS, "another worker came")
        for process in (self.server.process, *self.workers()):
            os.kill(process, signal.SIGKILL)
        self.wait_until_listed()
