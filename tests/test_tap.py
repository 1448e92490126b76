"""The command line, the wiring, and the process that twistd makes of it."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import treq
from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol, Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from mqsvc import __version__
from mqsvc.bus.board import Board, Place
from mqsvc.config import ConfigError, Settings, load
from mqsvc.service import DataDirectory, Listener, Root, StartFailure
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.open import open_stores
from mqsvc.tap import (
    COLLECTIONS,
    Options,
    make_root,
    makeService,
    settle_after_start,
)
from mqsvc.workers.means import Means

CHECKOUT = Path(__file__).parent.parent
TWISTD = str(Path(sys.executable).with_name("twistd"))
KEY = b64encode(b"k" * 32).decode()
LOOPBACK = "tcp:0:interface=127.0.0.1"


def environment(**variables: str) -> dict[str, str]:
    """The variables of a process that runs from the checkout."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MQSVC_")}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), **variables}


async def versions(port: int) -> tuple[int, bytes]:
    """Status and body of the document of versions."""
    agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
    response = await agent.request(b"GET", f"http://127.0.0.1:{port}/".encode())
    return response.code, await readBody(response)


def kill(process: int) -> None:
    """End a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_for_lock(data_dir: str) -> None:
    """Return when no process has the lock of a data directory."""
    with open(os.path.join(data_dir, "lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


class OptionsTests(SynchronousTestCase):
    """What the command line says."""

    def parse(self, *words: str, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of a command line and of variables."""
        self.patch(os, "environ", dict(environ or {}))
        options = Options()
        options.parseOptions(words)
        return options.settings

    def refusal(self, *words: str, environ: Mapping[str, str] | None = None) -> str:
        """The one line with which a command line ends the process."""
        line = self.assertRaises(SystemExit, self.parse, *words, environ=environ).code
        self.assertIsInstance(line, str)
        self.assertEqual(1, len(line.splitlines()))
        return line

    def file(self, text: str) -> str:
        """A configuration file with a text."""
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        return str(path)

    def printed(self, word: str) -> str:
        """What an option prints that then ends the process with success."""
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        ended = self.assertRaises(SystemExit, self.parse, word)
        self.assertIn(ended.code, (None, 0))
        return stdout.getvalue()

    def test_nothing(self) -> None:
        """An empty command line gives the defaults."""
        self.assertEqual(Settings(), self.parse())

    def test_each_option(self) -> None:
        """Each option sets what it is named after."""
        settings = self.parse(
            *("--data-dir", "/d", "--http", "tcp:1", "--websocket", "tcp:2"),
            *("--workers", "1", "--set", "transport.max_claim_ttl=600"),
            *("--set", "admin_mode=true"),
        )
        self.assertEqual(
            ("/d", "tcp:1", "tcp:2", 1, 600, True),
            (
                settings.data_dir,
                settings.http,
                settings.websocket,
                settings.workers,
                settings.transport.max_claim_ttl,
                settings.admin_mode,
            ),
        )

    def test_last_one_wins(self) -> None:
        """Of several that set the same, the last one wins, whichever it is."""
        self.assertEqual("b", self.parse("--set", "http=a", "--http", "b").http)
        self.assertEqual("a", self.parse("--http", "b", "--set", "http=a").http)

    def test_file(self) -> None:
        """A file is read, below variables and the other options."""
        path = self.file('data_dir = "f"\nhttp = "f"\nwebsocket = "f"\n')
        settings = self.parse(
            *("--config", path, "--websocket", "o"),
            environ={"MQSVC_HTTP": "e", "MQSVC_WEBSOCKET": "e"},
        )
        self.assertEqual(
            ("f", "e", "o"), (settings.data_dir, settings.http, settings.websocket)
        )

    def test_file_named_by_variable(self) -> None:
        """A variable names the file where the command line names none."""
        first, second = self.file('http = "1"\n'), self.file('http = "2"\n')
        environ = {"MQSVC_CONFIG": first}
        self.assertEqual("1", self.parse(environ=environ).http)
        self.assertEqual("2", self.parse("--config", second, environ=environ).http)
        self.assertEqual(Settings(), self.parse(environ={"MQSVC_CONFIG": ""}))

    def test_refusals(self) -> None:
        """Whatever is wrong ends the process with one line that says what it is."""
        for words, line in (
            (["--bogus"], "option --bogus not recognized"),
            (["--http"], "option --http requires argument"),
            (["--set", "x=1"], "--set: there is no option 'x'"),
            (["--workers", "x"], "--workers: workers: expected a whole number"),
            (["--workers", "0"], "--workers: workers: expected a whole number"),
            (["--data-dir="], "--data-dir: data_dir: expected a text that is not"),
            (["--config", "/nowhere"], "/nowhere: cannot be read: No such file"),
        ):
            refusal = self.refusal(*words)
            self.assertTrue(refusal.startswith(f"mqsvc: {line}"), refusal)
        refusal = self.refusal(environ={"MQSVC_X": "1"})
        self.assertIn("mqsvc: MQSVC_X: there is no such variable", refusal)

    def test_words_are_not_repeated(self) -> None:
        """A word beside the options is refused, and not shown: it may be a secret."""
        refusal = self.refusal("--set", "signed_url.secret_key=", "271828")
        self.assertTrue(
            refusal.startswith("mqsvc: there is a word that belongs to no option"),
            refusal,
        )
        self.assertNotIn("271828", refusal)

    def test_version(self) -> None:
        """The version of the program is printed, not that of Twisted."""
        self.assertEqual(f"mqsvc {__version__}\n", self.printed("--version"))

    def test_help(self) -> None:
        """The help names every option and keeps the lines of its examples."""
        text = self.printed("--help")
        for name in ("config", "data-dir", "http", "websocket", "workers", "set"):
            self.assertIn(f"--{name}=", text)
        self.assertIn("\n  twistd -n mqsvc --data-dir /var/lib/mqsvc\n", text)
        self.assertIn("\n  twistd -n mqsvc --config /etc/mqsvc.toml --set ", text)


class RootTestCase(TestCase):
    """Wires services in the process of the test."""

    def settings(self, *overrides: str, path: str | None = None) -> Settings:
        """Settings with a data directory of the test's own."""
        self.data_dir = os.path.abspath(self.mktemp())
        return load(
            path,
            {},
            [
                *(f"data_dir={self.data_dir}", f"http={LOOPBACK}", "websocket="),
                *overrides,
            ],
        )

    def started(self, root: Root) -> Root:
        """Start a root, and stop it after the test."""
        root.privilegedStartService()
        root.startService()
        self.addCleanup(root.stopService)
        return root

    def assert_directory_is_free(self) -> None:
        """Fail unless the data directory can be locked."""
        directory = DataDirectory(self.data_dir)
        directory.acquire()
        directory.release()


class RootTests(RootTestCase):
    """The wired service."""

    async def test_serves(self) -> None:
        """A started root answers over HTTP, in the time of the clock it was given."""
        root = self.started(make_root(self.settings(), reactor, clock=Clock()))
        await root.started
        status, body = await versions(root.addresses[0].port)
        self.assertEqual(300, status)
        self.assertIn(b'"versions"', body)

    async def test_stop_and_start_again(self) -> None:
        """The data directory can be used again once the root is stopped."""
        settings = self.settings()
        root = make_root(settings, reactor, clock=Clock())
        root.privilegedStartService()
        root.startService()
        await root.stopService()
        again = self.started(make_root(settings, reactor, clock=Clock()))
        self.assertEqual(300, (await versions(again.addresses[0].port))[0])

    async def test_worker(self) -> None:
        """A worker shares the board of its server, and has a socket beside it."""
        directory = self.mktemp()
        os.mkdir(directory)
        place = Place(directory, 1, 2)
        board = Board.create(place.board_path, 2)
        self.addCleanup(board.close)
        settings = self.settings()
        # The supervisor brought the stores up to date.
        os.mkdir(self.data_dir)
        open_stores("", "", self.data_dir, reactor)
        means = Means(self.data_dir, place=place)
        root = self.started(make_root(settings, reactor, Clock(), means))
        await root.started
        self.assertEqual({"board", "bus-1.sock"}, {*os.listdir(directory)})
        await root.stopService()
        self.assertEqual(["board"], os.listdir(directory))

    def test_directory_in_use(self) -> None:
        """A second service on a data directory is refused before it opens a store."""
        settings = self.settings()
        directory = DataDirectory(self.data_dir)
        directory.acquire()
        self.addCleanup(directory.release)
        error = self.assertRaises(ConfigError, make_root, settings, reactor)
        self.assertIn("is in use by another mqsvc process", str(error))
        self.assertEqual(["lock"], os.listdir(self.data_dir))

    def test_unusable_endpoint(self) -> None:
        """An endpoint that means nothing is refused before anything is made."""
        settings = self.settings("http=zzz")
        error = self.assertRaises(ConfigError, make_root, settings, reactor)
        self.assertTrue(str(error).startswith("http: 'zzz' is no usable endpoint"))
        self.assertFalse(os.path.exists(self.data_dir))

    def test_unknown_store(self) -> None:
        """A store with an unknown scheme is refused and leaves the directory free."""
        settings = self.settings("drivers.message_store=zzz://host")
        error = self.assertRaises(StoreOpenError, make_root, settings, reactor)
        self.assertIn("drivers.message_store", str(error))
        self.assert_directory_is_free()

    def test_one_line_for_each_failure(self) -> None:
        """What the wiring refuses ends the process with one line."""
        for override in ("http=zzz", "drivers.management_store=zzz://host"):
            options = Options()
            options.settings = self.settings(override)
            line = self.assertRaises(SystemExit, makeService, options).code
            self.assertTrue(str(line).startswith("mqsvc: "), line)
            self.assertEqual(1, len(str(line).splitlines()))

    def test_store_of_a_newer_version(self) -> None:
        """A store that a newer version wrote ends the process with one line."""
        options = Options()
        options.settings = self.settings()
        os.mkdir(self.data_dir)
        database = sqlite3.connect(os.path.join(self.data_dir, "messages.db"))
        database.execute("PRAGMA user_version = 999")
        database.close()
        line = self.assertRaises(SystemExit, makeService, options).code
        self.assertIn("schema version 999", str(line))
        self.assert_directory_is_free()

    async def test_websocket(self) -> None:
        """The WebSocket API is served where the operator wants it."""
        path = self.mktemp()
        root = self.started(make_root(self.settings(f"websocket=unix:{path}"), reactor))
        await root.started
        self.assertEqual(2, len(root.addresses))
        self.assertIn(b" 101 ", await self.greeted(f"unix:{path}", "/"))

    async def test_websocket_port_is_free(self) -> None:
        """As by default, the WebSocket API has a port of its own that is free."""
        with capturedLogs() as events:
            wanted = self.settings(f"websocket=if-free:{LOOPBACK}")
            root = self.started(make_root(wanted, reactor))
            await root.started
        http, websocket = (address.port for address in root.addresses)
        self.assertIn(b" 101 ", await self.greeted(f"tcp:127.0.0.1:{websocket}", "/"))
        said = f"HTTP on 127.0.0.1:{http}, WebSocket on 127.0.0.1:{websocket}, data in"
        self.assertIn(said, "\n".join(map(formatEvent, events)))

    def taken_port(self) -> str:
        """An endpoint that somebody else has."""
        other = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        return f"tcp:{other.getHost().port}:interface=127.0.0.1"

    async def test_websocket_port_is_taken(self) -> None:
        """The service starts without a port that it does not need, and says so once."""
        taken = self.taken_port()
        with capturedLogs() as events:
            wanted = self.settings(f"websocket=if-free:{taken}")
            root = self.started(make_root(wanted, reactor))
            await root.started
        (address,) = root.addresses
        endpoint = f"tcp:127.0.0.1:{address.port}"
        self.assertIn(b" 101 ", await self.greeted(endpoint, "/v2/ws"))
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        (line,) = map(formatEvent, warnings)
        self.assertIn(f"cannot listen on {taken}: Address already in use", line)
        self.assertIn("started without this port for WebSocket", line)

    async def unbind(self, root: Root) -> None:
        """Free what a root has that was not started."""
        for each in root:
            if isinstance(each, DataDirectory | Listener):
                await maybeDeferred(each.stopService)

    def test_websocket_port_is_needed(self) -> None:
        """An endpoint that the operator chose ends the start when it is taken."""
        taken = self.taken_port()
        root = make_root(self.settings(f"websocket={taken}"), reactor)
        self.addCleanup(self.unbind, root)
        self.patch(sys, "__stderr__", StringIO())
        failure = self.assertRaises(StartFailure, root.privilegedStartService)
        self.assertIn(f"cannot listen on {taken}", str(failure))

    def test_websocket_port_is_open(self) -> None:
        """Nothing is opened for other machines only because it is free."""
        wanted = self.settings("websocket=if-free:tcp:0:interface=0.0.0.0")
        root = make_root(wanted, reactor)
        self.addCleanup(self.unbind, root)
        self.patch(sys, "__stderr__", StringIO())
        failure = self.assertRaises(StartFailure, root.privilegedStartService)
        self.assertIn("can be reached from other machines", str(failure))

    async def greeted(self, endpoint: str, path: str) -> bytes:
        """What a server answers to who asks it to speak WebSocket."""
        greeting = Greeting(path)
        await connectProtocol(clientFromString(reactor, endpoint), greeting)
        answer = await greeting.answer
        greeting.transport.loseConnection()
        return answer

    async def test_websocket_on_http(self) -> None:
        """It is also served on the port of HTTP, unless that is switched off."""
        for overrides, status in (
            ((), b" 101 "),
            (("websocket_on_http=false",), b" 404 "),
            (("http_server=twisted.web",), b" 404 "),
        ):
            root = make_root(self.settings(*overrides), reactor)
            root.privilegedStartService()
            root.startService()
            await root.started
            self.assertEqual(1, len(root.addresses))
            endpoint = f"tcp:127.0.0.1:{root.addresses[0].port}"
            self.assertIn(status, await self.greeted(endpoint, "/v2/ws"))
            await root.stopService()

    def test_unused(self) -> None:
        """What is not used takes no memory: drivers, and Autobahn until it is asked."""
        # Nothing is bound: the service is only made.
        endpoints = ["--http", "tcp:0", "--websocket", "tcp:0"]
        words = ["--data-dir", self.mktemp(), *endpoints]
        script = f"""
import sys
from twisted.internet import reactor
from mqsvc.tap import Options, make_root
options = Options()
options.parseOptions({words!r})
make_root(options.settings, reactor)
print(*sorted(sys.modules.keys() & set({UNUSED})))
"""
        printed = subprocess.run(
            [sys.executable, "-c", script],
            env=environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual("", printed.stdout.strip())


UNUSED = (
    *("autobahn", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql"),
    *("sqlalchemy.orm", "treq", "twisted.mail.smtp", "txmongo", "txredisapi", "yaml"),
)
"""What the service does not import where nothing asks for it."""


class Greeting(Protocol):
    """Asks a server to speak WebSocket.

    :ivar answer: fires with the first bytes of the answer.
    """

    def __init__(self, path: str) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._path = path.encode()

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(
            b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % self._path
        )

    def dataReceived(self, data: bytes) -> None:
        """The answer."""
        if not self.answer.called:
            self.answer.callback(data)


class StoresTests(RootTestCase):
    """Pools, stages and encryption, as the configuration asks for them."""

    def setUp(self) -> None:
        """Name a directory for the files of pools."""
        self.pools = Path(self.mktemp()).absolute()
        self.pools.mkdir()

    async def serve(self, *overrides: str) -> None:
        """Start a service with these settings."""
        root = self.started(make_root(self.settings(*overrides), reactor))
        await root.started
        self.port = root.addresses[0].port

    async def ask(self, method: str, path: str, document: Any = None) -> Any:
        """The status of an answer, and its document if there is one."""
        response = await treq.request(
            method,
            f"http://127.0.0.1:{self.port}/v2/{path}",
            headers={
                "Client-ID": str(uuid4()),
                "X-Project-ID": "p",
                "X-Roles": "admin",
            },
            persistent=False,
            **({} if document is None else {"json": document}),
        )
        text = await treq.text_content(response)
        return response.code, json.loads(text) if text else None

    async def bodies(self, queue: str) -> list[Any]:
        """The bodies of the messages of a queue."""
        _, listing = await self.ask("GET", f"queues/{queue}/messages?echo=true")
        return [message["body"] for message in listing["messages"]]

    def file(self, directory: Path | str, name: str) -> bytes:
        """All that a store has written."""
        return b"".join(
            path.read_bytes() for path in Path(directory).glob(f"{name}.db*")
        )

    async def make_pool(self, name: str) -> None:
        """Make a pool on a file of its name."""
        document = {"uri": f"sqlite:///{self.pools}/{name}.db", "weight": 1}
        self.assertEqual((201, None), await self.ask("PUT", f"pools/{name}", document))

    async def test_pools(self) -> None:
        """With pooling, queues live in pools that were made, or in the default one."""
        await self.serve("pooling=true", "admin_mode=true")
        message = {"messages": [{"body": "in the default pool"}]}
        await self.ask("POST", "queues/before/messages", message)
        await self.make_pool("a")
        message = {"messages": [{"body": "in a pool"}]}
        await self.ask("POST", "queues/after/messages", message)
        self.assertEqual(["in the default pool"], await self.bodies("before"))
        self.assertEqual(["in a pool"], await self.bodies("after"))
        self.assertIn(b"in a pool", self.file(self.pools, "a"))
        self.assertNotIn(b"in a pool", self.file(self.data_dir, "messages"))
        self.assertIn(b"in the default pool", self.file(self.data_dir, "messages"))

    async def test_no_virtual_pool(self) -> None:
        """Without the virtual pool nothing new goes to the default pool."""
        await self.serve("pooling=true", "admin_mode=true", "enable_virtual_pool=false")
        message = {"messages": [{"body": 1}]}
        status, _ = await self.ask("POST", "queues/q/messages", message)
        self.assertEqual(503, status)
        self.assertEqual([], await self.bodies("q"))
        await self.make_pool("a")
        status, _ = await self.ask("POST", "queues/q/messages", message)
        self.assertEqual(201, status)

    async def test_no_pooling(self) -> None:
        """Without pooling there is no resource for pools."""
        await self.serve("admin_mode=true")
        status, _ = await self.ask("GET", "pools")
        self.assertEqual(404, status)

    async def encrypted_post(self) -> int:
        """Post to a queue that asks for encryption; the status."""
        await self.ask("PUT", "queues/q", {"_enable_encrypt_messages": True})
        message = {"messages": [{"body": "a secret text"}]}
        status, _ = await self.ask("POST", "queues/q/messages", message)
        return int(status)

    async def test_encryption(self) -> None:
        """With a key, what is posted to an encrypted queue is not in the file."""
        await self.serve(f"encryption.keys=k:{KEY}")
        self.assertEqual(201, await self.encrypted_post())
        self.assertEqual(["a secret text"], await self.bodies("q"))
        written = self.file(self.data_dir, "messages")
        self.assertIn(b"!1:k:", written)
        self.assertNotIn(b"a secret text", written)

    async def test_encryption_in_a_pool(self) -> None:
        """So it is in pools."""
        await self.serve("pooling=true", "admin_mode=true", f"encryption.keys=k:{KEY}")
        await self.make_pool("a")
        self.assertEqual(201, await self.encrypted_post())
        self.assertEqual(["a secret text"], await self.bodies("q"))
        self.assertIn(b"!1:k:", self.file(self.pools, "a"))

    async def test_no_key(self) -> None:
        """Without a key such a post is refused, and nothing is stored."""
        await self.serve()
        self.assertEqual(400, await self.encrypted_post())
        self.assertEqual([], await self.bodies("q"))

    def test_malformed_key(self) -> None:
        """A malformed key is refused before anything is made."""
        settings = self.settings("encryption.keys=k:271828")
        error = self.assertRaises(StoreOpenError, make_root, settings, reactor)
        self.assertIn("encryption.keys: entry 1: expected ID:KEY", str(error))
        self.assertNotIn("271828", str(error))
        self.assertFalse(os.path.exists(self.data_dir))

    def test_unknown_stage(self) -> None:
        """A stage that no package provides is refused, and the directory left free."""
        settings = self.settings("storage.message_pipeline=nowhere")
        error = self.assertRaises(StoreOpenError, make_root, settings, reactor)
        self.assertIn("storage.message_pipeline: no package provides", str(error))
        self.assert_directory_is_free()

    def test_unused_table(self) -> None:
        """Options of a stage that is not in use are warned of."""
        config = Path(self.mktemp())
        config.write_text("[stages.nowhere]\nx = 1\n")
        settings = self.settings(path=str(config))
        with capturedLogs() as events:
            make_root(settings, reactor)
        self.assertEqual(
            ["[stages.nowhere] is not used: storage.message_pipeline does not name it"],
            [formatEvent(e) for e in events if e["log_level"].name == "warn"],
        )


class PluginTests(SynchronousTestCase):
    """What twistd finds."""

    def test_found(self) -> None:
        """The plugin is found once, and leads to the command line and the service."""
        (plugin,) = (p for p in getPlugins(IServiceMaker) if p.tapname == "mqsvc")
        self.assertIs(Options, plugin.options)
        self.assertIs(makeService, plugin.makeService)


class Server(ProcessProtocol):
    """A running process and what it writes.

    :ivar ended: fires with the exit status, or minus the signal that ended it.
    """

    def __init__(self) -> None:
        self.ended: Deferred[int] = Deferred()
        self.output = ""
        self._awaited: tuple[str, Deferred[None]] | None = None

    @property
    def port(self) -> int:
        """The port that the output names."""
        return int(self.output.partition("HTTP on 127.0.0.1:")[2].partition(",")[0])

    def written(self, text: str) -> Deferred[None]:
        """Fires when a text is part of the output."""
        seen: Deferred[None] = Deferred()
        self._awaited = (text, seen)
        self._look()
        return seen

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Collect output of both kinds."""
        self.output += data.decode()
        self._look()

    def processEnded(self, reason: Failure) -> None:
        """Note the end; a text that is still awaited will not come."""
        error = reason.value
        if isinstance(error, ProcessTerminated) and error.signal is not None:
            self.ended.callback(-error.signal)
        elif isinstance(error, ProcessDone | ProcessTerminated):
            self.ended.callback(error.exitCode)
        if self._awaited is not None:
            self._awaited[1].errback(AssertionError(f"ended: {self.output}"))

    def _look(self) -> None:
        if self._awaited is not None and self._awaited[0] in self.output:
            (_, seen), self._awaited = self._awaited, None
            seen.callback(None)


class ProcessTests(TestCase):
    """Real processes: exit statuses, and what a terminal shows."""

    def setUp(self) -> None:
        """Name a data directory."""
        self.data_dir = os.path.abspath(self.mktemp())

    async def run_twistd(self, *words: str) -> tuple[str, str, int]:
        """Run a process to its end: what it wrote, its errors, its exit status."""
        out, err, status = await getProcessOutputAndValue(
            sys.executable, [TWISTD, "--pidfile=", *words], environment()
        )
        return out.decode(), err.decode(), status

    def spawn(self, *words: str) -> Server:
        """Start a process that serves, in the foreground."""
        server = Server()
        arguments = [sys.executable, TWISTD, "-n", "--pidfile=", "mqsvc", *words]
        process = reactor.spawnProcess(server, sys.executable, arguments, environment())
        server.process = process
        self.addCleanup(self.end, server)
        return server

    async def end(self, server: Server) -> None:
        """Kill a process that did not end by itself."""
        if not server.ended.called:
            server.process.signalProcess("KILL")
            await server.ended

    def path(self) -> Path:
        """A place for a file."""
        return Path(self.mktemp()).absolute()

    def options(self, *words: str) -> tuple[str, ...]:
        """Options for a free port and a data directory of the test's own."""
        endpoints = ("--http", LOOPBACK, "--websocket", "")
        return ("--data-dir", self.data_dir, *endpoints, *words)

    async def test_unknown_option(self) -> None:
        """An option that nobody knows ends it with one line and status 1."""
        self.assertEqual(
            ("", "mqsvc: option --bogus not recognized\n", 1),
            await self.run_twistd("-n", "mqsvc", "--bogus"),
        )

    async def test_reactor_is_left_to_its_user(self) -> None:
        """Until the service is made nothing installs a reactor by being imported."""
        out, err, status = await self.run_twistd(
            "--reactor", "poll", "-n", "mqsvc", "--version"
        )
        self.assertEqual((f"mqsvc {__version__}\n", "", 0), (out, err, status))

    async def test_start_and_stop(self) -> None:
        """It says where it serves, and ends by the signal that asks it to."""
        server = self.spawn(*self.options())
        await server.written(f"mqsvc {__version__}: HTTP on 127.0.0.1:")
        await server.written(f", data in {self.data_dir}")
        # Signals are taken only once the reactor runs, and then it answers.
        self.assertEqual(300, (await versions(server.port))[0])
        server.process.signalProcess("TERM")
        self.assertEqual(-signal.SIGTERM, await server.ended)
        self.assertIn("Server Shut Down", server.output)
        self.assertNotIn("Traceback", server.output)

    async def test_directory_and_port_in_use(self) -> None:
        """A second process on the directory or the port ends with one line."""
        server = self.spawn(*self.options())
        await server.written(", data in ")
        _, err, status = await self.run_twistd("-n", "mqsvc", *self.options())
        self.assertEqual(
            f"mqsvc: data_dir: {self.data_dir} is in use by another mqsvc process; "
            "stop that one, or name another directory with --data-dir\n",
            err,
        )
        self.assertEqual(1, status)
        endpoint = f"tcp:{server.port}:interface=127.0.0.1"
        words = ("--data-dir", self.mktemp(), "--http", endpoint)
        _, err, status = await self.run_twistd("-n", "mqsvc", *words)
        self.assertEqual(
            f"mqsvc: cannot listen on {endpoint}: Address already in use; free it, or "
            "choose another endpoint\n",
            err,
        )
        self.assertEqual(1, status)

    async def test_daemon(self) -> None:
        """A daemon holds the lock that was taken before it forked, until it ends."""
        pid_file, log_file = self.path(), self.path()
        self.assertEqual(
            ("", "", 0),
            await self.run_twistd(
                *(f"--pidfile={pid_file}", f"--logfile={log_file}"),
                *("mqsvc", *self.options()),
            ),
        )
        process = int(pid_file.read_text())
        self.addCleanup(kill, process)
        _, err, status = await self.run_twistd("-n", "mqsvc", *self.options())
        self.assertIn("is in use by another mqsvc process", err)
        self.assertEqual(1, status)
        os.kill(process, signal.SIGTERM)
        await deferToThread(wait_for_lock, self.data_dir)
        self.assertNotIn("Traceback", log_file.read_text())


class SettleTests(SynchronousTestCase):
    """What is done when all that a start makes is there."""

    def test_after_the_start(self) -> None:
        """A second after the start nothing that was made for it is collected again."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        clock = Clock()
        root = Root(DataDirectory(self.mktemp()), [], [])
        settle_after_start(root, clock)
        root.started.callback(None)
        self.assertEqual(0, gc.get_freeze_count())
        clock.advance(1)
        self.assertGreater(gc.get_freeze_count(), 0)
        self.assertEqual(COLLECTIONS, gc.get_threshold())
