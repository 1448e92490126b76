"""``/v2/ping`` and ``/v2/health``: is this process able to work (rest.md 5.3, 5.4)."""

from __future__ import annotations

from attrs import frozen

from mqsvc.access.identity import ADMIN
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.health import Health
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Route


@frozen
class NodeResource:
    """Handlers about the process itself.

    :ivar _admin_mode: whether the health report exists here.
    """

    _health: Health
    _admin_mode: bool

    def routes(self) -> list[Route]:
        """The table of paths."""
        routes = [Route("/v2/ping", {"GET": self.ping, "HEAD": self.alive})]
        if self._admin_mode:
            routes.append(Route("/v2/health", {"GET": self.report}))
        return routes

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

    async def report(self, call: Call) -> Answer:
        """How each kind of operation works at the moment."""
        call.caller.require_role(ADMIN)
        return Answer(200, await self._health.report())
