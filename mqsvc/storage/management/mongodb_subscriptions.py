"""Operations on subscriptions in MongoDB.

A document whose time is over, or whose lease is, may still be there. Readers pass it
by, and whoever wants its place removes it; :func:`sweep` removes those whose time is
over, and :mod:`.mongodb_leases` the others.

Reads name their index. The server compares plans where it has a choice, and keeps the
winner: with nothing in the collection all are as good, and a wrong one would be used
until its cost is ten times what it was. Writes cannot name one through txmongo, so
they find documents by ``_id``, and see by the revision if there was a change.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from bson import ObjectId
from pymongo import DeleteOne
from pymongo.errors import DuplicateKeyError
from txmongo.filter import ASCENDING, hint, sort

from mqsvc.messaging.errors import (
    Conflict,
    StoreUnavailable,
    SubscriptionDoesNotExist,
)
from mqsvc.messaging.model import Destination, Subscription
from mqsvc.storage.management import sweeping
from mqsvc.storage.management.json_text import from_text, to_text
from mqsvc.storage.management.mongodb_calls import Database
from mqsvc.storage.management.mongodb_leases import held_leases
from mqsvc.storage.management.mongodb_schema import (
    BY_ID,
    BY_SUBSCRIBER,
    DESTINATIONS,
    SUBSCRIPTIONS,
    key_of,
)

_BY_ID = hint(ASCENDING(BY_ID))
_BY_SUBSCRIBER = hint(ASCENDING(BY_SUBSCRIBER))

MAX_ATTEMPTS = 10
"""How often an operation is begun that others keep getting in the way of."""


async def era_of(database: Database, destination: Destination) -> ObjectId | None:
    """What the subscriptions of a destination belong to, if it can have any."""
    document = await database[DESTINATIONS].find_one(
        key_of(destination), projection=["era"]
    )
    return None if document is None else document["era"]


async def forget_era(database: Database, era: ObjectId) -> None:
    """Delete the subscriptions of an era that is over."""
    await database[SUBSCRIPTIONS].delete_many({"era": era})


async def subscribe(
    database: Database, subscription: Subscription, now: int, revision: int
) -> Subscription:
    """Insert a subscription, or read the live one that its subscriber has."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return await _subscribe(database, subscription, now, revision)
        except DuplicateKeyError:
            # Somebody was faster: most likely with the same subscriber.
            continue
    raise StoreUnavailable


async def _subscribe(
    database: Database, subscription: Subscription, now: int, revision: int
) -> Subscription:
    era = await _era_for(database, subscription.destination)
    existing = await _of_subscriber(database, era, subscription, now)
    if existing is not None:
        return _subscription(subscription.destination, existing)
    await _make_room(database, era, subscription, now)
    document = {"era": era, "id": subscription.id, "revision": revision}
    await database[SUBSCRIPTIONS].insert_one(document | _values(subscription))
    return subscription


async def get(
    database: Database, destination: Destination, subscription_id: str, now: int
) -> Subscription:
    """Read one live subscription.

    :raise SubscriptionDoesNotExist: there is none.
    """
    document = await _find(database, destination, subscription_id, now)
    return _subscription(destination, document)


async def page(
    database: Database, destination: Destination, limit: int, after: str, now: int
) -> list[Subscription]:
    """Read the first live subscriptions behind an id."""
    era = await era_of(database, destination)
    live = await _live(database, now)
    wanted = {"era": era, "id": {"$gt": after}, **live}
    documents = await database[SUBSCRIPTIONS].find(
        wanted, sort=sort(ASCENDING("id")) + _BY_ID, limit=limit
    )
    return [_subscription(destination, document) for document in documents]


async def update(
    database: Database,
    subscription: Subscription,
    now: int,
    expected: Subscription | None,
) -> bool:
    """Replace a live subscription, unless it is not the one expected.

    :raise SubscriptionDoesNotExist: it is gone.
    :raise Conflict: the subscriber has another live one.
    """
    destination = subscription.destination
    for _ in range(MAX_ATTEMPTS):
        current = await _find(database, destination, subscription.id, now)
        if expected not in (None, _subscription(destination, current)):
            return False
        await _refuse_rival(database, current["era"], subscription, now)
        await _make_room(database, current["era"], subscription, now)
        if await _replace(database, current, subscription):
            return True
    raise StoreUnavailable


async def unsubscribe(
    database: Database, destination: Destination, subscription_id: str
) -> None:
    """Delete one subscription."""
    era = await era_of(database, destination)
    document = await database[SUBSCRIPTIONS].find_one(
        {"era": era, "id": subscription_id}, projection=["_id"], sort=_BY_ID
    )
    # Also without one: the answer must not come before a deletion by somebody else,
    # which this one has seen, is as durable as its own would be.
    await database[SUBSCRIPTIONS].delete_one({"_id": document and document["_id"]})


async def unsubscribe_all(database: Database, destination: Destination) -> None:
    """Begin a new era of a destination."""
    for _ in range(MAX_ATTEMPTS):
        era = await era_of(database, destination)
        outcome = await database[DESTINATIONS].update_one(
            key_of(destination) | {"era": era}, {"$set": {"era": ObjectId()}}
        )
        if era is None:
            return
        if outcome.matched_count:
            await forget_era(database, era)
            return
    raise StoreUnavailable


async def sweep(database: Database, now: int) -> bool:
    """Delete a bounded number of expired documents; true when there may be more."""
    documents = await database[SUBSCRIPTIONS].find(
        {"expires": {"$lte": now}}, projection=["revision"], limit=sweeping.MAX_SWEPT
    )
    if documents:
        deletions = [DeleteOne(_unchanged(document)) for document in documents]
        await database[SUBSCRIPTIONS].bulk_write(deletions, ordered=False)
    return len(documents) == sweeping.MAX_SWEPT


async def _era_for(database: Database, destination: Destination) -> ObjectId:
    """The era of a destination, which begins if there is none."""
    era = await era_of(database, destination)
    if era is not None:
        return era
    era = ObjectId()
    await database[DESTINATIONS].update_one(
        key_of(destination), {"$setOnInsert": {"era": era}}, upsert=True
    )
    return await era_of(database, destination) or era


async def _find(
    database: Database, destination: Destination, subscription_id: str, now: int
) -> Mapping[str, Any]:
    era = await era_of(database, destination)
    document = await database[SUBSCRIPTIONS].find_one(
        {"era": era, "id": subscription_id, **await _live(database, now)},
        sort=_BY_ID,
    )
    if document is None:
        raise SubscriptionDoesNotExist(
            f"Subscription {subscription_id} of {destination.kind.value} "
            f"{destination.name} does not exist."
        )
    return dict(document)


async def _live(database: Database, now: int) -> dict[str, Any]:
    """What is true of the documents that readers do not pass by."""
    held = await held_leases(database, now)
    # None is found where there is no lease.
    return {"expires": {"$gt": now}, "lease": {"$in": [None, *held]}}


async def _of_subscriber(
    database: Database, era: ObjectId, wanted: Subscription, now: int
) -> Mapping[str, Any] | None:
    document = await database[SUBSCRIPTIONS].find_one(
        {
            "era": era,
            "subscriber_digest": _digest(wanted.subscriber),
            **await _live(database, now),
        },
        sort=_BY_SUBSCRIBER,
    )
    return None if document is None else dict(document)


async def _refuse_rival(
    database: Database, era: ObjectId, wanted: Subscription, now: int
) -> None:
    rival = await _of_subscriber(database, era, wanted, now)
    if rival is not None and rival["id"] != wanted.id:
        raise Conflict(
            f"Subscription {rival['id']} has that subscriber already: "
            "update or delete that one instead."
        )


async def _make_room(
    database: Database, era: ObjectId, coming: Subscription, now: int
) -> None:
    """Delete what is over and has the subscriber or the id of what is to come."""
    over = {"era": era, "$nor": [await _live(database, now)]}
    for in_the_way, index in (
        ({"id": coming.id}, _BY_ID),
        ({"subscriber_digest": _digest(coming.subscriber)}, _BY_SUBSCRIBER),
    ):
        document = await database[SUBSCRIPTIONS].find_one(
            over | in_the_way, projection=["revision"], sort=index
        )
        if document is not None:
            await database[SUBSCRIPTIONS].delete_one(_unchanged(document))


async def _replace(
    database: Database, current: Mapping[str, Any], subscription: Subscription
) -> bool:
    """Whether a document was still what it was and has been replaced."""
    change = {"$set": _values(subscription), "$inc": {"revision": 1}}
    try:
        outcome = await database[SUBSCRIPTIONS].update_one(_unchanged(current), change)
    except DuplicateKeyError:
        return False
    return bool(outcome.matched_count)


def _unchanged(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"_id": document["_id"], "revision": document["revision"]}


def _digest(subscriber: str) -> str:
    return sha256(subscriber.encode()).hexdigest()


def _values(subscription: Subscription) -> dict[str, Any]:
    return {
        "subscriber": subscription.subscriber,
        "subscriber_digest": _digest(subscription.subscriber),
        "ttl": subscription.ttl,
        "created": subscription.created,
        "expires": subscription.expires,
        "options": to_text(subscription.options),
        "confirmed": subscription.confirmed,
        "lease": subscription.lease,
    }


def _subscription(
    destination: Destination, document: Mapping[str, Any]
) -> Subscription:
    return Subscription(
        id=document["id"],
        destination=destination,
        subscriber=document["subscriber"],
        ttl=int(document["ttl"]),
        created=int(document["created"]),
        options=from_text(document["options"]),
        confirmed=document["confirmed"],
        # Those of earlier versions have none.
        lease=document.get("lease"),
    )
