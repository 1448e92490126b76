"""What a worker logs comes into the log of the server."""

from __future__ import annotations

import io

from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs, eventAsText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.lines import Lines, observer


class LinesTests(SynchronousTestCase):
    """From one log to another."""

    def setUp(self) -> None:
        """A worker's log, and where its lines arrive."""
        self.pipe = io.BytesIO()
        self.logger = Logger("some.part", observer=observer(self.pipe.write))
        self.lines = Lines(3)

    def arrived(self, *pieces: bytes) -> list[LogEvent]:
        """What is in the log of the server after these pieces."""
        with capturedLogs() as events:
            for piece in pieces:
                self.lines.received(piece)
        return events

    def shown(self, *pieces: bytes) -> list[str]:
        """The same as a file would show it, without the time."""
        events = self.arrived(*pieces)
        return [eventAsText(event, includeTimestamp=False) for event in events]

    def test_event(self) -> None:
        """An event keeps its level, where it is from, and braces in its text."""
        self.logger.warn("{what} is late", what="a {message}")
        [event] = self.arrived(self.pipe.getvalue())
        self.assertIs(LogLevel.warn, event["log_level"])
        self.assertEqual(
            "[worker 3, some.part#warn] a {message} is late",
            eventAsText(event, includeTimestamp=False),
        )

    def test_traceback(self) -> None:
        """A failure is one event with all its lines."""
        self.logger.failure("it broke", Failure(RuntimeError("why")))
        [shown] = self.shown(self.pipe.getvalue())
        self.assertIn("it broke\n", shown)
        self.assertIn("RuntimeError: why", shown)

    def test_pieces(self) -> None:
        """Lines come in any pieces."""
        self.logger.info("one")
        self.logger.info("two")
        written = self.pipe.getvalue()
        pieces = [bytes([byte]) for byte in written]
        self.assertEqual(
            ["[worker 3, some.part#info] one", "[worker 3, some.part#info] two"],
            self.shown(*pieces),
        )

    def test_empty_event(self) -> None:
        """An event without text is not passed on."""
        self.logger.info("")
        self.assertEqual(b"", self.pipe.getvalue())

    def test_other_output(self) -> None:
        """What is no event is shown as a warning."""
        [event] = self.arrived(b"Fatal Python error: {x} \xff\n")
        self.assertIs(LogLevel.warn, event["log_level"])
        self.assertEqual(
            "[worker 3, output] Fatal Python error: {x} \ufffd",
            eventAsText(event, includeTimestamp=False),
        )
