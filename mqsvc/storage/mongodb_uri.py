"""What a MongoDB URI says, and what this program cannot do of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from mqsvc.storage.errors import StoreOpenError

DATABASE = "mqsvc"
"""The database of a URI that names none."""

_SECURE = ("tls", "ssl")
_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1")


@frozen
class Address:
    """A database and how to write to it.

    :ivar uri: as configured; may hold a password.
    :ivar hosts: what may be shown of it.
    :ivar host_count: how many servers it names.
    :ivar credentials: database, name and password of the user, if there is one.
    :ivar mechanism: how the user logs in; ``DEFAULT`` is by what the server has.
    :ivar write_concern: acknowledged by a majority, and in its journal, unless the
        URI says otherwise.
    :ivar patience: milliseconds to look for a server at the start.
    :ivar connections: how many the URI allows; none is for the store to say.
    """

    uri: str = field(repr=False)
    hosts: str
    host_count: int
    database: str
    credentials: tuple[str, str, str] | None = field(repr=False)
    mechanism: str
    write_concern: dict[str, Any]
    patience: int
    connections: int | None

    @property
    def read_concern(self) -> dict[str, str]:
        """What a majority has, unless writes do not wait for one."""
        majority = self.write_concern["w"] == "majority"
        return {"level": "majority" if majority else "local"}


def read_uri(uri: str) -> Address:
    """The address that a URI stands for.

    :raise StoreOpenError: it is malformed, or asks for what cannot be done.
    """
    if uri.startswith("mongodb+srv:"):
        raise StoreOpenError(
            "servers are not looked up: name them, mongodb://host1,host2/database"
        )
    try:
        parsed = parse_uri(uri)
    except (PyMongoError, ValueError) as error:
        raise StoreOpenError(f"this URI cannot be used: {_first_line(error)}") from None
    options = {name.lower(): value for name, value in parsed["options"].items()}
    _check(options)
    return Address(
        uri=uri,
        hosts=",".join(f"{host}:{port}" for host, port in parsed["nodelist"]),
        host_count=len(parsed["nodelist"]),
        database=parsed["database"] or DATABASE,
        credentials=_credentials(parsed, options),
        mechanism=options.get("authmechanism", "DEFAULT"),
        write_concern={
            "w": options.get("w", "majority"),
            "j": options.get("j", options.get("journal", True)),
            # Without it a write would wait for a lost majority for ever.
            "wtimeout": options.get("wtimeoutms", 10_000),
        },
        patience=options.get("serverselectiontimeoutms", 10_000),
        # Zero is no limit.
        connections=options.get("maxpoolsize") or None,
    )


def refuse_router(hello: Mapping[str, Any]) -> None:
    """Go on if it is a server that answers; a router hides which server does.

    :param hello: its answer to the command of that name.
    :raise StoreOpenError: it is a router.
    """
    if hello.get("msg") == "isdbgrid":
        raise StoreOpenError(
            "this is a router (mongos) of a sharded cluster, which no store can be "
            "kept behind: name a server or the members of a replica set themselves"
        )


def _check(options: dict[str, Any]) -> None:
    if any(options.get(name) for name in _SECURE):
        raise StoreOpenError(
            "this version speaks no TLS with MongoDB: reach the server through a "
            "private network or a TLS tunnel, and leave tls out of the URI"
        )
    if options.get("authmechanism", "DEFAULT") not in {"DEFAULT", *_MECHANISMS}:
        raise StoreOpenError(
            f"this version logs in to MongoDB with {' or '.join(_MECHANISMS)} only: "
            "leave authMechanism out of the URI and let the user have one of them"
        )
    if options.get("readpreference", "primary") not in {"primary", 0}:
        raise StoreOpenError(
            "reading from anything but the primary would show old data: "
            "leave readPreference out of the URI"
        )
    if options.get("w") == 0:
        raise StoreOpenError("w=0 acknowledges nothing: leave it out of the URI")


def _credentials(
    parsed: dict[str, Any], options: dict[str, Any]
) -> tuple[str, str, str] | None:
    if not parsed["username"]:
        return None
    source = options.get("authsource") or parsed["database"] or "admin"
    return source, parsed["username"], parsed["password"] or ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
