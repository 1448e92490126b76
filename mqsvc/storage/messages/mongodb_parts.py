"""What callers of the MongoDB message store want that can be one step with others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mqsvc.messaging.errors import (
    MessageIsClaimed,
    MessageNotClaimed,
    StoreUnavailable,
)
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    StoredMessage,
)
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, format_id, parse_id
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb_draft import Draft, Part
from mqsvc.storage.messages.mongodb_notes import Document, Parcel
from mqsvc.storage.messages.mongodb_queries import Row
from mqsvc.storage.messages.mongodb_schema import DELAYED, READY
from mqsvc.storage.messages.mongodb_steps import Term

MAX_BODY_BYTES = 15_500_000
"""A document may have 16 MB, and the rest of it needs a little."""


_UNTOUCHED = {"claim": None, "changed": 0}


class Append(Part):
    """New messages at the end.

    :param rows: what is known of them before they have a place.
    :param client: who posted them, if that is known.
    :param also: where others are to be put in the same step, and these.
    """

    order = 2
    creates = True

    def __init__(
        self,
        rows: Sequence[Document],
        client: str | None,
        now: int,
        also: tuple[Destination, Sequence[Document]] | None = None,
    ) -> None:
        super().__init__(now)
        self._rows = rows
        self._client = client
        self._also = also
        self._sizes = [row["size"] for row in (*rows, *(also[1] if also else ()))]
        self.size = sum(self._sizes)

    @classmethod
    def posted(
        cls,
        messages: Iterable[NewMessage],
        client: str,
        now: int,
        random_bits: RandomBits,
        also: Posting | None = None,
    ) -> Append:
        """Messages that a client posts."""
        rows = _posted(messages, now, random_bits)
        if also is None:
            return cls(rows, client, now)
        others = _posted(also.messages, now, random_bits)
        return cls(rows, client, now, (also.destination, others))

    @classmethod
    def restored(
        cls, messages: Iterable[StoredMessage], now: int, random_bits: RandomBits
    ) -> Append:
        """Messages that another store kept."""
        rows = [
            {
                "random": random_bits(RANDOM_BITS),
                **_delayed_until(stored.delayed_until or 0, now),
                "expires": stored.expires,
                "created": stored.message.created,
                "ttl": stored.message.ttl,
                "count": stored.message.claim_count,
                **_with_size(stored.message.body),
                **_UNTOUCHED,
            }
            for stored in messages
        ]
        return cls(rows, None, now)

    def decide(self, draft: Draft) -> list[str]:
        """Give each its place."""
        if max(self._sizes, default=0) > MAX_BODY_BYTES:
            raise StoreUnavailable(
                "MongoDB cannot keep a message of this size: post it in parts below "
                f"{MAX_BODY_BYTES} bytes."
            )
        rows = [dict(row) for row in self._rows]
        draft.append(rows, self._client)
        if self._also is not None:
            target, others = self._also
            draft.send(target, [dict(row) for row in others], self._client)
        return [format_id(row["position"], row["random"]) for row in rows]


def _posted(
    messages: Iterable[NewMessage], now: int, random_bits: RandomBits
) -> list[Document]:
    return [
        {
            "random": random_bits(RANDOM_BITS),
            **_delayed_until(now + new.delay * 1000, now),
            "expires": now + new.ttl * 1000,
            "created": now,
            "ttl": new.ttl,
            "count": 0,
            **_with_size(new.body),
            **_UNTOUCHED,
        }
        for new in messages
    ]


def _with_size(body: bytes) -> Document:
    return {"body": body, "size": len(body)}


def _delayed_until(moment: int, now: int) -> dict[str, int]:
    if moment > now:
        return {"state": DELAYED, "ready": moment}
    return {"state": READY, "ready": 0}


class Arrive(Part):
    """A parcel is put at the end, if it was not yet."""

    creates = True

    def __init__(self, parcel: Parcel) -> None:
        super().__init__(parcel.at)
        self.parcel = parcel


class Delete(Part):
    """Messages by id, where ``claim_ids`` allow it."""

    def __init__(
        self, ids: Sequence[str], claim_ids: Collection[str] | None, now: int
    ) -> None:
        super().__init__(now)
        self.ids = ids
        self.claim_ids = claim_ids or ()
        self._is_checked = claim_ids is not None

    def decide(self, draft: Draft) -> None:
        """Check all, then delete all."""
        wanted = dict.fromkeys(filter(None, map(parse_id, self.ids)))
        found = [draft.existing[each] for each in wanted if each in draft.existing]
        rows = [
            row
            for row in found
            if row["_id"] not in draft.gone and row["expires"] > self.now
        ]
        if self._is_checked:
            any_live = any(
                draft.claims.get(each, 0) > self.now for each in self.claim_ids
            )
            for row in rows:
                self._check(queries.claim_at(row, self.now), any_live)
        draft.remove(rows)

    def _check(self, holder: str | None, any_live: bool) -> None:
        if holder is None:
            if self.claim_ids:
                raise MessageNotClaimed("The message is not under the claim given.")
        elif holder not in self.claim_ids:
            if self.claim_ids and not any_live:
                raise MessageNotClaimed("The claim given does not exist or has ended.")
            raise MessageIsClaimed(
                "The message is claimed: give the claim that holds it."
            )


class Pop(Part):
    """Take and delete the oldest."""

    order = 1

    def __init__(self, limit: int, now: int) -> None:
        super().__init__(now)
        self.limit = limit
        self.nothing: list[Message] = []

    def decide(self, draft: Draft) -> list[Message]:
        """Take what is there."""
        rows = draft.take(self.limit, self.now)
        draft.remove(rows)
        return queries.messages_of(rows)


class Lend(Part):
    """Put the oldest under a new claim, or move them where they are due."""

    order = 1

    def __init__(
        self,
        term: Term,
        limit: int,
        rule: DeadLetterRule | None,
        random_bits: RandomBits,
    ) -> None:
        super().__init__(term.now)
        self.limit = limit
        self.rule = rule
        self.nothing = Claimed(None)
        self._term = term
        self._random_bits = random_bits

    def decide(self, draft: Draft) -> Claimed:
        """Take what is there."""
        rows = draft.take(self.limit, self.now)
        dead = [row for row in rows if self._is_worn(row)]
        kept = [row for row in rows if not self._is_worn(row)]
        if dead and self.rule is not None:
            draft.move(dead, self._copies(dead, self.rule), self.rule.target)
        if not kept:
            return Claimed(None, len(dead))
        claim_id = format_id(self.now * 1000, self._random_bits(RANDOM_BITS))
        lent = draft.lend(kept, self._term, claim_id)
        shown = tuple(queries.messages_of(lent))
        return Claimed(Claim(claim_id, self._term.ttl, self.now, shown), len(dead))

    def _is_worn(self, row: Row) -> bool:
        return self.rule is not None and row["count"] >= self.rule.max_claim_count

    def _copies(self, rows: Sequence[Row], rule: DeadLetterRule) -> list[Document]:
        """Fresh ones for the end of the target."""
        fresh = {"state": READY, "ready": 0, "claim": None, "count": 0, "changed": 0}
        if rule.ttl is not None:
            fresh |= {"ttl": rule.ttl, "expires": self.now + rule.ttl * 1000}
        return [
            {**row, **fresh, "random": self._random_bits(RANDOM_BITS)} for row in rows
        ]
