"""Mail by a program of this machine that takes it as ``sendmail -t`` does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mqsvc.notification.channel import Outcome, Verdict, refused, retry
from mqsvc.notification.mail_text import Mail

ATTEMPT_SECONDS = 60

_FINAL = (os.EX_DATAERR, os.EX_NOUSER, os.EX_NOHOST)
"""Exit codes that say that it is the mail or its recipient."""

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "TZ")


class _Run(ProcessProtocol):
    """Writes a mail to a program and waits for its end; what it says is not kept."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.done: Deferred[int | None] = Deferred(self._kill)

    def connectionMade(self) -> None:
        """The program runs."""
        self._process.write(self._text)
        self._process.closeStdin()

    def processExited(self, reason: Failure) -> None:
        """The program has ended; a signal gives no exit code."""
        # Something that it left running may hold its output open.
        self._process.loseConnection()
        if not self.done.called:
            code: int | None = getattr(reason.value, "exitCode", None)
            self.done.callback(code)

    def _kill(self, _: Deferred[int | None]) -> None:
        self._process.signalProcess("KILL")
        self._process.loseConnection()

    @property
    def _process(self) -> Any:
        return self.transport


@frozen
class SendmailCommand:
    """A command that reads a mail, with its recipients, from standard input.

    No shell sees it, and nothing of a mail becomes an argument.

    :ivar arguments: the program and its options.
    """

    _reactor: Any
    arguments: tuple[str, ...]
    _environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(
        cls, reactor: Any, command: str, environ: Mapping[str, str]
    ) -> SendmailCommand:
        """A command as an operator writes it.

        :param environ: of which the program gets the few variables it needs.
        :raise ValueError: it is empty, or its quotes do not match.
        """
        arguments = tuple(shlex.split(command))
        if not arguments:
            raise ValueError("the command must not be empty")
        passed_on = {name: environ[name] for name in _PASSED_ON if name in environ}
        return cls(reactor, arguments, passed_on)

    async def send(self, mail: Mail) -> Outcome:
        """Hand over one mail."""
        run = _Run(mail.text.replace(b"\r\n", b"\n"))
        program = self.arguments[0]
        try:
            self._reactor.spawnProcess(run, program, self.arguments, env=self._environ)
            code = await run.done.addTimeout(ATTEMPT_SECONDS, self._reactor)
        except DeferredTimeout:
            return retry(f"{program} did not end within {ATTEMPT_SECONDS} seconds")
        except OSError as error:
            return retry(f"{program} cannot be run: {error.strerror}")
        if code == 0:
            return Outcome(Verdict.DELIVERED, 0)
        outcome = refused if code in _FINAL else retry
        return outcome(f"{program} ended with {code}", code)
