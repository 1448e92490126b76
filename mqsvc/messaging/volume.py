"""How many bytes one project may keep.

The store is asked now and then; between two answers what was posted here is added.
So the bound may be passed by what is under way at that moment, and by what other
processes take until they ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mqsvc.messaging.errors import QuotaExceeded
from mqsvc.messaging.model import NewMessage
from mqsvc.messaging.quotas import MAX_BUCKETS
from mqsvc.storage.interfaces import IMessageStore

KNOWN_SECONDS = 2.0
"""How long an answer of the store is good for."""


@define
class _Known:
    """What a project keeps.

    :ivar size: bytes of the store's answer and of what was posted since.
    :ivar since: when the store was asked.
    """

    size: int
    since: float


class Volume:
    """Keeps projects within a bound of stored bytes.

    :param bound: bytes; 0 is none.
    """

    def __init__(self, bound: int, store: IMessageStore, clock: IReactorTime) -> None:
        self._bound = bound
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, list[Deferred[_Known]]] = {}

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound."""
        return self._bound > 0

    async def admit(self, project: str, messages: Sequence[NewMessage]) -> None:
        """Let a project post messages; to be asked where there is a bound.

        :raise QuotaExceeded: it would keep more than it may.
        """
        # An answer just got is used however long it took: the next may take as long.
        known = self._fresh(project) or await self._learn(project)
        size = sum(len(message.body) for message in messages)
        if known.size + size > self._bound:
            raise QuotaExceeded(
                f"The project keeps {known.size} bytes of messages and may keep "
                f"{self._bound}; this post has {size}. Delete messages that are not "
                "needed any more, or wait until some expire.",
                retry_after=self._until_asked(known),
            )
        known.size += size

    def _fresh(self, project: str) -> _Known | None:
        known = self._known.get(project)
        if known is None or self._clock.seconds() - known.since >= KNOWN_SECONDS:
            return None
        return known

    def _until_asked(self, known: _Known) -> int:
        """In how many seconds the store is asked again."""
        seconds = math.ceil(known.since + KNOWN_SECONDS - self._clock.seconds())
        return max(1, seconds)

    def _learn(self, project: str) -> Deferred[_Known]:
        """The store's answer; who comes meanwhile waits for the same."""
        answered: Deferred[_Known] = Deferred()
        waiting = self._waiting.setdefault(project, [])
        waiting.append(answered)
        if len(waiting) == 1:
            asking = Deferred.fromCoroutine(self._ask(project))
            asking.addBoth(self._tell, project)
        return answered

    async def _ask(self, project: str) -> _Known:
        since = self._clock.seconds()
        known = _Known(await self._store.stored_bytes(project), since)
        # Those that were asked for last are at the end.
        self._known.pop(project, None)
        self._known[project] = known
        if len(self._known) > MAX_BUCKETS:
            del self._known[next(iter(self._known))]
        return known

    def _tell(self, outcome: _Known | Failure, project: str) -> None:
        for answered in self._waiting.pop(project):
            if isinstance(outcome, Failure):
                answered.errback(outcome)
            else:
                answered.callback(outcome)
