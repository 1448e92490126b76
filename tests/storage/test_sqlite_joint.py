"""Posts, claims and deletes done together by the embedded store, and one by one.

Without threads: each way has a file of its own, which the other one's is compared with.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.model import Claimed, DeadLetterRule, Destination, Kind, NewMessage
from mqsvc.storage.messages.sqlite import prepare
from mqsvc.storage.messages.sqlite_jobs import Deletion, Wanted, claim, delete
from mqsvc.storage.messages.sqlite_posting import Post, post
from mqsvc.storage.sqlite import Joint, connect
from tests.storage.contract import ORDERS, RETURNS, START

OUTBOX = Destination(ORDERS.project, Kind.OUTBOX, "outbox")

LATER = START + 10_000
"""When the first claims are over, and no sweep has seen it."""

Way = Callable[[sqlite3.Connection, Joint[Any, Any], Sequence[Any]], list[Any]]


def together(
    connection: sqlite3.Connection, job: Joint[Any, Any], items: Sequence[Any]
) -> list[Any]:
    """One job for all items."""
    return list(job(connection, items))


def one_by_one(
    connection: sqlite3.Connection, job: Joint[Any, Any], items: Sequence[Any]
) -> list[Any]:
    """A job for each item."""
    return [result for item in items for result in job(connection, [item])]


class JointTests(SynchronousTestCase):
    """Neither answers nor the file tell whether items were one job."""

    def begin(self, way: Way) -> None:
        """Go on with an empty file."""
        path = self.mktemp()
        prepare(path)
        self.connection = connect(path)
        self.addCleanup(self.connection.close)
        self.way = way
        self.numbers = count(1)

    def post(self, now: int, *posts: tuple[str, list[tuple[Destination, int]]]) -> Any:
        """Post, for each client, so many messages to destinations in one step."""
        return self.way(
            self.connection,
            post,
            [
                Post([self.part(*part) for part in parts], client, now + moment)
                for moment, (client, parts) in enumerate(posts)
            ],
        )

    def part(
        self, destination: Destination, size: int
    ) -> tuple[Destination, list[NewMessage], list[int]]:
        """Messages that each have a body, a size and an id of their own."""
        randoms = [next(self.numbers) for _ in range(size)]
        messages = [NewMessage(b"1" * n, 60 + n, 5 * (n % 7 == 0)) for n in randoms]
        return destination, messages, randoms

    def claim(
        self,
        now: int,
        *claims: tuple[Destination, int, int],
        rule: DeadLetterRule | None = None,
    ) -> list[Claimed]:
        """Claim, from each destination for so many seconds so many messages.

        A rule is for all but the first claim.
        """
        return self.way(
            self.connection,
            claim,
            [
                Wanted(
                    *(destination, f"claim {next(self.numbers)}", ttl, 60, limit, now),
                    *(rule if place else None, lambda _: next(self.numbers)),
                )
                for place, (destination, ttl, limit) in enumerate(claims)
            ],
        )

    def delete(
        self, now: int, *deletions: tuple[Destination, Claimed, list[str]]
    ) -> list[str]:
        """Delete from destinations what claims hold, under claims; how each went."""
        refusals = self.way(
            self.connection,
            delete,
            [
                Deletion(place, [each.id for each in lent.claim.messages], now, under)
                for place, lent, under in deletions
                if lent.claim is not None
            ],
        )
        return [type(each).__name__ for each in refusals]

    def play(self, way: Way) -> list[Any]:
        """What is answered in such a history, and what is left of it in the file."""
        self.begin(way)
        alice, bob = "alice", "bob"
        answers: list[list[Any]] = [
            self.post(
                START,
                *((alice, [(ORDERS, 3)]), (bob, [(ORDERS, 1)])),
                *((bob, [(ORDERS, 2), (OUTBOX, 2)]), (alice, [(RETURNS, 1)])),
                *((alice, [(ORDERS, 20)]), (bob, [(OUTBOX, 1)])),
            ),
            self.claim(START + 5, (ORDERS, 1, 2), (ORDERS, 3, 1), (RETURNS, 900, 9)),
            self.claim(
                LATER,
                *((ORDERS, 60, 1), (ORDERS, 60, 1), (ORDERS, 900, 4), (RETURNS, 60, 9)),
                *((ORDERS, 30, 3), (ORDERS, 60, 99), (ORDERS, 60, 1)),
                rule=DeadLetterRule(RETURNS, 1, ttl=7200),
            ),
            self.post(LATER, (bob, [(RETURNS, 1)]), (alice, [(RETURNS, 1)])),
        ]
        *_, last, _ = answers
        answers.append(
            self.delete(
                LATER,
                *((ORDERS, last[0], [last[0].claim.id]), (ORDERS, last[2], [])),
                *((ORDERS, last[2], ["claim of nobody"]), (ORDERS, last[3], ["x"])),
                *((RETURNS, last[3], [last[3].claim.id]), (RETURNS, last[3], [])),
            )
        )
        return [*answers, *map(self.rows, ("destinations", "messages", "claims"))]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """All there is in a table."""
        return self.connection.execute(f"SELECT * FROM {table}").fetchall()

    def test_same(self) -> None:
        """Done together and done one by one they answer and leave the same."""
        self.assertEqual(self.play(one_by_one), self.play(together))

    def test_everything_comes_about(self) -> None:
        """Messages are moved, handed out and deleted, and some deletes are refused."""
        _, _, claims, _, deletes, *_ = self.play(together)
        self.assertEqual([0, 1, 1, 0, 0, 0, 0], [each.dead_lettered for each in claims])
        lent = [each.claim and len(each.claim.messages) for each in claims]
        self.assertEqual([1, None, 3, 2, 3, 17, None], lent)
        done, *forbidden = "NoneType", "MessageIsClaimed", "MessageNotClaimed"
        self.assertEqual([done, *forbidden, done, done, done], deletes)
