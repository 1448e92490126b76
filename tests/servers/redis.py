"""Redis servers for tests, and a client that blocks."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, execute

from mqsvc.storage.messages.redis_scripts import Argument, UnknownScript
from tests.live import missing
from tests.servers.process import START_SECONDS, ServerProcess, once_a_run

REDIS_SERVER = "/usr/bin/redis-server"
REDIS_SENTINEL = "/usr/bin/redis-sentinel"


class RedisError(Exception):
    """The server refused a command."""


class BlockingConnection:
    """A connection whose answers are there when it returns.

    It has the methods of :class:`~mqsvc.storage.messages.redis_scripts.Connection`,
    so that a store over it has fired its Deferreds when it returns them.
    """

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Connect."""
        self._socket = socket.create_connection(self._address, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")

    async def stop(self) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """The same without a coroutine."""
        if self._socket is not None:
            self._answers.close()
            self._socket.close()
            self._socket = None

    def command(self, *words: Argument, changes: bool = False) -> Deferred[Any]:
        """The answer to one command."""
        return execute(self._attempt, *words)

    def later(
        self, words: Callable[[], Sequence[Argument]], changes: bool = False
    ) -> Deferred[Any]:
        """The same; its moment has come at once."""
        return self.command(*words(), changes=changes)

    def _attempt(self, *words: Argument) -> Any:
        try:
            return self.ask(*words)
        except RedisError as error:
            if str(error).startswith("NOSCRIPT"):
                raise UnknownScript from error
            raise

    def ask(self, *words: Argument) -> Any:
        """The same without a coroutine."""
        if self._socket is None:
            raise RuntimeError("start the connection before it is given a command")
        parts = [
            each if isinstance(each, bytes) else str(each).encode() for each in words
        ]
        lines = [b"$%d\r\n%s\r\n" % (len(part), part) for part in parts]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(lines))
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, value = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(value.decode())
        if kind == b"+":
            return value
        number = int(value)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"*":
            return [self._answer() for _ in range(number)]
        return self._answers.read(number + 2)[:-2]


class RedisServer(ServerProcess):
    """A Redis with a password-free port.

    :param options: settings, each with its words, such as ``["save", ""]``.
    """

    def __init__(self, *options: Sequence[str]) -> None:
        if shutil.which(REDIS_SERVER) is None:
            missing("redis-server", "apt-get install redis-server")
        super().__init__("redis")
        self._options = list(options)
        self.password = ""

    def add_option(self, name: str, *values: str) -> None:
        """One more setting, before it is started."""
        self._options.append([name, *values])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end it."""
        if self._process is not None:
            self._process.send_signal(number)

    @property
    def uri(self) -> str:
        """Where a store finds it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        """The program and its arguments."""
        words = [
            *(REDIS_SERVER, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self.directory), "--save", ""),
            # A replica is served at once, not only after others might have come.
            *("--repl-diskless-sync-delay", "0"),
        ]
        for name, *values in self._options:
            words += [f"--{name}", *values]
        return words

    def answers(self) -> bool:
        """Whether it answers a PING, having loaded its data."""
        try:
            return self.ask("PING") == b"PONG"
        except (OSError, RedisError):
            return False

    def ask(self, *words: Argument) -> Any:
        """The answer to one command, on a connection of its own."""
        connection = BlockingConnection(self.port)
        connection.start()
        try:
            if self.password:
                connection.ask("AUTH", self.password)
            return connection.ask(*words)
        finally:
            connection.close()


def append_only_server(fsync: str) -> RedisServer:
    """A server that keeps an append-only file, not yet started.

    :param fsync: ``always`` or ``everysec``.
    """
    return RedisServer(["appendonly", "yes"], ["appendfsync", fsync])


@once_a_run
def shared_redis() -> RedisServer:
    """A server that tests share: each takes a prefix of its own."""
    return append_only_server("everysec")


class SentinelServer(ServerProcess):
    """A Sentinel that watches one server by the name ``orders``.

    :param password: what it asks everybody for, if anything.
    """

    def __init__(self, watched: RedisServer, password: str = "") -> None:
        if shutil.which(REDIS_SENTINEL) is None:
            missing("redis-sentinel", "apt-get install redis-sentinel")
        super().__init__("sentinel")
        (self.directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor orders 127.0.0.1 {watched.port} 1\n"
            "sentinel down-after-milliseconds orders 500\n"
            "sentinel failover-timeout orders 2000\n"
            + (f"requirepass {password}\n" if password else "")
        )
        self._password = password

    def command(self) -> Sequence[str]:
        """The program and its arguments."""
        return [REDIS_SENTINEL, str(self.directory / "sentinel.conf")]

    def answers(self) -> bool:
        """Whether it answers a PING."""
        connection = BlockingConnection(self.port)
        try:
            connection.start()
            if self._password:
                connection.ask("AUTH", self._password)
            return bool(connection.ask("PING") == b"PONG")
        except (OSError, RedisError):
            return False
        finally:
            connection.close()

    def until_known(self, replica: RedisServer) -> None:
        """Return when it has found a replica of the server that it watches."""
        port = str(replica.port).encode()
        self._until(
            lambda ask: any(port in each for each in ask("REPLICAS", "orders")),
            "finds no replica",
        )

    def until_succeeded(self, master: RedisServer) -> None:
        """Return when it names another master than this one."""
        port = str(master.port).encode()
        self._until(
            lambda ask: ask("GET-MASTER-ADDR-BY-NAME", "orders")[1] != port,
            "makes no replica the master",
        )

    def _until(
        self, holds: Callable[[Callable[..., Any]], bool], complaint: str
    ) -> None:
        connection = BlockingConnection(self.port)
        connection.start()
        deadline = time.monotonic() + START_SECONDS
        pause = threading.Event()
        try:
            while not holds(lambda *words: connection.ask("SENTINEL", *words)):
                if time.monotonic() > deadline:
                    raise AssertionError(f"{self.name} {complaint}:\n{self.log_end()}")
                pause.wait(0.1)
        finally:
            connection.close()
