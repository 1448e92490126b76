"""A server that is killed again and again keeps what it acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.audit import Claimed, Deleted, Event, Posted, audit
from tests.integration.traffic import (
    Client,
    Consumer,
    Producer,
    at_work,
    traffic_seed,
    whole_queue,
)
from tests.live import LiveServer

KILLS = 30
# Long enough for work between two kills, short enough that 30 take about a minute.
LONGEST_LIFE = 0.8


def kill_repeatedly(server: LiveServer, moments: Random) -> None:
    """End the server at random moments; every fifth time perhaps while it starts."""
    pause = threading.Event()
    for kill in range(KILLS):
        if kill % 5:
            server.wait_until_it_answers()
        pause.wait(moments.uniform(0, LONGEST_LIFE))
        server.kill()
        server.spawn()
    server.wait_until_it_answers()


def run_under_fire(server: LiveServer) -> list[Client]:
    """Let clients work while the server is killed, until all of them have ended."""
    stop, seed = threading.Event(), traffic_seed()
    clients: list[Client] = [
        *(Producer(f"producer-{n}", server.port, stop, seed) for n in range(3)),
        *(Consumer(f"consumer-{n}", server.port, stop, seed) for n in range(3)),
    ]
    with at_work(clients, stop):
        kill_repeatedly(server, Random(seed))
    return clients


def acknowledged(events: Sequence[Event]) -> dict[str, int]:
    """How much the clients got done, to know that the audit had something to judge."""
    return {
        "posts": sum(isinstance(event, Posted) and bool(event.ids) for event in events),
        "claims": sum(isinstance(event, Claimed) for event in events),
        "deletions": sum(
            isinstance(event, Deleted) and event.answered < float("inf")
            for event in events
        ),
    }


class KillTests(SynchronousTestCase):
    """SIGKILL while producers and consumers work."""

    def test_nothing_acknowledged_is_lost(self) -> None:
        """After 30 kills every journal agrees with what the queue holds."""
        server = LiveServer()
        self.addCleanup(server.remove)
        server.start()
        clients = run_under_fire(server)
        events = [event for client in clients for event in client.journal]
        self.assertEqual(audit(events, list(whole_queue(server.port))), [])
        for what, number in acknowledged(events).items():
            self.assertGreater(number, 100, f"Too few {what} to judge by")
        for client in clients:
            self.assertGreater(client.unanswered, 0, f"{client.name} saw no kill")
