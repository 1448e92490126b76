"""Database servers that the SQL management store connects to, and their drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from mqsvc.storage.errors import StoreOpenError

TURN_SECONDS = 60
"""How long to wait for another process that brings the schema up to date."""

_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""What talks to a server whose URI does not say it."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "psycopg": {
        "connect_timeout": 5,
        # A server that vanished without a word is given up after ten seconds.
        "keepalives_idle": 4,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        # Not one of libpq, but our own: see sql_postgresql.py.
        "read_timeout": 10,
    },
    "pymysql": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "write_timeout": 10,
        # A statement that waits longer for others would be given up on this side only.
        "init_command": "SET lock_wait_timeout = 9, innodb_lock_wait_timeout = 9",
        # A value that does not fit is an error, and never cut off.
        "sql_mode": "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
    },
}
"""What each driver is told, unless the URI says it."""

_FOR_ANSWERS = {"read_timeout", "write_timeout", "init_command"}
"""Which of them limit how long a statement takes."""

_LOCK_NOT_AVAILABLE = "55P03"

# These locks outlive transactions, which MySQL ends at each CREATE TABLE, and are
# given back with the connection.
_GET_LOCK = ("SELECT GET_LOCK(:name, :seconds)",)
_TURNS = {
    "postgresql": (
        "SELECT set_config('lock_timeout', :milliseconds, false)",
        "SELECT pg_advisory_lock(:number) IS NOT NULL",
    ),
    "mysql": _GET_LOCK,
    "mariadb": _GET_LOCK,
}


def with_driver(url: URL) -> URL:
    """The URL of a server, with the driver that this store is made for."""
    driver = _DRIVERS.get(url.drivername)
    return url if driver is None else url.set(drivername=f"{url.drivername}+{driver}")


def make_server_engine(url: URL, connections: int, patient: bool) -> Engine:
    """Connections to a server, each with its time-outs; none is opened yet.

    :param patient: each statement may take as long as it takes.
    """
    driver = url.get_driver_name()
    known = set(url.query) | (_FOR_ANSWERS if patient else set())
    engine = create_engine(
        url,
        connect_args={
            name: value
            for name, value in _OPTIONS.get(driver, {}).items()
            if name not in known
        },
        # Each statement sees what was committed before it; no statement relies on
        # more, and MySQL locks fewer rows than by its own default.
        isolation_level="READ COMMITTED",
        **pool_options(connections),
    )
    if driver == "psycopg":
        event.listen(engine, "do_connect", _connect_postgresql)
    return engine


def pool_options(connections: int) -> dict[str, Any]:
    """How connections are kept, whatever they lead to."""
    return {
        "pool_size": connections,
        "max_overflow": 0,
        # A connection that died while idle is replaced before it is used.
        "pool_pre_ping": True,
        # What tenants stored has no place in logs and errors.
        "hide_parameters": True,
    }


def take_schema_turn(connection: Connection, seconds: float = TURN_SECONDS) -> None:
    """Wait until no other process changes the schema of this database.

    The turn lasts until the connection is closed; it does not go back to its pool.
    SQLite needs none: there a transaction that writes is alone.

    :param seconds: how long to wait.
    :raise StoreOpenError: another one has had its turn for all that time.
    """
    statements = _TURNS.get(connection.dialect.name)
    if statements is None:
        return
    connection.detach()
    # On MySQL names are the server's, not the database's.
    digest = sha256(str(connection.engine.url.database).encode())
    values = {
        "name": f"mqsvc-{digest.hexdigest()[:32]}",
        "number": int.from_bytes(digest.digest()[:8], signed=True),
        "seconds": seconds,
        "milliseconds": str(int(seconds * 1000)),
    }
    if not _run(connection, statements, values):
        raise StoreOpenError(
            f"{connection.engine.url.render_as_string()} is being brought up to date "
            "by another process: wait for that one to end, then start again"
        )


def _connect_postgresql(
    _dialect: object, _record: object, args: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    # Only who uses the driver needs to have it.
    from mqsvc.storage.management.sql_postgresql import connect  # noqa: PLC0415

    return connect(*args, **options)


def _run(
    connection: Connection, statements: Sequence[str], values: Mapping[str, Any]
) -> bool:
    """Whether the last of some statements says yes; waiting too long is a no."""
    answer: Any = None
    try:
        with connection.begin():
            for statement in map(text, statements):
                known = {name: values[name] for name in statement.compile().params}
                answer = connection.scalar(statement, known)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return bool(answer)
