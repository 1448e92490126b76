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

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.model import Destination
from mqsvc.storage.messages.mongodb_client import MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, Interrupted, together
from mqsvc.storage.messages.mongodb_commits import Commits
from mqsvc.storage.messages.mongodb_known import Own, Views
from mqsvc.storage.messages.mongodb_notes import Parcel, Step, View
from mqsvc.storage.messages.mongodb_pauses import Pauses
from mqsvc.storage.messages.mongodb_schema import DESTINATIONS
from mqsvc.storage.messages.mongodb_settling import Settling, read

Result = TypeVar("Result")

RIVAL_SECONDS = 0.003
"""What a step waits that somebody else was faster than."""

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

    :param pauses: between attempts.
    """

    def __init__(self, client: MongoClient, pauses: Pauses) -> None:
        self._client = client
        self._pauses = pauses
        self._views = Views(client)
        self._settling = Settling(self._views, pauses)
        self._commits = Commits(client, self._views, self._settling, pauses)

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
            view = await self._settling.settled(
                connection, destination, document=document
            )
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
            view = await self._settling.expected(connection, destination, create_at)
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
            if await self._commits.commit(connection, destination, view, step, now):
                self._views.contend(destination, is_contended)
                return step.result
            is_contended = True
            await self._pauses.pause(RIVAL_SECONDS)

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
        await self._settling.carry_out(own.connection, own.document)
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

    async def _asked(
        self, connection: Connection, view: View, question: Question[Result]
    ) -> tuple[Result, dict[str, Any] | None]:
        """An answer, and the destination's document as it was after that."""

        async def check() -> tuple[int, dict[str, Any] | None]:
            number = connection.sent + 1
            return number, await read(connection, view.key)

        answer, (number, document) = await together(question(connection, view), check())
        if connection.sent > number:
            # The question took more than one round trip.
            document = await read(connection, view.key)
        return answer, document

    async def _planned(
        self, connection: Connection, destination: Destination, view: View, plan: Plan
    ) -> Step | None:
        """What is to be done; none if it was decided on what is not so any more."""
        try:
            step, document = await self._asked(connection, view, plan)
        except MessagingError:
            document = await read(connection, view.key)
            if document is not None and document["token"] == view.token:
                raise
        else:
            if document is not None and document["token"] == view.token:
                return step
        self._views.forget(destination)
        return None
