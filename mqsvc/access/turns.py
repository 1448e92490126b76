"""Turns: one project's flood of requests does not make the others wait.

A request that may not begin at once stands in the line of its project, and the lines
are served one after the other, one request each. What bounds the wait of a quiet
project is then the number of projects that are busy, not that of their requests.

A request that has begun waits behind all others that have, in the reactor and in the
store. So there are few of them while several projects call, and many, which a store
commits together, while one has the service for itself. ``benchmarks/fairness.py``
measures it.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


@frozen
class Bounds:
    """How many requests may begin.

    :ivar starts: between two looks of the reactor at its connections, at most: few
        enough for a new request to be seen soon, many enough for looks to cost little.
    :ivar running: of one project, under way at one time.
    """

    starts: int
    running: int


ALONE = Bounds(starts=24, running=64)
"""While one project calls."""

SHARED = Bounds(starts=1, running=2)
"""While several do."""

SHARED_SECONDS = 1.0
"""How long after the last change of project more than one counts as calling."""


class Turns:
    """Decides which request may begin.

    :param clock: its next turn is when waiting requests begin.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._lines: OrderedDict[str, deque[Deferred[None]]] = OrderedDict()
        self._running: dict[str, int] = {}
        self._starts = 0
        self._next: IDelayedCall | None = None
        self._latest: str | None = None
        self._shared_until = 0.0

    @property
    def bounds(self) -> Bounds:
        """What holds at present."""
        return SHARED if self._clock.seconds() < self._shared_until else ALONE

    def may_begin(self, project: str) -> bool:
        """Begin a request if it need not wait; :meth:`leave` has to follow."""
        if project != self._latest:
            self._notice(project)
        bounds = self.bounds
        if (
            self._starts >= bounds.starts
            or project in self._lines
            or self._running.get(project, 0) >= bounds.running
        ):
            return False
        self._begin(project, bounds)
        return True

    def wait(self, project: str) -> Deferred[None]:
        """Fires when a request has begun; who cancels it has not begun."""
        turn: Deferred[None] = Deferred(lambda turn: self._give_up(project, turn))
        self._lines.setdefault(project, deque()).append(turn)
        self._come_back()
        return turn

    def leave(self, project: str) -> None:
        """A request is over."""
        running = self._running[project] - 1
        if running:
            self._running[project] = running
        else:
            del self._running[project]
        if project in self._lines:
            self._come_back()

    def finish(self) -> None:
        """Let everybody who waits begin now."""
        while self._lines:
            self._begin_first(*self._lines.popitem(last=False), self.bounds)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _notice(self, project: str) -> None:
        """Another project calls than the one before."""
        if self._latest is not None:
            self._shared_until = self._clock.seconds() + SHARED_SECONDS
        self._latest = project

    def _begin(self, project: str, bounds: Bounds) -> None:
        self._running[project] = self._running.get(project, 0) + 1
        self._starts += 1
        # A look at the reactor costs as much as much else of a request: those that
        # come one by one share one, and a flood meets its bound all the same.
        if 2 * self._starts >= bounds.starts:
            self._come_back()

    def _give_up(self, project: str, turn: Deferred[None]) -> None:
        line = self._lines[project]
        line.remove(turn)
        if not line:
            del self._lines[project]

    def _come_back(self) -> None:
        if self._next is None:
            self._next = self._clock.callLater(0, self._serve)

    def _serve(self) -> None:
        self._next = None
        self._starts = 0
        bounds = self.bounds
        # Once around at most for lines whose project is at its bound.
        blocked = 0
        while (
            self._lines and self._starts < bounds.starts and blocked < len(self._lines)
        ):
            project, line = self._lines.popitem(last=False)
            if self._running.get(project, 0) >= bounds.running:
                self._lines[project] = line
                blocked += 1
                continue
            blocked = 0
            self._begin_first(project, line, bounds)

    def _begin_first(
        self, project: str, line: deque[Deferred[None]], bounds: Bounds
    ) -> None:
        """Begin the first request of a line that was taken out of the lines."""
        turn = line.popleft()
        if line:
            self._lines[project] = line
        self._begin(project, bounds)
        turn.callback(None)
