"""The live server that other tests stand on."""

from __future__ import annotations

import os

from twisted.trial.unittest import FailTest, SkipTest, SynchronousTestCase

from tests.integration.traffic import Connection, UnansweredError, whole_queue
from tests.live import LiveServer, missing

MESSAGES = "/v2/queues/work/messages"


class MissingTests(SynchronousTestCase):
    """What becomes of a test that cannot run."""

    def test_skipped(self) -> None:
        """On a person's machine it is skipped, with what to do about it."""
        self.patch(os, "environ", {})
        reason = str(self.assertRaises(SkipTest, missing, "curl", "install curl"))
        self.assertIn("curl is missing", reason)
        self.assertIn("install curl", reason)

    def test_failed(self) -> None:
        """In continuous integration it fails."""
        self.patch(os, "environ", {"CI": "true"})
        self.assertRaises(FailTest, missing, "curl", "install curl")


class LiveServerTests(SynchronousTestCase):
    """A server process from its start to its end."""

    def setUp(self) -> None:
        """Start one that holds a message."""
        self.server = LiveServer()
        self.addCleanup(self.server.remove)
        self.server.start()
        self.post("first")

    def post(self, text: str) -> None:
        """Post one message."""
        connection = Connection(self.server.port)
        self.addCleanup(connection.close)
        connection.ask("POST", MESSAGES, {"messages": [{"body": text}]})

    def texts(self) -> list[str]:
        """The bodies of all messages."""
        return [message.text for message in whole_queue(self.server.port)]

    def test_stop_and_start(self) -> None:
        """After a stop it does not answer; started again it holds what it held."""
        self.server.stop()
        self.assertRaises(UnansweredError, self.post, "lost")
        self.server.start()
        self.post("second")
        self.assertEqual(self.texts(), ["first", "second"])

    def test_kill_and_start(self) -> None:
        """Killed and started again it holds what it held."""
        self.server.kill()
        self.assertRaises(UnansweredError, self.post, "lost")
        self.server.start()
        self.assertEqual(self.texts(), ["first"])

    def test_failed_start(self) -> None:
        """A start that fails says what the process said."""
        other = LiveServer("--set", "no.such=option")
        self.addCleanup(other.remove)
        failure = self.assertRaises(AssertionError, other.start)
        self.assertIn("no.such", str(failure))

    def test_removed(self) -> None:
        """Nothing is left of a server that was removed."""
        self.server.remove()
        self.assertFalse(self.server.directory.exists())
