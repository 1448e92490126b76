"""From the configuration to opened stores; drivers are imported when they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

__all__ = ["StoreOpenError", "Stores", "open_stores"]

Store = TypeVar("Store")
Driver = Callable[[str, Any], Store]
"""Opens a store; takes its URI, or for an embedded one its path, and the reactor."""


@frozen
class Stores:
    """The stores of one process, opened and not yet started."""

    management: IManagementStore
    messages: IMessageStore


def open_stores(
    management_uri: str, messages_uri: str, data_dir: str, reactor: Any
) -> Stores:
    """Open both stores, blocking; to be called before the reactor runs.

    :param management_uri: ``sqlite:////absolute/path``; empty is the embedded store.
    :param messages_uri: the same.
    :param data_dir: an existing directory for the files of embedded stores.
    :raise StoreOpenError: a URI or a store is not usable; one line says why.
    """
    directory = os.path.abspath(data_dir)
    return Stores(
        management=_open(
            "drivers.management_store",
            management_uri,
            {"sqlite": _sql_management},
            lambda: _embedded_management(f"{directory}/management.db", reactor),
            reactor,
        ),
        messages=_open(
            "drivers.message_store",
            messages_uri,
            {"sqlite": _sqlite_messages},
            lambda: _embedded_messages(f"{directory}/messages.db", reactor),
            reactor,
        ),
    )


def _open(
    option: str,
    uri: str,
    drivers: Mapping[str, Driver[Store]],
    open_embedded: Callable[[], Store],
    reactor: Any,
) -> Store:
    try:
        if not uri:
            return open_embedded()
        return _driver(uri, drivers)(uri, reactor)
    except StoreOpenError as error:
        raise StoreOpenError(f"{option}: {error}") from error


def _driver(uri: str, drivers: Mapping[str, Driver[Store]]) -> Driver[Store]:
    scheme = uri.partition(":")[0]
    if scheme not in drivers:
        known = ", ".join(sorted(drivers))
        raise StoreOpenError(f"there is no driver for {scheme!r}; known: {known}")
    return drivers[scheme]


def _embedded_management(path: str, reactor: Any) -> IManagementStore:
    from sqlalchemy import URL  # noqa: PLC0415

    from mqsvc.storage.management.sql import open_sql_management  # noqa: PLC0415

    return open_sql_management(URL.create("sqlite", database=path), reactor)


def _sql_management(uri: str, reactor: Any) -> IManagementStore:
    from mqsvc.storage.management.sql import open_sql_management  # noqa: PLC0415

    return open_sql_management(uri, reactor)


def _embedded_messages(path: str, reactor: Any) -> IMessageStore:
    from mqsvc.storage.messages.sqlite import open_sqlite_messages  # noqa: PLC0415

    return open_sqlite_messages(path, reactor)


def _sqlite_messages(uri: str, reactor: Any) -> IMessageStore:
    path = unquote(urlsplit(uri).path.removeprefix("/"))
    # A daemon changes its directory, so a relative path would mean two things.
    if not os.path.isabs(path):
        raise StoreOpenError(
            "name the file by its whole path, as in sqlite:////var/lib/mqsvc/messages.db"
        )
    return _embedded_messages(path, reactor)
