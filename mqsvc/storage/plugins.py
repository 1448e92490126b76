"""What installed packages add: stores and stages, found by their entry points.

docs/plugins.rst says how such a package is made. What cannot be found or loaded stops
the start: a service without a stage that its operator relies on must not serve.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IMessageStore

MANAGEMENT_STORES = "mqsvc.storage.management"
"""Group of management stores: URI scheme, and function of URI and reactor."""

MESSAGE_STORES = "mqsvc.storage.messages"
"""Group of message stores: URI scheme, and function of URI and reactor."""

STAGES = "mqsvc.stages"
"""Group of stages: name, and function of the next store and the options."""


NOTIFIERS = "mqsvc.notifiers"
"""Group of channels of notifications: scheme of subscribers, and function of the
reactor."""


class PluginError(StoreOpenError):
    """A plug-in cannot be used, or not with these options.

    Plug-ins raise it to refuse what the configuration says. The text is one line for
    the operator, without secrets.
    """


def names(group: str) -> list[str]:
    """What the plug-ins of a group are called, sorted."""
    return sorted({plugin.name for plugin in _plugins(group)})


def load(group: str, name: str) -> Any:
    """What a plug-in of a group is: the object behind its entry point.

    :raise PluginError: there is none of that name, or several, or it does not load.
    """
    found = [plugin for plugin in _plugins(group) if plugin.name == name]
    if not found:
        known = ", ".join(names(group)) or "none"
        raise PluginError(f"no package provides {name!r} in {group}; there is: {known}")
    if len(found) > 1:
        packages = " and ".join(sorted(map(_package, found)))
        raise PluginError(
            f"{name!r} in {group} is provided by {packages}: uninstall all but one"
        )
    return _loaded(found[0])


def refuse_taken(group: str, taken: Collection[str]) -> None:
    """Accept the plug-ins of a group, unless one has the name of something built in.

    :raise PluginError: one has.
    """
    for plugin in _plugins(group):
        if plugin.name in taken:
            raise PluginError(
                f"the package {_package(plugin)} claims {plugin.name!r} in {group}, "
                "which is built in: uninstall it, or give its plug-in another name"
            )


def with_stages(
    store: IMessageStore,
    pipeline: Sequence[str],
    tables: Mapping[str, Mapping[str, Any]],
) -> IMessageStore:
    """A message store behind the stages of a pipeline.

    :param pipeline: names of stages; the first one is outermost.
    :param tables: by name of a stage its options.
    :raise PluginError: one is missing, does not load, or refuses its options.
    """
    for name in reversed(pipeline):
        try:
            factory = load(STAGES, name)
        except PluginError as error:
            raise PluginError(f"storage.message_pipeline: {error}") from error
        store = _stage(name, factory, store, tables.get(name, {}))
    return store


def _plugins(group: str) -> tuple[EntryPoint, ...]:
    return _installed(group, tuple(sys.path))


@lru_cache(maxsize=8)
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    # Looking into every package on the path takes a good part of a start.
    return tuple(entry_points(group=group))


def _stage(
    name: str, factory: Any, store: IMessageStore, options: Mapping[str, Any]
) -> IMessageStore:
    try:
        stage: IMessageStore = factory(store, options)
    except PluginError as error:
        raise PluginError(f"stages.{name}: {error}") from error
    except Exception as error:
        raise PluginError(f"stages.{name}: {_described(error)}") from error
    if not IMessageStore.providedBy(stage):
        raise PluginError(f"stages.{name}: what it makes is no IMessageStore")
    return stage


def _loaded(plugin: EntryPoint) -> Any:
    try:
        return plugin.load()
    except Exception as error:
        raise PluginError(
            f"the plug-in {plugin.name!r} of the package {_package(plugin)} cannot be "
            f"loaded: {_described(error)}"
        ) from error


def _package(plugin: EntryPoint) -> str:
    return "without a name" if plugin.dist is None else plugin.dist.name


def _described(error: Exception) -> str:
    """An error of foreign code in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
