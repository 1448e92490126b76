"""Turns at a file among processes."""

from __future__ import annotations

import fcntl
import stat
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.storage.turns import SharedTurn, Turn
from tests.live import CHECKOUT

HOLD = """
import sys
from mqsvc.storage.turns import SharedTurn
with SharedTurn(sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""

PATIENCE = 60


def wait_until_taken(path: str) -> None:
    """Return when somebody has the lock on a file."""
    pause = Event()
    with open(path, "rb") as lock:
        while is_free(lock.fileno()):
            pause.wait(0.001)


def is_free(lock: int) -> bool:
    """Whether nobody has a lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


class SharedTurnTests(SynchronousTestCase):
    """Locks beside a file; two in one process are as good as two processes."""

    def setUp(self) -> None:
        """Two who want to write."""
        self.path = str(Path(self.mktemp()).absolute())
        self.first, self.second = self.turn(), self.turn()
        self.order: list[str] = []

    def turn(self) -> SharedTurn:
        """One who wants to write."""
        turn = SharedTurn(self.path)
        self.addCleanup(turn.close)
        return turn

    def stand_in_line(self) -> Thread:
        """Let the second one wait for its turn, and return when it does."""

        def write() -> None:
            with self.second:
                self.order.append("second")

        thread = Thread(target=write)
        thread.start()
        wait_until_taken(f"{self.path}-next")
        return thread

    def test_one_at_a_time(self) -> None:
        """Who wants a turn waits until the other one has had his."""
        with self.first:
            thread = self.stand_in_line()
            self.order.append("first")
        thread.join(PATIENCE)
        self.assertEqual(["first", "second"], self.order)

    def test_in_turns(self) -> None:
        """Who just had his turn comes after the one that waits."""
        with self.first:
            thread = self.stand_in_line()
        with self.first:
            self.order.append("first again")
        thread.join(PATIENCE)
        self.assertEqual(["second", "first again"], self.order)

    def test_failure(self) -> None:
        """The turn ends with an error as well."""
        with self.assertRaises(RuntimeError), self.first:
            raise RuntimeError
        with self.second:
            self.order.append("second")
        self.assertEqual(["second"], self.order)

    def test_killed(self) -> None:
        """The turn of a process that is killed is over."""
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
        ) as holder:
            self.assertEqual(b"mine\n", holder.stdout.readline())
            thread = self.stand_in_line()
            self.assertEqual([], self.order)
            holder.kill()
            thread.join(PATIENCE)
        self.assertEqual(["second"], self.order)

    def test_closed(self) -> None:
        """One that was closed can be used again."""
        with self.first:
            pass
        self.first.close()
        with self.first:
            self.order.append("first")
        self.assertEqual(["first"], self.order)

    def test_private(self) -> None:
        """The locks are for the owner of the file only, and hold nothing."""
        with self.first:
            locks = [Path(f"{self.path}-{name}").stat() for name in ("next", "turn")]
        self.assertEqual({0o600}, {stat.S_IMODE(lock.st_mode) for lock in locks})
        self.assertEqual({0}, {lock.st_size for lock in locks})

    def test_unusable(self) -> None:
        """A file in a folder that does not exist cannot be waited for."""
        with self.assertRaises(OSError), SharedTurn("/nowhere/file"):
            self.order.append("never")
        self.assertEqual([], self.order)


class TurnTests(SynchronousTestCase):
    """A lone process."""

    def test_nobody_else(self) -> None:
        """It has its turn whenever it wants, also within another."""
        turn, order = Turn(), []
        with turn, turn:
            order.append("mine")
        turn.close()
        self.assertEqual(["mine"], order)
