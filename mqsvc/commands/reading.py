"""The rules of an export file: what a line may be, and what may follow what."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import BinaryIO

import msgspec
from attrs import frozen

from mqsvc.commands.lines import (
    HEADER,
    AnyLine,
    DestinationLine,
    End,
    FlavorLine,
    Header,
    Line,
    MessageLine,
    PoolLine,
    SubscriptionLine,
)
from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidName
from mqsvc.messaging.model import Destination, StoredMessage
from mqsvc.wire.codec import CodecError

MAX_HEADER = 1024
"""Bytes: what has no line end so far is no export, and may be endless."""

BATCH_BYTES = 2**20
"""What one call reads at most, beside the last line."""

EXPORT_AGAIN = "the file was cut off; make the export again"

_header_decoder = msgspec.json.Decoder(Header)
_line_decoder: msgspec.json.Decoder[Line | End] = msgspec.json.Decoder(AnyLine)


class FormatError(ValueError):
    """A line is not what belongs there; the text says which one, and what is wrong."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number}: {reason}")


@frozen
class Entry:
    """A line in its place.

    :ivar number: the first line of a file is 1.
    :ivar destination: the queue or topic that it is, or belongs to; pools and flavors
        belong to none.
    :ivar stored: what a line of a message stands for.
    :ivar size: bytes of the line.
    """

    number: int
    line: Line
    destination: Destination | None
    stored: StoredMessage | None
    size: int


class Reading:
    """One way through a file; everything here blocks.

    :ivar counts: of the lines read so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.counts = End()
        self._file = file
        self._destination: Destination | None = None
        self._entries = self._read()

    def batch(self) -> list[Entry]:
        """The next entries, a bounded amount; none at the end of a complete file.

        :raise FormatError: a line of them is wrong, or the file is not complete.
        """
        entries, size = [], 0
        for entry in self._entries:
            entries.append(entry)
            size += entry.size
            if size >= BATCH_BYTES:
                break
        return entries

    def _read(self) -> Iterator[Entry]:
        self._file.seek(0)
        _check_header(self._file.readline(MAX_HEADER))
        for number in count(2):
            raw = self._file.readline()
            line = _decoded(number, raw)
            if isinstance(line, End):
                self._check_end(number, line)
                return
            yield self._entry(number, line, len(raw))

    def _entry(self, number: int, line: Line, size: int) -> Entry:
        try:
            stored = line.stored() if isinstance(line, MessageLine) else None
            destination = self._destination_of(line)
        except (CodecError, InvalidName) as error:
            raise FormatError(number, str(error)) from error
        if destination is None and isinstance(line, SubscriptionLine | MessageLine):
            raise FormatError(number, "no queue or topic stands above it")
        self.counts.count(line)
        return Entry(number, line, destination, stored, size)

    def _destination_of(self, line: Line) -> Destination | None:
        if isinstance(line, PoolLine | FlavorLine):
            return None
        if isinstance(line, DestinationLine):
            self._destination = checks.destination(line.destination)
        return self._destination

    def _check_end(self, number: int, end: End) -> None:
        if end != self.counts:
            raise FormatError(
                number, f"it says {end}, but there are {self.counts}: lines are missing"
            )
        if self._file.read(1):
            raise FormatError(number + 1, "expected nothing behind the last line")


def _check_header(raw: bytes) -> None:
    try:
        header = _header_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        header = None
    if header is None or header.format != HEADER.format:
        raise FormatError(1, "this is no export of mqsvc")
    if header.version != HEADER.version:
        raise FormatError(
            1,
            f"this is version {header.version} of the format, and this program reads "
            f"version {HEADER.version}: use the mqsvc that wrote it, or a newer one",
        )


def _decoded(number: int, raw: bytes) -> Line | End:
    if not raw:
        raise FormatError(number, f"expected a line of type `end`: {EXPORT_AGAIN}")
    try:
        return _line_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error) if raw.endswith(b"\n") else EXPORT_AGAIN
        raise FormatError(number, reason) from error
