"""Steps of the MongoDB message store, and the notes they leave until they are done.

A note stands in the document of a destination, under ``pending``. It says what a
committed step has still to do to other documents, in parts that may each be done any
number of times, by anybody, early or late: a part that was done before finds nothing.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

from attrs import Factory, define, fields, frozen
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from mqsvc.messaging.model import Destination, Kind
from mqsvc.storage.messages.mongodb_commands import Connection, together
from mqsvc.storage.messages.mongodb_schema import CLAIMS, CLEARED, HIDDEN, MESSAGES

Key = dict[str, str]
Document = dict[str, Any]

RECENT = 32
"""Tokens a destination remembers, to tell a step whether it was committed."""

_SHOW: dict[str, Document] = {
    "$inc": {"state": -HIDDEN},
    "$unset": {"batch": "", "planned": "", "begun": ""},
}
_SHOW_CLAIM = {"$unset": _SHOW["$unset"]}


def key_of(destination: Destination) -> Key:
    """The ``_id`` of a destination's document."""
    return {
        "project": destination.project,
        "kind": destination.kind.value,
        "name": destination.name,
    }


def destination_of(key: Key) -> Destination:
    """Whose document has an ``_id``."""
    return Destination(key["project"], Kind(key["kind"]), key["name"])


def bytes_of(messages: Iterable[Document]) -> int:
    """How many bytes the bodies of messages have."""
    return sum(message["size"] for message in messages)


@frozen
class Parcel:
    """Hidden messages of a committed step that belong at the end of another place.

    :ivar at: the moment of the step.
    """

    batch: ObjectId
    target: Destination
    at: int

    @classmethod
    def of(cls, kept: Document) -> Parcel:
        """One as a document of a destination has it."""
        return cls(kept["batch"], destination_of(kept["target"]), kept["at"])

    def kept(self) -> Document:
        """The same for a document of a destination."""
        return {"batch": self.batch, "target": key_of(self.target), "at": self.at}


@frozen
class View:
    """A destination at one moment, with nothing left to do in it.

    :ivar altered: the version of the last commit that did more than append.
    :ivar outgoing: what is maybe not where it belongs yet. Without that nobody may
        see the destination; only to put something at its end it makes no difference.
    """

    key: Key
    owner: ObjectId
    token: ObjectId
    version: int
    next: int
    total: int
    claimed: int
    bytes: int
    client: str | None
    run: int
    altered: int
    outgoing: tuple[Parcel, ...] = ()

    @classmethod
    def of(cls, document: dict[str, Any]) -> View:
        """What a document says whose note, if it has one, is carried out."""
        names = [attribute.name for attribute in fields(cls)]
        values = {name: document[name] for name in names[1:-1]}
        outgoing = map(Parcel.of, document.get("outgoing", ()))
        return cls(key=document["_id"], outgoing=tuple(outgoing), **values)

    def only_grew_to(self, document: dict[str, Any]) -> bool:
        """Whether nothing but new messages came since, as a later document says."""
        return (self.owner, self.altered) == (document["owner"], document["altered"])


@define
class Move:
    """Copies of messages that a step puts at the end of another destination."""

    target: Destination
    messages: list[Document]

    @property
    def bytes(self) -> int:
        """How many the bodies of the copies have."""
        return bytes_of(self.messages)

    def step(self, view: View) -> Step:
        """The step that appends them, apart from counts, which are still open."""
        for position, message in enumerate(self.messages, view.next):
            message |= {"owner": view.owner, "position": position, "run": position}
        return Step(messages=self.messages, run=view.next)


@define
class Step:
    """What is to be changed, and what the caller is told.

    :ivar messages: new ones, with their positions.
    :ivar claims: new ones.
    :ivar total: by how much the number of messages grows, without ``move``.
    :ivar bytes: by how much their bodies grow, without ``move``.
    :ivar sets: ids of messages, and the new values of some of their fields.
    :ivar gone: ids of messages to delete.
    :ivar set_claim: the id of a claim, and new values of its fields.
    :ivar sent: new messages for other destinations, without their positions.
    :ivar parcels: the same, once they are stored.
    :ivar placed: batches of parcels for this destination, and their first positions.
    :ivar end: the position after those.
    :ivar forget: all messages and claims, at once.
    :ivar fence: commit although nothing changes.
    """

    result: Any = None
    messages: list[Document] = Factory(list)
    claims: list[Document] = Factory(list)
    client: str | None = None
    run: int | None = None
    total: int = 0
    claimed: int = 0
    bytes: int = 0
    lasting: int = 0
    sets: list[tuple[list[Any], dict[str, Any]]] = Factory(list)
    gone: list[Any] = Factory(list)
    set_claim: tuple[str, dict[str, Any]] | None = None
    gone_claim: str | None = None
    move: Move | None = None
    sent: dict[Destination, list[Document]] = Factory(dict)
    parcels: list[Parcel] = Factory(list)
    placed: list[tuple[ObjectId, int]] = Factory(list)
    end: int = 0
    forget: bool = False
    fence: bool = False

    @property
    def idle(self) -> bool:
        """Whether nothing is to be changed."""
        return not (self.messages or self.placed or self.alters or self.fence)

    @property
    def alters(self) -> bool:
        """Whether it does more than append."""
        return bool(
            self.claims
            or self.sets
            or self.gone
            or self.set_claim
            or self.gone_claim
            or self.forget
        )


def hidden(batch: ObjectId, view: View, now: int) -> Document:
    """What new documents carry until they are shown."""
    return {"batch": batch, "planned": view.version, "begun": now}


async def store(connection: Connection, step: Step, hidden: Document) -> None:
    """Put new documents where nobody looks."""
    messages = [_hide(message, hidden) for message in step.messages]
    for target, sent in step.sent.items():
        parcel = Parcel(ObjectId(), target, hidden["begun"])
        step.parcels.append(parcel)
        in_parcel = {**hidden, "batch": parcel.batch}
        messages += [_hide(message, in_parcel) for message in sent]
    await together(
        connection.insert(MESSAGES, messages),
        connection.insert(CLAIMS, [{**claim, **hidden} for claim in step.claims]),
    )


def _hide(message: Document, hidden: Document) -> Document:
    state = message["state"] % HIDDEN + HIDDEN
    message.update(hidden, _id=ObjectId(), state=state)
    return message


async def discard(connection: Connection, *batches: ObjectId) -> None:
    """Delete hidden documents that cannot be committed any more."""
    those = {"batch": {"$in": batches}}
    await together(*(connection.discard(each, those) for each in (MESSAGES, CLAIMS)))


def note(view: View, step: Step, batch: ObjectId) -> dict[str, Any]:
    """What has to be done to other documents once a step is committed."""
    note: dict[str, Any] = {"version": view.version + 1}
    if step.messages:
        note["batch"] = batch
    if step.placed:
        note["placed"] = [{"batch": each, "from": at} for each, at in step.placed]
        note["owner"] = view.owner
    if step.claims:
        note["claim_batch"] = batch
    if step.sets:
        note["sets"] = [{"ids": ids, "to": to} for ids, to in step.sets]
    if step.gone:
        note["gone"] = step.gone
    if step.set_claim:
        note["set_claim"] = {"id": step.set_claim[0], "to": step.set_claim[1]}
    if step.gone_claim:
        note["gone_claim"] = step.gone_claim
    if step.forget:
        note["forget"] = view.owner
    return note


def commitment(
    view: View, step: Step, note: dict[str, Any], token: ObjectId
) -> dict[str, Any]:
    """The update of a destination's document that commits a step."""
    values: dict[str, Any] = {}
    if step.messages:
        values |= {
            "next": step.messages[-1]["position"] + 1,
            "client": step.client,
            "run": step.run,
        }
    if step.placed:
        values |= {"next": step.end, "client": None, "run": step.placed[-1][1]}
    if step.forget:
        values |= {"owner": ObjectId(), "total": 0, "claimed": 0, "bytes": 0}
        values |= {"client": None, "run": 0, "lasting": 0}
    if step.alters:
        values["altered"] = note["version"]
    if len(note) > 1:
        values["pending"] = note
    if step.parcels:
        values["outgoing"] = [parcel.kept() for parcel in step.parcels]
    update = fence(token)
    update["$set"].update(values)
    # Nothing may be left to do but to replace what the step before left.
    done = {"pending"} if view.outgoing else {"pending", "outgoing"}
    if done - values.keys():
        update["$unset"] = dict.fromkeys(done - values.keys(), "")
    if not step.forget:
        update["$inc"] |= {"total": step.total, "claimed": step.claimed}
        update["$inc"]["bytes"] = step.bytes
        update["$max"] = {"lasting": step.lasting}
    return update


def fence(token: ObjectId) -> dict[str, Any]:
    """The update that every commit is at least."""
    return {
        "$set": {"token": token},
        "$inc": {"version": 1},
        "$push": {"recent": {"$each": [token], "$slice": -RECENT}},
    }


async def apply(connection: Connection, note: dict[str, Any]) -> None:
    """Change other documents; each part does nothing where it was done before."""
    version = note["version"]
    await together(
        connection.update_many(MESSAGES, _message_updates(note, version)),
        connection.update_many(CLAIMS, _claim_updates(note, version)),
        *_deletions(connection, note),
    )


def _deletions(
    connection: Connection, note: dict[str, Any]
) -> Iterator[Coroutine[Any, Any, None]]:
    if "gone" in note:
        yield connection.discard(MESSAGES, {"_id": {"$in": note["gone"]}})
    if "gone_claim" in note:
        yield connection.discard(CLAIMS, {"_id": note["gone_claim"]})
    if "forget" in note:
        yield _mark_cleared(connection, note["forget"])


async def _mark_cleared(connection: Connection, owner: ObjectId) -> None:
    with suppress(DuplicateKeyError):
        await connection.insert(CLEARED, [{"_id": owner}])


Updates = list[tuple[Document, Document]]


def _message_updates(note: dict[str, Any], version: int) -> Updates:
    updates: Updates = [
        (
            {"_id": {"$in": part["ids"]}, "changed": {"$lt": version}},
            {"$set": {**part["to"], "changed": version}},
        )
        for part in note.get("sets", ())
    ]
    if "batch" in note:
        show = {**_SHOW, "$set": {"changed": version}}
        updates.append(({"batch": note["batch"]}, show))
    for part in note.get("placed", ()):
        # They were stored with their places in the batch.
        places = dict.fromkeys(("position", "run"), part["from"])
        show = {**_SHOW, "$inc": {**_SHOW["$inc"], **places}}
        show["$set"] = {"owner": note["owner"], "changed": version}
        updates.append(({"batch": part["batch"]}, show))
    return updates


def _claim_updates(note: dict[str, Any], version: int) -> Updates:
    updates: Updates = []
    if "set_claim" in note:
        claim = note["set_claim"]
        older = {"_id": claim["id"], "changed": {"$lt": version}}
        updates.append((older, {"$set": {**claim["to"], "changed": version}}))
    if "claim_batch" in note:
        show = {**_SHOW_CLAIM, "$set": {"changed": version}}
        updates.append(({"batch": note["claim_batch"]}, show))
    return updates
