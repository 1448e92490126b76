"""Requests that wait, and how much they are."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.websocket.backlog import Backlog
from mqsvc.websocket.frames import BINARY, TEXT


class BacklogTests(SynchronousTestCase):
    """What is known of requests without looking at each."""

    def setUp(self) -> None:
        """Have two requests wait."""
        self.backlog = Backlog()
        self.backlog.append(b"one", TEXT)
        self.backlog.append(b"three", BINARY)

    def measures(self) -> tuple[int, int]:
        """How many there are, and how many bytes."""
        return len(self.backlog), self.backlog.size

    def test_order(self) -> None:
        """The oldest is the first, and its bytes go with it."""
        self.assertEqual((2, 8), self.measures())
        self.assertEqual((b"one", TEXT), self.backlog.popleft())
        self.assertEqual((1, 5), self.measures())
        self.assertEqual((b"three", BINARY), self.backlog.popleft())
        self.assertEqual((0, 0), self.measures())

    def test_clear(self) -> None:
        """Nothing is left of what is dropped."""
        self.backlog.clear()
        self.assertEqual((0, 0), self.measures())
        self.backlog.append(b"x", TEXT)
        self.assertEqual((1, 1), self.measures())

    def test_cost(self) -> None:
        """However many wait, one more is not a look at all of them."""
        looks: list[bytes] = []

        class Payload(bytes):
            def __len__(self) -> int:
                looks.append(self)
                return super().__len__()

        for _ in range(100):
            self.backlog.append(Payload(b"x"), TEXT)
            self.assertLessEqual(0, self.backlog.size)
        self.assertEqual(100, len(looks))
