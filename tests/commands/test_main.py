"""The commands as processes, beside a real server."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from base64 import b64encode
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from msgspec import Raw, structs
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands.lines import (
    HEADER,
    End,
    FlavorLine,
    Header,
    MessageLine,
    PoolLine,
    QueueLine,
    SubscriptionLine,
    TopicLine,
    encode,
)
from tests.commands.content import file_of
from tests.live import CHECKOUT, LiveServer

COMMAND = (sys.executable, "-m", "mqsvc.commands")
FAR = 4_000_000_000_000
"""When messages expire: in the year 2096."""

CLIENT = "3381af92-2b9e-11e3-b191-71861300734c"
PIPE_BYTES = 2**17
"""More than a pipe holds."""

WAIT = 60


def message(number: int, **fields: Any) -> MessageLine:
    """The line of a message that outlives the test."""
    return MessageLine(
        body=Raw(json.dumps({"number": number, "text": "ü" * 500}).encode()),
        ttl=86_400,
        created=1_700_000_000_000 + number,
        expires=FAR,
        **fields,
    )


SUBSCRIPTION = SubscriptionLine(
    id="0123456789abcdef01234567",
    subscriber="https://example.org",
    ttl=2_000_000_000,
    created=1_700_000_000_000,
    options={"a": "ü"},
    confirmed=True,
)
CONTENT = file_of(
    QueueLine(project="demo", name="empty"),
    QueueLine(project="demo", name="orders", metadata={"größe": 1}),
    *map(message, range(250)),
    message(250, delayed_until=FAR),
    message(251, claim_count=2),
    MessageLine(base64=b"!1:k:sealed", ttl=60, created=1, expires=FAR),
    TopicLine(project="demo", name="news"),
    SUBSCRIPTION,
    message(0),
    QueueLine(project="other", name="orders"),
    message(1),
)


def environment() -> dict[str, str]:
    """The variables of a process that runs from the checkout."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MQSVC_")}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": "utf-8"}


class CommandTestCase(SynchronousTestCase):
    """Runs commands."""

    def setUp(self) -> None:
        """Name places that are not there yet, and a file with content."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.data = str(self.directory / "data")
        self.whole = self.file("whole.jsonl", CONTENT)

    def file(self, name: str, content: bytes) -> str:
        """A file with a content."""
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def path(self, name: str) -> str:
        """Where a file can be."""
        return str(self.directory / name)

    def command(
        self, *words: str, status: int = 0, stdin: bytes | None = None
    ) -> tuple[bytes, str]:
        """What a command writes on its two outputs; it ends with a status."""
        ran = subprocess.run(
            [*COMMAND, *words],
            env=environment(),
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=WAIT,
            check=False,
        )
        errors = ran.stderr.decode()
        self.assertEqual(status, ran.returncode, errors)
        return ran.stdout, errors

    def said(self, *words: str, status: int = 1) -> str:
        """The one line that a command says."""
        stdout, errors = self.command(*words, status=status)
        self.assertEqual(b"", stdout)
        self.assertEqual(1, len(errors.splitlines()), errors)
        self.assertTrue(errors.startswith("mqsvc: "), errors)
        return errors

    def bring(self, data: str | None = None) -> str:
        """Import the content into a data directory."""
        return self.said(
            "import", "--data-dir", data or self.data, self.whole, status=0
        )


class ProcessTests(CommandTestCase):
    """Exit status, files, streams and signals."""

    def test_there_and_back(self) -> None:
        """What was imported from a file is exported to the same file."""
        said = self.bring()
        self.assertIn("queues: 3, topics: 1, subscriptions: 1, messages: 255", said)
        path = self.path("again.jsonl")
        self.said("export", "--data-dir", self.data, path, status=0)
        self.assertEqual(CONTENT, Path(path).read_bytes())

    def test_streams(self) -> None:
        """The standard output of one is the standard input of the other."""
        self.bring()
        exported, _ = self.command("export", "--data-dir", self.data, "-")
        self.assertEqual(CONTENT, exported)
        other = self.path("other")
        self.command("import", "--data-dir", other, "-", stdin=exported)
        self.assertEqual(exported, self.command("export", "--data-dir", other, "-")[0])

    def test_project(self) -> None:
        """One project can be left alone on either side."""
        self.bring()
        words = ("--project", "other", "--data-dir")
        one, _ = self.command("export", *words, self.data, "-")
        self.assertEqual(4, len(one.splitlines()))
        other = self.path("other")
        self.command("import", *words, other, self.whole)
        self.assertEqual(one, self.command("export", "--data-dir", other, "-")[0])

    def test_without_messages(self) -> None:
        """The catalog can be exported alone."""
        self.bring()
        words = ("--without-messages", "--data-dir", self.data)
        catalog, _ = self.command("export", *words, "-")
        self.assertEqual(7, len(catalog.splitlines()))

    def test_twice(self) -> None:
        """The second time is refused, unless it is to append."""
        self.bring()
        words = ("import", "--data-dir", self.data, self.whole)
        self.assertIn("holds messages already (253)", self.said(*words))
        said = self.said("import", "--append", *words[1:], status=0)
        self.assertIn("there already: 4", said)

    def test_pools(self) -> None:
        """Queues are exported from their pools, and imported into them."""
        pools = [
            PoolLine(name=name, uri=f"sqlite:///{self.path(name)}.db", weight=1)
            for name in ("a", "b")
        ]
        lines = [
            *pools,
            FlavorLine(name="f", pools=("b",)),
            QueueLine(project="demo", name="one", pool="a"),
            message(1),
            QueueLine(project="demo", name="two", pool="b"),
            message(2),
        ]
        lines[1] = structs.replace(pools[1], flavor="f")
        self.whole = self.file("pools.jsonl", file_of(*lines))
        words = ("--set", "pooling=true", "--data-dir", self.data)
        self.said("import", *words, self.whole, status=0)
        exported, _ = self.command("export", *words, "-")
        self.assertEqual(file_of(*lines), exported)
        alone, _ = self.command("export", "--data-dir", self.data, "-")
        self.assertNotIn(b'"type":"message"', alone)
        self.assertNotIn(b"sqlite:", alone)

    def test_broken_line(self) -> None:
        """A broken line is named, and nothing at all is done."""
        lines = CONTENT.splitlines(keepends=True)
        lines[-2] = b'{"type":"message","body":{"password":"hidden"}}\n'
        broken = self.file("broken.jsonl", b"".join(lines))
        said = self.said("import", "--data-dir", self.data, broken)
        self.assertIn(f"line {len(lines) - 1}: ", said)
        self.assertNotIn("hidden", said)
        exported, _ = self.command("export", "--data-dir", self.data, "-")
        self.assertEqual(2, len(exported.splitlines()))

    def test_cut_file(self) -> None:
        """A file that was cut off is refused."""
        cut = self.file("cut.jsonl", CONTENT[: len(CONTENT) // 2])
        self.assertIn("cut off", self.said("import", "--data-dir", self.data, cut))

    def test_unknown_version(self) -> None:
        """A version that is not known is refused."""
        newer = self.file("new.jsonl", encode(Header(HEADER.format, 2)) + encode(End()))
        said = self.said("import", "--data-dir", self.data, newer)
        self.assertIn("version 2", said)

    def test_wrong_usage(self) -> None:
        """A wrong command line ends with a status of its own."""
        self.assertIn("see --help", self.said(status=2))

    def test_wrong_place(self) -> None:
        """An export of a directory that is not there makes none."""
        said = self.said("export", "--data-dir", self.data, self.path("a"))
        self.assertIn(f"there is no directory {self.data}", said)
        self.assertEqual(["whole.jsonl"], os.listdir(self.directory))

    def test_no_store(self) -> None:
        """A store that cannot be opened is said, without its password."""
        uri = "drivers.message_store=nothing://:hidden@there"
        said = self.said(
            "export", "--set", uri, "--set", "data_dir=.", self.path("all.jsonl")
        )
        self.assertIn("no driver for 'nothing'", said)
        self.assertNotIn("hidden", said)

    def test_no_reader(self) -> None:
        """An export into a pipe that nobody reads any more fails."""
        self.bring()
        reading, writing = os.pipe()
        os.close(reading)
        ran = subprocess.run(
            [*COMMAND, "export", "--data-dir", self.data, "-"],
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=WAIT,
            check=False,
        )
        os.close(writing)
        self.assertEqual((1, b"mqsvc: Broken pipe\n"), (ran.returncode, ran.stderr))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command under way, until the test ends."""
        process = subprocess.Popen(
            [*COMMAND, *words],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.wait, WAIT)
        self.addCleanup(process.kill)
        return process

    def test_interrupted_export(self) -> None:
        """An export that is interrupted stops at the next page and says so."""
        self.bring()
        process = self.start("export", "--data-dir", self.data, "-")
        assert process.stdout is not None
        # Now it writes, and cannot go on before somebody reads.
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=WAIT)
        self.assertEqual((130, b"mqsvc: stopped\n"), (process.returncode, errors))
        self.assertNotIn(b'"type":"end"', first + rest)

    def test_interrupted_import(self) -> None:
        """An import that is interrupted while it waits for input does nothing."""
        process = self.start("import", "--data-dir", self.data, "-")
        assert process.stdin is not None
        # Returns when some of it was read: the process waits for more.
        process.stdin.write(CONTENT[:PIPE_BYTES])
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        self.assertEqual(130, process.wait(WAIT))
        self.assertEqual(["whole.jsonl"], os.listdir(self.directory))

    def test_progress(self) -> None:
        """On a terminal a bar shows how many messages are done."""
        for words in (
            ("import", "--data-dir", self.data, self.whole),
            ("export", "--data-dir", self.data, self.path("all.jsonl")),
        ):
            shown = self.shown_on_terminal(*words)
            self.assertIn(words[0].encode(), shown)
            self.assertIn(b"255/255", shown)

    def shown_on_terminal(self, *words: str) -> bytes:
        """What a command shows on a terminal."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        with open(ours, "rb", buffering=0) as terminal:
            process = subprocess.Popen(
                [*COMMAND, *words],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stderr=theirs,
            )
            os.close(theirs)
            shown = b""
            try:
                while part := terminal.read(4096):
                    shown += part
            except OSError:
                pass  # Linux says so that the other side was closed.
            self.assertEqual(0, process.wait(WAIT))
        return shown


class BesideTheServiceTests(CommandTestCase):
    """With a real server on the same stores."""

    def ask(self, server: LiveServer, method: str, path: str, body: Any = None) -> Any:
        """The document that a server answers with."""
        connection = HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
        headers = {"Client-ID": CLIENT, "X-Project-ID": "demo"}
        if body is not None:
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        connection.request(method, f"/v2{path}", body, headers)
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        self.assertLess(response.status, 300, raw)
        return json.loads(raw) if raw else None

    def server(self, *arguments: str) -> LiveServer:
        """A server that is not started, until the test ends."""
        server = LiveServer(*arguments)
        self.addCleanup(server.remove)
        return server

    def data_of(self, server: LiveServer) -> str:
        """The data directory of a server."""
        return str(server.directory / "data")

    def test_running_service(self) -> None:
        """While the service runs, its data directory is neither read nor written."""
        server = self.server()
        server.start()
        for words in (("export", self.path("all.jsonl")), ("import", self.whole)):
            said = self.said(words[0], "--data-dir", self.data_of(server), words[1])
            self.assertIn("in use by another mqsvc process; stop that one", said)
        self.assertFalse(Path(self.path("all.jsonl")).exists())
        server.stop()
        self.said(
            *("export", "--data-dir", self.data_of(server), self.path("all.jsonl")),
            status=0,
        )

    def test_from_server_to_server(self) -> None:
        """What was posted to one server is claimed from another, in its order."""
        first, second = self.server(), self.server()
        first.start()
        for number in range(3):
            new = {"messages": [{"body": {"ü": number}, "ttl": 3600}]}
            self.ask(first, "POST", "/queues/orders/messages", new)
        before = self.ask(first, "GET", "/queues/orders/messages?limit=20&echo=true")
        first.stop()
        path = self.path("all.jsonl")
        self.said("export", "--data-dir", self.data_of(first), path, status=0)
        self.said("import", "--data-dir", self.data_of(second), path, status=0)
        second.start()
        after = self.ask(second, "GET", "/queues/orders/messages?limit=20&echo=true")
        self.assertEqual(
            [(each["body"], each["ttl"]) for each in before["messages"]],
            [(each["body"], each["ttl"]) for each in after["messages"]],
        )
        claimed = self.ask(second, "POST", "/queues/orders/claims", {})
        bodies = [each["body"] for each in claimed["messages"]]
        self.assertEqual([{"ü": 0}, {"ü": 1}, {"ü": 2}], bodies)

    def test_encrypted(self) -> None:
        """Encrypted bodies stay so in the file; a server with the key reads them."""
        keys = f"encryption.keys=k:{b64encode(bytes(32)).decode()}"
        first, second = (self.server("--set", keys) for _ in range(2))
        first.start()
        metadata = {"_enable_encrypt_messages": True}
        self.ask(first, "PUT", "/queues/orders", metadata)
        new = {"messages": [{"body": "for nobody else", "ttl": 3600}]}
        self.ask(first, "POST", "/queues/orders/messages", new)
        first.stop()
        path = self.path("all.jsonl")
        self.said("export", "--data-dir", self.data_of(first), path, status=0)
        self.assertIn(b'"base64":', Path(path).read_bytes())
        self.assertNotIn(b"nobody", Path(path).read_bytes())
        self.said("import", "--data-dir", self.data_of(second), path, status=0)
        second.start()
        found = self.ask(second, "GET", "/queues/orders/messages?echo=true")
        self.assertEqual(["for nobody else"], [m["body"] for m in found["messages"]])
