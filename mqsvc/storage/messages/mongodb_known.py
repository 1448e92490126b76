"""What a process knows of destinations without asking the MongoDB server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Factory, define, evolve
from bson import ObjectId
from twisted.internet.defer import Deferred

from mqsvc.messaging.model import Destination
from mqsvc.storage.messages.mongodb_client import MongoClient, Place
from mqsvc.storage.messages.mongodb_commands import Connection
from mqsvc.storage.messages.mongodb_notes import Parcel, View

REMEMBERED = 10_000
"""Destinations that a process knows something of at most."""


@define(eq=False)
class Known:
    """A destination as it was, with every step done on the server.

    :ivar place: where, and when.
    :ivar noted: the connection on which the note of its last step was done here, if
        the note still stands in the document.
    :ivar is_contended: whether another process commits there too.
    """

    view: View
    place: Place
    is_contended: bool = False
    noted: Connection | None = None


@define(eq=False)
class Own:
    """A step of this process from its commit until it is done.

    :ivar token: what the commit puts into the document.
    :ivar document: after the commit, with the note; none if it is not known.
    """

    token: ObjectId
    connection: Connection
    document: dict[str, Any] | None = None
    is_contended: bool = False
    waiting: list[Deferred[None]] = Factory(list)

    def over(self) -> Deferred[None]:
        """Fires when it is done, or given up."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Views:
    """Destinations by name."""

    def __init__(self, client: MongoClient) -> None:
        self._client = client
        self._known: dict[Destination, Known] = {}
        self._own: dict[Destination, Own] = {}

    def known(self, destination: Destination, connection: Connection) -> Known | None:
        """What is known and can be trusted on a connection."""
        known = self._known.get(destination)
        if known is not None and self._client.leads_to(connection, known.place):
            return known
        return None

    def last(self, destination: Destination) -> Known | None:
        """What was known last."""
        return self._known.get(destination)

    def learn(
        self,
        destination: Destination,
        connection: Connection,
        view: View,
        is_contended: bool = False,
    ) -> None:
        """All of a view is done on the server of a connection."""
        self._known.pop(destination, None)
        place = self._client.place(connection)
        self._known[destination] = Known(view, place, is_contended)
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def noted(self, destination: Destination, connection: Connection) -> None:
        """The note of what was just learned is still there."""
        self._known[destination].noted = connection

    def delivered(self, destination: Destination, parcels: Sequence[Parcel]) -> None:
        """Parcels are where they belong, if all is known to be done there."""
        known = self._known.get(destination)
        targets = [self._known.get(parcel.target) for parcel in parcels]
        if known is None or known.view.outgoing != tuple(parcels):
            return
        if all(each and each.place.server == known.place.server for each in targets):
            known.view = evolve(known.view, outgoing=())

    def forget(self, destination: Destination) -> None:
        """Something else is so."""
        self._known.pop(destination, None)

    def begin(
        self, destination: Destination, connection: Connection, token: ObjectId
    ) -> Own:
        """A step is about to be committed."""
        own = self._own[destination] = Own(token, connection)
        return own

    def own(self, destination: Destination) -> Own | None:
        """The step of this process that is not done yet, if there is one."""
        return self._own.get(destination)

    def contend(self, destination: Destination, is_contended: bool) -> None:
        """Whether somebody else was faster, before the step that is underway."""
        self._own[destination].is_contended = is_contended

    def end(self, destination: Destination) -> None:
        """The step is done, or given up; then nothing is known any more."""
        own = self._own[destination]
        known = self._known.get(destination)
        if known is not None and known.view.token != own.token:
            self.forget(destination)
        for waiting in self._own.pop(destination).waiting:
            waiting.callback(None)
