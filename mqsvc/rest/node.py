"""``/v2/ping`` and ``/v2/health``: is this process able to work (rest.md 5.3, 5.4)."""

from __future__ import annotations

from attrs import frozen

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.health import Health
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Entry, Route


@frozen
class NodeResource:
    """Handlers about the process itself.

    :ivar _admin_mode: whether the health report exists here.
    """

    _health: Health
    _admin_mode: bool

    def routes(self) -> list[Route]:
        """The table of paths."""
        ping = {
            "GET": Entry("ping:get", self.ping),
            "HEAD": Entry("ping:get", self.alive),
        }
        health = {"GET": Entry("health:get", self.report)}
        routes = [Route("/v2/ping", ping)]
        return [*routes, Route("/v2/health", health)] if self._admin_mode else routes

    async def alive(self, _: Call) -> Answer:
        """Whether the process runs."""
        return Answer(204)

    async def ping(self, _: Call) -> Answer:
        """Whether the stores answer."""
        try:
            await self._health.ping()
        except StoreUnavailable:
            return Answer(503, b"")
        return Answer(204)

    async def report(self, _: Call) -> Answer:
        """How each kind of operation works at the moment."""
        return Answer(200, await self._health.report())
