"""The documents tell the truth: what the README shows is what a server answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import textwrap
import tomllib
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.tap import Options
from tests.live import CHECKOUT, LiveServer, missing

README = CHECKOUT / "README.rst"
NOTIFICATIONS = CHECKOUT / "docs" / "notifications.rst"
SHOWN_ADDRESS = "http://127.0.0.1:8888"
SHOWN_TENANT = "X-Project-ID: demo"
# Printed between the outputs of two blocks.
SEPARATOR = "--- end of answer ---"
LANGUAGES = {"python", "sh", "text", "toml", "yaml"}
# A block of commands, and right after it, if they print something, a block with that.
BLOCK = r"^\.\. code-block:: {}\n\n((?: .*\n|\n)+)"
COMMANDS = re.compile(f"{BLOCK.format('sh')}(?:{BLOCK.format('text')})?", re.M)
TITLE = re.compile(r"^(.+)\n-+\n", re.M)
SUBTITLE = re.compile(r"^.+\n~+\n", re.M)


@frozen
class Shown:
    """A block of commands as a document shows it, and what it is said to print."""

    commands: str
    output: str


def shown_commands(document: str) -> list[Shown]:
    """The blocks of commands of a document, as they are when pasted into a shell."""
    return [
        Shown(*(textwrap.dedent(block or "").strip("\n") for block in blocks.groups()))
        for blocks in COMMANDS.finditer(document)
    ]


def requests(document: str) -> list[Shown]:
    """The blocks that talk to a server: all but those that start the scripts."""
    return [
        shown
        for shown in shown_commands(document)
        if not shown.commands.startswith("scripts/")
    ]


def words(command: str) -> list[str]:
    """The words of a command, which may go on in the next line."""
    return shlex.split(command.replace("\\\n", " "))


def parts_of_tour(document: str) -> list[str]:
    """What stands before the first subtitle of the tour, and under each of them."""
    sections = TITLE.split(document)
    return SUBTITLE.split(sections[sections.index("A tour") + 1])


def documents() -> list[Path]:
    """All documents of the project."""
    places = ("*.rst", "docs/*.rst", "benchmarks/*.rst")
    return [found for place in places for found in sorted(CHECKOUT.glob(place))]


def outputs(blocks: list[str], directory: Path) -> list[str]:
    """What each block prints, all of them pasted into one shell."""
    lines = [line for each in blocks for line in (each, f"echo '{SEPARATOR}'")]
    ran = subprocess.run(
        ["bash"],
        input="\n".join(lines),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.split(f"{SEPARATOR}\n")[:-1]


def without_accidents(text: str) -> str:
    """A text without white space, and with ages that do not depend on the machine."""
    return re.sub(r'"age":\d+', '"age":0', "".join(text.split()))


def matches(output: str, pattern: str) -> bool:
    """Whether an output is as shown; ``...`` stands for anything within a string."""
    parts = map(re.escape, without_accidents(pattern).split("..."))
    found = re.fullmatch('[^"]*'.join(parts), without_accidents(output))
    return found is not None


class ReadmeTests(SynchronousTestCase):
    """README.rst, and what else shows requests with their answers."""

    def test_requests(self) -> None:
        """Every block of requests, pasted in order, prints what is shown after it."""
        shown = requests(README.read_text())
        self.assertGreater(len(shown), 10)
        self.assert_printed(self.live_server(), "demo", shown)

    def test_parts_of_tour(self) -> None:
        """Each part of the tour needs only the block at the beginning of the tour."""
        server = self.live_server()
        beginning, *parts = map(requests, parts_of_tour(README.read_text()))
        self.assertEqual(len(beginning), 1)
        self.assertGreater(len(parts), 5)
        for number, part in enumerate(parts):
            self.assertTrue(part)
            self.assert_printed(server, f"part-{number}", [*beginning, *part])

    def test_confirmation(self) -> None:
        """What is shown of confirmation works on a server started as it is shown."""
        sections = TITLE.split(NOTIFICATIONS.read_text())
        text = sections[sections.index("Confirmation") + 1]
        started, *_ = shown_commands(text)
        _, *options = words(started.commands)
        asked = requests(text)
        self.assertEqual(2, len(asked))
        self.assert_printed(self.live_server(*options), "demo", asked)

    def live_server(self, *arguments: str) -> LiveServer:
        """A server without data, until the test ends."""
        if shutil.which("curl") is None:
            missing("curl", "apt-get install curl")
        server = LiveServer(*arguments)
        self.addCleanup(server.remove)
        server.start()
        return server

    def assert_printed(
        self, server: LiveServer, tenant: str, blocks: list[Shown]
    ) -> None:
        """Paste blocks into a new shell, and compare what each prints."""
        directory = Path(self.mktemp())
        directory.mkdir()
        pasted = [
            each.commands.replace(SHOWN_ADDRESS, server.url).replace(
                SHOWN_TENANT, f"X-Project-ID: {tenant}"
            )
            for each in blocks
        ]
        printed = outputs(pasted, directory)
        for shown, output in zip(blocks, printed, strict=True):
            self.assertTrue(
                matches(output, shown.output),
                f"{shown.commands}\nprints\n{output}\ninstead of\n{shown.output}",
            )

    def test_every_answer_is_compared(self) -> None:
        """Every block of text stands right after the commands that print it."""
        text = README.read_text()
        compared = [shown for shown in shown_commands(text) if shown.output]
        self.assertEqual(len(compared), text.count(".. code-block:: text"))

    def test_broken_command(self) -> None:
        """A command that does not work prints something else than shown."""
        document = ".. code-block:: sh\n\n    {} a\n\n.. code-block:: text\n\n    a\n"
        for command, as_shown in (("echo", True), ("ehco", False)):
            (shown,) = shown_commands(document.format(command))
            (output,) = outputs([shown.commands], Path.cwd())
            self.assertEqual(matches(output, shown.output), as_shown)

    def test_matching_is_strict(self) -> None:
        """An answer with another status, key or value is not as shown."""
        shown = '{"id": "...",\n "age": 0, "body": 1} 201'
        self.assertTrue(matches('{"id":"a","age":7,"body":1} 201\n', shown))
        self.assertFalse(matches('{"id":"a","age":7,"body":1} 200\n', shown))
        self.assertFalse(matches('{"id":"a","age":7,"body":2} 201\n', shown))
        self.assertFalse(matches('{"id":"a","body":1} 201\n', shown))
        self.assertFalse(matches('{"id":"a","x":"","age":7,"body":1} 201\n', shown))

    def test_scripts(self) -> None:
        """Every script that is shown exists, and the options given to it are known."""
        scripts = [
            words(shown.commands)
            for path in documents()
            for shown in shown_commands(path.read_text())
            if shown.commands.startswith("scripts/")
        ]
        self.assertEqual(
            {words[0] for words in scripts}, {"scripts/serve", "scripts/test"}
        )
        self.stand_in_checkout()
        for name, *arguments in scripts:
            self.assertTrue((CHECKOUT / name).stat().st_mode & 0o111, name)
            if name == "scripts/serve":
                Options().parseOptions(arguments)

    def stand_in_checkout(self) -> None:
        """Stand in the checkout, as the README's reader does, until the test ends."""
        here = Path.cwd()
        self.addCleanup(os.chdir, here)
        os.chdir(CHECKOUT)


class DocumentTests(SynchronousTestCase):
    """All documents."""

    def test_blocks(self) -> None:
        """Every block says what it is in, and no command stands behind a prompt."""
        for document in documents():
            text = document.read_text()
            languages = set(re.findall(r"^\.\. code-block::(.*)", text, re.M))
            self.assertLessEqual({each.strip() for each in languages}, LANGUAGES)
            for shown in shown_commands(text):
                self.assertNotRegex(shown.commands, r"(?m)^\s*[$>] ", document)

    def test_links(self) -> None:
        """Every link to another file of the project leads to one."""
        for document in documents():
            for target in re.findall(r"<([\w./]+)>`_", document.read_text()):
                self.assertTrue(
                    (document.parent / target).is_file(), f"{document}: {target}"
                )

    def test_named_files(self) -> None:
        """Every file of the project that a document names in code exists."""
        for document in documents():
            named = r"``((?:mqsvc|tests|scripts|etc|docs|benchmarks)/[\w./]*)``"
            for target in re.findall(named, document.read_text()):
                self.assertTrue((CHECKOUT / target).exists(), f"{document}: {target}")

    def test_dependencies(self) -> None:
        """Every dependency of the project has its paragraph."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].values()
        requirements = [
            *project["dependencies"],
            *(one for each in extras for one in each),
        ]
        document = (CHECKOUT / "docs" / "dependencies.rst").read_text()
        terms = re.findall(r"^([\w -]+)\n    ", document, re.M)
        described = {name for term in terms for name in term.split(" and ")}
        names = {re.match(r"[\w-]+", each).group() for each in requirements}
        self.assertEqual(described, names)
