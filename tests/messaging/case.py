"""Operations over real stores, all in the hands of the test."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import View
from mqsvc.messaging.model import Claim, Destination, Kind
from mqsvc.messaging.operations import Operations
from mqsvc.messaging.records import Records
from tests.messaging.stores import Watched, open_management, open_messages, unlimited

EPOCH = 1_800_000_000
"""Where the clock of every test begins, in seconds."""

NOW = EPOCH * 1000

QUEUE = Destination("p1", Kind.QUEUE, "q")
OTHER = Destination("p1", Kind.QUEUE, "other")
GRAVE = Destination("p1", Kind.QUEUE, "grave")
TOPIC = Destination("p1", Kind.TOPIC, "t")

WORN_OUT = {"_max_claim_count": 1, "_dead_letter_queue": "grave"}
"""Metadata of a queue that moves messages to :data:`GRAVE` at the second claim."""


class OperationsTestCase(SynchronousTestCase):
    """All operations, with a watched store below and a clock that stands still.

    :cvar limits: the configuration of the test.
    """

    limits: ClassVar[Limits] = Limits()

    def setUp(self) -> None:
        """Wire the operations over empty stores."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.management = Watched(open_management(self))
        self.messages = Watched(open_messages(self))
        self.over(self.management, self.messages)

    def over(self, management: Any, messages: Any) -> None:
        """Wire the operations over these stores."""
        records = Records(management, self.limits, unlimited(management))
        self.operations = Operations.over(
            management, messages, records, self.limits, self.clock
        )

    @property
    def bus(self) -> Bus:
        """The signals between the operations."""
        return self.operations.bus

    def start(self, operation: Awaitable[Any]) -> Deferred[Any]:
        """An operation under way."""
        return Deferred.fromCoroutine(operation)

    def done(self, operation: Awaitable[Any]) -> Any:
        """What an operation gives at once."""
        return self.successResultOf(self.start(operation))

    def fails(self, error: type[Exception], operation: Awaitable[Any]) -> Any:
        """The error with which an operation fails at once."""
        return self.failureResultOf(self.start(operation), error).value

    def cancel(self, operation: Deferred[Any]) -> None:
        """Hang up on an operation; the caller sees nothing more of it."""
        operation.addErrback(lambda _: None)
        operation.cancel()

    def leaves_nothing(self) -> None:
        """Fail when anything is still waited for or remembered for somebody."""
        waiting = self.operations.waiting
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual({}, self.bus._callbacks)
        self.assertEqual({}, self.operations.queues._occupancy._turns)
        self.assertEqual({}, waiting._lines)
        self.assertEqual(set(), waiting._signals)

    def post(self, *bodies: Any, to: Destination = QUEUE, **fields: Any) -> list[str]:
        """Post one message for each body; their ids."""
        messages = [{"body": body, **fields} for body in bodies]
        return self.done(self.operations.messages.post(to, "producer", messages, 0))

    def create(self, destination: Destination, **metadata: Any) -> None:
        """Make a destination."""
        self.done(self.operations.queues.create(destination, metadata))

    def claim(self, limit: int = 10) -> Claim | None:
        """Claim without waiting."""
        return self.done(self.operations.claims.create(QUEUE, None, limit))

    def claiming(self, wait: int = 20, limit: int = 1) -> Deferred[Claim | None]:
        """A claim that waits."""
        return self.start(self.operations.claims.create(QUEUE, None, limit, wait))

    def listed(self, destination: Destination = QUEUE) -> list[bytes]:
        """The bodies that a client sees."""
        listing = self.done(self.operations.messages.page(destination, View()))
        return [message.body for message in listing.messages]

    def bodies(self, claiming: Deferred[Claim | None]) -> list[bytes]:
        """What a claim that was waited for has given."""
        claim = self.successResultOf(claiming)
        return [] if claim is None else [message.body for message in claim.messages]
