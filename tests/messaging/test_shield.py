"""Steps that go on when whoever asked for them has left."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.shield import finished, shielded, to_its_end


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


class ToItsEndTests(SynchronousTestCase):
    """Steps that are driven by whoever awaits them, as long as somebody does."""

    def setUp(self) -> None:
        """Begin a step that awaits two things, and have somebody await it."""
        self.awaited: list[Deferred[int]] = [Deferred(), Deferred()]
        self.came: list[object] = []
        self.rests: list[Deferred[int]] = []
        self.caller = Deferred.fromCoroutine(self.call())

    async def call(self) -> int:
        """Await the step."""
        return await to_its_end(self.step(), self.rests.append)

    async def step(self) -> int:
        """Await both, whatever comes of them, and give their sum."""
        for each in self.awaited:
            try:
                self.came.append(await each)
            except ValueError as error:
                self.came.append(error)
        return sum(number for number in self.came if isinstance(number, int))

    def test_at_once(self) -> None:
        """A step that need not wait is over at once."""

        async def call() -> int:
            return await to_its_end(one())

        async def one() -> int:
            return 1

        self.assertEqual(1, self.successResultOf(Deferred.fromCoroutine(call())))

    def test_success(self) -> None:
        """The result of the step is the result."""
        self.awaited[0].callback(1)
        self.assertNoResult(self.caller)
        self.awaited[1].callback(2)
        self.assertEqual(3, self.successResultOf(self.caller))
        self.assertEqual([], self.rests)

    def test_failure_inside(self) -> None:
        """What fails in the step does so for the step, which may go on."""
        error = ValueError()
        self.awaited[0].errback(error)
        self.assertEqual([error], self.came)
        self.awaited[1].callback(2)
        self.assertEqual(2, self.successResultOf(self.caller))

    def test_failure(self) -> None:
        """The failure of the step is the failure."""
        self.awaited[0].errback(OSError())
        self.failureResultOf(self.caller, OSError)

    def test_cancelled_inside(self) -> None:
        """Who cancels what the step awaits ends the step."""
        self.awaited[0].cancel()
        self.failureResultOf(self.caller, CancelledError)
        self.assertEqual([], self.rests)

    def test_left(self) -> None:
        """Who leaves is free at once, and the step goes on to its end."""
        self.awaited[0].callback(1)
        self.caller.cancel()
        self.failureResultOf(self.caller, CancelledError)
        self.awaited[1].callback(2)
        (rest,) = self.rests
        self.assertEqual(3, self.successResultOf(rest))

    def test_left_early(self) -> None:
        """The rest waits as often as it has to, and may see failures."""
        self.caller.cancel()
        self.failureResultOf(self.caller, CancelledError)
        self.awaited[0].errback(ValueError())
        (rest,) = self.rests
        self.assertNoResult(rest)
        self.awaited[1].errback(OSError())
        self.failureResultOf(rest, OSError)

    def left_with(self, error: Exception) -> None:
        """A step fails when everybody has left."""

        async def call() -> int:
            return await to_its_end(self.step())

        self.awaited = [Deferred()]
        caller = Deferred.fromCoroutine(call())
        caller.cancel()
        self.failureResultOf(caller, CancelledError)
        self.awaited[0].errback(error)

    def test_nobody_listens(self) -> None:
        """A refusal for which everybody has left is no event."""
        self.left_with(StoreUnavailable())

    def test_bug(self) -> None:
        """A bug is logged, also when everybody has left."""
        self.left_with(OSError())
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


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
