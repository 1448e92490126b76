"""Steps that go on when whoever asked for them has left."""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred

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
