"""A management store whose server is killed while clients change the catalog."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tests.integration.traffic import at_work
from tests.on_servers.catalog import Owner
from tests.on_servers.outage import PROBE, WORK_SECONDS, OutageCase, Request, until
from tests.servers.mariadb import MariaDBServer
from tests.servers.mongodb import MongoServer
from tests.servers.postgresql import PostgreSQLServer
from tests.servers.process import ServerProcess

KILLS = 2

CREATE: Request = ("PUT", PROBE, {})

ON_THE_CATALOG: Sequence[Request] = (
    CREATE,
    ("GET", PROBE, None),
    ("GET", "/v2/queues", None),
    ("POST", "/v2/queues/unknown/messages", {"messages": [{"body": 1, "ttl": 60}]}),
    ("DELETE", PROBE, None),
    ("GET", f"{PROBE}/subscriptions", None),
    ("GET", "/v2/ping", None),
)
"""Requests that nobody can answer without the management store."""


class ManagementFailureTests(OutageCase):
    """SIGKILL and restart of the server of the catalog."""

    def assert_survives(self, store: ServerProcess, uri: str) -> None:
        """Nothing that was acknowledged is lost, and all is refused meanwhile."""
        self.serve(management_store=uri)
        stop = threading.Event()
        owners = [
            Owner(f"owner-{n}", self.server.port, stop, self.random.random())
            for n in range(3)
        ]
        with at_work(owners, stop):
            for _ in range(KILLS):
                self.work(owners)
                store.kill()
                self.assert_refused(ON_THE_CATALOG)
                store.start()
                self.assert_returns(CREATE, (201, 204))
            self.work(owners)
        self.answers += [owner.slowest for owner in owners]
        self.report(f"{store.name}: {self.done(owners)} requests")
        complaints = [owner.audit(self.server.port) for owner in owners]
        self.assertEqual(complaints, [[], [], []])

    def work(self, owners: Sequence[Owner]) -> None:
        """Return when a random number of requests was answered."""
        goal = self.done(owners) + 30 + self.random.randrange(50)
        until(
            lambda: self.done(owners) >= goal,
            WORK_SECONDS,
            f"{goal} requests were not answered",
        )

    def done(self, owners: Sequence[Owner]) -> int:
        """How many requests were answered."""
        return sum(owner.done for owner in owners)

    def started(self, server: ServerProcess) -> None:
        """Start a server, until the test ends."""
        self.addCleanup(server.remove)
        server.start()

    def test_postgresql(self) -> None:
        """PostgreSQL."""
        server = PostgreSQLServer()
        self.started(server)
        self.assert_survives(server, server.uri(server.new_database()))

    def test_mariadb(self) -> None:
        """MariaDB."""
        server = MariaDBServer()
        self.started(server)
        self.assert_survives(server, server.uri(server.new_database()))

    def test_mongodb(self) -> None:
        """A mongod that stands alone."""
        server = MongoServer()
        self.started(server)
        self.assert_survives(server, server.uri("catalog"))
