"""Connections to a MongoDB server or to the primary of a replica set.

txmongo makes them, finds the primary, and makes them again for ever. Whoever needs one
is made to wait here while there is hope: while members of a replica set answer, of
which none is the primary, or so shortly after the last sign of life that the server may
only have been started again. Where nobody answers any more he is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pymongo.errors import AutoReconnect
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from txmongo.connection import ConnectionPool

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.storage.mongodb_login import LoginProtocol
from mqsvc.storage.mongodb_uri import Address, refuse_router

CONNECT_SECONDS = 1.0
"""How long a server may take for a connection, and again for its first answer."""

RECONNECT_SECONDS = 0.5
"""The pause after an attempt with each server, more or less."""

PING_SECONDS = 2
"""How often servers are asked whether they are there; a silent one has twice that."""


class Unreachable(StoreUnavailable):
    """There is no server, or none that answers."""


class Connections(ConnectionPool):  # type: ignore[misc]  # txmongo has no types
    """Those of a process from now until :meth:`disconnect`.

    :param size: how many.
    :param clock: for the time that somebody may wait for one.
    """

    def __init__(self, address: Address, size: int, clock: IReactorTime) -> None:
        super().__init__(
            address.uri,
            pool_size=size,
            retry_delay=CONNECT_SECONDS,
            max_delay=RECONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS * 2,
            **address.write_concern,
        )
        self._clock = clock
        self._sight = Sight(address, clock)
        self._turn = 0
        for factory in self.getprotocols():
            factory.noisy = False
            factory.delay = RECONNECT_SECONDS
            factory.protocol = partial(WatchedProtocol, self._sight)
        if address.credentials is not None:
            self.authenticate(*address.credentials, address.mechanism)

    def getprotocol(self) -> Deferred[Any]:
        """A connection to the primary, when there is one.

        Fails with :class:`Unreachable`, or with ``AutoReconnect`` if the connection
        broke while it was made.
        """
        factories = self.getprotocols()
        self._turn = (self._turn + 1) % len(factories)
        factories = factories[self._turn :] + factories[: self._turn]
        for factory in factories:
            if _is_usable(factory.instance):
                return succeed(factory.instance)
        lost = (factory for factory in factories if factory.instance is None)
        found = next(lost, factories[0]).notifyReady().addCallback(_instance)
        return Wait(found, self._sight, self._clock).outcome


def patience(host_count: int) -> float:
    """How long nobody has to answer until one may say that there is nobody.

    In that time each connection is attempted with every member of a replica set,
    although as many of them as can be spared do not even refuse it.
    """
    silent = (host_count - 1) // 2
    return CONNECT_SECONDS * (silent + 1) + RECONNECT_SECONDS * 2


class Sight:
    """Whether any server is in sight, as far as connections tell.

    :param clock: says when.
    """

    log = Logger()

    def __init__(self, address: Address, clock: IReactorTime) -> None:
        self._hosts = address.hosts
        self._patience = patience(address.host_count)
        self._clock = clock
        self._seen_at = clock.seconds()
        self._missed_at: float | None = None
        self._complaints: set[str] = set()

    def seen(self) -> None:
        """One has answered, or would have until now."""
        self._seen_at = self._clock.seconds()
        if self._missed_at is not None:
            self._missed_at = None
            self.log.info("MongoDB answers again at {hosts}", hosts=self._hosts)

    def missed(self) -> None:
        """Somebody has waited in vain."""
        if self._missed_at is None:
            self.log.error("No MongoDB answers at {hosts}", hosts=self._hosts)
        self._missed_at = self._clock.seconds()

    def seconds_left(self, began: float) -> float:
        """What somebody has to wait yet before he has done so in vain.

        :param began: when he began.
        """
        now = self._clock.seconds()
        if self._missed_at is not None and now - self._missed_at < RECONNECT_SECONDS:
            # Otherwise those who come one after the other would wait for each other.
            return 0
        # Time for a new attempt, in case it is back.
        ends = max(self._seen_at + self._patience, began + 2 * RECONNECT_SECONDS)
        return max(0, ends - now)

    def complain(self, reason: str) -> None:
        """Log why a connection is of no use, once until there is one that is."""
        if reason not in self._complaints:
            self._complaints.add(reason)
            self.log.warn("A connection to MongoDB failed: {reason}", reason=reason)

    def primary_found(self) -> None:
        """There is a connection that is of use."""
        self._complaints.clear()


class Wait:
    """Somebody who waits for a connection.

    :param found: fires with one, and can be cancelled.
    :ivar outcome: the same, or fails when there is no hope.
    """

    def __init__(self, found: Deferred[Any], sight: Sight, clock: IReactorTime) -> None:
        self._sight = sight
        self._clock = clock
        self._began = clock.seconds()
        self._is_in_vain = False
        self._timer = clock.callLater(sight.seconds_left(self._began), self._look)
        self.outcome = found.addBoth(self._end)

    def _look(self) -> None:
        left = self._sight.seconds_left(self._began)
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._sight.missed()
            self._is_in_vain = True
            self.outcome.cancel()

    def _end(self, outcome: Any) -> Any:
        if self._timer.active():
            self._timer.cancel()
        return Failure(Unreachable()) if self._is_in_vain else outcome


class WatchedProtocol(LoginProtocol):
    """A connection that tells whether there is a server.

    :param sight: whom it tells.
    """

    def __init__(self, sight: Sight) -> None:
        super().__init__()
        self._sight = sight
        self._is_answered = False

    def init_from_hello_response(self, config: Mapping[str, Any]) -> None:
        """Read what the server says first; fails if it cannot be used."""
        refuse_router(config)
        super().init_from_hello_response(config)
        self._is_answered = True
        self._sight.seen()
        if config.get("ismaster"):
            self._sight.primary_found()

    def fail(self, reason: Exception) -> None:
        """Close what is of no use."""
        self._sight.complain(f"{type(reason).__name__}: {reason}")
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what waits for a reply."""
        # For txmongo the pause is as long as what a server may take to answer.
        self.factory.delay = RECONNECT_SECONDS
        if self._is_answered:
            self._sight.seen()
        super().connectionLost(reason)

    def send_msg(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Send a command; fires with the reply."""
        if not self.transport.connected:
            # txmongo would wait for an answer for ever.
            return fail(AutoReconnect("the connection was lost before"))
        reply: Deferred[Any] = super().send_msg(*args, **kwargs)
        return reply


def _is_usable(protocol: Any) -> bool:
    if protocol is None:
        return False
    return protocol.transport.connected and not protocol.transport.disconnecting


def _instance(factory: Any) -> Any:
    if factory.instance is None:
        raise AutoReconnect("the connection is lost again")
    return factory.instance
