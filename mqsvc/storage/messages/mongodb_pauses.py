"""What waits between attempts at a MongoDB server, never twice for the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mqsvc.storage.messages.mongodb_commands import Interrupted

Result = TypeVar("Result")

RETRY_SECONDS = 0.1
"""Between attempts while there is no primary."""


class Pauses:
    """Pauses of a process.

    :param clock: what they are measured by.
    :param spread: a random number below one, so that rivals do not keep meeting.
    """

    def __init__(self, clock: IReactorTime, spread: Callable[[], float]) -> None:
        self._clock = clock
        self._spread = spread

    async def pause(self, seconds: float) -> None:
        """Wait for about so long."""
        await deferLater(self._clock, seconds * (0.5 + self._spread()), lambda: None)

    async def retried(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Make attempts until one is not interrupted."""
        while True:
            try:
                return await attempt()
            except Interrupted:
                await self.pause(RETRY_SECONDS)
