"""What a supervisor tells a worker."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus.board import Place
from mqsvc.config import Settings, load
from mqsvc.messaging.quotas import QuotaLimits
from mqsvc.workers.assignment import Assignment, share_of


def assignment(settings: Settings, workers: int = 2) -> Assignment:
    """One for the second worker."""
    place = Place("/d/workers", 1, workers)
    return Assignment(settings, "/d", 3, place, "twisted.internet.x", {"http": 4})


class AssignmentTests(SynchronousTestCase):
    """On its way to the worker, and in its hands."""

    def test_sent(self) -> None:
        """It arrives as it was sent, with secrets and tables of any types."""
        path = Path(self.mktemp())
        path.write_text(
            'signed_url.secret_key = "hidden"\n[stages.x]\nday = 2026-11-23\n'
        )
        sent = assignment(load(str(path), {}, ["admin_mode=true"]))
        received = Assignment.read(io.BytesIO(sent.written()))
        self.assertEqual(sent, received)
        self.assertEqual("hidden", received.settings.signed_url.secret_key)
        day = received.settings.stages.by_name["x"]["day"]
        self.assertEqual(datetime.date(2026, 11, 23), day)

    def test_no_supervisor(self) -> None:
        """Without a supervisor there is nothing to read."""
        self.assertRaises(EOFError, Assignment.read, io.BytesIO())

    def test_secrets(self) -> None:
        """It does not show the settings, which may hold secrets."""
        sent = assignment(load(None, {}, ["signed_url.secret_key=hidden"]))
        self.assertNotIn("hidden", repr(sent))

    def test_share(self) -> None:
        """A worker allows its part of what each counts, rounded up."""
        limits = QuotaLimits(max_queues=5, messages_per_second=10, max_connections=7)
        self.assertEqual(
            QuotaLimits(max_queues=5, messages_per_second=4, max_connections=3),
            share_of(limits, 3),
        )
        settings = load(None, {}, ["quotas.max_connections=7", "http=tcp:1"])
        share = assignment(settings).share
        self.assertEqual((4, "tcp:1"), (share.quotas.max_connections, share.http))

    def test_no_bound(self) -> None:
        """No bound has no parts."""
        self.assertEqual(QuotaLimits(), share_of(QuotaLimits(), 3))
