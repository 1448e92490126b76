"""``/v2/flavors``: kinds of pools that queues can ask for (rest.md 5.31)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from attrs import frozen

from mqsvc.messaging.errors import UnusableFlavor
from mqsvc.messaging.flavors import CAPABILITIES, Flavors
from mqsvc.messaging.model import Flavor
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.query import next_links
from mqsvc.rest.route import Entry, Route

_BASE = "/v2/flavors"


@frozen
class FlavorResource:
    """Handlers for flavors: everybody may look, administrators change them."""

    _flavors: Flavors

    def routes(self) -> list[Route]:
        """The table of paths."""
        item = {
            "GET": Entry("flavors:get", self.get),
            "PUT": Entry("flavors:create", self.put),
            "PATCH": Entry("flavors:update", self.change),
            "DELETE": Entry("flavors:delete", self.delete),
        }
        return [
            Route(_BASE, {"GET": Entry("flavors:get_all", self.page)}),
            Route(f"{_BASE}/<flavor>", item),
        ]

    async def page(self, call: Call) -> Answer:
        """List flavors by name."""
        query = call.query
        limit, detailed = query.integer("limit"), query.boolean("detailed")
        flavors = await self._flavors.page(limit, query.text("marker") or "")
        links = []
        if flavors:
            parameters = {
                "limit": limit,
                "detailed": detailed,
                "marker": flavors[-1].name,
            }
            links = next_links(_BASE, parameters)
        found = [_shape(flavor, bool(detailed)) for flavor in flavors]
        return Answer(200, {"links": links, "flavors": found})

    async def get(self, call: Call) -> Answer:
        """One flavor."""
        flavor = await self._flavors.get(call.arguments["flavor"])
        return Answer(200, _shape(flavor))

    async def put(self, call: Call) -> Answer:
        """Make a flavor or replace it."""
        name = call.arguments["flavor"]
        location = _path(name)
        try:
            await self._flavors.put(name, call.required_object())
        except UnusableFlavor as error:
            raise UnusableFlavor(error.title, error.description, location) from error
        return Answer(201, headers={"location": location})

    async def change(self, call: Call) -> Answer:
        """Replace the pools of a flavor."""
        flavor = await self._flavors.change(
            call.arguments["flavor"], call.required_object()
        )
        return Answer(200, _shape(flavor))

    async def delete(self, call: Call) -> Answer:
        """Remove a flavor."""
        await self._flavors.delete(call.arguments["flavor"])
        return Answer(204)


def _shape(flavor: Flavor, is_detailed: bool = True) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "name": flavor.name,
        "href": _path(flavor.name),
        "pool_list": list(flavor.pools),
    }
    return shape | {"capabilities": list(CAPABILITIES)} if is_detailed else shape


def _path(name: str) -> str:
    return f"{_BASE}/{quote(name, safe='')}"
