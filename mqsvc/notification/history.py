"""The attempts of each subscription, kept for those who look after it.

They are written a little later and together: losing the last second of them in a
crash loses no delivery. The newest ones are kept, as many as are ever shown.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from mqsvc.clock import Now
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.notification.entries import CLIENT, Attempt, Attempts, history, stored
from mqsvc.storage.ids import parse_id
from mqsvc.storage.interfaces import IMessageStore

MOST_UNWRITTEN = 10_000
"""Attempts in memory; while the store is away the newest ones are not kept."""

MOST_SHOWN = 100
"""Attempts of a subscription that can be looked at."""

TRIM_EVERY = 20
"""Records of a subscription between two looks at how many there are."""

INTERVAL = 1000
"""Milliseconds from the moment they are written to the next one."""

_Key = tuple[str | None, str]


class History:
    """Collects attempts, and writes them down when told to.

    :param keep: seconds for which attempts can be looked at.
    """

    def __init__(self, store: IMessageStore, now: Now, keep: int) -> None:
        self._store = store
        self._now = now
        self._keep = keep
        self._unwritten: dict[_Key, list[Attempt]] = {}
        self._count = 0
        self._next = 0

    def add(self, pool: str | None, subscription_id: str, attempt: Attempt) -> None:
        """Remember an attempt."""
        if self._count < MOST_UNWRITTEN:
            self._count += 1
            self._unwritten.setdefault((pool, subscription_id), []).append(attempt)

    async def write(self, is_last: bool = False) -> None:
        """Write down what was added; what a store does not take is tried again.

        :param is_last: it is now or never; else it is done once a second at most.
        """
        now = self._now()
        if not is_last and now < self._next:
            return
        self._next = now + INTERVAL
        unwritten, self._unwritten, self._count = self._unwritten, {}, 0
        await gatherResults(
            [
                Deferred.fromCoroutine(self._write(key, attempts))
                for key, attempts in unwritten.items()
            ],
            consumeErrors=True,
        )

    async def _write(self, key: _Key, attempts: list[Attempt]) -> None:
        where = history(*key)
        record = stored(Attempts(tuple(attempts[-MOST_SHOWN:])), self._keep)
        try:
            ids = await self._store.post(where, [record], CLIENT, self._now())
            if _is_turn(ids[0]):
                await self._trim(key)
        except StoreUnavailable:
            for attempt in attempts:
                self.add(*key, attempt)

    async def _trim(self, key: _Key) -> None:
        """Drop what is older than all that is shown: each record has an attempt."""
        where, now = history(*key), self._now()
        surplus = (await self._store.stats(where, now)).total - MOST_SHOWN
        if surplus > 0:
            await self._store.pop(where, surplus, now)


def _is_turn(message_id: str) -> bool:
    """Whether it is time to trim, by the position of a new record."""
    place = parse_id(message_id)
    return place is not None and place[0] % TRIM_EVERY == 0
