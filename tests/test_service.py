"""The service tree: the order of start and stop, the listener, the data directory."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactor
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mqsvc import __version__
from mqsvc.config import ConfigError
from mqsvc.service import (
    DRAIN_SECONDS,
    DataDirectory,
    Listener,
    Root,
    StartFailure,
    parse_endpoint,
    shown,
)

LOOPBACK = "tcp:0:interface=127.0.0.1"


def factory() -> Factory:
    """What accepts connections and says nothing."""
    return Factory.forProtocol(Protocol)


def lines(events: list[LogEvent], level: str) -> list[str]:
    """The text of what was logged by the service tree at one level."""
    return [
        formatEvent(event)
        for event in events
        if event["log_level"].name == level
        and event["log_namespace"].startswith("mqsvc")
    ]


def accepts_connections(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """An endpoint that needs a while before it listens."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen some time later."""
        return Deferred()


class Noted(Service):
    """Notes when it is started and stopped, and stops when it is told to."""

    def __init__(self, label: str, notes: list[str]) -> None:
        self.label = label
        self.notes = notes
        self.stopped: Deferred[None] | None = None

    def startService(self) -> None:
        """Note it."""
        super().startService()
        self.notes.append(f"start {self.label}")

    def stopService(self) -> Deferred[None] | None:
        """Note it; fires when the test lets it, if the test wants that."""
        super().stopService()
        self.notes.append(f"stop {self.label}")
        return self.stopped


class Breaking(Service):
    """Fails when it is stopped."""

    def stopService(self) -> None:
        """Fail."""
        raise RuntimeError("broken")


class DataDirectoryTests(SynchronousTestCase):
    """One process at a time works in a directory."""

    def acquired(self, path: str) -> DataDirectory:
        """A directory that is locked until the end of the test."""
        directory = DataDirectory(path)
        directory.acquire()
        self.addCleanup(directory.release)
        return directory

    def test_made_for_its_owner(self) -> None:
        """A missing directory is made, with those above it, for the owner alone."""
        path = os.path.join(self.mktemp(), "a", "b")
        self.acquired(path)
        self.assertEqual(0o700, stat.S_IMODE(os.stat(path).st_mode))

    def test_second_lock(self) -> None:
        """A directory that is locked is refused, and can be had once it is free."""
        path = self.mktemp()
        first = self.acquired(path)
        error = self.assertRaises(ConfigError, DataDirectory(path).acquire)
        self.assertEqual(
            f"data_dir: {path} is in use by another mqsvc process; stop that one, or "
            "name another directory with --data-dir",
            str(error),
        )
        first.release()
        self.acquired(path)

    def test_stopping_releases(self) -> None:
        """A directory is free once its service is stopped."""
        path = self.mktemp()
        first = self.acquired(path)
        first.startService()
        first.stopService()
        self.acquired(path)

    def test_unusable(self) -> None:
        """What cannot be a directory is refused with the reason."""
        path = self.mktemp()
        Path(path).touch()
        for name, reason in (
            (path, "File exists"),
            (f"{path}/below", "Not a directory"),
            ("nul\0", "embedded null byte"),
        ):
            error = self.assertRaises(ConfigError, DataDirectory(name).acquire)
            self.assertEqual(f"data_dir: cannot use {name}: {reason}", str(error))


class EndpointTests(SynchronousTestCase):
    """Endpoint strings and addresses."""

    def test_backlog(self) -> None:
        """Many may connect at the same moment, unless the operator says how many."""
        for text, backlog in (("tcp:1", 1024), ("tcp:1:backlog=7", 7)):
            memory = MemoryReactor()
            endpoint = parse_endpoint(memory, "http", text)
            self.successResultOf(endpoint.listen(Factory()))
            self.assertEqual([backlog], [server[2] for server in memory.tcpServers])

    def test_unusable(self) -> None:
        """An endpoint string that means nothing is refused with option and example."""
        for text in ("", "8888", "tcp", "tcp:x", "tcp:1:bogus=1", "ssl:1", "zzz:1"):
            error = self.assertRaises(
                ConfigError, parse_endpoint, reactor, "http", text
            )
            self.assertTrue(
                str(error).startswith(f"http: {text!r} is no usable endpoint ("), error
            )
            self.assertIn("for example 'tcp:8888:interface=127.0.0.1'", str(error))
            self.assertEqual(1, len(str(error).splitlines()))

    def test_shown(self) -> None:
        """Addresses are shown as people write them."""
        self.assertEqual("10.0.0.1:80", shown(IPv4Address("TCP", "10.0.0.1", 80)))
        self.assertEqual("[::1]:80", shown(IPv6Address("TCP", "::1", 80)))
        self.assertIn("/run/s", shown(UNIXAddress("/run/s")))


class ListenerTests(TestCase):
    """One endpoint, bound and unbound."""

    def listener(
        self,
        description: str = LOOPBACK,
        in_flight: Callable[[], int] = int,
        clock: Clock | None = None,
        stays_here: bool = False,
    ) -> Listener:
        """A listener on an endpoint of this machine."""
        endpoint = parse_endpoint(reactor, "http", description)
        clock = Clock() if clock is None else clock
        return Listener(
            *(description, endpoint, factory(), in_flight, clock),
            stays_here=stays_here,
        )

    def started(self, *arguments: Any) -> Listener:
        """A listener that is started, and stopped after the test."""
        listener = self.listener(*arguments)
        listener.privilegedStartService()
        listener.startService()
        self.addCleanup(listener.stopService)
        return listener

    def failure_to_bind(self, listener: Listener) -> tuple[str, str, list[str]]:
        """The line of a failure, what was printed, and what was logged."""
        stderr = StringIO()
        self.patch(sys, "__stderr__", stderr)
        with capturedLogs() as events:
            failure = self.assertRaises(StartFailure, listener.privilegedStartService)
        self.assertEqual(1, failure.code)
        return str(failure), stderr.getvalue(), lines(events, "critical")

    def test_bound_at_once(self) -> None:
        """Its address is known, and taken, as soon as it is bound."""
        listener = self.listener()
        self.assertRaises(RuntimeError, lambda: listener.address)
        listener.privilegedStartService()
        self.addCleanup(listener.stopService)
        self.assertTrue(accepts_connections(listener.address.port))

    def test_started_without_privileges(self) -> None:
        """It is bound at the start if it was not bound before."""
        listener = self.listener()
        listener.startService()
        self.addCleanup(listener.stopService)
        self.assertTrue(accepts_connections(listener.address.port))

    def test_starting_keeps_what_is_bound(self) -> None:
        """It keeps the port that it has when it is started."""
        listener = self.listener()
        listener.privilegedStartService()
        self.addCleanup(listener.stopService)
        port = listener.address.port
        listener.startService()
        self.assertEqual(port, listener.address.port)

    async def test_port_in_use(self) -> None:
        """A port that is taken ends the start; that is printed and logged."""
        port = self.started().address.port
        second = self.listener(f"tcp:{port}:interface=127.0.0.1")
        line, printed, logged = self.failure_to_bind(second)
        self.assertEqual(
            f"cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use; "
            "free it, or choose another endpoint",
            line,
        )
        self.assertEqual(f"mqsvc: {line}\n", printed)
        self.assertEqual([line], logged)

    def test_impossible_port(self) -> None:
        """A port that does not exist ends the start as well."""
        line, _, _ = self.failure_to_bind(self.listener("tcp:65536"))
        self.assertTrue(line.startswith("cannot listen on tcp:65536: "), line)

    def test_endpoint_that_is_slow_to_listen(self) -> None:
        """An endpoint that would listen later is refused."""
        listener = Listener(
            *("slow", SlowEndpoint(), factory(), int, Clock()), stays_here=True
        )
        line, _, _ = self.failure_to_bind(listener)
        self.assertIn("it does not listen at once", line)

    def test_start_failure_is_an_exception(self) -> None:
        """What catches exceptions sees it, and it ends the process with status 1."""
        failure = StartFailure("why")
        self.assertIsInstance(failure, Exception)
        self.assertIsInstance(failure, SystemExit)
        self.assertEqual(("why", 1), (str(failure), failure.code))

    async def test_stop(self) -> None:
        """A stopped one takes no connections."""
        listener = self.started()
        port = listener.address.port
        await listener.stopService()
        self.assertFalse(accepts_connections(port))

    async def test_stop_again(self) -> None:
        """One that is stopped waits for nothing when it is stopped again."""
        requests = [None]
        listener = self.started(LOOPBACK, requests.__len__)
        requests.clear()
        await listener.stopService()
        requests.append(None)
        self.successResultOf(listener.stopService())

    async def test_stop_waits_for_requests(self) -> None:
        """Stopping takes no more connections, then waits for requests in flight."""
        clock, waiting = Clock(), [None]
        listener = self.started(LOOPBACK, lambda: len(waiting), clock)
        port = listener.address.port
        stopped = listener.stopService()
        await self.unbound(port)
        clock.pump([0.1] * 20)
        self.assertNoResult(stopped)
        waiting.clear()
        clock.advance(0.1)
        self.successResultOf(stopped)

    async def test_stop_waits_no_longer_than_it_may(self) -> None:
        """Requests that never end are given up after the time for them, and counted."""
        clock = Clock()
        listener = self.started(LOOPBACK, lambda: 3, clock)
        port = listener.address.port
        with capturedLogs() as events:
            stopped = listener.stopService()
            await self.unbound(port)
            clock.pump([0.1] * 99)
            self.assertNoResult(stopped)
            clock.pump([0.1] * 2)
        self.successResultOf(stopped)
        self.assertEqual(10, DRAIN_SECONDS)
        self.assertEqual(
            ["stopping; requests left unanswered: 3"], lines(events, "warn")
        )

    async def unbound(self, port: int) -> None:
        """Wait until nothing listens on a port."""
        while accepts_connections(port):
            await deferLater(reactor, 0)

    def test_reachable_address(self) -> None:
        """An address that others can reach is refused where callers are not asked."""
        listener = self.listener("tcp:0:interface=0.0.0.0", stays_here=True)
        _, printed, logged = self.failure_to_bind(listener)
        self.assertIn("allow_anonymous = true", printed)
        self.assertEqual(1, len(logged))
        self.successResultOf(listener.stopService())

    def test_addresses_that_are_allowed(self) -> None:
        """One of this machine alone is fine, and any other one where callers are."""
        self.started("tcp:0:interface=127.0.0.1", int, None, True)
        self.started("tcp:0:interface=0.0.0.0", int, None, False)


class RootTests(TestCase):
    """The whole tree."""

    def setUp(self) -> None:
        """Make a tree of two services and a listener, not started."""
        self.notes: list[str] = []
        self.first, self.second = Noted("one", self.notes), Noted("two", self.notes)
        self.directory = DataDirectory(self.mktemp())
        self.directory.acquire()
        self.addCleanup(self.directory.release)
        endpoint = parse_endpoint(reactor, "http", LOOPBACK)
        self.listener = Listener(
            *(LOOPBACK, endpoint, factory(), int, Clock()), stays_here=True
        )

    def root(self, *services: Service) -> Root:
        """The tree, started with these services and stopped after the test."""
        root = Root(self.directory, services, [self.listener])
        root.privilegedStartService()
        root.startService()
        self.addCleanup(lambda: root.stopService() if root.running else None)
        return root

    def test_start(self) -> None:
        """Services start in their order; then it is started and has its addresses."""
        root = self.root(self.first, self.second)
        self.successResultOf(root.started)
        self.assertEqual(["start one", "start two"], self.notes)
        (address,) = root.addresses
        self.assertTrue(accepts_connections(address.port))

    def test_bound_before_services_start(self) -> None:
        """The listener is bound while the process may still have privileges."""
        root = Root(self.directory, [self.first], [self.listener])
        self.addCleanup(root.stopService)
        root.privilegedStartService()
        self.assertEqual([], self.notes)
        self.assertTrue(accepts_connections(root.addresses[0].port))
        self.assertNoResult(root.started)

    def test_announcement(self) -> None:
        """The log says which version serves where, and where its data is."""
        with capturedLogs() as events:
            root = self.root()
        self.assertEqual(
            [
                f"mqsvc {__version__}: HTTP on 127.0.0.1:{root.addresses[0].port}, "
                f"data in {self.directory.path}"
            ],
            lines(events, "info"),
        )

    async def test_stop_one_after_the_other(self) -> None:
        """Stopping closes the listener, then each service, the first one last."""
        root = self.root(self.first, self.second)
        (address,) = root.addresses
        self.second.stopped = closing = Deferred()
        stopped = root.stopService()
        while "stop two" not in self.notes:
            await deferLater(reactor, 0)
        self.assertFalse(accepts_connections(address.port))
        self.assertEqual(["start one", "start two", "stop two"], self.notes)
        self.assertRaises(ConfigError, DataDirectory(self.directory.path).acquire)
        self.second.stopped = None
        closing.callback(None)
        await stopped
        self.assertEqual("stop one", self.notes[3])

    async def test_stop_frees_the_directory(self) -> None:
        """Another process may use the directory once all is stopped."""
        root = self.root(self.first)
        await root.stopService()
        after = DataDirectory(self.directory.path)
        after.acquire()
        after.release()

    async def test_stop_in_spite_of_failures(self) -> None:
        """A service that fails to stop is logged and does not keep the others."""
        root = self.root(self.first, Breaking())
        await root.stopService()
        self.assertEqual(["start one", "stop one"], self.notes)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
