"""What the MongoDB message store keeps, and the indexes that keep its cost flat.

``destinations``, one document each::

    _id             {project, kind, name}
    owner           what its messages and claims carry; new when it is cleared
    token           random, new with every commit
    recent          the last tokens, this one included
    version         grows by one with every commit
    altered         the version of the last commit that did more than append
    pending         what the last commit has still to do to other documents
    outgoing        parcels: batches of messages for the end of other destinations,
                    unless they are there already
    next            the position of the next message
    total, claimed  how many messages there are, and are in the state claimed
    bytes           how many the bodies of its messages have
    client, run     who posted last, and where that run began
    lasting         until when there may be a claim

``messages``::

    owner, position, random     where it is, and the unguessable part of its id
    state                       see below; HIDDEN is added until it is committed
    ready                       when a delay or a claim ends; 0 in the state ready
    expires, created, ttl, client, run, claim, count, body
    size                        how many bytes the body has
    changed                     the version of the last commit that changed it
    batch, planned, begun       only while hidden: with what others, for the commit
                                after which version, and since when

In a parcel messages have the owner of the destination that sends them, and their
places in the parcel as positions and runs.

``claims``: ``owner``, ``ttl``, ``created``, ``expires``, ``changed``, and the three
of hidden documents. ``cleared``: owners whose messages are to be deleted.

As in the embedded store a state may be behind the clock: a delay or a claim that
ended leaves it until a sweep or the next claim corrects it, and whoever asks takes
``state`` together with ``ready``.
"""

from __future__ import annotations

from typing import Any

READY = 0
DELAYED = 1
CLAIMED = 2
VISIBLE = (READY, DELAYED, CLAIMED)
HIDDEN = 10

DESTINATIONS = "destinations"
MESSAGES = "messages"
CLAIMS = "claims"
CLEARED = "cleared"


def _index(name: str, *fields: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "key": dict.fromkeys(fields, 1), **options}


_WAITING = {"partialFilterExpression": {"ready": {"$gt": 0}}}
_BATCHED = {"partialFilterExpression": {"batch": {"$exists": True}}}

INDEXES = {
    DESTINATIONS: (
        _index("by_owner", "owner", unique=True),
        _index("empty", "next", partialFilterExpression={"total": 0}),
    ),
    MESSAGES: (
        # Order within a state; the last field lets expiry be seen on the index.
        _index("in_order", "owner", "state", "position", "expires"),
        _index("by_run", "owner", "state", "run"),
        # What becomes ready next, in one destination and in all of them.
        _index("waiting", "owner", "state", "ready", "position", "expires", **_WAITING),
        _index("due", "ready", "state", **_WAITING),
        _index("by_expiry", "expires", "owner", "state", "position"),
        _index(
            "by_claim",
            "claim",
            "position",
            partialFilterExpression={"claim": {"$gt": ""}},
        ),
        _index("hidden", "batch", **_BATCHED),
    ),
    CLAIMS: (_index("by_expiry", "expires"), _index("hidden", "batch", **_BATCHED)),
}
