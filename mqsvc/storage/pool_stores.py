"""The message stores of pools: opened when first needed, kept, and closed again."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.bus import Basis, Bus
from mqsvc.bus.board import slot_of
from mqsvc.messaging.errors import NoPool, StoreUnavailable
from mqsvc.messaging.model import JsonObject, Pool
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

OpenStore = Callable[[str, JsonObject], Deferred[IMessageStore]]
"""Opens the store of a URI and options, without holding up the reactor.

What it fails with besides :class:`~mqsvc.storage.errors.StoreOpenError` is a bug.
"""

REST_SECONDS = 5.0
"""How long a pool that could not be opened is left alone."""


@define(eq=False)
class OpenedStore:
    """A store that is started, and how many calls are under way in it.

    :ivar pool: as it was when it was last looked up.
    :ivar basis: what that rests on.
    """

    store: IMessageStore
    pool: Pool
    basis: Basis
    calls: int = 0
    is_forgotten: bool = False


class PoolStores:
    """The stores of pools by the names of the pools.

    :param management: knows the pools.
    :param clock: measures rests.
    :param bus: tells which pools were changed.
    """

    log = Logger()

    def __init__(
        self,
        management: IManagementStore,
        open_store: OpenStore,
        clock: IReactorTime,
        bus: Bus,
    ) -> None:
        self._management = management
        self._open_store = open_store
        self._clock = clock
        self._bus = bus
        self._opened: dict[str, OpenedStore] = {}
        self._opening: dict[str, list[Deferred[None]]] = {}
        self._rests: dict[str, float] = {}
        self._under_way: set[Deferred[None]] = set()
        self._is_running = False

    @property
    def names(self) -> list[str]:
        """The pools that were used: those that are open, and those that failed."""
        return [*self._opened, *self._rests]

    async def take(self, name: str) -> OpenedStore:
        """The store of a pool, to be given back after one call.

        :raise NoPool: there is no such pool.
        :raise StoreUnavailable: it cannot be opened now.
        """
        opened = self._opened.get(name)
        if opened is not None and not self._bus.holds(opened.basis):
            opened = None
        while opened is None:
            await self._opening_of(name)
            opened = self._opened.get(name)
        opened.calls += 1
        return opened

    def give_back(self, opened: OpenedStore) -> None:
        """The call is over."""
        opened.calls -= 1
        if opened.is_forgotten and not opened.calls:
            self._close(opened.store)

    def forget(self, name: str) -> None:
        """Open a pool anew when it is needed; its store is closed after its calls.

        Other processes look whether they have to.
        """
        self._bus.changed(_slot(name))
        self._rests.pop(name, None)
        self._opening.pop(name, None)
        self._let_go(name)

    def _let_go(self, name: str) -> None:
        opened = self._opened.pop(name, None)
        if opened is not None:
            opened.is_forgotten = True
            if not opened.calls:
                self._close(opened.store)

    def start(self) -> None:
        """Begin to open what is asked for."""
        self._is_running = True

    async def stop(self) -> None:
        """Close all stores; fires when the last one is closed."""
        self._is_running = False
        self._opening.clear()
        self._rests.clear()
        while self._opened:
            self._close(self._opened.popitem()[1].store)
        while self._under_way:
            await _end_of(next(iter(self._under_way)))

    def _opening_of(self, name: str) -> Deferred[None]:
        """Fires when the opening that is under way is over, or one that begins now."""
        waiter: Deferred[None] = Deferred()
        if name in self._opening:
            self._opening[name].append(waiter)
        else:
            waiters = self._opening[name] = [waiter]
            opening = Deferred.fromCoroutine(self._open(name, waiters))
            self._watch(opening.addBoth(self._opening_is_over, name, waiters))
        return waiter

    async def _open(self, name: str, waiters: list[Deferred[None]]) -> None:
        if not self._is_running or self._clock.seconds() < self._rests.get(name, 0):
            raise StoreUnavailable()
        basis = self._bus.basis(_slot(name))
        pool = await self._management.pool(name)
        if pool is None:
            self._let_go(name)
            raise NoPool("The pool of this queue or topic does not exist any more.")
        opened = self._opened.get(name)
        if opened is not None and _is_same_store(opened.pool, pool):
            opened.pool, opened.basis = pool, basis
        else:
            await self._open_anew(pool, basis, waiters)

    async def _open_anew(
        self, pool: Pool, basis: Basis, waiters: list[Deferred[None]]
    ) -> None:
        name = pool.name
        self._let_go(name)
        try:
            store = await self._open_store(pool.uri, pool.options)
        except StoreOpenError as error:
            if self._opening.get(name) is waiters:
                self._rest(name, error)
            raise StoreUnavailable() from error
        store.startService()
        # Whoever forgot the pool meanwhile has made its URI old.
        if self._opening.get(name) is waiters:
            self._rests.pop(name, None)
            self._opened[name] = OpenedStore(store, pool, basis)
        else:
            self._close(store)

    def _rest(self, name: str, error: StoreOpenError) -> None:
        self._rests[name] = self._clock.seconds() + REST_SECONDS
        self.log.error(
            "Pool {name} cannot be opened, not tried again for {rest} s: {error}",
            name=name,
            rest=REST_SECONDS,
            error=error,
        )

    def _opening_is_over(
        self, result: Failure | None, name: str, waiters: list[Deferred[None]]
    ) -> None:
        if self._opening.get(name) is waiters:
            del self._opening[name]
        for waiter in waiters:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)

    def _close(self, store: IMessageStore) -> None:
        closing = maybeDeferred(store.stopService)
        self._watch(closing.addErrback(self._closing_failed))

    def _closing_failed(self, failure: Failure) -> None:
        self.log.failure("The store of a pool could not be closed", failure)

    def _watch(self, step: Deferred[None]) -> None:
        """Let :meth:`stop` wait for a step."""
        self._under_way.add(step)
        step.addBoth(lambda _: self._under_way.discard(step))


def _slot(name: str) -> int:
    return slot_of("pool", name)


def _is_same_store(one: Pool, other: Pool) -> bool:
    return one.uri == other.uri and one.options == other.options


def _end_of(step: Deferred[None]) -> Deferred[None]:
    """Fires when a step that fails never is over; others may wait for it too."""
    over: Deferred[None] = Deferred()
    step.addBoth(over.callback)
    return over
