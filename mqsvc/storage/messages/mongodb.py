"""The MongoDB message store: a stand-alone server or a replica set.

What is atomic, and why, is in :mod:`~mqsvc.storage.messages.mongodb_ledger`; here each
method becomes a look or a step there, within a bounded time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from random import SystemRandom
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessagingError,
    StoreUnavailable,
)
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Selection,
    Stats,
)
from mqsvc.storage.ids import RANDOM_BITS, RandomBits
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages import mongodb_steps as steps
from mqsvc.storage.messages.mongodb_client import (
    Connection,
    MongoClient,
    MongoSettings,
)
from mqsvc.storage.messages.mongodb_ledger import Ledger, Plan
from mqsvc.storage.messages.mongodb_notes import Step, View
from mqsvc.storage.messages.mongodb_schema import INDEXES
from mqsvc.storage.messages.mongodb_sweep import Sweep

Result = TypeVar("Result")

TIMEOUT = 10
"""Seconds after which a call fails that the server has not answered."""


def open_mongodb_messages(uri: str, reactor: IReactorTime) -> MongoMessageStore:
    """A store on a server or replica set that is ready to be started.

    :param uri: ``mongodb://[user:password@]host[:port][,host...]/database[?options]``.
    :raise StoreOpenError: the URI cannot be used; the text says why. Whether a server
        answers only shows when the store is used.
    """
    client = MongoClient(MongoSettings(uri), INDEXES)
    return MongoMessageStore(client, reactor, SystemRandom().getrandbits)


@implementer(IMessageStore)
class MongoMessageStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IMessageStore`.

    :param clock: for pauses and for the time that a call may take.
    :param random_bits: where the unguessable part of ids comes from.
    """

    name = "messages"
    log = Logger()

    def __init__(
        self, client: MongoClient, clock: IReactorTime, random_bits: RandomBits
    ) -> None:
        self._client = client
        self._clock = clock
        self._random_bits = random_bits
        self._ledger = Ledger(client, clock, lambda: random_bits(16) / 2**16)
        self._underway: set[Deferred[Any]] = set()

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()
        self._client.start()

    def stopService(self) -> Deferred[None]:
        """Fires when everything asked for is done and the connections are closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await DeferredList(list(self._underway))
        await self._client.stop()

    def _call(
        self, attempt: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Deferred[Result]:
        """Make attempts for a bounded time; a caller that gives up stops nothing."""
        if not self.running:
            return fail(StoreUnavailable())
        running = Deferred.fromCoroutine(self._answered(attempt))
        self._underway.add(running)
        running.addTimeout(TIMEOUT, self._clock)
        running.addBoth(self._over, running)
        answer: Deferred[Result] = Deferred()
        running.chainDeferred(answer)
        return answer

    def _over(self, result: Result, running: Deferred[Result]) -> Result:
        self._underway.discard(running)
        return result

    async def _answered(
        self, attempt: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        try:
            return await self._ledger.retried(attempt)
        except MessagingError:
            raise
        except CancelledError as error:
            self.log.warn("MongoDB did not answer within {s} s", s=TIMEOUT)
            raise StoreUnavailable from error
        except Exception as error:
            self.log.failure("MongoDB refused a command")
            raise StoreUnavailable from error

    def _look(
        self,
        destination: Destination,
        question: Callable[[Connection, View], Awaitable[Result]],
        nothing: Result,
    ) -> Deferred[Result]:
        return self._call(lambda: self._ledger.look(destination, question, nothing))

    def _change(
        self, destination: Destination, plan: Plan, now: int, *, create: bool = False
    ) -> Deferred[Any]:
        return self._call(
            lambda: self._ledger.change(destination, plan, now, create=create)
        )

    def ping(self) -> Deferred[None]:
        """See :class:`IMessageStore`, as for every method below."""
        return self._call(self._ping)

    async def _ping(self) -> None:
        connection = await self._client.connection()
        await connection.command("ping", 1)

    def sweep(self, now: int) -> Deferred[bool]:
        """Correct and delete a bounded amount."""
        return self._call(Sweep(self._client, self._ledger, now).run)

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
    ) -> Deferred[list[str]]:
        """Append messages."""
        randoms = [self._random_bits(RANDOM_BITS) for _ in messages]

        async def plan(_: Connection, view: View) -> Step:
            return steps.post(view, messages, client_id, now, randoms)

        return self._change(destination, plan, now, create=True)

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""

        async def question(connection: Connection, view: View) -> list[Message]:
            rows = await queries.page(connection, view.owner, selection, now)
            return queries.messages_of(rows)

        return self._look(destination, question, [])

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""

        async def question(connection: Connection, view: View) -> list[Message]:
            rows = await queries.by_id(connection, view.owner, message_ids, now)
            return queries.messages_of(rows)

        return self._look(destination, question, [])

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        return self._change(
            destination,
            lambda c, v: steps.delete(c, v, message_ids, now, claim_ids),
            now,
        )

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete."""
        popped = self._change(
            destination, lambda c, v: steps.pop(c, v, limit, now), now
        )
        return popped.addCallback(lambda messages: messages or [])

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend messages."""
        term = steps.Term(ttl, grace, now)
        claimed = self._change(
            destination,
            lambda c, v: steps.claim(c, v, term, limit, dead_letter, self._random_bits),
            now,
        )
        return claimed.addCallback(lambda result: result or Claimed(None))

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""

        async def question(connection: Connection, view: View) -> Claim | None:
            found = await queries.live_claims(connection, view.owner, [claim_id], now)
            if not found:
                return None
            rows = await queries.by_claim(connection, view.owner, claim_id, now)
            messages = tuple(queries.messages_of(rows))
            return Claim(claim_id, found[0]["ttl"], found[0]["created"], messages)

        return self._look(destination, question, None).addCallback(_existing)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Move the end of a claim."""
        term = steps.Term(ttl, grace, now)
        renewed = self._change(
            destination, lambda c, v: steps.renew(c, v, claim_id, term), now
        )
        return renewed.addCallback(_existing).addCallback(lambda _: None)

    def release(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[None]:
        """End a claim."""
        return self._change(
            destination, lambda c, v: steps.release(c, v, claim_id, now), now
        )

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Counts and ends."""

        async def question(connection: Connection, view: View) -> Stats:
            expired, freed = await queries.unswept(connection, view.owner, now)
            oldest, newest = await queries.ends(connection, view.owner, now)
            claimed = view.claimed - freed
            return Stats(claimed, view.total - expired - claimed, oldest, newest)

        return self._look(destination, question, Stats())

    def clear(self, destination: Destination) -> Deferred[None]:
        """Forget everything of a destination; sweeps delete it."""

        async def plan(_: Connection, __: View) -> Step:
            return Step(forget=True)

        # Nothing is stored, so no moment is needed.
        return self._change(destination, plan, 0)

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """The next end of a delay or claim."""
        return self._look(
            destination, lambda c, v: queries.next_ready(c, v.owner, now), None
        )


def _existing(found: Result | None) -> Result:
    if found is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    return found
