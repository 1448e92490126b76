"""A Redis that is killed, or whose master is, while producers and consumers work.

What each setting of Redis may lose is written down in docs/durability.rst.
"""

from __future__ import annotations

from tests.integration.audit import audit, audit_of_forgetful, loss
from tests.on_servers.outage import ON_MESSAGES, POST, OutageCase, until
from tests.servers.redis import RedisServer, SentinelServer, append_only_server

KILLS = 3

REPLICATION_SECONDS = 60
"""Sentinel takes about ten to make a replica of a master that comes back."""


class PersistenceTests(OutageCase):
    """SIGKILL of a single server, and its restart."""

    def serve_from(self, redis: RedisServer) -> None:
        """Start a Redis, and the service on it."""
        self.redis = redis
        self.addCleanup(redis.remove)
        redis.start()
        self.serve(message_store=redis.uri)

    def kill_and_restart(self) -> None:
        """Let the server be away until everything was refused once."""
        self.redis.kill()
        self.assert_refused(ON_MESSAGES)
        self.redis.start()
        self.assert_returns(POST)

    def kill_repeatedly(self) -> None:
        """Kill the server several times under traffic."""
        with self.traffic() as clients:
            for _ in range(KILLS):
                self.let_work(clients)
                self.kill_and_restart()
            self.let_work(clients)

    def test_synced_always(self) -> None:
        """With every write synced nothing that was acknowledged is lost."""
        self.serve_from(append_only_server("always"))
        self.kill_repeatedly()
        listing = self.listing()
        self.report(f"appendfsync always: {loss(self.events, listing)}")
        self.assertEqual(audit(self.events, listing), [])

    def test_synced_every_second(self) -> None:
        """With a sync each second the kernel has the rest: what is kept is whole."""
        self.serve_from(append_only_server("everysec"))
        with self.traffic(forgetful=True) as clients:
            for _ in range(KILLS):
                self.let_work(clients)
                self.kill_and_restart()
            self.let_work(clients)
        listing = self.listing()
        self.report(f"appendfsync everysec: {loss(self.events, listing)}")
        self.assertEqual(audit_of_forgetful(self.events, listing), [])

    def test_snapshots(self) -> None:
        """With snapshots alone the state of the last one comes back, all of it."""
        self.serve_from(RedisServer(["save", "3600", "1000000"]))
        with self.traffic("early ") as clients:
            self.let_work(clients)
        self.redis.ask("SAVE")
        kept = list(self.events)
        with self.traffic("late ", forgetful=True) as clients:
            self.let_work(clients)
            self.redis.kill()
            self.assert_refused(ON_MESSAGES)
        self.redis.start()
        self.assert_returns(POST)
        listing = self.listing()
        self.report(f"snapshots: {loss(self.events, listing)}")
        self.assertEqual(audit(kept, listing), [])

    def test_nothing_kept(self) -> None:
        """Without persistence all is lost, and the service goes on."""
        self.serve_from(RedisServer())
        with self.traffic("early ", forgetful=True) as clients:
            self.let_work(clients)
            self.redis.kill()
            self.assert_refused(ON_MESSAGES)
        self.redis.start()
        self.assert_returns(POST)
        lost = self.listing()
        self.report(f"neither: {loss(self.events, lost)}")
        self.assertEqual(lost, [])
        self.events.clear()
        with self.traffic("late ") as clients:
            self.let_work(clients)
        self.assertEqual(audit(self.events, self.listing()), [])


class FailoverTests(OutageCase):
    """A master with two replicas and a Sentinel, and the death of the master."""

    def serve_from_replicas(self, wait_replicas: int) -> None:
        """Start the servers, and the service on them."""
        self.master = self.started(append_only_server("everysec"))
        where = f"127.0.0.1 {self.master.port}".split()
        self.replicas = [
            self.started(RedisServer(["replicaof", *where])) for _ in range(2)
        ]
        self.sentinel = SentinelServer(self.master)
        self.addCleanup(self.sentinel.remove)
        self.sentinel.start()
        for replica in self.replicas:
            self.sentinel.until_known(replica)
        options = f"master=orders&socket_timeout=2&wait_replicas={wait_replicas}"
        address = f"127.0.0.1:{self.sentinel.port}"
        self.serve(message_store=f"redis+sentinel://{address}/0?{options}")
        # Replicas may still be on their way.
        self.assert_returns(POST)
        self.returns.clear()

    def started(self, server: RedisServer) -> RedisServer:
        """A server, running until the test ends."""
        self.addCleanup(server.remove)
        server.start()
        return server

    def until_all_replicate(self) -> None:
        """Return when the new master has two replicas, as the old one had."""

        def replicates() -> bool:
            roles = [replica.ask("ROLE") for replica in self.replicas]
            return any(role[0] == b"master" and len(role[2]) == 2 for role in roles)

        until(replicates, REPLICATION_SECONDS, "the old master is no replica")

    def test_without_waiting(self) -> None:
        """What a replica did not get in time is lost; what is kept is whole."""
        self.serve_from_replicas(0)
        with self.traffic(forgetful=True) as clients:
            self.let_work(clients)
            self.master.kill()
            self.assert_returns(POST)
            self.let_work(clients)
        listing = self.listing()
        self.report(f"failover: {loss(self.events, listing)}")
        self.assertEqual(audit_of_forgetful(self.events, listing), [])

    def test_waiting_for_all(self) -> None:
        """When all replicas had to have a change, the new master has it.

        The service works when the old master came back as the second replica.
        """
        self.serve_from_replicas(2)
        with self.traffic() as clients:
            self.let_work(clients)
            self.master.kill()
            self.assert_refused([POST])
            self.sentinel.until_succeeded(self.master)
            self.assert_refused([POST])
            self.master.start()
            self.until_all_replicate()
            self.assert_returns(POST)
            self.let_work(clients)
        listing = self.listing()
        self.report(f"failover, wait_replicas=2: {loss(self.events, listing)}")
        self.assertEqual(audit(self.events, listing), [])
