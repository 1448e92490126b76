"""From the configuration to opened stores; drivers are imported when they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

__all__ = ["StoreOpenError", "Stores", "open_stores"]

Store = TypeVar("Store")
Driver = Callable[[str, Any], Any]
"""Opens a store; takes its URI and the reactor."""

_SQL = "mqsvc.storage.management.sql:open_sql_management"
_REDIS = "mqsvc.storage.messages.redis:open_redis_messages"

MANAGEMENT_DRIVERS = {
    "sqlite": _SQL,
    "postgresql": _SQL,
    "mariadb": _SQL,
    "mysql": _SQL,
    "mongodb": "mqsvc.storage.management.mongodb:open_mongodb_management",
}
"""By URI scheme, where the function is that opens a store."""

MESSAGE_DRIVERS = {
    "sqlite": "mqsvc.storage.open:open_sqlite_uri",
    "redis": _REDIS,
    "redis+sentinel": _REDIS,
    "redis+unix": _REDIS,
    "mongodb": "mqsvc.storage.messages.mongodb:open_mongodb_messages",
}
"""By URI scheme, where the function is that opens a store."""


@frozen
class Stores:
    """The stores of one process, opened and not yet started."""

    management: IManagementStore
    messages: IMessageStore


def open_stores(
    management_uri: str, messages_uri: str, data_dir: str, reactor: Any
) -> Stores:
    """Open both stores, blocking; to be called before the reactor runs.

    :param management_uri: with a scheme of :data:`MANAGEMENT_DRIVERS`; empty is the
        embedded store.
    :param messages_uri: the same, of :data:`MESSAGE_DRIVERS`.
    :param data_dir: an existing directory for the files of embedded stores.
    :raise StoreOpenError: a URI or a store is not usable; one line says why.
    """
    directory = os.path.abspath(data_dir)
    return Stores(
        management=_open(
            "drivers.management_store",
            management_uri,
            MANAGEMENT_DRIVERS,
            lambda: _embedded_management(f"{directory}/management.db", reactor),
            reactor,
        ),
        messages=_open(
            "drivers.message_store",
            messages_uri,
            MESSAGE_DRIVERS,
            lambda: _embedded_messages(f"{directory}/messages.db", reactor),
            reactor,
        ),
    )


def _open(
    option: str,
    uri: str,
    drivers: Mapping[str, str],
    open_embedded: Callable[[], Store],
    reactor: Any,
) -> Store:
    try:
        if not uri:
            return open_embedded()
        opened: Store = _driver(uri, drivers)(uri, reactor)
    except StoreOpenError as error:
        raise StoreOpenError(f"{option}: {error}") from error
    return opened


def _driver(uri: str, drivers: Mapping[str, str]) -> Driver:
    scheme = uri.partition(":")[0]
    if scheme not in drivers:
        known = ", ".join(sorted(drivers))
        raise StoreOpenError(f"there is no driver for {scheme!r}; known: {known}")
    module, _, name = drivers[scheme].partition(":")
    try:
        driver: Driver = getattr(import_module(module), name)
    except ImportError as error:
        raise StoreOpenError(
            f"the driver for {scheme!r} needs {error.name}, which is not installed; "
            "docs/dependencies.rst names the extra that brings it"
        ) from error
    return driver


def _embedded_management(path: str, reactor: Any) -> IManagementStore:
    from sqlalchemy import URL  # noqa: PLC0415

    from mqsvc.storage.management.sql import open_sql_management  # noqa: PLC0415

    return open_sql_management(URL.create("sqlite", database=path), reactor)


def _embedded_messages(path: str, reactor: Any) -> IMessageStore:
    from mqsvc.storage.messages.sqlite import open_sqlite_messages  # noqa: PLC0415

    return open_sqlite_messages(path, reactor)


def open_sqlite_uri(uri: str, reactor: Any) -> IMessageStore:
    """A message store on the file of a ``sqlite:////absolute/path`` URI.

    :raise StoreOpenError: the path is not absolute, or the file cannot be used.
    """
    path = unquote(urlsplit(uri).path.removeprefix("/"))
    # A daemon changes its directory, so a relative path would mean two things.
    if not os.path.isabs(path):
        raise StoreOpenError(
            "name the file by its whole path, as in sqlite:////var/lib/mqsvc/messages.db"
        )
    return _embedded_messages(path, reactor)
