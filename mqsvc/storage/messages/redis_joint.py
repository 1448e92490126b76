"""Operations alike that are asked for in one turn of the reactor: one call of a script.

Most of what a call costs is for the call and for the commands that its script runs, not
for their values. Nothing waits for others: a call is open until the moment at which it
would have been sent anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import msgspec
from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

MOST_PARTS = 16
MOST_MESSAGES = 256
MOST_BYTES = 2**20
"""What one call has at most: other commands wait while Redis runs it."""

_encode = msgspec.msgpack.Encoder().encode


@frozen(eq=False)
class Operation:
    """What can be done for several callers at once.

    :ivar script: its name.
    :ivar decode: makes a list of the answer, with a result for each caller.
    """

    script: str
    decode: Callable[[Any], Sequence[Any]]


@define(eq=False)
class Part:
    """What one caller asks for.

    :ivar like: what parts that may be in one call have in common.
    :ivar parameters: what the script is told of it.
    :ivar read: makes of its result what to fire with.
    :ivar messages: how many it is about, at most.
    :ivar texts: their bodies, where it brings them.
    :ivar is_alone: whether it takes a call of its own, like a full one.
    """

    like: Hashable
    parameters: Mapping[str, Any] | Sequence[Any]
    read: Callable[[Any], Any]
    messages: int
    texts: list[bytes] = field(factory=list)
    is_alone: bool = False


class Joint:
    """One call for several callers.

    :param keys: those of the call.
    :param parameters: what it has besides its parts.
    """

    def __init__(
        self,
        operation: Operation,
        like: Hashable,
        keys: Sequence[str],
        parameters: Mapping[str, Any],
    ) -> None:
        self.operation = operation
        self.like = like
        self._keys = keys
        self._parameters = parameters
        self._parts: list[msgspec.Raw] = []
        self._texts: list[bytes] = []
        self._callers: list[tuple[Deferred[Any], Callable[[Any], Any]]] = []
        self._messages = 0
        self._bytes = 0
        self._is_alone = False
        self._words: tuple[str | bytes, ...] | None = None

    def has_room(self, part: Part) -> bool:
        """Whether one more caller can be served by this call."""
        return (
            not (self._is_alone or part.is_alone)
            and len(self._parts) < MOST_PARTS
            and self._messages + part.messages <= MOST_MESSAGES
            and self._bytes + sum(map(len, part.texts)) <= MOST_BYTES
        )

    def add(self, part: Part) -> Deferred[Any]:
        """Fires with the result of one caller, who can cancel it without any harm."""
        # Here, so that who asks for what cannot be told is alone with the failure.
        self._parts.append(msgspec.Raw(_encode(part.parameters)))
        self._texts += part.texts
        self._messages += part.messages
        self._bytes += sum(map(len, part.texts))
        self._is_alone = part.is_alone
        answer: Deferred[Any] = Deferred()
        self._callers.append((answer, part.read))
        return answer

    def words(self) -> Sequence[str | bytes]:
        """The arguments of the call; nothing may be added any more."""
        if self._words is None:
            parameters = _encode({**self._parameters, "parts": self._parts})
            count = b"%d" % len(self._keys)
            self._words = (count, *self._keys, parameters, *self._texts)
        return self._words

    def deal(self, answer: bytes) -> None:
        """Give each caller the result."""
        results = self.operation.decode(answer)
        for (caller, read), result in zip(self._callers, results, strict=True):
            try:
                value = read(result)
            except Exception:  # noqa: BLE001 - it is that caller's
                caller.errback()
            else:
                caller.callback(value)

    def fail(self, failure: Failure) -> None:
        """Let all callers know that there is no answer."""
        for caller, _ in self._callers:
            # Each gets a failure of its own, which others do not change.
            caller.errback(failure.value)
