"""Requests of a connection that wait to be answered."""

from __future__ import annotations

from collections import deque

from mqsvc.websocket.frames import Format


class Backlog:
    """Requests in their order.

    :ivar size: of all of them, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._requests: deque[tuple[bytes, Format]] = deque()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._requests)

    def append(self, payload: bytes, form: Format) -> None:
        """One more came."""
        self._requests.append((payload, form))
        self.size += len(payload)

    def popleft(self) -> tuple[bytes, Format]:
        """Take the oldest."""
        payload, form = self._requests.popleft()
        self.size -= len(payload)
        return payload, form

    def clear(self) -> None:
        """Drop all."""
        self._requests.clear()
        self.size = 0
