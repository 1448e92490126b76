"""From the configuration to opened stores; drivers are imported when they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import Interface

from mqsvc.messaging.model import JsonObject
from mqsvc.storage import plugins
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IManagementStore, IMessageStore
from mqsvc.storage.uri_options import with_options

__all__ = ["StoreOpenError", "Stores", "open_pool", "open_stores"]

log = Logger()

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

_REDIS_OPTIONS = frozenset(
    {
        *("db", "dbid", "master", "prefix", "sentinel_password", "sentinel_username"),
        *("socket_timeout", "wait_replicas"),
    }
)

MESSAGE_OPTIONS: Mapping[str, Collection[str]] = {
    "sqlite": frozenset(),
    "redis": _REDIS_OPTIONS,
    "redis+sentinel": _REDIS_OPTIONS,
    "redis+unix": _REDIS_OPTIONS,
    "mongodb": frozenset(
        {
            *("authmechanism", "authsource", "connecttimeoutms", "journal"),
            *("maxpoolsize", "replicaset", "serverselectiontimeoutms"),
            *("sockettimeoutms", "w", "wtimeoutms"),
            # Refused by the driver, and not to be left out in silence.
            *("readpreference", "ssl", "tls"),
        }
    ),
}
"""By URI scheme, the options in the query of a URI, in small letters.

A driver that comes with a package says it by an attribute ``options`` of its function;
without that attribute it is given all.
"""


@frozen
class Stores:
    """The stores of one process, opened and not yet started."""

    management: IManagementStore
    messages: IMessageStore


@frozen
class _Kind:
    """What is different between the two kinds of stores.

    :ivar option: what names the URI in the configuration.
    :ivar group: where plug-ins are.
    """

    option: str
    group: str
    interface: type[Interface]
    built_in: Mapping[str, str]


def open_stores(
    management_uri: str,
    messages_uri: str,
    data_dir: str,
    reactor: Any,
    shared: bool = False,
) -> Stores:
    """Open both stores, blocking; to be called before the reactor runs.

    :param management_uri: with a scheme of :data:`MANAGEMENT_DRIVERS` or of a plug-in;
        empty is the embedded store.
    :param messages_uri: the same, of :data:`MESSAGE_DRIVERS`.
    :param data_dir: an existing directory for the files of embedded stores.
    :param shared: whether other processes of this server have the same files open.
    :raise StoreOpenError: a URI or a store is not usable; one line says why.
    """
    directory = os.path.abspath(data_dir)
    for kind in (_management(), _messages()):
        plugins.refuse_taken(kind.group, kind.built_in)
    return Stores(
        management=_open(
            _management(),
            management_uri,
            lambda: _embedded_management(f"{directory}/management.db", reactor, shared),
            reactor,
            shared,
        ),
        messages=_open(
            _messages(),
            messages_uri,
            lambda: _embedded_messages(f"{directory}/messages.db", reactor, shared),
            reactor,
            shared,
        ),
    )


def open_pool(
    uri: str, options: JsonObject, reactor: Any, shared: bool = False
) -> Deferred[IMessageStore]:
    """Open the store of a pool, in a thread.

    :param options: take the place of those in the URI; what the driver does not know
        is left out, with a warning in the log.
    :param shared: whether other processes of this server have it open as well.
    :return: fires with the store, not yet started.
    :raise StoreOpenError: it is not usable; one line says why.
    """
    pool = reactor.getThreadPool()
    return deferToThreadPool(reactor, pool, _open_pool, uri, options, reactor, shared)


def _open_pool(
    uri: str, options: JsonObject, reactor: Any, shared: bool
) -> IMessageStore:
    kind = _messages()
    driver = _driver(uri, kind, shared)
    if options:
        known = MESSAGE_OPTIONS.get(_scheme(uri), getattr(driver, "options", None))
        uri = with_options(uri, options, known)
    store: IMessageStore = _opened(driver, uri, kind, reactor)
    return store


def _management() -> _Kind:
    return _Kind(
        "drivers.management_store",
        plugins.MANAGEMENT_STORES,
        IManagementStore,
        MANAGEMENT_DRIVERS,
    )


def _messages() -> _Kind:
    return _Kind(
        "drivers.message_store", plugins.MESSAGE_STORES, IMessageStore, MESSAGE_DRIVERS
    )


def _open(
    kind: _Kind,
    uri: str,
    open_embedded: Callable[[], Store],
    reactor: Any,
    shared: bool,
) -> Store:
    try:
        if not uri:
            return open_embedded()
        opened: Store = _opened(_driver(uri, kind, shared), uri, kind, reactor)
    except StoreOpenError as error:
        raise StoreOpenError(f"{kind.option}: {error}") from error
    return opened


def _scheme(uri: str) -> str:
    return uri.partition(":")[0]


def _driver(uri: str, kind: _Kind, shared: bool) -> Driver:
    scheme = _scheme(uri)
    if scheme not in kind.built_in:
        return _driver_of_plugin(scheme, kind)
    module, _, name = kind.built_in[scheme].partition(":")
    try:
        driver: Driver = getattr(import_module(module), name)
    except ImportError as error:
        raise StoreOpenError(
            f"the driver for {scheme!r} needs {error.name}, which is not installed; "
            "docs/dependencies.rst names the extra that brings it"
        ) from error
    # Servers order the writes of their clients themselves.
    with_sharing: Any = driver
    return partial(with_sharing, shared=shared) if scheme == "sqlite" else driver


def _driver_of_plugin(scheme: str, kind: _Kind) -> Driver:
    provided = plugins.names(kind.group)
    if scheme not in provided:
        known = ", ".join(sorted([*kind.built_in, *provided]))
        raise StoreOpenError(f"there is no driver for {scheme!r}; known: {known}")
    driver: Driver = plugins.load(kind.group, scheme)
    return driver


def _opened(driver: Driver, uri: str, kind: _Kind, reactor: Any) -> Any:
    try:
        store = driver(uri, reactor)
    except StoreOpenError:
        raise
    except Exception as error:
        # Its text may repeat the URI, and that a password.
        raise StoreOpenError(
            f"the driver for {_scheme(uri)!r} does not take this URI "
            f"({type(error).__name__}); look for a mistake in it"
        ) from error
    if not kind.interface.providedBy(store):
        raise StoreOpenError(
            f"what the driver for {_scheme(uri)!r} opens is no "
            f"{kind.interface.__name__}"
        )
    return store


def _embedded_management(path: str, reactor: Any, shared: bool) -> IManagementStore:
    from sqlalchemy import URL  # noqa: PLC0415

    from mqsvc.storage.management.sql import open_sql_management  # noqa: PLC0415

    uri = URL.create("sqlite", database=path)
    return open_sql_management(uri, reactor, shared=shared)


def _embedded_messages(path: str, reactor: Any, shared: bool) -> IMessageStore:
    from mqsvc.storage.messages.sqlite import open_sqlite_messages  # noqa: PLC0415

    return open_sqlite_messages(path, reactor, shared)


def open_sqlite_uri(uri: str, reactor: Any, shared: bool = False) -> IMessageStore:
    """A message store on the file of a ``sqlite:////absolute/path`` URI.

    :raise StoreOpenError: the path is not absolute, or the file cannot be used.
    """
    path = unquote(urlsplit(uri).path.removeprefix("/"))
    # A daemon changes its directory, so a relative path would mean two things.
    if not os.path.isabs(path):
        raise StoreOpenError(
            "name the file by its whole path, as in sqlite:////var/lib/mqsvc/messages.db"
        )
    return _embedded_messages(path, reactor, shared)
