"""Operations on pools and flavors in MongoDB.

There are tens of them and not millions, so one document has them all, and any change
is one write: it replaces what was read if the ``revision``, which is new with every
change, is still the same. Whoever fails in that begins again; each time somebody else
has succeeded.

Outside of that document are the records that live in a pool.
:mod:`.mongodb_placement` says how both stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from mqsvc.messaging.errors import PoolInUse
from mqsvc.messaging.model import Flavor, Pool
from mqsvc.storage.management.mongodb_calls import Database
from mqsvc.storage.management.mongodb_catalog import Catalog
from mqsvc.storage.management.mongodb_placement import (
    expel_proposals,
    is_inhabited,
    is_proposed,
)
from mqsvc.storage.management.mongodb_schema import CATALOG, POOLS


async def put_pool(database: Database, pool: Pool) -> None:
    """Add or replace a pool.

    :raise Conflict: another one has its URI.
    """
    await _change(database, lambda catalog: catalog.with_pool(pool))


async def get_pool(database: Database, name: str) -> Pool | None:
    """Read one pool."""
    return (await _read(database)).pools.get(name)


async def pools(
    database: Database, limit: int, after: str, flavor: str | None
) -> list[Pool]:
    """Read the first pools behind a name, of one flavor if that is given."""
    catalog = await _read(database)
    wanted = [
        pool
        for name, pool in sorted(catalog.pools.items())
        if name > after and flavor in (None, pool.flavor)
    ]
    return wanted[:limit]


async def delete_pool(database: Database, name: str) -> None:
    """Remove a pool that nothing needs.

    :raise PoolInUse: a record lives there, or it is the only one of a flavor.
    """
    while True:
        catalog = await _read(database)
        rest = catalog.without_pool(name)
        # In this order: what is proposed can become a record.
        proposed = await is_proposed(database, name)
        if await is_inhabited(database, name):
            raise PoolInUse(
                f"Queues or topics have their messages in pool {name}: "
                "delete them or move them to other pools first."
            )
        if proposed:
            await expel_proposals(database, name)
        # Also when it is missing: see mongodb_records.delete.
        elif await _swap(database, catalog, rest):
            return


async def put_flavor(database: Database, name: str, pools: Collection[str]) -> None:
    """Make a flavor of these pools, or replace it.

    :raise PoolDoesNotExist: one of them is missing.
    """
    await _change(database, lambda catalog: catalog.with_flavor(name, pools))


async def get_flavor(database: Database, name: str) -> Flavor | None:
    """Read one flavor."""
    return (await _read(database)).flavor(name)


async def flavors(database: Database, limit: int, after: str) -> list[Flavor]:
    """Read the first flavors behind a name."""
    catalog = await _read(database)
    names = [name for name in sorted(catalog.flavors) if name > after][:limit]
    return [flavor for name in names if (flavor := catalog.flavor(name))]


async def delete_flavor(database: Database, name: str) -> None:
    """Remove a flavor."""
    await _change(database, lambda catalog: catalog.without_flavor(name))


async def _read(database: Database) -> Catalog:
    document = await database[POOLS].find_one({"_id": CATALOG})
    return Catalog() if document is None else Catalog.of(document)


async def _change(database: Database, change: Callable[[Catalog], Catalog]) -> None:
    while True:
        catalog = await _read(database)
        if await _swap(database, catalog, change(catalog)):
            return


async def _swap(database: Database, before: Catalog, after: Catalog) -> bool:
    """Whether the catalog was still what was read, and is now the other one."""
    same: dict[str, Any] = {"_id": CATALOG, "revision": before.revision}
    for gone in before.pools.keys() - after.pools.keys():
        admitted = before.admitted.get(gone)
        same["pools"] = {"$elemMatch": {"name": gone, "admitted": admitted}}
    # The revision is new even if nothing else is, so that this is a write to wait for.
    change = {"$set": after.values() | {"revision": ObjectId()}}
    try:
        outcome = await database[POOLS].update_one(
            same, change, upsert=before.revision is None
        )
    except DuplicateKeyError:
        return False
    return bool(outcome.matched_count or outcome.upserted_id)
