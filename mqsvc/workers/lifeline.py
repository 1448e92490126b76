"""How a worker learns that it shall end: its supervisor lets go of a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadDescriptor)
class Lifeline:
    """Watches the end of a pipe that nothing is written to any more.

    :param ended: called when the other end was closed, by hand or by death.
    """

    def __init__(self, descriptor: int, ended: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._ended = ended

    def fileno(self) -> int:
        """What the reactor watches."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the reactor's messages."""
        return "lifeline"

    def doRead(self) -> Any:
        """See whether it is the end."""
        return None if os.read(self._descriptor, 4096) else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """It is the end."""
        self._ended()
