"""Addresses of names, looked up in threads of their own.

The system's resolver blocks, for half a minute where a name server is dead. Tenants
choose the names, so many of them may be of that kind. Each name has one thread at a
time, and names that were slow the last time, names that were not, and new ones have
separate threads: none of them waits for the others.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqsvc.notification.target import Address

THREADS = 8
"""At most, for each kind of name."""

SLOW_SECONDS = 2.0
"""A name that took longer is slow."""

MOST_KNOWN = 10_000
"""Names whose kind is remembered; the one looked up longest ago makes room."""

GetAddrInfo = Callable[..., Sequence[tuple[Any, ...]]]
"""As :func:`socket.getaddrinfo`."""


class _Kind(enum.Enum):
    QUICK = enum.auto()
    SLOW = enum.auto()
    NEW = enum.auto()


class NameLookup:
    """Finds addresses.

    :param reactor: for the time, and for what threads have to tell.
    """

    log = Logger()

    def __init__(self, reactor: Any, getaddrinfo: GetAddrInfo) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._askers: dict[str, list[Deferred[list[Address]]]] = {}
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()
        self._waiting: dict[_Kind, deque[str]] = {kind: deque() for kind in _Kind}
        self._busy = dict.fromkeys(_Kind, 0)

    def addresses_of(self, name: str) -> Deferred[list[Address]]:
        """Fire with the addresses of a name, with none if it is not known."""
        is_under_way = name in self._askers
        askers = self._askers.setdefault(name, [])
        asker: Deferred[list[Address]] = Deferred(askers.remove)
        askers.append(asker)
        if not is_under_way:
            kind = self._kinds.get(name, _Kind.NEW)
            self._waiting[kind].append(name)
            self._begin(kind)
        return asker

    def _begin(self, kind: _Kind) -> None:
        """Give the threads that are free to the names that have waited longest."""
        waiting = self._waiting[kind]
        while waiting and self._busy[kind] < THREADS:
            name = waiting.popleft()
            if self._askers[name]:
                self._start(name, kind)
            else:  # they have left while it waited
                del self._askers[name]

    def _start(self, name: str, kind: _Kind) -> None:
        began = self._reactor.seconds()

        def look_up() -> None:
            addresses = self._ask(name)
            self._reactor.callFromThread(self._found, name, kind, began, addresses)

        # A process that ends does not wait for it.
        thread = Thread(target=look_up, name="names", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.log.error("A name cannot be looked up now: {error}", error=error)
            self._tell(name, [])
        else:
            self._busy[kind] += 1

    def _found(
        self, name: str, kind: _Kind, began: float, addresses: list[Address]
    ) -> None:
        self._busy[kind] -= 1
        is_slow = self._reactor.seconds() - began > SLOW_SECONDS
        self._remember(name, _Kind.SLOW if is_slow else _Kind.QUICK)
        self._tell(name, addresses)
        self._begin(kind)

    def _tell(self, name: str, addresses: list[Address]) -> None:
        askers = self._askers.pop(name)
        while askers:
            askers.pop(0).callback(addresses)

    def _remember(self, name: str, kind: _Kind) -> None:
        self._kinds[name] = kind
        self._kinds.move_to_end(name)
        if len(self._kinds) > MOST_KNOWN:
            self._kinds.popitem(last=False)

    def _ask(self, name: str) -> list[Address]:
        try:
            answers = self._getaddrinfo(name, None, type=socket.SOCK_STREAM)
            return [ipaddress.ip_address(answer[4][0]) for answer in answers]
        except (OSError, UnicodeError):
            return []
        except Exception:  # noqa: BLE001 - a thread that tells nothing counts for ever
            self.log.failure("The answer to a lookup of a name cannot be used")
            return []
