"""The documents tell the truth: what the README shows is what a server answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.tap import Options
from tests.live import CHECKOUT, LiveServer, missing

README = CHECKOUT / "README.rst"
SHOWN_ADDRESS = "http://127.0.0.1:8888"
# Printed between the outputs of two commands.
SEPARATOR = "--- end of answer ---"


@frozen
class Shown:
    """A command as a document shows it, and what it is said to print."""

    command: str
    output: str


def console_blocks(document: str) -> Iterator[list[str]]:
    """The lines of each console block, without their indentation."""
    blocks = re.findall(
        r"^\.\. code-block:: console\n\n((?: .*\n|\n)+)", document, re.M
    )
    for block in blocks:
        yield [line[4:] for line in block.splitlines()]


def shown_commands(lines: list[str]) -> list[Shown]:
    """The commands of a block, each with its continuation lines and its output."""
    parts: list[tuple[list[str], list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            parts.append(([line[2:]], []))
        elif line.startswith("> "):
            parts[-1][0].append(line[2:])
        elif line.strip():
            parts[-1][1].append(line)
    return [Shown("\n".join(command), "\n".join(out)) for command, out in parts]


def commands_of_readme() -> list[Shown]:
    """All commands that the README shows."""
    blocks = console_blocks(README.read_text())
    return [shown for block in blocks for shown in shown_commands(block)]


def outputs(commands: list[str], directory: Path) -> list[str]:
    """What each command prints, all of them run in one shell."""
    lines = [line for each in commands for line in (each, f"echo '{SEPARATOR}'")]
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
    """Whether an output is as shown; ``...`` stands for anything."""
    parts = map(re.escape, without_accidents(pattern).split("..."))
    return re.fullmatch(".*".join(parts), without_accidents(output)) is not None


class ReadmeTests(SynchronousTestCase):
    """README.rst."""

    def test_tour(self) -> None:
        """Every request of the tour is answered as it is printed."""
        if shutil.which("curl") is None:
            missing("curl", "apt-get install curl")
        server = LiveServer()
        self.addCleanup(server.remove)
        server.start()
        directory = Path(self.mktemp())
        directory.mkdir()
        tour = [
            shown
            for shown in commands_of_readme()
            if not shown.command.startswith("scripts/")
        ]
        commands = [each.command.replace(SHOWN_ADDRESS, server.url) for each in tour]
        self.assertGreater(len(tour), 20)
        for shown, output in zip(tour, outputs(commands, directory), strict=True):
            self.assertTrue(
                matches(output, shown.output),
                f"{shown.command}\nprints\n{output}\ninstead of\n{shown.output}",
            )

    def test_matching_is_strict(self) -> None:
        """An answer with another status, key or value is not as shown."""
        shown = '{"id": "...",\n "age": 0, "body": 1} 201'
        self.assertTrue(matches('{"id":"a","age":7,"body":1} 201\n', shown))
        self.assertFalse(matches('{"id":"a","age":7,"body":1} 200\n', shown))
        self.assertFalse(matches('{"id":"a","age":7,"body":2} 201\n', shown))
        self.assertFalse(matches('{"id":"a","body":1} 201\n', shown))

    def test_scripts(self) -> None:
        """Every script that is shown exists, and the options given to it are known."""
        commands = [each.command for each in commands_of_readme()]
        scripts = [
            shlex.split(each) for each in commands if each.startswith("scripts/")
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

    def test_links(self) -> None:
        """Every link to another file of the project leads to one."""
        for document in [*CHECKOUT.glob("*.rst"), *CHECKOUT.glob("docs/*.rst")]:
            for target in re.findall(r"<([\w./]+)>`_", document.read_text()):
                self.assertTrue(
                    (document.parent / target).is_file(), f"{document}: {target}"
                )

    def test_named_files(self) -> None:
        """Every file of the project that a document names in code exists."""
        for document in [*CHECKOUT.glob("*.rst"), *CHECKOUT.glob("docs/*.rst")]:
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
