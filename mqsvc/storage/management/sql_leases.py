"""Statements on leases, and on what is left of those that ended."""

from __future__ import annotations

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    or_,
    select,
    tuple_,
)

from mqsvc.storage.interfaces import LEFT_ALONE
from mqsvc.storage.management import sweeping
from mqsvc.storage.management.sql_schema import leases, subscriptions
from mqsvc.storage.management.sweeping import ENDED


def begin(connection: Connection, lease: str, until: int) -> None:
    """Insert a lease."""
    connection.execute(leases.insert().values(id=lease, until=until))


def renew(connection: Connection, lease: str, until: int) -> bool:
    """Move the end of a lease, unless it was given up."""
    change = (
        leases.update()
        .where(leases.c.id == lease, leases.c.until != ENDED)
        .values(until=until)
    )
    return connection.execute(change).rowcount > 0


def end(connection: Connection, lease: str) -> None:
    """Give a lease up."""
    change = leases.update().where(leases.c.id == lease).values(until=ENDED)
    connection.execute(change)


def is_held(now: int | BindParameter[int]) -> ColumnElement[bool]:
    """The condition that a subscription needs no lease, or has one."""
    lease = subscriptions.c.lease
    held = select(leases.c.id).where(leases.c.until > now)
    return or_(lease.is_(None), lease.in_(held))


def sweep(connection: Connection, now: int) -> bool:
    """Delete what one lease has left, a bounded number; true when there may be more."""
    over = select(leases.c.id).where(leases.c.until <= now - LEFT_ALONE)
    lease = connection.scalar(over.limit(1).with_for_update())
    if lease is None:
        return False
    if delete_some(connection, subscriptions.c.lease == lease):
        end(connection, lease)
    else:
        connection.execute(leases.delete().where(leases.c.id == lease))
    return True


def delete_some(connection: Connection, condition: ColumnElement[bool]) -> bool:
    """Delete a bounded number of subscriptions; true when there may be more."""
    columns = list(subscriptions.primary_key)
    query = select(*columns).where(condition).limit(sweeping.MAX_SWEPT)
    keys = [tuple(row) for row in connection.execute(query)]
    if keys:
        # One that was renewed, or got another subscriber, meanwhile is left alone.
        still = tuple_(*columns).in_(keys) & condition
        connection.execute(subscriptions.delete().where(still))
    return len(keys) == sweeping.MAX_SWEPT
