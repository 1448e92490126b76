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
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.types import TypeDecorator, TypeEngine

from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.management.sql_servers import (
    make_server_engine,
    pool_options,
    with_driver,
)
from mqsvc.storage.turns import SharedTurn, Turn

SQLITE_BUSY_TIMEOUT = 10
"""Seconds to wait for another connection's lock, unless the URI has ``?timeout=``."""

_WRITES = "mqsvc_writes"

_NUL, _ESCAPE = "\x00", "\x01"
_ESCAPED_NUL, _ESCAPED_ESCAPE = "\x01\x01", "\x01\x02"

_LOST_RACES = {
    1213,  # MySQL and MariaDB: deadlock
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
}


class ExactText(TypeDecorator[str]):
    """Short text, equal and ordered by code points and nothing else.

    :param length: the most characters.
    :param controls: whether control characters count among them.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int, controls: bool = False) -> None:
        super().__init__(length)
        self.length = length
        self.controls = controls

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite compares so by itself, PostgreSQL by a collation, MySQL bytes only.

        (The collations of MySQL and MariaDB that go by code point mostly disregard
        blanks at the end: two tenants would be one.)
        """
        if dialect.name == "postgresql":
            return String(self.length * (1 + self.controls), collation="C")
        if _is_mysql(dialect):
            # Only who has such a server needs its dialect.
            from sqlalchemy.dialects.mysql import VARBINARY  # noqa: PLC0415

            return VARBINARY(4 * self.length)
        return String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Text to what the column takes."""
        if value is not None and _is_mysql(dialect):
            return value.encode()
        return _without_nul(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """What the column gave to text."""
        if isinstance(value, bytes):
            return value.decode()
        return _with_nul(value, dialect)


class LongText(TypeDecorator[str]):
    """Text of any length that is never compared."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The TEXT of MySQL itself ends at 64 KiB."""
        if not _is_mysql(dialect):
            return Text()
        from sqlalchemy.dialects.mysql import MEDIUMTEXT  # noqa: PLC0415

        return MEDIUMTEXT(charset="utf8mb4")

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        """Text to what the column takes."""
        return _without_nul(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """What the column gave to text."""
        return _with_nul(value, dialect)


def make_engine(uri: str | URL, connections: int, patient: bool = False) -> Engine:
    """The connections to a database, none of them opened yet.

    A missing SQLite file is made, for its owner's eyes only.

    :param patient: a server may take any time for a statement.
    :raise StoreOpenError: the URI names no database that could be used.
    """
    try:
        url = with_driver(make_url(uri))
        if url.get_backend_name() == "sqlite":
            return _make_sqlite_engine(url, connections)
        return make_server_engine(url, connections, patient)
    except (ArgumentError, ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreOpenError(f"this URI cannot be used: {reason}") from error


def for_writing(engine: Engine) -> Engine:
    """The same connections, whose transactions are begun with the aim to write."""
    return engine.execution_options(**{_WRITES: True})


def make_tables_transactional(connection: Connection) -> None:
    """Have tables that this connection makes keep transactions.

    On MySQL and MariaDB that is up to the server's default, unless it is said. (Each
    table could say it, but then SQLAlchemy loads their dialects for everybody.)
    """
    if _is_mysql(connection.dialect):
        with connection.begin():
            connection.exec_driver_sql("SET default_storage_engine = InnoDB")


def writing_turn(engine: Engine, shared: bool) -> AbstractContextManager[object]:
    """What a thread holds while it writes, if only one can.

    SQLite has one writer at a time and lets the others poll; on one machine they can
    just as well queue.

    :param shared: whether other processes have the database as well.
    """
    if engine.dialect.name != "sqlite":
        return nullcontext()
    return _Turns(SharedTurn(str(engine.url.database)) if shared else Turn())


class _Turns(AbstractContextManager[None]):
    """Turns of the threads of this process, and behind that of this process."""

    def __init__(self, turn: Turn) -> None:
        self._lock = Lock()
        self._turn = turn

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._turn.__enter__()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *error: Any) -> None:
        try:
            self._turn.__exit__(*error)
        finally:
            self._lock.release()


def lost_a_race(error: DBAPIError) -> bool:
    """Whether a transaction failed because of another one, and could now succeed.

    An integrity error means that somebody inserted the same row after this one had
    looked for it, on a database whose writers do not wait for each other.
    """
    facts = {getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())}
    return isinstance(error, IntegrityError) or not facts.isdisjoint(_LOST_RACES)


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
    engine = create_engine(url, **pool_options(connections))
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


def _without_nul(value: str | None, dialect: Dialect) -> str | None:
    """Text as PostgreSQL takes it, which takes all characters but one.

    Texts keep their order by code points: the escape is the next character.
    """
    if value is None or dialect.name != "postgresql":
        return value
    return value.replace(_ESCAPE, _ESCAPED_ESCAPE).replace(_NUL, _ESCAPED_NUL)


def _with_nul(value: str | None, dialect: Dialect) -> str | None:
    if value is None or dialect.name != "postgresql":
        return value
    return value.replace(_ESCAPED_NUL, _NUL).replace(_ESCAPED_ESCAPE, _ESCAPE)


def _is_mysql(dialect: Dialect) -> bool:
    return dialect.name in {"mysql", "mariadb"}
