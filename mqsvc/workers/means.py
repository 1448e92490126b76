"""What a process that serves has, from itself or from its supervisor."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from mqsvc.bus.board import Place
from mqsvc.service import DataDirectory, parse_endpoint
from mqsvc.workers.assignment import Assignment
from mqsvc.workers.sockets import inherited_endpoint
from mqsvc.workers.spread import Counts, Seat


class Means:
    """Those of a lone process.

    :param lock: the descriptor of the directory's lock, if another process took it.
    :ivar place: among the workers of a server; a lone process has none.
    """

    def __init__(
        self, data_dir: str, lock: int | None = None, place: Place | None = None
    ) -> None:
        self.directory = DataDirectory(os.path.abspath(data_dir), lock)
        self.place = place

    @property
    def is_shared(self) -> bool:
        """Whether others have the same."""
        return self.place is not None

    def endpoint(
        self, reactor: Any, option: str, description: str
    ) -> IStreamServerEndpoint:
        """What an option describes.

        :raise ConfigError: nothing that could be used.
        """
        return parse_endpoint(reactor, option, description)


class InheritedMeans(Means):
    """Those of a worker."""

    def __init__(self, assignment: Assignment) -> None:
        # Nobody else is there while it is only looked whether this one could be.
        place = assignment.place if assignment.sockets else None
        super().__init__(assignment.data_dir, assignment.lock, place)
        self._place = assignment.place
        self._sockets = assignment.sockets
        os.set_inheritable(assignment.lock, False)

    def endpoint(
        self, reactor: Any, option: str, description: str
    ) -> IStreamServerEndpoint:
        """What an option describes, on the socket that the supervisor bound for it.

        :raise ConfigError: nothing that could be used.
        """
        if option not in self._sockets:
            return super().endpoint(reactor, option, description)
        seat = self._seat([*self._sockets].index(option))
        descriptor = self._sockets[option]
        return inherited_endpoint(reactor, option, description, descriptor, seat)

    def _seat(self, socket: int) -> Seat:
        counts = Counts.open(counts_path(self._place), self._place.count)
        return Seat(counts, socket, self._place.number)


def counts_path(place: Place) -> str:
    """The file with the numbers of connections."""
    return os.path.join(place.directory, "connections")
