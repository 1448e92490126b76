"""What a worker does on its own: here, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.workers.process import environment

NEVER_DONE = """\
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from mqsvc.workers import __main__ as worker

worker.LAST_SECONDS = 1
reactor.addSystemEventTrigger("before", "shutdown", Deferred)
reactor.callWhenRunning(worker._stop)
reactor.run()
"""


class StopTests(SynchronousTestCase):
    """The end of a worker that its supervisor has let go of."""

    def test_never_done(self) -> None:
        """Who is told to stop and cannot finish is ended, without a supervisor, too."""
        ended = subprocess.run(
            [sys.executable, "-c", NEVER_DONE],
            env=environment(),
            check=False,
            timeout=60,
        )
        self.assertEqual(-signal.SIGALRM, ended.returncode)
