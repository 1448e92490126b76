"""The log of administrative actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.audit import AuditLog
from mqsvc.access.identity import Caller

CALLER = Caller("p1", "c1", frozenset({"member", "admin"}), "ann")


class AuditLogTests(SynchronousTestCase):
    """What is written, and where."""

    def setUp(self) -> None:
        """Begin a log."""
        self.path = Path(self.mktemp())
        self.audit = AuditLog(str(self.path), lambda: 1_800_000_000_123)

    def record(self, rule: str = "queues:delete") -> None:
        """Record one action."""
        self.audit.record(CALLER, rule, "/v2/queues/q", 204, "req-1")

    def lines(self) -> list[Any]:
        """What the log holds."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def test_line(self) -> None:
        """A line says who did what to what, when, and how it ended."""
        self.record()
        wanted = {
            "time": "2027-01-15T08:00:00.123+00:00",
            "action": "queues:delete",
            "target": "/v2/queues/q",
            "status": 204,
            "project": "p1",
            "user": "ann",
            "roles": ["admin", "member"],
            "client_id": "c1",
            "request_id": "req-1",
        }
        self.assertEqual(self.lines(), [wanted])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_which(self) -> None:
        """Actions that change queues and the like are recorded, use of them is not."""
        for rule in ("topics:create", "subscription:confirm", "pools:update"):
            self.assertTrue(self.audit.keeps(rule), rule)
        for rule in ("queues:get", "messages:create", "claims:delete", "ping:get", ""):
            self.assertFalse(self.audit.keeps(rule), rule)

    def test_rotated(self) -> None:
        """A log that was moved away is begun anew."""
        self.record()
        self.path.rename(f"{self.path}.1")
        self.record()
        self.assertEqual(len(self.lines()), 1)

    def test_unwritable(self) -> None:
        """A log that cannot be written to stops no action, and says so."""
        self.path.mkdir()
        with capturedLogs() as logged:
            self.record()
        self.assertIn("Is a directory", str(logged[0]["error"]))

    def test_off(self) -> None:
        """Without a path nothing is recorded."""
        self.assertFalse(AuditLog("", lambda: 0).keeps("queues:delete"))
