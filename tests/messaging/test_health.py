"""Health: what load balancers and operators are told."""

from __future__ import annotations

from mqsvc.messaging.errors import StoreUnavailable
from tests.messaging.case import OperationsTestCase

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
