"""Notifications into other queues and topics of the project, without HTTP.

Each message becomes a new one in the target, as if somebody had posted it there. The
poster of such a message tells which destinations it came through, so that it enters
none of them twice and goes on for some steps only; and how many more may be made of it,
so that queues that all follow each other do not make a flood of one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from attrs import frozen
from msgspec import Raw, Struct, json
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mqsvc.clock import Now
from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidRequest, MessagingError, QuotaExceeded
from mqsvc.messaging.limits import MIN_TTL
from mqsvc.messaging.messages import Messages
from mqsvc.messaging.model import (
    NAMEABLE,
    Destination,
    JsonObject,
    Kind,
    Subscription,
)
from mqsvc.messaging.shield import finished
from mqsvc.notification.channel import (
    Notice,
    Outcome,
    Verdict,
    refused,
    retry,
    scheme_of,
    timed,
)

SCHEMES = tuple(kind.value for kind in NAMEABLE)

MOST_STEPS = 4
"""How often one message is forwarded, from its first destination to the last one."""

MOST_COPIES = 10_000
"""How many messages are made of one by forwarding, in all steps together."""

_POSTER = "mqsvc-via-"
"""What the poster of a forwarded message begins with; no client's UUID does."""

_MARK_BYTES = 6


def _mark(destination: Destination) -> str:
    """What stands for a destination among those of its project."""
    text = f"{destination.kind.value}:{destination.name}"
    return blake2b(text.encode(), digest_size=_MARK_BYTES).hexdigest()


def _marks(via: str) -> list[str]:
    marks, size = via.rpartition(".")[2], 2 * _MARK_BYTES
    return [marks[start : start + size] for start in range(0, len(marks), size)]


def _copies(via: str) -> int:
    """How many messages may still be made of a message."""
    copies = via.rpartition(".")[0]
    return int(copies, 16) if copies else MOST_COPIES


def via_of(poster: str) -> str:
    """Where a message was forwarded through, and how many more may be made of it.

    :param poster: of the message.
    """
    return poster.removeprefix(_POSTER) if poster.startswith(_POSTER) else ""


def target_of(source: Destination, subscriber: str) -> Destination | None:
    """The queue or topic that a subscriber is; none if it is something else.

    :param source: what is subscribed to; the target is in its project.
    """
    is_target = scheme_of(subscriber) in SCHEMES
    return _target(source, subscriber) if is_target else None


def _target(source: Destination, subscriber: str) -> Destination:
    scheme, _, name = subscriber.partition(":")
    return Destination(source.project, Kind(scheme.lower()), name)


def ends(via: str, source: Destination, subscriber: str) -> bool:
    """Whether a message of the source goes no further on this way.

    It has been where it would go now, or was forwarded as often as it may.
    """
    target = target_of(source, subscriber)
    if target is None:
        return False
    marks = _marks(via)
    return len(marks) >= MOST_STEPS or _mark(target) in [*marks, _mark(source)]


def share(
    via: str, subscriptions: Sequence[Subscription]
) -> tuple[list[Subscription], str]:
    """Who is told of a message where not all may be, and what goes on with it.

    Queues and topics share evenly what may still be made of the message. Where there
    is not enough for all, the first ones get it.

    :param subscriptions: that are to be told of it.
    :return: those that are, and ``via`` for them.
    """
    copies, told, forwarded = _copies(via), list[Subscription](), 0
    for each in subscriptions:
        is_forwarded = target_of(each.destination, each.subscriber) is not None
        if not is_forwarded or forwarded < copies:
            told.append(each)
            forwarded += is_forwarded
    left = (copies - forwarded) // forwarded if forwarded else copies
    return told, f"{left:x}.{''.join(_marks(via))}"


class _Told(Struct):
    """What a notification tells of its message."""

    ttl: int
    body: Raw


@frozen
class Forwarding:
    """Delivers to ``queue`` and ``topic`` subscribers."""

    _messages: Messages
    _clock: IReactorTime
    _now: Now

    schemes = SCHEMES

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        scheme, _, name = subscriber.partition(":")
        if not checks.is_name(name):
            raise InvalidRequest(
                f"The 'subscriber' must be '{scheme}:' and the name of a {scheme} of "
                "this project."
            )

    async def deliver(self, notice: Notice) -> Outcome:
        """See :class:`~mqsvc.notification.channel.Channel`.

        Cancelling it changes nothing: it is over in a moment, and whoever began anew
        would deliver twice.
        """
        posting = Deferred.fromCoroutine(self._deliver(notice))
        return await timed(self._clock, finished(posting))

    async def _deliver(self, notice: Notice) -> Outcome:
        try:
            await self._post(notice)
        except QuotaExceeded as error:
            why = (error.status, error.description, error.retry_after)
            return Outcome(Verdict.RETRY, *why)
        except MessagingError as error:
            make = retry if error.status >= 500 else refused
            return make(error.description, error.status)
        return Outcome(Verdict.DELIVERED)

    async def _post(self, notice: Notice) -> None:
        subscription = notice.subscription
        source = subscription.destination
        target = _target(source, subscription.subscriber)
        told = json.decode(notice.content, type=_Told)
        message = {"body": told.body, **_life(notice, told.ttl, self._now())}
        poster = _POSTER + notice.via + _mark(source)
        await self._messages.post(target, poster, [message], len(told.body))


def _life(notice: Notice, ttl: int, now: int) -> dict[str, int]:
    """The ttl of a forwarded message: what is left, if something is."""
    left = -(-(notice.posted + ttl * 1000 - now) // 1000)
    return {"ttl": max(left, MIN_TTL)} if left > 0 else {}
