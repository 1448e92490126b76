"""Waiting for something to arrive, instead of asking again and again.

A waiter costs a subscription to the bus and one timer, and nothing while it waits.
It looks again when a signal comes, when a delay or a claim in its destination ends,
and when its time is up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence, Sized
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime

from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.model import Destination, Message
from mqsvc.storage.interfaces import IMessageStore

MAX_WAIT = 20
"""Seconds a caller may ask to wait."""

LOOK_AGAIN = 1000
"""Milliseconds after which waiters look again while signals of others may be lost."""

Found = TypeVar("Found", bound=Sized)
Attempt = Callable[[], Awaitable[Found]]
"""Looks once; what it gives is empty when there is nothing."""


class Waiting:
    """Repeats attempts until one finds something or the time is up."""

    def __init__(self, store: IMessageStore, bus: Bus, clock: IReactorTime) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._now = milliseconds(clock)
        self._lines: dict[Destination, _Line] = {}
        self._signals: set[_Signal] = set()
        self._is_finishing = False

    @property
    def is_finishing(self) -> bool:
        """Whether nobody waits any more, since the process is about to stop."""
        return self._is_finishing

    def finish(self) -> None:
        """Let everybody who waits go with what there is, and nobody wait any more."""
        self._is_finishing = True
        for signal in list(self._signals):
            signal.give()

    def together(
        self, destination: Destination, attempt: Attempt[Found], seconds: int
    ) -> Awaitable[Found]:
        """Wait beside others; each signal makes all of them look.

        :param seconds: 0 looks once.
        """
        if not seconds:
            return attempt()
        return self._until(destination, attempt, self._now() + seconds * 1000)

    def in_turn(
        self, destination: Destination, attempt: Attempt[Found], seconds: int
    ) -> Awaitable[Found]:
        """Wait in a line where only the first one looks.

        For attempts that take what they find: a message wakes one waiter and not a
        thousand, and who came first is served first.

        :param seconds: 0 looks once.
        """
        if not seconds:
            return attempt()
        return self._in_line(destination, attempt, seconds)

    async def _in_line(
        self, destination: Destination, attempt: Attempt[Found], seconds: int
    ) -> Found:
        found = await attempt()
        if found:
            return found
        deadline = self._now() + seconds * 1000
        line = self._lines.setdefault(destination, _Line())
        try:
            await line.join().addTimeout(seconds, self._clock)
        except TimeoutError:
            return found
        try:
            return await self._until(destination, attempt, deadline)
        finally:
            line.leave()
            # Those behind may be gone meanwhile, and a new line may have formed.
            if line.is_empty and self._lines.get(destination) is line:
                del self._lines[destination]

    async def _until(
        self, destination: Destination, attempt: Attempt[Found], deadline: int
    ) -> Found:
        signal = _Signal(self._clock)
        unsubscribe = self._bus.subscribe(destination, signal.give)
        self._signals.add(signal)
        try:
            while True:
                signal.reset()
                # Before the attempt: what becomes ready after this is waited for, and
                # what is ready by then is found.
                ready = await self._store.next_ready(destination, self._now())
                found = await attempt()
                if found or self._now() >= deadline or self._is_finishing:
                    return found
                until = deadline if ready is None else min(ready, deadline)
                if not self._bus.is_whole:
                    until = min(until, self._now() + LOOK_AGAIN)
                await signal.wait((until - self._now()) / 1000)
        finally:
            self._signals.discard(signal)
            unsubscribe()


class _Line:
    """People waiting one behind the other.

    Like :class:`~twisted.internet.defer.DeferredLock`, except that a thousand who
    leave as soon as it is their turn do not nest a thousand calls deep.
    """

    def __init__(self) -> None:
        self._behind: deque[Deferred[None]] = deque()
        self._has_head = False
        self._is_moving = False

    @property
    def is_empty(self) -> bool:
        """Whether nobody is there."""
        return not self._has_head and not self._behind

    def join(self) -> Deferred[None]:
        """Fires when one is at the head; cancelling it leaves the line."""
        if not self._has_head:
            self._has_head = True
            return succeed(None)
        turn: Deferred[None] = Deferred(self._behind.remove)
        self._behind.append(turn)
        return turn

    def leave(self) -> None:
        """The head goes, and the next one takes its place."""
        self._has_head = False
        if self._is_moving:
            return
        self._is_moving = True
        while self._behind and not self._has_head:
            self._has_head = True
            self._behind.popleft().callback(None)
        self._is_moving = False


class _Signal:
    """Remembers that it was given until it is reset."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._given = False
        self._waiter: Deferred[None] | None = None

    def reset(self) -> None:
        self._given = False

    def give(self, _: Sequence[Message] = ()) -> None:
        self._given = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    def wait(self, seconds: float) -> Deferred[None]:
        """Fires when the signal is given, at once if it was, or after a time."""
        if self._given:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._forget)
        timer = self._clock.callLater(max(seconds, 0), self.give)

        def stop_timer(result: None) -> None:
            if timer.active():
                timer.cancel()
            return result

        self._waiter = waiter
        return waiter.addBoth(stop_timer)

    def _forget(self, _: Deferred[None]) -> None:
        self._waiter = None
