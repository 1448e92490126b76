"""Posts that other servers may have pulled the ground from under, looked at again.

News of other machines may come late. A post that relied on a record which was removed
elsewhere a moment before leaves messages without a record: soon after it the record is
read again, and made again if it is gone.
"""

from __future__ import annotations

from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.records import Records


class Recheck(TimerService):
    """Looks again at all that was posted to since the last time.

    :param seconds: between two looks.
    """

    log = Logger()

    def __init__(self, records: Records, clock: IReactorTime, seconds: float) -> None:
        super().__init__(seconds, self.look)
        self.clock = clock
        self._records = records

    async def look(self) -> None:
        """Look once; what cannot be read now has its turn the next time."""
        try:
            await self._records.recheck()
        except StoreUnavailable:
            self.log.warn("Records cannot be read, next try in {s} s", s=self.step)
        except Exception:  # noqa: BLE001 - the timer must live on
            self.log.failure(
                "Looking at records failed, next try in {s} s", s=self.step
            )

    def stopService(self) -> Deferred[None]:
        """Look a last time."""
        stopping = maybeDeferred(super().stopService)
        return stopping.addCallback(lambda _: Deferred.fromCoroutine(self.look()))
