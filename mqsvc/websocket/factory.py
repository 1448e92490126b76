"""The WebSocket API of a process: makes connections, and knows all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen
from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
)
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.access.guard import Guard
from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import JsonObject, Subscription
from mqsvc.messaging.operations import Administration, Operations
from mqsvc.websocket.administration import FlavorActions, NodeActions, PoolActions
from mqsvc.websocket.call import Action
from mqsvc.websocket.claims import ClaimActions
from mqsvc.websocket.closing import GOING_AWAY
from mqsvc.websocket.feeds import Feeds
from mqsvc.websocket.messages import MessageActions
from mqsvc.websocket.options import ANY, WebSocketOptions
from mqsvc.websocket.protocol import Connection
from mqsvc.websocket.queues import QueueActions
from mqsvc.websocket.session import Service
from mqsvc.websocket.subscriptions import SubscriptionActions

TICK_SECONDS = 1.0

logger = Logger()


@frozen
class Parts:
    """What the WebSocket API stands on.

    :ivar lease: that subscriptions of connections are under.
    :ivar administration: none where there are no pools, or not for administrators.
    :ivar home: the document that HTTP serves at ``/v2/``.
    """

    operations: Operations
    administration: Administration | None
    bus: Bus
    lease: Lease
    guard: Guard
    limits: Limits
    home: JsonObject
    admin_mode: bool


def make_factory(
    parts: Parts, options: WebSocketOptions, clock: IReactorTime, reactor: Any
) -> WebSocketFactory:
    """The WebSocket API, ready to listen, or to be mounted on a port of HTTP."""
    operations, now = parts.operations, milliseconds(clock)
    feeds = Feeds(
        *(operations.messages, operations.queues, operations.subscriptions),
        *(parts.bus, now, parts.limits.max_messages_per_page),
        lease=parts.lease,
    )
    service = Service(
        _actions(parts, feeds), parts.guard, options.max_failed_authentications
    )
    return WebSocketFactory(service, feeds, parts, options, clock, reactor)


def _actions(parts: Parts, feeds: Feeds) -> dict[str, Action]:
    """The one table of what can be asked for."""
    operations, limits, ages = parts.operations, parts.limits, feeds.ages
    signed_urls = parts.guard.gate.signed_urls
    return {
        **QueueActions(operations.queues, feeds, signed_urls, ages, feeds.now).table(),
        **MessageActions(operations.messages, limits, ages).table(),
        **ClaimActions(operations.claims, ages).table(),
        **SubscriptionActions.over(
            operations.subscriptions, limits, feeds, ages
        ).table(),
        **NodeActions(operations.health, parts.home, parts.admin_mode).table(),
        **PoolActions(parts.administration).table(),
        **FlavorActions(parts.administration).table(),
    }


class WebSocketFactory(WebSocketServerFactory):
    """Connections on whatever port they come.

    :ivar connections: those that are open.
    :ivar is_stopping: whether nobody is let in any more.
    """

    # Twisted's declared type does not know Autobahn's protocols.
    protocol = Connection  # type: ignore[assignment]

    def __init__(
        self,
        service: Service,
        feeds: Feeds,
        parts: Parts,
        limits: WebSocketOptions,
        clock: IReactorTime,
        reactor: Any,
    ) -> None:
        # What serves and in which version is nobody's business.
        super().__init__(server="", reactor=reactor)
        self.service = service
        self.feeds = feeds
        self.limits = limits
        self.clock = clock
        self.connections: dict[Connection, None] = {}
        self.is_stopping = False
        self._subscriptions = parts.operations.subscriptions
        self._cleanups = 0
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        self.setProtocolOptions(
            webStatus=False,
            failByDrop=False,
            maxMessagePayloadSize=limits.max_message_size,
            maxConnections=limits.max_connections,
            allowNullOrigin=True,
            closeHandshakeTimeout=2,
            perMessageCompressionAccept=_accept if limits.compression else _refuse,
        )

    def allows(self, origin: str | None) -> bool:
        """Whether a page of this origin may connect; programs have none."""
        allowed = self.limits.allowed_origins
        return not origin or ANY in allowed or origin in allowed

    def opened(self, connection: Connection) -> None:
        """A client is there."""
        self.connections[connection] = None
        if not self._ticking.running:
            ticking = self._ticking.start(TICK_SECONDS, now=False)
            ticking.addErrback(self._stumble)

    def closed(
        self, connection: Connection, cleanups: Iterable[Deferred[None]]
    ) -> None:
        """A client is gone; what it leaves is cleared away."""
        del self.connections[connection]
        for cleanup in cleanups:
            self.tidy(cleanup)
        if not self.connections and self._ticking.running:
            self._ticking.stop()

    def tidy(self, cleanup: Deferred[None]) -> None:
        """Count something that is cleared away until it is."""
        self._cleanups += 1
        cleanup.addBoth(self._tidied)

    def _tidied(self, _: object) -> None:
        self._cleanups -= 1

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription whose connection is gone."""
        try:
            await self._subscriptions.leave(subscription)
        except MessagingError:
            logger.failure("Subscription {id} was left", id=subscription.id)

    def in_flight(self) -> int:
        """How much there is to be waited for when the service stops."""
        return len(self.connections) + self._cleanups

    def stopFactory(self) -> None:
        """The service stops: let everybody go."""
        super().stopFactory()
        self.is_stopping = True
        for connection in list(self.connections):
            connection.close(GOING_AWAY)

    def _stumble(self, failure: Failure) -> None:
        """A bug: the next connection starts the ticking anew."""
        logger.failure("Looking after connections failed", failure)

    def _tick(self) -> None:
        now = self.clock.seconds()
        for connection in list(self.connections):
            connection.tick(now)
        self.feeds.look_again()


def _accept(
    offers: Sequence[object],
) -> PerMessageDeflateOfferAccept | None:
    """Compression without memory between messages, so that idle clients cost none."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=offer.accept_no_context_takeover,
                no_context_takeover=True,
            )
    return None


def _refuse(_: Sequence[object]) -> None:
    """No compression."""
