"""Parts of steps of the MongoDB message store: many callers share one step.

A group of parts is planned on what one look found: first what deletes, then what
takes, then what appends, each part on what those before it left. One that is refused
leaves nothing in the step, and the others do not notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

from attrs import Factory, define, field

from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.model import DeadLetterRule, Destination
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb_commands import Connection, together
from mqsvc.storage.messages.mongodb_notes import (
    Document,
    Move,
    Parcel,
    Step,
    View,
    bytes_of,
)
from mqsvc.storage.messages.mongodb_queries import Row
from mqsvc.storage.messages.mongodb_schema import CLAIMED, MESSAGES
from mqsvc.storage.messages.mongodb_steps import Term, same_together


class Shortage(Exception):
    """A part would have found more if it had looked alone."""


@define
class Draft:
    """A step that is being planned, and what is left for the next part.

    :ivar existing: messages asked for by id.
    :ivar claims: when the claims asked for end.
    :ivar free: what can be taken.
    :ivar is_all: whether there is nothing else to take.
    """

    view: View
    existing: dict[tuple[int, int], Row]
    claims: dict[str, int]
    free: list[Row]
    is_all: bool
    step: Step = Factory(Step)
    changes: list[tuple[Row, Document]] = Factory(list)
    gone: set[Any] = Factory(set)

    @property
    def next(self) -> int:
        """The position of the next message."""
        return self.view.next + len(self.step.messages)

    def append(self, rows: Sequence[Document], client: str | None) -> None:
        """Put messages at the end; their positions are set."""
        step = self.step
        last = (step.client, step.run) if step.messages else self._last
        goes_on = client is not None and last[0] == client
        step.client, step.run = client, last[1] if goes_on else self.next
        for position, row in enumerate(rows, self.next):
            row |= {"owner": self.view.owner, "position": position}
            row |= {"client": client, "run": step.run}
        step.messages += rows
        step.total += len(rows)
        step.bytes += bytes_of(rows)

    def send(
        self, target: Destination, rows: Sequence[Document], client: str | None
    ) -> None:
        """Put messages into the parcel for the end of another destination.

        They have their places in the parcel, until it has one itself.
        """
        parcel = self.step.sent.setdefault(target, [])
        run = len(parcel)
        if parcel and parcel[-1]["client"] == client:
            run = parcel[-1]["run"]
        for position, row in enumerate(rows, len(parcel)):
            row |= {"owner": self.view.owner, "position": position}
            row |= {"client": client, "run": run}
        parcel += rows

    @property
    def _last(self) -> tuple[str | None, int | None]:
        return self.view.client, self.view.run

    def remove(self, rows: Sequence[Row]) -> None:
        """Delete messages."""
        ids = [row["_id"] for row in rows]
        self.gone.update(ids)
        self.step.gone += ids
        self.step.total -= len(rows)
        self.step.bytes -= bytes_of(rows)
        self.step.claimed -= queries.claimed_states(rows)

    def take(self, limit: int, now: int) -> list[Row]:
        """The oldest messages that are free, which are so for nobody else.

        :raise Shortage: there may be more, which nobody looked at.
        """
        taken: list[Row] = []
        left: list[Row] = []
        for row in self.free:
            fits = len(taken) < limit and queries.is_free(row, now)
            if row["_id"] not in self.gone:
                (taken if fits else left).append(row)
        if len(taken) < limit and not self.is_all:
            raise Shortage
        self.free = left
        return taken

    def lend(self, rows: Sequence[Row], term: Term, claim_id: str) -> list[Row]:
        """Put messages under a new claim; gives them as they are then."""
        held = {"state": CLAIMED, "ready": term.ends, "claim": claim_id}
        lent = []
        for row in rows:
            change = {**held, "count": row["count"] + 1, **term.life_of(row)}
            self.changes.append((row, change))
            lent.append({**row, **change})
        claim = {"_id": claim_id, "owner": self.view.owner, "changed": 0}
        self.step.claims.append({**claim, **term.claim()})
        self.step.claimed += len(rows) - queries.claimed_states(rows)
        self.step.lasting = max(self.step.lasting, term.ends)
        return lent

    def move(
        self, rows: Sequence[Row], copies: Sequence[Document], target: Destination
    ) -> None:
        """Take messages to the end of another destination, the same for all parts."""
        self.remove(rows)
        if self.step.move is None:
            self.step.move = Move(target, [])
        self.step.move.messages += copies

    def done(self, outcomes: list[Any]) -> Step:
        """The whole step."""
        self.step.sets = same_together(self.changes)
        self.step.result = outcomes
        return self.step


@define
class Part:
    """What one caller wants of a step.

    :cvar order: parts with a lower one come first.
    :cvar creates: whether it makes the destination if there is none.
    :ivar nothing: the outcome where nothing was ever posted.
    :ivar ids: the messages it asks about.
    :ivar claim_ids: the claims it asks about.
    :ivar limit: how many free messages it would take.
    :ivar rule: where it moves what was handed out often enough.
    :ivar size: bytes of new bodies.
    :ivar parcel: what it brings.
    """

    order: ClassVar[int] = 0
    creates: ClassVar[bool] = False
    now: int
    nothing: Any = field(default=None, init=False)
    ids: Sequence[str] = field(default=(), init=False)
    claim_ids: Collection[str] = field(default=(), init=False)
    limit: int = field(default=0, init=False)
    rule: DeadLetterRule | None = field(default=None, init=False)
    size: int = field(default=0, init=False)
    parcel: Parcel | None = field(default=None, init=False)

    @property
    def messages(self) -> int:
        """How many old messages it may concern."""
        return len(self.ids) + self.limit

    def decide(self, draft: Draft) -> Any:
        """Add to the step, or refuse without having added anything.

        :return: what the caller is told.
        """
        raise NotImplementedError


LATER = object()
"""The outcome of a part that has to be planned alone."""


async def plan(connection: Connection, view: View, parts: Sequence[Part]) -> Step:
    """One step for all; its result is what each caller is told, or its refusal."""
    draft = await _draft(connection, view, parts)
    outcomes: dict[int, Any] = {}
    for number in sorted(range(len(parts)), key=lambda n: parts[n].order):
        try:
            outcomes[number] = parts[number].decide(draft)
        except MessagingError as error:
            outcomes[number] = error
        except Shortage:
            outcomes[number] = LATER
    return draft.done([outcomes[number] for number in range(len(parts))])


async def _draft(connection: Connection, view: View, parts: Sequence[Part]) -> Draft:
    """What the parts ask about, all at once."""
    moments = [part.now for part in parts]
    earliest, latest = min(moments), max(moments)
    ids = [each for part in parts for each in part.ids]
    claim_ids = {each for part in parts for each in part.claim_ids}
    limit = sum(part.limit for part in parts)
    wanted = limit + len(ids) if limit else 0
    rows, claims, free = await together(
        queries.by_id(connection, view, ids, earliest, queries.WITHOUT_BODY),
        queries.live_claims(connection, view, claim_ids, earliest),
        queries.free(connection, view, wanted, earliest, latest),
    )
    return Draft(
        view,
        {(row["position"], row["random"]): row for row in rows},
        {claim["_id"]: claim["expires"] for claim in claims},
        free,
        len(free) < wanted,
    )


async def plan_arrival(
    connection: Connection, view: View, parts: Sequence[Part]
) -> Step:
    """Put parcels at the end, apart from those that came before."""
    wanted = list(dict.fromkeys(part.parcel.batch for part in parts if part.parcel))
    hidden = {"batch": {"$in": wanted}}
    rows = await connection.find(
        MESSAGES, hidden, fields=["batch", "size"], index="hidden"
    )
    counts = Counter(row["batch"] for row in rows)
    step = Step(total=len(rows), bytes=bytes_of(rows), end=view.next)
    for batch in filter(counts.get, wanted):
        step.placed.append((batch, step.end))
        step.end += counts[batch]
    return step


def asks_nothing(parts: Sequence[Part]) -> bool:
    """Whether planning the parts takes no look."""
    return not any(part.messages or part.claim_ids for part in parts)
