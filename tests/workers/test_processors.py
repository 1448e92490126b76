"""Which processor a worker runs on."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.process import environment
from mqsvc.workers.processors import own_processor

STAY = """
import os, sys
from mqsvc.workers.processors import stay_on_own_processor
stay_on_own_processor(int(sys.argv[1]), int(sys.argv[2]))
print(*os.sched_getaffinity(0))
"""


def stayed(number: int, workers: int) -> set[int]:
    """What a process may use afterwards."""
    command = [sys.executable, "-c", STAY, str(number), str(workers)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment()
    )
    return {int(word) for word in done.stdout.split()}


class ProcessorTests(SynchronousTestCase):
    """Choosing, and staying there."""

    def test_one_for_each(self) -> None:
        """As many workers as processors have one each, of those that may be used."""
        found = [own_processor(number, 3, {4, 1, 7}) for number in range(3)]
        self.assertEqual([1, 4, 7], found)

    def test_others(self) -> None:
        """With more workers or fewer the system decides."""
        self.assertIsNone(own_processor(0, 2, {0, 1, 2}))
        self.assertIsNone(own_processor(0, 4, {0, 1, 2}))

    def test_stays(self) -> None:
        """A process keeps to its processor."""
        usable = sorted(os.sched_getaffinity(0))
        last = len(usable) - 1
        self.assertEqual({usable[last]}, stayed(last, len(usable)))

    def test_free(self) -> None:
        """A process without one of its own keeps all of them."""
        usable = os.sched_getaffinity(0)
        self.assertEqual(usable, stayed(0, len(usable) + 1))
