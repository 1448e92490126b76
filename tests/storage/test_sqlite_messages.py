"""The embedded message store: the behaviour of every store, and its own."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mqsvc.storage.messages.sqlite import SQLiteMessageStore, open_sqlite_messages
from tests.storage.contract import make_store_tests


def open_store(testcase: TestCase, path: str | None = None) -> SQLiteMessageStore:
    """A store with its threads, on a file of its own unless one is given."""
    return open_sqlite_messages(path or testcase.mktemp(), reactor)


globals().update(make_store_tests("SQLite", open_store))
