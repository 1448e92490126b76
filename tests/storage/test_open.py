"""Opening stores: which driver, which file, and what is said when it cannot be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mqsvc.messaging.model import Destination, Kind, NewMessage
from mqsvc.storage import open as store_opening
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore
from mqsvc.storage.open import (
    MESSAGE_DRIVERS,
    MESSAGE_OPTIONS,
    Stores,
    open_pool,
    open_stores,
)
from mqsvc.storage.uri_options import with_options

QUEUE = Destination("p", Kind.QUEUE, "q")
NOW = 1_800_000_000_000

IMPORTS = """
import sys
import mqsvc.storage.open
print(sorted({"sqlalchemy", "sqlite3", "twisted.internet.reactor"} & set(sys.modules)))
"""


class OpenTestCase(TestCase):
    """A directory for the data of the test."""

    def setUp(self) -> None:
        """Make it."""
        self.directory = self.make("data")

    def make(self, name: str) -> Path:
        """A directory with a name, beside which there is nothing else."""
        directory = Path(self.mktemp()).absolute() / name
        directory.mkdir(parents=True)
        return directory

    def open(
        self, management: str = "", messages: str = "", directory: Path | None = None
    ) -> Stores:
        """Both stores."""
        where = str(directory or self.directory)
        return open_stores(management, messages, where, reactor)

    def refused(self, management: str = "", messages: str = "") -> str:
        """The one line that is said when a store cannot be opened."""
        with self.assertRaises(StoreOpenError) as caught:
            self.open(management, messages)
        line = str(caught.exception)
        self.assertEqual(1, len(line.splitlines()), line)
        return line

    def start(self, stores: Stores) -> None:
        """Start both stores for the time of the test."""
        stores.management.startService()
        stores.messages.startService()
        self.addCleanup(self.stop, stores)

    async def stop(self, stores: Stores) -> None:
        """Stop those that run."""
        for store in (stores.management, stores.messages):
            if store.running:
                await store.stopService()

    async def works(self, stores: Stores) -> None:
        """Fail unless both stores take and give back what they should."""
        self.start(stores)
        await stores.management.create(QUEUE, {"a": 1})
        record = await stores.management.get(QUEUE)
        self.assertEqual({"a": 1}, record.metadata)
        await stores.messages.post(QUEUE, [NewMessage(b"1", 60)], "c", NOW)
        stats = await stores.messages.stats(QUEUE, NOW)
        self.assertEqual(1, stats.total)


class EmbeddedTests(OpenTestCase):
    """Stores in the data directory."""

    def test_interfaces(self) -> None:
        """What is opened are stores of either kind."""
        stores = self.open()
        verifyObject(IManagementStore, stores.management)
        verifyObject(IMessageStore, stores.messages)

    async def test_works(self) -> None:
        """Without configuration both stores work, in files of the directory."""
        await self.works(self.open())
        names = {name.partition("-")[0] for name in os.listdir(self.directory)}
        self.assertEqual({"management.db", "messages.db"}, names)

    async def test_awkward_directories(self) -> None:
        """Characters that mean something in a URI mean nothing in a directory."""
        for name in ("a#b", "a?b", "a%41b", "a b", "a&b=c", "\u00fc", "a:b@c", "a//b"):
            directory = self.make(name)
            await self.works(self.open(directory=directory))
            files = {file.name for file in directory.glob("*.db")}
            self.assertEqual({"management.db", "messages.db"}, files, name)

    async def test_relative_directory(self) -> None:
        """The directory stays the same one when the process goes elsewhere."""
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.directory.parent)
        stores = self.open(directory=Path("data"))
        os.chdir(before)
        await self.works(stores)

    def test_closed_to_others(self) -> None:
        """Nobody but the owner can read the files."""
        self.open()
        for name in ("management.db", "messages.db"):
            mode = (self.directory / name).stat().st_mode
            self.assertEqual(0o600, mode & 0o777, name)

    async def test_again(self) -> None:
        """What is there already is opened as it is."""
        stores = self.open()
        await self.works(stores)
        await self.stop(stores)
        again = self.open()
        self.start(again)
        self.assertEqual({"a": 1}, (await again.management.get(QUEUE)).metadata)
        self.assertEqual(1, (await again.messages.stats(QUEUE, NOW)).total)

    def test_imported_late(self) -> None:
        """Knowing of the drivers loads none of them."""
        loaded = subprocess.run(
            [sys.executable, "-c", IMPORTS],
            env={"PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        )
        self.assertEqual(b"[]", loaded.stdout.strip())


class URITests(OpenTestCase):
    """Stores where the configuration says."""

    async def test_absolute(self) -> None:
        """A URI names a file by its whole path."""
        management, messages = self.directory / "m.db", self.directory / "x" / "y.db"
        messages.parent.mkdir()
        stores = self.open(f"sqlite:///{management}", f"sqlite:///{messages}")
        await self.works(stores)
        self.assertTrue(management.exists() and messages.exists())
        self.assertFalse((self.directory / "messages.db").exists())

    async def test_one_of_them(self) -> None:
        """The other store stays where it is without configuration."""
        stores = self.open(messages=f"sqlite:///{self.directory}/own.db")
        await self.works(stores)
        self.assertTrue((self.directory / "own.db").exists())
        self.assertTrue((self.directory / "management.db").exists())

    async def test_escapes(self) -> None:
        """Characters with a meaning in URIs can be written with escapes, in both."""
        stores = self.open(
            f"sqlite:///{self.directory}/a%23b%20c.db",
            f"sqlite:///{self.directory}/d%3Fe%25f.db",
        )
        await self.works(stores)
        self.assertTrue((self.directory / "a#b c.db").exists())
        self.assertTrue((self.directory / "d?e%f.db").exists())

    def test_unknown_scheme(self) -> None:
        """A driver that does not exist is refused, with the option and the choice."""
        for uri in ("amqp://u:secret@host/0", "nope", "SQLITE:////x", " ", "://"):
            for option, line in (
                ("drivers.management_store", self.refused(management=uri)),
                ("drivers.message_store", self.refused(messages=uri)),
            ):
                self.assertIn(option, line)
                self.assertRegex(line, "known: .*sqlite")
                self.assertNotIn("secret", line)

    def test_missing_library(self) -> None:
        """A driver that cannot be imported says what it needs."""
        drivers = {"amqp": "no_such_library.driver:open"}
        self.patch(store_opening, "MESSAGE_DRIVERS", drivers)
        line = self.refused(messages="amqp://127.0.0.1/0")
        self.assertIn("drivers.message_store", line)
        self.assertIn("needs no_such_library, which is not installed", line)

    def test_no_file(self) -> None:
        """A URI that names no lasting file is refused, with the option."""
        for uri in ("sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:"):
            self.assertIn("drivers.management_store", self.refused(management=uri))
            self.assertIn("drivers.message_store", self.refused(messages=uri))

    def test_unusable_file(self) -> None:
        """A path that leads nowhere, to a directory or to no database is refused."""
        no_database = self.directory / "text"
        no_database.write_text("this is no database, but it is long enough" * 100)
        for path in (f"{self.directory}/none/x.db", self.directory, no_database):
            uri = f"sqlite:///{path}"
            self.assertIn("drivers.management_store", self.refused(management=uri))
            self.assertIn("drivers.message_store", self.refused(messages=uri))
        self.assertIn("this is no database", no_database.read_text())

    def test_newer_schema(self) -> None:
        """A file that a newer version wrote is refused and left as it is."""
        path = self.directory / "messages.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 1000")
        connection.close()
        line = self.refused()
        self.assertIn("schema version 1000", line)
        self.assertIn("drivers.message_store", line)
        connection = sqlite3.connect(path)
        self.addCleanup(connection.close)
        found = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self.assertEqual((0,), found)


class PoolTests(OpenTestCase):
    """Stores of pools, opened while the service runs."""

    async def test_works(self) -> None:
        """A pool is opened by its URI, and works."""
        path = self.directory / "pool.db"
        store = await open_pool(f"sqlite:///{path}", {}, reactor)
        verifyObject(IMessageStore, store)
        store.startService()
        self.addCleanup(store.stopService)
        await store.post(QUEUE, [NewMessage(b"1", 60)], "c", NOW)
        self.assertTrue(path.exists())

    async def test_refused(self) -> None:
        """What cannot be opened is refused in one line, without a password."""
        for uri in (
            *("", "x", "amqp://u:271828@host", f"sqlite:///{self.directory}"),
            *("redis://", "redis://h:x", "redis://u:271828@[", "mongodb://"),
        ):
            with self.assertRaises(StoreOpenError) as caught:
                await open_pool(uri, {}, reactor)
            line = str(caught.exception)
            self.assertEqual(1, len(line.splitlines()), uri)
            self.assertNotIn("271828", line)

    async def test_options(self) -> None:
        """Options take the place of those of the URI, as the driver checks them."""
        good = "redis://127.0.0.1/0?socket_timeout=1"
        await open_pool(good, {"socket_timeout": 2, "PREFIX": "x"}, reactor)
        with self.assertRaises(StoreOpenError) as caught:
            await open_pool(good, {"socket_timeout": 1000}, reactor)
        self.assertIn("socket_timeout must be", str(caught.exception))

    async def test_unknown_options(self) -> None:
        """Options that a driver does not know are no error."""
        for uri in (
            f"sqlite:///{self.directory}/pool.db",
            "redis://127.0.0.1",
            "redis+sentinel://127.0.0.1?master=m",
            "redis+unix:///redis.sock",
            "mongodb://127.0.0.1",
        ):
            with capturedLogs() as events:
                await open_pool(uri, {"max_attempts": 5}, reactor)
            (line,) = [formatEvent(event) for event in events]
            self.assertIn("are left out", line)
            self.assertIn("max_attempts", line)

    async def test_known_options(self) -> None:
        """No driver takes an option for unknown that it is said to know."""
        for scheme, known in MESSAGE_OPTIONS.items():
            for option in known:
                with capturedLogs() as events:
                    try:
                        await open_pool(f"{scheme}://127.0.0.1", {option: 1}, reactor)
                    except StoreOpenError as error:
                        self.assertNotIn("no option", str(error))
                self.assertEqual([], [formatEvent(event) for event in events])

    async def test_options_that_matter(self) -> None:
        """An option that asks for what a driver cannot do is not left out."""
        with self.assertRaises(StoreOpenError):
            await open_pool("mongodb://127.0.0.1", {"tls": True}, reactor)

    def test_every_scheme(self) -> None:
        """For each driver it is said which options it knows."""
        self.assertEqual(set(MESSAGE_DRIVERS), set(MESSAGE_OPTIONS))


class OptionTests(SynchronousTestCase):
    """Options written into a URI."""

    def test_replaced(self) -> None:
        """An option takes the place of that of the URI; the others stay."""
        for uri, expected in (
            ("x://h/p", "x://h/p?a=1"),
            ("x://h", "x://h/?a=1"),
            ("x://u:p%40@h1,h2:3/p?b=%20&A=5&a=6", "x://u:p%40@h1,h2:3/p?b=+&a=1"),
            ("x:///path?c=", "x:///path?c=&a=1"),
        ):
            self.assertEqual(expected, with_options(uri, {"A": 1}, None))

    def test_values(self) -> None:
        """Texts, numbers and truth values are written as URIs have them."""
        options = {"a": "x&y", "b": 1.5, "c": True, "d": False, "e": ""}
        self.assertEqual(
            "x://h/?a=x%26y&b=1.5&c=true&d=false&e=",
            with_options("x://h", options, None),
        )

    def test_left_out(self) -> None:
        """What is unknown or no plain value is left out with one warning, by name."""
        options = {"known": 1, "unknown": "271828", "none": None, "list": ["271828"]}
        with capturedLogs() as events:
            written = with_options(
                "x://u:271828@h/", options, {"known", "none", "list"}
            )
        self.assertEqual("x://u:271828@h/?known=1", written)
        (line,) = [formatEvent(event) for event in events]
        self.assertEqual(
            "Options of a pool at x://... are left out, since its driver cannot use "
            "them: list, none, unknown",
            line,
        )

    def test_nothing_usable(self) -> None:
        """Without a usable option the URI stays exactly as it is."""
        uri = "x://h?b=%20"
        self.assertEqual(uri, with_options(uri, {}, None))
        with capturedLogs():
            self.assertEqual(uri, with_options(uri, {"a": 1}, {"b"}))
