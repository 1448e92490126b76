"""The root of the service tree: the order of starting and of stopping.

Started in this order, and stopped one after the other in the reverse order::

    DataDirectory   one process works in it at a time
    stores          then what works on them in the background
    Listener        takes connections; stopping waits for requests in flight
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolFactory,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc import __version__
from mqsvc.config import ConfigError
from mqsvc.wire.prompt import make_prompt

DRAIN_SECONDS = 10.0
"""How long stopping waits for requests in flight."""

BACKLOG = 1024
"""Connections that may wait to be taken; the system may have a lower bound."""

DRAIN_STEP_SECONDS = 0.05

SERVES = {"http": "HTTP", "websocket": "WebSocket"}
"""The protocol that is spoken at the endpoint of each option, for people."""

_LOOPBACK_INTERFACE = re.compile(r"interface=(127\.|localhost\b|\\?:\\?:1\b)")

log = Logger()


class StartFailure(SystemExit, Exception):
    """The process cannot go on starting: it ends with status 1.

    An ordinary exception as well, so that twistd removes its pid file and a daemon's
    parent learns of it.

    :param line: what is wrong and what to do, for the operator.
    """

    def __init__(self, line: str) -> None:
        super().__init__(1)
        self.line = line

    def __str__(self) -> str:
        return self.line


class DataDirectory(Service):
    """The directory of the embedded stores, locked while the process lives.

    The lock belongs to the open file, not to the process: it passes to the process
    that twistd forks as a daemon, and ends with the last one that has the file open.

    :param lock: the descriptor of the lock, where another process took it for this one.
    """

    def __init__(self, path: str, lock: int | None = None) -> None:
        self.path = path
        self._lock = lock

    def acquire(self) -> None:
        """Make the directory where it is missing, and lock it.

        :raise ConfigError: it cannot be used, or another process has it.
        """
        if self._lock is not None:
            return
        try:
            _make_directory(self.path)
            path = os.path.join(self.path, "lock")
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"data_dir: cannot use {self.path}: {reason}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigError(
                f"data_dir: {self.path} is in use by another mqsvc process; stop that "
                "one, or name another directory with --data-dir"
            ) from error
        self._lock = lock

    @property
    def lock(self) -> int:
        """The descriptor of the lock, once it is taken."""
        if self._lock is None:
            raise RuntimeError("acquire the directory first")
        return self._lock

    def release(self) -> None:
        """Let another process have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stopService(self) -> None:
        """Release the directory."""
        super().stopService()
        self.release()


class Listener(Service):
    """One endpoint that takes connections.

    :param description: the endpoint as the operator wrote it.
    :param in_flight: how many requests are not answered yet.
    :param clock: bounds the wait for them when stopping.
    :param stays_here: whether other machines must not be able to connect.
    :param is_needed: whether the process cannot start without it.
    :param option: that names the endpoint.
    :ivar serves: the protocol, for people.
    """

    def __init__(
        self,
        description: str,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
        in_flight: Callable[[], int],
        clock: IReactorTime,
        *,
        stays_here: bool,
        is_needed: bool = True,
        option: str = "http",
    ) -> None:
        self.option = option
        self.serves = SERVES[option]
        self._is_needed = is_needed
        self._was_tried = False
        self._description = description
        self._endpoint = endpoint
        self._factory = factory
        self._in_flight = in_flight
        self._clock = clock
        self._stays_here = stays_here
        self._port: IListeningPort | None = None

    @property
    def is_bound(self) -> bool:
        """Whether it takes connections; one that is not needed may not."""
        return self._port is not None

    @property
    def port(self) -> IListeningPort:
        """What listens."""
        if self._port is None:
            raise RuntimeError("a listener has no address before it is started")
        return self._port

    @property
    def address(self) -> IAddress:
        """Where it listens; with port 0, the port that was found."""
        return self.port.getHost()

    def privilegedStartService(self) -> None:
        """Bind, while the process may still bind low ports.

        :raise StartFailure: the endpoint is needed and cannot be bound, or is open to
            others than it may be; said on stderr and logged.
        """
        super().privilegedStartService()
        self._was_tried = True
        bound: list[IListeningPort] = []
        failed: list[Failure] = []
        self._endpoint.listen(self._factory).addCallbacks(bound.append, failed.append)
        if not bound:
            reason = failed[0].value if failed else "it does not listen at once"
            self._do_without(_plain(reason))
            return
        self._port = bound[0]
        make_prompt(self._port)
        if self._stays_here and not _is_local(self._port.getHost()):
            port, self._port = self._port, None
            port.stopListening()
            raise _start_failure(
                f"{self._description} can be reached from other machines, and nobody "
                "is asked who they are: set auth_strategy (docs/identity.rst), listen "
                "on interface=127.0.0.1, or, if all who can reach it are trusted, set "
                "allow_anonymous = true"
            )

    def _do_without(self, reason: str) -> None:
        problem = f"cannot listen on {self._description}: {reason}"
        if self._is_needed:
            raise _start_failure(f"{problem}; free it, or choose another endpoint")
        log.warn(
            "{problem}; started without this port for {serves}: free it, or choose "
            "another endpoint",
            problem=problem,
            serves=self.serves,
        )

    def startService(self) -> None:
        """Bind, if that was not tried before."""
        if not self._was_tried:
            self.privilegedStartService()
        super().startService()

    async def _stop(self) -> None:
        port, self._port, self._was_tried = self._port, None, False
        if port is None:
            return
        await maybeDeferred(port.stopListening)
        deadline = self._clock.seconds() + DRAIN_SECONDS
        while self._in_flight() and self._clock.seconds() < deadline:
            await deferLater(self._clock, DRAIN_STEP_SECONDS)
        if unanswered := self._in_flight():
            log.warn("stopping; requests left unanswered: {count}", count=unanswered)

    def stopService(self) -> Deferred[None]:
        """Take no more connections.

        :return: fires when no request is in flight, after some seconds at the latest.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())


class Ordered(MultiService):
    """Services that stop one after the other, those started last first."""

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            with log.failuresHandled("stopping {service}", service=service):
                await maybeDeferred(service.stopService)

    def stopService(self) -> Deferred[None]:
        """Stop one service after the other.

        :return: fires when all are stopped; a failure of one is logged and does not
            keep the others running.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())


class Root(Ordered):
    """The service that the process is; it is started once.

    :param services: stores and what works on them, in the order of starting.
    :ivar started: fires with none when all of it is started.
    """

    def __init__(
        self,
        directory: DataDirectory,
        services: Iterable[IService],
        listeners: Sequence[Listener],
    ) -> None:
        super().__init__()
        self.started: Deferred[None] = Deferred()
        self._directory = directory
        self._listeners = listeners
        for service in (directory, *services, *listeners):
            service.setServiceParent(self)

    @property
    def addresses(self) -> list[IAddress]:
        """Where it is served, HTTP first; known once it is started."""
        return [listener.address for listener in self._listeners if listener.is_bound]

    def startService(self) -> None:
        """Start everything, and say in the log what runs where."""
        raise_file_limit()
        super().startService()
        log.info(
            "mqsvc {version}: {served}, data in {directory}",
            version=__version__,
            served=served_by(self._listeners),
            directory=self._directory.path,
        )
        self.started.callback(None)


def _make_directory(path: str) -> None:
    """Make a directory and those above it that are missing, all of them synced."""
    absolute = Path(path).absolute()
    missing = [one for one in (absolute, *absolute.parents) if not one.exists()]
    os.makedirs(path, mode=0o700, exist_ok=True)
    for made in missing:
        descriptor = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def raise_file_limit() -> None:
    """Allow as many connections at a time as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def parse_endpoint(reactor: Any, option: str, text: str) -> IStreamServerEndpoint:
    """The endpoint that an endpoint string describes.

    :param option: the option to name when it cannot be understood.
    :raise ConfigError: it cannot.
    """
    try:
        description = _with_backlog(text)
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:  # each kind of endpoint fails in its own way
        raise ConfigError(
            f"{option}: {text!r} is no usable endpoint ({_plain(error)}); expected for "
            "example 'tcp:8888:interface=127.0.0.1'"
        ) from error
    return endpoint


def _with_backlog(description: str) -> str:
    """Let many clients connect at the same moment, unless the operator says else."""
    kind = description.partition(":")[0]
    if kind not in {"tcp", "tcp6", "ssl", "unix"} or "backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def shown(address: IAddress) -> str:
    """An address as people write it."""
    match address:
        case IPv4Address(host=host, port=port):
            return f"{host}:{port}"
        case IPv6Address(host=host, port=port):
            return f"[{host}]:{port}"
    return str(address)


def served_by(listeners: Iterable[Listener]) -> str:
    """What is served where, as people write it."""
    bound = filter(lambda each: each.is_bound, listeners)
    return ", ".join(f"{each.serves} on {shown(each.address)}" for each in bound)


def is_on_this_machine(description: str) -> bool:
    """Whether only this machine can connect to an endpoint of this description."""
    kind, _, rest = description.partition(":")
    return kind == "unix" or bool(_LOOPBACK_INTERFACE.search(rest))


def _is_local(address: IAddress) -> bool:
    if isinstance(address, IPv4Address | IPv6Address):
        return ip_address(address.host).is_loopback
    return True


def _plain(reason: object) -> str:
    system_error = getattr(reason, "socketError", reason)
    return getattr(system_error, "strerror", None) or str(system_error)


def _start_failure(line: str) -> StartFailure:
    log.critical("{line}", line=line)
    # By now twistd has redirected sys.stderr to the log.
    print(f"mqsvc: {line}", file=sys.__stderr__, flush=True)
    return StartFailure(line)
