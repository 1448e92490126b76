"""What the processes of one server look at together."""

from __future__ import annotations

import os
import stat
import sys
from subprocess import run

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus.board import SLOTS, Board, Place, slot_of
from tests.live import CHECKOUT

ANOTHER = """
import sys
from mqsvc.bus.board import Board
board = Board.open(sys.argv[1], 1, 2)
assert board.interested(7) == [0]
board.count(8, 1)
board.changed(9)
"""


class SlotTests(SynchronousTestCase):
    """Names have slots."""

    def test_same_everywhere(self) -> None:
        """The slot of a name is the same one in every process, and by every version."""
        self.assertEqual(2240, slot_of("p", "queue", "x"))

    def test_spread(self) -> None:
        """Names are spread over all slots."""
        slots = {slot_of("p", "queue", f"q{i}") for i in range(20_000)}
        self.assertTrue(slots <= {*range(SLOTS)})
        self.assertGreater(len(slots), SLOTS * 0.9)

    def test_words(self) -> None:
        """It matters where one word ends and the next one begins."""
        self.assertNotEqual(slot_of("ab", "c"), slot_of("a", "bc"))


class PrivateBoardTests(SynchronousTestCase):
    """A process can have a board for itself."""

    def setUp(self) -> None:
        """A board."""
        self.board = Board.private()
        self.addCleanup(self.board.close)

    def test_changes(self) -> None:
        """A change gives its slot another revision, and no other slot."""
        before = list(self.board.revisions)
        self.board.changed(5)
        self.assertNotEqual(before[5], self.board.revisions[5])
        before[5] = self.board.revisions[5]
        self.assertEqual(before, list(self.board.revisions))

    def test_nobody_else(self) -> None:
        """Nobody else wants to hear of anything."""
        self.board.count(5, 1)
        self.assertEqual([], self.board.interested(5))

    def test_identity(self) -> None:
        """Each has an identity of its own."""
        other = Board.private()
        self.addCleanup(other.close)
        self.assertNotEqual(other.identity, self.board.identity)


class SharedBoardTests(SynchronousTestCase):
    """Processes can share one."""

    def setUp(self) -> None:
        """The file of a board for three processes."""
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = Place(self.directory, 0, 3).board_path
        self.made = self.keep(Board.create(self.path, 3))

    def keep(self, board: Board) -> Board:
        """Close a board in the end."""
        self.addCleanup(board.close)
        return board

    def open(self, row: int) -> Board:
        """One of the processes."""
        return self.keep(Board.open(self.path, row, 3))

    def test_changes(self) -> None:
        """A change by one is seen by all."""
        boards = [self.made, self.open(0), self.open(1)]
        for board in boards:
            before = board.revisions[3]
            board.changed(3)
            after = {each.revisions[3] for each in boards}
            self.assertEqual(1, len(after))
            self.assertNotIn(before, after)

    def test_interest(self) -> None:
        """Each sees which others want to hear of a slot, as long as they do."""
        first, second, third = map(self.open, range(3))
        first.count(4, 1)
        second.count(4, 1)
        second.count(4, 1)
        self.assertEqual([0, 1], self.made.interested(4))
        self.assertEqual([1], first.interested(4))
        self.assertEqual([0, 1], third.interested(4))
        self.assertEqual([], third.interested(5))
        first.count(4, -1)
        second.count(4, -1)
        self.assertEqual([1], third.interested(4))

    def test_death(self) -> None:
        """Who died wants to hear nothing; whatever it may have changed counts."""
        first, second = self.open(0), self.open(1)
        first.count(4, 1)
        second.count(4, 1)
        before = list(second.revisions)
        self.made.clear_row(0)
        self.assertEqual([1], self.made.interested(4))
        after = list(second.revisions)
        self.assertFalse(any(map(int.__eq__, before, after)))

    def test_successor(self) -> None:
        """Who takes the row of another process begins without its wishes."""
        self.open(0).count(4, 1)
        self.open(0)
        self.assertEqual([], self.made.interested(4))

    def test_identity(self) -> None:
        """All who share it see its identity; a new one in its place has another."""
        self.assertEqual(self.made.identity, self.open(0).identity)
        successor = self.keep(Board.create(self.path, 3))
        self.assertNotEqual(self.made.identity, successor.identity)
        self.assertEqual(successor.identity, self.open(0).identity)

    def test_private(self) -> None:
        """Only its owner can open the file."""
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))

    def test_unusable(self) -> None:
        """A row that is not there, and a file for fewer processes, are refused."""
        with self.assertRaises(ValueError):
            Board.open(self.path, 3, 3)
        with self.assertRaises(ValueError):
            Board.open(self.path, 3, 4)

    def test_another_process(self) -> None:
        """Another process really shares it."""
        path = os.path.join(self.directory, "for-two")
        self.keep(Board.create(path, 2))
        board = self.keep(Board.open(path, 0, 2))
        board.count(7, 1)
        before = board.revisions[9]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        run([sys.executable, "-c", ANOTHER, path], check=True, env=environment)
        self.assertNotEqual(before, board.revisions[9])
        self.assertEqual([1], board.interested(8))
