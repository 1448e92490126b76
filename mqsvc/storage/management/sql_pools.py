"""Statements on pools and flavors; each runs in a transaction.

On a database where transactions run at the same time, a record and the pool that it
names are kept together by two locks. Whoever changes pools or flavors takes the turn
of administrators first, so that those never meet. Whoever puts a record in a pool
holds the row of the pool, shared with others that do the same; whoever deletes the
pool waits for them, and then sees their records.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, select

from mqsvc.messaging.errors import Conflict, PoolDoesNotExist, PoolInUse
from mqsvc.messaging.model import Flavor, Pool
from mqsvc.storage.management.json_text import from_text, to_text
from mqsvc.storage.management.sql_schema import (
    destinations,
    flavors,
    pools,
    schema_versions,
)


def hold(connection: Connection, name: str | None) -> None:
    """Keep a pool, if one is meant, from being deleted before the transaction ends.

    :raise PoolDoesNotExist: there is none of that name.
    """
    if name is None:
        return
    query = select(pools.c.name).where(pools.c.name == name)
    # PostgreSQL knows a weaker lock, under which a pool can still be replaced.
    shared = query.with_for_update(read=True, key_share=True)
    if connection.execute(shared).first() is None:
        raise PoolDoesNotExist(f"Pool {name} does not exist.")


def put(connection: Connection, pool: Pool) -> None:
    """Insert or replace a pool.

    :raise Conflict: another one has the URI.
    """
    _take_turn(connection)
    same_uri = select(pools.c.name).where(pools.c.uri == pool.uri)
    rival = connection.scalar(same_uri.where(pools.c.name != pool.name))
    if rival is not None:
        raise Conflict(
            f"Pool {rival} has that URI already: "
            "give another one, or update or delete that pool instead."
        )
    row = _values(pool)
    change = pools.update().where(pools.c.name == pool.name).values(row)
    if connection.execute(change).rowcount == 0:
        connection.execute(pools.insert().values(name=pool.name, **row))


def get(connection: Connection, name: str) -> Pool | None:
    """Read one pool."""
    row = connection.execute(select(pools).where(pools.c.name == name)).first()
    return None if row is None else _pool(row)


def page(
    connection: Connection, limit: int, after: str, flavor: str | None
) -> list[Pool]:
    """Read the first pools behind a name."""
    query = select(pools).where(pools.c.name > after)
    if flavor is not None:
        query = query.where(pools.c.flavor == flavor)
    rows = connection.execute(query.order_by(pools.c.name).limit(limit))
    return [_pool(row) for row in rows]


def delete(connection: Connection, name: str) -> None:
    """Delete a pool that nobody needs.

    :raise PoolInUse: a record or a flavor needs it.
    """
    _take_turn(connection)
    query = select(pools).where(pools.c.name == name).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        return
    if connection.scalar(select(exists().where(destinations.c.pool == name))):
        raise PoolInUse(
            f"Queues or topics have their messages in pool {name}: "
            "delete them, or give them another flavor, first."
        )
    if _is_last(connection, row):
        raise PoolInUse(
            f"Pool {name} is the last one of flavor {row.flavor}: "
            "give the flavor another pool, or delete it, first."
        )
    connection.execute(pools.delete().where(pools.c.name == name))


def put_flavor(connection: Connection, name: str, members: Collection[str]) -> None:
    """Insert or replace a flavor.

    :raise PoolDoesNotExist: one of its pools is missing.
    """
    _take_turn(connection)
    wanted = pools.c.name.in_(set(members))
    found = set(connection.scalars(select(pools.c.name).where(wanted)))
    for missing in sorted(set(members) - found):
        raise PoolDoesNotExist(f"Pool {missing} does not exist.")
    _free_pools(connection, name)
    connection.execute(pools.update().where(wanted).values(flavor=name))
    if connection.execute(_named(name)).first() is None:
        connection.execute(flavors.insert().values(name=name))


def get_flavor(connection: Connection, name: str) -> Flavor | None:
    """Read one flavor."""
    return next(iter(_with_pools(connection, _named(name))), None)


def page_of_flavors(connection: Connection, limit: int, after: str) -> list[Flavor]:
    """Read the first flavors behind a name."""
    query = select(flavors.c.name).where(flavors.c.name > after)
    return _with_pools(connection, query.order_by(flavors.c.name).limit(limit))


def delete_flavor(connection: Connection, name: str) -> None:
    """Delete a flavor and free its pools."""
    _take_turn(connection)
    connection.execute(flavors.delete().where(flavors.c.name == name))
    _free_pools(connection, name)


def _take_turn(connection: Connection) -> None:
    """Let nobody else change pools or flavors until the transaction ends."""
    # A row that is always there, and that nobody changes.
    first = select(schema_versions).where(schema_versions.c.version == 1)
    connection.execute(first.with_for_update())


def _is_last(connection: Connection, row: Row[Any]) -> bool:
    """Whether a flavor that exists has one pool and no other."""
    if connection.execute(_named(row.flavor)).first() is None:
        return False
    others = exists().where(pools.c.flavor == row.flavor, pools.c.name != row.name)
    return not connection.scalar(select(others))


def _free_pools(connection: Connection, flavor: str) -> None:
    change = pools.update().where(pools.c.flavor == flavor)
    connection.execute(change.values(flavor=None))


def _named(flavor: str) -> Select[tuple[str]]:
    return select(flavors.c.name).where(flavors.c.name == flavor)


def _with_pools(connection: Connection, names: Select[tuple[str]]) -> list[Flavor]:
    """Read flavors with their pools, both in order and at one moment."""
    flavor, pool = names.subquery().c.name, pools.c.name
    query = (
        select(flavor, pool)
        .outerjoin(pools, pools.c.flavor == flavor)
        .order_by(flavor, pool)
    )
    members: dict[str, list[str]] = {}
    for name, member in connection.execute(query):
        members.setdefault(name, []).extend([] if member is None else [member])
    return [Flavor(name, tuple(found)) for name, found in members.items()]


def _values(pool: Pool) -> dict[str, Any]:
    return {
        "uri": pool.uri,
        "weight": pool.weight,
        "flavor": pool.flavor,
        "options": to_text(pool.options),
    }


def _pool(row: Row[Any]) -> Pool:
    return Pool(
        name=row.name,
        uri=row.uri,
        weight=row.weight,
        flavor=row.flavor,
        options=from_text(row.options),
    )
