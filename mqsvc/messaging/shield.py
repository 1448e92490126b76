"""Steps that go on when whoever asked for them has left."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import MessagingError

log = Logger()

Result = TypeVar("Result")


def shielded(step: Deferred[Result]) -> Deferred[Result]:
    """Fires like the step; cancelling it leaves the step alone."""
    answer: Deferred[Result] = Deferred()
    step.chainDeferred(answer)
    return answer


async def finished(step: Deferred[Result]) -> Result:
    """What the step comes to; who is cancelled meanwhile goes on when it is over."""
    outcome: Deferred[Result] = Deferred()
    over: Deferred[None] = Deferred()
    step.chainDeferred(outcome)
    step.addCallback(lambda _: over.callback(None))
    with suppress(CancelledError):
        await over
    return await outcome


def unheard(failure: Failure) -> None:
    """Log what goes wrong when nobody is left to be told, unless it is a refusal."""
    if failure.check(MessagingError, CancelledError) is None:
        log.failure("A step whose caller has left failed", failure)


def _ignored(rest: Deferred[Any]) -> None:
    rest.addErrback(unheard)


@coroutine
def to_its_end(
    step: Coroutine[Deferred[Any], Any, Result],
    left: Callable[[Deferred[Result]], object] = _ignored,
    come: object = None,
) -> Generator[Deferred[list[object]], list[object], Result]:
    """Await a step that goes on to its end when whoever awaits it is cancelled.

    As long as nobody leaves it is driven like any other one, and so costs little.

    :param left: told of the rest of the step, once somebody has left.
    :param come: what the step waits for, if it has begun.
    """
    while True:
        try:
            if isinstance(come, Failure):
                awaited = come.throwExceptionIntoGenerator(step)
            else:
                awaited = step.send(come)
        except StopIteration as end:
            result: Result = end.value
            return result
        # In its place: this may be cancelled.
        ready: Deferred[list[object]] = Deferred()
        awaited.addBoth(_go_on, ready, step, left)
        # A failure is for the step alone: what is raised here ends the waiting.
        [come] = yield ready


def _go_on(
    come: object,
    ready: Deferred[list[object]],
    step: Coroutine[Deferred[Any], Any, Result],
    left: Callable[[Deferred[Result]], object],
) -> None:
    if not ready.called:
        ready.callback([come])
    else:
        left(Deferred.fromCoroutine(to_its_end(step, left, come)))
