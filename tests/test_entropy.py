"""Random bits: as many as asked for, and never the same twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.entropy import DRAWN, Entropy


class EntropyTests(SynchronousTestCase):
    """What the pool of random bits gives out."""

    def test_bounds(self) -> None:
        """A number has at most as many bits as were asked for, and uses them all."""
        entropy = Entropy()
        for count in (1, 40, 64):
            numbers = [entropy.bits(count) for _ in range(200)]
            self.assertEqual(count, max(numbers).bit_length())

    def test_never_twice(self) -> None:
        """No piece is given out twice, also when the pool is filled anew."""
        entropy = Entropy()
        numbers = [entropy.bits(64) for _ in range(3 * DRAWN)]
        self.assertEqual(len(numbers), len(set(numbers)))

    def test_threads(self) -> None:
        """Threads that draw at the same time get different numbers."""
        entropy = Entropy()

        def draw(_: int) -> list[int]:
            return [entropy.bits(64) for _ in range(1000)]

        with ThreadPoolExecutor(4) as threads:
            numbers = [
                number for some in threads.map(draw, range(8)) for number in some
            ]
        self.assertEqual(8000, len(set(numbers)))
