"""``.../subscriptions/ID/deliveries``: what came of notifications.

``GET`` shows the last attempts and what was given up; ``POST`` delivers that again.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mqsvc.notification.deliveries import Deliveries
from mqsvc.notification.entries import Attempt
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.shapes import timestamp


@frozen
class DeliveryResource:
    """Handlers for the deliveries of a subscription."""

    _deliveries: Deliveries

    async def show(self, call: Call) -> Answer:
        """The last attempts, newest first, and what was given up, oldest first."""
        report = await self._deliveries.report(
            call.destination, call.arguments["subscription_id"]
        )
        given_up = [
            {"delivery_id": each.id, "attempts": each.attempt}
            for each in report.given_up
        ]
        attempts = [_shape(attempt) for attempt in report.attempts]
        return Answer(200, {"attempts": attempts, "given_up": given_up})

    async def resend(self, call: Call) -> Answer:
        """Deliver again what was given up."""
        count = await self._deliveries.resend(
            call.destination, call.arguments["subscription_id"], call.object()
        )
        return Answer(200, {"resent": count})


def _shape(attempt: Attempt) -> dict[str, Any]:
    next_try = attempt.next_try
    return {
        "delivery_id": attempt.delivery,
        "attempt": attempt.attempt,
        "time": timestamp(attempt.time),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "duration": attempt.duration,
        "error": attempt.error,
        "next_try": None if next_try is None else timestamp(next_try),
    }
