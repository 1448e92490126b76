"""Files that processes map into memory, to look at the same words."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def new_memory(path: str, size: int) -> Iterator[mmap.mmap]:
    """Zeros in a new file, which has its name once the block has filled them in.

    Who still looks at an older file of that name, from another run, keeps to that.

    :raise OSError: it cannot be made.
    """
    new = f"{path}.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    yield memory
    os.rename(new, path)


def memory_of(path: str, size: int = 0) -> mmap.mmap:
    """What another process made.

    :param size: so many bytes of it; all of them, if there is none.
    :raise OSError: it cannot be opened.
    :raise ValueError: there are fewer bytes.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
