"""The log of a worker never keeps it waiting."""

from __future__ import annotations

import os
import re

from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.lines import Lines, observer
from mqsvc.workers.log_pipe import CAPACITY, LogPipe


class LogPipeTests(SynchronousTestCase):
    """A pipe whose other end the test reads when it wants to."""

    def setUp(self) -> None:
        """Make it, and a logger that writes to it."""
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.is_open = True
        self.addCleanup(os.close, writing)
        self.addCleanup(self.close)
        self.logger = Logger("part", observer=observer(LogPipe(writing).write))

    def close(self) -> None:
        """Read no more."""
        if self.is_open:
            self.is_open = False
            os.close(self.reading)

    def shown(self) -> list[str]:
        """What the supervisor would log of what is in the pipe."""
        lines = Lines(0)
        with capturedLogs() as events:
            lines.received(os.read(self.reading, 2 * CAPACITY))
        return [formatEvent(event) for event in events]

    def test_in_order(self) -> None:
        """Lines arrive in their order."""
        for number in range(3):
            self.logger.info("line {number}", number=number)
        self.assertEqual(["line 0", "line 1", "line 2"], self.shown())

    def fill(self, size: int) -> int:
        """Write more lines than fit, and give their number."""
        count = 2 * CAPACITY // size
        for number in range(count):
            self.logger.info("{number} {text}", number=number, text="x" * size)
        return count

    def test_nobody_reads(self) -> None:
        """What does not fit is dropped, and is counted in front of the next line."""
        for size in (1_000, 50_000):
            count = self.fill(size)
            before = self.shown()
            self.logger.info("again")
            *rest, note, last = self.shown()
            kept = [*before, *rest]
            self.assertEqual("again", last)
            dropped = int(re.match(r"(\d+) lines of the log were dropped", note)[1])
            self.assertGreater(dropped, 0)
            # Of one that was cut in two, the second piece counts.
            self.assertEqual(count - dropped, len(kept))
            self.assertTrue(kept[0].startswith("0 "))

    def test_many_times(self) -> None:
        """Lines go on to be dropped until there is room."""
        self.fill(1_000)
        self.fill(1_000)
        self.shown()
        self.logger.info("again")
        self.assertEqual("again", self.shown()[-1])

    def test_gone(self) -> None:
        """When there is nobody to read, writing goes nowhere and fails nobody."""
        self.close()
        with capturedLogs() as events:
            self.logger.info("to nobody")
        self.assertEqual([], events)
