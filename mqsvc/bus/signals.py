"""Signals: "this destination may have something new".

A signal may come too often, and may bring what was posted. Losing one costs time, never
a message: whoever waits looks into the store itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mqsvc.messaging.model import Destination, Message

Callback = Callable[[Sequence[Message]], None]
"""Told what was posted, if that is known; otherwise of nothing in particular."""

Unsubscribe = Callable[[], None]


class Bus:
    """Signals among the connections of one process."""

    def __init__(self) -> None:
        self._callbacks: dict[Destination, dict[object, Callback]] = {}

    def publish(self, destination: Destination, posted: Sequence[Message] = ()) -> None:
        """Call everybody who subscribed to a destination.

        :param posted: the messages that just came, where they can be read already.
        """
        for callback in list(self._callbacks.get(destination, {}).values()):
            callback(posted)

    def is_heard(self, destination: Destination) -> bool:
        """Whether anybody subscribed to a destination."""
        return destination in self._callbacks

    def subscribe(self, destination: Destination, callback: Callback) -> Unsubscribe:
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
