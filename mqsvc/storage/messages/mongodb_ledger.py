"""How a change of many documents is one step, with and without a replica set.

A destination has one document, and the whole history of the destination is the
history of that document. A step

1. knows it, or reads it and carries out what an earlier step left to do there;
2. reads what else it needs, and decides;
3. stores new messages and claims hidden, which nobody looks at;
4. replaces the token of the destination's document, if it is still the one that was
   known, and notes there what has to be done: *this* is the moment of the change;
5. does it.

Whoever finds a note does 5 before anything else, so nobody ever sees a step half
done, whether its process is slow or dead. docs/mongodb.rst says why that is right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from bson import ObjectId
from pymongo.errors import DuplicateKeyError, OperationFailure
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mqsvc.messaging.errors import MessagingError, StoreUnavailable
from mqsvc.messaging.model import Destination
from mqsvc.storage.ids import first_position
from mqsvc.storage.messages import mongodb_notes as notes
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, Interrupted, together
from mqsvc.storage.messages.mongodb_known import Own, Views
from mqsvc.storage.messages.mongodb_notes import (
    RECENT,
    Key,
    Move,
    Parcel,
    Step,
    View,
    key_of,
)
from mqsvc.storage.messages.mongodb_schema import DESTINATIONS

Result = TypeVar("Result")

RETRY_SECONDS = 0.1
"""Between attempts while there is no primary."""

RIVAL_SECONDS = 0.003
"""What a step waits that somebody else was faster than."""

PATIENCE_SECONDS = 0.02
"""What a step in two destinations is given before it is called off."""

PATIENCE_TRIES = 5

LOOKS = 3
"""How often a look is taken while others change the destination."""

Plan = Callable[[Connection, View], Coroutine[Any, Any, Step]]
"""Reads what it needs and decides; may be asked again when somebody was faster."""

Question = Callable[[Connection, View], Coroutine[Any, Any, Result]]


class Overtaken(Interrupted):
    """Whenever something was looked at, it changed meanwhile."""


class Undelivered(Exception):
    """A destination cannot be looked at before its parcels are where they belong.

    :ivar parcels: those it has, maybe all of them delivered by now.
    """

    def __init__(self, destination: Destination, parcels: Sequence[Parcel]) -> None:
        super().__init__(destination)
        self.destination = destination
        self.parcels = parcels


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
        self._views = Views(client)

    async def look(
        self, destination: Destination, question: Question[Result], nothing: Result
    ) -> Result:
        """An answer from a moment after the call at which every step was done.

        :param nothing: the answer where nothing was ever posted.
        :raise Overtaken: steps of others left no room for it.
        :raise Undelivered: something has to be delivered first.
        """
        for _ in range(LOOKS):
            connection = await self._client.connection()
            document = None
            known = self._views.known(destination, connection)
            if known is not None and not known.view.outgoing:
                # One round trip, if nobody else changed anything since.
                answer, document = await self._asked(connection, known.view, question)
                if document is not None and document["token"] == known.view.token:
                    return answer
            view = await self._settled(connection, destination, document=document)
            if view is None:
                return nothing
            if view.outgoing:
                raise Undelivered(destination, view.outgoing)
            answer, document = await self._asked(connection, view, question)
            if document is not None and view.only_grew_to(document):
                return answer
        raise Overtaken

    async def change(
        self,
        destination: Destination,
        plan: Plan,
        now: int,
        *,
        create_at: int | None = None,
        blind: bool = False,
        arrival: bool = False,
    ) -> Any:
        """Commit a step; gives its result, none where nothing was ever posted.

        It is done only after :meth:`finish`, or when somebody else looks.

        :param create_at: make the destination's document if there is none, as of now.
        :param blind: the plan asks nothing, so what it refuses depends on nothing.
        :param arrival: it only brings parcels, and what it asks no other step changes.
        :raise Undelivered: something has to be delivered first, before other steps.
        """
        is_contended = False
        while True:
            connection = await self._client.connection()
            view = await self._expected(connection, destination, create_at)
            if view is None:
                return None
            if view.outgoing and not arrival:
                raise Undelivered(destination, view.outgoing)
            if blind or arrival:
                step = await plan(connection, view)
            else:
                planned = await self._planned(connection, destination, view, plan)
                if planned is None:
                    continue
                step = planned
            if step.idle:
                return step.result
            if await self._commit(connection, destination, view, step, now):
                self._views.contend(destination, is_contended)
                return step.result
            is_contended = True
            await self.pause(RIVAL_SECONDS)

    async def finish(self, destination: Destination) -> None:
        """Do what this process committed last, so that nobody else has to."""
        own = self._views.own(destination)
        if own is None:
            return
        try:
            # If that is interrupted, the next visitor does it.
            with suppress(Interrupted):
                await self._finish(destination, own)
        finally:
            self._views.end(destination)

    async def _finish(self, destination: Destination, own: Own) -> None:
        if own.document is None:
            return
        await self._carry_out(own.connection, own.document)
        view = View.of(own.document)
        self._views.learn(destination, own.connection, view, own.is_contended)
        self._views.noted(destination, own.connection)

    async def delivered(
        self, destination: Destination, parcels: Sequence[Parcel]
    ) -> None:
        """Parcels came where they belong; waits until what that left to do is done.

        Only then the next step may forget them: until they are shown, a sweep knows by
        them that the messages are not left behind.
        """
        for parcel in parcels:
            own = self._views.own(parcel.target)
            if own is not None:
                await own.over()
        self._views.delivered(destination, parcels)

    async def tidy(self, destination: Destination) -> None:
        """Remove what is done from the document; the next commit would replace it."""
        known = self._views.last(destination)
        if known is None or known.noted is None:
            return
        connection, known.noted = known.noted, None
        noted = {"_id": known.view.key, "token": known.view.token}
        done = (
            {"pending": ""} if known.view.outgoing else {"pending": "", "outgoing": ""}
        )
        # That may be undone by a crash: then somebody does the note once more.
        with suppress(Interrupted):
            await connection.update_many(DESTINATIONS, [(noted, {"$unset": done})])

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

    async def _asked(
        self, connection: Connection, view: View, question: Question[Result]
    ) -> tuple[Result, dict[str, Any] | None]:
        """An answer, and the destination's document as it was after that."""

        async def check() -> tuple[int, dict[str, Any] | None]:
            number = connection.sent + 1
            return number, await _read(connection, view.key)

        answer, (number, document) = await together(question(connection, view), check())
        if connection.sent > number:
            # The question took more than one round trip.
            document = await _read(connection, view.key)
        return answer, document

    async def _planned(
        self, connection: Connection, destination: Destination, view: View, plan: Plan
    ) -> Step | None:
        """What is to be done; none if it was decided on what is not so any more."""
        try:
            step, document = await self._asked(connection, view, plan)
        except MessagingError:
            document = await _read(connection, view.key)
            if document is not None and document["token"] == view.token:
                raise
        else:
            if document is not None and document["token"] == view.token:
                return step
        self._views.forget(destination)
        return None

    async def _expected(
        self, connection: Connection, destination: Destination, create_at: int | None
    ) -> View | None:
        """The destination as it most probably is; a commit will tell."""
        known = self._views.known(destination, connection)
        if known is not None and not known.is_contended:
            return known.view
        view = await self._settled(connection, destination, create_at=create_at)
        if known is not None and known.view is view:
            known.is_contended = False
        return view

    async def _settled(
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
            document = document or await _read(connection, key)
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
                self._carry_out(connection, document), connection.settle(DESTINATIONS)
            )
            if "condition" in document["pending"]:
                return None
        view = View.of(document)
        self._views.learn(destination, connection, view)
        return view

    async def _commit(
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
            return await self.retried(lambda: self._find_out(view, token)), None
        except OperationFailure:
            # Whoever is told of a refusal may try again: let it be certain.
            if await self.retried(lambda: self._find_out(view, token)):
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
            view = await self._settled(connection, move.target, create_at=now)
            if view is None:
                continue
            token, batch = ObjectId(), ObjectId()
            step = move.step(view)
            await notes.store(connection, step, notes.hidden(batch, view, now))
            note = {**notes.note(view, step, batch), "condition": condition}
            note["then"] = {"total": len(move.messages)}
            update = notes.commitment(view, step, note, token)
            if (await self._swap(connection, view, token, update))[0]:
                return {"key": view.key, "token": token}
            await notes.discard(connection, batch)
            self._views.forget(move.target)

    async def _carry_out(
        self, connection: Connection, document: dict[str, Any]
    ) -> None:
        """Do what a document has pending; harmless if others do it too."""
        note = document["pending"]
        if "condition" in note:
            await self._carry_out_copies(connection, document)
            return
        if "move" in note:
            target = await _read(connection, note["move"]["key"])
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


def _as_known(view: View) -> dict[str, Any]:
    """The query for a destination that did not change since it was read."""
    return {"_id": view.key, "token": view.token}


async def _read(connection: Connection, key: Key) -> dict[str, Any] | None:
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
        "client": None,
        "run": 0,
        "lasting": 0,
    }
    with suppress(DuplicateKeyError):
        await connection.insert(DESTINATIONS, [document])
    # The insertion did not wait until it lasts; this does.
    await connection.settle(DESTINATIONS)
