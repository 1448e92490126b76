"""Operations on leases in MongoDB, and on what is left of those that ended.

If the process dies within a sweep, the next one goes on from there.
"""

from __future__ import annotations

from pymongo import DeleteOne
from txmongo.filter import ASCENDING, hint

from mqsvc.storage.interfaces import LEFT_ALONE
from mqsvc.storage.management import sweeping
from mqsvc.storage.management.mongodb_calls import Database
from mqsvc.storage.management.mongodb_schema import BY_LEASE, LEASES, SUBSCRIPTIONS
from mqsvc.storage.management.sweeping import ENDED

_BY_LEASE = hint(ASCENDING(BY_LEASE))


async def begin(database: Database, lease: str, until: int) -> None:
    """Insert a lease; again, if nobody knows whether it was done."""
    change = {"$set": {"until": until}}
    await database[LEASES].update_one({"_id": lease}, change, upsert=True)


async def renew(database: Database, lease: str, until: int) -> bool:
    """Move the end of a lease, unless it was given up."""
    outcome = await database[LEASES].update_one(
        {"_id": lease, "until": {"$ne": ENDED}}, {"$set": {"until": until}}
    )
    return bool(outcome.matched_count)


async def end(database: Database, lease: str) -> None:
    """Give a lease up."""
    await database[LEASES].update_one({"_id": lease}, {"$set": {"until": ENDED}})


async def held_leases(database: Database, now: int) -> list[str]:
    """All leases that did not end: one of each process that has any connections."""
    documents = await database[LEASES].find({"until": {"$gt": now}}, projection=["_id"])
    return [document["_id"] for document in documents]


async def sweep(database: Database, now: int) -> bool:
    """Delete what one lease has left, a bounded number; true when there may be more."""
    over = {"until": {"$lte": now - LEFT_ALONE}}
    lease = await database[LEASES].find_one(over)
    if lease is None:
        return False
    # Unless it was renewed since it was read.
    outcome = await database[LEASES].update_one(lease, {"$set": {"until": ENDED}})
    if outcome.matched_count and not await _delete_some(database, lease["_id"]):
        await database[LEASES].delete_one({"_id": lease["_id"]})
    return True


async def _delete_some(database: Database, lease: str) -> bool:
    """Delete subscriptions of a lease; true when there may be more."""
    found = await database[SUBSCRIPTIONS].find(
        {"lease": lease}, projection=["_id"], sort=_BY_LEASE, limit=sweeping.MAX_SWEPT
    )
    if found:
        # One that got another subscriber since it was read is no longer of it.
        deletions = [DeleteOne({"_id": each["_id"], "lease": lease}) for each in found]
        await database[SUBSCRIPTIONS].bulk_write(deletions, ordered=False)
    return len(found) == sweeping.MAX_SWEPT
