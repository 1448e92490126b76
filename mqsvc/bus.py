"""Signals: "this destination may have something new".

A signal carries nothing and may come too often. Losing one costs time, never a
message: whoever waits looks into the store itself.
"""

from __future__ import annotations

from collections.abc import Callable

from mqsvc.messaging.model import Destination

Callback = Callable[[], None]


class Bus:
    """Signals among the connections of one process."""

    def __init__(self) -> None:
        self._callbacks: dict[Destination, dict[object, Callback]] = {}

    def publish(self, destination: Destination) -> None:
        """Call everybody who subscribed to a destination."""
        for callback in list(self._callbacks.get(destination, {}).values()):
            callback()

    def subscribe(self, destination: Destination, callback: Callback) -> Callback:
        """Have a function called at each signal.

        :return: a function that ends it; to be called once.
        """
        key = object()
        self._callbacks.setdefault(destination, {})[key] = callback

        def unsubscribe() -> None:
            callbacks = self._callbacks[destination]
            del callbacks[key]
            if not callbacks:
                del self._callbacks[destination]

        return unsubscribe
