"""Where a Redis is and how to use it: the URI of the store, taken apart.

The forms are described in docs/redis.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import field, frozen

from mqsvc.storage.errors import StoreOpenError

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379

MOST_SECONDS = 10.0
"""An operation must be over, with all its tries, while Redis remembers it."""

SCHEMES = ("redis", "redis+sentinel", "redis+unix")

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")

Value = TypeVar("Value")


@frozen
class Address:
    """A Redis, or the Sentinels that know which one it is.

    :ivar hosts: host names and ports: of the server, or of each Sentinel.
    :ivar path: of a Unix socket, in place of hosts.
    :ivar master: the name by which Sentinels know the server; empty without them.
    :ivar socket_timeout: seconds to wait for a connection, and for an answer.
    :ivar wait_replicas: replicas that must have a change before it is acknowledged.
    :ivar prefix: what all keys begin with.
    """

    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    master: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)
    database: int = 0
    socket_timeout: float = 5.0
    wait_replicas: int = 0
    prefix: str = "mq"

    def __str__(self) -> str:
        """For the log: without secrets."""
        if self.path:
            return f"Redis at {self.path}, database {self.database}"
        where = ", ".join(f"{host}:{port}" for host, port in self.hosts)
        if self.master:
            return f"Redis {self.master!r} of the Sentinels {where}"
        return f"Redis at {where}, database {self.database}"


def parse_address(uri: str) -> Address:
    """Read a URI.

    :raise StoreOpenError: it is malformed; the text does not repeat a password.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise StoreOpenError(f"a URI of Redis begins with one of {', '.join(SCHEMES)}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    address = Address(
        **_place(parts, options),
        **_login(parts),
        sentinel_password=options.pop("sentinel_password", ""),
        socket_timeout=_number(
            options, "socket_timeout", float, 5.0, 0.1, MOST_SECONDS
        ),
        wait_replicas=_number(options, "wait_replicas", int, 0, 0),
        prefix=_prefix(options.pop("prefix", "mq")),
    )
    if options:
        raise StoreOpenError(
            f"Redis has no option {min(options)!r}; known are db, master, prefix, "
            "sentinel_password, socket_timeout and wait_replicas"
        )
    return address


def _place(parts: SplitResult, options: dict[str, str]) -> Mapping[str, Any]:
    if parts.scheme == "redis+unix":
        if not parts.path.startswith("/"):
            raise StoreOpenError("name the socket: redis+unix:///run/redis.sock?db=0")
        database = _number(options, "db", int, 0, 0)
        return {"hosts": (), "path": unquote(parts.path), "database": database}
    in_path = {"db": parts.path.removeprefix("/") or "0"}
    database = _number(in_path, "db", int, 0, 0)
    master = options.pop("master", "")
    sentinel = parts.scheme == "redis+sentinel"
    if sentinel != bool(master):
        raise StoreOpenError(
            "redis+sentinel:// needs the name of the server as master=NAME, and only "
            "that scheme takes one"
        )
    hosts = _hosts(parts, DEFAULT_SENTINEL_PORT if sentinel else DEFAULT_PORT)
    if len(hosts) > 1 and not sentinel:
        raise StoreOpenError("redis:// names one host; several are redis+sentinel://")
    return {"hosts": hosts, "master": master, "database": database}


def _hosts(parts: SplitResult, port: int) -> tuple[tuple[str, int], ...]:
    names = parts.netloc.rpartition("@")[2].split(",")
    return tuple(_host(name, port) for name in names)


def _host(name: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{name}")
        if parts.hostname:
            return parts.hostname, parts.port or port
    except ValueError:
        pass
    raise StoreOpenError(f"{name!r} is no HOST or HOST:PORT")


def _login(parts: SplitResult) -> Mapping[str, Any]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return {"username": unquote(username), "password": unquote(password)}


def _number(
    options: dict[str, str],
    name: str,
    convert: Callable[[str], Value],
    default: Value,
    least: float,
    most: float = 2**31,
) -> Value:
    text = options.pop(name, None)
    if text is None:
        return default
    try:
        if least <= float(text) <= most:
            return convert(text)
    except ValueError:
        pass
    raise StoreOpenError(
        f"{name} must be a number from {least:g} to {most:g}, not {text!r}"
    )


def _prefix(text: str) -> str:
    if not _PREFIX.match(text):
        raise StoreOpenError(
            "prefix must be 1 to 64 letters, digits, '_', '.', ':' or '-'"
        )
    return text
