"""Real stores without threads, and a way to get between a store and its caller."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from sqlalchemy import Engine
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.quotas import QuotaLimits, Quotas
from mqsvc.storage.management.sql import SQLManagementStore
from mqsvc.storage.management.sql_dialects import make_engine
from mqsvc.storage.management.sql_migrations import MIGRATIONS, migrate
from mqsvc.storage.messages.sqlite import SQLiteMessageStore, prepare
from tests.storage.inline import InlineWorker


def open_messages(case: SynchronousTestCase) -> SQLiteMessageStore:
    """The embedded message store on a file of the test, answering at once."""
    path = case.mktemp()
    prepare(path)
    worker = InlineWorker(path)
    worker.start()
    case.addCleanup(worker.stop)
    return SQLiteMessageStore(worker, worker, Random(0).getrandbits)


def open_management(case: SynchronousTestCase) -> SQLManagementStore:
    """The embedded management store on a file of the test, answering at once."""
    engine = make_engine(f"sqlite:///{case.mktemp()}", 1)
    case.addCleanup(engine.dispose)
    migrate(engine, MIGRATIONS)
    return SQLManagementStore(InlineTransactions(engine), Random(0).getrandbits)


def unlimited(management: Any) -> Quotas:
    """Quotas that bound nothing."""
    return Quotas(QuotaLimits(), management, Clock())


class InlineTransactions:
    """Transactions that run in the thread of the caller.

    Takes the place of :class:`~mqsvc.storage.management.sql_transactions.Transactions`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        raw = engine.raw_connection()
        # Whoever runs inline survives no power cut and need not wait for one.
        raw.cursor().execute("PRAGMA synchronous = OFF")
        raw.close()

    def read(self, step: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Fires with what a step returns, or fails with what it raises."""
        return execute(self._transact, step, args)

    write = read

    def _transact(self, step: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with self._engine.begin() as connection:
            return step(connection, *args)


class Watched:
    """Stands between a store and its callers: notes calls, delays and breaks them.

    :ivar calls: the names of the methods called so far.
    :ivar broken: the methods that fail with
        :class:`~mqsvc.messaging.errors.StoreUnavailable`.
    """

    def __init__(self, store: Any) -> None:
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self._store = store
        self._detours: dict[str, Callable[[Callable[[], Any]], Deferred[Any]]] = {}

    def hold_call(self, name: str) -> Deferred[None]:
        """Let the next call of a method begin only when the result fires.

        When the result fails, so does the call.
        """
        gate: Deferred[None] = Deferred()

        def detour(call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
            answer: Deferred[Any] = Deferred()
            gate.addCallback(lambda _: call().chainDeferred(answer))
            gate.addErrback(answer.errback)
            return answer

        self._detours[name] = detour
        return gate

    def hold_answer(self, name: str) -> Deferred[None]:
        """Do the next call of a method at once, and answer when the result fires.

        When the result fails, so does the call, although it was done.
        """
        gate: Deferred[None] = Deferred()

        def detour(call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
            outcome, answer = call(), Deferred[Any]()
            gate.addCallback(lambda _: outcome.chainDeferred(answer))
            gate.addErrback(answer.errback)
            return answer

        self._detours[name] = detour
        return gate

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            self.calls.append(name)
            if name in self.broken:
                return fail(StoreUnavailable())
            detour = self._detours.pop(name, None)
            if detour is None:
                return method(*args, **kwargs)
            return detour(lambda: method(*args, **kwargs))

        return call
