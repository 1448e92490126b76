"""Commands to Redis as bytes, and bytes from it as replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mqsvc.storage.messages.redis_scripts import Argument

_END = b"\r\n"


class Refusal(Exception):
    """What Redis answers in place of a result; the text is its own."""


def encode_command(words: Sequence[Argument]) -> bytes:
    """A command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Replies:
    """Takes what is received in any pieces, and gives the replies in it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed = 0
        self._received = b""

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are whole with this piece, in order.

        Texts and statuses are bytes, nothing is none, and a refusal is a
        :class:`Refusal`.

        :raise ValueError: this is not what a Redis sends.
        """
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:
            # A long text is put together once, not with each of its pieces.
            return []
        self._received, self._needed = b"".join(self._pieces), 0
        replies, end = [], 0
        while (found := self._read(end)) is not None:
            reply, end = found
            replies.append(reply)
        self._keep(end)
        return replies

    def _keep(self, start: int) -> None:
        """What begins here is not whole yet."""
        rest = self._received[start:]
        self._received = b""
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._needed -= start

    def _read(self, start: int) -> tuple[Any, int] | None:
        """The reply that begins here, and where it ends, once that is received."""
        received = self._received
        end = received.find(_END, start)
        if end < 0:
            return None
        kind, line = received[start : start + 1], received[start + 1 : end]
        end += len(_END)
        match kind:
            case b"$":
                return self._read_text(int(line), end)
            case b"*":
                return self._read_list(int(line), end)
            case b":":
                return int(line), end
            case b"+":
                return line, end
            case b"-":
                return Refusal(line.decode(errors="replace")), end
        raise ValueError(f"a reply of Redis does not begin with {kind!r}")

    def _read_text(self, length: int, start: int) -> tuple[bytes | None, int] | None:
        if length < 0:
            return None, start
        end = start + length
        if len(self._received) < end + len(_END):
            self._needed = end + len(_END)
            return None
        return self._received[start:end], end + len(_END)

    def _read_list(self, length: int, end: int) -> tuple[list[Any] | None, int] | None:
        if length < 0:
            return None, end
        items = []
        for _ in range(length):
            found = self._read(end)
            if found is None:
                return None
            item, end = found
            items.append(item)
        return items, end
