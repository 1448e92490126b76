"""What the commands do with files and stores when they are stopped in the middle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mqsvc.commands.actions import export_to_file, import_from_file
from mqsvc.commands.interruption import Interrupted, Interruption
from mqsvc.commands.options import parse
from tests.commands.test_main import CONTENT


class StopAt(Interruption):
    """Stops at the place that has some number."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self._left = place

    def check(self) -> None:
        """One place more."""
        self._left -= 1
        if not self._left:
            self.request()
        super().check()


class StoppedTests(TestCase):
    """Commands that are stopped."""

    timeout = 60

    def setUp(self) -> None:
        """Have an export, and place for more."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / "all.jsonl"
        self.file.write_bytes(CONTENT)

    async def do(self, command: str, *words: str, stop_at: int = 0) -> str:
        """Run a command on the file, and stop it somewhere."""
        data = ["--data-dir", str(self.directory / "data")]
        options: Any = parse([command, *data, *words, str(self.file)])
        action = export_to_file if command == "export" else import_from_file
        return await action(options, reactor, StopAt(stop_at))

    async def test_export(self) -> None:
        """An export that is stopped anywhere leaves nothing, and no file changed."""
        await self.do("import")
        for place in (1, 5, 12):
            await self.assertFailure(self.start("export", place), Interrupted)
            found = sorted(each.name for each in self.directory.iterdir())
            self.assertEqual(["all.jsonl", "data"], found)
            self.assertEqual(CONTENT, self.file.read_bytes())

    async def test_import(self) -> None:
        """An import that is stopped says where it can go on, and goes on there."""
        error = await self.assertFailure(self.start("import", 6), Interrupted)
        (line,) = re.findall(r"--resume-at (\d+)$", str(error))
        self.assertIn(f"lines before {line} are done", str(error))
        await self.do("import", "--resume-at", line)
        self.file.unlink()
        await self.do("export")
        self.assertEqual(CONTENT, self.file.read_bytes())

    def start(self, command: str, stop_at: int) -> Any:
        """A command that will be stopped."""
        return Deferred.fromCoroutine(self.do(command, stop_at=stop_at))
