"""The lines of an export, and the values that they stand for.

::

    {"format":"mqsvc-export","version":1}
    {"type":"pool","name":"p","uri":"redis://one/0","weight":10, ...}
    {"type":"flavor","name":"f","pools":["p"]}
    {"type":"queue","project":"demo","name":"orders","metadata":{},"pool":"p"}
    {"type":"subscription","id":"...","subscriber":"https://...", ...}
    {"type":"message","body":{"a":1},"ttl":60, ...}
    {"type":"end","pools":1,"flavors":1,"queues":1,"topics":0, ...}

Subscriptions and messages belong to the last queue or topic above them. A body that is
JSON is written as it is; any other, such as an encrypted one, in ``base64``. Moments
are milliseconds, spans seconds, as everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from mqsvc.messaging.model import (
    Destination,
    Flavor,
    Kind,
    Message,
    Pool,
    Record,
    StoredMessage,
    Subscription,
)
from mqsvc.wire import codec

Moment = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Span = Annotated[int, Meta(ge=0, le=253_402_300_800)]
Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]


# Some databases have an integer type of their own, which is one of Python's as well.
_encoder = msgspec.json.Encoder(enc_hook=int)


class Header(Struct, frozen=True):
    """The first line: what the file is."""

    format: str
    version: int


HEADER = Header("mqsvc-export", 1)
"""The first line of what this program writes, and reads."""


class Line(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"
):
    """Any line behind the first.

    :cvar counted_as: the field of :class:`End` that counts lines of its type.
    """

    counted_as: ClassVar[str] = ""


class PoolLine(Line, frozen=True, kw_only=True, tag="pool"):
    """A pool."""

    counted_as = "pools"

    name: Text
    uri: Text
    weight: Number
    flavor: str | None = None
    options: dict[str, Any] = {}

    @classmethod
    def of(cls, pool: Pool) -> PoolLine:
        """The line of a pool."""
        return cls(
            name=pool.name,
            uri=pool.uri,
            weight=pool.weight,
            flavor=pool.flavor,
            options=dict(pool.options),
        )

    def pool(self) -> Pool:
        """The pool of the line."""
        return Pool(self.name, self.uri, self.weight, self.flavor, self.options)


class FlavorLine(Line, frozen=True, kw_only=True, tag="flavor"):
    """A flavor."""

    counted_as = "flavors"

    name: Text
    pools: Annotated[tuple[str, ...], Meta(min_length=1)]

    @classmethod
    def of(cls, flavor: Flavor) -> FlavorLine:
        """The line of a flavor."""
        return cls(name=flavor.name, pools=flavor.pools)


class DestinationLine(Line, frozen=True, kw_only=True):
    """What the lines of queues and topics have in common.

    :ivar pool: ``null`` is the default pool; it is missing where there are no pools.
    """

    kind: ClassVar[Kind]

    project: str
    name: str
    metadata: dict[str, Any] = {}
    pool: str | UnsetType | None = UNSET

    @property
    def destination(self) -> Destination:
        """The full name of the queue or topic."""
        return Destination(self.project, self.kind, self.name)


class QueueLine(DestinationLine, frozen=True, kw_only=True, tag="queue"):
    """A queue."""

    counted_as = "queues"
    kind = Kind.QUEUE


class TopicLine(DestinationLine, frozen=True, kw_only=True, tag="topic"):
    """A topic."""

    counted_as = "topics"
    kind = Kind.TOPIC


def line_of_record(record: Record, has_pools: bool) -> DestinationLine:
    """The line of a queue or topic."""
    destination = record.destination
    line = QueueLine if destination.kind is Kind.QUEUE else TopicLine
    return line(
        project=destination.project,
        name=destination.name,
        metadata=dict(record.metadata),
        pool=record.pool if has_pools else UNSET,
    )


class SubscriptionLine(Line, frozen=True, kw_only=True, tag="subscription"):
    """A subscription."""

    counted_as = "subscriptions"

    id: Text
    subscriber: Text
    ttl: Span
    created: Moment
    options: dict[str, Any] = {}
    confirmed: bool = False

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionLine:
        """The line of a subscription."""
        return cls(
            id=subscription.id,
            subscriber=subscription.subscriber,
            ttl=subscription.ttl,
            created=subscription.created,
            options=dict(subscription.options),
            confirmed=subscription.confirmed,
        )

    def subscription(self, destination: Destination) -> Subscription:
        """The subscription of the line, as one of a destination."""
        return Subscription(
            id=self.id,
            destination=destination,
            subscriber=self.subscriber,
            ttl=self.ttl,
            created=self.created,
            options=self.options,
            confirmed=self.confirmed,
        )


class MessageLine(Line, frozen=True, kw_only=True, omit_defaults=True, tag="message"):
    """A message; it has either ``body`` or ``base64``."""

    counted_as = "messages"

    body: Raw | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET
    ttl: Span
    created: Moment
    expires: Moment
    delayed_until: Moment | None = None
    claim_count: Number = 0

    @classmethod
    def of(cls, stored: StoredMessage) -> MessageLine:
        """The line of a message."""
        message = stored.message
        is_plain = _is_one_line_of_json(message.body)
        return cls(
            body=Raw(message.body) if is_plain else UNSET,
            base64=UNSET if is_plain else message.body,
            ttl=message.ttl,
            created=message.created,
            expires=stored.expires,
            delayed_until=stored.delayed_until,
            claim_count=message.claim_count,
        )

    def stored(self) -> StoredMessage:
        """The message of the line, without an id: it will get a new one.

        :raise CodecError: it has no body that a message can have.
        """
        message = Message(
            id="",
            body=self._body(),
            ttl=self.ttl,
            created=self.created,
            claim_count=self.claim_count,
        )
        return StoredMessage(message, self.expires, self.delayed_until)

    def _body(self) -> bytes:
        match self.body, self.base64:
            case Raw(), UnsetType():
                body = bytes(self.body)
                codec.decode(body)
                return body
            case UnsetType(), bytes():
                return self.base64
        raise codec.CodecError("expected either `body` or `base64`")


class End(
    Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="end"
):
    """The last line: how many lines of each type there are. Also what counts them."""

    pools: Count = 0
    flavors: Count = 0
    queues: Count = 0
    topics: Count = 0
    subscriptions: Count = 0
    messages: Count = 0

    def count(self, line: Line) -> None:
        """One more line."""
        setattr(self, line.counted_as, getattr(self, line.counted_as) + 1)

    def __str__(self) -> str:
        counts = {name: getattr(self, name) for name in self.__struct_fields__}
        return ", ".join(f"{k}: {v}" for k, v in counts.items() if v) or "nothing"


AnyLine = (
    PoolLine | FlavorLine | QueueLine | TopicLine | SubscriptionLine | MessageLine | End
)


def encode(line: Header | Line | End) -> bytes:
    """A line with its end."""
    return _encoder.encode(line) + b"\n"


def _is_one_line_of_json(body: bytes) -> bool:
    if b"\n" in body or body != body.strip():
        return False
    try:
        codec.decode(body)
    except codec.CodecError:
        return False
    return True
