"""Turns at a file: who writes, and who is next.

SQLite lets one process write and the others try again and again. Here they wait in the
kernel, which wakes them, and who just had a turn comes after those who wait.
"""

from __future__ import annotations

import fcntl
import os
from types import TracebackType


class Turn:
    """What a process holds while it writes; a lone one has nobody to wait for.

    :cvar is_shared: whether there are others.
    """

    is_shared = False

    def __enter__(self) -> None:
        """Wait for the turn."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one have it."""

    def close(self) -> None:
        """Wait for no more turns."""


class SharedTurn(Turn):
    """A turn among all processes that name the same file; one thread at a time.

    It ends with a process that is killed. There are two locks, of which the second is
    the turn. Who has the first is next: so one that has just had its turn cannot have
    it again before those who wait have had theirs.

    :param path: the file that is written; the locks are files beside it.
    """

    is_shared = True

    def __init__(self, path: str) -> None:
        self._paths = (f"{path}-next", f"{path}-turn")
        self._locks: tuple[int, ...] = ()

    def __enter__(self) -> None:
        """Wait for the turn.

        :raise OSError: the files cannot be used.
        """
        following, turn = self._locks or self._open()
        fcntl.flock(following, fcntl.LOCK_EX)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(following, fcntl.LOCK_UN)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one have it."""
        fcntl.flock(self._locks[1], fcntl.LOCK_UN)

    def close(self) -> None:
        """Wait for no more turns."""
        locks, self._locks = self._locks, ()
        for lock in locks:
            os.close(lock)

    def _open(self) -> tuple[int, ...]:
        # When it is first needed: a process that was forked would share the locks.
        self._locks = tuple(
            os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for path in self._paths
        )
        return self._locks
