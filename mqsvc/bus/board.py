"""A board: a little memory that the processes of one server look at together.

It tells whether something that was remembered has been changed since, and which
processes want to hear of what. All of it is hashed into *slots*, so that it never
grows; that two things share a slot costs a look too many, nothing else.
"""

from __future__ import annotations

import mmap
import os
from random import SystemRandom
from zlib import crc32

from attrs import frozen

from mqsvc.bus.mapped import memory_of, new_memory

SLOTS = 4096
"""How many things are told apart."""

_WORD_BYTES = 8
_WORD_BITS = 64

_random_bits = SystemRandom().getrandbits


@frozen
class Place:
    """Where a worker stands among those of its server.

    :ivar directory: holds the board and the sockets of the workers; only the server's
        user can look into it.
    :ivar number: its own, from 0 on.
    :ivar count: of all workers.
    """

    directory: str
    number: int
    count: int

    @property
    def board_path(self) -> str:
        """The file of the board."""
        return board_path(self.directory)


def board_path(directory: str) -> str:
    """The file of the board of the workers who have this directory."""
    return os.path.join(directory, "board")


def slot_of(*words: str) -> int:
    """The slot of a thing by its full name: the same one in every process."""
    return crc32("\0".join(words).encode("utf-8", "surrogatepass")) % SLOTS


class Board:
    """Words of 64 bits, shared with other processes or not.

    First comes the identity of the board, then a *revision* for each slot, then for
    each process a row with a counter for each slot. A word is written whole, so no lock
    is needed: revisions are only compared, and each counter has one writer.

    :param memory: zeros, or what another process made of them.
    :param row: the row of this process; none if it wants to hear nothing.
    :ivar revisions: by slot, a number that is another one after each change of what is
        in it.
    """

    def __init__(self, memory: bytearray | mmap.mmap, row: int | None) -> None:
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        self.revisions = self._words[1 : 1 + SLOTS].toreadonly()
        self._row = row
        begins = range(_row_begins(0), len(self._words), SLOTS)
        self._others = [
            (other, begin) for other, begin in enumerate(begins) if other != row
        ]

    @classmethod
    def private(cls) -> Board:
        """A board that one process has for itself."""
        board = cls(bytearray(_size(1)), 0)
        board._begin()
        return board

    @classmethod
    def create(cls, path: str, rows: int) -> Board:
        """Make the file of a board, in place of an older one.

        :param rows: how many processes will open it.
        :raise OSError: it cannot be made.
        """
        with new_memory(path, _size(rows)) as memory:
            board = cls(memory, None)
            board._begin()
        return board

    @classmethod
    def open(cls, path: str, row: int, rows: int) -> Board:
        """Look at the board that another process made.

        :param row: that of this process, from 0 on; what it said before is forgotten.
        :raise OSError: it cannot be opened.
        :raise ValueError: it was made for fewer processes.
        """
        if not 0 <= row < rows:
            raise ValueError(f"there is no row {row} of {rows}")
        board = cls(memory_of(path, _size(rows)), row)
        board._erase(row)
        return board

    def close(self) -> None:
        """Look at it no more."""
        self.revisions.release()
        self._words.release()
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()

    def _begin(self) -> None:
        self._words[0] = _random_bits(_WORD_BITS)

    @property
    def is_private(self) -> bool:
        """Whether no other process can look at it."""
        return not isinstance(self._memory, mmap.mmap)

    @property
    def identity(self) -> int:
        """The same for all processes that look at this board, and for no others."""
        return self._words[0]

    # Revisions.

    def changed(self, slot: int) -> None:
        """What is in a slot was changed; to be told when the change can be seen."""
        self._words[1 + slot] = _random_bits(_WORD_BITS)

    def all_changed(self) -> None:
        """Anything may have been changed."""
        for slot in range(SLOTS):
            self.changed(slot)

    # Interest.

    def count(self, slot: int, change: int) -> None:
        """More or fewer of this process want to hear of a slot.

        Who counts itself in and then looks misses nothing: who changes something
        does that first, and then looks at the counters.
        """
        if self._row is not None:
            self._words[_row_begins(self._row) + slot] += change

    def interested(self, slot: int) -> list[int]:
        """The rows of the other processes that want to hear of a slot."""
        words = self._words
        return [other for other, begin in self._others if words[begin + slot]]

    def clear_row(self, row: int) -> None:
        """A process died: it wants to hear nothing.

        It may have changed something and not told, so all that anybody remembers is
        taken as changed.
        """
        self._erase(row)
        self.all_changed()

    def _erase(self, row: int) -> None:
        begin = _row_begins(row)
        self._words[begin : begin + SLOTS] = memoryview(
            bytes(SLOTS * _WORD_BYTES)
        ).cast("Q")


def _row_begins(row: int) -> int:
    return 1 + SLOTS * (1 + row)


def _size(rows: int) -> int:
    return _row_begins(rows) * _WORD_BYTES
