"""A private PostgreSQL server, and a database of its own for each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.live import missing
from tests.servers.process import STOP_SECONDS, ServerProcess, once_a_run

PROGRAMS = "/usr/lib/postgresql"

NOBODY = ("nobody", "nogroup")
"""Whose rights database servers get that refuse those of root."""


def as_nobody(*command: str) -> Sequence[str]:
    """A command; run by root it gives up its rights first."""
    if os.geteuid() != 0:
        return command
    user, group = NOBODY
    return (
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        *command,
    )


def give_to_nobody(directory: Path) -> None:
    """Let what :func:`as_nobody` runs use a directory."""
    if os.geteuid() == 0:
        shutil.chown(directory, *NOBODY)


def program(name: str) -> str:
    """The path of a program of the newest PostgreSQL that is installed."""
    found = sorted(Path(PROGRAMS).glob(f"*/bin/{name}"))
    if not found:
        missing(f"PostgreSQL ({name})", "apt-get install postgresql")
    return str(found[-1])


class PostgreSQLServer(ServerProcess):
    """A PostgreSQL that takes connections from this machine without a password."""

    def __init__(self) -> None:
        super().__init__("postgresql")
        self._databases = 0
        give_to_nobody(self.directory)
        initialise = [program("initdb"), "--no-sync", "--username=mqsvc"]
        # Not the locale C: the order of names must not come from the database.
        initialise += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        self._run(*initialise, f"--pgdata={self.directory}/data")

    def command(self) -> Sequence[str]:
        """The server, told to leave the disk alone: only its process is killed."""
        return as_nobody(
            *(program("postgres"), "-D", f"{self.directory}/data", "-F"),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"),
            *("-c", f"unix_socket_directories={self.directory}"),
        )

    def answers(self) -> bool:
        """Whether a client would be served."""
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End the process without waiting for its clients to go."""
        self.send(signal.SIGINT)

    def kill(self) -> None:
        """End the process and those it made, all at once."""
        children = list(self._children())
        super().kill()
        for number in children:
            end(number)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement outside of a transaction and give its rows."""
        address = f"host=127.0.0.1 port={self.port} user=mqsvc dbname={database}"
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as client:
            cursor = client.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """The name of a new, empty database."""
        self._databases += 1
        name = f"mqsvc_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def emptied(self, name: str) -> str:
        """The name of a database of one's own, in which all tables are empty."""
        found = self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")
        if not found:
            self.execute(f"CREATE DATABASE {name}")
        tables = self.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
            "AND tablename <> 'schema_versions'",
            name,
        )
        if tables:
            names = ", ".join(table for (table,) in tables)
            self.execute(f"TRUNCATE {names} CASCADE", name)
        return name

    def uri(self, database: str) -> str:
        """What an operator would configure."""
        return f"postgresql://mqsvc@127.0.0.1:{self.port}/{database}"

    def _run(self, *command: str) -> None:
        subprocess.run(as_nobody(*command), check=True, stdout=subprocess.DEVNULL)

    def _children(self) -> Iterator[int]:
        if self._process is not None and self._process.poll() is None:
            number = self._process.pid
            children = Path(f"/proc/{number}/task/{number}/children")
            yield from map(int, children.read_text().split())


def end(number: int) -> None:
    """Kill a process that is no child of this one, and wait until it is gone."""
    deadline = time.monotonic() + STOP_SECONDS
    while lives(number):
        if time.monotonic() > deadline:
            raise AssertionError(f"Process {number} cannot be killed.")
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            return


def lives(number: int) -> bool:
    """Whether a process runs; one that nobody waits for is as good as gone."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


shared_postgresql = once_a_run(PostgreSQLServer)
