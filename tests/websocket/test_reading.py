"""What is kept of messages that were handed over, until they are read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.model import Message
from mqsvc.websocket.reading import MOST_ARRIVED, Arrivals, Page


def message(number: int, size: int = 2) -> Message:
    """The message at a position."""
    return Message(f"{number:024x}", b"x" * size, 60, 0)


def place(number: int) -> str:
    """The place of a position."""
    return message(number).id


class ArrivalTests(SynchronousTestCase):
    """Pages together with what was handed over."""

    def merged(
        self, arrivals: Arrivals, page: list[int], after: int, is_last: bool = True
    ) -> list[int]:
        """The positions on a page with what arrived."""
        messages = [message(number) for number in page]
        end = messages[-1].id if messages else place(after)
        merged = arrivals.merged(Page(messages, end, is_last), place(after))
        self.end = int(merged.end, 16)
        return [int(one.id, 16) for one in merged.messages]

    def test_nothing(self) -> None:
        """A page stays as it is when nothing was handed over."""
        self.assertEqual([3, 4], self.merged(Arrivals(), [3, 4], after=2))

    def test_between(self) -> None:
        """What is missing on the page is put in its place, and once."""
        arrivals = Arrivals()
        arrivals.add([message(number) for number in (5, 3, 4)])
        self.assertEqual([3, 4, 5], self.merged(arrivals, [4], after=2))
        self.assertEqual(5, self.end)
        self.assertEqual([], self.merged(arrivals, [], after=5))

    def test_behind_a_full_page(self) -> None:
        """What is behind a page that may not be the last one waits for the next."""
        arrivals = Arrivals()
        arrivals.add([message(5)])
        self.assertEqual([3], self.merged(arrivals, [3], after=2, is_last=False))
        self.assertEqual([4, 5], self.merged(arrivals, [4], after=3))

    def test_old(self) -> None:
        """What was handed over late and is behind the reader is dropped."""
        arrivals = Arrivals()
        arrivals.add([message(2)])
        self.assertEqual([7], self.merged(arrivals, [7], after=6))

    def test_bound(self) -> None:
        """When too much was handed over the oldest is left to the store."""
        arrivals = Arrivals()
        for number in range(1, 21):
            arrivals.add([message(number, MOST_ARRIVED // 10)])
        self.assertEqual(list(range(11, 21)), self.merged(arrivals, [], after=0))
        arrivals.add([message(30)])
        self.assertEqual([30], self.merged(arrivals, [], after=20))
