"""What stands in the internal queues of notifications, as JSON.

An *entry* of the outbox is written in the same step as the messages it tells of. A
*delivery* is one notification for one subscription that is to be made later. What came
of attempts, and what was given up, is kept in queues of the subscription.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

from mqsvc.messaging.model import Destination, Kind, NewMessage
from mqsvc.notification.channel import Letter

CLIENT = "mqsvc-notification"
"""The poster of what the service writes down for itself."""

KEPT_SECONDS = 14 * 24 * 3600
"""How long an entry or a delivery is worth anything: longer than any policy retries."""


class Entry(Struct, frozen=True):
    """A post to a destination that has subscriptions.

    :ivar contents: for each message the JSON object that tells of it.
    :ivar via: where the messages were forwarded through, see :mod:`.forwarding`.
    """

    project: str
    kind: str
    name: str
    contents: tuple[Raw, ...]
    via: str = ""

    @property
    def destination(self) -> Destination:
        """Where the messages were posted."""
        return Destination(self.project, Kind(self.kind), self.name)


class Delivery(Struct, frozen=True):
    """One notification for one subscription.

    :ivar id: the same for all attempts.
    :ivar attempt: which one is next; 1 is the first.
    :ivar posted: when the message was, milliseconds since the epoch.
    :ivar via: as in the entry.
    :ivar letter: what mail says in place of the content.
    :ivar is_question: whether it asks the subscriber to confirm; all others tell of
        messages.
    """

    id: str
    project: str
    kind: str
    name: str
    subscription: str
    content: Raw
    attempt: int = 1
    posted: int = 0
    via: str = ""
    letter: Letter | None = None
    is_question: bool = False

    @property
    def destination(self) -> Destination:
        """Where the message was posted."""
        return Destination(self.project, Kind(self.kind), self.name)


class Attempt(Struct, frozen=True):
    """What came of one attempt.

    :ivar time: when it ended, milliseconds since the epoch.
    :ivar outcome: ``delivered``, ``retry``, ``gone``, ``refused`` or ``exhausted``.
    :ivar duration: seconds.
    :ivar next_try: when the next one is due, milliseconds since the epoch.
    """

    delivery: str
    attempt: int
    time: int
    outcome: str
    status: int | None = None
    duration: float = 0.0
    error: str = ""
    next_try: int | None = None


class Attempts(Struct, frozen=True):
    """Attempts of one subscription that are kept together."""

    attempts: tuple[Attempt, ...]


def outbox(pool: str | None) -> Destination:
    """The outbox of a pool."""
    return Destination(pool or "", Kind.OUTBOX, "entries")


def due(pool: str | None) -> Destination:
    """The deliveries of a pool that wait for their time."""
    return Destination(pool or "", Kind.DELIVERY, "due")


def history(pool: str | None, subscription_id: str) -> Destination:
    """The attempts of a subscription."""
    return Destination(pool or "", Kind.DELIVERY, f"attempts-{subscription_id}")


def given_up(pool: str | None, subscription_id: str) -> Destination:
    """The deliveries of a subscription that were given up."""
    return Destination(pool or "", Kind.DELIVERY, f"given-up-{subscription_id}")


def entry_of(
    destination: Destination, contents: Sequence[bytes], via: str, encrypt: bool
) -> NewMessage:
    """The entry for a post, ready to be stored."""
    entry = Entry(
        destination.project,
        destination.kind.value,
        destination.name,
        tuple(map(Raw, contents)),
        via,
    )
    return stored(entry, KEPT_SECONDS, encrypt=encrypt)


def stored(
    record: Struct, ttl: int, delay: int = 0, encrypt: bool = False
) -> NewMessage:
    """A record as a message of an internal queue.

    :param ttl: seconds.
    :param delay: seconds until it can be claimed.
    """
    return NewMessage(msgspec.json.encode(record), ttl, delay, encrypt)
