"""Signals through a real Redis and a real MongoDB, and servers that need them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.bus import Bus
from mqsvc.config import ConfigError, load
from mqsvc.links import mongodb
from mqsvc.links.opening import make_bus
from mqsvc.links.remote import RemoteLink
from mqsvc.messaging.model import Destination, Kind
from tests.live import LiveServer, free_port
from tests.matrix import Combination
from tests.servers.mongodb import MongoServer, stand_alone
from tests.servers.redis import RedisServer, shared_redis
from tests.websocket.client import Client, connect

QUEUE = Destination("p", Kind.QUEUE, "q")
OTHER = Destination("p", Kind.QUEUE, "other")
STEP_SECONDS = 0.01
ROUNDS = 6
"""Enough for a test to take too long if each took as long as somebody may wait."""


class Member:
    """One server as far as signals go."""

    def __init__(self, uri: str) -> None:
        settings = load(None, {}, [f"drivers.bus={uri}"])
        connected = make_bus(settings, None, reactor)
        self.bus: Bus = connected.bus
        (self.link,) = connected.services
        assert isinstance(self.link, RemoteLink)

    def next_signal(self, destination: Destination = QUEUE) -> Deferred[Any]:
        """Fires at the next signal."""
        heard: Deferred[Any] = Deferred()

        def hear(posted: object) -> None:
            end()
            heard.callback(posted)

        end = self.bus.subscribe(destination, hear)
        return heard

    @staticmethod
    async def until(holds: Callable[[], bool]) -> None:
        """Look again and again until something holds."""
        while not holds():
            await deferLater(reactor, STEP_SECONDS)

    def knows_others(self) -> bool:
        """Whether it is connected, and not alone."""
        return self.link.wants(QUEUE)


class LineTests:
    """What a line has to do; in front of a test case."""

    timeout = 60

    def new_server(self: Any) -> Any:
        """A server of one's own, not yet started."""
        raise NotImplementedError

    def shared_uri(self: Any) -> str:
        """Where all tests can meet."""
        raise NotImplementedError

    async def start(self: Any, uri: str, count: int) -> list[Member]:
        """Start members, and wait until they know of each other."""
        members = [Member(uri) for _ in range(count)]
        waits = [
            Deferred.fromCoroutine(member.until(member.knows_others))
            for member in members
        ]
        for member in members:
            member.link.startService()
            self.addCleanup(member.link.stopService)
        await gatherResults(waits)
        return members

    async def test_heard(self: Any) -> None:
        """What one signals the others hear, whatever its name is."""
        first, second, third = await self.start(self.shared_uri(), 3)
        odd = Destination("p \N{SNOWMAN}\0", Kind.TOPIC, "t")
        for destination in (QUEUE, odd):
            for publisher in (first, second, third):
                others = {first, second, third} - {publisher}
                heard = [other.next_signal(destination) for other in others]
                publisher.bus.publish(destination)
                self.assertEqual([(), ()], await gatherResults(heard))

    async def test_changes(self: Any) -> None:
        """What one changes the other asks for again."""
        first, second = await self.start(self.shared_uri(), 2)
        bases = [second.bus.basis(slot) for slot in range(300)]
        for slot in range(300):
            first.bus.changed(slot)
        # The first signal comes with some of them, the second one after all.
        for _ in range(2):
            heard = second.next_signal()
            first.bus.publish(QUEUE)
            await heard
        self.assertFalse(any(map(second.bus.holds, bases)))

    async def test_restart(self: Any) -> None:
        """When the server comes back all look, and then hear each other again."""
        server = self.new_server()
        self.addCleanup(server.remove)
        await deferToThread(server.start)
        first, second = await self.start(server.uri_for_links, 2)
        looked = [member.next_signal() for member in (first, second)]
        await deferToThread(server.kill)
        await gatherResults(looked)
        self.assertFalse(first.bus.is_whole)
        # It stays in nobody's way meanwhile.
        first.bus.publish(QUEUE)
        first.bus.changed(5)
        waits = [
            Deferred.fromCoroutine(member.until(member.knows_others))
            for member in (first, second)
        ]
        await deferToThread(server.start)
        await gatherResults(waits)
        self.assertTrue(first.bus.is_whole)
        basis, heard = second.bus.basis(5), second.next_signal()
        first.bus.changed(5)
        first.bus.publish(QUEUE)
        await heard
        self.assertFalse(second.bus.holds(basis))

    async def test_nobody_there(self: Any) -> None:
        """Without a server a process starts, looks itself, and stops."""
        member = Member(self.nowhere())
        member.link.startService()
        self.assertFalse(member.bus.is_whole)
        member.bus.publish(QUEUE)
        await member.link.stopService()


class RedisLineTests(LineTests, TestCase):
    """Publish and subscribe."""

    def new_server(self) -> RedisServer:
        """See :class:`LineTests`."""
        server = RedisServer()
        server.uri_for_links = server.uri
        return server

    def shared_uri(self) -> str:
        """See :class:`LineTests`."""
        return f"{shared_redis().uri}?prefix={self.id().rpartition('.')[2]}"

    def nowhere(self) -> str:
        """See :class:`LineTests`."""
        return f"redis://127.0.0.1:{free_port()}"

    async def test_password(self) -> None:
        """A password is given, and a wrong one keeps nobody from going on."""
        server = RedisServer()
        server.add_option("requirepass", "opensesame")
        server.password = "opensesame"
        self.addCleanup(server.remove)
        await deferToThread(server.start)
        address = f"127.0.0.1:{server.port}/0"
        await self.start(f"redis://:opensesame@{address}", 2)
        member = Member(f"redis://:wrong@{address}")
        failed = member.link._line.follow(lambda: None, lambda _: None)
        error = await self.assertFailure(Deferred.fromCoroutine(failed), Exception)
        self.assertNotIn("wrong@", str(error))


class MongoLineTests(LineTests, TestCase):
    """A capped collection, on a stand-alone server."""

    def new_server(self) -> MongoServer:
        """See :class:`LineTests`."""
        server = MongoServer()
        server.uri_for_links = server.uri("links")
        return server

    def shared_uri(self) -> str:
        """See :class:`LineTests`."""
        return stand_alone().uri(f"links_{self.id().rpartition('.')[2]}")

    def nowhere(self) -> str:
        """See :class:`LineTests`."""
        return f"mongodb://127.0.0.1:{free_port()}/links"

    async def test_join_while_others_speak(self) -> None:
        """A server joins although something comes whenever it looks."""
        first, second = await self.start(self.shared_uri(), 2)
        talk = LoopingCall(first.bus.publish, QUEUE)
        talk.start(STEP_SECONDS / 10)
        self.addCleanup(talk.stop)
        third = Member(self.shared_uri())
        third.link.startService()
        self.addCleanup(third.link.stopService)
        await third.until(third.knows_others)
        heard = second.next_signal(OTHER)
        third.bus.publish(OTHER)
        await heard

    async def test_join_unnoticed(self) -> None:
        """What is put there to find the end is no signal, nor what was there before."""
        first, _ = await self.start(self.shared_uri(), 2)
        with capturedLogs() as logged:
            (third,) = await self.start(self.shared_uri(), 1)
            heard = first.next_signal(OTHER)
            third.bus.publish(OTHER)
            await heard
        texts = [formatEvent(event) for event in logged]
        self.assertEqual([], [text for text in texts if "unreadable" in text])

    async def test_broken_speaker(self) -> None:
        """When only what it speaks through is lost a server connects again."""
        self.patch(mongodb, "AWAIT_MILLISECONDS", 50)
        first, second = await self.start(self.shared_uri(), 2)
        first.link._line._speaker.connection.protocol.transport.abortConnection()
        looked = first.next_signal(OTHER)
        first.bus.publish(QUEUE)
        await looked
        await first.until(first.knows_others)
        heard = second.next_signal(OTHER)
        first.bus.publish(OTHER)
        await heard

    async def test_too_much(self) -> None:
        """Who loses its place, because too much was said, begins anew."""
        self.patch(mongodb, "BYTES", 65_536)
        first, second = await self.start(stand_alone().uri("links_small"), 2)
        for number in range(2000):
            first.bus.publish(Destination("p" * 100, Kind.QUEUE, f"q{number}"))
        heard = second.next_signal()
        first.bus.publish(QUEUE)
        await heard
        await second.until(second.knows_others)


class ChoiceTests(SynchronousTestCase):
    """Which links there are is up to the configuration."""

    shared: ClassVar[list[str]] = ["drivers.management_store=postgresql://h/d"]

    def links(self, *overrides: str) -> list[str]:
        """The descriptions of the links to other servers."""
        settings = load(None, {}, overrides)
        return [
            link._description for link in make_bus(settings, None, reactor).services
        ]

    def test_automatic(self) -> None:
        """Redis and MongoDB are used where they keep messages others may share."""
        redis = "drivers.message_store=redis://h"
        self.assertEqual(
            ["Redis at h:6379, database 0"], self.links(redis, *self.shared)
        )
        mongo = "drivers.message_store=mongodb://h/d"
        self.assertEqual(["MongoDB at h:27017"], self.links(mongo, *self.shared))
        self.assertEqual([], self.links(redis))
        self.assertEqual([], self.links(*self.shared))
        self.assertEqual([], self.links())

    def test_chosen(self) -> None:
        """A URI says it, and a word that there are to be none."""
        redis = "drivers.message_store=redis://h"
        self.assertEqual([], self.links(redis, *self.shared, "drivers.bus=none"))
        chosen = self.links("drivers.bus=mongodb://h/d", redis, *self.shared)
        self.assertEqual(["MongoDB at h:27017"], chosen)

    def test_refused(self) -> None:
        """What is neither is refused with the name of the option, and no password."""
        for uri in ("kafka://u:pw@h", "redis://u:pw@h?x=pw", "mongodb://u:pw@"):
            error = self.assertRaises(ConfigError, self.links, f"drivers.bus={uri}")
            self.assertIn("drivers.bus: ", str(error))
            self.assertNotIn("pw", str(error))

    def test_memory(self) -> None:
        """What is remembered lasts for a time where others may change the catalog."""
        for overrides, is_alone in (([], True), (self.shared, False)):
            settings = load(None, {}, overrides)
            bus = make_bus(settings, None, reactor).bus
            self.assertEqual(is_alone, bus.is_alone)

    def test_unlinked(self) -> None:
        """Without links those who wait look themselves, if others share the catalog."""
        redis = "drivers.message_store=redis://h"
        for overrides, is_whole in (
            ([redis], True),
            (self.shared, False),
            ([redis, *self.shared, "drivers.bus=none"], False),
        ):
            bus = make_bus(load(None, {}, overrides), None, reactor).bus
            self.assertEqual(is_whole, bus.is_whole, overrides)


class SharingServer(LiveServer):
    """One of several servers on the same stores, with WebSockets.

    :param options: name the stores.
    """

    def __init__(self, *options: str) -> None:
        port = free_port()
        words = [word for each in options for word in ("--set", each)]
        super().__init__(*words, "--websocket", f"tcp:{port}:interface=127.0.0.1")
        self.websocket = f"ws://127.0.0.1:{port}/"


@functools.cache
def two_servers(stores: str) -> list[SharingServer]:
    """Two on the stores of a combination, for the whole run."""
    options = Combination.named(stores).settings("links")
    servers = [SharingServer(*options) for _ in range(2)]
    for server in servers:
        reactor.callFromThread(
            *(reactor.addSystemEventTrigger, "before", "shutdown", server.remove)
        )
        server.spawn()
    for server in servers:
        server.wait_until_it_answers()
    return servers


class ServersTests(TestCase):
    """Two servers started apart that share their stores."""

    timeout = 120
    stores = "redis+postgresql"

    async def setUp(self) -> None:
        """Find them, or start them."""
        self.servers = await deferToThread(two_servers, self.stores)

    async def call(
        self, number: int, method: str, path: str, document: Any = None, status: int = 0
    ) -> Any:
        """The document that one of the servers answers."""
        response = await treq.request(
            *(method, f"{self.servers[number].url}/v2/queues{path}"),
            headers={"Client-ID": f"{number:032x}", "X-Project-ID": "p1"},
            json=document,
            persistent=False,
        )
        text = await response.text()
        self.assertEqual(status, response.code, text)
        return await treq.json_content(response) if text else None

    async def post(self, number: int, *bodies: Any, queue: str = "q") -> None:
        """Post messages at one of the servers."""
        messages = [{"body": body} for body in bodies]
        path = f"/{queue}/messages"
        await self.call(number, "POST", path, {"messages": messages}, 201)

    async def test_long_polls(self) -> None:
        """Who waits at one server gets at once what is posted at the other."""
        for round_ in range(ROUNDS):
            here, there = round_ % 2, (round_ + 1) % 2
            claiming = Deferred.fromCoroutine(
                self.call(here, "POST", "/q/claims?wait=20", {}, 201)
            )
            listing = Deferred.fromCoroutine(
                self.call(here, "GET", "/q/messages?wait=20&echo=true", None, 200)
            )
            await self.post(there, round_)
            claimed = await claiming
            self.assertEqual([round_], [one["body"] for one in claimed["messages"]])
            listed = await listing
            self.assertLessEqual(len(listed["messages"]), 1)
            await self.call(there, "DELETE", "/q", None, 204)

    async def test_subscribers(self) -> None:
        """Subscribers of all servers get all messages in the order of the store."""
        clients: list[Client] = []
        for server in self.servers:
            client = await connect(server.websocket)
            self.addCleanup(client.hang_up)
            reply = await client.call("subscription_create", {"queue_name": "s"})
            self.assertEqual(201, reply["headers"]["status"], reply)
            clients.append(client)
        posts = [
            Deferred.fromCoroutine(
                self.post(number % 2, 2 * number, 2 * number + 1, queue="s")
            )
            for number in range(10)
        ]
        pushed = [
            [(await client.received())["body"] for _ in range(20)] for client in clients
        ]
        await gatherResults(posts)
        path = "/s/messages?limit=20&echo=true"
        for number in range(2):
            listed = await self.call(number, "GET", path, None, 200)
            bodies = [message["body"] for message in listed["messages"]]
            self.assertEqual([*range(20)], sorted(bodies))
            self.assertEqual([bodies, bodies], pushed)


class MongoServersTests(ServersTests):
    """The same with MongoDB for everything."""

    stores = "mongodb+mongodb"
