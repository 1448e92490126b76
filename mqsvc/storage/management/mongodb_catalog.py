"""All pools and flavors as one value, and the changes it allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import evolve, field, frozen
from bson import ObjectId

from mqsvc.messaging.errors import Conflict, PoolDoesNotExist, PoolInUse
from mqsvc.messaging.model import Flavor, Pool
from mqsvc.storage.management.json_text import from_text, to_text


@frozen
class Catalog:
    """Pools and flavors at one moment. Changes give a new one.

    :ivar revision: of the document it was read from, if there was one.
    :ivar admitted: for pools that destinations were admitted to since that revision,
        what the last admission left there.
    """

    revision: ObjectId | None = None
    pools: Mapping[str, Pool] = field(factory=dict)
    flavors: frozenset[str] = frozenset()
    admitted: Mapping[str, ObjectId] = field(factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Catalog:
        """The catalog that a document stands for."""
        entries = document["pools"]
        return cls(
            document["revision"],
            {entry["name"]: _pool(entry) for entry in entries},
            frozenset(document["flavors"]),
            {each["name"]: each["admitted"] for each in entries if "admitted" in each},
        )

    def values(self) -> dict[str, Any]:
        """What a document keeps of it, beside its revision."""
        return {
            "pools": [_entry(pool) for pool in self.pools.values()],
            "flavors": sorted(self.flavors),
        }

    def flavor(self, name: str) -> Flavor | None:
        """One flavor, or none."""
        if name not in self.flavors:
            return None
        return Flavor(name, tuple(sorted(self._members(name))))

    def with_pool(self, pool: Pool) -> Catalog:
        """The same with a pool added or replaced.

        :raise Conflict: another one has its URI.
        """
        for other in self.pools.values():
            if other.uri == pool.uri and other.name != pool.name:
                raise Conflict(
                    f"Pool {other.name} has that URI already: "
                    "use that pool, or give another URI."
                )
        return evolve(self, pools={**self.pools, pool.name: pool})

    def without_pool(self, name: str) -> Catalog:
        """The same without a pool.

        :raise PoolInUse: it is the only one of a flavor.
        """
        for flavor in self.flavors:
            if self._members(flavor) == [name]:
                raise PoolInUse(
                    f"Pool {name} is the only one of flavor {flavor}: "
                    "give the flavor another pool first, or delete it."
                )
        kept = {other: pool for other, pool in self.pools.items() if other != name}
        return evolve(self, pools=kept)

    def with_flavor(self, name: str, pools: Collection[str]) -> Catalog:
        """The same with a flavor that these pools belong to, and no others.

        :raise PoolDoesNotExist: one of them is missing.
        """
        missing = sorted(set(pools) - set(self.pools))
        if missing:
            raise PoolDoesNotExist(f"Pool {missing[0]} does not exist.")
        freed = self.without_flavor(name)
        members = {each: evolve(self.pools[each], flavor=name) for each in pools}
        return evolve(
            self, pools={**freed.pools, **members}, flavors=self.flavors | {name}
        )

    def without_flavor(self, name: str) -> Catalog:
        """The same without a flavor, and no pool belongs to it."""
        members = self._members(name)
        freed = {each: evolve(self.pools[each], flavor=None) for each in members}
        return evolve(
            self, pools={**self.pools, **freed}, flavors=self.flavors - {name}
        )

    def _members(self, flavor: str) -> list[str]:
        return [name for name, pool in self.pools.items() if pool.flavor == flavor]


def _entry(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "uri": pool.uri,
        "weight": pool.weight,
        "flavor": pool.flavor,
        "options": to_text(pool.options),
    }


def _pool(entry: Mapping[str, Any]) -> Pool:
    return Pool(
        name=entry["name"],
        uri=entry["uri"],
        weight=int(entry["weight"]),
        flavor=entry["flavor"],
        options=from_text(entry["options"]),
    )
