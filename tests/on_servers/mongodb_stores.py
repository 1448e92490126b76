"""MongoDB message stores, each test with a database of its own."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mqsvc.storage.messages.mongodb import MongoMessageStore, open_mongodb_messages
from tests.servers.mongodb import (
    Databases,
    set_of_one,
    stand_alone,
)

STAND_ALONE = Databases("messages")
SET_OF_ONE = Databases("messages")


FEW = "maxPoolSize=2"
"""Each connection costs both sides some milliseconds, a store and a test."""


def open_stand_alone(testcase: TestCase, path: str | None = None) -> MongoMessageStore:
    """A store on a server that is no replica set."""
    server = stand_alone()
    database = STAND_ALONE.at(testcase, server, path)
    return open_mongodb_messages(server.uri(database), reactor)


def open_with_few(testcase: TestCase, path: str | None = None) -> MongoMessageStore:
    """The same with few connections."""
    server = stand_alone()
    database = STAND_ALONE.at(testcase, server, path)
    return open_mongodb_messages(f"{server.uri(database)}?{FEW}", reactor)


def open_on_a_set(testcase: TestCase, path: str | None = None) -> MongoMessageStore:
    """A store on a replica set."""
    server = set_of_one()
    database = SET_OF_ONE.at(testcase, server, path)
    return open_mongodb_messages(f"{server.uri(database)}&{FEW}", reactor)
