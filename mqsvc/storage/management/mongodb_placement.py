"""How a record comes into a pool that somebody may just be deleting.

No write covers a record and the catalog, so it takes three to put a record in a pool:

1. a *proposal* in the document of the destination, which makes it no record;
2. the *admission*: a new token in the pool's entry of the catalog;
3. the *commit*: the record, if the proposal is still there.

A pool is deleted by reading the catalog, then looking for proposals for the pool, then
for records in it, and then taking the pool out of the catalog, if that has still the
revision that was read, and the pool the same token. Where there are proposals, but no
records yet, they are removed and all begins again.

So a pool that goes leaves no record: who was admitted after the catalog was read has
changed the token. Who was admitted before had proposed before, and since no proposal
was there, had committed by then, so that the record would have been found.

A proposal is nothing by itself: of a process that died it stays until the destination
gets a record, goes, or the pool does.

On a replica set a server that has just lost its office, and does not know, could show
what was so before. The writes of 1 and 2 wait for a majority, which it has not; the
looks of a deletion ask it to prove that it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from mqsvc.messaging.errors import PoolDoesNotExist, StoreUnavailable
from mqsvc.storage.management.mongodb_calls import CALL_SECONDS, Database
from mqsvc.storage.management.mongodb_schema import (
    BY_POOL,
    BY_PROPOSED_POOL,
    CATALOG,
    DESTINATIONS,
    POOLS,
)

MAX_ATTEMPTS = 10
"""How often a placement is begun that deletions keep getting in the way of."""


async def place(
    database: Database, same: Mapping[str, Any], pool: str, change: Mapping[str, Any]
) -> bool:
    """Change the document of a destination so that it is a record in a pool.

    :param same: finds the document, as long as it is what the change is meant for.
    :param change: an update. With ``$setOnInsert`` a missing document is made.
    :return: whether the document was, to the end, what it was meant for.
    :raise DuplicateKeyError: it was to be made, and there is another one.
    :raise PoolDoesNotExist: there is no such pool.
    """
    for _ in range(MAX_ATTEMPTS):
        token = ObjectId()
        if not await _propose(database, same, {"pool": pool, "token": token}, change):
            return False
        mine = {**same, "proposals.token": token}
        if not await _admit(database, pool):
            withdrawal = {"$pull": {"proposals": {"token": token}}}
            await database[DESTINATIONS].update_one(mine, withdrawal)
            raise PoolDoesNotExist(f"Pool {pool} does not exist.")
        commit = {"$set": change["$set"] | {"pool": pool}, "$unset": {"proposals": ""}}
        outcome = await database[DESTINATIONS].update_one(mine, commit)
        if outcome.matched_count:
            return True
    raise StoreUnavailable


async def is_proposed(database: Database, pool: str) -> bool:
    """Whether there is a proposal for a pool."""
    return await _is_there(database, {"proposals.pool": pool}, BY_PROPOSED_POOL)


async def expel_proposals(database: Database, pool: str) -> None:
    """Remove the proposals for a pool."""
    await database[DESTINATIONS].update_many(
        {"proposals.pool": pool}, {"$pull": {"proposals": {"pool": pool}}}
    )


async def is_inhabited(database: Database, pool: str) -> bool:
    """Whether there is a record in a pool."""
    return await _is_there(database, {"pool": pool}, BY_POOL)


async def _propose(
    database: Database,
    same: Mapping[str, Any],
    proposal: Mapping[str, Any],
    change: Mapping[str, Any],
) -> bool:
    push: dict[str, Any] = {"$push": {"proposals": proposal}}
    new = change.get("$setOnInsert")
    if new is not None:
        push["$setOnInsert"] = new
    outcome = await database[DESTINATIONS].update_one(
        same, push, upsert=new is not None
    )
    return bool(outcome.matched_count or outcome.upserted_id)


async def _admit(database: Database, pool: str) -> bool:
    outcome = await database[POOLS].update_one(
        {"_id": CATALOG, "pools.name": pool},
        {"$set": {"pools.$.admitted": ObjectId()}},
    )
    return bool(outcome.matched_count)


async def _is_there(
    database: Database, query: Mapping[str, Any], index: tuple[str, ...]
) -> bool:
    """Whether a document was there when the server was proved to be the primary."""
    find = {
        "find": DESTINATIONS,
        "filter": query,
        "hint": dict.fromkeys(index, 1),
        "projection": {"_id": 1},
        "limit": 1,
    }
    if "setName" in await database.command("hello"):
        # The proof is a write of its own, which could wait for ever.
        find["readConcern"] = {"level": "linearizable"}
        find["maxTimeMS"] = CALL_SECONDS * 1000
    reply = await database.command(find)
    return bool(reply["cursor"]["firstBatch"])
