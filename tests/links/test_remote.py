"""Signals between servers: who is there, and what is done while the line is down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.bus.news import News
from mqsvc.links.remote import (
    COMPANY_SECONDS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PRESENCE_SECONDS,
    STEADY_SECONDS,
    RemoteLink,
)
from mqsvc.messaging.model import Destination, Kind

QUEUE = Destination("p", Kind.QUEUE, "q")


class Exchange:
    """What lines are connected to.

    :ivar said: everything, by whomever.
    :ivar is_brittle: whether lines break as soon as they are connected.
    """

    def __init__(self) -> None:
        self.lines: list[MemoryLine] = []
        self.said: list[bytes] = []
        self.is_open = True
        self.is_brittle = False

    def close(self) -> None:
        """Cut all lines, and let nobody connect."""
        self.is_open = False
        for line in list(self.lines):
            line.cut()


class MemoryLine:
    """A line of an exchange; all hear at once.

    :ivar attempts: how often it was to be connected.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._hear: Callable[[bytes], None] | None = None
        self._over: Deferred[None] = Deferred()
        self.attempts = 0

    def __str__(self) -> str:
        return "the exchange"

    async def follow(
        self, begin: Callable[[], None], hear: Callable[[bytes], None]
    ) -> None:
        """See :class:`~mqsvc.links.remote.Line`, as for what follows."""
        self.attempts += 1
        if not self._exchange.is_open:
            raise ConnectionError("nobody answers")
        self._hear, self._over = hear, Deferred()
        self._exchange.lines.append(self)
        try:
            begin()
            if self._exchange.is_brittle:
                self.cut()
            await self._over
        finally:
            self._hear = None
            self._exchange.lines.remove(self)

    def cut(self) -> None:
        """The connection is lost."""
        self._over.errback(ConnectionError("it was cut"))

    def say(self, data: bytes) -> None:
        """All hear it."""
        self._exchange.said.append(data)
        for line in list(self._exchange.lines):
            if line._hear is not None:
                line._hear(data)


class Server:
    """One server as far as signals go.

    :ivar heard: how often it heard of the queue.
    """

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self.bus = Bus(clock=clock)
        self.line = MemoryLine(exchange)
        self.link = RemoteLink(self.line, str(self.line), self.bus, clock)
        self.bus.connect(self.link)
        self.heard = 0
        self.bus.subscribe(QUEUE, self._hear)

    def _hear(self, posted: Any) -> None:
        self.heard += 1


class ServersTests(SynchronousTestCase):
    """Servers on one exchange."""

    def setUp(self) -> None:
        """An exchange."""
        self.clock = Clock()
        self.exchange = Exchange()

    def start(self) -> Server:
        """Start a server."""
        server = Server(self.exchange, self.clock)
        server.link.startService()
        self.addCleanup(self.stop, server)
        return server

    def stop(self, server: Server) -> None:
        """Stop a server."""
        stopping = server.link.stopService()
        self.clock.advance(0)
        self.successResultOf(stopping)

    def publish(self, server: Server) -> None:
        """Signal, and let it be sent."""
        server.bus.publish(QUEUE)
        self.clock.advance(0)

    def test_heard(self) -> None:
        """Each hears the signals of the others, and its own once."""
        servers = [self.start() for _ in range(3)]
        for server in servers:
            server.heard = 0
        for server in servers:
            self.publish(server)
        self.assertEqual([3] * 3, [server.heard for server in servers])

    def test_changes(self) -> None:
        """What one changes the others ask for again."""
        first, second = self.start(), self.start()
        bases = [second.bus.basis(slot) for slot in (5, 6)]
        first.bus.changed(5)
        self.clock.advance(0)
        self.assertEqual([False, True], [second.bus.holds(each) for each in bases])

    def test_alone(self) -> None:
        """A server that is alone says that it is there, and not what happens."""
        server = self.start()
        self.exchange.said.clear()
        self.publish(server)
        server.bus.changed(5)
        self.clock.advance(0)
        self.assertEqual([], self.exchange.said)
        self.clock.advance(PRESENCE_SECONDS)
        self.assertEqual(1, len(self.exchange.said))

    def test_late(self) -> None:
        """Who comes later is heard from its first signal on, and hears at once."""
        first = self.start()
        self.clock.advance(PRESENCE_SECONDS * 10)
        for number in range(3):
            basis, first.heard = first.bus.basis(5), 0
            late = self.start()
            self.assertFalse(first.bus.holds(basis))
            self.assertGreaterEqual(first.heard, 1, number)
            for from_, to in ((late, first), (first, late)):
                to.heard = 0
                self.publish(from_)
                self.assertEqual(1, to.heard, number)

    def test_silence(self) -> None:
        """They stay acquainted without signals, and forget those who left."""
        first, second = self.start(), self.start()
        for _ in range(20):
            self.clock.advance(PRESENCE_SECONDS)
        self.assertTrue(first.link.wants(QUEUE))
        self.stop(second)
        self.clock.pump([PRESENCE_SECONDS] * int(COMPANY_SECONDS // PRESENCE_SECONDS))
        self.assertTrue(first.link.wants(QUEUE))
        self.clock.advance(PRESENCE_SECONDS)
        self.assertFalse(first.link.wants(QUEUE))

    def test_down(self) -> None:
        """While the line is down all look, know that they must, and try again."""
        servers = [self.start(), self.start()]
        for server in servers:
            self.assertTrue(server.bus.is_whole)
            server.heard = 0
        with capturedLogs() as logged:
            self.exchange.close()
            for server in servers:
                self.assertFalse(server.bus.is_whole)
                self.assertEqual(1, server.heard)
                self.publish(server)
                self.assertEqual(2, server.heard)
            self.clock.pump([LONGEST_PAUSE] * 20)
        texts = [formatEvent(event) for event in logged]
        self.assertEqual(2, sum("it was cut" in text for text in texts), texts)
        self.assertEqual(2, sum("nobody answers" in text for text in texts), texts)
        self.exchange.is_open = True
        for server in servers:
            server.heard = 0
        self.clock.advance(LONGEST_PAUSE)
        for server in servers:
            self.assertTrue(server.bus.is_whole)
            self.assertGreaterEqual(server.heard, 1)
        for server in servers:
            server.heard = 0
        self.publish(servers[0])
        self.assertEqual([1, 1], [server.heard for server in servers])

    def test_pauses(self) -> None:
        """Attempts come soon at first and then less often, but do not end."""
        self.exchange.close()
        server = self.start()
        self.assertEqual(1, server.line.attempts)
        self.clock.advance(FIRST_PAUSE)
        self.assertEqual(2, server.line.attempts)
        self.clock.advance(FIRST_PAUSE)
        self.assertEqual(2, server.line.attempts)
        self.clock.pump([LONGEST_PAUSE] * 50)
        self.assertGreater(server.line.attempts, 50)

    def test_pauses_while_it_breaks(self) -> None:
        """A line that breaks whenever it is connected is tried less often, too."""
        self.exchange.is_brittle = True
        server = self.start()
        self.clock.pump([FIRST_PAUSE] * 100)
        self.assertLess(server.line.attempts, 10)
        self.clock.pump([LONGEST_PAUSE] * 10)
        self.assertGreater(server.line.attempts, 10)

    def test_pause_after_long(self) -> None:
        """A line that was up for long is connected again soon, whatever was before."""
        self.exchange.close()
        server = self.start()
        self.clock.pump([LONGEST_PAUSE] * 10)
        self.exchange.is_open = True
        self.clock.advance(LONGEST_PAUSE)
        self.clock.advance(STEADY_SECONDS)
        before = server.line.attempts
        server.line.cut()
        self.clock.advance(FIRST_PAUSE)
        self.assertEqual(before + 1, server.line.attempts)

    def test_stopped_while_down(self) -> None:
        """A server can stop between two attempts."""
        self.exchange.close()
        server = self.start()
        self.stop(server)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopped(self) -> None:
        """A server that stopped says nothing more."""
        server, other = self.start(), self.start()
        self.stop(server)
        other.heard = 0
        self.publish(server)
        self.assertEqual(0, other.heard)
        self.assertFalse(server.link.is_up)

    def test_workers_of_one(self) -> None:
        """Who shares a board was told otherwise, and does not listen here."""
        first, second = self.start(), self.start()
        second.heard = 0
        first.line.say(News([QUEUE]).encode(second.bus.board.identity))
        self.assertEqual(0, second.heard)

    def test_nonsense(self) -> None:
        """What is no signal is passed over."""
        first, second = self.start(), self.start()
        second.heard = 0
        for data in (b"", b"x", b"\x94\x01\x90\x90"):
            first.line.say(data)
        self.publish(first)
        self.assertEqual(1, second.heard)

    def test_failing_listener(self) -> None:
        """A listener that fails is logged and costs nothing else."""
        first, second = self.start(), self.start()
        end = second.bus.subscribe(QUEUE, lambda _: 1 // 0)
        self.publish(first)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        end()
        second.heard = 0
        self.publish(first)
        self.assertEqual(1, second.heard)
