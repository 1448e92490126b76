"""The servers that are compared, each with processes and data of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.connections import Refused
from benchmarks.processes import Program, answers_on, free_port, program
from benchmarks.scenarios import Target

CHECKOUT = Path(__file__).resolve().parent.parent
CLAIM_LIMIT = 1000
"""Raised on all alike, so that ten thousand messages are claimed in ten requests."""
REFERENCE_PROCESSES = 4


class Server:
    """Something that can be measured.

    :param directory: an empty one, for data and logs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.port = free_port()
        self.websocket_port = free_port()
        self._programs: list[Program] = []

    def start(self) -> None:
        """Return when it serves."""
        raise NotImplementedError

    def can(self, scenario: str) -> bool:
        """Whether it has what a scenario asks for."""
        return True

    def target(self) -> Target:
        """Where it serves."""
        return Target(
            f"http://127.0.0.1:{self.port}",
            f"ws://127.0.0.1:{self.websocket_port}/",
            claim_limit=CLAIM_LIMIT,
        )

    def stop(self) -> None:
        """End what was started, in the opposite order."""
        for each in reversed(self._programs):
            each.stop()

    def cpu(self) -> float:
        """Processor seconds of all of its processes."""
        return sum(each.cpu() for each in self._programs)

    def resident(self) -> list[int]:
        """Resident bytes of each process."""
        return [size for each in self._programs for size in each.resident()]

    def _run(
        self, name: str, port: int, command: list[str], **environment: str
    ) -> None:
        log = self.directory / f"{name}.log"
        running = Program(command, log, environment)
        self._programs.append(running)
        running.wait_until(lambda: answers_on(port))

    def _redis(self) -> str:
        """Start a Redis that keeps nothing on the disk; its URI."""
        port = free_port()
        command = [
            *(program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
        ]
        self._run("redis", port, command)
        return f"redis://127.0.0.1:{port}"


class Mqsvc(Server):
    """This project's server.

    :param workers: processes.
    :param on_redis: messages in Redis instead of the embedded store.
    """

    def __init__(self, directory: Path, workers: int, on_redis: bool = False) -> None:
        super().__init__(directory)
        self._workers = workers
        self._on_redis = on_redis

    def start(self) -> None:
        """Start it with a new data directory."""
        twistd = Path(sys.executable).with_name("twistd")
        listen = "tcp:{}:interface=127.0.0.1"
        command = [
            *(sys.executable, str(twistd), "--pidfile=", "--nodaemon", "mqsvc"),
            *("--data-dir", str(self.directory / "data")),
            *("--http", listen.format(self.port)),
            *("--websocket", listen.format(self.websocket_port)),
            *("--set", f"transport.max_messages_per_claim_or_pop={CLAIM_LIMIT}"),
        ]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        if self._on_redis:
            command += ["--set", f"drivers.message_store={self._redis()}/0"]
        self._run("mqsvc", self.port, command, PYTHONPATH=str(CHECKOUT))


class Bare(Server):
    """Nothing but an HTTP parser under Twisted: how fast a ping could be."""

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks.bare", str(self.port)]
        self._run("bare", self.port, command, PYTHONPATH=str(CHECKOUT))

    def can(self, scenario: str) -> bool:
        """It answers pings."""
        return scenario == "ping"


class Reference(Server):
    """Zaqar at its best: uWSGI over a Redis that keeps nothing on the disk.

    :param venv: a virtual environment with zaqar, redis and uwsgi.
    """

    def __init__(self, directory: Path, venv: Path) -> None:
        super().__init__(directory)
        self._bin = venv / "bin"

    def start(self) -> None:
        """Start Redis, the HTTP API and the WebSocket API."""
        # By default it gives up after 0.1 s, and asks again for what was already done.
        redis = f"{self._redis()}?socket_timeout=30"
        self._configure("zaqar.conf", redis, "wsgi")
        self._configure("websocket.conf", redis, "websocket")
        http = [
            *(self._program("uwsgi"), "--http", f"127.0.0.1:{self.port}"),
            *("--http-keepalive", "--add-header", "Connection: Keep-Alive"),
            *("--master", "--processes", str(REFERENCE_PROCESSES), "--die-on-term"),
            *("--disable-logging", "--need-app", "--wsgi-file"),
            str(CHECKOUT / "benchmarks" / "reference_app.py"),
        ]
        # Its WSGI application looks for its configuration there, and nowhere else.
        self._run("http", self.port, http, HOME=str(self.directory))
        websocket = [
            *(self._program("zaqar-server"), "--config-file"),
            str(self.directory / "websocket.conf"),
        ]
        self._run("websocket", self.websocket_port, websocket)

    def can(self, scenario: str) -> bool:
        """It holds no request until there is something."""
        return scenario != "wait-1000"

    def _program(self, name: str) -> str:
        path = self._bin / name
        if not path.exists():
            raise Refused(
                f"{path} is missing; benchmarks/README.rst says how to get it."
            )
        return str(path)

    def _configure(self, name: str, redis: str, transport: str) -> None:
        (self.directory / name).write_text(
            f"""\
[DEFAULT]
default_log_levels = zaqar=WARNING,osprofiler=CRITICAL
[drivers]
transport = {transport}
message_store = redis
management_store = redis
[drivers:message_store:redis]
uri = {redis}
[drivers:management_store:redis]
uri = {redis}
[transport]
max_messages_per_claim_or_pop = {CLAIM_LIMIT}
[storage]
message_pipeline = {"zaqar.notification.notifier" if transport == "websocket" else ""}
[drivers:transport:websocket]
bind = 127.0.0.1
port = {self.websocket_port}
notification_bind = 127.0.0.1
notification_port = {free_port()}
""",
            encoding="utf-8",
        )


def shapes(venv: str, workers: int) -> dict[str, Callable[[Path], Server]]:
    """What can be compared, by name."""
    made: dict[str, Callable[[Path], Server]] = {
        "reference": lambda path: Reference(path, Path(venv).expanduser()),
        "bare": Bare,
        "mqsvc-1": lambda path: Mqsvc(path, 1),
        "mqsvc-n": lambda path: Mqsvc(path, workers),
        "mqsvc-redis": lambda path: Mqsvc(path, workers, on_redis=True),
    }
    return made


def default_venv() -> str:
    """The reference's virtual environment, from the environment."""
    return os.environ.get("MQSVC_REFERENCE_VENV", "")
