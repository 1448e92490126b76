"""What a store promises. Each driver is held to it by one suite (tests/storage).

Common to all methods of both interfaces:

* They fire when the change is as durable as the store is configured to make it, and
  not before. What was changed is seen by every later call, through any process.
* Each is one atomic step: it happens whole or not at all, also when the process or
  the store dies in the middle.
* ``now`` is the caller's clock, milliseconds since the epoch. A store never asks for
  the time itself. What expired at or before ``now`` does not exist.
* They fail with :class:`~mqsvc.messaging.errors.StoreUnavailable` when the store
  cannot be reached, and with nothing else than that and what they name.
* Cancelling the Deferred frees the caller; it does not undo the step.
* Cost: unless a method says otherwise it does not grow with the number of messages,
  whatever their state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred

from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Flavor,
    JsonObject,
    Kind,
    Message,
    NewMessage,
    Pool,
    Posting,
    Record,
    Selection,
    Stats,
    StoredMessage,
    Subscription,
)

LEFT_ALONE = 60_000
"""Milliseconds for which a lease that ended can still be renewed.

A process that could not reach the store, or whose clock is behind, is not dead.
"""


class IStore(IService):
    """A back end as a Twisted service: started before use, stopped after it."""

    def ping() -> Deferred[None]:
        """Fires when the store answers."""

    def sweep(now: int) -> Deferred[bool]:
        """Free a bounded amount of what expired; nothing visible changes.

        :return: fires with whether there may be more, worth another call at once.
        """


class IMessageStore(IStore):
    """Messages and claims of destinations: a pool.

    A destination needs no creation: it begins with its first message, and one that
    was never posted to reads as empty.

    Order is that of acceptance, per destination, over all producers and processes: a
    reader that goes on from the last id it saw misses nothing and sees nothing twice.
    A message that is freed keeps its place.
    """

    def post(
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages in their order, all or none.

        :param messages: at least one.
        :param client_id: the poster, any text up to 64 characters.
        :param also: further messages of the same poster for another destination of
            this store, never the destination itself: appended in the same step, all
            of both or none.
        :return: fires with the ids of ``messages``, in the same order.
        """

    def page(
        destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """The first messages of a selection, oldest first.

        Filters come before the cut: a short page is the end. A malformed
        ``selection.after`` is behind everything: the page is empty.
        """

    def get(
        destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id in any state, in the order asked for, each once.

        Unknown, expired and malformed ids, and those of other destinations, are left
        out.
        """

    def delete(
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id; unknown ones are no error.

        Without ``claim_ids`` claims are not looked at. With it, all or nothing: each
        existing message must be under one of those claims, live; with an empty
        collection each must be under no live claim.

        :raise MessageIsClaimed: one is under a live claim that was not given, while
            none was given, or one given is live.
        :raise MessageNotClaimed: claims were given, and one message is under no live
            claim, or is under another one while none given is live.
        """

    def pop(destination: Destination, limit: int, now: int) -> Deferred[list[Message]]:
        """Take and delete the oldest messages that could be claimed."""

    def claim(
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend the oldest free messages to one worker.

        Takes up to ``limit`` messages that are neither claimed nor delayed. Under a
        rule those with ``claim_count >= max_claim_count`` are moved to the end of the
        target: a new id, no claim, count 0, free at once, same body,
        poster and creation.
        The others come under the new claim until ``now + ttl``; their count grows by
        one; of those that would expire before the claim's end the ttl becomes
        ``ttl + grace`` and they expire ``grace`` after the claim's end.
        """

    def get_claim(destination: Destination, claim_id: str, now: int) -> Deferred[Claim]:
        """A live claim; its messages may all be deleted already.

        :raise ClaimDoesNotExist: not live, or of another destination.
        """

    def renew(
        destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Let a live claim end at ``now + ttl`` instead, extending as at creation.

        :raise ClaimDoesNotExist: not live, or of another destination.
        """

    def release(
        destination: Destination, claim_id: str, now: int, undelivered: bool = False
    ) -> Deferred[None]:
        """End a claim: its messages are free at once. Unknown ones are no error.

        :param undelivered: the claim never reached a worker, so it does not count:
            ``claim_count`` of its messages goes down by one.
        """

    def stats(destination: Destination, now: int) -> Deferred[Stats]:
        """Counts, and the oldest and newest message in any state."""

    def clear(destination: Destination) -> Deferred[None]:
        """Remove all messages and claims; ids given out stay valid as markers."""

    def next_ready(destination: Destination, now: int) -> Deferred[int | None]:
        """The first moment after ``now`` at which a delay or a claim ends.

        Fires with none when nothing is delayed or claimed.
        """

    def stored_bytes(project: str) -> Deferred[int]:
        """How many bytes of bodies are kept for the queues and topics of a project.

        Of bodies as they are stored. It is kept in the same step as the messages, and
        grows and shrinks with every way in which they come and go. What expired may
        count until it is swept; what was cleared counts no more, at the latest when
        it is swept. Cost may grow with the destinations of the project.
        """

    def stored(
        destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """All messages in any state, oldest first, with all there is to know.

        :param after: as in :class:`~mqsvc.messaging.model.Selection`.
        """

    def restore(
        destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept, all or none: free, or still delayed.

        Creation, ttl, expiry and ``claim_count`` stay what they were; ids are new,
        claims are over, and no poster is known. What expired is left out.

        :param messages: at least one.
        :return: fires with the new ids of those kept, in their order.
        """


class IPooledMessageStore(IMessageStore):
    """A message store that takes each destination to its pool."""

    def check(uri: str, options: JsonObject) -> Deferred[None]:
        """Fires when a store with this URI could be opened and answers.

        :raise StoreOpenError: it cannot be used; one line says why.
        """

    def ping_pool(name: str | None) -> Deferred[None]:
        """Fires when the store of one pool answers; none is the default pool."""

    def forget_pool(name: str) -> None:
        """The record of a pool changed or is gone: open its store anew when needed."""


class IManagementStore(IStore):
    """Records of queues and topics, subscriptions, pools and flavors: the catalog."""

    def create(
        destination: Destination, metadata: JsonObject, pool: str | None = None
    ) -> Deferred[bool]:
        """Make a record.

        :param pool: where its messages will live.
        :return: fires with whether it is new; an existing one is not changed.
        :raise PoolDoesNotExist: there is no such pool (any more).
        """

    def get(destination: Destination) -> Deferred[Record | None]:
        """The record, or none."""

    def update(
        record: Record, metadata: JsonObject, pool: str | None
    ) -> Deferred[Record | None]:
        """Replace the metadata and the pool, if nobody changed or removed the record
        since it was read.

        :param record: as read; its revision is compared.
        :param pool: where its messages live from now on; moves none.
        :return: fires with the new record, or with none when the revision differs.
        :raise PoolDoesNotExist: there is no such pool (any more).
        """

    def delete(destination: Destination) -> Deferred[None]:
        """Remove a record and its subscriptions; a missing one is no error."""

    def page(
        project: str,
        kind: Kind,
        limit: int,
        after: str = "",
        name_contains: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Deferred[list[Record]]:
        """Records of a project by name, in the order of code points.

        :param after: only names greater than it, whether it exists or not.
        :param metadata: only records whose stored metadata holds each of these keys
            with that very value (equal in JSON type and value). Cost grows with the
            records looked at.
        """

    def records(limit: int, after: Destination | None = None) -> Deferred[list[Record]]:
        """Records of all projects, by project, kind and name.

        :param after: only those behind it, whether it exists or not.
        """

    def count(project: str, kind: Kind) -> Deferred[int]:
        """How many records a project has. Cost may grow with that number."""

    def subscribe(subscription: Subscription, now: int) -> Deferred[Subscription]:
        """Keep a subscription, unless its subscriber has a live one there already.

        :return: fires with the one that now exists: the given one, or the older one.
        """

    def subscription(
        destination: Destination, subscription_id: str, now: int
    ) -> Deferred[Subscription]:
        """One subscription.

        :raise SubscriptionDoesNotExist: unknown, expired or of another destination.
        """

    def subscriptions(
        destination: Destination, limit: int, after: str, now: int
    ) -> Deferred[list[Subscription]]:
        """Subscriptions of a destination by id, only ids greater than ``after``."""

    def update_subscription(
        subscription: Subscription, now: int, expected: Subscription | None = None
    ) -> Deferred[bool]:
        """Replace the live one with the same id and destination.

        :param expected: as it was read; if somebody changed it since, nothing happens.
        :return: fires with whether it was replaced.
        :raise SubscriptionDoesNotExist: it is gone.
        :raise Conflict: another live one of the destination has the subscriber.
        """

    def unsubscribe(destination: Destination, subscription_id: str) -> Deferred[None]:
        """Remove a subscription; a missing one is no error."""

    def unsubscribe_all(destination: Destination) -> Deferred[None]:
        """Remove every subscription of a destination."""

    def begin_lease(lease: str, until: int) -> Deferred[None]:
        """A process lives, and says so by a lease that is its own.

        Subscriptions that name a lease do not exist from ``until`` on, unless it is
        renewed; then they are there again. :data:`LEFT_ALONE` after its end a sweep
        removes it, and them, for good.

        :param lease: a name that was never used before.
        """

    def renew_lease(lease: str, until: int) -> Deferred[bool]:
        """Let a lease end at another moment.

        :return: fires with whether that was done: not when it was removed or given up.
        """

    def end_lease(lease: str) -> Deferred[None]:
        """Give a lease up, and what names it; a missing one is no error."""

    def put_pool(pool: Pool) -> Deferred[None]:
        """Make a pool, or replace the one of that name.

        :raise Conflict: another pool has the URI.
        """

    def pool(name: str) -> Deferred[Pool | None]:
        """One pool, or none."""

    def pools(
        limit: int, after: str = "", flavor: str | None = None
    ) -> Deferred[list[Pool]]:
        """Pools by name, in the order of code points.

        :param after: only names greater than it.
        :param flavor: only those that belong to it.
        """

    def delete_pool(name: str) -> Deferred[None]:
        """Remove a pool; a missing one is no error.

        :raise PoolInUse: a record says that its messages live there, or a flavor that
            exists would be left without any pool.
        """

    def put_flavor(name: str, pools: Collection[str]) -> Deferred[None]:
        """Make a flavor, or replace it: these pools belong to it, and no others.

        :param pools: names, at least one.
        :raise PoolDoesNotExist: one of them is missing; nothing is changed.
        """

    def flavor(name: str) -> Deferred[Flavor | None]:
        """One flavor, or none."""

    def flavors(limit: int, after: str = "") -> Deferred[list[Flavor]]:
        """Flavors by name, in the order of code points."""

    def delete_flavor(name: str) -> Deferred[None]:
        """Remove a flavor; its pools belong to none. A missing one is no error."""
