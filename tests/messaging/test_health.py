"""Health: what load balancers and operators are told."""

from __future__ import annotations

from typing import Any

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Kind
from tests.messaging.case import OperationsTestCase
from tests.messaging.pooled import PooledTestCase

STEPS = [
    "create_queue",
    "post_messages",
    "claim_messages",
    "list_messages",
    "delete_messages",
    "delete_claim",
    "bulk_delete_messages",
    "delete_queue",
]


class HealthTests(OperationsTestCase):
    """Ping and report over stores that work, or of which one does not."""

    def test_ping(self) -> None:
        """A ping asks both stores."""
        self.done(self.operations.health.ping())
        self.assertEqual(
            (["ping"], ["ping"]), (self.management.calls, self.messages.calls)
        )

    def test_ping_soon_after(self) -> None:
        """Stores that answered are not asked again until half a second has passed."""
        self.done(self.operations.health.ping())
        self.clock.advance(0.4)
        self.done(self.operations.health.ping())
        self.assertEqual(["ping"], self.messages.calls)
        self.clock.advance(0.1)
        self.done(self.operations.health.ping())
        self.assertEqual(["ping"] * 2, self.messages.calls)

    def test_ping_after_failure(self) -> None:
        """A failure is not remembered, and a success before it is forgotten."""
        self.done(self.operations.health.ping())
        self.clock.advance(0.5)
        self.messages.broken = {"ping"}
        self.fails(StoreUnavailable, self.operations.health.ping())
        self.messages.broken = set()
        self.done(self.operations.health.ping())

    def test_one_store_down(self) -> None:
        """A ping fails when either store does not answer."""
        for store in (self.management, self.messages):
            store.broken = {"ping"}
            self.fails(StoreUnavailable, self.operations.health.ping())
            report = self.done(self.operations.health.report())
            self.assertIs(False, report["storage_reachable"])
            store.broken = set()

    def test_report(self) -> None:
        """Every step is done once, in order, and nothing refers to the log."""
        report = self.done(self.operations.health.report())
        self.assertEqual({"storage_reachable", "operation_status"}, set(report))
        self.assertIs(True, report["storage_reachable"])
        self.assertEqual(STEPS, list(report["operation_status"]))
        for step in report["operation_status"].values():
            self.assertEqual({"succeeded": True, "seconds": 0.0, "ref": None}, step)
        self.assertLessEqual(
            {"post", "claim", "page", "pop", "release", "delete", "clear"},
            set(self.messages.calls),
        )
        self.leaves_nothing()

    def test_seconds(self) -> None:
        """The time that a step took is that of the clock."""
        answer = self.messages.hold_answer("page")
        reporting = self.start(self.operations.health.report())
        self.clock.advance(2.5)
        answer.callback(None)
        report = self.successResultOf(reporting)
        seconds = {
            name: step["seconds"] for name, step in report["operation_status"].items()
        }
        self.assertEqual({**dict.fromkeys(STEPS, 0.0), "list_messages": 2.5}, seconds)

    def test_beside_each_other(self) -> None:
        """Two reports at the same time do not take each other's messages."""
        answer = self.messages.hold_answer("claim")
        first = self.start(self.operations.health.report())
        second = self.done(self.operations.health.report())
        answer.callback(None)
        for report in (self.successResultOf(first), second):
            self.assertTrue(
                all(step["succeeded"] for step in report["operation_status"].values())
            )

    def test_leaves_no_record(self) -> None:
        """A queue that cannot be cleared is taken out of the catalog all the same."""
        self.messages.broken = {"clear"}
        report = self.done(self.operations.health.report())
        self.assertIs(False, report["operation_status"]["delete_queue"]["succeeded"])
        self.assertEqual(1, len(self.flushLoggedErrors(StoreUnavailable)))
        queues = self.operations.queues
        self.assertEqual(0, self.done(queues.count("mqsvc-health", Kind.QUEUE)))


class PooledHealthTests(PooledTestCase):
    """The report on each pool by itself."""

    def setUp(self) -> None:
        """Make two pools."""
        super().setUp()
        for name in ("a", "b"):
            self.add_pool(name)

    def report(self) -> dict[str, Any]:
        """The report."""
        report: dict[str, Any] = self.done(self.operations.health.report())
        return report

    def succeeded(self, pool: dict[str, Any]) -> set[bool]:
        """Whether the steps of the report of a pool succeeded."""
        return {step["succeeded"] for step in pool["operation_status"].values()}

    def test_each_in_its_place(self) -> None:
        """The exercise of a pool goes to that pool and to no other."""
        report = self.report()
        self.assertEqual(["catalog_reachable", "default", "a", "b"], list(report))
        for store in (self.messages, *self.stores.values()):
            self.assertEqual(1, store.calls.count("post"))
        self.leaves_nothing()

    def test_dead_pool(self) -> None:
        """A pool that is dead is the only one to be said so, and stays removable."""
        self.report()
        self.stores["test:a"].broken = {
            *("ping", "post", "page", "claim", "pop", "clear", "release", "delete"),
        }
        report = self.report()
        self.assertTrue(self.flushLoggedErrors(StoreUnavailable))
        reachable = [
            report[name]["storage_reachable"] for name in ("default", "a", "b")
        ]
        self.assertEqual([True, False, True], reachable)
        self.assertIn(False, self.succeeded(report["a"]))
        for name in ("default", "b"):
            self.assertEqual({True}, self.succeeded(report[name]))
        self.done(self.administration.pools.delete("a"))

    def test_pool_that_cannot_be_opened(self) -> None:
        """A pool whose store is not there fails in every step but those of records."""
        self.done(self.administration.pools.change("a", {"uri": "test:c"}))
        self.patch(self.pooled._stores, "_open_store", self.refuse)
        report = self.report()
        self.assertTrue(self.flushLoggedErrors())
        self.assertIs(False, report["a"]["storage_reachable"])
        self.assertIs(True, report["default"]["storage_reachable"])

    def refuse(self, uri: str, options: Any) -> Any:
        """Open nothing."""
        return self._open("nowhere:", options)

    def test_catalog(self) -> None:
        """Without the catalog nothing works, and the pools are not known."""
        self.management.broken = {
            *("ping", "pools", "create", "get", "delete", "pool"),
        }
        report = self.report()
        self.flushLoggedErrors(StoreUnavailable)
        self.assertEqual({"catalog_reachable", "default"}, set(report))
        self.assertIs(False, report["catalog_reachable"])
        self.assertIn(False, self.succeeded(report["default"]))
