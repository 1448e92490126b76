"""What installed packages add: found, loaded, refused, and used by a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.config import load
from mqsvc.messaging.model import Destination, Kind, NewMessage, Selection
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.open import open_pool, open_stores
from mqsvc.storage.plugins import (
    MESSAGE_STORES,
    STAGES,
    PluginError,
    names,
    refuse_taken,
    with_stages,
)
from mqsvc.storage.plugins import (
    load as load_plugin,
)
from mqsvc.storage.stages import Stage
from mqsvc.tap import make_root
from tests import live
from tests.messaging.stores import open_messages
from tests.storage.faulty import FaultyStore

EXAMPLE = live.CHECKOUT / "examples" / "mask_cards"

QUEUE = Destination("p", Kind.QUEUE, "q")
NOW = 1_800_000_000_000

CODE = '''
from urllib.parse import urlsplit

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification.channel import Outcome, Verdict
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.open import open_sqlite_uri
from mqsvc.storage.plugins import PluginError
from mqsvc.storage.stages import MessageFilter, Stage
from mqsvc.storage.management.sql import open_sql_management

uris = []

def open_store(uri, reactor):
    """A store in a file."""
    uris.append(uri)
    if "refuse" in uri:
        raise StoreOpenError("the host said no")
    if "break" in uri:
        raise ValueError("what about " + uri)
    if "nothing" in uri:
        return None
    return open_sqlite_uri("sqlite:///" + urlsplit(uri).path, reactor)

def open_choosy_store(uri, reactor):
    """The same, for those that give the options it knows."""
    return open_store(uri, reactor)

open_choosy_store.options = {"known"}

def open_management(uri, reactor):
    """A management store in a file."""
    return open_sql_management("sqlite:///" + urlsplit(uri).path, reactor)

class Tagged(Stage):
    """Keeps its options."""

    def __init__(self, next_store, options):
        super().__init__(next_store)
        self.options = options
        if "refused" in options:
            raise PluginError("refused is no option")
        if "broken" in options:
            raise KeyError("broken\\nin two lines")

class Pigeon:
    """A channel that only remembers."""

    schemes = ("pigeon",)
    carried = []

    def __init__(self, reactor):
        pass

    async def check(self, subscriber, options):
        if "lame" in subscriber:
            raise InvalidRequest("This pigeon is lame.")

    async def deliver(self, notice):
        self.carried.append((notice.subscription.subscriber, notice.content))
        return Outcome(Verdict.DELIVERED)

def nothing(next_store, options):
    """No stage."""
'''

MODULE_NUMBER = iter(range(10_000))


def install(case: SynchronousTestCase, package: str, entry_points: str) -> str:
    """Install a package with the code above until the end of a test.

    :param entry_points: the sections of its entry points; ``CODE`` is its module.
    :return: the name of the module.
    """
    module = f"mqsvc_plugin_of_test_{next(MODULE_NUMBER)}"
    site = Path(case.mktemp()).absolute()
    described = site / f"{package}-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
    )
    (described / "entry_points.txt").write_text(entry_points.replace("CODE", module))
    (site / f"{module}.py").write_text(CODE)
    sys.path.insert(0, str(site))
    case.addCleanup(sys.path.remove, str(site))
    case.addCleanup(sys.modules.pop, module, None)
    return module


class LoadingTests(SynchronousTestCase):
    """Finding and loading."""

    def refusal(self, group: str, name: str) -> str:
        """The one line by which a plug-in is refused."""
        line = str(self.assertRaises(PluginError, load_plugin, group, name))
        self.assertEqual(1, len(line.splitlines()), line)
        return line

    def test_found(self) -> None:
        """A plug-in is found by its group and name."""
        module = install(self, "acme", "[mqsvc.stages]\ntag = CODE:Tagged\n")
        self.assertIs(sys.modules.get(module), None)
        self.assertIn("tag", names(STAGES))
        self.assertNotIn("tag", names(MESSAGE_STORES))
        self.assertIs(load_plugin(STAGES, "tag"), vars(sys.modules[module])["Tagged"])

    def test_unknown(self) -> None:
        """What nobody provides is refused with what is there."""
        install(self, "acme", "[mqsvc.stages]\ntag = CODE:Tagged\n")
        self.assertEqual(
            "no package provides 'tga' in mqsvc.stages; there is: tag",
            self.refusal(STAGES, "tga"),
        )

    def test_twice(self) -> None:
        """What two packages provide is refused with their names."""
        for package in ("acme", "apex"):
            install(self, package, "[mqsvc.stages]\ntag = CODE:Tagged\n")
        self.assertEqual(
            "'tag' in mqsvc.stages is provided by acme and apex: uninstall all but one",
            self.refusal(STAGES, "tag"),
        )

    def test_broken(self) -> None:
        """What does not load is refused with the package and the reason."""
        install(
            self,
            "acme",
            "[mqsvc.stages]\ngone = no_such_module:x\nlost = CODE:no_such_name\n",
        )
        line = self.refusal(STAGES, "gone")
        self.assertTrue(line.startswith("the plug-in 'gone' of the package acme"), line)
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module'", line)
        self.assertIn("AttributeError", self.refusal(STAGES, "lost"))

    def test_taken(self) -> None:
        """A name that is built in cannot be taken by a package."""
        install(self, "acme", "[mqsvc.storage.messages]\nredis = CODE:open_store\n")
        refuse_taken(MESSAGE_STORES, ["sqlite"])
        error = self.assertRaises(
            PluginError, refuse_taken, MESSAGE_STORES, ["sqlite", "redis"]
        )
        self.assertIn("the package acme claims 'redis'", str(error))


class StageTests(SynchronousTestCase):
    """Pipelines of stages."""

    def setUp(self) -> None:
        """Install some stages."""
        install(
            self,
            "acme",
            "[mqsvc.stages]\none = CODE:Tagged\ntwo = CODE:Tagged\n"
            "nothing = CODE:nothing\nlost = CODE:lost\n",
        )
        self.inner = FaultyStore()

    def refusal(self, *pipeline: str, **tables: Any) -> str:
        """The one line by which a pipeline is refused."""
        error = self.assertRaises(
            PluginError, with_stages, self.inner, pipeline, tables
        )
        self.assertEqual(1, len(str(error).splitlines()))
        return str(error)

    def test_order(self) -> None:
        """The first one is outermost, and each gets its options."""
        outer: Any = with_stages(self.inner, ["one", "two"], {"two": {"x": [1]}})
        self.assertEqual(({}, {"x": [1]}), (outer.options, outer.next_store.options))
        self.assertIs(self.inner, outer.next_store.next_store)

    def test_none(self) -> None:
        """Without a pipeline there is nothing before the store."""
        self.assertIs(self.inner, with_stages(self.inner, [], {}))

    def test_unknown(self) -> None:
        """An unknown stage is refused with the option that names it."""
        self.assertEqual(
            "storage.message_pipeline: no package provides 'three' in mqsvc.stages; "
            "there is: lost, nothing, one, two",
            self.refusal("one", "three"),
        )

    def test_does_not_load(self) -> None:
        """So is one that does not load."""
        self.assertIn(
            "storage.message_pipeline: the plug-in 'lost'", self.refusal("lost")
        )

    def test_options(self) -> None:
        """Options that a stage does not take are refused with its table."""
        self.assertEqual(
            "stages.one: refused is no option",
            self.refusal("one", one={"refused": 1}),
        )
        line = self.refusal("one", one={"broken": 1})
        self.assertTrue(line.startswith("stages.one: KeyError: 'broken"), line)

    def test_no_store(self) -> None:
        """What makes no message store is no stage."""
        self.assertEqual(
            "stages.nothing: what it makes is no IMessageStore",
            self.refusal("nothing"),
        )


class StoreTests(TestCase):
    """Stores of other packages."""

    def setUp(self) -> None:
        """Install drivers, and name a directory."""
        self.module = install(
            self,
            "acme",
            "[mqsvc.storage.messages]\nacme = CODE:open_store\n"
            "choosy = CODE:open_choosy_store\n"
            "[mqsvc.storage.management]\nacme-sql = CODE:open_management\n",
        )
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    @property
    def uris(self) -> list[str]:
        """With what the driver was called."""
        opened: list[str] = sys.modules[self.module].uris
        return opened

    def refusal(self, messages: str) -> str:
        """The one line by which a message store is refused."""
        error = self.assertRaises(
            StoreOpenError, open_stores, "", messages, str(self.directory), reactor
        )
        self.assertEqual(1, len(str(error).splitlines()))
        return str(error)

    async def test_used(self) -> None:
        """Stores of other packages are opened by their schemes and work."""
        stores = open_stores(
            f"acme-sql://x{self.directory}/m.db",
            f"acme://x{self.directory}/n.db",
            str(self.directory),
            reactor,
        )
        for store in (stores.management, stores.messages):
            store.startService()
            self.addCleanup(store.stopService)
        await stores.management.create(QUEUE, {"a": 1})
        await stores.messages.post(QUEUE, [NewMessage(b"1", 60)], "c", NOW)
        files = {path.name.partition("-")[0] for path in self.directory.iterdir()}
        self.assertEqual({"m.db", "n.db"}, files)

    async def test_pool(self) -> None:
        """A pool can be one, and is given all options, or those that it knows."""
        options = {"known": 1, "other": True}
        for scheme, query in (("acme", "known=1&other=true"), ("choosy", "known=1")):
            uri = f"{scheme}://x{self.directory}/{scheme}.db"
            store = await open_pool(uri, options, reactor)
            self.assertTrue(IMessageStore.providedBy(store))
            self.assertEqual(f"{uri}?{query}", self.uris[-1])

    def test_unknown_scheme(self) -> None:
        """What is known names the stores of other packages too."""
        self.assertRegex(self.refusal("acem://x"), "known: acme, choosy, mongodb, .*sq")

    def test_refused(self) -> None:
        """What a driver refuses is passed on; what it fails with is not shown."""
        self.assertEqual(
            "drivers.message_store: the host said no", self.refusal("acme://refuse")
        )
        line = self.refusal("acme://u:271828@break")
        self.assertIn("drivers.message_store: the driver for 'acme'", line)
        self.assertIn("ValueError", line)
        self.assertNotIn("271828", line)

    def test_no_store(self) -> None:
        """A driver that opens something else is refused."""
        self.assertIn("is no IMessageStore", self.refusal("acme://nothing"))

    def test_taken_scheme(self) -> None:
        """A package that claims a built-in scheme stops the start."""
        install(self, "apex", "[mqsvc.storage.management]\nsqlite = CODE:open_store\n")
        self.assertIn("the package apex claims 'sqlite'", self.refusal(""))


class WiringTests(TestCase):
    """Stages as the configuration asks for them."""

    def test_stages_of_the_service(self) -> None:
        """A stage of the pipeline stands before the store, with its options."""
        install(self, "acme", "[mqsvc.stages]\none = CODE:Tagged\n")
        config = Path(self.mktemp())
        config.write_text(
            '[storage]\nmessage_pipeline = ["one"]\n[stages.one]\nx = [1, 2]\n'
        )
        settings = load(
            str(config),
            {},
            [
                f"data_dir={os.path.abspath(self.mktemp())}",
                "http=tcp:0:interface=127.0.0.1",
            ],
        )
        root = make_root(settings, reactor, clock=Clock())
        (stage,) = (each for each in root if isinstance(each, Stage))
        self.assertEqual({"x": [1, 2]}, stage.options)
        self.assertIsInstance(stage.next_store, Stage)


class ExampleTests(SynchronousTestCase):
    """The example of docs/plugins.rst, installed by pip."""

    def test_masks(self) -> None:
        """A server with the package and two lines of configuration masks cards."""
        server = self.server(self.installed(), "digits_shown = 2\n")
        server.start()
        body = {"card": "4111 1111-1111 1111", "order": "1234567890123", "n": 12.5}
        self.post(server, body)
        (message,) = self.messages(server)
        self.assertEqual(
            {"card": "**** ****-**** **11", "order": "1234567890123", "n": 12.5},
            message["body"],
        )

    def test_wrong_option(self) -> None:
        """Options that it does not know end the start with one line."""
        server = self.server(self.installed(), "digits = 2\n")
        server.spawn()
        self.assertEqual(1, server._running().wait(live.START_SECONDS))
        self.assertIn(
            "mqsvc: stages.mask_cards: the only option is digits_shown\n",
            server.log_end(),
        )

    def installed(self) -> str:
        """The directory in which pip has installed the example, without a network."""
        if find_spec("setuptools") is None:
            live.missing("setuptools", "pip install '.[test]'")
        # Building writes beside the sources.
        sources, target = self.mktemp(), os.path.abspath(self.mktemp())
        shutil.copytree(EXAMPLE, sources)
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--target", target, sources),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(0, ran.returncode, ran.stderr)
        return target

    def server(self, site: str, options: str) -> live.LiveServer:
        """A server that finds packages in a directory, and has the stage."""
        config = Path(self.mktemp()).absolute()
        config.write_text(
            '[storage]\nmessage_pipeline = ["mask_cards"]\n'
            f"[stages.mask_cards]\n{options}"
        )
        environment = live._environment()
        environment["PYTHONPATH"] += f"{os.pathsep}{site}"
        self.patch(live, "_environment", lambda: environment)
        server = live.LiveServer("--config", str(config))
        self.addCleanup(server.remove)
        return server

    def post(self, server: live.LiveServer, body: Any) -> None:
        """Post a message."""
        self.request(server, {"messages": [{"body": body}]})

    def messages(self, server: live.LiveServer) -> list[Any]:
        """The messages of the queue."""
        found: list[Any] = self.request(server, None)["messages"]
        return found

    def request(self, server: live.LiveServer, document: Any) -> Any:
        """Ask for messages, or post them."""
        request = urllib.request.Request(
            f"{server.url}/v2/queues/q/messages?echo=true",
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Client-ID": str(uuid4()),
                "X-Project-ID": "p",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class MaskTests(SynchronousTestCase):
    """What the example takes for a card number."""

    def setUp(self) -> None:
        """Import it from the sources."""
        sys.path.insert(0, str(EXAMPLE))
        self.addCleanup(sys.path.remove, str(EXAMPLE))
        self.addCleanup(sys.modules.pop, "mask_cards", None)
        import mask_cards  # noqa: PLC0415

        self.stage = mask_cards.MaskCards
        self.inner = open_messages(self)

    def stored(self, body: str, **options: Any) -> str:
        """What is stored of a body."""
        store = self.stage(self.inner, options)
        message = NewMessage(body.encode(), 60)
        self.successResultOf(store.post(QUEUE, [message], "c", NOW))
        page = self.successResultOf(store.page(QUEUE, Selection(20), NOW))
        return page[-1].body.decode()

    def test_masked(self) -> None:
        """Card numbers are masked wherever they stand in texts."""
        for body, stored in (
            ('"4111111111111111"', '"************1111"'),
            ('["a 5500-0000-0000-0004 b"]', '["a ****-****-****-0004 b"]'),
            ('{"4111111111111111":null}', '{"************1111":null}'),
            ('"\\"4111111111111111\\""', '"\\"************1111\\""'),
        ):
            self.assertEqual(stored, self.stored(body))
        self.assertEqual(
            '"****************"', self.stored('"4111111111111111"', digits_shown=0)
        )

    def test_left_alone(self) -> None:
        """What only looks like one, and numbers, stay as they are."""
        for body in ('"4111111111111112"', "4111111111111111", '"4111"', "[0.5,true]"):
            self.assertEqual(body, self.stored(body))

    def test_options(self) -> None:
        """Options of the wrong shape are refused."""
        for options in ({"digits_shown": 5}, {"digits_shown": "2"}, {"x": 1}):
            self.assertRaises(PluginError, self.stage, self.inner, options)
