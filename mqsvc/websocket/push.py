"""One subscription that is pushed to a connection."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from autobahn.websocket.protocol import PreparedMessage
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Subscription
from mqsvc.websocket.frames import Format
from mqsvc.websocket.notification import Notification, farewell
from mqsvc.websocket.reading import MOST_AT_A_TIME
from mqsvc.websocket.terms import Terms

MOST_LATE = 1000
"""Notifications out of their order that a subscription which lags can have waiting."""


class Outlet(Protocol):
    """Where notifications go."""

    @property
    def has_room(self) -> bool:
        """Whether it takes one now; otherwise it will say when it does."""

    def send(self, frame: PreparedMessage) -> None:
        """Take one."""


class Source(Protocol):
    """Where notifications come from: a feed."""

    async def notifications(
        self, after: str, limit: int
    ) -> tuple[list[Notification], str, bool]:
        """Those behind a place, where to go on, and whether there were no more."""

    def join(self, push: Push) -> bool:
        """Hand over what comes from now on, unless the push lags behind it."""

    def leave(self, push: Push) -> None:
        """Hand over nothing any more."""


class Push:
    """Follows a destination, at the pace of its client.

    As long as the client keeps up, the feed of the destination hands over each message
    as it comes. A client that does not, or that began in the past, *lags*: then the
    push reads on from its own place, as much as there is room for, and keeps nothing.

    :ivar place: the id of a message; it and all before it need not be looked at again.
    """

    log = Logger()

    def __init__(
        self,
        subscription: Subscription,
        form: Format,
        place: str,
        outlet: Outlet,
        source: Source,
    ) -> None:
        self.subscription = subscription
        self.place = place
        self.is_over = False
        self._is_started = False
        self._terms = Terms.of(subscription.options)
        self._form = form
        self._outlet = outlet
        self._source = source
        self._inflight: deque[str] = deque()
        self._late: deque[Notification] = deque(maxlen=MOST_LATE)
        self._pace = MOST_AT_A_TIME
        self._is_reading = False
        self._is_lagging = True

    @property
    def needs_acknowledgement(self) -> bool:
        """Whether its client asked for a bound of what is on the way."""
        return self._terms.max_inflight is not None

    @property
    def _may_send(self) -> bool:
        most = self._terms.max_inflight
        has_credit = most is None or len(self._inflight) < most
        is_open = self._is_started and not self.is_over
        return is_open and has_credit and self._outlet.has_room

    def start(self) -> None:
        """The client knows of it: from now on it may be sent something."""
        self._is_started = True
        self.go_on()

    def take(self, notification: Notification) -> None:
        """The next one, from the feed."""
        if notification.id <= self.place:
            return
        if self._may_send:
            self._send(notification)
            self.place = notification.id
            return
        self._is_lagging = True
        self._source.leave(self)

    def take_late(self, notification: Notification) -> None:
        """One that was delayed and left out before; it is out of order."""
        if notification.id > self.place:
            return
        self._late.append(notification)
        self.go_on()

    def acknowledge(self, message_id: str) -> None:
        """The client has this one and all before it."""
        while self._inflight:
            is_known = self._inflight.popleft() == message_id
            if is_known:
                break
        self.go_on()

    def go_on(self) -> None:
        """There may be room again."""
        while self._late and self._may_send:
            self._send(self._late.popleft())
        if self._is_lagging and not self._is_reading and self._may_send:
            self._is_reading = True
            reading = Deferred.fromCoroutine(self._catch_up())
            reading.addErrback(self._stumble)

    async def _catch_up(self) -> None:
        try:
            while self._may_send:
                read = self._source.notifications(self.place, self._pace)
                found, end, is_last = await read
                if not self._send_all(found):
                    return
                self.place = max(self.place, end)
                if is_last and not self.is_over and self._source.join(self):
                    self._is_lagging = False
                    return
        finally:
            self._is_reading = False

    def _send_all(self, found: list[Notification]) -> bool:
        """Send what there is room for; gives whether that was all.

        It is read at the pace of the client, which may take one large message at a
        time, and not page after page for nothing.
        """
        for sent, notification in enumerate(found):
            if not self._may_send:
                self._pace = max(2 * sent, 1)
                return False
            self._send(notification)
            self.place = notification.id
        self._pace = min(2 * self._pace, MOST_AT_A_TIME)
        return True

    def _stumble(self, failure: Failure) -> None:
        """It is tried again when there is room again, or the next second."""
        if failure.check(StoreUnavailable):
            self.log.warn("Pushing waits for the store: {reason}", reason=failure.value)
        else:
            self.log.failure("Pushing failed; it is tried again", failure)

    def _send(self, notification: Notification) -> None:
        if self.needs_acknowledgement:
            self._inflight.append(notification.id)
        self._outlet.send(notification.frame(self._form, self._terms.template))

    def end(self, is_told: bool) -> None:
        """Send nothing any more.

        :param is_told: whether a client that knows the extensions learns of it.
        """
        if self.is_over:
            return
        if is_told and self._terms.is_extended:
            self._outlet.send(farewell(self.subscription, self._form))
        self.is_over = True
        self._source.leave(self)
