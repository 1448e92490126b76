"""Which pool a new queue or topic gets (docs/pools.rst)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import FlavorDoesNotExist, InvalidRequest, NoPool
from mqsvc.messaging.metadata import FLAVOR
from mqsvc.messaging.model import JsonObject, Pool
from mqsvc.storage.interfaces import IManagementStore

RandomBelow = Callable[[int], int]
"""Like :func:`random.SystemRandom().randrange`: 0 up to a number, less that one."""

ATTEMPTS = 100
"""How often a choice is made again whose pool was removed meanwhile."""

_PAGE = 100
"""Pools read at one time."""


@frozen
class Place:
    """Where a destination may go.

    :ivar pool: the name; none is the default pool.
    """

    pool: str | None
    weight: int


@frozen
class Placement:
    """Chooses pools.

    :ivar _has_default: whether the default pool takes what no other pool is for.
    """

    _store: IManagementStore
    _random_below: RandomBelow
    _has_default: bool

    async def choose(
        self, flavor: str | None, preferred: Collection[str | None] = ()
    ) -> str | None:
        """The pool of something new; none is the default pool.

        :param flavor: what its metadata asks for, see :func:`flavor_of`.
        :param preferred: pools that win over all others, if they can be chosen at all.
        :raise FlavorDoesNotExist: there is no such flavor.
        :raise NoPool: no pool is for it.
        """
        places = await self._places(flavor)
        best = [place for place in places if place.pool in preferred]
        return self._drawn(best or places)

    async def fits(self, pool: str | None, flavor: str | None) -> bool:
        """Whether a pool belongs to a flavor, or to none as the default pool does.

        :raise FlavorDoesNotExist: there is no such flavor.
        """
        await self.check(flavor)
        if pool is None:
            return flavor is None
        kept = await self._store.pool(pool)
        return kept is not None and kept.flavor == flavor

    async def check(self, flavor: str | None) -> None:
        """Accept a flavor that exists, or none.

        :raise FlavorDoesNotExist: there is no such flavor.
        """
        if flavor is not None and await self._store.flavor(flavor) is None:
            raise FlavorDoesNotExist(f"The flavor {flavor} does not exist.")

    async def _places(self, flavor: str | None) -> list[Place]:
        await self.check(flavor)
        pools = await all_pools(self._store, flavor)
        places = [
            Place(pool.name, pool.weight)
            for pool in pools
            if pool.weight and pool.flavor == flavor
        ]
        if places:
            return places
        if flavor is None and self._has_default:
            return [Place(None, 1)]
        wanted = "" if flavor is None else f" of the flavor {flavor}"
        raise NoPool(
            f"No pool{wanted} takes new queues: an administrator can add one, or give "
            "one a weight above 0."
        )

    def _drawn(self, places: Sequence[Place]) -> str | None:
        ticket = self._random_below(sum(place.weight for place in places))
        for place in places:
            ticket -= place.weight
            if ticket < 0:
                return place.pool
        raise AssertionError("the ticket was not below the sum of weights")


def flavor_of(metadata: JsonObject) -> str | None:
    """The flavor that metadata asks for; none when it is null, empty or missing.

    :raise InvalidRequest: it is no text.
    """
    flavor: Any = metadata.get(FLAVOR)
    if flavor is not None and not isinstance(flavor, str):
        raise InvalidRequest(f"{FLAVOR} must be the name of a flavor.")
    return flavor or None


async def all_pools(store: IManagementStore, flavor: str | None = None) -> list[Pool]:
    """All pools by name.

    :param flavor: only those that belong to it.
    """
    pools: list[Pool] = []
    while True:
        after = pools[-1].name if pools else ""
        page = await store.pools(_PAGE, after, flavor)
        pools += page
        if len(page) < _PAGE:
            return pools
