"""The lease of a process: it tells others for how long its connections are there."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import MessagingError
from mqsvc.storage.ids import RandomBits
from mqsvc.storage.interfaces import IManagementStore

ID_BITS = 128

TRIES = 3
"""How often its renewal is tried before it ends: all but one may fail."""


class Lease(Service):
    """Begins when it is first asked for, and is renewed as long as the process lives.

    When the store could not be reached for long, others may have given the lease up,
    and removed what was under it. Then a new one begins, under another id.

    :param seconds: how long it lasts when it is not renewed.
    :ivar id: of the one that began last; none before there was any.
    """

    log = Logger()

    def __init__(
        self,
        store: IManagementStore,
        clock: IReactorTime,
        seconds: int,
        random_bits: RandomBits,
    ) -> None:
        self.id: str | None = None
        self._store = store
        self._now = milliseconds(clock)
        self._span = seconds * 1000
        self._random_bits = random_bits
        self._since = self._until = 0
        self._turn = DeferredLock()
        self._waiting: list[Deferred[str]] = []
        self._renewing = LoopingCall(self._renew)
        self._renewing.clock = clock

    async def held(self) -> str:
        """The id, when everybody knows that the lease is held.

        :raise StoreUnavailable: nobody can be told.
        """
        lease = self.id
        if lease is None or self._until <= self._now():
            lease = await self._prolonged()
        if self.running and not self._renewing.running:
            self._renewing.start(self._span / 1000 / (TRIES + 1), now=False)
        return lease

    def was_held_since(self, moment: int) -> bool:
        """Whether others have seen what is under it at all times until now."""
        return self._since <= moment and self._now() < self._until

    def _prolonged(self) -> Deferred[str]:
        """What the attempt comes to that is under way; one begins if there is none."""
        outcome: Deferred[str] = Deferred()
        self._waiting.append(outcome)
        if len(self._waiting) == 1:
            self._turn.run(self._prolong).addBoth(self._tell_all)
        return outcome

    def _tell_all(self, outcome: str | Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(outcome)

    async def _prolong(self) -> str:
        until = self._now() + self._span
        lease, is_new = self.id, False
        if lease is None or not await self._store.renew_lease(lease, until):
            lease, is_new = f"{self._random_bits(ID_BITS):032x}", True
            await self._store.begin_lease(lease, until)
        self.id = lease
        now = self._now()
        if is_new or self._until <= now:
            self._since = now
        self._until = until
        return lease

    async def _renew(self) -> None:
        try:
            await self._prolonged()
        except Exception as error:  # noqa: BLE001 - the timer must live on
            if not isinstance(error, MessagingError):
                self.log.failure("Renewing the lease failed; it is tried again")
                return
            self.log.warn(
                "The subscriptions of WebSocket connections are hidden from others "
                "when the store does not answer for {seconds} seconds: {reason}",
                seconds=self._span // 1000,
                reason=error,
            )

    def stopService(self) -> Deferred[None]:
        """Give the lease up; fires when everybody knows."""
        super().stopService()
        if self._renewing.running:
            self._renewing.stop()
        return self._turn.run(self._end)

    async def _end(self) -> None:
        if self.id is None:
            return
        try:
            await self._store.end_lease(self.id)
        except MessagingError:
            # It ends by itself.
            self.log.failure("The lease of this process was left")
