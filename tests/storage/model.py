"""The plainest statement of what a message store does: lists and linear scans.

:class:`ModelStore` answers at once, by value or by exception; it is what the state
machine compares a driver with. :class:`ModelAsStore` lets the behaviour suite run
over it. Nothing but a sweep throws away because of time: every look filters by ``now``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import wraps
from typing import Any

from attrs import Factory, define, evolve
from msgspec.structs import replace
from twisted.application.service import Service
from twisted.internet.defer import Deferred, execute, fail
from zope.interface import implementer

from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
    MessagingError,
    StoreUnavailable,
)
from mqsvc.messaging.model import (
    NAMEABLE,
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.ids import parse_id
from mqsvc.storage.interfaces import IMessageStore


def position(message_id: str) -> int:
    """The place in its destination's order that an id stands for."""
    parsed = parse_id(message_id)
    if parsed is None:
        raise ValueError(f"{message_id!r} is not a message id")
    return parsed[0]


@define
class Kept:
    """A message with what a store keeps of it and does not show.

    :ivar client_id: the poster; none is nobody that is known.
    """

    message: Message
    client_id: str | None
    expires: int
    ready: int

    @classmethod
    def posted(cls, new: NewMessage, client_id: str, now: int) -> Kept:
        """One that is new."""
        return cls(
            Message("", new.body, new.ttl, now),
            client_id,
            expires=now + new.ttl * 1000,
            ready=now + new.delay * 1000,
        )

    def outlive(self, lease: Lease, grace: int) -> None:
        """Extend a life that would end before the claim does."""
        if self.expires < lease.end:
            self.message = replace(self.message, ttl=lease.ttl + grace)
            self.expires = lease.end + grace * 1000

    def stored(self, now: int) -> StoredMessage:
        """All of it, but for who posted it."""
        delayed_until = self.ready if self.ready > now else None
        return StoredMessage(self.message, self.expires, delayed_until)

    def buried(self, rule: DeadLetterRule, now: int) -> Kept:
        """What becomes of it as a dead letter, apart from its new id."""
        message = replace(self.message, claim_id=None, claim_count=0)
        if rule.ttl is None:
            return evolve(self, message=message)
        message = replace(message, ttl=rule.ttl)
        return evolve(self, message=message, expires=now + rule.ttl * 1000)


@define
class Lease:
    """When a claim was made or renewed, and for how long."""

    ttl: int
    created: int

    @property
    def end(self) -> int:
        """The moment from which it is gone."""
        return self.created + self.ttl * 1000


@define
class Shelf:
    """Everything of one destination: messages oldest first, and claims by id."""

    messages: list[Kept] = Factory(list)
    leases: dict[str, Lease] = Factory(dict)

    def existing(self, now: int) -> list[Kept]:
        """What is not expired, in any state."""
        return [kept for kept in self.messages if kept.expires > now]

    def live(self, claim_id: str | None, now: int) -> bool:
        """Whether there is such a claim and it has not ended."""
        lease = self.leases.get(claim_id or "")
        return lease is not None and lease.end > now

    def claimed(self, kept: Kept, now: int) -> bool:
        """Whether a message is under a live claim."""
        return self.live(kept.message.claim_id, now)

    def claimable(self, now: int) -> list[Kept]:
        """What a worker could be given."""
        return [
            kept
            for kept in self.existing(now)
            if kept.ready <= now and not self.claimed(kept, now)
        ]

    def ends(self, now: int) -> Iterator[int]:
        """When each delay and each claim of a message ends."""
        for kept in self.existing(now):
            if kept.ready > now:
                yield kept.ready
            if self.claimed(kept, now):
                yield self.leases[kept.message.claim_id or ""].end

    def held(self, claim_id: str, now: int) -> list[Kept]:
        """What a live claim holds."""
        if not self.live(claim_id, now):
            raise ClaimDoesNotExist
        return [k for k in self.existing(now) if k.message.claim_id == claim_id]


class ModelStore:
    """:class:`~mqsvc.storage.interfaces.IMessageStore` without Deferreds.

    :param new_message_id: called for each message in the order they are appended;
        its positions must grow.
    :param new_claim_id: called for each claim that is made.
    """

    def __init__(
        self, new_message_id: Callable[[], str], new_claim_id: Callable[[], str]
    ) -> None:
        self._new_message_id = new_message_id
        self._new_claim_id = new_claim_id
        self._shelves: defaultdict[Destination, Shelf] = defaultdict(Shelf)

    def ping(self) -> None:
        """The model always answers."""

    def sweep(self, now: int) -> bool:
        """Free all that expired, which only those notice who count what is kept."""
        for shelf in self._shelves.values():
            shelf.messages = shelf.existing(now)
        return False

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> list[str]:
        """Append in order, first here and then elsewhere."""
        ids = [
            self._append(destination, Kept.posted(new, client_id, now))
            for new in messages
        ]
        if also is not None:
            self.post(also.destination, also.messages, client_id, now)
        return ids

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> list[Message]:
        """Filter, then cut."""
        after = -1
        if selection.after is not None:
            parsed = parse_id(selection.after)
            if parsed is None:
                return []
            after = parsed[0]
        shelf = self._shelves[destination]
        return [
            kept.message
            for kept in shelf.existing(now)
            if position(kept.message.id) > after
            and (
                selection.hide_client is None or kept.client_id != selection.hide_client
            )
            and (selection.include_claimed or not shelf.claimed(kept, now))
            and (selection.include_delayed or kept.ready <= now)
        ][: selection.limit]

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> list[Message]:
        """In the order asked for, each once."""
        return [k.message for k in self._find(destination, message_ids, now)]

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> None:
        """Delete all, or raise one of :meth:`refusals`."""
        for refusal in self.refusals(destination, message_ids, now, claim_ids):
            raise refusal
        shelf = self._shelves[destination]
        for kept in self._find(destination, message_ids, now):
            shelf.messages.remove(kept)

    def refusals(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None,
    ) -> list[type[MessagingError]]:
        """Why a deletion is refused; which reason wins is the store's choice."""
        if claim_ids is None:
            return []
        shelf = self._shelves[destination]
        one_given_is_live = any(shelf.live(given, now) for given in claim_ids)
        refusals: list[type[MessagingError]] = []
        for kept in self._find(destination, message_ids, now):
            claimed = shelf.claimed(kept, now)
            if claimed and kept.message.claim_id not in claim_ids:
                hidden = claim_ids and not one_given_is_live
                refusals.append(MessageNotClaimed if hidden else MessageIsClaimed)
            elif claim_ids and not claimed:
                refusals.append(MessageNotClaimed)
        return refusals

    def pop(self, destination: Destination, limit: int, now: int) -> list[Message]:
        """Take the oldest claimable ones away."""
        shelf = self._shelves[destination]
        taken = shelf.claimable(now)[:limit]
        for kept in taken:
            shelf.messages.remove(kept)
        return [kept.message for kept in taken]

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Claimed:
        """Look at the oldest claimable ones: move the worn-out, lend the others."""
        shelf = self._shelves[destination]
        seen = shelf.claimable(now)[:limit]
        lent = self._without_worn_out(shelf, seen, now, dead_letter)
        moved = len(seen) - len(lent)
        if not lent:
            return Claimed(None, moved)
        claim_id, lease = self._new_claim_id(), Lease(ttl, now)
        shelf.leases[claim_id] = lease
        for kept in lent:
            count = kept.message.claim_count + 1
            kept.message = replace(kept.message, claim_id=claim_id, claim_count=count)
            kept.outlive(lease, grace)
        return Claimed(self.get_claim(destination, claim_id, now), moved)

    def get_claim(self, destination: Destination, claim_id: str, now: int) -> Claim:
        """A live claim with what it still holds."""
        shelf = self._shelves[destination]
        held = tuple(kept.message for kept in shelf.held(claim_id, now))
        lease = shelf.leases[claim_id]
        return Claim(claim_id, lease.ttl, lease.created, held)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> None:
        """Begin the claim anew, from now."""
        shelf = self._shelves[destination]
        held = shelf.held(claim_id, now)
        lease = shelf.leases[claim_id] = Lease(ttl, now)
        for kept in held:
            kept.outlive(lease, grace)

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> None:
        """Forget a live claim; one that ended is left as it is."""
        shelf = self._shelves[destination]
        if not shelf.live(claim_id, now):
            return
        for kept in shelf.held(claim_id, now):
            count = kept.message.claim_count - undelivered
            kept.message = replace(kept.message, claim_id=None, claim_count=count)
        del shelf.leases[claim_id]

    def stats(self, destination: Destination, now: int) -> Stats:
        """Count what exists."""
        shelf = self._shelves[destination]
        existing = shelf.existing(now)
        if not existing:
            return Stats()
        claimed = sum(shelf.claimed(kept, now) for kept in existing)
        free = len(existing) - claimed
        return Stats(claimed, free, existing[0].message, existing[-1].message)

    def clear(self, destination: Destination) -> None:
        """Forget everything of a destination."""
        self._shelves.pop(destination, None)

    def next_ready(self, destination: Destination, now: int) -> int | None:
        """The first end of a delay or a claim that there is a message to free for."""
        return min(self._shelves[destination].ends(now), default=None)

    def stored_bytes(self, project: str) -> int:
        """Weigh what is kept, expired or not."""
        return self.live_bytes(project, now=0)

    def live_bytes(self, project: str, now: int) -> int:
        """Weigh what exists."""
        return sum(
            len(kept.message.body)
            for place, shelf in self._shelves.items()
            if place.project == project and place.kind in NAMEABLE
            for kept in shelf.existing(now)
        )

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> list[StoredMessage]:
        """A page of everything, each with what is not shown of it."""
        everything = Selection(limit, after, include_claimed=True, include_delayed=True)
        page = self.page(destination, everything, now)
        found = self._find(destination, [message.id for message in page], now)
        return [kept.stored(now) for kept in found]

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> list[str]:
        """Append in order what is not expired."""
        return [
            self._append(
                destination,
                Kept(
                    replace(stored.message, claim_id=None),
                    None,
                    expires=stored.expires,
                    ready=stored.delayed_until or now,
                ),
            )
            for stored in messages
            if stored.expires > now
        ]

    def message_ids(self, destination: Destination, now: int) -> list[str]:
        """The ids of all messages that exist."""
        return [k.message.id for k in self._shelves[destination].existing(now)]

    def claim_ids(self, destination: Destination) -> list[str]:
        """The ids of all claims that were not released, live or ended."""
        return list(self._shelves[destination].leases)

    def boundaries(self, now: int) -> list[int]:
        """Every moment still to come at which anything begins or ends."""
        moments = {
            moment
            for shelf in self._shelves.values()
            for kept in shelf.existing(now)
            for moment in (kept.expires, kept.ready)
        } | {
            lease.end
            for shelf in self._shelves.values()
            for lease in shelf.leases.values()
        }
        return sorted(moment for moment in moments if moment > now)

    def _append(self, destination: Destination, kept: Kept) -> str:
        kept.message = replace(kept.message, id=self._new_message_id())
        self._shelves[destination].messages.append(kept)
        return kept.message.id

    def _find(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> list[Kept]:
        by_id = {k.message.id: k for k in self._shelves[destination].existing(now)}
        return [by_id[each] for each in dict.fromkeys(message_ids) if each in by_id]

    def _without_worn_out(
        self, shelf: Shelf, seen: list[Kept], now: int, rule: DeadLetterRule | None
    ) -> list[Kept]:
        if rule is None:
            return seen
        worn_out = [k for k in seen if k.message.claim_count >= rule.max_claim_count]
        for kept in worn_out:
            shelf.messages.remove(kept)
            self._append(rule.target, kept.buried(rule, now))
        return [kept for kept in seen if kept not in worn_out]


def _fires(method: Callable[..., Any]) -> Callable[..., Deferred[Any]]:
    @wraps(method)
    def call(self: ModelAsStore, *args: Any, **kwargs: Any) -> Deferred[Any]:
        if not self.running:
            return fail(StoreUnavailable())
        return execute(method, self.model, *args, **kwargs)

    return call


@implementer(IMessageStore)
class ModelAsStore(Service):
    """A model in the shape of a store: it is started, stopped, and fires."""

    def __init__(self, model: ModelStore) -> None:
        self.model = model

    ping = _fires(ModelStore.ping)
    sweep = _fires(ModelStore.sweep)
    post = _fires(ModelStore.post)
    page = _fires(ModelStore.page)
    get = _fires(ModelStore.get)
    delete = _fires(ModelStore.delete)
    pop = _fires(ModelStore.pop)
    claim = _fires(ModelStore.claim)
    get_claim = _fires(ModelStore.get_claim)
    renew = _fires(ModelStore.renew)
    release = _fires(ModelStore.release)
    stats = _fires(ModelStore.stats)
    clear = _fires(ModelStore.clear)
    next_ready = _fires(ModelStore.next_ready)
    stored_bytes = _fires(ModelStore.stored_bytes)
    stored = _fires(ModelStore.stored)
    restore = _fires(ModelStore.restore)
