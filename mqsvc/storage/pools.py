"""A message store made of many: each destination has its messages in one pool.

Who uses it need not know that there are pools. Which pool a destination has is asked
of whoever keeps the records, with each call, so it has to be cheap; opening and
keeping the stores is the work of :mod:`mqsvc.storage.pool_stores`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import (
    Deferred,
    DeferredList,
    gatherResults,
    maybeDeferred,
)
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    JsonObject,
    Message,
    NewMessage,
    Posting,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import (
    IManagementStore,
    IMessageStore,
    IPooledMessageStore,
)
from mqsvc.storage.pool_stores import OpenStore, PoolStores

Result = TypeVar("Result")

Locate = Callable[[Destination], Awaitable[str | None]]
"""The name of the pool of a destination; none is the default pool."""

FAILED_REST_SECONDS = 30.0
"""How long a pool that failed is not swept or weighed: failing may take long."""

SWEEP_ALL_SECONDS = 1.0
"""How long sweeps keep to the pools that had more, before they ask all again."""

NAMES_PER_PAGE = 100


@implementer(IPooledMessageStore)
class PooledMessages(Service):
    """See :class:`~mqsvc.storage.interfaces.IPooledMessageStore`.

    :param default: has what is in no pool; started and stopped with this store.
    :param management: knows the pools.
    :param locate: knows which pool a destination has.
    :param open_store: opens the store of a pool.
    :param bus: tells which pools were changed; by default there is one process.
    """

    name = "messages"
    log = Logger()

    def __init__(
        self,
        default: IMessageStore,
        management: IManagementStore,
        locate: Locate,
        open_store: OpenStore,
        clock: IReactorTime,
        bus: Bus | None = None,
    ) -> None:
        self._default = default
        self._management = management
        self._locate = locate
        self._open_store = open_store
        self._clock = clock
        self._now = milliseconds(clock)
        self._stores = PoolStores(
            management, open_store, clock, Bus() if bus is None else bus
        )
        self._unswept: list[str | None] = []
        self._all_swept = float("-inf")
        self._rests: dict[str | None, float] = {}

    def startService(self) -> None:
        """Start the default store; the others start when they are needed."""
        super().startService()
        self._default.startService()
        self._stores.start()

    def stopService(self) -> Deferred[None]:
        """Fires when all stores are stopped."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._stores.stop()
        await maybeDeferred(self._default.stopService)

    def _in_pool_of(
        self,
        destination: Destination,
        step: Callable[[IMessageStore], Deferred[Result]],
        *also: Destination,
    ) -> Deferred[Result]:
        """Run a step on the store of a destination; the others have the same one."""
        return _shielded(
            Deferred.fromCoroutine(self._in_one_pool((destination, *also), step))
        )

    async def _in_one_pool(
        self,
        destinations: tuple[Destination, ...],
        step: Callable[[IMessageStore], Deferred[Result]],
    ) -> Result:
        name = await self._locate(destinations[0])
        for other in destinations[1:]:
            if await self._locate(other) != name:
                # It was moved between the caller's look and this one.
                raise StoreUnavailable()
        return await self._in_pool(name, step)

    async def _in_pool(
        self, name: str | None, step: Callable[[IMessageStore], Deferred[Result]]
    ) -> Result:
        if name is None:
            return await step(self._default)
        opened = await self._stores.take(name)
        try:
            return await step(opened.store)
        finally:
            self._stores.give_back(opened)

    # Of pools.

    def check(self, uri: str, options: JsonObject) -> Deferred[None]:
        """See :class:`IPooledMessageStore`, as for every method below."""
        return Deferred.fromCoroutine(self._check(uri, options))

    async def _check(self, uri: str, options: JsonObject) -> None:
        store = await self._open_store(uri, options)
        store.startService()
        try:
            await store.ping()
        except StoreUnavailable as error:
            raise StoreOpenError("the store does not answer") from error
        finally:
            await maybeDeferred(store.stopService)

    def ping_pool(self, name: str | None) -> Deferred[None]:
        """Open the pool first, if it was not used yet."""
        return Deferred.fromCoroutine(self._in_pool(name, lambda store: store.ping()))

    def forget_pool(self, name: str) -> None:
        """Calls that are under way go on in the store they have begun in."""
        self._rests.pop(name, None)
        self._stores.forget(name)

    # Of the whole.

    def ping(self) -> Deferred[None]:
        """Fires when the default pool answers and, if others were used, one of them.

        A server is taken out of service where this fails, and all of them have the
        same pools: one dead pool must not take all of them away.
        """
        return Deferred.fromCoroutine(self._ping())

    async def _ping(self) -> None:
        await self._default.ping()
        pings = [self.ping_pool(name) for name in self._stores.names]
        if not pings:
            return
        first = DeferredList(pings, fireOnOneCallback=True, consumeErrors=True)
        # All results, when there was no first success.
        if isinstance(await first, list):
            raise StoreUnavailable()

    def sweep(self, now: int) -> Deferred[bool]:
        """Sweep a piece of each pool at the same time, also of those not used yet."""
        return Deferred.fromCoroutine(self._sweep(now))

    async def _sweep(self, now: int) -> bool:
        if not self.running:
            raise StoreUnavailable()
        time = self._clock.seconds()
        if not self._unswept or time - self._all_swept >= SWEEP_ALL_SECONDS:
            self._unswept = [None, *await self._names()]
            self._all_swept = time
        swept = self._unswept
        more = await gatherResults(
            [Deferred.fromCoroutine(self._sweep_pool(name, now)) for name in swept]
        )
        self._unswept = [
            name for name, is_more in zip(swept, more, strict=True) if is_more
        ]
        return bool(self._unswept)

    async def _sweep_pool(self, name: str | None, now: int) -> bool:
        return await self._unless_it_rests(
            name, lambda store: store.sweep(now), "swept", otherwise=False
        )

    async def _unless_it_rests(
        self,
        name: str | None,
        step: Callable[[IMessageStore], Deferred[Result]],
        done: str,
        otherwise: Result,
    ) -> Result:
        """Run a step on one pool of all, whose failure is in nobody's way."""
        if self._clock.seconds() < self._rests.get(name, 0):
            return otherwise
        try:
            return await self._in_pool(name, step)
        except StoreUnavailable:
            self.log.error("{pool} cannot be {done} now", pool=_shown(name), done=done)
        except Exception:  # noqa: BLE001 - the others are not to suffer
            self.log.failure("{pool} could not be {done}", pool=_shown(name), done=done)
        self._rests[name] = self._clock.seconds() + FAILED_REST_SECONDS
        return otherwise

    def stored_bytes(self, project: str) -> Deferred[int]:
        """The sum over all pools; those that do not answer are left out for a while.

        Otherwise one dead pool would take all others away where the sum is needed.
        """
        return Deferred.fromCoroutine(self._stored_bytes(project))

    async def _stored_bytes(self, project: str) -> int:
        if not self.running:
            raise StoreUnavailable()
        names = [None, *await self._names()]
        sizes = [Deferred.fromCoroutine(self._weigh(name, project)) for name in names]
        return sum(await gatherResults(sizes))

    async def _weigh(self, name: str | None, project: str) -> int:
        return await self._unless_it_rests(
            name, lambda store: store.stored_bytes(project), "weighed", otherwise=0
        )

    async def _names(self) -> list[str]:
        names: list[str] = []
        while True:
            after = names[-1] if names else ""
            pools = await self._management.pools(NAMES_PER_PAGE, after)
            names += [pool.name for pool in pools]
            if len(pools) < NAMES_PER_PAGE:
                return names

    # Of destinations.

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """In the pool of the destination, as everything below.

        What else is posted in the same step goes to that pool too, wherever the other
        destination is found by itself.
        """
        return self._in_pool_of(
            destination,
            lambda store: store.post(destination, messages, client_id, now, also),
        )

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""
        return self._in_pool_of(
            destination, lambda store: store.page(destination, selection, now)
        )

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""
        return self._in_pool_of(
            destination, lambda store: store.get(destination, message_ids, now)
        )

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        return self._in_pool_of(
            destination,
            lambda store: store.delete(destination, message_ids, now, claim_ids),
        )

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete the oldest messages."""
        return self._in_pool_of(
            destination, lambda store: store.pop(destination, limit, now)
        )

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """The target of a rule has to be in the same pool; fails where it is not."""
        return self._in_pool_of(
            destination,
            lambda store: store.claim(destination, ttl, grace, limit, now, dead_letter),
            *(() if dead_letter is None else (dead_letter.target,)),
        )

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""
        return self._in_pool_of(
            destination, lambda store: store.get_claim(destination, claim_id, now)
        )

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Let a claim live on."""
        return self._in_pool_of(
            destination,
            lambda store: store.renew(destination, claim_id, ttl, grace, now),
        )

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> Deferred[None]:
        """End a claim."""
        return self._in_pool_of(
            destination,
            lambda store: store.release(destination, claim_id, now, undelivered),
        )

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Numbers."""
        return self._in_pool_of(
            destination, lambda store: store.stats(destination, now)
        )

    def clear(self, destination: Destination) -> Deferred[None]:
        """Remove all messages and claims."""
        return self._in_pool_of(destination, lambda store: store.clear(destination))

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """When a delay or a claim ends."""
        return self._in_pool_of(
            destination, lambda store: store.next_ready(destination, now)
        )

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """All there is."""
        return self._in_pool_of(
            destination, lambda store: store.stored(destination, limit, after, now)
        )

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept."""
        return self._in_pool_of(
            destination, lambda store: store.restore(destination, messages, now)
        )


def _shown(name: str | None) -> str:
    return "The default pool" if name is None else f"Pool {name}"


def _shielded(step: Deferred[Result]) -> Deferred[Result]:
    """Fires like the step; who cancels it leaves, and the step is still counted."""
    answer: Deferred[Result] = Deferred()
    step.chainDeferred(answer)
    return answer
