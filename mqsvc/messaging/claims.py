"""Claims: messages lent to one worker for a while (rest.md 5.19 to 5.22)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from attrs import frozen
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqsvc.bus import Bus
from mqsvc.clock import Now
from mqsvc.messaging import checks
from mqsvc.messaging.dead_letters import DeadLetters
from mqsvc.messaging.limits import MIN_TTL, Limits
from mqsvc.messaging.model import Claim, Claimed, DeadLetterRule, Destination
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.records import Known, Records
from mqsvc.messaging.shield import shielded, to_its_end, unheard
from mqsvc.messaging.waiting import MAX_WAIT, Waiting
from mqsvc.storage.interfaces import IMessageStore

_MAX_ROUNDS = 20
"""How often one look goes on when all it found was moved to the dead-letter queue."""


class _Terms(Struct, frozen=True):
    """How long a claim lasts, and its messages after it; both in seconds."""

    ttl: int
    grace: int


@frozen
class Claims:
    """Operations on the claims of a queue."""

    _store: IMessageStore
    _records: Records
    _waiting: Waiting
    _bus: Bus
    _limits: Limits
    _now: Now
    _occupancy: Occupancy
    _dead_letters: DeadLetters

    log = Logger()

    async def create(
        self, destination: Destination, document: Any, limit: int | None, wait: int = 0
    ) -> Claim | None:
        """Claim the oldest free messages.

        :param document: an object with ``ttl`` and ``grace``, or none; what is missing
            or null takes the configured default.
        :param limit: at most so many messages.
        :param wait: seconds to hold on while there is none, 0 to 20.
        :return: the claim, or none when there was nothing to claim.
        :raise InvalidRequest: a number is out of bounds.
        """
        terms = self._terms({} if document is None else document)
        size = checks.page_size(limit, self._limits.max_messages_per_claim_or_pop)
        checks.integer(wait, "wait", 0, MAX_WAIT)

        async def attempt() -> tuple[Claim, ...]:
            # Who leaves while the rules are read claims nothing.
            if self._records.recall(destination) is None:
                await self._records.ask(destination)
            # Who leaves later gives back what was claimed.
            claiming = self._claim(destination, terms, size)
            return await to_its_end(claiming, partial(self._undo, destination))

        claims = await self._waiting.in_turn(destination, attempt, wait)
        return claims[0] if claims else None

    def _terms(self, document: Any) -> _Terms:
        document = checks.mapping(document, "The body")
        limits = self._limits
        return _Terms(
            _seconds(document, "ttl", limits.default_claim_ttl, limits.max_claim_ttl),
            _seconds(
                document, "grace", limits.default_claim_grace, limits.max_claim_grace
            ),
        )

    def _undo(
        self, destination: Destination, claiming: Deferred[tuple[Claim, ...]]
    ) -> None:
        """Give back what is claimed for somebody who has hung up."""

        def give_back(claims: tuple[Claim, ...]) -> Deferred[None]:
            return Deferred.fromCoroutine(self._give_back(destination, *claims))

        # Where nothing was claimed, for whatever reason, there is nothing to do.
        undone = claiming.addCallbacks(give_back, unheard)
        undone.addErrback(lambda f: self.log.failure("A claim was left alone", f))

    async def _claim(
        self, destination: Destination, terms: _Terms, limit: int
    ) -> tuple[Claim, ...]:
        records = self._records
        for _ in range(_MAX_ROUNDS):
            known = records.recall(destination) or await records.ask(destination)
            rule = known.rules.dead_letter
            if rule is None:
                claimed = await self._take(destination, terms, limit)
            else:
                claimed = await self._claim_by_rule(destination, terms, limit, rule)
            if claimed.claim is not None:
                return (claimed.claim,)
            # Where everything found was moved away, there may be more behind it.
            if not claimed.dead_lettered:
                return ()
        # Others may have their turn; who waits looks again at once.
        self._bus.publish(destination)
        return ()

    async def _claim_by_rule(
        self, destination: Destination, terms: _Terms, limit: int, rule: DeadLetterRule
    ) -> Claimed:
        # Where the target lives must hold until its messages are there.
        async with self._occupancy.shared(rule.target):
            there = await self._records.know(rule.target)
            if not await self._dead_letters.are_apart(destination, there):
                return await self._move_and_take(destination, terms, limit, rule, there)
        return await self._take_and_carry(destination, terms, limit, rule)

    def _take(
        self,
        destination: Destination,
        terms: _Terms,
        limit: int,
        rule: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        return self._store.claim(
            destination, terms.ttl, terms.grace, limit, self._now(), rule
        )

    async def _move_and_take(
        self,
        destination: Destination,
        terms: _Terms,
        limit: int,
        rule: DeadLetterRule,
        there: Known,
    ) -> Claimed:
        """Let the store move what is worn out in the same step as the claim.

        :param there: what was known of the target before.
        """
        claimed = await self._take(destination, terms, limit, rule)
        try:
            await self._announce(rule.target, there, claimed.dead_lettered)
        except Exception:
            if claimed.claim is not None:
                await self._give_back(destination, claimed.claim)
            raise
        return claimed

    async def _take_and_carry(
        self, destination: Destination, terms: _Terms, limit: int, rule: DeadLetterRule
    ) -> Claimed:
        """Move what is worn out after the claim, where the store cannot do it."""
        claimed = await self._take(destination, terms, limit)
        claim = claimed.claim
        if claim is None:
            return claimed
        try:
            carried = await self._dead_letters.carry(destination, claim, rule)
        except Exception:
            await self._give_back(destination, claim)
            raise
        if carried.claim is None:
            await self._give_back(destination, claim)
        return carried

    async def _announce(self, target: Destination, there: Known, arrived: int) -> None:
        """Make the record of a dead-letter queue that has messages, and signal.

        Messages are moved before the record is made. Where that failed, or the process
        died in between, a later claim finds it missing and makes up for it.
        """
        if not there.exists:
            arrived = arrived or (await self._store.stats(target, self._now())).total
        if arrived:
            await self._records.ensure_still(target, there)
            self._bus.publish(target)

    async def _give_back(self, destination: Destination, *claims: Claim) -> None:
        """Release what nobody will ever know of; it was no delivery."""
        for claim in claims:
            await self._release(destination, claim.id, undelivered=True)

    async def get(self, destination: Destination, claim_id: str) -> Claim:
        """A live claim.

        :raise ClaimDoesNotExist: it is unknown or over.
        """
        return await self._store.get_claim(destination, claim_id, self._now())

    async def renew(
        self, destination: Destination, claim_id: str, document: Any
    ) -> None:
        """Let a live claim begin anew, with these terms.

        :param document: as for :meth:`create`.
        :raise InvalidRequest: a number is out of bounds.
        :raise ClaimDoesNotExist: it is unknown or over.
        """
        terms = self._terms(document)
        step = self._store.renew(
            destination, claim_id, terms.ttl, terms.grace, self._now()
        )
        # It may end sooner than those who wait for its messages expect.
        await shielded(step.addCallback(self._signal, destination))

    async def release(self, destination: Destination, claim_id: str) -> None:
        """Free the messages of a claim; an unknown one is no error."""
        await self._release(destination, claim_id, undelivered=False)

    async def _release(
        self, destination: Destination, claim_id: str, undelivered: bool
    ) -> None:
        step = self._store.release(destination, claim_id, self._now(), undelivered)
        await shielded(step.addCallback(self._signal, destination))

    def _signal(self, _: None, destination: Destination) -> None:
        """Done also for those who hung up: others wait for what they freed."""
        self._bus.publish(destination)


def _seconds(document: Mapping[str, Any], name: str, default: int, maximum: int) -> int:
    value = document.get(name)
    return default if value is None else checks.integer(value, name, MIN_TTL, maximum)
