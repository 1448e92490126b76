"""A mongod or a primary that is killed while producers and consumers work."""

from __future__ import annotations

from tests.integration.audit import audit, loss
from tests.on_servers.outage import ON_MESSAGES, POST, OutageCase
from tests.servers.mongodb import MongoServer, ReplicaSet

KILLS = 2


class MongoDBFailureTests(OutageCase):
    """SIGKILL under traffic."""

    def assert_nothing_lost(self, what: str) -> None:
        """Compare what the clients were told with what is there."""
        listing = self.listing()
        self.report(f"{what}: {loss(self.events, listing)}")
        self.assertEqual(audit(self.events, listing), [])

    def test_stand_alone(self) -> None:
        """A server that is killed and restarted has all that was acknowledged."""
        mongod = MongoServer()
        self.addCleanup(mongod.remove)
        mongod.start()
        self.serve(message_store=mongod.uri("killed"))
        with self.traffic() as clients:
            for _ in range(KILLS):
                self.let_work(clients)
                mongod.kill()
                self.assert_refused(ON_MESSAGES)
                mongod.start()
                self.assert_returns(POST)
            self.let_work(clients)
        self.assert_nothing_lost("mongod")

    def test_primary(self) -> None:
        """A primary that is killed has a successor with all that was acknowledged."""
        members = ReplicaSet(3)
        self.addCleanup(members.remove)
        members.start()
        self.serve(message_store=members.uri("succeeded"))
        with self.traffic() as clients:
            for _ in range(KILLS):
                self.let_work(clients)
                primary = members.primary()
                primary.kill()
                self.assert_returns(POST)
                self.let_work(clients)
                primary.start()
        self.assert_nothing_lost("primary of three")
