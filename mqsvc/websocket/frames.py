"""Frames <-> values: text is JSON, binary is MessagePack (websocket.md 2).

Both hold the same values, those of strict JSON, so that what one client posts in
either form can be read by another one in the other.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Protocol

import msgspec

from mqsvc.wire import codec

_INT64 = range(-(2**63), 2**63)

_unpacker = msgspec.msgpack.Decoder()
_packer = msgspec.msgpack.Encoder()


class FrameError(ValueError):
    """A frame cannot be read; the text says why."""


class Format(Protocol):
    """One of the two forms of a frame."""

    is_binary: bool

    def decode(self, payload: bytes) -> Any:
        """The value in a frame.

        :raise FrameError: it is malformed, or outside the bounds of strict JSON.
        """

    def encode(self, value: Any) -> bytes:
        """The frame for a value."""

    def embed(self, document: bytes) -> Any:
        """JSON text as a part of a value to be encoded."""


class Text:
    """Frames of JSON."""

    is_binary = False

    def decode(self, payload: bytes) -> Any:
        """See :class:`Format`."""
        try:
            return codec.decode(payload)
        except codec.CodecError as error:
            raise FrameError(
                f"Can't decode text (JSON) request. {_said(error.__cause__ or error)}"
            ) from error

    def encode(self, value: Any) -> bytes:
        """See :class:`Format`."""
        return codec.encode(value)

    def embed(self, document: bytes) -> Any:
        """See :class:`Format`."""
        return codec.Encoded(document)


class Binary:
    """Frames of MessagePack."""

    is_binary = True

    def decode(self, payload: bytes) -> Any:
        """See :class:`Format`."""
        try:
            value = _unpacker.decode(payload)
            _check(value, codec.MAX_DEPTH)
            if isinstance(value, dict) and "body" in value:
                value["body"] = _without_bytes(value["body"])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise FrameError(
                f"Can't decode binary (MessagePack) request. {_said(error)}"
            ) from error
        return value

    def encode(self, value: Any) -> bytes:
        """See :class:`Format`."""
        return _packer.encode(value)

    def embed(self, document: bytes) -> Any:
        """See :class:`Format`."""
        return codec.decode(document)


TEXT = Text()
BINARY = Binary()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _check(value: Any, depth: int) -> None:
    """Accept what has a form in strict JSON, and bytes."""
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError(f"nested deeper than {codec.MAX_DEPTH} levels")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("the keys of a map must be strings")
            value = value.values()
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, int) and value not in _INT64:
        raise ValueError("an integer is too large for 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    elif isinstance(value, datetime | msgspec.msgpack.Ext):
        raise ValueError("extension types, such as timestamps, have no form in JSON")


def _without_bytes(value: Any) -> Any:
    """The value with binary data turned to the text that it is."""
    if isinstance(value, dict):
        return {key: _without_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_bytes(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(
                "binary data that is not UTF-8 has no form in JSON; send it as text, "
                "in base64 for example"
            ) from None
    return value
