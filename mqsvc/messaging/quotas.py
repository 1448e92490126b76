"""How much one project may use; a bound of 0 is none."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from msgspec import Meta, Struct
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from mqsvc.messaging.errors import QuotaExceeded
from mqsvc.messaging.model import NAMEABLE
from mqsvc.storage.interfaces import IManagementStore

Bound = Annotated[int, Meta(ge=0)]

MAX_BUCKETS = 10_000
"""Projects whose rate is remembered; those that are idle longest make room."""


class QuotaLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``quotas`` group.

    :ivar max_queues: queues and topics of a project.
    :ivar messages_per_second: posts of a project, in messages; twice as many may come
        at once after a pause.
    :ivar max_connections: connections at work for a project: requests that are not
        answered yet, and WebSocket connections.
    :ivar max_stored_bytes: bytes of the bodies that a project keeps, all in all.
    """

    max_queues: Bound = 0
    messages_per_second: Bound = 0
    max_connections: Bound = 0
    max_stored_bytes: Bound = 0


class Quotas:
    """Keeps projects within their bounds, each server process on its own."""

    def __init__(
        self, limits: QuotaLimits, management: IManagementStore, clock: IReactorTime
    ) -> None:
        self._limits = limits
        self._management = management
        self._clock = clock
        self._posts = Rate(limits.messages_per_second, clock)
        self._connections: dict[str, int] = {}
        self._creating: dict[str, DeferredLock] = {}

    @property
    def bounds_destinations(self) -> bool:
        """Whether there is a bound of queues and topics."""
        return bool(self._limits.max_queues)

    @property
    def max_stored_bytes(self) -> int:
        """Bytes that a project may keep; 0 is no bound."""
        return self._limits.max_stored_bytes

    @asynccontextmanager
    async def creation(self, project: str) -> AsyncIterator[None]:
        """A time in which nobody else makes a queue or topic of the project here."""
        lock = self._creating.setdefault(project, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked:
                self._creating.pop(project, None)

    async def admit_destination(self, project: str) -> None:
        """Let a project make one more queue or topic.

        :raise QuotaExceeded: it has as many as it may have.
        """
        bound = self._limits.max_queues
        if not bound:
            return
        counts = [await self._management.count(project, kind) for kind in NAMEABLE]
        if sum(counts) >= bound:
            raise QuotaExceeded(
                f"The project has {sum(counts)} queues and topics, as many as it may "
                "have. Delete some that are not needed any more.",
                retry_after=60,
            )

    def connect(self, project: str) -> None:
        """Count one more connection at work; :meth:`disconnect` has to follow.

        :raise QuotaExceeded: the project has as many as it may have; none is counted.
        """
        bound, count = self._limits.max_connections, self._connections.get(project, 0)
        if bound and count >= bound:
            raise QuotaExceeded(
                f"The project has {count} connections at work, as many as it may have.",
                retry_after=1,
            )
        self._connections[project] = count + 1

    def disconnect(self, project: str) -> None:
        """Count one connection less."""
        count = self._connections[project] - 1
        if count:
            self._connections[project] = count
        else:
            del self._connections[project]

    def admit_messages(self, project: str, count: int) -> None:
        """Let a project post some messages.

        :raise QuotaExceeded: it posts faster than it may.
        """
        seconds = self._posts.take(project, count)
        if seconds:
            raise QuotaExceeded(
                f"The project may post {self._limits.messages_per_second} messages a "
                f"second. Try again in {seconds} seconds.",
                retry_after=seconds,
            )


class Rate:
    """Token buckets: a steady rate for each project, and some ahead after a pause.

    :param rate: a second; 0 is no bound.
    """

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, project: str, count: int) -> int:
        """Take from a project's bucket, unless it is used up.

        A bucket that is not empty gives more than it holds, and is then in debt:
        otherwise a batch greater than the bucket could never pass.

        :return: 0, or in how many seconds there is something again.
        """
        if not self._rate:
            return 0
        now = self._clock.seconds()
        bucket = self._buckets.pop(project, None) or _Bucket(2.0 * self._rate, now)
        self._buckets[project] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        bucket.fill(self._rate, now)
        if bucket.level <= 0:
            return math.ceil((1 - bucket.level) / self._rate)
        bucket.level -= count
        return 0


class _Bucket:
    """What is left, and when it was last filled."""

    __slots__ = ("level", "since")

    def __init__(self, level: float, since: float) -> None:
        self.level = level
        self.since = since

    def fill(self, rate: int, now: float) -> None:
        """Add what the time since brought, up to two seconds' worth."""
        self.level = min(self.level + (now - self.since) * rate, 2.0 * rate)
        self.since = now
