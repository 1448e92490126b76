"""Drives operations over connections and notes how long each takes.

One thread, one epoll. Each connection belongs to a *lane*, which runs one *operation*
after the other. An operation is a generator: it yields the bytes of a request and is
sent the answer; yielding none waits for one more answer; it returns how much it did.
"""

from __future__ import annotations

import select
import time
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.connections import Answer, Connection

Outcome = tuple[int, float | None]
"""The number of things done, and since when if not since the operation began.

An outcome of 0 things is not counted, nor is its time.
"""
Operation = Generator[bytes, Answer, Outcome]

ONE: Outcome = (1, None)
NOTHING: Outcome = (0, None)
WARM_UP_SECONDS = 0.5
MOST_SAMPLES = 2_000_000
LEAST_SAMPLES = 10
LONGEST_SILENCE = 30.0
LOOK_SECONDS = 0.1
"""How often to look whether it is over, where nothing is answered."""
LONGEST_RUN = 20.0
"""Of seconds, to get the least number of samples where a run would end without."""

clock = time.perf_counter


class WrongAnswer(Exception):
    """An answer was not the expected one."""


class Exhausted(Exception):
    """There is nothing left to work on: the run ends early."""


@dataclass(frozen=True)
class Role:
    """Connections that do the same.

    :ivar begin: makes the next operation.
    :ivar rate: operations a second of all of them together; None is as fast as the
        answers come.
    :ivar may_begin: asked before each operation; while it says no, lanes rest.
    """

    connections: Iterable[Connection]
    begin: Callable[[], Operation]
    rate: float | None = None
    may_begin: Callable[[], bool] | None = None


@dataclass
class Tally:
    """What a run gave.

    :ivar times: seconds of each operation.
    :ivar units: things done.
    :ivar answers: answers read.
    :ivar errors: answers that were not as expected, and what the first one was.
    :ivar seconds: how long it was measured.
    :ivar cpu: processor seconds of this process in that time.
    :ivar server_cpu: those of the server, if somebody read them.
    """

    times: array[float] = field(default_factory=lambda: array("d"))
    units: int = 0
    answers: int = 0
    errors: int = 0
    first_error: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    server_cpu: float | None = None

    @property
    def outcomes(self) -> int:
        """How many operations ended in a way that counts."""
        return len(self.times) + self.errors


@dataclass(eq=False, slots=True)
class Lane:
    """A connection and the operation that runs over it.

    :ivar since: when that began, or had to begin.
    """

    connection: Connection
    pace: Pace
    operation: Operation
    since: float = 0.0


class Pace:
    """Starts the operations of a role."""

    def __init__(self, role: Role) -> None:
        self._begin = role.begin
        self._may_begin = role.may_begin
        self._interval = 1 / role.rate if role.rate else 0.0
        self._idle: deque[Lane] = deque()
        self._due = 0.0

    def next_due(self) -> float | None:
        """When an operation has to be started, if a lane is free for it."""
        return self._due if self._interval and self._idle else None

    def begin_at(self, moment: float) -> None:
        """Count from this moment."""
        self._due = moment

    def free(self, lane: Lane) -> None:
        """Have a lane do what is next."""
        if self._interval or not self._has_room():
            self._idle.append(lane)
        else:
            self._start(lane, clock())

    def start_due(self, now: float) -> None:
        """Start what is due.

        Its time counts from when it was due, so that a server that stalls is not
        asked less, and an operation that waited for a free connection waited.
        """
        while self._idle and self._due <= now and self._has_room():
            self._start(self._idle.popleft(), self._due if self._interval else now)
            self._due += self._interval

    def _has_room(self) -> bool:
        return self._may_begin is None or self._may_begin()

    def _start(self, lane: Lane, since: float) -> None:
        lane.since = since
        lane.operation = self._begin()
        lane.connection.send(next(lane.operation))


@contextmanager
def _metered(
    tally: Tally, server_cpu: Callable[[], float] | None
) -> Generator[None, None, None]:
    """Note how long a block takes, and what it burns here and in the server."""
    burnt_there = server_cpu() if server_cpu else None
    begun, burnt = clock(), time.process_time()
    try:
        yield
    finally:
        tally.seconds = clock() - begun
        tally.cpu = time.process_time() - burnt
        if server_cpu and burnt_there is not None:
            tally.server_cpu = server_cpu() - burnt_there


class Run:
    """One measured run over some roles."""

    def __init__(self, roles: Iterable[Role]) -> None:
        self._lanes: dict[int, Lane] = {}
        self._paces: list[Pace] = []
        self._epoll = select.epoll()
        self._tally = Tally()
        self._is_timed = False
        for role in roles:
            self._add(role)

    def measure(
        self,
        seconds: float,
        warm_up: float = WARM_UP_SECONDS,
        server_cpu: Callable[[], float] | None = None,
        most: int = MOST_SAMPLES,
    ) -> Tally:
        """Run for so long; what was done after the warm-up.

        Where that is next to nothing it goes on for a while.

        :param server_cpu: tells the processor seconds of the server so far.
        :param most: ends it after so many operations.
        """
        try:
            self._start()
            self._go_on_for(warm_up, MOST_SAMPLES)
            self._tally = Tally()
            with _metered(self._tally, server_cpu):
                self._go_on_for(seconds, most)
                self._go_on_for(LONGEST_RUN, min(LEAST_SAMPLES, most))
        except Exhausted:
            pass
        finally:
            self._close()
        return self._tally

    def _add(self, role: Role) -> None:
        pace = Pace(role)
        self._paces.append(pace)
        self._is_timed |= role.rate is not None
        for connection in role.connections:
            # No operation has begun, so this one is never asked for anything.
            lane = Lane(connection, pace, operation=role.begin())
            self._lanes[connection.fileno()] = lane
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _start(self) -> None:
        now = clock()
        for pace in self._paces:
            pace.begin_at(now)
        for lane in self._lanes.values():
            lane.pace.free(lane)

    def _go_on_for(self, seconds: float, most: int) -> None:
        now = heard = clock()
        end = now + seconds
        while now < end and self._tally.outcomes < most:
            for pace in self._paces:
                pace.start_due(now)
            has_heard = self._turn(end)
            now = clock()
            if has_heard:
                heard = now
            elif now - heard > LONGEST_SILENCE:
                raise WrongAnswer(f"Nothing was answered for {LONGEST_SILENCE:.0f} s.")

    def _turn(self, end: float) -> bool:
        """Take what came; whether something did."""
        if self._is_timed:
            # epoll waits for whole milliseconds, select for microseconds.
            due = [moment for pace in self._paces if (moment := pace.next_due())]
            wait = max(0.0, min([*due, end]) - clock())
            select.select([self._epoll], [], [], wait)
        events = self._epoll.poll(0 if self._is_timed else LOOK_SECONDS)
        for descriptor, _ in events:
            lane = self._lanes[descriptor]
            for answer in lane.connection.answers():
                self._tally.answers += 1
                self._resume(lane, answer)
        return bool(events)

    def _resume(self, lane: Lane, answer: Answer) -> None:
        try:
            request = lane.operation.send(answer)
        except StopIteration as end:
            self._note(lane, *end.value)
            lane.pace.free(lane)
        except WrongAnswer as error:
            self._tally.errors += 1
            self._tally.first_error = self._tally.first_error or str(error)
            lane.pace.free(lane)
        else:
            if request:
                lane.connection.send(request)

    def _note(self, lane: Lane, units: int, since: float | None) -> None:
        if units:
            self._tally.units += units
            self._tally.times.append(clock() - (since or lane.since))

    def _close(self) -> None:
        for lane in self._lanes.values():
            lane.connection.close()
        self._epoll.close()
