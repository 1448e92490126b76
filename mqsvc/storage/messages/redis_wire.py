"""Commands to Redis as bytes, and bytes from it as replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis

from mqsvc.storage.messages.redis_scripts import Argument


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
        self._reader = hiredis.Reader(protocolError=ValueError, replyError=Refusal)

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are whole with this piece, in order.

        Texts and statuses are bytes, nothing is none, and a refusal is a
        :class:`Refusal`.

        :raise ValueError: this is not what a Redis sends.
        """
        self._reader.feed(data)
        replies = []
        # In the protocol that is spoken here no reply is false.
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies
