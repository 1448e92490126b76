"""Signals between servers that run apart and share their stores.

They go by a *line*, to which all of these servers are connected: what one says there
all of them hear, itself included. While the line is down everybody looks for himself
at times; when it is there again, all look once, since something may have been missed.

Signals are said only while others are heard of. So each server says now and then that
it is there, and to whoever is new at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from mqsvc.bus import Bus
from mqsvc.bus.news import News, Unreadable, decode
from mqsvc.messaging.model import Destination

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between attempts to connect."""

STEADY_SECONDS = 60.0
"""Only a line that was up for so long is connected again at once."""

PRESENCE_SECONDS = 10.0
"""How often a server says that it is there."""

COMPANY_SECONDS = 45.0
"""For so long others are taken to be there after something came from them."""

_HELLO = News(is_all=True)


class Line(Protocol):
    """A connection to all servers."""

    async def follow(
        self, begin: Callable[[], None], hear: Callable[[bytes], None]
    ) -> None:
        """Connect, and hear what is said until the connection is lost.

        Ends then, or fails; may be cancelled, and called again.

        :param begin: called once from when on everything is heard.
        :param hear: called with what somebody said.
        """

    def say(self, data: bytes) -> None:
        """Let all hear this, while it is connected. Does not fail."""


class RemoteLink(Service):
    """See :class:`~mqsvc.bus.news.Link`.

    :param description: of the line, for the log.
    :param reactor: tells the time.
    """

    name = "link of servers"
    log = Logger()
    shares_board = False

    def __init__(self, line: Line, description: str, bus: Bus, reactor: Any) -> None:
        self._line = line
        self._description = description
        self._bus = bus
        self._reactor = reactor
        self._identity = bus.board.identity
        self._following: Deferred[None] = succeed(None)
        self._presence = LoopingCall(self._say, News())
        self._presence.clock = reactor
        self._company_until = float("-inf")
        self._is_up = False
        self._up_since = float("inf")
        self._last_said = ""

    @property
    def is_up(self) -> bool:
        """Whether what is said is heard here."""
        return self._is_up

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()
        self._following = Deferred.fromCoroutine(self._stay_connected())

    def stopService(self) -> Deferred[None]:
        """Disconnect."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # What follows the line may be just what called this.
        await deferLater(self._reactor, 0)
        self._following.cancel()
        await self._following

    async def _stay_connected(self) -> None:
        pause = FIRST_PAUSE
        while self.running:
            reason = "it was closed"
            try:
                await self._line.follow(self._begin, self._hear)
            except CancelledError:
                reason = ""
            except Exception as error:  # noqa: BLE001 - whatever it was may pass
                reason = str(error) or type(error).__name__
            if self._was_steady:
                pause = FIRST_PAUSE
            self._end(reason)
            await self._rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def _was_steady(self) -> bool:
        now: float = self._reactor.seconds()
        return self._is_up and now - self._up_since >= STEADY_SECONDS

    async def _rest(self, seconds: float) -> None:
        if self.running:
            try:
                await deferLater(self._reactor, seconds)
            except CancelledError:
                return

    def _begin(self) -> None:
        self.log.info("Signals go by {line}", line=self._description)
        self._is_up, self._last_said = True, ""
        self._up_since = self._reactor.seconds()
        # Others have to say again that they are there.
        self._company_until = float("-inf")
        self._say(_HELLO)
        self._presence.start(PRESENCE_SECONDS, now=False)
        self._bus.hear(_HELLO)

    def _end(self, reason: str) -> None:
        if self._presence.running:
            self._presence.stop()
        was_up, self._is_up = self._is_up, False
        if not self.running:
            return
        if reason != self._last_said:
            self._last_said = reason
            self.log.warn(
                "No signals go by {line}, those who wait look themselves: {reason}",
                line=self._description,
                reason=reason,
            )
        if was_up:
            # From now on they must not wait for signals.
            self._bus.call_all()

    def _hear(self, data: bytes) -> None:
        try:
            sender, news = decode(data)
        except Unreadable:
            self.log.warn("A signal from {line} is unreadable", line=self._description)
            return
        # The other workers of this server were told by another link.
        if sender == self._identity:
            return
        was_alone = not self._has_company
        self._company_until = self._reactor.seconds() + COMPANY_SECONDS
        if was_alone:
            # Until now nothing was said that it could have heard.
            self._say(_HELLO)
        elif news.is_all:
            # It may be new, and say nothing until it knows that somebody hears it.
            self._say(News())
        with self.log.failuresHandled("A signal of another server failed"):
            self._bus.hear(news)

    @property
    def _has_company(self) -> bool:
        now: float = self._reactor.seconds()
        return now < self._company_until

    def wants(self, destination: Destination) -> bool:
        """What others want is not known, only whether there are any."""
        return self._is_up and self._has_company

    def send(self, news: News) -> None:
        """See :class:`~mqsvc.bus.news.Link`."""
        if self._has_company:
            self._say(news)

    def _say(self, news: News) -> None:
        if self._is_up:
            self._line.say(news.encode(self._identity))
