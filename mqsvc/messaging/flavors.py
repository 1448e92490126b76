"""Flavors: kinds of pools that queues can ask for (rest.md 5.31).

They are global like the pools: whoever may use the service may ask for any.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.defer import DeferredLock

from mqsvc.messaging import checks
from mqsvc.messaging.errors import FlavorDoesNotExist, InvalidBody, UnusableFlavor
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Flavor
from mqsvc.messaging.shield import shielded
from mqsvc.storage.interfaces import IManagementStore

CAPABILITIES = ("FIFO", "CLAIMS", "DURABILITY", "AOD", "HIGH_THROUGHPUT")
"""What every driver can do, so every flavor has it."""

_POOL_LIST, _CAPABILITIES = "pool_list", "capabilities"


@frozen
class Flavors:
    """Operations on flavors.

    :ivar _one_at_a_time: held by whoever changes pools or flavors.
    """

    _management: IManagementStore
    _limits: Limits
    _one_at_a_time: DeferredLock

    async def put(self, name: str, document: Any) -> None:
        """Make a flavor, or replace it: the pools listed belong to it, and no others.

        :param document: ``pool_list``, and maybe ``capabilities``, without effect.
        :raise InvalidBody: it says something else.
        :raise UnusableFlavor: the list is empty, or names a pool that is missing.
        """
        checks.short_text(name, "name", 1)
        document = checks.mapping(document, "The body")
        pools = _pool_list(document)
        for member in document:
            if member not in {_POOL_LIST, _CAPABILITIES}:
                raise InvalidBody(f"A flavor has no '{member}'.")
        if document.get(_CAPABILITIES) is not None:
            checks.mapping(document[_CAPABILITIES], f"'{_CAPABILITIES}'")
        await shielded(self._one_at_a_time.run(self._put, name, pools))

    async def _put(self, name: str, pools: Collection[str]) -> None:
        await self._keep(name, pools, "Unable to create", "created")

    async def change(self, name: str, document: Any) -> Flavor:
        """Replace the pools of a flavor.

        :param document: ``pool_list``; anything else is not looked at.
        :return: the flavor as it is now.
        :raise InvalidBody: it has no list of names.
        :raise FlavorDoesNotExist: there is nothing to change.
        :raise UnusableFlavor: the list is empty, or names a pool that is missing.
        """
        pools = _pool_list(checks.mapping(document, "The body"))
        return await shielded(self._one_at_a_time.run(self._change, name, pools))

    async def _change(self, name: str, pools: Collection[str]) -> Flavor:
        await self.get(name)
        await self._keep(name, pools, "updatefail", "updated")
        return await self.get(name)

    async def _keep(
        self, name: str, pools: Collection[str], title: str, verb: str
    ) -> None:
        failed = f"Flavor {name} could not be {verb}, error:"
        if not pools:
            raise UnusableFlavor(title, f"{failed}It needs at least one pool")
        for pool in pools:
            if await self._management.pool(pool) is None:
                raise UnusableFlavor(title, f"{failed}Pool {pool} does not exist")
        await self._management.put_flavor(name, pools)

    async def get(self, name: str) -> Flavor:
        """One flavor.

        :raise FlavorDoesNotExist: there is none of that name.
        """
        flavor = await self._management.flavor(name)
        if flavor is None:
            raise FlavorDoesNotExist(f"Flavor {name} does not exist.")
        return flavor

    async def page(self, limit: int | None, after: str) -> list[Flavor]:
        """Flavors by name.

        :raise InvalidRequest: the limit is out of bounds.
        """
        size = checks.page_size(limit, self._limits.max_flavors_per_page)
        return await self._management.flavors(size, after)

    async def delete(self, name: str) -> None:
        """Remove a flavor; its pools belong to none. A missing one is no error."""
        step = self._one_at_a_time.run(self._management.delete_flavor, name)
        await shielded(step)


def _pool_list(document: Mapping[str, Any]) -> list[str]:
    if _POOL_LIST not in document:
        raise InvalidBody(f"Missing parameter '{_POOL_LIST}' in the body.")
    pools = document[_POOL_LIST]
    if not isinstance(pools, list):
        raise InvalidBody(f"'{_POOL_LIST}' must be an array of names of pools.")
    return [checks.short_text(pool, _POOL_LIST, 1) for pool in pools]
