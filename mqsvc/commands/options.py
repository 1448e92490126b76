"""The command line of ``mqsvc``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from twisted.python import usage

from mqsvc import __version__
from mqsvc.config import ConfigError, Settings, load

EXAMPLES = """
Examples:

  mqsvc export --data-dir /var/lib/mqsvc all.jsonl
      writes all that the service keeps there into a file; stop the service first
  mqsvc import --config /etc/mqsvc.toml all.jsonl
      brings it into the stores that the file names
  mqsvc export --project demo - | gzip > demo.jsonl.gz
      writes one project to the standard output

docs/export.rst tells all about it.
"""


class TransferOptions(usage.Options):
    """What both directions share.

    :ivar settings: which stores; as the service would read them.
    """

    optParameters = (
        ["config", "c", None, "Read options from this TOML file [MQSVC_CONFIG]."],
        ["project", "p", None, "Only the queues and topics of this project."],
    )

    synopsis: str
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._overrides: list[str] = []

    def opt_data_dir(self, directory: str) -> None:
        """The directory in which the service keeps its data."""
        self._overrides.append(f"--data-dir={directory}")

    def opt_set(self, override: str) -> None:
        """Set any option of the service: OPTION=VALUE or GROUP.OPTION=VALUE."""
        self._overrides.append(override)

    def opt_version(self) -> None:
        """Print the version and exit."""
        _print_version()

    def parseArgs(self, *words: str) -> None:
        """Take the name of the file."""
        if len(words) != 1:
            raise usage.UsageError(
                "expected the name of one file behind the options, or - for the "
                "standard input or output"
            )
        self["file"] = words[0]

    def postOptions(self) -> None:
        """Read the configuration."""
        path = self["config"] or os.environ.get("MQSVC_CONFIG") or None
        try:
            self.settings = load(path, os.environ, self._overrides)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from error

    def getSynopsis(self) -> str:
        """The line that shows what there is to write."""
        return self.synopsis


class ExportOptions(TransferOptions):
    """``mqsvc export``"""

    synopsis = "Usage: mqsvc export [options] FILE|-"
    longdesc = (
        "Writes queues, topics, subscriptions and messages to a file. The stores are "
        "those of the service with the same options."
    )
    optFlags = (["without-messages", None, "Leave out the messages."],)


class ImportOptions(TransferOptions):
    """``mqsvc import``

    :ivar resume_at: the number of a line.
    """

    synopsis = "Usage: mqsvc import [options] FILE|-"
    longdesc = (
        "Brings the queues, topics, subscriptions and messages of a file into the "
        "stores of the service with the same options."
    )
    optFlags = (["append", None, "Also into queues and topics that hold messages."],)
    resume_at = 1

    def opt_resume_at(self, number: str) -> None:
        """Leave out the lines before this one: an import that stopped did them."""
        if not number.isdecimal() or not int(number):
            raise usage.UsageError("--resume-at: expected the number of a line")
        self.resume_at = int(number)


class Options(usage.Options):
    """The whole command line."""

    synopsis = "Usage: mqsvc export|import [options] FILE|-"
    longdesc = "Moves what mqsvc keeps, between stores of any kinds."
    subCommands = (
        ["export", None, ExportOptions, "Write all that is stored to a file."],
        [
            "import",
            None,
            ImportOptions,
            "Bring the content of such a file into stores.",
        ],
    )

    def opt_version(self) -> None:
        """Print the version and exit."""
        _print_version()

    def postOptions(self) -> None:
        """Expect a command."""
        if self.subCommand is None:
            raise usage.UsageError("expected a command, export or import; see --help")

    def getUsage(self, width: int | None = None) -> str:
        """The help text; examples are kept as they are written."""
        return super().getUsage(width) + EXAMPLES


def _print_version() -> NoReturn:
    sys.stdout.write(f"mqsvc {__version__}\n")
    raise SystemExit(0)


def parse(words: Sequence[str]) -> ExportOptions | ImportOptions:
    """The options of the command that is asked for.

    :raise UsageError: the command line or the configuration is wrong.
    """
    options = Options()
    options.parseOptions(words)
    chosen: ExportOptions | ImportOptions = options.subOptions
    return chosen
