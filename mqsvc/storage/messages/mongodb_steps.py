"""What each operation of the MongoDB message store decides: its step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
)
from mqsvc.messaging.model import Claim, Claimed, DeadLetterRule, NewMessage
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, format_id
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb_client import Connection
from mqsvc.storage.messages.mongodb_notes import Move, Step, View
from mqsvc.storage.messages.mongodb_queries import Row
from mqsvc.storage.messages.mongodb_schema import CLAIMED, DELAYED, READY


def post(
    view: View,
    messages: Sequence[NewMessage],
    client_id: str,
    now: int,
    randoms: Sequence[int],
) -> Step:
    """Append messages."""
    run = view.run if view.client == client_id else view.next
    rows = [
        {
            "owner": view.owner,
            "position": position,
            "random": random,
            "state": DELAYED if new.delay else READY,
            "ready": now + new.delay * 1000 if new.delay else 0,
            "expires": now + new.ttl * 1000,
            "created": now,
            "ttl": new.ttl,
            "client": client_id,
            "run": run,
            "claim": None,
            "count": 0,
            "changed": 0,
            "body": new.body,
        }
        for position, new, random in zip(count(view.next), messages, randoms)
    ]
    ids = [format_id(at, random) for at, random in zip(count(view.next), randoms)]
    return Step(ids, messages=rows, total=len(rows), client=client_id, run=run)


def _removal(rows: Sequence[Row], result: Any = None) -> Step:
    return Step(
        result,
        gone=[row["_id"] for row in rows],
        total=-len(rows),
        claimed=-queries.claimed_states(rows),
    )


async def delete(
    connection: Connection,
    view: View,
    message_ids: Sequence[str],
    now: int,
    claim_ids: Collection[str] | None,
) -> Step:
    """Delete messages by id, where ``claim_ids`` allow it."""
    rows = await queries.by_id(connection, view.owner, message_ids, now)
    if claim_ids is not None:
        live = await queries.live_claims(connection, view.owner, claim_ids, now)
        for row in rows:
            _check_claim(queries.claim_at(row, now), claim_ids, bool(live))
    return _removal(rows)


def _check_claim(
    holder: str | None, claim_ids: Collection[str], any_live: bool
) -> None:
    if holder is None:
        if claim_ids:
            raise MessageNotClaimed("The message is not under the claim given.")
    elif holder not in claim_ids:
        if claim_ids and not any_live:
            raise MessageNotClaimed("The claim given does not exist or has ended.")
        raise MessageIsClaimed("The message is claimed: give the claim that holds it.")


async def pop(connection: Connection, view: View, limit: int, now: int) -> Step:
    """Take and delete."""
    rows = await queries.free(connection, view.owner, limit, now)
    return _removal(rows, queries.messages_of(rows))


async def claim(
    connection: Connection,
    view: View,
    term: Term,
    limit: int,
    dead_letter: DeadLetterRule | None,
    random_bits: RandomBits,
) -> Step:
    """Lend the oldest free messages, or move them where they are due."""
    rows = await queries.free(connection, view.owner, limit, term.now)
    dead, kept = _split(rows, dead_letter)
    step = _removal(dead)
    if dead and dead_letter is not None:
        step.move = _move(dead, dead_letter, term.now, random_bits)
    if not kept:
        step.result = Claimed(None, len(dead))
        return step
    claim_id = format_id(term.now * 1000, random_bits(RANDOM_BITS))
    lent = [
        {
            **row,
            **term.life_of(row),
            "state": CLAIMED,
            "ready": term.ends,
            "claim": claim_id,
            "count": row["count"] + 1,
        }
        for row in kept
    ]
    step.sets = [
        _changed(before, after) for before, after in zip(kept, lent, strict=True)
    ]
    step.claim = {"_id": claim_id, "owner": view.owner, "changed": 0, **term.claim()}
    step.claimed += len(kept) - queries.claimed_states(kept)
    step.lasting = term.ends
    shown = tuple(queries.messages_of(lent))
    step.result = Claimed(Claim(claim_id, term.ttl, term.now, shown), len(dead))
    return step


def _changed(before: Row, after: Row) -> tuple[list[Any], dict[str, Any]]:
    differing = {name: after[name] for name in after if after[name] != before[name]}
    return [before["_id"]], differing


def _split(
    rows: list[Row], dead_letter: DeadLetterRule | None
) -> tuple[list[Row], list[Row]]:
    """What is to be moved, and what is to be handed out."""
    if dead_letter is None:
        return [], rows
    bound = dead_letter.max_claim_count
    return (
        [row for row in rows if row["count"] >= bound],
        [row for row in rows if row["count"] < bound],
    )


def _move(
    rows: Sequence[Row], rule: DeadLetterRule, now: int, random_bits: RandomBits
) -> Move:
    """Copies for the end of the dead-letter target."""
    life = {} if rule.ttl is None else {"ttl": rule.ttl}
    if rule.ttl is not None:
        life["expires"] = now + rule.ttl * 1000
    fresh = {"state": READY, "ready": 0, "claim": None, "count": 0, "changed": 0}
    return Move(
        rule.target,
        [{**row, **fresh, **life, "random": random_bits(RANDOM_BITS)} for row in rows],
    )


class Term:
    """From when until when messages are lent.

    :ivar ends: the moment at which the claim is gone.
    """

    def __init__(self, ttl: int, grace: int, now: int) -> None:
        self.ttl = ttl
        self.now = now
        self.ends = now + ttl * 1000
        self._extended = {"ttl": ttl + grace, "expires": self.ends + grace * 1000}

    def claim(self) -> dict[str, int]:
        """The times of the claim."""
        return {"ttl": self.ttl, "created": self.now, "expires": self.ends}

    def life_of(self, row: Row) -> dict[str, int]:
        """A life that the claim outlasts goes on for the grace after it."""
        return self._extended if row["expires"] < self.ends else {}


async def renew(connection: Connection, view: View, claim_id: str, term: Term) -> Step:
    """Move the end of a live claim."""
    if not await queries.live_claims(connection, view.owner, [claim_id], term.now):
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    rows = await queries.by_claim(connection, view.owner, claim_id, term.now)
    return Step(
        True,
        sets=[
            ([row["_id"]], {"ready": term.ends, **term.life_of(row)}) for row in rows
        ],
        set_claim=(claim_id, term.claim()),
        lasting=term.ends,
    )


async def release(connection: Connection, view: View, claim_id: str, now: int) -> Step:
    """End a claim."""
    if not await queries.live_claims(connection, view.owner, [claim_id], now):
        return Step()
    rows = await queries.by_claim(connection, view.owner, claim_id, now)
    ids = [row["_id"] for row in rows]
    return Step(
        sets=[(ids, {"state": READY, "ready": 0, "claim": None})],
        claimed=-len(rows),
        gone_claim=claim_id,
    )
