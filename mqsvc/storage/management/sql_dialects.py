"""What differs between the database systems that the SQL management store runs on.

Everything else of the store is the same SQL for all of them.
"""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    String,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT, VARBINARY
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.types import TypeDecorator, TypeEngine

from mqsvc.storage.errors import StoreOpenError

SQLITE_BUSY_TIMEOUT = 10
"""Seconds to wait for another connection's lock, unless the URI has ``?timeout=``."""

_WRITES = "mqsvc_writes"

_LOST_RACES = {
    1213,  # MySQL and MariaDB: deadlock
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
}


class ExactText(TypeDecorator[str]):
    """Short text, equal and ordered by code points and nothing else.

    :param length: the most characters.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite compares so by itself, PostgreSQL by a collation, MySQL bytes only.

        (The collations of MySQL and MariaDB that go by code point mostly disregard
        blanks at the end: two tenants would be one.)
        """
        if dialect.name == "postgresql":
            return String(self.length, collation="C")
        if _is_mysql(dialect):
            return VARBINARY(4 * self.length)
        return String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Text to what the column takes."""
        if value is not None and _is_mysql(dialect):
            return value.encode()
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """What the column gave to text."""
        return value.decode() if isinstance(value, bytes) else value


def long_text() -> TypeEngine[str]:
    """The type of text that is never compared; MySQL's own TEXT ends at 64 KiB."""
    return Text().with_variant(MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")


def make_engine(uri: str | URL, connections: int) -> Engine:
    """The connections to a database, none of them opened yet.

    A missing SQLite file is made, for its owner's eyes only.

    :raise StoreOpenError: the URI names no database that could be used.
    """
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite":
            return _make_sqlite_engine(url, connections)
        return _make_pooled_engine(url, connections)
    except (ArgumentError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreOpenError(f"this URI cannot be used: {reason}") from error


def for_writing(engine: Engine) -> Engine:
    """The same connections, whose transactions are begun with the aim to write."""
    return engine.execution_options(**{_WRITES: True})


def writing_turn(engine: Engine) -> AbstractContextManager[object]:
    """What a thread holds while it writes, if only one can.

    SQLite has one writer at a time and lets the others poll; in one process they can
    just as well queue.
    """
    return Lock() if engine.dialect.name == "sqlite" else nullcontext()


def lost_a_race(error: DBAPIError) -> bool:
    """Whether a transaction failed because of another one, and could now succeed.

    An integrity error means that somebody inserted the same row after this one had
    looked for it, on a database whose writers do not wait for each other.
    """
    facts = {getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())}
    return isinstance(error, IntegrityError) or not facts.isdisjoint(_LOST_RACES)


def _make_pooled_engine(url: URL, connections: int) -> Engine:
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        # A connection that died while idle is replaced before it is used.
        pool_pre_ping=True,
        # What tenants stored has no place in logs and errors.
        hide_parameters=True,
    )


def _make_sqlite_engine(url: URL, connections: int) -> Engine:
    if url.database in {None, "", ":memory:"}:
        raise StoreOpenError(
            "the SQLite management store needs a file: "
            "name one, as in sqlite:////var/lib/mqsvc/management.db"
        )
    # Absolute, since a daemon changes its directory between open and use.
    path = Path(str(url.database)).absolute()
    path.touch(0o600)
    url = url.set(database=str(path))
    if "timeout" not in url.query:
        url = url.update_query_dict({"timeout": str(SQLITE_BUSY_TIMEOUT)})
    engine = _make_pooled_engine(url, connections)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions too late, and end them before DDL.
    connection.isolation_level = None
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode FULL is what syncs the log at every commit.
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        # The pool drops a connection that fails here without closing it.
        connection.close()
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A writer that began as a reader could be refused at its first change.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_mysql(dialect: Dialect) -> bool:
    return dialect.name in {"mysql", "mariadb"}
