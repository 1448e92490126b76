"""Probes for load balancers and supervisors, open to everybody.

``/healthz`` says that the process answers, ``/readyz`` that it can do its work: its
stores answer, and it is not about to stop.
"""

from __future__ import annotations

from attrs import frozen

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.health import Health
from mqsvc.messaging.waiting import Waiting
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Entry, Route


@frozen
class ProbeResource:
    """Handlers for the probes."""

    _health: Health
    _waiting: Waiting

    def routes(self) -> list[Route]:
        """The table of paths."""
        return [
            Route("/healthz", {"GET": Entry("", self.alive)}, is_open=True),
            Route("/readyz", {"GET": Entry("", self.ready)}, is_open=True),
        ]

    async def alive(self, _: Call) -> Answer:
        """The process answers."""
        return Answer(200, {"status": "ok"})

    async def ready(self, _: Call) -> Answer:
        """The service can work; 503 when it cannot."""
        if self._waiting.is_finishing:
            raise StoreUnavailable("The service is stopping.")
        await self._health.ping()
        return Answer(200, {"status": "ok"})
