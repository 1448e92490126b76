"""What the MongoDB message store corrects and deletes after the fact, in pieces."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from bson import ObjectId

from mqsvc.storage.ids import first_position
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection
from mqsvc.storage.messages.mongodb_lanes import Lanes
from mqsvc.storage.messages.mongodb_ledger import Ledger
from mqsvc.storage.messages.mongodb_notes import (
    Step,
    View,
    bytes_of,
    destination_of,
)
from mqsvc.storage.messages.mongodb_schema import (
    CLAIMED,
    CLAIMS,
    CLEARED,
    DELAYED,
    DESTINATIONS,
    HIDDEN,
    MESSAGES,
    READY,
    VISIBLE,
)

SWEEP_SIZE = 200
"""Documents of each kind that one sweep touches at most."""

LINGERING = 60_000
"""Milliseconds that steps of others may still need what seems to be left behind."""

FORGOTTEN = 3_600_000
"""Milliseconds for which an empty destination is remembered."""

_ALL_STATES = [*VISIBLE, *(state + HIDDEN for state in VISIBLE)]


class Sweep:
    """One round."""

    def __init__(
        self, client: MongoClient, ledger: Ledger, lanes: Lanes, now: int
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._lanes = lanes
        self._now = now

    async def run(self) -> bool:
        """Correct and delete what time left behind; whether any part hit its bound."""
        touched = [
            await self._correct(),
            await self._delete_expired(),
            await self._delete_cleared(),
            await self._delete_claims(),
            await self._delete_left_behind(MESSAGES),
            await self._delete_left_behind(CLAIMS),
            await self._delete_empty(),
        ]
        return max(touched) >= SWEEP_SIZE

    async def _correct(self) -> int:
        """Make what is due ready."""
        over = {"ready": {"$gt": 0, "$lte": self._now}}
        waiting = {**over, "state": {"$in": [DELAYED, CLAIMED]}}
        found = await self._found(MESSAGES, waiting, "due")

        async def plan(connection: Connection, _: View, ids: list[Any]) -> Step:
            rows = await connection.find(MESSAGES, {"_id": {"$in": ids}, **waiting})
            ready = [row["_id"] for row in rows]
            sets = [(ready, {"state": READY, "ready": 0})] if ready else []
            return Step(sets=sets, claimed=-queries.claimed_states(rows))

        for owner, ids in found.items():
            await self._commit(owner, lambda c, v, ids=ids: plan(c, v, ids))
        return sum(map(len, found.values()))

    async def _delete_expired(self) -> int:
        over = {"expires": {"$lte": self._now}, "state": {"$in": VISIBLE}}
        found = await self._found(MESSAGES, over, "by_expiry")

        async def plan(connection: Connection, _: View, ids: list[Any]) -> Step:
            rows = await connection.find(
                MESSAGES, {"_id": {"$in": ids}, **over}, fields=["state", "size"]
            )
            return Step(
                gone=[row["_id"] for row in rows],
                total=-len(rows),
                bytes=-bytes_of(rows),
                claimed=-queries.claimed_states(rows),
            )

        for owner, ids in found.items():
            await self._commit(owner, lambda c, v, ids=ids: plan(c, v, ids))
        return sum(map(len, found.values()))

    async def _delete_cleared(self) -> int:
        """Some messages of an owner that no destination has any more."""
        connection = await self._client.connection()
        cleared = await connection.find(CLEARED, {}, limit=1)
        if not cleared:
            return 0
        owner = cleared[0]["_id"]
        rows = await connection.find(
            MESSAGES,
            {"owner": owner, "state": {"$in": _ALL_STATES}},
            limit=SWEEP_SIZE,
            fields=["_id"],
            index="in_order",
        )
        if rows:
            ids = [row["_id"] for row in rows]
            await connection.delete(MESSAGES, {"_id": {"$in": ids}})
        else:
            await connection.delete(CLEARED, {"_id": owner})
        # Behind a finished one may be another, which is worth another call.
        return SWEEP_SIZE

    async def _delete_claims(self) -> int:
        """Claims whose end even a clock that is behind has seen."""
        connection = await self._client.connection()
        over = {"expires": {"$lte": self._now - LINGERING}}
        rows = await connection.find(
            CLAIMS, over, limit=SWEEP_SIZE, fields=["_id"], index="by_expiry"
        )
        if rows:
            ids = [row["_id"] for row in rows]
            await connection.delete(CLAIMS, {"_id": {"$in": ids}, **over})
        return len(rows)

    async def _delete_left_behind(self, collection: str) -> int:
        """Hidden documents of steps that were never committed."""
        old: dict[str, Any] = {"batch": {"$exists": True}}
        old |= {"begun": {"$lte": self._now - LINGERING}}
        found = await self._found(collection, old, "hidden")
        for owner, ids in found.items():
            version = await self._commit(owner, _fence)
            connection = await self._client.connection()
            lost: dict[str, Any] = {"_id": {"$in": ids}, "batch": {"$exists": True}}
            # A step planned up to here wanted a token that is gone: it has failed.
            if version is not None:
                lost |= {"planned": {"$lte": version}}
            await connection.delete(collection, lost)
        return sum(map(len, found.values()))

    async def _delete_empty(self) -> int:
        """Destinations without messages, of which nobody can hold a later marker."""
        connection = await self._client.connection()
        old: dict[str, Any] = {
            "next": {"$lt": first_position(self._now - FORGOTTEN)},
            "total": 0,
            "lasting": {"$lte": self._now},
        }
        rows = await connection.find(
            DESTINATIONS,
            old,
            limit=SWEEP_SIZE,
            fields=["token", "owner", "pending.version"],
            index="empty",
        )
        idle = [row for row in rows if "pending" not in row]
        if idle:
            names = [row["_id"] for row in idle]
            same = {"_id": {"$in": names}, "token": {"$in": [r["token"] for r in idle]}}
            doomed = {**same, "pending": {"$exists": False}, **old}
            await connection.delete(DESTINATIONS, doomed)
        noted = [row for row in rows if "pending" in row]
        for row in noted:
            # Its process died before that was done; another sweep deletes it.
            await self._commit(row["owner"], _fence)
        return SWEEP_SIZE if noted else len(rows)

    async def _found(
        self, collection: str, query: dict[str, Any], index: str
    ) -> dict[ObjectId, list[Any]]:
        """Ids of some documents, by the owner."""
        connection = await self._client.connection()
        rows = await connection.find(
            collection, query, limit=SWEEP_SIZE, fields=["owner"], index=index
        )
        found: defaultdict[ObjectId, list[Any]] = defaultdict(list)
        for row in rows:
            found[row["owner"]].append(row["_id"])
        return found

    async def _commit(self, owner: ObjectId, plan: Any) -> Any:
        """A step in the destination that an owner belongs to, if there is one."""
        connection = await self._client.connection()
        found = await connection.find(DESTINATIONS, {"owner": owner}, limit=1)
        if not found:
            return None
        destination = destination_of(found[0]["_id"])

        async def same(connection: Connection, view: View) -> Step:
            return await plan(connection, view) if view.owner == owner else Step()

        return await self._lanes.alone(
            destination, lambda: self._ledger.change(destination, same, self._now)
        )


async def _fence(_: Connection, view: View) -> Step:
    """Change nothing, in a commit."""
    return Step(view.version, fence=True)
