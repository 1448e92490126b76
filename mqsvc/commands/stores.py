"""The stores of the service, opened for a command in its place or beside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Any

from attrs import frozen
from twisted.internet.defer import maybeDeferred

from mqsvc.config import ConfigError, Settings
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.records import Records
from mqsvc.service import DataDirectory
from mqsvc.storage.interfaces import IManagementStore, IMessageStore
from mqsvc.storage.open import open_pool, open_stores
from mqsvc.storage.pools import PooledMessages


@frozen
class OpenStores:
    """What a command works on.

    :ivar messages: below all stages, so that bodies are as they are stored.
    :ivar records: those of the management store; without a placement if there are no
        pools.
    """

    management: IManagementStore
    messages: IMessageStore
    records: Records

    @property
    def has_pools(self) -> bool:
        """Whether there may be pools beside the default one."""
        return self.records.placement is not None


@asynccontextmanager
async def started_stores(
    settings: Settings, reactor: Any, may_be_new: bool
) -> AsyncIterator[OpenStores]:
    """The stores of a configuration; opening them blocks.

    :param may_be_new: whether to make a data directory that is missing.
    :raise ConfigError: the data directory cannot be used, or the service uses it.
    :raise StoreOpenError: a store cannot be opened.
    """
    directory = _taken(settings, may_be_new)
    try:
        stores = _opened(settings, directory.path, reactor)
        try:
            for store in (stores.management, stores.messages):
                store.startService()
            yield stores
        finally:
            for store in (stores.messages, stores.management):
                await maybeDeferred(store.stopService)
    finally:
        directory.release()


def _is_embedded(settings: Settings) -> bool:
    """Whether a store is a file, which only one process may use."""
    uris = (settings.drivers.management_store, settings.drivers.message_store)
    return any(not uri or uri.startswith("sqlite:") for uri in uris)


def _taken(settings: Settings, may_be_new: bool) -> DataDirectory:
    """The data directory, for this process alone if there is something in it."""
    directory = DataDirectory(os.path.abspath(settings.data_dir))
    if _is_embedded(settings):
        if not may_be_new and not os.path.isdir(directory.path):
            raise ConfigError(
                f"data_dir: there is no directory {directory.path}; name the one that "
                "the service uses with --data-dir"
            )
        directory.acquire()
    return directory


def _opened(settings: Settings, directory: str, reactor: Any) -> OpenStores:
    stores = open_stores(
        settings.drivers.management_store,
        settings.drivers.message_store,
        directory,
        reactor,
    )
    management = stores.management
    if not settings.pooling:
        records = Records(management, settings.transport)
        return OpenStores(management, stores.messages, records)
    random_below = SystemRandom().randrange
    placement = Placement(management, random_below, settings.enable_virtual_pool)
    records = Records(management, settings.transport, placement)
    pooled = PooledMessages(
        stores.messages,
        management,
        records.pool_of,
        lambda uri, options: open_pool(uri, options, reactor),
        reactor,
    )
    return OpenStores(management, pooled, records)
