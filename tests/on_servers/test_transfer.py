"""Exports and imports between stores of every kind."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.commands.stores import started_stores
from mqsvc.config import load
from mqsvc.wiring import Backends
from tests.commands.content import BODIES, ORDERS, content, exported, fill, imported
from tests.commands.test_main import COMMAND, CONTENT, environment
from tests.live import LiveServer
from tests.servers.mariadb import shared_mariadb
from tests.servers.mongodb import stand_alone
from tests.servers.postgresql import shared_postgresql
from tests.servers.redis import shared_redis

WAIT = 60
NUMBERS = count()


def fresh(kind: str) -> str:
    """The URI of an empty store."""
    name = f"transfer{next(NUMBERS)}"
    match kind:
        case "redis":
            return f"{shared_redis().uri}?prefix={name}"
        case "mongodb":
            stand_alone().wipe(name)
            return stand_alone().uri(name)
        case "postgresql":
            return shared_postgresql().uri(shared_postgresql().new_database())
        case "mariadb":
            return shared_mariadb().uri(shared_mariadb().new_database())
    return ""


def options(management: str, messages: str, directory: str) -> list[str]:
    """Stores that are empty, as options of the service."""
    return [
        f"data_dir={directory}",
        f"drivers.management_store={fresh(management)}",
        f"drivers.message_store={fresh(messages)}",
    ]


def as_words(overrides: list[str]) -> Iterator[str]:
    """Options on a command line."""
    for override in overrides:
        yield from ("--set", override)


class TransferTests(TestCase):
    """From one kind of store to the next."""

    timeout = 120

    @asynccontextmanager
    async def stores(self, management: str, messages: str) -> AsyncIterator[Backends]:
        """Empty stores of two kinds."""
        settings = load(None, {}, options(management, messages, self.mktemp()))
        async with started_stores(settings, reactor, may_be_new=True) as stores:
            yield stores

    async def assert_arrives(self, management: str, messages: str) -> None:
        """All that embedded stores have goes to others, and comes back."""
        async with (
            self.stores("sqlite", "sqlite") as first,
            self.stores(management, messages) as second,
            self.stores("sqlite", "sqlite") as third,
        ):
            await fill(first)
            wanted, file = await content(first), await exported(first)
            bodies = tuple(each.message.body for each in wanted[ORDERS].messages)
            self.assertEqual(BODIES, bodies)
            await imported(second, file)
            self.assertEqual(wanted, await content(second))
            self.assertEqual(file, await exported(second))
            await imported(third, await exported(second, project="demo"))
            found = await content(third)
            self.assertEqual(
                {k: v for k, v in wanted.items() if k.project == "demo"}, found
            )

    async def assert_filled(self, management: str, messages: str) -> None:
        """What came into stores by posts and claims goes to embedded ones."""
        async with (
            self.stores(management, messages) as first,
            self.stores("sqlite", "sqlite") as second,
        ):
            await fill(first)
            await imported(second, await exported(first))
            self.assertEqual(await content(first), await content(second))

    async def test_to_redis_and_postgresql(self) -> None:
        """Everything arrives in Redis and PostgreSQL."""
        await self.assert_arrives("postgresql", "redis")

    async def test_from_redis_and_postgresql(self) -> None:
        """Everything leaves Redis and PostgreSQL."""
        await self.assert_filled("postgresql", "redis")

    async def test_to_mongodb(self) -> None:
        """Everything arrives in MongoDB."""
        await self.assert_arrives("mongodb", "mongodb")

    async def test_from_mongodb(self) -> None:
        """Everything leaves MongoDB."""
        await self.assert_filled("mongodb", "mongodb")

    async def test_to_mariadb(self) -> None:
        """Everything arrives in MariaDB, with the messages in a file."""
        await self.assert_arrives("mariadb", "sqlite")


class CommandTests(SynchronousTestCase):
    """The commands as processes."""

    def run_command(self, *words: str, stdin: bytes = b"") -> bytes:
        """What a command writes that succeeds."""
        ran = subprocess.run(
            [*COMMAND, *words],
            env=environment(),
            input=stdin,
            capture_output=True,
            timeout=WAIT,
            check=False,
        )
        self.assertEqual(0, ran.returncode, ran.stderr.decode())
        return ran.stdout

    def test_running_service(self) -> None:
        """Stores on servers can be exported while the service uses them."""
        overrides = options("postgresql", "redis", self.mktemp())
        stores = list(as_words(overrides[1:]))
        self.run_command("import", *as_words(overrides), "-", stdin=CONTENT)
        server = LiveServer(*stores)
        self.addCleanup(server.remove)
        server.start()
        data = ("--data-dir", str(server.directory / "data"))
        self.assertEqual(CONTENT, self.run_command("export", *stores, *data, "-"))

    def test_no_directory(self) -> None:
        """Stores on servers need no data directory, and none is made."""
        overrides = options("mongodb", "mongodb", self.mktemp())
        words = list(as_words(overrides))
        self.run_command("import", *words, "-", stdin=CONTENT)
        self.assertEqual(CONTENT, self.run_command("export", *words, "-"))
        self.assertFalse(Path(overrides[0].removeprefix("data_dir=")).exists())
