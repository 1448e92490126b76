"""Messages that come as one whole frame, read at little cost.

Nearly all requests are like this: one frame, all of it there, neither compressed nor
large. Autobahn looks at any stream of frames with the same care, in a tenth of a
millisecond for each; so it is left the others, and whatever is wrong.
"""

from __future__ import annotations

from attrs import frozen

_TEXT, _BINARY = 0x81, 0x82
"""The first byte of a last frame without extensions."""

_IS_MASKED = 0x80
_SHORTEST_OF_TWO_BYTES = 126


@frozen
class WholeMessage:
    """A message, and where the next frame begins."""

    payload: bytes
    is_binary: bool
    end: int


def read_whole(data: bytes, start: int, most: int) -> WholeMessage | None:
    """The message in the frame that begins here; none when it is not for this module.

    :param most: bytes that a payload may have.
    """
    if len(data) - start < 6 or data[start] not in (_TEXT, _BINARY):
        return None
    size, begin = data[start + 1] - _IS_MASKED, start + 2
    if size == _SHORTEST_OF_TWO_BYTES:
        size, begin = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
        if size < _SHORTEST_OF_TWO_BYTES:
            return None
    elif not 0 <= size < _SHORTEST_OF_TWO_BYTES:
        return None
    end = begin + 4 + size
    if size > most or end > len(data):
        return None
    payload = _unmasked(data[begin + 4 : end], data[begin : begin + 4])
    is_binary = data[start] == _BINARY
    if not (is_binary or _is_text(payload)):
        return None
    return WholeMessage(payload, is_binary, end)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    masks = (mask * (size // 4 + 1))[:size]
    both = int.from_bytes(payload, "little") ^ int.from_bytes(masks, "little")
    return both.to_bytes(size, "little")


def _is_text(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
