"""The file of an export: when it is there, and how it is read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands.files import NewFile, open_input, open_output


class NewFileTests(SynchronousTestCase):
    """A file that takes its name when it is finished."""

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "all.jsonl"

    def found(self) -> list[str]:
        """What is in the directory."""
        return sorted(each.name for each in self.directory.iterdir())

    def test_finished(self) -> None:
        """A finished file has its name, its content and no other reader."""
        output = open_output(str(self.path))
        output.write(b"one\n")
        output.write(b"two\n" * 100_000)
        self.assertNotIn("all.jsonl", self.found())
        output.finish()
        self.assertEqual(["all.jsonl"], self.found())
        self.assertEqual(b"one\n" + b"two\n" * 100_000, self.path.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_synced(self) -> None:
        """The file is synced before it takes its name, and its directory after it."""
        steps: list[object] = []
        self.patch(os, "fsync", lambda descriptor: steps.append(self.found()))
        output = NewFile(str(self.path))
        output.finish()
        before, after = steps
        self.assertNotEqual(["all.jsonl"], before)
        self.assertEqual(["all.jsonl"], after)

    def test_discarded(self) -> None:
        """A discarded file leaves what was there as it was."""
        self.path.write_bytes(b"old")
        output = NewFile(str(self.path))
        output.write(b"new")
        output.discard()
        self.assertEqual(["all.jsonl"], self.found())
        self.assertEqual(b"old", self.path.read_bytes())

    def test_link(self) -> None:
        """A link stays, and leads to the new file."""
        link = self.directory / "link"
        link.symlink_to("all.jsonl")
        output = NewFile(str(link))
        output.finish()
        self.assertTrue(link.is_symlink())
        self.assertEqual(b"", self.path.read_bytes())

    def test_no_file(self) -> None:
        """What is no file is not replaced by one."""
        for path in (str(self.directory), os.devnull):
            error = self.assertRaises(OSError, open_output, path)
            self.assertIn("is no file", str(error))
        self.assertTrue(Path(os.devnull).is_char_device())

    def test_no_directory(self) -> None:
        """A file cannot be made where there is no directory."""
        self.assertRaises(OSError, open_output, str(self.directory / "a" / "b"))


class InputTests(SynchronousTestCase):
    """Files that are read twice."""

    def test_pipe(self) -> None:
        """What comes through a pipe can be read twice."""
        path = self.mktemp()
        os.mkfifo(path)
        writer = subprocess.Popen(
            [sys.executable, "-c", f"open({path!r}, 'w').write('text')"]
        )
        with open_input(path) as file:
            for _ in range(2):
                file.seek(0)
                self.assertEqual(b"text", file.read())
        self.assertEqual(0, writer.wait(30))

    def test_missing(self) -> None:
        """A file that is not there cannot be read."""
        self.assertRaises(FileNotFoundError, open_input, self.mktemp())
