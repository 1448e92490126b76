"""One attempt at a time for each subscription, in the order in which they came.

What would wait for long comes again later, at the pace of its subscription: neither
memory nor the store has to carry a slow subscriber's backlog around.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

MOST_WAITING = 300
"""Attempts that wait for others of their subscription."""

MOST_WAITING_IN_ALL = 5000

LONGEST_WAIT = 20.0
"""Seconds that an attempt waits for its turn, as far as can be foreseen."""

STUCK_SECONDS = 2.0
"""How long others wait for the end of one attempt before they are sent away."""

LONGEST_REST = 300
"""Seconds after which an attempt that was put off comes again."""

FIRST_PACE = 0.02
"""Seconds that an attempt takes, as long as nothing is known."""

WEIGHT = 0.2
"""Of the last attempt among those before, for the pace."""


@define(eq=False)
class _Lane:
    """The attempts of one subscription.

    :ivar is_busy: whether one is under way.
    :ivar pace: seconds that an attempt takes.
    :ivar began: seconds of the clock at which the one under way did.
    :ivar until: seconds of the clock to which what was put off fills the time.
    """

    waiting: deque[Deferred[None]] = field(factory=deque)
    is_busy: bool = False
    pace: float = FIRST_PACE
    began: float = 0.0
    until: float = 0.0
    _is_calling: bool = False

    def pace_at(self, now: float) -> float:
        """The pace, as the attempt that is under way shows it."""
        return max(self.pace, now - self.began) if self.is_busy else self.pace

    async def enter(self) -> None:
        """Fire when it is the caller's turn."""
        if self.is_busy:
            turn: Deferred[None] = Deferred(self.waiting.remove)
            self.waiting.append(turn)
            await turn
        else:
            self.is_busy = True

    def leave(self) -> None:
        """End the caller's turn: it is that of the next one."""
        self.is_busy = False
        # Attempts that end at once must not be called one inside of the other.
        if self._is_calling:
            return
        self._is_calling = True
        while self.waiting and not self.is_busy:
            self.is_busy = True
            self.waiting.popleft().callback(None)
        self._is_calling = False

    def send_away(self) -> None:
        """Let nobody wait any more."""
        for waiting in list(self.waiting):
            waiting.cancel()


class Lanes:
    """The attempts under way in this process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._waiting = 0

    def rest(self, subscription_id: str) -> int:
        """Seconds after which an attempt had better come again; 0 lets it wait here."""
        lane = self._lanes.get(subscription_id)
        if lane is None:
            return 0
        now, waiting = self._clock.seconds(), len(lane.waiting)
        pace = lane.pace_at(now)
        is_full = waiting >= MOST_WAITING or self._waiting >= MOST_WAITING_IN_ALL
        if not is_full and (waiting + 1) * pace <= LONGEST_WAIT:
            return 0
        lane.until = max(lane.until, now + waiting * pace) + pace
        # It may be faster then: half of the way there it is looked at again.
        return min(max(1, math.ceil((lane.until - now) / 2)), LONGEST_REST)

    @asynccontextmanager
    async def turn(self, subscription_id: str) -> AsyncIterator[None]:
        """The time for one attempt; cancelled where that does not come soon."""
        lane = self._lanes.setdefault(subscription_id, _Lane())
        self._waiting += 1
        try:
            await lane.enter()
        finally:
            self._waiting -= 1
        lane.began = self._clock.seconds()
        stuck = self._clock.callLater(STUCK_SECONDS, lane.send_away)
        try:
            yield
        finally:
            if stuck.active():
                stuck.cancel()
            taken = self._clock.seconds() - lane.began
            lane.pace += WEIGHT * (taken - lane.pace)
            lane.leave()
            is_idle = not (lane.is_busy or lane.waiting)
            # Those whose turn it was meanwhile may have come to the end, and left
            # the place to another lane.
            if is_idle and self._lanes.get(subscription_id) is lane:
                del self._lanes[subscription_id]
