"""Collections and indexes of the MongoDB management store.

A document of :data:`DESTINATIONS` is a record if it has a revision. Without one it is
there for subscriptions, or was to become a record. Its ``era`` is what subscriptions
belong to: a new one makes them all be gone in the same write, and so does the removal
of the document. Those of an era that is over are deleted after that, which nobody can
see; if the process dies just then they stay until they expire. Its ``proposals`` are
what :mod:`.mongodb_placement` is about.

A document of :data:`LEASES` says until when a process holds what names it; see
:mod:`.mongodb_leases`. One document, in :data:`POOLS`, has all pools and flavors; see
:mod:`.mongodb_pools`.
"""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, MongoClient
from pymongo import database as blocking
from pymongo.errors import PyMongoError

from mqsvc.messaging.model import Destination
from mqsvc.storage.errors import SchemaTooNew, StoreOpenError
from mqsvc.storage.management.mongodb_calls import reason_of
from mqsvc.storage.mongodb_uri import Address, refuse_router

DESTINATIONS = "management_destinations"
SUBSCRIPTIONS = "management_subscriptions"
LEASES = "management_leases"
POOLS = "management_pools"
SCHEMA = "management_schema"

CATALOG = "catalog"
"""The ``_id`` of the one document of :data:`POOLS`."""

VERSION = 2
"""2 since a record may name a pool, which a program of version 1 would pass by."""

BY_NAME = ("project", "kind", "name")
BY_POOL = ("pool",)
BY_PROPOSED_POOL = ("proposals.pool",)
BY_ID = ("era", "id")
BY_SUBSCRIBER = ("era", "subscriber_digest")
BY_EXPIRY = ("expires",)
BY_LEASE = ("lease",)

_INDEXES: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    (DESTINATIONS, BY_NAME, {"unique": True}),
    (DESTINATIONS, BY_POOL, {"sparse": True}),
    (DESTINATIONS, BY_PROPOSED_POOL, {"sparse": True}),
    (SUBSCRIPTIONS, BY_ID, {"unique": True}),
    (SUBSCRIPTIONS, BY_SUBSCRIBER, {"unique": True}),
    (SUBSCRIPTIONS, BY_EXPIRY, {}),
    (SUBSCRIPTIONS, BY_LEASE, {}),
)


def key_of(destination: Destination) -> dict[str, str]:
    """The fields that name a destination, with their values."""
    return {
        "project": destination.project,
        "kind": destination.kind.value,
        "name": destination.name,
    }


def prepare(address: Address) -> None:
    """Make the indexes that are missing, blocking; any number may do so at once.

    :raise SchemaTooNew: a newer version of the program made the database.
    :raise StoreOpenError: it cannot be reached or used.
    """
    try:
        with MongoClient[dict[str, Any]](
            address.uri, serverSelectionTimeoutMS=address.patience
        ) as client:
            _prepare(client[address.database], address)
    except PyMongoError as error:
        where = f"mongodb://{address.hosts}/{address.database}"
        raise StoreOpenError(f"{where} cannot be used: {reason_of(error)}") from error


def _prepare(database: blocking.Database[dict[str, Any]], address: Address) -> None:
    refuse_router(database.command("hello"))
    schema = database[SCHEMA].find_one({"_id": "version"}) or {"number": 0}
    if schema["number"] > VERSION:
        where = f"mongodb://{address.hosts}/{address.database}"
        raise SchemaTooNew(where, schema["number"], VERSION)
    for collection, fields, options in _INDEXES:
        keys = [(name, ASCENDING) for name in fields]
        database[collection].create_index(keys, **options)
    database[SCHEMA].update_one(
        {"_id": "version"}, {"$max": {"number": VERSION}}, upsert=True
    )
