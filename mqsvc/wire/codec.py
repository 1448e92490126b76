"""JSON, strictly: what is decoded here can be encoded again by anybody.

RFC 8259, narrowed by the contract (rest.md 1.7): UTF-8 without a byte order mark,
no NaN or Infinity, no unpaired surrogates, integers of 64 bits, bounded depth.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_DEPTH = 256
"""Levels of arrays and objects; the outermost one counts."""

_INT64 = range(-(2**63), 2**63)
# Digits look all the same in it, and so do brackets that open something.
_LOOK = bytes.maketrans(b"123456789{", b"000000000[")
_MAYBE_WIDE_INTEGER = b"0" * 19
# An unfinished string counts to the end, or each of its quotes would be tried anew.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()

Encoded = msgspec.Raw
"""Bytes that are JSON already and are put into a document as they are."""


class CodecError(ValueError):
    """The bytes are not acceptable JSON; the text says why."""


def decode(raw: bytes) -> Any:
    """Bytes to a JSON value.

    :raise CodecError: malformed, or outside the bounds named above.
    """
    look = raw.translate(_LOOK)
    if look.count(b"[") > MAX_DEPTH:
        _check_depth(raw)
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(str(error)) from error
    # Many times as fast as a regular expression.
    if _MAYBE_WIDE_INTEGER in look:
        _check_integers(value)
    return value


def encode(value: Any) -> bytes:
    """A JSON value to compact UTF-8 bytes; :data:`Encoded` parts are not touched."""
    return _encoder.encode(value)


def _check_depth(raw: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", raw)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            raise CodecError(f"nested deeper than {MAX_DEPTH} levels")


def _check_integers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check_integers(item)
    elif isinstance(value, list):
        for item in value:
            _check_integers(item)
    elif isinstance(value, int) and value not in _INT64:
        raise CodecError("an integer is too large for 64 bits")
