"""How a change of many documents is one step, with and without a replica set.

A destination has one document, and the whole history of the destination is the
history of that document. A step

1. reads it, and carries out what an earlier step left pending there;
2. reads what else it needs, and decides;
3. stores new messages and claims hidden, which nobody looks at;
4. replaces the token of the destination's document, if it is still the one that was
   read, and notes there what has to be done: *this* is the moment of the change;
5. does it, and removes the note.

Whoever finds a note does 5 before anything else, so nobody ever sees a step half
done, whether its process is slow or dead. docs/mongodb.rst says why that is right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, field
from bson import ObjectId
from pymongo.errors import DuplicateKeyError
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mqsvc.messaging.errors import MessagingError, StoreUnavailable
from mqsvc.messaging.model import Destination
from mqsvc.storage.ids import first_position
from mqsvc.storage.messages import mongodb_notes as notes
from mqsvc.storage.messages.mongodb_client import Connection, Interrupted, MongoClient
from mqsvc.storage.messages.mongodb_notes import RECENT, Key, Move, Step, View, key_of
from mqsvc.storage.messages.mongodb_schema import DESTINATIONS

Result = TypeVar("Result")

RETRY_SECONDS = 0.1
"""Between attempts while there is no primary."""

PATIENCE_SECONDS = 0.02
"""What a step in two destinations is given before it is called off."""

PATIENCE_TRIES = 5

Plan = Callable[[Connection, View], Awaitable[Step]]
"""Reads what it needs and decides; may be asked again when somebody was faster."""

Question = Callable[[Connection, View], Awaitable[Result]]


@define
class _Lane:
    """Steps of one process in one destination, one after the other."""

    lock: DeferredLock = field(factory=DeferredLock)
    users: int = 0


class Ledger:
    """Steps and looks at destinations.

    :param clock: for pauses between attempts.
    :param spread: a random number below one, so that rivals do not keep meeting.
    """

    def __init__(
        self, client: MongoClient, clock: IReactorTime, spread: Callable[[], float]
    ) -> None:
        self._client = client
        self._clock = clock
        self._spread = spread
        self._lanes: dict[Destination, _Lane] = {}

    async def look(
        self, destination: Destination, question: Question[Result], nothing: Result
    ) -> Result:
        """Ask until the destination did not change while the answer was found.

        :param nothing: the answer where nothing was ever posted.
        """
        key = key_of(destination)
        while True:
            connection = await self._client.connection()
            view = await self._settled(connection, key)
            if view is None:
                return nothing
            answer = await question(connection, view)
            if await self._unchanged(connection, view):
                return answer

    async def change(
        self, destination: Destination, plan: Plan, now: int, *, create: bool = False
    ) -> Any:
        """Commit a step; gives its result, none where nothing was ever posted.

        :param create: make the destination's document if there is none.
        """
        lane = self._lanes.setdefault(destination, _Lane())
        lane.users += 1
        try:
            await lane.lock.acquire()
            try:
                return await self._change(key_of(destination), plan, now, create)
            finally:
                lane.lock.release()
        finally:
            lane.users -= 1
            if not lane.users:
                del self._lanes[destination]

    async def _change(self, key: Key, plan: Plan, now: int, create: bool) -> Any:
        while True:
            connection = await self._client.connection()
            view = await self._settled(connection, key, now if create else None)
            if view is None:
                return None
            try:
                step = await plan(connection, view)
            except MessagingError:
                if await self._unchanged(connection, view):
                    raise
                continue
            if step.idle:
                if await self._unchanged(connection, view):
                    return step.result
            elif await self._commit(connection, view, step, now):
                return step.result
            else:
                await self.pause(PATIENCE_SECONDS)

    async def pause(self, seconds: float) -> None:
        """Wait for about so long."""
        await deferLater(self._clock, seconds * (0.5 + self._spread()), lambda: None)

    async def retried(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Make attempts until one is not interrupted."""
        while True:
            try:
                return await attempt()
            except Interrupted:
                await self.pause(RETRY_SECONDS)

    async def _settled(
        self, connection: Connection, key: Key, create_at: int | None = None
    ) -> View | None:
        """The destination with nothing pending; none if it does not exist."""
        while True:
            document = await _read(connection, key)
            if document is None:
                if create_at is None:
                    return None
                await _create(connection, key, create_at)
            elif "pending" in document:
                await self._carry_out(connection, document)
            else:
                return View.of(document)

    async def _unchanged(self, connection: Connection, view: View) -> bool:
        document = await _read(connection, view.key)
        return (
            document is not None
            and document["token"] == view.token
            and "pending" not in document
        )

    async def _commit(
        self, connection: Connection, view: View, step: Step, now: int
    ) -> bool:
        """Whether the step was the next one; if not, nothing has changed."""
        token, batch = ObjectId(), ObjectId()
        note = notes.note(view, step, batch)
        hidden = {"batch": batch, "planned": view.version, "begun": now}
        await notes.store(connection, step, hidden)
        if step.move is not None:
            condition = {"key": view.key, "from": view.token, "to": token}
            note["move"] = await self._reserve(connection, step.move, condition, now)
        update = notes.commitment(step, note, token)
        if not await self._swap(connection, view, token, update):
            await notes.discard(connection, batch)
            return False
        await self._finish({"_id": view.key, "token": token, "pending": note})
        return True

    async def _finish(self, document: dict[str, Any]) -> None:
        """Do what was just noted; if that is interrupted the next one does it."""
        with suppress(Interrupted):
            await self._carry_out(await self._client.connection(), document)

    async def _swap(
        self,
        connection: Connection,
        view: View,
        token: ObjectId,
        update: dict[str, Any],
    ) -> bool:
        """Replace the token that was read; whether that was possible."""
        try:
            return await connection.update_one(DESTINATIONS, _as_read(view), update)
        except Interrupted:
            return await self.retried(lambda: self._find_out(view, token))

    async def _find_out(self, view: View, token: ObjectId) -> bool:
        """Whether a commit that got no answer was carried out, once and for all."""
        connection = await self._client.connection()
        # The commit is not tried again, as the hidden documents may be lost. But it may
        # still be on its way, so it must not find the token that it expects.
        if await connection.update_one(
            DESTINATIONS, _as_read(view), notes.fence(ObjectId())
        ):
            return False
        document = await _read(connection, view.key)
        if document is None or token in document["recent"]:
            return document is not None
        if document["version"] >= view.version + RECENT:
            raise StoreUnavailable
        return False

    async def _reserve(
        self, connection: Connection, move: Move, condition: dict[str, Any], now: int
    ) -> dict[str, Any]:
        """Commit copies to the target on the condition that a step is committed."""
        key = key_of(move.target)
        while True:
            view = await self._settled(connection, key, now)
            if view is None:
                continue
            token, batch = ObjectId(), ObjectId()
            step = move.step(view)
            hidden = {"batch": batch, "planned": view.version, "begun": now}
            await notes.store(connection, step, hidden)
            note = {**notes.note(view, step, batch), "condition": condition}
            note["then"] = {"total": len(move.messages)}
            update = notes.commitment(step, note, token)
            if await self._swap(connection, view, token, update):
                return {"key": key, "token": token}
            await notes.discard(connection, batch)

    async def _carry_out(
        self, connection: Connection, document: dict[str, Any]
    ) -> None:
        """Do what a document has pending; harmless if others do it too."""
        note = document["pending"]
        change: dict[str, Any] = {"$unset": {"pending": ""}}
        if await self._decided(connection, note.get("condition")):
            if "move" in note:
                await self._carry_out_move(connection, note["move"])
            await notes.apply(connection, note)
            if note["then"]:
                change["$inc"] = note["then"]
        else:
            await notes.discard(connection, note["batch"])
        noted = {"_id": document["_id"], "token": document["token"]}
        noted["pending"] = {"$exists": True}
        # This also waits until a majority has what was just done.
        await connection.update_one(DESTINATIONS, noted, change)

    async def _carry_out_move(
        self, connection: Connection, move: dict[str, Any]
    ) -> None:
        target = await _read(connection, move["key"])
        if target and target["token"] == move["token"] and "pending" in target:
            await self._carry_out(connection, target)

    async def _decided(
        self, connection: Connection, condition: dict[str, Any] | None
    ) -> bool:
        """Whether the step that copies wait for was committed; forces a decision."""
        if condition is None:
            return True
        tries = 0
        while True:
            source = await _read(connection, condition["key"])
            if source is None or source["token"] != condition["from"]:
                return source is not None and source["token"] == condition["to"]
            tries += 1
            if tries <= PATIENCE_TRIES:
                await self.pause(PATIENCE_SECONDS)
                continue
            # Whoever wanted to commit after this token will find another one.
            undecided = {"_id": condition["key"], "token": condition["from"]}
            await connection.update_one(
                DESTINATIONS, undecided, notes.fence(ObjectId())
            )


def _as_read(view: View) -> dict[str, Any]:
    """The query for a destination that did not change since it was read."""
    return {
        "_id": view.key,
        "token": view.token,
        "pending": {"$exists": False},
    }


async def _read(connection: Connection, key: Key) -> dict[str, Any] | None:
    found = await connection.find(DESTINATIONS, {"_id": key}, limit=1)
    return found[0] if found else None


async def _create(connection: Connection, key: Key, now: int) -> None:
    token = ObjectId()
    document = {
        "_id": key,
        "owner": ObjectId(),
        "token": token,
        "recent": [token],
        "version": 0,
        "next": first_position(now),
        "total": 0,
        "claimed": 0,
        "client": None,
        "run": 0,
        "lasting": 0,
    }
    with suppress(DuplicateKeyError):
        await connection.insert(DESTINATIONS, [document])
    # The insertion did not wait until it lasts; this does.
    await connection.update_one(DESTINATIONS, {"_id": key}, {"$max": {"lasting": 0}})
