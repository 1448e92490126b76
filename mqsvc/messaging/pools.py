"""Pools: message stores for administrators to add and remove (rest.md 5.30)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import evolve, frozen
from twisted.internet.defer import DeferredLock

from mqsvc.messaging import checks
from mqsvc.messaging.errors import (
    InvalidBody,
    PoolDoesNotExist,
    PoolInUse,
    UnusablePool,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Pool
from mqsvc.messaging.shield import shielded
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IPooledMessageStore

MAX_WEIGHT = 2**32 - 1

_MEMBERS = ("weight", "uri", "flavor", "options")
_REQUIRED = ("weight", "uri")


@frozen
class Pools:
    """Operations on pools.

    :ivar _one_at_a_time: held by whoever changes pools or flavors.
    """

    _management: IManagementStore
    _pooled: IPooledMessageStore
    _limits: Limits
    _one_at_a_time: DeferredLock

    async def put(self, name: str, document: Any) -> None:
        """Make a pool, or replace the one of that name.

        :param document: ``weight``, ``uri``, and maybe ``flavor`` and ``options``.
        :raise InvalidBody: it says something else.
        :raise UnusablePool: there is no store that works with this URI.
        :raise Conflict: another pool has the URI.
        """
        checks.short_text(name, "name", 1)
        values = _values(checks.mapping(document, "The body"))
        for member in document:
            if member not in _MEMBERS:
                raise InvalidBody(f"A pool has no '{member}'.")
        for member in _REQUIRED:
            if member not in values:
                raise InvalidBody(f"Missing parameter '{member}' in the body.")
        pool = Pool(name, **values)
        await shielded(self._one_at_a_time.run(self._keep, pool, "create"))

    async def change(self, name: str, document: Any) -> Pool:
        """Change some of what a pool has; an empty flavor is none.

        :param document: at least one of ``weight``, ``uri``, ``flavor``, ``options``.
        :return: the pool as it is now.
        :raise InvalidBody: it has none of them, or one of a wrong type.
        :raise PoolDoesNotExist: there is nothing to change.
        :raise UnusablePool: there is no store that works with this URI.
        :raise Conflict: another pool has the URI.
        """
        values = _values(checks.mapping(document, "The body"))
        if not values:
            raise InvalidBody(f"At least one of {', '.join(_MEMBERS)} is needed.")
        return await shielded(self._one_at_a_time.run(self._change, name, values))

    async def _change(self, name: str, values: Mapping[str, Any]) -> Pool:
        changed = evolve(await self.get(name), **values)
        await self._keep(changed, "update")
        return changed

    async def _keep(self, pool: Pool, action: str) -> None:
        try:
            await self._pooled.check(pool.uri, pool.options)
        except StoreOpenError as error:
            reason = _without_password(str(error), pool.uri)
            raise UnusablePool(action, f"No store works with this: {reason}") from None
        await self._management.put_pool(pool)
        self._pooled.forget_pool(pool.name)

    async def get(self, name: str) -> Pool:
        """One pool.

        :raise PoolDoesNotExist: there is none of that name.
        """
        pool = await self._management.pool(name)
        if pool is None:
            raise PoolDoesNotExist(f"Pool {name} does not exist.")
        return pool

    async def page(self, limit: int | None, after: str) -> list[Pool]:
        """Pools by name.

        :raise InvalidRequest: the limit is out of bounds.
        """
        size = checks.page_size(limit, self._limits.max_pools_per_page)
        return await self._management.pools(size, after)

    async def delete(self, name: str) -> None:
        """Remove a pool; a missing one is no error.

        :raise PoolInUse: queues or topics have their messages there, or it is the last
            one of a flavor.
        """
        await shielded(self._one_at_a_time.run(self._delete, name))

    async def _delete(self, name: str) -> None:
        try:
            await self._management.delete_pool(name)
        except PoolInUse as error:
            raise PoolInUse(
                f"{error.description} With a weight of 0 it gets no new queues "
                "meanwhile."
            ) from error
        self._pooled.forget_pool(name)


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    """The checked members of a document; those that a pool does not have are left."""
    values: dict[str, Any] = {}
    if "weight" in document:
        values["weight"] = _weight(document["weight"])
    if "uri" in document:
        values["uri"] = checks.short_text(document["uri"], "uri", 1)
    if "flavor" in document:
        values["flavor"] = checks.short_text(document["flavor"], "flavor") or None
    if "options" in document:
        values["options"] = checks.mapping(document["options"], "'options'")
    return values


def _weight(value: Any) -> int:
    if not checks.is_integer(value) or not 0 <= value <= MAX_WEIGHT:
        raise InvalidBody(f"'weight' must be an integer from 0 to {MAX_WEIGHT}.")
    return int(value)


def _without_password(text: str, uri: str) -> str:
    """A text in which nothing is left of the password in a URI."""
    try:
        userinfo = urlsplit(uri).netloc.rpartition("@")[0]
    except ValueError:
        return "This URI cannot be read."
    password = userinfo.partition(":")[2]
    for secret in filter(None, (password, unquote(password))):
        text = text.replace(secret, "***")
    return text
