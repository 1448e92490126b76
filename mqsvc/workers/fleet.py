"""Keeps workers running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.workers.backoff import BackOff

STOP_SECONDS = 25.0
"""How long workers may take to stop; a little less than etc/mqsvc.service allows."""


class Worker(Protocol):
    """A process that was started.

    :ivar ended: fires with how it ended, in words, when it has.
    """

    ended: Deferred[str]

    def stop(self) -> None:
        """Ask it to finish what it does, and to end."""

    def kill(self) -> None:
        """End it at once."""


class Fleet(Service):
    """So many workers, each started again when it ends.

    :param start: starts the worker of a number, from 0 on. When it raises OSError it is
        tried again later.
    :param bury: told the number of a worker that has ended.
    """

    log = Logger()

    def __init__(
        self,
        size: int,
        start: Callable[[int], Worker],
        bury: Callable[[int], None],
        clock: IReactorTime,
    ) -> None:
        self._start = start
        self._bury = bury
        self._clock = clock
        self._backoffs = [BackOff() for _ in range(size)]
        self._workers: dict[int, Worker] = {}
        self._restarts: dict[int, IDelayedCall] = {}
        self._stopped: Deferred[None] | None = None

    def startService(self) -> None:
        """Start all of them."""
        super().startService()
        for number in range(len(self._backoffs)):
            self._run(number)

    def stopService(self) -> Deferred[None]:
        """Stop all of them; those that take too long are killed.

        :return: fires when they have ended.
        """
        super().stopService()
        for restart in self._restarts.values():
            restart.cancel()
        self._restarts.clear()
        if not self._workers:
            return succeed(None)
        self._stopped = Deferred()
        for worker in list(self._workers.values()):
            worker.stop()
        patience = self._clock.callLater(STOP_SECONDS, self._lose_patience)
        return self._stopped.addBoth(lambda _: _cancel(patience))

    def kill(self) -> None:
        """End all of them at once."""
        for worker in list(self._workers.values()):
            worker.kill()

    def _run(self, number: int) -> None:
        self._restarts.pop(number, None)
        try:
            worker = self._start(number)
        except OSError as error:
            # The machine has no memory or no process to spare at the moment.
            self._come_back(number, f"it could not be started: {error}", 0)
            return
        self._workers[number] = worker
        ended = worker.ended.addCallback(self._ended, number, self._clock.seconds())
        ended.addErrback(self._stumble, number)

    def _ended(self, how: str, number: int, since: float) -> None:
        del self._workers[number]
        try:
            self._bury(number)
        finally:
            if self.running:
                self._come_back(number, how, self._clock.seconds() - since)
            elif not self._workers and self._stopped is not None:
                self._stopped.callback(None)

    def _stumble(self, failure: Failure, number: int) -> None:
        self.log.failure("the end of worker {number}", failure, number=number)

    def _come_back(self, number: int, how: str, lived: float) -> None:
        pause = self._backoffs[number].after(lived)
        self.log.error(
            "worker {number} ended ({how}); it is started again in {pause:.0f} seconds",
            number=number,
            how=how,
            pause=pause,
        )
        self._restarts[number] = self._clock.callLater(pause, self._run, number)

    def _lose_patience(self) -> None:
        self.log.error("workers did not stop in time and are killed")
        self.kill()


def _cancel(call: IDelayedCall) -> None:
    if call.active():
        call.cancel()
