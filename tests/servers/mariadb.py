"""A private MariaDB server, and a database of its own for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql

from tests.live import missing
from tests.servers.postgresql import as_nobody, give_to_nobody
from tests.servers.process import ServerProcess, once_a_run

SERVER = Path("/usr/sbin/mariadbd")


class MariaDBServer(ServerProcess):
    """A MariaDB that takes connections from this machine without a password."""

    def __init__(self) -> None:
        if not SERVER.exists():
            missing("MariaDB", "apt-get install mariadb-server")
        super().__init__("mariadb")
        self._databases = 0
        give_to_nobody(self.directory)
        initialise = as_nobody(
            *("mariadb-install-db", "--no-defaults", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", f"--datadir={self._data}"),
        )
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL)

    def command(self) -> Sequence[str]:
        """The server, told to leave the disk alone: only its process is killed."""
        return as_nobody(
            *(str(SERVER), "--no-defaults", f"--datadir={self._data}"),
            *("--bind-address=127.0.0.1", f"--port={self.port}"),
            *(f"--socket={self.directory}/socket", "--skip-name-resolve"),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-fast-shutdown=2"),
            # What a database is like whose operator thought of other things.
            *("--sql-mode=", "--character-set-server=latin1"),
        )

    def answers(self) -> bool:
        """Whether a client would be served."""
        try:
            self.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def execute(self, statement: str, database: str | None = None) -> list[Any]:
        """Run a statement outside of a transaction and give its rows."""
        with (
            pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user="root",
                database=database,
                autocommit=True,
                connect_timeout=5,
            ) as client,
            client.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())

    def new_database(self) -> str:
        """The name of a new, empty database."""
        self._databases += 1
        name = f"mqsvc_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def emptied(self, name: str) -> str:
        """The name of a database of one's own, in which all tables are empty."""
        self.execute(f"CREATE DATABASE IF NOT EXISTS {name}")
        tables = self.execute(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = "
            f"'{name}' AND table_name <> 'schema_versions'"
        )
        # Rows may refer to each other, and all of them go.
        at_once = "SET STATEMENT foreign_key_checks=0 FOR"
        for (table,) in tables:
            self.execute(f"{at_once} DELETE FROM {table}", name)
        return name

    def uri(self, database: str, scheme: str = "mariadb") -> str:
        """What an operator would configure."""
        return f"{scheme}://root@127.0.0.1:{self.port}/{database}"

    @property
    def _data(self) -> str:
        return f"{self.directory}/data"


shared_mariadb = once_a_run(MariaDBServer)
