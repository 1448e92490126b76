"""The values that travel between transports, operations and stores.

All of them are immutable. A moment is an integer of milliseconds since the Unix
epoch (exact in every store, also in Lua and JSON); a span (``ttl``, ``delay``,
``grace``) is an integer of seconds, as on the wire.

What is made for each request or message is a :class:`msgspec.Struct`, which is made
ten times as fast as other frozen classes; :func:`msgspec.structs.replace` makes one
that is a little different. What only the catalog has to do with is made by attrs.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen
from msgspec import Struct

JsonObject = Mapping[str, Any]


class Kind(enum.StrEnum):
    """What a destination is; its value is part of what stores keep.

    Clients can name queues and topics only; the others are the service's own.
    """

    QUEUE = "queue"
    TOPIC = "topic"
    OUTBOX = "outbox"
    DELIVERY = "delivery"


NAMEABLE = (Kind.QUEUE, Kind.TOPIC)
"""What clients can name."""


class Destination(Struct, frozen=True, cache_hash=True):
    """The full name of a queue or topic: nothing is ever looked up by less.

    :ivar project: the tenant, any text.
    :ivar kind: a queue and a topic of one name are different destinations.
    :ivar name: 1 to 64 letters, digits, ``_``, ``-`` and ``.``.
    """

    project: str
    kind: Kind
    name: str


@frozen
class Record:
    """What the management store keeps of one destination.

    :ivar metadata: the JSON object as stored, reserved defaults not filled in.
    :ivar revision: grows with each change, for compare-and-set updates.
    :ivar pool: the pool its messages live in; none is the default one.
    """

    destination: Destination
    metadata: JsonObject
    revision: int
    pool: str | None = None


@frozen
class Pool:
    """A message store that messages can be placed in.

    :ivar uri: as ``drivers.message_store`` takes it; may hold a password.
    :ivar weight: its share of new destinations among the pools they can go to;
        0 gets none.
    :ivar flavor: the name of the flavor it belongs to, which need not exist.
    :ivar options: take the place of those in the URI.
    """

    name: str
    uri: str = field(repr=False)
    weight: int
    flavor: str | None = None
    options: JsonObject = field(factory=dict, repr=False)


@frozen
class Flavor:
    """A kind of pool that queues can ask for.

    :ivar pools: the names of those that belong to it, sorted.
    """

    name: str
    pools: tuple[str, ...]


class NewMessage(Struct, frozen=True):
    """A validated message on its way into a store.

    :ivar body: the body as JSON text in UTF-8.
    :ivar ttl: seconds from the post until it is gone.
    :ivar delay: seconds from the post until it can be claimed; 0 is at once.
    :ivar encrypt: whether the body must not be stored in clear.
    """

    body: bytes
    ttl: int
    delay: int = 0
    encrypt: bool = False


class Posting(Struct, frozen=True):
    """Messages for a destination.

    :ivar messages: at least one.
    """

    destination: Destination
    messages: Sequence[NewMessage]


class Message(Struct, frozen=True):
    """A message as a store gives it out.

    :ivar id: opaque to clients; the text of a position, see :mod:`mqsvc.storage.ids`.
    :ivar body: the body as JSON text in UTF-8, or text that a stage made of it.
    :ivar ttl: seconds; what was posted, or what a claim or a dead-letter move made
        of it.
    :ivar created: when it was accepted (for a dead letter: still when it was posted).
    :ivar claim_id: the claim it carries, live or long expired; none once released.
    :ivar claim_count: how often it was handed out by a claim.
    """

    id: str
    body: bytes
    ttl: int
    created: int
    claim_id: str | None = None
    claim_count: int = 0


class StoredMessage(Struct, frozen=True):
    """All that a store knows of a message, to be taken to another store.

    :ivar expires: when it is gone.
    :ivar delayed_until: when it can be claimed, if that was in the future.
    """

    message: Message
    expires: int
    delayed_until: int | None = None


class Selection(Struct, frozen=True):
    """Which messages a page holds, oldest first.

    :ivar limit: at most so many, at least 1.
    :ivar after: the id of any message, existing or not: only later positions.
    :ivar hide_client: leave out what this client posted.
    :ivar include_claimed: also those under a live claim.
    :ivar include_delayed: also those whose delay is not over.
    """

    limit: int
    after: str | None = None
    hide_client: str | None = None
    include_claimed: bool = False
    include_delayed: bool = False


class Claim(Struct, frozen=True):
    """A live claim and what it still holds, oldest first.

    :ivar ttl: seconds; it ends at ``created + ttl``.
    :ivar created: when it was made or last renewed.
    """

    id: str
    ttl: int
    created: int
    messages: tuple[Message, ...]


class DeadLetterRule(Struct, frozen=True):
    """Where a claim moves messages that were handed out often enough.

    :ivar target: the receiving queue, never the queue itself.
    :ivar max_claim_count: deliveries allowed before the move, at least 1.
    :ivar ttl: seconds of life given at the move; none keeps the remaining life.
    """

    target: Destination
    max_claim_count: int
    ttl: int | None = None


class Claimed(Struct, frozen=True):
    """What one attempt to claim did.

    :ivar claim: none when nothing was handed out.
    :ivar dead_lettered: how many messages the attempt moved to the target.
    """

    claim: Claim | None
    dead_lettered: int = 0


class Stats(Struct, frozen=True):
    """Numbers of one destination; delayed messages count as free."""

    claimed: int = 0
    free: int = 0
    oldest: Message | None = None
    newest: Message | None = None

    @property
    def total(self) -> int:
        """All messages that are not expired."""
        return self.claimed + self.free


@frozen
class Subscription:
    """Who is told of the messages of one destination.

    :ivar id: opaque; ids sort by creation.
    :ivar subscriber: a URI.
    :ivar ttl: seconds; gone at ``created + ttl``.
    :ivar created: when it was made or its ttl last set.
    :ivar lease: of the process whose connection the subscriber is, if it is one;
        nobody sees it while that lease is over.
    """

    id: str
    destination: Destination
    subscriber: str
    ttl: int
    created: int
    options: JsonObject
    confirmed: bool = False
    lease: str | None = None

    @property
    def expires(self) -> int:
        """The moment from which it is gone."""
        return self.created + self.ttl * 1000
