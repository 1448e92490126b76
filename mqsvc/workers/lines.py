"""Log events on their way from a worker to the log of the server, a line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from zope.interface import provider

Write = Callable[[bytes], object]


class Line(msgspec.Struct, array_like=True):
    """A log event as far as it is passed on.

    :ivar system: where it comes from.
    """

    level: str
    system: str
    text: str


def encode_line(line: Line) -> bytes:
    """As it is written."""
    return msgspec.json.encode(line) + b"\n"


def observer(write: Write) -> ILogObserver:
    """What writes the log events of a worker."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            write(encode_line(Line(_level(event).name, _system(event), text)))

    return cast(ILogObserver, observe)


class Lines:
    """Puts what a worker writes into the log.

    :param worker: its number, which stands in front of each line.
    """

    log = Logger()

    def __init__(self, worker: int) -> None:
        self._name = f"worker {worker}"
        self._decode = msgspec.json.Decoder(Line).decode
        self._rest = b""

    def received(self, data: bytes) -> None:
        """Some bytes, which need not end with a line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._log(line)

    def _log(self, line: bytes) -> None:
        try:
            event = self._decode(line)
        except msgspec.DecodeError:
            # No log event, but what the interpreter or a library has to say.
            text = line.decode(errors="replace")
            event = Line("warn", "output", text)
        self.log.emit(
            LogLevel.levelWithName(event.level),
            "{text}",
            text=event.text,
            log_system=f"{self._name}, {event.system}",
        )


def _level(event: LogEvent) -> LogLevel:
    level: LogLevel = event.get("log_level") or LogLevel.info
    return level


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    return str(system or f"{event.get('log_namespace', '-')}#{_level(event).name}")
