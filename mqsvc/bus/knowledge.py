"""Answers of a store, remembered until somebody changes what they are about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from mqsvc.bus.board import slot_of
from mqsvc.bus.signals import Basis, Bus
from mqsvc.messaging.model import Destination

MOST_KNOWN = 10_000
"""Answers kept in memory; the one known longest makes room."""

Answer = TypeVar("Answer")


class Knowledge(Generic[Answer]):
    """What is known of destinations.

    :param bus: tells what was changed, by this process and by others.
    :param subject: what the answers are about, so that it is a change of that.
    """

    def __init__(self, bus: Bus, subject: str) -> None:
        self._bus = bus
        self._subject = subject
        self._known: dict[Destination, tuple[Basis, Answer]] = {}

    def get(self, destination: Destination) -> Answer | None:
        """The answer, if there is one that still counts."""
        known = self._known.get(destination)
        if known is None or not self._bus.holds(known[0]):
            return None
        return known[1]

    async def learn(
        self, destination: Destination, question: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Ask, and remember the answer unless it is old by then."""
        # Before it is asked: what is changed meanwhile has another revision.
        basis = self._bus.basis(self._slot(destination))
        answer = await question()
        if self._bus.holds(basis):
            self._keep(destination, basis, answer)
        return answer

    def forget(self, destination: Destination) -> None:
        """It was changed: let all processes ask again."""
        self._bus.changed(self._slot(destination))
        self._known.pop(destination, None)

    def _slot(self, destination: Destination) -> int:
        name = (destination.project, destination.kind, destination.name)
        return slot_of(self._subject, *name)

    def _keep(self, destination: Destination, basis: Basis, answer: Answer) -> None:
        if destination not in self._known and len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[destination] = (basis, answer)
