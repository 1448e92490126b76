"""What a Redis must be like to keep messages: read from its ``INFO``."""

from __future__ import annotations

import re
from collections.abc import Mapping

OLDEST_VERSION = (6, 2)
"""The first with ``ZMSCORE`` and with ``LT`` for ``ZADD``."""

Info = Mapping[str, str]


class UnusableServer(Exception):
    """This server must not or cannot be used now; the text says what to change."""


def parse_info(text: bytes) -> Info:
    """The fields of an answer to ``INFO``."""
    lines = text.decode("utf-8", "replace").splitlines()
    fields = (line.partition(":") for line in lines if not line.startswith("#"))
    return {name: value for name, _, value in fields}


def check_server(info: Info) -> None:
    """Pass a server that may be used.

    :raise UnusableServer: it may not.
    """
    version = info.get("redis_version", "0")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_VERSION:
        raise UnusableServer(f"its version is {version}: 6.2 or newer is needed")
    if info.get("cluster_enabled") == "1":
        raise UnusableServer(
            "it is part of a cluster, over which dead letters cannot be moved: use "
            "single servers, each as a store of its own"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnusableServer(
            f"its maxmemory-policy is {policy}, which deletes messages when memory is "
            "short: set maxmemory-policy to noeviction"
        )
    _check_state(info)


def _check_state(info: Info) -> None:
    """Refuse a server for what passes by itself."""
    if info.get("loading", "0") != "0":
        raise UnusableServer("it is still loading its data")
    if info.get("role", "master") != "master":
        raise UnusableServer(
            "it is a replica: name the master, or the Sentinels that know it"
        )


def persistence_warning(info: Info, save: str | None) -> str | None:
    """What an operator should be told about restarts of the server, if anything.

    :param save: its setting ``save``; none when it does not tell.
    """
    if info.get("aof_enabled") == "1":
        return None
    if save:
        return (
            "it keeps no append-only file: messages acknowledged since its last "
            "snapshot are lost when it stops. Set appendonly to yes"
        )
    if save is None:
        return (
            "it keeps no append-only file, and does not tell whether it saves "
            "snapshots: acknowledged messages may be lost when it stops. Set "
            "appendonly to yes"
        )
    return (
        "it keeps neither an append-only file nor snapshots: ALL messages are lost "
        "when it stops. Set appendonly to yes"
    )
