"""Statements on subscriptions; each runs in a transaction.

A row whose time is over, or whose lease is, may still be there. Readers pass it by, and
whoever wants its place removes it; :func:`sweep` removes those whose time is over, and
:mod:`.sql_leases` the others.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    select,
)

from mqsvc.messaging.errors import Conflict, SubscriptionDoesNotExist
from mqsvc.messaging.model import Destination, Kind, Subscription
from mqsvc.storage.management.json_text import from_text, to_text
from mqsvc.storage.management.sql_leases import delete_some, is_held
from mqsvc.storage.management.sql_schema import (
    belongs_to,
    belongs_to_bound,
    key_of,
    subscriptions,
)


def subscribe(
    connection: Connection, subscription: Subscription, now: int
) -> Subscription:
    """Insert a subscription, or read the live one that its subscriber has."""
    existing = _of_subscriber(connection, subscription, now)
    if existing is not None:
        return existing
    _make_room(connection, subscription, now)
    row = key_of(subscription.destination) | {"id": subscription.id}
    connection.execute(subscriptions.insert().values(row | _values(subscription)))
    return subscription


def get(
    connection: Connection,
    destination: Destination,
    subscription_id: str,
    now: int,
    *,
    for_update: bool = False,
) -> Subscription:
    """Read one live subscription.

    :param for_update: keep others from changing it until the transaction ends.
    :raise SubscriptionDoesNotExist: there is none.
    """
    query = _ONE.with_for_update() if for_update else _ONE
    values = key_of(destination) | {"id": subscription_id, "now": now}
    row = connection.execute(query, values).first()
    if row is None:
        raise SubscriptionDoesNotExist(
            f"Subscription {subscription_id} of {destination.kind.value} "
            f"{destination.name} does not exist."
        )
    return _subscription(row)


def page(
    connection: Connection, destination: Destination, limit: int, after: str, now: int
) -> list[Subscription]:
    """Read the first live subscriptions behind an id."""
    values = key_of(destination) | {"after": after, "most": limit, "now": now}
    return [_subscription(row) for row in connection.execute(_PAGE, values)]


def update(
    connection: Connection,
    subscription: Subscription,
    now: int,
    expected: Subscription | None,
) -> bool:
    """Replace a live subscription, unless it is not the one expected.

    :raise SubscriptionDoesNotExist: it is gone.
    :raise Conflict: the subscriber has another live one.
    """
    current = get(
        connection, subscription.destination, subscription.id, now, for_update=True
    )
    if expected is not None and current != expected:
        return False
    rival = _of_subscriber(connection, subscription, now)
    if rival is not None and rival.id != subscription.id:
        raise Conflict(
            f"Subscription {rival.id} has that subscriber already: "
            "update or delete that one instead."
        )
    _make_room(connection, subscription, now)
    change = (
        subscriptions.update()
        .where(belongs_to(subscriptions, subscription.destination))
        .where(subscriptions.c.id == subscription.id)
        .values(_values(subscription))
    )
    connection.execute(change)
    return True


def unsubscribe(
    connection: Connection, destination: Destination, subscription_id: str
) -> None:
    """Delete one subscription."""
    condition = belongs_to(subscriptions, destination)
    connection.execute(
        subscriptions.delete().where(condition, subscriptions.c.id == subscription_id)
    )


def unsubscribe_all(connection: Connection, destination: Destination) -> None:
    """Delete all subscriptions of a destination."""
    condition = belongs_to(subscriptions, destination)
    connection.execute(subscriptions.delete().where(condition))


def sweep(connection: Connection, now: int) -> bool:
    """Delete a bounded number of expired rows; true when there may be more."""
    return delete_some(connection, subscriptions.c.expires <= now)


def _is_live(now: int | BindParameter[int]) -> ColumnElement[bool]:
    return and_(subscriptions.c.expires > now, is_held(now))


def _live(condition: ColumnElement[bool]) -> Select[Any]:
    """A query of live subscriptions of a destination, to be run with values."""
    return select(subscriptions).where(
        belongs_to_bound(subscriptions),
        _is_live(bindparam("now")),
        condition,
    )


# To make a query takes as long as to run it, so they are made once.
_ONE = _live(subscriptions.c.id == bindparam("id"))
_OF_SUBSCRIBER = _live(subscriptions.c.subscriber_digest == bindparam("digest"))
_PAGE = (
    _live(subscriptions.c.id > bindparam("after"))
    .order_by(subscriptions.c.id)
    .limit(bindparam("most"))
)


def _of_subscriber(
    connection: Connection, wanted: Subscription, now: int
) -> Subscription | None:
    values = {"digest": _digest(wanted.subscriber), "now": now}
    values |= key_of(wanted.destination)
    row = connection.execute(_OF_SUBSCRIBER, values).first()
    return None if row is None else _subscription(row)


def _make_room(connection: Connection, coming: Subscription, now: int) -> None:
    """Delete what is over and has the subscriber or the id of what is to come."""
    in_the_way = (subscriptions.c.id == coming.id) | (
        subscriptions.c.subscriber_digest == _digest(coming.subscriber)
    )
    connection.execute(
        subscriptions.delete()
        .where(belongs_to(subscriptions, coming.destination))
        .where(~_is_live(now), in_the_way)
    )


def _digest(subscriber: str) -> str:
    return sha256(subscriber.encode()).hexdigest()


def _values(subscription: Subscription) -> dict[str, Any]:
    return {
        "subscriber": subscription.subscriber,
        "subscriber_digest": _digest(subscription.subscriber),
        "ttl": subscription.ttl,
        "created": subscription.created,
        "expires": subscription.expires,
        "options": to_text(subscription.options),
        "confirmed": subscription.confirmed,
        "lease": subscription.lease,
    }


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        id=row.id,
        destination=Destination(row.project, Kind(row.kind), row.name),
        subscriber=row.subscriber,
        ttl=row.ttl,
        created=row.created,
        options=from_text(row.options),
        confirmed=row.confirmed,
        lease=row.lease,
    )
