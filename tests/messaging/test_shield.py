"""Steps that go on when whoever asked for them has left."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.shield import finished, shielded


class ShieldTests(SynchronousTestCase):
    """A step behind a shield."""

    def setUp(self) -> None:
        """Have a step under way that must not be cancelled."""
        self.cancelled: list[Deferred[int]] = []
        self.step: Deferred[int] = Deferred(self.cancelled.append)
        self.answer = shielded(self.step)

    def test_success(self) -> None:
        """The result of the step is the result."""
        self.assertNoResult(self.answer)
        self.step.callback(1)
        self.assertEqual(1, self.successResultOf(self.answer))

    def test_failure(self) -> None:
        """The failure of the step is the failure."""
        self.step.errback(ValueError())
        self.failureResultOf(self.answer, ValueError)

    def test_cancel(self) -> None:
        """Who cancels is free at once, and the step goes on to any end."""
        for end in (
            lambda: self.step.callback(1),
            lambda: self.step.errback(OSError()),
        ):
            self.setUp()
            self.answer.cancel()
            self.failureResultOf(self.answer, CancelledError)
            self.assertEqual([], self.cancelled)
            end()


class FinishedTests(SynchronousTestCase):
    """Steps that are waited for in spite of all."""

    def test_cancelled(self) -> None:
        """Who is cancelled goes on when the step is over, and has what came of it."""
        step: Deferred[int] = Deferred()
        waiting = Deferred.fromCoroutine(finished(step))
        waiting.cancel()
        self.assertNoResult(waiting)
        step.callback(5)
        self.assertEqual(5, self.successResultOf(waiting))

    def test_failed(self) -> None:
        """A step that fails does so for who waits."""
        step: Deferred[int] = Deferred()
        waiting = Deferred.fromCoroutine(finished(step))
        step.errback(ValueError())
        self.failureResultOf(waiting, ValueError)
