"""``/v2/pools``: message stores that queues can be placed in (rest.md 5.30)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from attrs import frozen

from mqsvc.messaging.model import Pool
from mqsvc.messaging.pools import Pools
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.query import next_links
from mqsvc.rest.route import Entry, Route

_BASE = "/v2/pools"


@frozen
class PoolResource:
    """Handlers for pools; all of them are for administrators."""

    _pools: Pools

    def routes(self) -> list[Route]:
        """The table of paths."""
        item = {
            "GET": Entry("pools:get", self.get),
            "PUT": Entry("pools:create", self.put),
            "PATCH": Entry("pools:update", self.change),
            "DELETE": Entry("pools:delete", self.delete),
        }
        return [
            Route(_BASE, {"GET": Entry("pools:get_all", self.page)}),
            Route(f"{_BASE}/<pool>", item),
        ]

    async def page(self, call: Call) -> Answer:
        """List pools by name."""
        query = call.query
        limit, detailed = query.integer("limit"), query.boolean("detailed")
        pools = await self._pools.page(limit, query.text("marker") or "")
        links = []
        if pools:
            parameters = {
                "limit": limit,
                "detailed": detailed,
                "marker": pools[-1].name,
            }
            links = next_links(_BASE, parameters)
        found = [_shape(pool, bool(detailed)) for pool in pools]
        return Answer(
            200, {"links": links, "pools": found}, {"content-location": call.target}
        )

    async def get(self, call: Call) -> Answer:
        """One pool."""
        detailed = call.query.boolean("detailed")
        pool = await self._pools.get(call.arguments["pool"])
        return Answer(200, _shape(pool, bool(detailed)))

    async def put(self, call: Call) -> Answer:
        """Make a pool or replace it."""
        name = call.arguments["pool"]
        await self._pools.put(name, call.required_object())
        return Answer(201, headers={"location": _path(name)})

    async def change(self, call: Call) -> Answer:
        """Change some of what a pool has."""
        pool = await self._pools.change(call.arguments["pool"], call.required_object())
        return Answer(200, _shape(pool, is_detailed=False))

    async def delete(self, call: Call) -> Answer:
        """Remove a pool."""
        await self._pools.delete(call.arguments["pool"])
        return Answer(204)


def _shape(pool: Pool, is_detailed: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "name": pool.name,
        "flavor": pool.flavor,
        "uri": pool.uri,
        "weight": pool.weight,
        "href": _path(pool.name),
    }
    return shape | {"options": pool.options} if is_detailed else shape


def _path(name: str) -> str:
    return f"{_BASE}/{quote(name, safe='')}"
