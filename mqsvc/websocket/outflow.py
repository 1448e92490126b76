"""What goes out to a client: no more than it takes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Outflow:
    """Told by the transport when too much waits to be sent, and when it does not.

    :param seconds: tells the time.
    :param on_room: called when there is room again.
    :ivar full_since: since when there has been no room; none when there is.
    """

    def __init__(
        self, seconds: Callable[[], float], on_room: Callable[[], None]
    ) -> None:
        self.full_since: float | None = None
        self._seconds = seconds
        self._on_room = on_room
        self._waiter: Deferred[None] | None = None

    def room(self) -> Deferred[None]:
        """Fires when there is room, for the one who waits."""
        if self.full_since is None:
            return succeed(None)
        self._waiter = Deferred(self._forget)
        return self._waiter

    def _forget(self, _: Deferred[None]) -> None:
        self._waiter = None

    def pauseProducing(self) -> None:
        """See :class:`IPushProducer`."""
        if self.full_since is None:
            self.full_since = self._seconds()

    def resumeProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self.full_since = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
        self._on_room()

    def stopProducing(self) -> None:
        """See :class:`IPushProducer`; whoever is concerned hears it elsewhere."""
