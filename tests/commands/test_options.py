"""The command line of ``mqsvc``."""

from __future__ import annotations

import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from mqsvc import __version__
from mqsvc.commands.options import ExportOptions, ImportOptions, parse


class OptionsTests(SynchronousTestCase):
    """What a command line says."""

    def setUp(self) -> None:
        """Begin without variables."""
        self.patch(os, "environ", {})

    def refusal(self, *words: str) -> str:
        """What is wrong with a command line."""
        return str(self.assertRaises(UsageError, parse, words))

    def printed(self, *words: str) -> str:
        """What a command line prints that then ends the process with success."""
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        ended = self.assertRaises(SystemExit, parse, words)
        self.assertIn(ended.code, (None, 0))
        return stdout.getvalue()

    def test_export(self) -> None:
        """An export takes a file, and what to leave out."""
        options: Any = parse(["export", "f"])
        self.assertIsInstance(options, ExportOptions)
        self.assertEqual(
            ("f", None, 0),
            (options["file"], options["project"], options["without-messages"]),
        )
        options = parse(["export", "--project=p", "--without-messages", "-"])
        self.assertEqual(
            ("-", "p", 1),
            (options["file"], options["project"], options["without-messages"]),
        )

    def test_import(self) -> None:
        """An import takes a file, and what to do."""
        options: Any = parse(["import", "f"])
        self.assertIsInstance(options, ImportOptions)
        self.assertEqual((0, 1), (options["append"], options.resume_at))
        options = parse(["import", "--append", "--resume-at", "12", "-p", "", "f"])
        self.assertEqual((1, 12), (options["append"], options.resume_at))
        self.assertEqual("", options["project"])

    def test_settings(self) -> None:
        """Options of the service come from file, variables and command line."""
        path = Path(self.mktemp())
        path.write_text('data_dir = "/file"\nadmin_mode = true\n')
        os.environ["MQSVC_CONFIG"] = str(path)
        os.environ["MQSVC_DATA_DIR"] = "/variable"
        settings = parse(["export", "f"]).settings
        self.assertEqual(("/variable", True), (settings.data_dir, settings.admin_mode))
        words = ["--data-dir", "/option", "--set", "admin_mode=false"]
        settings = parse(["import", "-c", str(path), *words, "f"]).settings
        self.assertEqual(("/option", False), (settings.data_dir, settings.admin_mode))

    def test_wrong(self) -> None:
        """What is wrong is told with what is expected."""
        for words, expected in (
            ([], "export or import"),
            (["move"], "move"),
            (["export"], "one file"),
            (["import", "a", "b"], "one file"),
            (["export", "--append", "a"], "append"),
            (["import", "--resume-at", "x", "a"], "number of a line"),
            (["import", "--resume-at", "0", "a"], "number of a line"),
            (["export", "--set", "nothing=1", "a"], "'nothing'"),
            (["export", "-c", "/nowhere", "a"], "/nowhere"),
        ):
            self.assertIn(expected, self.refusal(*words))

    def test_help(self) -> None:
        """The help shows what to write."""
        self.assertIn("Usage: mqsvc export|import", self.printed("--help"))
        self.assertIn("  mqsvc export --data-dir", self.printed("--help"))
        for command in ("export", "import"):
            text = self.printed(command, "--help")
            self.assertIn(f"Usage: mqsvc {command} [options] FILE|-", text)

    def test_version(self) -> None:
        """The version is that of the program."""
        for words in (["--version"], ["export", "--version"]):
            self.assertEqual(f"mqsvc {__version__}\n", self.printed(*words))
