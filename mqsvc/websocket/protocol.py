"""One connection under Autobahn, which knows the protocol of RFC 6455.

Autobahn drops what ``onMessage`` gives back, so requests are queued there, and one
coroutine answers them in their order. Its logger is the attribute ``log``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import PreparedMessage
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.access.authentication import Identity
from mqsvc.messaging.model import Subscription
from mqsvc.messaging.shield import shielded
from mqsvc.websocket.backlog import Backlog
from mqsvc.websocket.closing import EXPIRED, NOT_AUTHENTICATED, SLOW_CONSUMER, Closing
from mqsvc.websocket.frames import BINARY, TEXT, Format
from mqsvc.websocket.notification import prepared
from mqsvc.websocket.outflow import Outflow
from mqsvc.websocket.push import Push
from mqsvc.websocket.session import Session
from mqsvc.websocket.terms import OLDEST, SCHEME, Terms
from mqsvc.websocket.validity import Shown
from mqsvc.websocket.whole_frames import read_whole

if TYPE_CHECKING:
    from mqsvc.websocket.factory import WebSocketFactory

logger = Logger()


class Connection(WebSocketServerProtocol):
    """A client: a :class:`~mqsvc.websocket.call.Subscriber`, and where pushes go."""

    factory: WebSocketFactory
    transport: Any
    tcpNoDelay = True
    """Autobahn asks for it before it has looked at its factory's options; without it a
    push behind an answer waits for the client's acknowledgement, often for 40 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.uri = f"{SCHEME}:{uuid4().hex}"
        self.is_up = False
        self._requests = Backlog()
        self._answering: Deferred[None] | None = None
        self._is_held_back = False
        self._pushes: dict[str, Push] = {}
        self._fresh: list[Push] = []

    # What Autobahn calls.

    def onConnect(self, request: ConnectionRequest) -> None:
        """The client asks to open; a page has to come from a known origin."""
        if self.factory.is_stopping:
            raise ConnectionDeny(503, "The server stops")
        if not self.factory.allows(request.origin):
            raise ConnectionDeny(403, "Origin not allowed")

    def onOpen(self) -> None:
        """The client is there."""
        seconds = self.factory.clock.seconds
        self._outflow = Outflow(seconds, self._go_on)
        self._session = Session(self.factory.service, self, self._take_identity)
        self._opened = self._heard = seconds()
        self._pinged: float | None = None
        # On a port of twisted.web the transport has a producer already.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self._outflow, True)
        self.is_up = True
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came, so somebody is there."""
        self._heard, self._pinged = self.factory.clock.seconds(), None
        if self.is_up and not (self.data or self.current_frame or self.inside_message):
            data = self._read_whole_messages(data)
        if data:
            super().dataReceived(data)

    def _read_whole_messages(self, data: bytes) -> bytes:
        """Take what needs no Autobahn; gives what is left for it."""
        start, most = 0, self.factory.limits.max_message_size
        while self.state == self.STATE_OPEN:
            message = read_whole(data, start, most)
            if message is None:
                break
            start = message.end
            self.onMessage(message.payload, message.is_binary)
        return data[start:]

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A request came."""
        if not self.is_up or self.state != self.STATE_OPEN:
            return
        self._requests.append(payload, BINARY if isBinary else TEXT)
        self._hold_back()
        if self._answering is None:
            answering = Deferred.fromCoroutine(self._answer_all())
            if not answering.called:
                self._answering = answering
            answering.addErrback(self._give_up)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The client is gone."""
        if not self.is_up:
            return
        self.is_up = False
        if self.closeHandshakeTimeoutCall is not None:
            # Autobahn would keep the connection in memory until then.
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        self._requests.clear()
        self._session.end()
        if self._answering is not None:
            self._answering.cancel()
        self.factory.closed(self, [self._drop(push) for push in self._all_pushes()])

    # Requests.

    async def _answer_all(self) -> None:
        try:
            while self._requests:
                payload, form = self._requests.popleft()
                self._hold_back()
                await self._outflow.room()
                reply = await self._session.answer(payload, form)
                self.send(prepared(reply, form))
                self._start_fresh()
                if self._session.closing is not None:
                    self.close(self._session.closing)
        finally:
            self._answering = None

    def _give_up(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            logger.failure("A connection failed", failure)
            self.dropConnection(abort=True)

    def _hold_back(self) -> None:
        """Read no more from a client that has many requests waiting."""
        limits = self.factory.limits
        is_full = (
            len(self._requests) >= limits.max_waiting_requests
            or self._requests.size > limits.max_message_size
        )
        if is_full != self._is_held_back and self.is_up:
            self._is_held_back = is_full
            if is_full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _take_identity(self, identity: Identity) -> None:
        """A token was accepted: what another project subscribed to is over."""
        self._checked = self.factory.clock.seconds()
        for push in self._all_pushes():
            if push.subscription.destination.project != identity.project:
                self.factory.tidy(self._drop(push))

    # What goes out.

    @property
    def has_room(self) -> bool:
        """Whether a notification can be sent now."""
        return self.is_up and self._outflow.full_since is None

    def send(self, frame: PreparedMessage) -> None:
        """Send a frame, unless the connection is closing."""
        if not self.is_up or self.state != self.STATE_OPEN:
            return
        if frame.doNotCompress or self._perMessageCompress is None:
            # Past Autobahn's log of each write, which costs more than the write.
            self.transport.write(frame.payloadHybi)
        else:
            self.sendPreparedMessage(frame)

    def _go_on(self) -> None:
        for push in list(self._pushes.values()):
            push.go_on()

    def close(self, closing: Closing) -> None:
        """End the connection, and say why."""
        self._requests.clear()
        if self.is_up and self.state == self.STATE_OPEN:
            self.sendCloseFrame(closing.code, closing.reason.encode())

    # Subscriptions.

    def may_subscribe(self) -> bool:
        """See :class:`~mqsvc.websocket.call.Subscriber`."""
        self._forget_ended()
        return len(self._pushes) < self.factory.limits.max_subscriptions

    async def subscribe(
        self, subscription: Subscription, form: Format
    ) -> Mapping[str, Any]:
        """See :class:`~mqsvc.websocket.call.Subscriber`."""
        feeds, destination = self.factory.feeds, subscription.destination
        terms, told = Terms.of(subscription.options), {}
        place = end = await feeds.end_of(destination)
        if terms.after is not None:
            # A place that was never reached would be waited for in vain.
            place = "" if terms.after == OLDEST else min(terms.after, end)
        feed = feeds.open(destination)
        push = Push(subscription, form, place, self, feed)
        feed.add(push)
        if terms.is_extended:
            told = {"position": place, "gap": await feed.has_gap(terms.after)}
        self._pushes[subscription.id] = push
        # The client has to know of it before the first message comes.
        self._fresh.append(push)
        if not self.is_up:
            self.factory.tidy(self._drop(push))
        return told

    def acknowledge(self, subscription_id: str, message_id: str) -> bool:
        """See :class:`~mqsvc.websocket.call.Subscriber`."""
        push = self._pushes.get(subscription_id)
        if push is None or not push.needs_acknowledgement:
            return False
        push.acknowledge(message_id)
        return True

    def _start_fresh(self) -> None:
        for push in self._fresh:
            push.start()
        self._fresh.clear()

    def _forget_ended(self) -> None:
        self._pushes = {k: push for k, push in self._pushes.items() if not push.is_over}

    def _all_pushes(self) -> list[Push]:
        self._forget_ended()
        return list(self._pushes.values())

    def _drop(self, push: Push) -> Deferred[None]:
        """End a push, and remove its subscription."""
        push.end(is_told=False)
        removal = self.factory.unsubscribe(push.subscription)
        return shielded(Deferred.fromCoroutine(removal))

    # The clock.

    def tick(self, now: float) -> None:
        """Once a second: is the client allowed to be here, and is it still there."""
        closing = self._overdue(now)
        if closing is not None:
            self.close(closing)
            return
        limits = self.factory.limits
        if self._session.shown is not None:
            self._look_after(self._session.shown, now)
        if self._pinged is not None:
            if now - self._pinged >= limits.ping_timeout:
                self.dropConnection(abort=True)
        elif now - self._heard >= limits.ping_interval:
            self._pinged = now
            self.sendPing()

    def _overdue(self, now: float) -> Closing | None:
        limits, identity = self.factory.limits, self._session.identity
        full_since = self._outflow.full_since
        if full_since is not None and now - full_since >= limits.send_timeout:
            return SLOW_CONSUMER
        if identity is None:
            is_late = now - self._opened >= limits.authentication_time
            return NOT_AUTHENTICATED if self._is_unknown and is_late else None
        if identity.expires is not None and identity.expires <= now * 1000:
            self._session.shown = None
            return EXPIRED
        return None

    def _look_after(self, shown: Shown, now: float) -> None:
        warning = shown.warning(int(now * 1000))
        if warning is not None:
            self.send(prepared(*warning))
        if now - self._checked >= self.factory.limits.token_check_interval:
            self._checked = now
            checking = Deferred.fromCoroutine(self._check_again(shown))
            checking.addErrback(self._give_up)

    async def _check_again(self, shown: Shown) -> None:
        await shown.check_again(self.factory.service.guard.gate)
        if shown.identity is None and self._session.shown is shown:
            self._session.shown = None
            self.close(EXPIRED)

    @property
    def _is_unknown(self) -> bool:
        """Whether a token is needed and nothing was ever accepted from the client."""
        gate = self.factory.service.guard.gate
        return gate.authenticator is not None and self._session.project is None
