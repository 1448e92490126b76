"""Dead letters that a store cannot move in the same step as the claim.

So it is where the target lives in another pool, has no place yet, or is encrypted and
the source is not. The claim is made first; what is worn out is kept at the target, and
deleted at the source once that is durable. A failure in between may leave it in both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import frozen
from msgspec.structs import replace

from mqsvc.bus import Bus
from mqsvc.clock import Now
from mqsvc.messaging.errors import MessageIsClaimed, MessageNotClaimed
from mqsvc.messaging.metadata import Rules
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    StoredMessage,
)
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.records import Known, Records
from mqsvc.storage.ids import RANDOM_BITS, format_id, parse_id
from mqsvc.storage.interfaces import IMessageStore

_NOBODY = ""
"""The poster of what is encrypted on its way: no client is called so."""


@frozen
class DeadLetters:
    """Carries messages from a claim to the dead-letter queue.

    :ivar _can_encrypt: whether the store has a key.
    """

    _store: IMessageStore
    _records: Records
    _occupancy: Occupancy
    _bus: Bus
    _now: Now
    _can_encrypt: bool

    async def are_apart(self, destination: Destination, there: Known) -> bool:
        """Whether a store cannot move messages to a target by itself."""
        here = await self._records.know(destination)
        if self._records.placement is not None and not there.exists:
            # Somebody else may choose its pool meanwhile.
            return True
        must_seal = there.rules.encrypt and not here.rules.encrypt
        return here.pool != there.pool or (must_seal and self._can_encrypt)

    async def carry(
        self, destination: Destination, claim: Claim, rule: DeadLetterRule
    ) -> Claimed:
        """Take what is worn out away from a claim that was made without the rule.

        The claim must be given back when this fails, and when nothing is left of it.

        :return: what is left of the claim, and how much was taken away.
        """
        letters = [m for m in claim.messages if m.claim_count > rule.max_claim_count]
        if not letters:
            return Claimed(claim)
        try:
            await self._carry(destination, claim, letters, rule)
        except (MessageIsClaimed, MessageNotClaimed):
            # It took longer than the claim lasts: others may have the rest by now.
            return Claimed(None, len(letters))
        rest = tuple(m for m in claim.messages if m not in letters)
        return Claimed(replace(claim, messages=rest) if rest else None, len(letters))

    async def _carry(
        self,
        destination: Destination,
        claim: Claim,
        letters: Sequence[Message],
        rule: DeadLetterRule,
    ) -> None:
        stored = [await self._stored(destination, each.id, rule) for each in letters]
        # Who knows their ids may have deleted some.
        found = [each for each in stored if each is not None]
        if found:
            bodies = {letter.id: letter.body for letter in letters}
            async with self._occupancy.shared(rule.target):
                await self._keep(destination, rule.target, found, bodies)
            self._bus.publish(rule.target)
        ids = [letter.id for letter in letters]
        await self._store.delete(destination, ids, self._now(), [claim.id])

    async def _stored(
        self, destination: Destination, message_id: str, rule: DeadLetterRule
    ) -> StoredMessage | None:
        """A message as the target is to keep it; none if it is gone."""
        now = self._now()
        page = await self._store.stored(destination, 1, _just_before(message_id), now)
        if not page or page[0].message.id != message_id:
            return None
        (stored,) = page
        ttl, expires = stored.message.ttl, stored.expires
        if rule.ttl is not None:
            ttl, expires = rule.ttl, now + rule.ttl * 1000
        message = replace(stored.message, ttl=ttl, claim_id=None, claim_count=0)
        return StoredMessage(message, expires)

    async def _keep(
        self,
        source: Destination,
        target: Destination,
        letters: Sequence[StoredMessage],
        bodies: Mapping[str, bytes],
    ) -> None:
        """Append letters to the target, which is made in the pool of the source.

        :param bodies: by id, as clients read them.
        """
        if not (await self._records.know(target)).exists:
            pool = await self._records.pool_of(source)
            await self._records.create_in(pool, target, {})
        known = await self._records.ensure(target)
        await self._store_in(target, letters, bodies, known.rules)
        await self._records.ensure_still(target, known)

    async def _store_in(
        self,
        target: Destination,
        letters: Sequence[StoredMessage],
        bodies: Mapping[str, bytes],
        rules: Rules,
    ) -> None:
        now = self._now()
        if not (rules.encrypt and self._can_encrypt):
            await self._store.restore(target, letters, now)
            return
        sealed = [
            NewMessage(
                body=bodies[letter.message.id],
                ttl=math.ceil((letter.expires - now) / 1000),
                encrypt=True,
            )
            for letter in letters
        ]
        await self._store.post(target, sealed, _NOBODY, now)


def _just_before(message_id: str) -> str:
    """A marker behind which this message is the next one."""
    place = parse_id(message_id)
    if place is None:
        raise AssertionError("stores give out ids that are positions")
    return format_id(place[0] - 1, 2**RANDOM_BITS - 1)
