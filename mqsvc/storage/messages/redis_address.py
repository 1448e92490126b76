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

_OPTION = re.compile(r"\w+\Z")

_KNOWN = (
    "known are db, dbid, master, prefix, sentinel_password, sentinel_username, "
    "socket_timeout and wait_replicas"
)

_UNREADABLE = (
    "the URI cannot be read: hosts are HOST or HOST:PORT, joined by commas, and "
    "special characters of a name or password as %XX"
)

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
    sentinel_username: str = ""
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
    parts = _split(uri)
    options = _options(parts.query)
    address = Address(
        **_place(parts, options),
        **_login(parts),
        sentinel_username=options.pop("sentinel_username", ""),
        sentinel_password=options.pop("sentinel_password", ""),
        socket_timeout=_number(
            options, "socket_timeout", float, 5.0, 0.1, MOST_SECONDS
        ),
        wait_replicas=_number(options, "wait_replicas", int, 0, 0),
        prefix=_prefix(options.pop("prefix", "mq")),
    )
    if options:
        raise StoreOpenError(f"Redis has no option {min(options)!r}; {_KNOWN}")
    return address


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StoreOpenError(_UNREADABLE) from error
    if parts.scheme not in SCHEMES:
        raise StoreOpenError(f"a URI of Redis begins with one of {', '.join(SCHEMES)}")
    # Else a part of a password could pass for something that errors may show.
    if "@" in parts.path or parts.fragment:
        raise StoreOpenError(_UNREADABLE)
    return parts


def _options(query: str) -> dict[str, str]:
    """What follows the question mark, each name once."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if not all(map(_OPTION.match, options)):
        raise StoreOpenError(f"an option is malformed; {_KNOWN}")
    if len(options) < len(pairs):
        raise StoreOpenError("an option of the URI is given twice")
    return options


def _place(parts: SplitResult, options: dict[str, str]) -> Mapping[str, Any]:
    where = parts.netloc.rpartition("@")[2]
    if parts.scheme == "redis+unix" or not where:
        return _socket(where, parts.path, options)
    database = _database(options, parts.path.removeprefix("/"))
    master = options.pop("master", "")
    if parts.scheme == "redis+sentinel" and not master:
        raise StoreOpenError("Sentinels need the name of the server: master=NAME")
    hosts = _hosts(where, DEFAULT_SENTINEL_PORT if master else DEFAULT_PORT)
    if len(hosts) > 1 and not master:
        raise StoreOpenError(
            "several hosts are Sentinels, and need the name of the server: master=NAME"
        )
    return {"hosts": hosts, "master": master, "database": database}


def _socket(where: str, path: str, options: dict[str, str]) -> Mapping[str, Any]:
    # A number alone is a database whose host was forgotten.
    if where or not path.startswith("/") or path[1:].isdecimal() or path == "/":
        raise StoreOpenError(
            "name a host, or the whole path of a socket: redis:///run/redis.sock?db=0"
        )
    if "master" in options:
        raise StoreOpenError("a socket has no Sentinels: leave out master")
    database = _database(options, "")
    return {"hosts": (), "path": unquote(path), "database": database}


def _database(options: dict[str, str], in_path: str) -> int:
    """The number of the database, by whichever names it is given."""
    names = [name for name in ("db", "dbid") if name in options]
    numbers = {_number(options, name, int, 0, 0) for name in names}
    if in_path:
        numbers.add(_number({"the database": in_path}, "the database", int, 0, 0))
    if len(numbers) > 1:
        raise StoreOpenError("the URI names two databases: give one")
    return max(numbers, default=0)


def _hosts(where: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(name, port) for name in where.split(","))


def _host(name: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{name}")
        if parts.hostname:
            return parts.hostname, parts.port or port
    except ValueError:
        pass
    raise StoreOpenError(_UNREADABLE)


def _login(parts: SplitResult) -> Mapping[str, Any]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if username and not password:
        raise StoreOpenError(
            "a user needs a password, and a password alone a colon: :PASSWORD@HOST"
        )
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
