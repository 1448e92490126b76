"""From a URI to a driver, imported only when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import frozen

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore

__all__ = ["StoreOpenError", "Stores", "open_stores"]

Store = TypeVar("Store")


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
    return Stores(
        management=_open(
            "drivers.management_store",
            management_uri or f"sqlite:///{os.path.abspath(data_dir)}/management.db",
            {"sqlite": _sql_management},
            reactor,
        ),
        messages=_open(
            "drivers.message_store",
            messages_uri or f"sqlite:///{os.path.abspath(data_dir)}/messages.db",
            {"sqlite": _sqlite_messages},
            reactor,
        ),
    )


def _open(
    option: str,
    uri: str,
    drivers: dict[str, Callable[[str, Any], Store]],
    reactor: Any,
) -> Store:
    scheme = uri.partition(":")[0]
    if scheme not in drivers:
        raise StoreOpenError(
            f"{option}: no driver for {scheme!r}; known: {', '.join(sorted(drivers))}"
        )
    return drivers[scheme](uri, reactor)


def _sql_management(uri: str, reactor: Any) -> IManagementStore:
    from mqsvc.storage.management.sql import open_sql_management  # noqa: PLC0415

    return open_sql_management(uri, reactor)


def _sqlite_messages(uri: str, reactor: Any) -> IMessageStore:
    from mqsvc.storage.messages.sqlite import open_sqlite_messages  # noqa: PLC0415

    return open_sqlite_messages(urlsplit(uri).path.removeprefix("/"), reactor)
