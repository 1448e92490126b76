"""Lookups of names, some of which never end."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from threading import Event, Thread
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mqsvc.notification import names
from mqsvc.notification.channel import Verdict
from mqsvc.notification.names import MOST_KNOWN, SLOW_SECONDS, THREADS, NameLookup
from tests.notification.names import Outside
from tests.notification.notices import notice
from tests.notification.receiver import OK, Receiver, says

LIVE = ip_address("127.0.0.1")


class Threads(Clock):
    """A clock, and the way from threads to the reactor."""

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        """See :class:`twisted.internet.interfaces.IReactorFromThreads`."""
        reactor.callFromThread(function, *arguments)


class NameServer:
    """Knows all names that begin with ``live``, and answers of others in the end.

    Of those that begin with ``odd`` it tells at once what is no address.

    :ivar asked: the names in the order in which threads asked.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = Event()

    def getaddrinfo(self, name: str, port: None, type: Any) -> Any:
        """See :func:`socket.getaddrinfo`."""
        self.asked.append(name)
        if name.startswith("odd"):
            return [(socket.AF_INET, type, 6, "", ("no address", 0))]
        if not name.startswith("live"):
            self.end.wait()
            raise socket.gaierror
        return [(socket.AF_INET, type, 6, "", (str(LIVE), 0))]


class NoThread(Thread):
    """One more than the system allows."""

    def start(self) -> None:
        """See :class:`threading.Thread`."""
        raise RuntimeError("can't start new thread")


class LookupTests(TestCase):
    """Names that are looked up in real threads."""

    timeout = 30

    def setUp(self) -> None:
        """Have names of which some are dead."""
        self.clock = Threads()
        self.server = NameServer()
        self.addCleanup(self.server.end.set)
        self.lookup = NameLookup(self.clock, self.server.getaddrinfo)

    def ask(self, *asked: str) -> list[Deferred[Any]]:
        """Ask for several names."""
        return [self.lookup.addresses_of(name) for name in asked]

    async def end_of(self, lookups: list[Deferred[Any]]) -> list[Any]:
        """What all of them give, once dead names are answered, too."""
        self.server.end.set()
        return await gatherResults(lookups)

    async def test_found(self) -> None:
        """A name has its addresses, an unknown one has none."""
        (live,) = self.ask("live")
        self.assertEqual([LIVE], await live)
        self.assertEqual([[]], await self.end_of(self.ask("dead")))

    async def test_one_thread_a_name(self) -> None:
        """Who asks for a name that is being looked up shares the answer."""
        self.assertEqual([[], []], await self.end_of(self.ask("dead", "dead")))
        self.assertEqual(["dead"], self.server.asked)

    async def test_dead_names(self) -> None:
        """However many names are dead, those that have been quick do not wait."""
        (first,) = self.ask("live")
        await first
        dead = self.ask(*(f"dead{number}" for number in range(1000)))
        (again,) = self.ask("live")
        self.assertEqual([LIVE], await again)
        self.assertLessEqual(len(self.server.asked), 2 + THREADS)
        await self.end_of(dead)

    async def test_slow_names(self) -> None:
        """Names that were slow do not hold up new ones, either."""
        dead = self.ask(*(f"dead{number}" for number in range(THREADS)))
        self.clock.advance(SLOW_SECONDS + 1)
        await self.end_of(dead)
        self.server.end.clear()
        dead = self.ask(*(f"dead{number}" for number in range(THREADS)))
        (live,) = self.ask("live")
        self.assertEqual([LIVE], await live)
        await self.end_of(dead)

    async def test_odd_answers(self) -> None:
        """What the resolver gives and is no address is none, and takes no thread."""
        odd = await gatherResults(self.ask(*(f"odd{n}" for n in range(2 * THREADS))))
        self.assertEqual([[]] * 2 * THREADS, odd)
        self.assertEqual(2 * THREADS, len(self.flushLoggedErrors(ValueError)))
        self.assertEqual([LIVE], await self.lookup.addresses_of("live"))

    async def test_no_threads(self) -> None:
        """Where no thread can be had a name has no addresses, until one can be had."""
        patch = self.patch(names, "Thread", NoThread)
        for number in range(2 * THREADS):
            self.assertEqual([], await self.lookup.addresses_of(f"live{number}"))
        patch.restore()
        self.assertEqual([LIVE], await self.lookup.addresses_of("live"))

    async def test_nobody_waits(self) -> None:
        """A name is not looked up any more when all who asked have left."""
        dead = self.ask(*(f"dead{number}" for number in range(THREADS)))
        (late,) = self.ask("late")
        late.addErrback(lambda _: None)
        late.cancel()
        await self.end_of(dead)
        self.assertNotIn("late", self.server.asked)

    async def test_memory(self) -> None:
        """Not all names that ever were are remembered."""
        self.patch(names, "MOST_KNOWN", 2)
        self.assertGreater(MOST_KNOWN, 1000)
        for name in ("live1", "live2", "live3"):
            await self.lookup.addresses_of(name)
        self.assertEqual(2, len(self.lookup._kinds))

    async def test_deliveries(self) -> None:
        """Live targets are delivered to while a thousand others have no addresses."""
        receiver = Receiver([says(OK)])
        port = receiver.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.close()))
        outside = Outside(names=self.lookup)
        self.addCleanup(lambda: Deferred.fromCoroutine(outside.connections.close()))

        def deliver(host: str) -> Deferred[Any]:
            attempt = outside.webhook.deliver(notice(f"http://{host}:{port}/"))
            return Deferred.fromCoroutine(attempt)

        live = ["live.example", "127.0.0.1"]
        await gatherResults([deliver(host) for host in live])
        dead = [deliver(f"dead{number}.example") for number in range(1000)]
        for host in live:
            self.assertEqual(Verdict.DELIVERED, (await deliver(host)).verdict)
        # The reactor's own threads are as free as before.
        self.assertEqual(5, await deferToThread(lambda: 5))
        for one in dead:
            one.addErrback(lambda _: None)
            one.cancel()
