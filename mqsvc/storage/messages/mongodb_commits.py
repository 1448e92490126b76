"""Commits of the MongoDB message store: the moment at which a step has happened."""

from __future__ import annotations

from typing import Any

from bson import ObjectId
from pymongo.errors import OperationFailure

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Destination
from mqsvc.storage.messages import mongodb_notes as notes
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, Interrupted
from mqsvc.storage.messages.mongodb_known import Views
from mqsvc.storage.messages.mongodb_notes import RECENT, Move, Step, View
from mqsvc.storage.messages.mongodb_pauses import Pauses
from mqsvc.storage.messages.mongodb_schema import DESTINATIONS
from mqsvc.storage.messages.mongodb_settling import Settling


class Commits:
    """Commits steps, each as the next one of its destination or not at all.

    :param views: what is known of destinations.
    """

    def __init__(
        self, client: MongoClient, views: Views, settling: Settling, pauses: Pauses
    ) -> None:
        self._client = client
        self._views = views
        self._settling = settling
        self._pauses = pauses

    async def commit(
        self,
        connection: Connection,
        destination: Destination,
        view: View,
        step: Step,
        now: int,
    ) -> bool:
        """Whether the step was the next one; if not, nothing has changed."""
        token, batch = ObjectId(), ObjectId()
        note = notes.note(view, step, batch)
        await notes.store(connection, step, notes.hidden(batch, view, now))
        if step.move is not None:
            condition = {"key": view.key, "from": view.token, "to": token}
            note["move"] = await self._reserve(connection, step.move, condition, now)
        own = self._views.begin(destination, connection, token)
        try:
            is_next, document = await self._swap(
                connection, view, token, notes.commitment(view, step, note, token)
            )
            if document is not None:
                own.document = {**document, "pending": note}
        except BaseException:
            self._views.end(destination)
            raise
        if not is_next:
            self._views.end(destination)
            sent = [parcel.batch for parcel in step.parcels]
            await notes.discard(connection, batch, *sent)
        return is_next

    async def _swap(
        self,
        connection: Connection,
        view: View,
        token: ObjectId,
        update: dict[str, Any],
    ) -> tuple[bool, dict[str, Any] | None]:
        """Replace the token that was read.

        :return: whether that was possible, and the document then if it is known.
        """
        try:
            document = await connection.replace(
                DESTINATIONS, _as_known(view), update, without=("pending", "recent")
            )
        except Interrupted:
            return await self._pauses.retried(lambda: self._find_out(view, token)), None
        except OperationFailure:
            # Whoever is told of a refusal may try again: let it be certain.
            if await self._pauses.retried(lambda: self._find_out(view, token)):
                return True, None
            raise
        return document is not None, document

    async def _find_out(self, view: View, token: ObjectId) -> bool:
        """Whether a commit that got no answer was carried out, once and for all."""
        connection = await self._client.connection()
        # The commit is not tried again, as the hidden documents may be lost. But it may
        # still be on its way, so it must not find the token that it expects.
        if await connection.update_one(
            DESTINATIONS, _as_known(view), notes.fence(ObjectId())
        ):
            return False
        document = await connection.read(DESTINATIONS, view.key)
        if document is None or token in document["recent"]:
            return document is not None
        if document["version"] >= view.version + RECENT:
            raise StoreUnavailable
        return False

    async def _reserve(
        self, connection: Connection, move: Move, condition: dict[str, Any], now: int
    ) -> dict[str, Any]:
        """Commit copies to the target on the condition that a step is committed."""
        while True:
            view = await self._settling.settled(connection, move.target, create_at=now)
            if view is None:
                continue
            token, batch = ObjectId(), ObjectId()
            step = move.step(view)
            await notes.store(connection, step, notes.hidden(batch, view, now))
            note = {**notes.note(view, step, batch), "condition": condition}
            note["then"] = {"total": len(move.messages), "bytes": move.bytes}
            update = notes.commitment(view, step, note, token)
            if (await self._swap(connection, view, token, update))[0]:
                return {"key": view.key, "token": token}
            await notes.discard(connection, batch)
            self._views.forget(move.target)


def _as_known(view: View) -> dict[str, Any]:
    """The query for a destination that did not change since it was read."""
    return {"_id": view.key, "token": view.token}
