"""What a channel is given, what it does, and what comes of it."""

from __future__ import annotations

import enum
from collections.abc import Awaitable
from typing import Protocol

from attrs import evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from mqsvc.messaging.model import JsonObject, Subscription

TRUST_PREFIX = "trust+"
"""How the schemes of subscribers begin that act for the user who subscribed them."""


class Verdict(enum.Enum):
    """What to do next with a notification."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """It may work later."""
    GONE = "gone"
    """The receiver wants no more notifications of this subscription."""
    REFUSED = "refused"
    """Another attempt would fail as well."""


@frozen
class Letter:
    """How a notification looks as mail where its subscription does not say.

    :ivar sender: as in a ``From`` header.
    """

    subject: str
    sender: str
    text: str


@frozen
class Notice:
    """One notification to one subscriber.

    :ivar delivery_id: the same for all attempts, so that a receiver can tell repeats.
    :ivar attempt: 1 is the first one.
    :ivar content: the JSON object that tells of the message.
    :ivar letter: what mail says in place of the content.
    :ivar posted: when the message was, milliseconds since the epoch.
    :ivar via: where the message was forwarded through, see :mod:`.forwarding`.
    """

    subscription: Subscription
    delivery_id: str
    attempt: int
    content: bytes = field(repr=False)
    letter: Letter | None = field(default=None, repr=False)
    posted: int = 0
    via: str = ""


@frozen
class Outcome:
    """What came of one attempt.

    :ivar status: the answer's, of HTTP or SMTP, or the exit code of a command.
    :ivar error: why it failed, in a few words without secrets or bodies.
    :ivar retry_after: seconds after which the receiver wants the next attempt.
    :ivar duration: seconds that the attempt took.
    """

    verdict: Verdict
    status: int | None = None
    error: str = ""
    retry_after: int | None = None
    duration: float = 0.0


def retry(error: str, status: int | None = None) -> Outcome:
    """Failed, and worth another attempt."""
    return Outcome(Verdict.RETRY, status, error)


def refused(error: str, status: int | None = None) -> Outcome:
    """Failed for good."""
    return Outcome(Verdict.REFUSED, status, error)


class Channel(Protocol):
    """A way to tell subscribers of some schemes."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """Of subscribers, in lower case."""

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """Accept a subscriber and its options, before they are kept.

        :raise InvalidRequest: they could never be delivered to.
        """

    async def deliver(self, notice: Notice) -> Outcome:
        """Make one attempt; whatever fails is in the outcome.

        Cancelling it closes what it has open.
        """


def scheme_of(subscriber: str) -> str:
    """The scheme of a subscriber, in lower case."""
    return subscriber.partition(":")[0].lower()


async def timed(clock: IReactorTime, attempt: Awaitable[Outcome]) -> Outcome:
    """The outcome of an attempt and how long it took."""
    started = clock.seconds()
    outcome = await attempt
    return evolve(outcome, duration=clock.seconds() - started)


def cause(error: BaseException) -> BaseException:
    """What went wrong on a connection; Twisted packs that into lists of failures."""
    reasons = getattr(error, "reasons", None)
    return cause(reasons[0].value) if reasons else error
