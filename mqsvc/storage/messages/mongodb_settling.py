"""Destinations of the MongoDB message store with nothing left to do in them.

Whoever finds a note in a destination's document does what it says before anything
else, whether its process is slow or dead.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from mqsvc.messaging.model import Destination
from mqsvc.storage.ids import first_position
from mqsvc.storage.messages import mongodb_notes as notes
from mqsvc.storage.messages.mongodb_commands import Connection, together
from mqsvc.storage.messages.mongodb_known import Views
from mqsvc.storage.messages.mongodb_notes import Key, View, key_of
from mqsvc.storage.messages.mongodb_pauses import Pauses
from mqsvc.storage.messages.mongodb_schema import DESTINATIONS

PATIENCE_SECONDS = 0.02
"""What a step in two destinations is given before it is called off."""

PATIENCE_TRIES = 5


class Settling:
    """Reads destinations, and does first what was left to do there.

    :param views: what is known of them.
    """

    def __init__(self, views: Views, pauses: Pauses) -> None:
        self._views = views
        self._pauses = pauses

    async def expected(
        self, connection: Connection, destination: Destination, create_at: int | None
    ) -> View | None:
        """The destination as it most probably is; a commit will tell."""
        known = self._views.known(destination, connection)
        if known is not None and not known.is_contended:
            return known.view
        view = await self.settled(connection, destination, create_at=create_at)
        if known is not None and known.view is view:
            known.is_contended = False
        return view

    async def settled(
        self,
        connection: Connection,
        destination: Destination,
        *,
        document: dict[str, Any] | None = None,
        create_at: int | None = None,
    ) -> View | None:
        """The destination with nothing left to do; none if it does not exist.

        :param document: as it was just read.
        """
        key = key_of(destination)
        while True:
            document = document or await read(connection, key)
            if document is not None:
                view = await self._view_of(connection, destination, document)
                if view is not None:
                    return view
            elif create_at is None:
                return None
            else:
                await _create(connection, key, create_at)
            document = None

    async def _view_of(
        self,
        connection: Connection,
        destination: Destination,
        document: dict[str, Any],
    ) -> View | None:
        """What a document says once all of it is done; none to read it anew."""
        known = self._views.known(destination, connection)
        if known is not None and known.view.token == document["token"]:
            return known.view
        own = self._views.own(destination)
        if own is not None and own.token == document["token"]:
            # This process is just about to do it.
            await own.over()
            return None
        if "pending" in document:
            # The commit may be so new that it is in no journal yet.
            await together(
                self.carry_out(connection, document), connection.settle(DESTINATIONS)
            )
            if "condition" in document["pending"]:
                return None
        view = View.of(document)
        self._views.learn(destination, connection, view)
        return view

    async def carry_out(self, connection: Connection, document: dict[str, Any]) -> None:
        """Do what a document has pending; harmless if others do it too."""
        note = document["pending"]
        if "condition" in note:
            await self._carry_out_copies(connection, document)
            return
        if "move" in note:
            target = await read(connection, note["move"]["key"])
            if target and target["token"] == note["move"]["token"]:
                await self._carry_out_copies(connection, target)
        await notes.apply(connection, note)

    async def _carry_out_copies(
        self, connection: Connection, document: dict[str, Any]
    ) -> None:
        """Show the copies of a move, or drop them; and remove the note about them."""
        note = document.get("pending")
        if note is None:
            return
        change: dict[str, Any] = {"$unset": {"pending": ""}}
        if await self._decided(connection, note["condition"]):
            await notes.apply(connection, note)
            change["$inc"] = note["then"]
        else:
            await notes.discard(connection, note["batch"])
        noted = {"_id": document["_id"], "token": document["token"]}
        noted["pending"] = {"$exists": True}
        # This also waits until a majority has what was just done.
        await connection.update_one(DESTINATIONS, noted, change)

    async def _decided(self, connection: Connection, condition: dict[str, Any]) -> bool:
        """Whether the step that copies wait for was committed; forces a decision."""
        tries = 0
        while True:
            source = await read(connection, condition["key"])
            if source is None or source["token"] != condition["from"]:
                return source is not None and source["token"] == condition["to"]
            tries += 1
            if tries <= PATIENCE_TRIES:
                await self._pauses.pause(PATIENCE_SECONDS)
                continue
            # Whoever wanted to commit after this token will find another one.
            undecided = {"_id": condition["key"], "token": condition["from"]}
            await connection.update_one(
                DESTINATIONS, undecided, notes.fence(ObjectId())
            )


async def read(connection: Connection, key: Key) -> dict[str, Any] | None:
    """The document of a destination, as a majority has it."""
    return await connection.read(DESTINATIONS, key, without=("recent",))


async def _create(connection: Connection, key: Key, now: int) -> None:
    token = ObjectId()
    document = {
        "_id": key,
        "owner": ObjectId(),
        "token": token,
        "recent": [token],
        "version": 0,
        "altered": 0,
        "next": first_position(now),
        "total": 0,
        "claimed": 0,
        "bytes": 0,
        "client": None,
        "run": 0,
        "lasting": 0,
    }
    with suppress(DuplicateKeyError):
        await connection.insert(DESTINATIONS, [document])
    # The insertion did not wait until it lasts; this does.
    await connection.settle(DESTINATIONS)
