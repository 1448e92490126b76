"""Actions on the service itself, its pools and flavors (websocket.md 5.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import NotFound
from mqsvc.messaging.flavors import CAPABILITIES, Flavors
from mqsvc.messaging.health import Health
from mqsvc.messaging.model import Flavor, Pool
from mqsvc.messaging.operations import Administration
from mqsvc.messaging.pools import Pools
from mqsvc.websocket.call import Action, Call
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.schema import Schema

_LISTING = "marker limit detailed"


@frozen
class NodeActions:
    """What can be asked of the process.

    :ivar _home: the document that HTTP serves at ``/v2/``.
    :ivar _admin_mode: whether there is a health report.
    """

    _health: Health
    _home: Mapping[str, Any]
    _admin_mode: bool

    def table(self) -> dict[str, Action]:
        """The actions by name; the later names are those of the client library."""
        home = Action(self.home, Schema(), "")
        ping = Action(self.ping, Schema(), "ping:get")
        health = Action(self.report, Schema(), "health:get")
        actions = {"get_home_doc": home, "ping_node": ping, "check_node_health": health}
        return actions | {"homedoc": home, "ping": ping, "health": health}

    async def home(self, _: Call) -> Reply:
        """What there is."""
        return Reply(200, self._home)

    async def ping(self, _: Call) -> Reply:
        """Whether the stores answer."""
        await self._health.ping()
        return Reply(204)

    async def report(self, _: Call) -> Reply:
        """How each kind of operation works at the moment."""
        if not self._admin_mode:
            raise NotFound("This server does not report its health.")
        return Reply(200, await self._health.report())


@frozen
class PoolActions:
    """What administrators can do with pools.

    :ivar _administration: none where there are no pools.
    """

    _administration: Administration | None

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        listing, one = Schema.of("", _LISTING), Schema.of("pool_name")
        shown = Schema.of("pool_name", "detailed")
        return {
            "pool_list": Action(self.page, listing, "pools:get_all"),
            "pool_create": Action(self.create, one, "pools:create"),
            "pool_update": Action(self.update, one, "pools:update"),
            "pool_get": Action(self.get, shown, "pools:get"),
            "pool_get_detail": Action(self.detail, one, "pools:get"),
            "pool_delete": Action(self.delete, one, "pools:delete"),
        }

    @property
    def _pools(self) -> Pools:
        return _existing(self._administration).pools

    async def page(self, call: Call) -> Reply:
        """List pools by name."""
        body = call.body
        pools = await self._pools.page(body.get("limit"), body.get("marker", ""))
        is_detailed = body.get("detailed", False)
        return _page("pools", [_pool(pool, is_detailed) for pool in pools])

    async def create(self, call: Call) -> Reply:
        """Make a pool or replace it."""
        name = call.body["pool_name"]
        await self._pools.put(name, call.document("pool_name"))
        return Reply(201, f"Pool {name} created.")

    async def update(self, call: Call) -> Reply:
        """Change some of what a pool has."""
        name = call.body["pool_name"]
        pool = await self._pools.change(name, call.document("pool_name"))
        return Reply(200, _pool(pool, is_detailed=False))

    async def get(self, call: Call) -> Reply:
        """One pool."""
        pool = await self._pools.get(call.body["pool_name"])
        return Reply(200, _pool(pool, call.body.get("detailed", False)))

    async def detail(self, call: Call) -> Reply:
        """One pool with its options."""
        pool = await self._pools.get(call.body["pool_name"])
        return Reply(200, _pool(pool, is_detailed=True))

    async def delete(self, call: Call) -> Reply:
        """Remove a pool."""
        name = call.body["pool_name"]
        await self._pools.delete(name)
        return Reply(204, f"Pool {name} removed.")


@frozen
class FlavorActions:
    """What can be done with flavors; administrators change them.

    :ivar _administration: none where there are no pools.
    """

    _administration: Administration | None

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        listing, one = Schema.of("", _LISTING), Schema.of("flavor_name")
        return {
            "flavor_list": Action(self.page, listing, "flavors:get_all"),
            "flavor_create": Action(self.create, one, "flavors:create"),
            "flavor_update": Action(self.update, one, "flavors:update"),
            "flavor_get": Action(self.get, one, "flavors:get"),
            "flavor_delete": Action(self.delete, one, "flavors:delete"),
        }

    @property
    def _flavors(self) -> Flavors:
        return _existing(self._administration).flavors

    async def page(self, call: Call) -> Reply:
        """List flavors by name."""
        body = call.body
        flavors = await self._flavors.page(body.get("limit"), body.get("marker", ""))
        is_detailed = body.get("detailed", False)
        return _page("flavors", [_flavor(flavor, is_detailed) for flavor in flavors])

    async def create(self, call: Call) -> Reply:
        """Make a flavor or replace it."""
        name = call.body["flavor_name"]
        await self._flavors.put(name, call.document("flavor_name"))
        return Reply(201, f"Flavor {name} created.")

    async def update(self, call: Call) -> Reply:
        """Replace the pools of a flavor."""
        name = call.body["flavor_name"]
        flavor = await self._flavors.change(name, call.document("flavor_name"))
        return Reply(200, _flavor(flavor, is_detailed=True))

    async def get(self, call: Call) -> Reply:
        """One flavor."""
        flavor = await self._flavors.get(call.body["flavor_name"])
        return Reply(200, _flavor(flavor, is_detailed=True))

    async def delete(self, call: Call) -> Reply:
        """Remove a flavor."""
        name = call.body["flavor_name"]
        await self._flavors.delete(name)
        return Reply(204, f"Flavor {name} removed.")


def _existing(administration: Administration | None) -> Administration:
    if administration is None:
        raise NotFound("This server has no pools and flavors.")
    return administration


def _page(name: str, shown: list[dict[str, Any]]) -> Reply:
    listing: dict[str, Any] = {name: shown}
    if shown:
        listing["marker"] = shown[-1]["name"]
    return Reply(200, listing)


def _pool(pool: Pool, is_detailed: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "name": pool.name,
        "flavor": pool.flavor,
        "uri": pool.uri,
        "weight": pool.weight,
    }
    return shape | {"options": pool.options} if is_detailed else shape


def _flavor(flavor: Flavor, is_detailed: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {"name": flavor.name, "pool_list": list(flavor.pools)}
    return shape | {"capabilities": list(CAPABILITIES)} if is_detailed else shape
