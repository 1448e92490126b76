"""The body of a request: of a known length, or in chunks.

Both kinds are given the bytes as they come, and say how many of them they took.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO

from mqsvc.wire.http_limits import HTTPLimits, bad_request, body_too_large

_CRLF = b"\r\n"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~\x80-\xff]*)?\Z")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\Z")


class Content(BytesIO):
    """A body as far as it was kept.

    :ivar size: how many bytes came.
    """

    def __init__(self, kept: bytes, size: int) -> None:
        super().__init__(kept)
        self.size = size


class Body:
    """A body that is being received.

    :ivar size: bytes that came.
    :ivar is_complete: whether that was all.
    """

    __slots__ = ("_limits", "_pieces", "is_complete", "size")

    def __init__(self, limits: HTTPLimits) -> None:
        self._limits = limits
        self._pieces: list[bytes] = []
        self.size = 0
        self.is_complete = False

    def read(self, data: bytes) -> int:
        """Take bytes; gives how many.

        The others are to be given again when more have come, or belong to the next
        request when the body is complete.

        :raise Refusal: it is no body, or too large.
        """
        raise NotImplementedError

    def content(self) -> Content:
        """What was kept."""
        return Content(b"".join(self._pieces), self.size)

    def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limits.body:
            raise body_too_large(self._limits)
        if self.size > self._limits.body_kept:
            self._pieces.clear()
        else:
            self._pieces.append(piece)


class SizedBody(Body):
    """A body whose length is known.

    :raise Refusal: it will be too large.
    """

    __slots__ = ("_length",)

    def __init__(self, limits: HTTPLimits, length: int) -> None:
        super().__init__(limits)
        if length > limits.body:
            raise body_too_large(limits)
        self._length = length

    def read(self, data: bytes) -> int:
        """See :class:`Body`."""
        piece = data[: self._length - self.size]
        self._keep(piece)
        self.is_complete = self.size == self._length
        return len(piece)


class ChunkedBody(Body):
    """A body in chunks (RFC 9112, 7.1); extensions and trailers are dropped."""

    __slots__ = ("_beside", "_left", "_step")

    def __init__(self, limits: HTTPLimits) -> None:
        super().__init__(limits)
        self._left = 0
        self._beside = 0
        self._step: Callable[[ChunkedBody, bytes, int], int] = ChunkedBody._read_size

    def read(self, data: bytes) -> int:
        """See :class:`Body`."""
        position, before = 0, -1
        while position != before and not self.is_complete:
            before = position
            position = self._step(self, data, position)
        return position

    def _read_size(self, data: bytes, start: int) -> int:
        line = self._line(data, start)
        if line is None:
            return start
        matched = _SIZE.match(line)
        if matched is None:
            raise bad_request("The size of a chunk is no hexadecimal number.")
        self._left = int(matched[1], 16)
        self._note_beside(len(line) - matched.end(1))
        if self._left > self._limits.body - self.size:
            raise body_too_large(self._limits)
        self._step = ChunkedBody._read_data if self._left else ChunkedBody._read_trailer
        return start + len(line) + 2

    def _read_data(self, data: bytes, start: int) -> int:
        piece = data[start : start + self._left]
        if piece:
            self._keep(piece)
        self._left -= len(piece)
        if not self._left:
            self._step = ChunkedBody._read_end
        return start + len(piece)

    def _read_end(self, data: bytes, start: int) -> int:
        end = data[start : start + 2]
        if end == _CRLF:
            self._step = ChunkedBody._read_size
            return start + 2
        if not _CRLF.startswith(end):
            raise bad_request("A chunk does not end where its size says.")
        return start

    def _read_trailer(self, data: bytes, start: int) -> int:
        line = self._line(data, start)
        if line is None:
            return start
        if not line:
            self.is_complete = True
        elif not _TRAILER.match(line):
            raise bad_request("What follows the last chunk is no header.")
        self._note_beside(len(line))
        return start + len(line) + 2

    def _line(self, data: bytes, start: int) -> bytes | None:
        end = data.find(_CRLF, start)
        line = data[start:end] if end >= 0 else data[start:]
        # Nothing else may end a line, not even for those who come next.
        if b"\n" in line or b"\r" in line[:-1]:
            raise bad_request("Lines between chunks do not end with CR and LF.")
        if end < 0:
            if len(line) > self._limits.head:
                raise bad_request("A line between chunks is too long.")
            return None
        return line

    def _note_beside(self, size: int) -> None:
        self._beside += size
        if self._beside > self._limits.head:
            raise bad_request("The body has too much beside its chunks.")
