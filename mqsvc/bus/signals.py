"""Signals: "this destination may have something new", and "this was changed".

A signal may come too often, and may bring what was posted. Losing one costs time, never
a message: whoever waits looks into the store itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import inf

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.bus.board import SLOTS, Board, slot_of
from mqsvc.bus.news import Link, News, parts
from mqsvc.messaging.model import Destination, Message

Callback = Callable[[Sequence[Message]], None]
"""Told what was posted, if that is known; otherwise of nothing in particular."""

Unsubscribe = Callable[[], None]


@frozen
class Basis:
    """What the answer to a question rests on, taken before it is asked.

    :ivar slot: where the board shows a change.
    :ivar revision: of the slot.
    :ivar until: how long it counts, in seconds of the clock.
    """

    slot: int
    revision: int
    until: float


class Bus:
    """Signals among the connections of a process, and with other processes.

    :param board: what the processes of this server share; by default it is alone.
    :param clock: for what is done later or lasts for a time; one alone needs none.
    :param remembered: for how many seconds an answer counts that processes elsewhere
        may make wrong without being heard.
    """

    log = Logger()

    def __init__(
        self,
        board: Board | None = None,
        clock: IReactorTime | None = None,
        remembered: float = inf,
    ) -> None:
        self.board = Board.private() if board is None else board
        self._clock = clock
        self.remembered = remembered
        self._callbacks: dict[Destination, dict[object, Callback]] = {}
        self._links: list[Link] = []
        self._destinations: dict[Destination, None] = {}
        self._slots: dict[int, None] = {}

    # Signals.

    def publish(self, destination: Destination, posted: Sequence[Message] = ()) -> None:
        """Call everybody who subscribed to a destination, in all processes.

        :param posted: the messages that just came, where they can be read already.
        """
        if destination in self._callbacks:
            # Where others post too, these need not be the next ones.
            self._call(destination, () if self._has_others else posted)
        for link in self._links:
            if link.wants(destination):
                self._send_soon()
                self._destinations[destination] = None
                break

    def takes_posted(self, destination: Destination) -> bool:
        """Whether anybody is to be told what was posted, and not only that."""
        return destination in self._callbacks and not self._has_others

    def subscribe(self, destination: Destination, callback: Callback) -> Unsubscribe:
        """Have a function called at each signal.

        :return: a function that ends it; to be called once.
        """
        key = object()
        if destination not in self._callbacks:
            self._callbacks[destination] = {}
            self.board.count(interest_slot(destination), 1)
        self._callbacks[destination][key] = callback

        def unsubscribe() -> None:
            callbacks = self._callbacks[destination]
            del callbacks[key]
            if not callbacks:
                del self._callbacks[destination]
                self.board.count(interest_slot(destination), -1)

        return unsubscribe

    def _call(self, destination: Destination, posted: Sequence[Message]) -> None:
        callbacks = self._callbacks.get(destination)
        if callbacks is not None:
            for callback in list(callbacks.values()):
                try:
                    callback(posted)
                except Exception:  # noqa: BLE001 - the others are to hear all the same
                    self.log.failure("Somebody who heard a signal failed")

    # What is remembered.

    def basis(self, slot: int) -> Basis:
        """To be taken before something is asked for that will be remembered."""
        until = inf
        if self._clock is not None and self.remembered < inf:
            until = self._clock.seconds() + self.remembered
        return Basis(slot, self.board.revisions[slot], until)

    def holds(self, basis: Basis) -> bool:
        """Whether an answer on this basis still counts."""
        if self.board.revisions[basis.slot] != basis.revision:
            return False
        if basis.until == inf or self._clock is None:
            return True
        return self._clock.seconds() < basis.until

    def changed(self, slot: int) -> None:
        """What was asked for is to be asked for again.

        To be told when the change is in its store, and before anybody knows of it.
        """
        self.board.changed(slot)
        if not all(link.shares_board for link in self._links):
            self._send_soon()
            self._slots[slot] = None

    # Other processes.

    @property
    def is_alone(self) -> bool:
        """Whether no other process can change what this one remembers."""
        return self.board.is_private and self.remembered == inf

    @property
    def is_late(self) -> bool:
        """Whether something remembered may be wrong for a while."""
        return 0 < self.remembered < inf

    @property
    def has_links(self) -> bool:
        """Whether there are ways to other processes."""
        return bool(self._links)

    @property
    def is_whole(self) -> bool:
        """Whether all signals come; if not, those who wait must look themselves."""
        if self._is_shared and all(link.shares_board for link in self._links):
            # There may be servers that have no way to tell this one.
            return False
        return all(link.is_up for link in self._links)

    @property
    def _is_shared(self) -> bool:
        """Whether there may be servers that do not look at this board."""
        return self.remembered < inf

    @property
    def _has_others(self) -> bool:
        return bool(self._links) or self._is_shared

    def connect(self, link: Link) -> None:
        """Let others hear, too.

        :param link: is used from the next signal on, be it started or not.
        """
        self._links.append(link)

    def hear(self, news: News) -> None:
        """Another process tells something."""
        if news.is_all:
            self.board.all_changed()
            self.call_all()
        for slot in news.slots:
            self.board.changed(slot)
        for destination in news.destinations:
            self._call(destination, ())

    def call_all(self) -> None:
        """Let everybody look: something may have come unheard, or may from now on."""
        for destination in list(self._callbacks):
            self._call(destination, ())

    def _send_soon(self) -> None:
        """In the next turn of the reactor, with what else there is until then."""
        if not self._destinations and not self._slots and self._clock is not None:
            self._clock.callLater(0, self._send)

    def _send(self) -> None:
        destinations, self._destinations = self._destinations, {}
        slots, self._slots = self._slots, {}
        for news in parts(list(destinations), list(slots)):
            for link in self._links:
                with self.log.failuresHandled("A signal was not sent"):
                    link.send(news)


@lru_cache(SLOTS)
def interest_slot(destination: Destination) -> int:
    """Where the board counts who wants to hear of a destination."""
    return slot_of("heard", destination.project, destination.kind, destination.name)
