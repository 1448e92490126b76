"""What a worker runs: ``python -m mqsvc.workers NUMBER``, started by its supervisor."""

from __future__ import annotations

import contextlib
import signal
import sys
from importlib import import_module

from twisted.internet.error import ReactorNotRunning
from twisted.logger import globalLogBeginner

from mqsvc.config import ConfigError
from mqsvc.service import Root
from mqsvc.storage.errors import StoreOpenError
from mqsvc.workers.assignment import CHECK, Assignment
from mqsvc.workers.lifeline import Lifeline
from mqsvc.workers.lines import observer
from mqsvc.workers.log_pipe import LogPipe
from mqsvc.workers.means import InheritedMeans
from mqsvc.workers.processors import stay_on_own_processor

STDIN, STDOUT = 0, 1

LAST_SECONDS = 30
"""How long it may take to stop; a supervisor that lives is less patient."""


def main() -> int:
    """Serve until the supervisor or a signal says that it is enough."""
    assignment = Assignment.read(sys.stdin.buffer)
    import_module(assignment.reactor).install()
    try:
        root = _root(assignment)
    except (ConfigError, StoreOpenError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    if sys.argv[1:] != [CHECK]:
        # Before there are threads, which would stay where they are.
        stay_on_own_processor(assignment.place.number, assignment.place.count)
        _run(root)
    return 0


def _root(assignment: Assignment) -> Root:
    # Both need the reactor that was just chosen.
    from twisted.internet import reactor  # noqa: PLC0415

    from mqsvc.tap import make_root, settle_after_start  # noqa: PLC0415

    root = make_root(assignment.share, reactor, means=InheritedMeans(assignment))
    settle_after_start(root, reactor)
    return root


def _run(root: Root) -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    log = observer(LogPipe(STDOUT).write)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    # A terminal sends it to all processes; the supervisor is the one that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root.privilegedStartService()
    root.startService()
    reactor.addSystemEventTrigger("before", "shutdown", root.stopService)
    reactor.addReader(Lifeline(STDIN, _stop))
    reactor.run()


def _stop() -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    # Where the supervisor is dead nobody else ends what does not stop. The kernel does
    # it whatever keeps this process.
    signal.alarm(LAST_SECONDS)
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()


if __name__ == "__main__":
    sys.exit(main())
