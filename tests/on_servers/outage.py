"""A service under traffic whose store dies and comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.audit import Claimed, Event, Listed, Posted
from tests.integration.traffic import (
    Client,
    Connection,
    Consumer,
    Producer,
    UnansweredError,
    at_work,
    tell,
    traffic_seed,
    whole_queue,
)
from tests.live import LiveServer

BACK_SECONDS = 30
"""After this time a service has not recovered; it is meant to take less than 5."""

LONGEST_SECONDS = 20
"""No answer may take longer; the stores give up after 10 seconds at the latest."""

WORK_SECONDS = 60
"""After this time clients that get nothing done will not get anything done."""

PROBE = "/v2/queues/probe"
Request = tuple[str, str, Any]

POST: Request = ("POST", f"{PROBE}/messages", {"messages": [{"body": 1, "ttl": 60}]})

ON_MESSAGES: Sequence[Request] = (
    POST,
    ("GET", f"{PROBE}/messages?echo=true", None),
    ("DELETE", f"{PROBE}/messages?pop=1", None),
    ("POST", f"{PROBE}/claims", {"ttl": 60, "grace": 60}),
    ("GET", f"{PROBE}/stats", None),
    ("GET", "/v2/ping", None),
)
"""Requests that nobody can answer without the message store."""


def until(holds: Callable[[], bool], seconds: float, complaint: str) -> float:
    """Look again and again; gives the seconds it took, and fails after some."""
    began, pause = time.monotonic(), threading.Event()
    while not holds():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{complaint} within {seconds} s")
        pause.wait(0.02)
    return time.monotonic() - began


class OutageCase(SynchronousTestCase):
    """A test with a service of its own.

    :ivar events: what all clients did that have ended.
    :ivar answers: seconds of the slowest answers, also while the store was away.
    :ivar returns: seconds from the return of the store to that of the service.
    """

    def serve(self, **stores: str) -> None:
        """Start the service on the stores of some URIs."""
        options = [f"drivers.{kind}={uri}" for kind, uri in stores.items()]
        words = [word for option in options for word in ("--set", option)]
        self.server = LiveServer(*words)
        self.addCleanup(self.server.remove)
        self.server.start()
        self.random = Random(traffic_seed())
        self.events: list[Event] = []
        self.answers: list[float] = []
        self.returns: list[float] = []

    @contextmanager
    def traffic(
        self, name: str = "", forgetful: bool = False
    ) -> Iterator[list[Client]]:
        """Producers and consumers work as long as this lasts.

        :param name: makes their messages others than those of other times.
        :param forgetful: whether the store may lose what it acknowledged.
        """
        stop, port, seed = threading.Event(), self.server.port, self.random.random()
        clients: list[Client] = [
            *(Producer(f"{name}producer-{n}", port, stop, seed) for n in range(3)),
            *(Consumer(f"{name}consumer-{n}", port, stop, seed) for n in range(3)),
        ]
        for client in clients:
            client.may_forget = forgetful
        with at_work(clients, stop):
            yield clients
        self.events += [event for client in clients for event in client.journal]
        self.answers += [client.slowest for client in clients]

    def let_work(self, clients: Sequence[Client]) -> None:
        """Return when clients got a random amount of work done."""
        for kind, least in ((Posted, 20), (Claimed, 5)):
            done = self._done(clients, kind)
            goal = done + least + self.random.randrange(2 * least)
            until(
                lambda kind=kind, goal=goal: self._done(clients, kind) >= goal,
                WORK_SECONDS,
                f"the clients did not get {goal} times {kind.__name__}",
            )

    def _done(self, clients: Sequence[Client], kind: type[Event]) -> int:
        events = [event for client in clients for event in list(client.journal)]
        return sum(
            isinstance(e, kind) and getattr(e, "ids", True) != () for e in events
        )

    def assert_refused(self, requests: Sequence[Request]) -> None:
        """Every request is answered, by a 503, while the store is away."""
        with ThreadPoolExecutor(len(requests)) as threads:
            refused = list(threads.map(self._status, requests))
        self.assertEqual(refused, [503] * len(requests), requests)

    def assert_returns(self, request: Request, wanted: Sequence[int] = (201,)) -> None:
        """Wait until the service works again; until then it answers 503 in time."""

        def works() -> bool:
            status = self._status(request)
            self.assertIn(status, (*wanted, 503))
            return status != 503

        self.returns.append(until(works, BACK_SECONDS, "no recovery"))

    def _status(self, request: Request) -> int:
        connection = Connection(self.server.port)
        try:
            status, _ = connection.answer(*request)
        finally:
            connection.close()
            self.answers.append(connection.slowest)
        return status

    def listing(self) -> list[Listed]:
        """What the queue of the clients holds at the end."""
        found: list[Listed] = []

        def listed() -> bool:
            try:
                found[:] = whole_queue(self.server.port)
            except UnansweredError:
                return False
            return True

        until(listed, BACK_SECONDS, "the queue could not be listed")
        return found

    def report(self, what: object) -> None:
        """Print what was seen, and judge how long answers took."""
        returns = ", ".join(f"{seconds:.1f}" for seconds in self.returns)
        slowest = max(self.answers)
        tell(f"{what}; slowest answer {slowest:.1f} s; back after {returns} s")
        self.assertLess(slowest, LONGEST_SECONDS)
