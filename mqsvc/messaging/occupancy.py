"""Who relies on a destination being where it is, and who is about to change that.

A post, or a move of dead letters, must not end up where its destination no longer is:
it shares the destination with others of its kind. A removal, or a change of pool, has
it alone. Both take their turn in the order of their coming.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Generator
from typing import NoReturn

from twisted.internet.defer import Deferred

from mqsvc.messaging.model import Destination


class Occupancy:
    """The turns of all destinations, in one process."""

    def __init__(self) -> None:
        self._turns: dict[Destination, _Turns] = {}

    def shared(self, destination: Destination) -> _Stay:
        """A time in which the destination stays where it is."""
        return _Stay(self._turns, destination, is_alone=False)

    def alone(self, destination: Destination) -> _Stay:
        """A time in which nobody else shares it or has it alone."""
        return _Stay(self._turns, destination, is_alone=True)


class _AtOnce:
    """Awaits nothing."""

    __slots__ = ()

    def __await__(self) -> Generator[NoReturn, None, None]:
        yield from ()


_AT_ONCE = _AtOnce()


class _Stay:
    """One turn at a destination, from its beginning to its end.

    A context manager; its methods are no coroutines since there is one for each post,
    and hardly ever somebody in its way.
    """

    __slots__ = ("_all", "_destination", "_is_alone", "_turns")

    def __init__(
        self,
        turns: dict[Destination, _Turns],
        destination: Destination,
        is_alone: bool,
    ) -> None:
        self._all = turns
        self._destination = destination
        self._is_alone = is_alone

    def __aenter__(self) -> Awaitable[None]:
        turns = self._all.get(self._destination)
        if turns is None:
            turns = self._all[self._destination] = _Turns()
        self._turns = turns
        return turns.take(self._is_alone)

    def __aexit__(self, *_: object) -> Awaitable[None]:
        # Those who left before may have been the last ones, and others have come since.
        if self._turns.leave() and self._all.get(self._destination) is self._turns:
            del self._all[self._destination]
        return _AT_ONCE


class _Turns:
    """Many may share, or one may be alone."""

    __slots__ = ("_is_alone", "_is_moving", "_line", "_sharing")

    def __init__(self) -> None:
        self._sharing = 0
        self._is_alone = False
        self._line: deque[tuple[bool, Deferred[None]]] = deque()
        self._is_moving = False

    def take(self, is_alone: bool) -> Awaitable[None]:
        """Wait until it is one's turn; who is cancelled leaves the line."""
        if not (is_alone or self._is_alone or self._line):
            self._sharing += 1
            return _AT_ONCE
        turn: Deferred[None] = Deferred(lambda turn: self._give_up(is_alone, turn))
        self._line.append((is_alone, turn))
        self._move()
        return turn

    def leave(self) -> bool:
        """One who had a turn goes; gives whether nobody is there now, or waits."""
        if self._is_alone:
            self._is_alone = False
        else:
            self._sharing -= 1
        if self._line:
            self._move()
        return not (self._sharing or self._is_alone or self._line)

    def _give_up(self, is_alone: bool, turn: Deferred[None]) -> None:
        self._line.remove((is_alone, turn))
        self._move()

    def _move(self) -> None:
        # Whoever is let in may leave at once: that must not nest a call per turn.
        if self._is_moving:
            return
        self._is_moving = True
        while self._line and not self._is_alone:
            is_alone, turn = self._line[0]
            if is_alone and self._sharing:
                break
            self._line.popleft()
            if is_alone:
                self._is_alone = True
            else:
                self._sharing += 1
            turn.callback(None)
        self._is_moving = False
