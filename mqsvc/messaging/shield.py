"""Steps that go on when whoever asked for them has left."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred

Result = TypeVar("Result")


def shielded(step: Deferred[Result]) -> Deferred[Result]:
    """Fires like the step; cancelling it leaves the step alone."""
    answer: Deferred[Result] = Deferred()
    step.chainDeferred(answer)
    return answer
