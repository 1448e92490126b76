"""The stores of the service, opened for a command in its place or beside it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import maybeDeferred

from mqsvc.bus import Bus
from mqsvc.config import ConfigError, Settings
from mqsvc.service import DataDirectory
from mqsvc.wiring import Backends, open_backends


@asynccontextmanager
async def started_stores(
    settings: Settings, reactor: Any, may_be_new: bool
) -> AsyncIterator[Backends]:
    """The stores of a configuration; opening them blocks.

    :param may_be_new: whether to make a data directory that is missing.
    :raise ConfigError: the data directory cannot be used, or the service uses it.
    :raise StoreOpenError: a store cannot be opened.
    """
    directory = _taken(settings, may_be_new)
    try:
        stores = open_backends(settings, directory.path, reactor, reactor, Bus())
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
