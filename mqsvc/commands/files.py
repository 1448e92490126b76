"""The file of an export: complete under its name, or not there at all.

Everything here blocks and is meant for a thread: a disk may be slow, and a pipe is as
slow as who reads it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

STANDARD = "-"
"""The name of the standard input and output."""


class Output:
    """Takes bytes; :meth:`finish` or :meth:`discard` ends it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Append all of some bytes."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def finish(self) -> None:
        """What was written is all there is."""
        # A pipe has no disk behind it.
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """What was written is of no use."""


class NewFile(Output):
    """A file that takes its name when it is finished, its owner's alone.

    :raise OSError: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
            raise OSError(f"{path} is no file; to write elsewhere, use - and a pipe")
        descriptor, self._unfinished = tempfile.mkstemp(
            prefix=f".{self._path.name}.", dir=self._path.parent
        )
        super().__init__(descriptor)

    def finish(self) -> None:
        """Sync the file, then give it its name."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        os.replace(self._unfinished, self._path)
        _sync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove it; what had its name before is still there."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        Path(self._unfinished).unlink(missing_ok=True)


def open_output(path: str) -> Output:
    """Where an export goes.

    :raise OSError: a file cannot be made there.
    """
    return Output(sys.stdout.fileno()) if path == STANDARD else NewFile(path)


def open_input(path: str) -> BinaryIO:
    """A file to be read twice; what can be read only once is copied first.

    :raise OSError: it cannot be read.
    """
    if path == STANDARD:
        return _copied(sys.stdin.buffer)
    file = open(path, "rb")  # noqa: SIM115 - the caller closes it
    if file.seekable():
        return file
    with file:
        return _copied(file)


def _copied(source: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the same
    shutil.copyfileobj(source, copy)
    return copy


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
