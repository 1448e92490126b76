"""``mqsvc``: the commands as a process, with its signals, log and exit status."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from twisted.python.usage import UsageError

from mqsvc.commands.actions import export_to_file, import_from_file
from mqsvc.commands.importing import ImportRefused, ImportStopped
from mqsvc.commands.interruption import Interrupted, Interruption
from mqsvc.commands.options import ExportOptions, ImportOptions, parse
from mqsvc.commands.reading import FormatError
from mqsvc.config import ConfigError
from mqsvc.messaging.errors import MessagingError
from mqsvc.storage.errors import StoreOpenError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
"""What shells say of a process that SIGINT ended."""

EXPECTED = (
    ConfigError,
    FormatError,
    ImportRefused,
    ImportStopped,
    MessagingError,
    OSError,
    StoreOpenError,
)
"""What is told in one line; anything else is a bug and shows where it is."""


def run() -> NoReturn:
    """Do what the command line of the process says, and end the process."""
    try:
        options = parse(sys.argv[1:])
    except UsageError as error:
        _say(str(error))
        raise SystemExit(WRONG_USAGE) from error
    _begin_logging()
    react(_main, [options])


async def _main(reactor: Any, options: ExportOptions | ImportOptions) -> None:
    interruption, is_over = Interruption(), Deferred[None]()

    def stop() -> Deferred[None]:
        interruption.request()
        return is_over

    reactor.addSystemEventTrigger("before", "shutdown", stop)
    try:
        status = await _attempt(reactor, options, interruption)
    finally:
        is_over.callback(None)
    raise SystemExit(status)


async def _attempt(
    reactor: Any, options: ExportOptions | ImportOptions, interruption: Interruption
) -> int:
    try:
        if isinstance(options, ExportOptions):
            _say(await export_to_file(options, reactor, interruption))
        else:
            _say(await import_from_file(options, reactor, interruption))
    except (Interrupted, KeyboardInterrupt) as error:
        _say(str(error) or "stopped")
        return INTERRUPTED
    except EXPECTED as error:
        _say(_plain(error))
        return FAILED
    return 0


def _plain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, [error.filename, error.strerror]))
    return str(error)


def _say(line: str) -> None:
    sys.stderr.write(f"mqsvc: {line}\n")


def _begin_logging() -> None:
    """Show what stores warn of; what they tell besides is of no interest here."""
    observer = FilteringLogObserver(
        FileLogObserver(sys.stderr, _formatted),
        [LogLevelFilterPredicate(LogLevel.warn)],
    )
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def _formatted(event: LogEvent) -> str:
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return f"mqsvc: {text}\n"
