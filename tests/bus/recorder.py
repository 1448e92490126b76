"""A link that leads nowhere."""

from __future__ import annotations

from mqsvc.bus.news import News
from mqsvc.messaging.model import Destination


class Recorder:
    """A link that notes what it is given.

    :ivar sent: all of it.
    """

    def __init__(self, shares_board: bool = False, wants: bool = True) -> None:
        self.is_up = True
        self.shares_board = shares_board
        self.sent: list[News] = []
        self._wants = wants

    def wants(self, destination: Destination) -> bool:
        """Whether anybody is there."""
        return self._wants

    def send(self, news: News) -> None:
        """Note it."""
        self.sent.append(news)
