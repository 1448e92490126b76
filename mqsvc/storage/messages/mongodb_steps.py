"""Steps of the MongoDB message store that are taken alone: they concern one claim."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb_commands import Connection
from mqsvc.storage.messages.mongodb_notes import Step, View
from mqsvc.storage.messages.mongodb_queries import Row
from mqsvc.storage.messages.mongodb_schema import READY

Changes = list[tuple[list[Any], dict[str, Any]]]


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


def same_together(changes: Iterable[tuple[Row, dict[str, Any]]]) -> Changes:
    """The changes of messages, those that become alike as one."""
    alike: defaultdict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row, to in changes:
        alike[tuple(sorted(to.items()))].append(row["_id"])
    return [(ids, dict(to)) for to, ids in alike.items()]


async def renew(connection: Connection, view: View, claim_id: str, term: Term) -> Step:
    """Move the end of a live claim."""
    claim, rows = await queries.claim_and_rows(connection, view, claim_id, term.now)
    if claim is None:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    return Step(
        True,
        sets=same_together(
            (row, {"ready": term.ends, **term.life_of(row)}) for row in rows
        ),
        set_claim=(claim_id, term.claim()),
        lasting=term.ends,
    )


async def release(
    connection: Connection, view: View, claim_id: str, now: int, undelivered: bool
) -> Step:
    """End a claim; one that was not delivered does not count."""
    claim, rows = await queries.claim_and_rows(connection, view, claim_id, now)
    if claim is None:
        return Step()
    freed = {"state": READY, "ready": 0, "claim": None}
    return Step(
        sets=same_together(
            (row, {**freed, "count": row["count"] - undelivered}) for row in rows
        ),
        claimed=-len(rows),
        gone_claim=claim_id,
    )
