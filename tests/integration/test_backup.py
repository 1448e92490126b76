"""The backup that docs/durability.rst describes can be restored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.traffic import QUEUE, Connection, whole_queue
from tests.live import LiveServer


def back_up(data: Path, target: Path) -> None:
    """What ``sqlite3 FILE .backup`` does, for each database of a data directory."""
    target.mkdir()
    for file in data.glob("*.db"):
        with (
            closing(sqlite3.connect(file)) as source,
            closing(sqlite3.connect(target / file.name)) as copy,
        ):
            source.backup(copy)


class BackupTests(SynchronousTestCase):
    """A copy made while the server runs."""

    def make_server(self) -> LiveServer:
        """A server that is removed with the test."""
        server = LiveServer()
        self.addCleanup(server.remove)
        return server

    def connect(self, server: LiveServer) -> Connection:
        """A connection that is closed with the test."""
        connection = Connection(server.port)
        self.addCleanup(connection.close)
        return connection

    def test_restored(self) -> None:
        """Another server on the copy holds what was there, and goes on from it."""
        original, restored = self.make_server(), self.make_server()
        original.start()
        connection = self.connect(original)
        connection.ask("PUT", QUEUE, {"team": "a"})
        connection.ask("POST", f"{QUEUE}/messages", {"messages": [{"body": "old"}]})
        back_up(original.directory / "data", restored.directory / "data")
        connection.ask("POST", f"{QUEUE}/messages", {"messages": [{"body": "later"}]})

        restored.start()
        connection = self.connect(restored)
        connection.ask("POST", f"{QUEUE}/messages", {"messages": [{"body": "new"}]})
        self.assertEqual(connection.ask("GET", QUEUE)["team"], "a")
        texts = [message.text for message in whole_queue(restored.port)]
        self.assertEqual(texts, ["old", "new"])
