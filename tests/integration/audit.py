"""What must hold between what clients saw acknowledged and what a queue holds.

A client that was cut off does not know what happened: an operation without an answer
may have been done or not, and both are right. Everything else is judged. Times are
seconds of one clock on the clients' side: ``sent`` before the request left,
``answered`` after the answer came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import inf

import attrs
from attrs import frozen

# The server counts in whole milliseconds of another clock.
CLOCK_TOLERANCE = 0.1


@frozen
class Posted:
    """A post; each message is known by a text that is its body.

    :ivar ids: what the answer gave, one for each text; empty without an answer.
    """

    producer: str
    texts: tuple[str, ...]
    ids: tuple[str, ...] = ()


@frozen
class Claimed:
    """An answered claim: message ids with their texts."""

    claim: str
    messages: tuple[tuple[str, str], ...]
    sent: float
    answered: float
    ttl: float


@frozen
class Renewed:
    """An answered renewal; one without an answer promises nothing."""

    claim: str
    sent: float
    ttl: float


@frozen
class Released:
    """A release, answered or not: from ``sent`` on the messages may be free."""

    claim: str
    sent: float


@frozen
class Deleted:
    """A deletion; ``answered`` is infinite without an answer."""

    message: str
    answered: float = inf


@frozen
class Listed:
    """A message of the final listing."""

    id: str
    text: str


Event = Posted | Claimed | Renewed | Released | Deleted


class Journal:
    """The events of all clients, by kind."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.posts = [e for e in events if isinstance(e, Posted)]
        self.claims = [e for e in events if isinstance(e, Claimed)]
        self.renewals = [e for e in events if isinstance(e, Renewed)]
        self.releases = [e for e in events if isinstance(e, Released)]
        self.deletions = [e for e in events if isinstance(e, Deleted)]

    def acknowledged(self) -> dict[str, str]:
        """Id to text of every message whose post was answered."""
        return {
            message: text
            for post in self.posts
            for message, text in zip(post.ids, post.texts, strict=bool(post.ids))
        }

    def deletion_answers(self) -> dict[str, float]:
        """Id to the moment by which its deletion was answered, if ever."""
        answers: dict[str, float] = {}
        for deletion in self.deletions:
            earlier = answers.get(deletion.message, inf)
            answers[deletion.message] = min(earlier, deletion.answered)
        return answers


def audit(events: Sequence[Event], listing: Sequence[Listed]) -> list[str]:
    """Everything that is wrong, a sentence each; an empty list is a clean run.

    :param listing: all messages, claimed ones too, in the order they were listed.
    """
    journal = Journal(events)
    return [
        *_lost(journal, listing),
        *_altered(journal, listing),
        *_doubled(listing),
        *_resurrected(journal, listing),
        *_torn(journal, listing),
        *_disordered(journal, listing),
        *_claimed_twice(journal),
    ]


@frozen
class Loss:
    """What went missing with a store that may forget its last changes.

    :ivar posted: messages whose post was answered, and whose deletion was not.
    :ivar gone: how many of those are not there.
    :ivar returned: how many messages are there whose deletion was answered.
    """

    posted: int
    gone: int
    returned: int

    def __str__(self) -> str:
        return f"{self.gone} of {self.posted} lost, {self.returned} deleted ones back"


def loss(events: Sequence[Event], listing: Sequence[Listed]) -> Loss:
    """How much was forgotten."""
    journal, present = Journal(events), {message.id for message in listing}
    tried_to_delete = {deletion.message for deletion in journal.deletions}
    kept = journal.acknowledged().keys() - tried_to_delete
    answers = journal.deletion_answers()
    deleted = {message for message, answered in answers.items() if answered < inf}
    return Loss(len(kept), len(kept - present), len(deleted & present))


def audit_of_forgetful(events: Sequence[Event], listing: Sequence[Listed]) -> list[str]:
    """What is wrong even if the store forgot its last changes.

    It forgets whole changes, the last ones, and makes up nothing: a post is there or
    not, with the bodies that it had, in the order of ids.
    """
    journal = Journal(events)
    claimed = {text for claim in journal.claims for _, text in claim.messages}
    untouched = [
        event
        for event in events
        if isinstance(event, Posted) and claimed.isdisjoint(event.texts)
    ]
    return [
        *_altered(journal, listing),
        *_doubled(listing),
        *_torn(Journal([attrs.evolve(event, ids=()) for event in untouched]), listing),
        *_disordered(Journal([]), listing),
    ]


def _lost(journal: Journal, listing: Sequence[Listed]) -> Iterator[str]:
    present = {message.id for message in listing}
    tried_to_delete = {deletion.message for deletion in journal.deletions}
    for message, text in journal.acknowledged().items():
        if message not in present and message not in tried_to_delete:
            yield f"{text} ({message}) was acknowledged and is lost"


def _altered(journal: Journal, listing: Sequence[Listed]) -> Iterator[str]:
    posted = journal.acknowledged()
    attempted = {text for post in journal.posts for text in post.texts}
    for message in listing:
        if message.text not in attempted:
            yield f"{message.text} ({message.id}) was never posted"
        elif posted.get(message.id, message.text) != message.text:
            yield f"{message.id} was {posted[message.id]}, it became {message.text}"


def _doubled(listing: Sequence[Listed]) -> Iterator[str]:
    for what in ("id", "text"):
        counts = Counter(getattr(message, what) for message in listing)
        for value, count in counts.items():
            if count > 1:
                yield f"{what} {value} is there {count} times"


def _resurrected(journal: Journal, listing: Sequence[Listed]) -> Iterator[str]:
    answers = journal.deletion_answers()
    for message in listing:
        if answers.get(message.id, inf) < inf:
            yield f"{message.text} ({message.id}) was deleted and is there again"
    for claim in journal.claims:
        for message_id, text in claim.messages:
            if answers.get(message_id, inf) < claim.sent:
                yield f"{text} ({message_id}) was deleted and claimed after that"


def _torn(journal: Journal, listing: Sequence[Listed]) -> Iterator[str]:
    """Posts of which only a part was stored.

    What a claim handed out was stored; nothing else can be gone from the listing,
    since to be deleted it had to be claimed first.
    """
    stored = {message.text for message in listing}
    for claim in journal.claims:
        stored.update(text for _, text in claim.messages)
    for post in journal.posts:
        absent = [text for text in post.texts if text not in stored]
        if not post.ids and 0 < len(absent) < len(post.texts):
            yield f"of a post only a part is there, without {absent}"


def _disordered(journal: Journal, listing: Sequence[Listed]) -> Iterator[str]:
    ids_by_producer: dict[str, list[str]] = defaultdict(list)
    for post in journal.posts:
        ids_by_producer[post.producer].extend(post.ids)
    sequences = {**ids_by_producer, "the listing": [m.id for m in listing]}
    for owner, ids in sequences.items():
        for earlier, later in pairwise(ids):
            if earlier >= later:
                yield f"ids of {owner} do not grow: {earlier} came before {later}"


def _claimed_twice(journal: Journal) -> Iterator[str]:
    """Messages under two claims at a moment at which both were surely live.

    A claim surely lives from its answer until it is released or its ttl ends,
    counted from the last answered request that started the ttl.
    """
    ends = _earliest_ends(journal)
    holders: dict[str, list[Claimed]] = defaultdict(list)
    for claim in journal.claims:
        for message_id, _ in claim.messages:
            holders[message_id].append(claim)
    for message_id, claims in holders.items():
        for one, other in combinations(claims, 2):
            both_made = max(one.answered, other.answered)
            if both_made < min(ends[one.claim], ends[other.claim]):
                yield (
                    f"{message_id} was under the claims {one.claim} and "
                    f"{other.claim} at once"
                )


def _earliest_ends(journal: Journal) -> dict[str, float]:
    ends = {
        claim.claim: claim.sent + claim.ttl - CLOCK_TOLERANCE
        for claim in journal.claims
    }
    for renewal in journal.renewals:
        ends[renewal.claim] = renewal.sent + renewal.ttl - CLOCK_TOLERANCE
    for release in journal.releases:
        ends[release.claim] = min(ends[release.claim], release.sent)
    return ends
