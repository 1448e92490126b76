"""The message store on Redis: the behaviour of every store, and its own."""

from __future__ import annotations

import functools
import random
import signal
import sys
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.protocols import portforward
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Posting,
    Selection,
)
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.messages.redis import (
    RedisMessageStore,
    destination_key,
    open_redis_messages,
)
from mqsvc.storage.messages.redis_address import Address, parse_address
from mqsvc.storage.messages.redis_scripts import (
    FORGET_TOGETHER,
    Argument,
    Connection,
    Scripts,
    UnknownScript,
)
from mqsvc.storage.messages.redis_server import (
    UnusableServer,
    check_server,
    persistence_warning,
)
from mqsvc.storage.messages.redis_wire import Refusal, Replies, encode_command
from tests.servers.process import ServerProcess
from tests.servers.redis import (
    BlockingConnection,
    RedisServer,
    SentinelServer,
    append_only_server,
    shared_redis,
)
from tests.storage.contract import ORDERS, RETURNS, START, make_store_tests
from tests.storage.state_machine import PROFILE, machine_for

EVERYTHING = Selection(10_000, include_claimed=True, include_delayed=True)


def prefix_of(path: str) -> str:
    """What keys begin with, for all that is kept at a path."""
    return sha1(str(Path(path).absolute()).encode()).hexdigest()


def open_store(testcase: TestCase, path: str | None = None) -> RedisMessageStore:
    """A store on the shared server, with a prefix of its own unless a path is given."""
    prefix = prefix_of(path or testcase.mktemp())
    return open_redis_messages(f"{shared_redis().uri}?prefix={prefix}", reactor)


def open_over(connect: Callable[[int], Connection], path: str) -> RedisMessageStore:
    """A store over a connection to the shared server."""
    scripts = Scripts(connect(shared_redis().port))
    # Random as hypothesis seeds it, so that a failure can be repeated.
    return RedisMessageStore(scripts, prefix_of(path), random.getrandbits)


class RepeatingConnection(BlockingConnection):
    """A connection that sends everything twice, as if each first answer were lost."""

    def command(self, *words: Argument, changes: bool = False) -> Deferred[Any]:
        """The second answer to one command."""
        first = super().command(*words, changes=changes)
        again = super().command
        return first.addCallback(lambda _: again(*words, changes=changes))


class RewritingConnection(BlockingConnection):
    """A connection that changes the scripts on their way."""

    def rewrite(self, script: bytes) -> bytes:
        """What to run in place of a script."""
        raise NotImplementedError

    def command(self, *words: Argument, changes: bool = False) -> Deferred[Any]:
        """The answer to one command; no script is known by its digest."""
        if words[0] == b"EVALSHA":
            return fail(UnknownScript())
        if words[0] == b"EVAL" and isinstance(words[1], bytes):
            words = (b"EVAL", self.rewrite(words[1]), *words[2:])
        return super().command(*words, changes=changes)


class CarelessConnection(RewritingConnection):
    """A connection on which claims and pops correct hardly anything first."""

    def rewrite(self, script: bytes) -> bytes:
        """The script with a bound of one."""
        changed = script.replace(b"local CORRECTED = 200\n", b"local CORRECTED = 1\n")
        is_bounded = b"catch_up()" in script
        assert is_bounded == (changed != script), "the bound has another name or value"
        return changed


globals().update(make_store_tests("Redis", open_store))


class AgreementTests(SynchronousTestCase):
    """The driver against the model."""

    def assert_agrees(
        self, connect: Callable[[int], Connection], max_examples: int
    ) -> None:
        """Store and model answer alike through any history."""
        open_store = functools.partial(open_over, connect)
        run_state_machine_as_test(
            machine_for(open_store),
            settings=settings(PROFILE, max_examples=max_examples),
        )

    def test_agreement(self) -> None:
        """Store and model answer alike."""
        self.assert_agrees(BlockingConnection, 30)

    def test_agreement_when_repeated(self) -> None:
        """They do when each operation is sent twice."""
        self.assert_agrees(RepeatingConnection, 15)

    def test_agreement_when_behind(self) -> None:
        """They do when nearly nothing that became due is corrected in time."""
        self.assert_agrees(CarelessConnection, 15)


def open_at(testcase: TestCase, uri: str) -> RedisMessageStore:
    """A started store, until the test ends."""
    store = open_redis_messages(uri, reactor)
    store.startService()
    testcase.addCleanup(store.stopService)
    return store


def started(testcase: TestCase, server: ServerProcess) -> None:
    """Start a server, until the test ends."""
    testcase.addCleanup(server.remove)
    server.start()


def said(events: Sequence[LogEvent]) -> str:
    """Everything that was logged, as an operator reads it."""
    return "\n".join(formatEvent(event) for event in events)


WITHOUT_SIZES = """
local records = KEYS[1] .. ':records'
for _, id in ipairs(redis.call('HKEYS', records)) do
  local values = {cmsgpack.unpack(redis.call('HGET', records, id))}
  values[8] = nil
  redis.call('HSET', records, id, cmsgpack.pack(unpack(values)))
end
redis.call('HDEL', KEYS[1] .. ':info', 'bytes')
redis.call('DEL', KEYS[2])
"""
"""Makes of a destination what was there before sizes of bodies were kept."""


class RedisCase(TestCase):
    """A test with stores of its own."""

    timeout = 60

    async def post(self, store: RedisMessageStore, *bodies: bytes) -> list[str]:
        new = [NewMessage(body, 3600) for body in bodies]
        return await store.post(ORDERS, new, "alice", START)

    async def bodies(self, store: RedisMessageStore) -> list[bytes]:
        """What is stored, whoever holds it."""
        return [each.body for each in await store.page(ORDERS, EVERYTHING, START)]

    async def assert_unavailable(self, store: RedisMessageStore) -> None:
        """Reading and writing fail as if the store could not be reached."""
        with self.assertRaises(StoreUnavailable):
            await store.stats(ORDERS, START)
        with self.assertRaises(StoreUnavailable):
            await self.post(store, b"refused")

    async def eventually(self, store: RedisMessageStore) -> None:
        """Wait until a store answers again, after some attempts to connect."""
        for _ in range(20):
            try:
                return await store.ping()
            except StoreUnavailable:
                continue
        return await store.ping()


class OneServerTests(RedisCase):
    """A store on a server that is shared with other stores."""

    def setUp(self) -> None:
        self.server = shared_redis()
        self.prefix = prefix_of(self.mktemp())
        self.uri = f"{self.server.uri}?prefix={self.prefix}"
        self.store = open_at(self, self.uri)

    def keys(self) -> set[str]:
        """The keys of this test, without what they begin with."""
        found = self.server.ask("KEYS", f"{self.prefix}:*")
        return {each.decode().removeprefix(f"{self.prefix}:") for each in found}

    async def test_scripts_flushed(self) -> None:
        """A server that forgot the scripts is given them again."""
        (posted,) = await self.post(self.store, b"1")
        self.server.ask("SCRIPT", "FLUSH")
        claimed = await self.store.claim(ORDERS, 60, 60, 1, START)
        self.server.ask("SCRIPT", "FLUSH")
        assert claimed.claim is not None
        self.assertEqual([each.id for each in claimed.claim.messages], [posted])
        await self.store.delete(ORDERS, [posted], START, [claimed.claim.id])
        self.assertEqual(await self.bodies(self.store), [])

    async def test_nothing_is_left(self) -> None:
        """Of messages and claims that are gone nothing stays in memory."""
        for client in ("alice", "bob", "alice"):
            new = [NewMessage(b"1", 100), NewMessage(b"2", 100, 10)] * 3
            await self.store.post(ORDERS, new, client, START)
        first = await self.store.claim(ORDERS, 10, 60, 2, START)
        assert first.claim is not None
        await self.store.release(ORDERS, first.claim.id, START)
        rule = DeadLetterRule(RETURNS, 1)
        moved = await self.store.claim(ORDERS, 10, 60, 3, START, rule)
        self.assertEqual(moved.dead_lettered, 2)
        later = START + 10**6
        while await self.store.sweep(later):
            pass
        left = {key for key in self.keys() if ":op:" not in key}
        names = ("{tenant/queue/orders}", "{tenant/queue/returns}")
        self.assertEqual(left, {"project:tenant", *(f"{name}:info" for name in names)})
        await self.store.clear(ORDERS)
        await self.store.clear(RETURNS)
        left = {key for key in self.keys() if ":op:" not in key}
        self.assertEqual(left, {"floor"})

    async def test_bytes_of_a_former_version(self) -> None:
        """What was stored before sizes were kept never counts, not even as a debt."""
        old, _ = await self.post(self.store, b"1", b"22")
        key = f"{self.prefix}:{{tenant/queue/orders}}"
        self.server.ask("EVAL", WITHOUT_SIZES, 2, key, f"{self.prefix}:project:tenant")
        self.assertEqual(await self.store.stored_bytes(ORDERS.project), 0)
        await self.store.delete(ORDERS, [old], START)
        self.assertEqual(await self.store.stored_bytes(ORDERS.project), 0)
        await self.post(self.store, b"333")
        await self.store.pop(ORDERS, 1, START)
        self.assertEqual(await self.bodies(self.store), [b"333"])
        self.assertEqual(await self.store.stored_bytes(ORDERS.project), 3)

    async def test_answers_are_forgotten(self) -> None:
        """What is remembered for a second try does not grow with the operations."""
        for _ in range(2 * FORGET_TOGETHER):
            await self.post(self.store, b"1")
        await self.store.ping()
        remembered = [key for key in self.keys() if ":op:" in key]
        self.assertLess(len(remembered), FORGET_TOGETHER)

    async def test_attempts_in_vain_leave_nothing(self) -> None:
        """Who asks an empty queue for messages writes nothing to the server."""
        claimed = await self.store.claim(ORDERS, 60, 60, 10, START)
        self.assertEqual(claimed, Claimed(None, 0))
        self.assertEqual(await self.store.pop(ORDERS, 10, START), [])
        self.assertEqual(self.keys(), set())

    async def test_lost_answers(self) -> None:
        """An operation whose answer is lost is done once, and answered all the same."""
        proxy = LossyProxy(self, self.server.port)
        store = open_at(self, f"{proxy.uri}?prefix={self.prefix}")
        await store.ping()
        proxy.lose_next()
        ids = await self.post(store, b"1", b"2", b"3")
        self.assertEqual(await self.bodies(store), [b"1", b"2", b"3"])
        proxy.lose_next()
        claimed = await store.claim(ORDERS, 60, 60, 1, START)
        assert claimed.claim is not None
        self.assertEqual([each.id for each in claimed.claim.messages], ids[:1])
        self.assertEqual((await store.stats(ORDERS, START)).claimed, 1)
        proxy.lose_next()
        popped = await store.pop(ORDERS, 1, START)
        self.assertEqual([each.body for each in popped], [b"2"])
        self.assertEqual(await self.bodies(store), [b"1", b"3"])
        await store.release(ORDERS, claimed.claim.id, START)
        proxy.lose_next()
        rule = DeadLetterRule(RETURNS, 1)
        moved = await store.claim(ORDERS, 60, 60, 1, START, rule)
        self.assertEqual(moved, Claimed(None, 1))
        self.assertEqual((await store.stats(RETURNS, START)).total, 1)
        proxy.lose_next()
        await store.clear(RETURNS)
        self.assertEqual(proxy.lost, 5)
        self.assertEqual(await self.bodies(store), [b"3"])
        self.assertEqual(await store.stored_bytes(ORDERS.project), 1)

    async def test_lost_answers_of_transfers(self) -> None:
        """What is restored or taken back when the answer is lost is so once."""
        proxy = LossyProxy(self, self.server.port)
        store = open_at(self, f"{proxy.uri}?prefix={self.prefix}")
        await self.post(store, b"1")
        for _ in range(2):
            claimed = await store.claim(ORDERS, 60, 60, 1, START)
            assert claimed.claim is not None
            proxy.lose_next()
            await store.release(ORDERS, claimed.claim.id, START, undelivered=True)
            claimed = await store.claim(ORDERS, 60, 60, 1, START)
            assert claimed.claim is not None
            await store.release(ORDERS, claimed.claim.id, START)
        proxy.lose_next()
        (stored,) = await store.stored(ORDERS, 10, None, START)
        self.assertEqual(stored.message.claim_count, 2)
        proxy.lose_next()
        ids = await store.restore(RETURNS, [stored], START)
        self.assertEqual(proxy.lost, 4)
        page = await store.page(RETURNS, EVERYTHING, START)
        self.assertEqual([each.id for each in page], ids)

    async def test_lost_answer_of_both(self) -> None:
        """A post to two destinations whose answer is lost is once in both."""
        proxy = LossyProxy(self, self.server.port)
        store = open_at(self, f"{proxy.uri}?prefix={self.prefix}")
        await store.ping()
        proxy.lose_next()
        new = [NewMessage(b"1", 60), NewMessage(b"2", 60, 30)]
        also = Posting(RETURNS, new[::-1])
        ids = await store.post(ORDERS, new, "alice", START, also)
        self.assertEqual(proxy.lost, 1)
        page = await store.page(ORDERS, EVERYTHING, START)
        self.assertEqual([each.id for each in page], ids)
        self.assertEqual([each.body for each in page], [b"1", b"2"])
        page = await store.page(RETURNS, EVERYTHING, START)
        self.assertEqual([each.body for each in page], [b"2", b"1"])
        self.assertEqual((await store.stats(RETURNS, START)).total, 2)

    async def test_all_answers_lost(self) -> None:
        """An operation that is never answered fails, and was done once."""
        proxy = LossyProxy(self, self.server.port)
        store = open_at(self, f"{proxy.uri}?prefix={self.prefix}")
        # The script is known from then on, so that the next call is not refused.
        await self.post(store, b"0")
        proxy.lose_all_of(b"EVAL")
        with self.assertRaises(StoreUnavailable):
            await self.post(store, b"1")
        self.assertGreater(proxy.lost, 1)
        self.assertEqual(await self.bodies(self.store), [b"0", b"1"])

    async def test_more_due_than_is_corrected(self) -> None:
        """Order is kept when so much is due at once that a part is moved later."""
        delays = range(600, 0, -1)
        new = [NewMessage(b"1", 3600, delay) for delay in delays]
        ids = await self.store.post(ORDERS, new, "alice", START)
        now = START + 600_000
        claimed = await self.store.claim(ORDERS, 60, 60, 2, now)
        assert claimed.claim is not None
        self.assertEqual([each.id for each in claimed.claim.messages], ids[:2])
        popped = await self.store.pop(ORDERS, 2, now)
        self.assertEqual([each.id for each in popped], ids[2:4])
        page = await self.store.page(ORDERS, Selection(3, popped[-1].id), now)
        self.assertEqual([each.id for each in page], ids[4:7])

    async def test_connection_killed(self) -> None:
        """Posts and claims under way when their connection is killed are done once."""
        await self.store.ping()
        posts = [
            self.store.post(ORDERS, [NewMessage(b"%d" % n, 60)], "alice", START)
            for n in range(300)
        ]
        self.kill_connections()
        batches = await gatherResults(posts)
        self.assertEqual(
            sorted(await self.bodies(self.store)), sorted(b"%d" % n for n in range(300))
        )
        claims = [self.store.claim(ORDERS, 60, 60, 1, START) for _ in range(300)]
        self.kill_connections()
        lent = [each.claim.messages[0].id for each in await gatherResults(claims)]
        self.assertEqual(sorted(lent), sorted(each for [each] in batches))

    def kill_connections(self) -> None:
        """Cut the connections of all clients but of the one that asks for it."""
        self.server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def test_other_database(self) -> None:
        """Messages are kept in the database of the URI and seen in no other."""
        other = open_at(self, self.uri.replace("/0?", "/3?"))
        await self.post(other, b"1")
        self.assertEqual(await self.bodies(self.store), [])
        self.assertEqual(await self.bodies(other), [b"1"])

    async def test_too_few_replicas(self) -> None:
        """Without the replicas asked for, changes are not acknowledged; reads are."""
        uri = f"{self.uri}&wait_replicas=1&socket_timeout=0.4"
        store = open_at(self, uri)
        with self.assertRaises(StoreUnavailable):
            await self.post(store, b"1")
        self.assertEqual((await store.stats(ORDERS, START)).claimed, 0)


class LossyProxy:
    """A way to a server on which an answer can be lost, and the connection with it."""

    def __init__(self, testcase: TestCase, port: int) -> None:
        self.lost = 0
        self._left = 0
        self._doomed = b""
        proxy = self

        class Client(portforward.ProxyClient):
            def dataReceived(self, data: bytes) -> None:
                if proxy.loses(self.peer.last):
                    self.peer.transport.abortConnection()
                else:
                    super().dataReceived(data)

        class ClientFactory(portforward.ProxyClientFactory):
            protocol = Client
            noisy = False

        class Server(portforward.ProxyServer):
            clientProtocolFactory = ClientFactory
            last = b""

            def dataReceived(self, data: bytes) -> None:
                self.last = data
                super().dataReceived(data)

        factory = portforward.ProxyFactory("127.0.0.1", port)
        factory.protocol, factory.noisy = Server, False
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        testcase.addCleanup(listening.stopListening)
        self.uri = f"redis://127.0.0.1:{listening.getHost().port}/0"

    def lose_next(self) -> None:
        """Lose the next answer."""
        self._left, self._doomed = 1, b""

    def lose_all_of(self, command: bytes) -> None:
        """Lose every answer to a command from now on."""
        self._left, self._doomed = 1000, command

    def loses(self, request: bytes) -> bool:
        """Whether the answer to this is lost."""
        if not self._left or self._doomed not in request:
            return False
        self._left -= 1
        self.lost += 1
        return True


class Chatter(Factory):
    """A server that says something else than a Redis."""

    noisy = False

    def buildProtocol(self, _: object) -> Protocol:
        """A connection that is not answered in the form asked for."""
        protocol = Protocol()
        protocol.dataReceived = lambda _: protocol.transport.write(b"HTTP/1.1 400\r\n")
        return protocol


class OwnServerTests(RedisCase):
    """What a server does that others must not meet."""

    def start(self, *options: Sequence[str]) -> RedisServer:
        server = RedisServer(*options)
        started(self, server)
        return server

    async def test_killed_server(self) -> None:
        """What was acknowledged is there after a crash, when each write is synced."""
        server = append_only_server("always")
        started(self, server)
        store = open_at(self, server.uri)
        await self.post(store, b"1", b"2")
        claimed = await store.claim(ORDERS, 60, 60, 1, START)
        assert claimed.claim is not None
        server.kill()
        await self.assert_unavailable(store)
        server.start()
        await self.eventually(store)
        self.assertEqual(await self.bodies(store), [b"1", b"2"])
        self.assertEqual(
            await store.get_claim(ORDERS, claimed.claim.id, START), claimed.claim
        )

    async def test_server_that_comes_later(self) -> None:
        """A store that is started before its server works when that is there."""
        server = RedisServer()
        self.addCleanup(server.remove)
        store = open_at(self, server.uri)
        await self.assert_unavailable(store)
        server.start()
        await self.eventually(store)
        await self.post(store, b"1")

    async def test_hanging_server(self) -> None:
        """A server that does not answer is given up, and used when it answers again."""
        server = self.start()
        store = open_at(self, f"{server.uri}?socket_timeout=0.3")
        await store.ping()
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        await self.assert_unavailable(store)
        server.signal(signal.SIGCONT)
        await self.eventually(store)
        await self.post(store, b"1")

    async def test_evicting_server(self) -> None:
        """A server that may delete messages is not used until it may not."""
        server = self.start(["maxmemory-policy", "allkeys-lru"])
        with capturedLogs() as events:
            store = open_at(self, server.uri)
            await self.assert_unavailable(store)
        self.assertIn("set maxmemory-policy to noeviction", said(events))
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await self.eventually(store)
        await self.post(store, b"1")

    async def test_forgetful_server(self) -> None:
        """The operator is warned of a server that keeps nothing on disk, once."""
        server = self.start()
        with capturedLogs() as events:
            store = open_at(self, server.uri)
            await store.ping()
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await self.eventually(store)
        self.assertEqual(said(events).count("ALL messages are lost"), 1)

    async def test_secretive_server(self) -> None:
        """A server that does not tell its settings is used, and warned of."""
        server = self.start(["rename-command", "CONFIG", ""])
        with capturedLogs() as events:
            await self.post(open_at(self, server.uri), b"1")
        self.assertIn("does not tell", said(events))

    async def test_safe_server(self) -> None:
        """Nobody is warned of a server with an append-only file."""
        with capturedLogs() as events:
            await open_at(self, shared_redis().uri).ping()
        self.assertNotIn("lost when it stops", said(events))

    async def test_other_server(self) -> None:
        """A server that does not speak as a Redis does is given up."""
        port = reactor.listenTCP(0, Chatter(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with capturedLogs() as events:
            store = open_at(self, f"redis://127.0.0.1:{port.getHost().port}")
            await self.assert_unavailable(store)
        self.assertIn("it does not answer as a Redis does", said(events))

    async def test_password(self) -> None:
        """A store with the right password works, one without says what is wrong."""
        server = RedisServer(["requirepass", "s3cret/%"])
        self.addCleanup(server.remove)
        server.password = "s3cret/%"
        server.start()
        where = f"127.0.0.1:{server.port}/0"
        for user in ("", "default"):
            await self.post(open_at(self, f"redis://{user}:s3cret%2F%25@{where}"), b"1")
        for uri, reason in (
            (f"redis://:wrong@{where}", "WRONGPASS"),
            (f"redis://{where}", "NOAUTH"),
        ):
            with capturedLogs() as events:
                await self.assert_unavailable(open_at(self, uri))
            self.assertIn(reason, said(events))

    async def test_full_server(self) -> None:
        """A server without memory takes no messages, and gives and deletes them."""
        server = self.start()
        store = open_at(self, server.uri)
        ids = await self.post(store, b"1", b"2")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with capturedLogs(), self.assertRaises(StoreUnavailable):
            await self.post(store, b"3")
        self.assertEqual(await self.bodies(store), [b"1", b"2"])
        await store.delete(ORDERS, ids[:1], START)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await self.post(store, b"4")
        self.assertEqual(await self.bodies(store), [b"2", b"4"])

    async def test_replica(self) -> None:
        """A replica is not used; once it is the master it is."""
        master = self.start()
        replica = self.start(["replicaof", f"127.0.0.1 {master.port}"])
        with capturedLogs() as events:
            store = open_at(self, replica.uri)
            await self.assert_unavailable(store)
        self.assertIn("it is a replica", said(events))
        replica.ask("REPLICAOF", "NO", "ONE")
        await self.eventually(store)
        master.ask("REPLICAOF", "127.0.0.1", replica.port)
        waiting = open_at(self, f"{replica.uri}?wait_replicas=1")
        await self.eventually_posted(waiting)
        replica.ask("REPLICAOF", "127.0.0.1", master.port)
        with capturedLogs():
            with self.assertRaises(StoreUnavailable):
                await self.post(store, b"refused")
            await self.assert_unavailable(store)

    async def eventually_posted(self, store: RedisMessageStore) -> None:
        """Post as often as it takes until a replica is there to have it."""
        for _ in range(20):
            try:
                await self.post(store, b"1")
            except StoreUnavailable:
                continue
            return
        self.fail("no replica came")

    async def test_socket(self) -> None:
        """A server can be reached through its Unix socket."""
        server = RedisServer()
        self.addCleanup(server.remove)
        path = f"{server.directory}/socket"
        server.add_option("unixsocket", path)
        server.start()
        await self.post(open_at(self, f"redis+unix://{path}?db=2"), b"1")
        self.assertEqual(server.ask("INFO", "keyspace").count(b"db2:"), 1)

    async def test_sentinel(self) -> None:
        """With Sentinels the master is found, also the one that comes after it."""
        master = self.start()
        replica = self.start(["replicaof", f"127.0.0.1 {master.port}"])
        sentinel = SentinelServer(master)
        started(self, sentinel)
        uri = f"redis://127.0.0.1:1,127.0.0.1:{sentinel.port}?dbid=0&master=orders"
        store = open_at(self, f"{uri}&wait_replicas=1")
        await self.eventually_posted(store)
        sentinel.until_known(replica)
        master.kill()
        after = open_at(self, uri)
        with capturedLogs():
            for _ in range(60):
                try:
                    found = await self.bodies(after)
                    break
                except StoreUnavailable:
                    continue
            else:
                self.fail("the replica did not become the master")
        self.assertIn(b"1", found)

    async def test_unknown_master(self) -> None:
        """A name that no Sentinel knows is said to be wrong."""
        sentinel = SentinelServer(self.start(), "s3cret")
        started(self, sentinel)
        uri = (
            f"redis+sentinel://127.0.0.1:{sentinel.port}/0?master=wrong"
            "&sentinel_username=default&sentinel_password=s3cret"
        )
        with capturedLogs() as events:
            await self.assert_unavailable(open_at(self, uri))
        self.assertIn("is its name right?", said(events))


GOOD_SERVER = {"redis_version": "7.0.15", "role": "master", "aof_enabled": "1"}


class ServerCheckTests(SynchronousTestCase):
    """What a server must be like."""

    def assert_unusable(self, words: str, **fields: str) -> None:
        with self.assertRaises(UnusableServer) as caught:
            check_server({**GOOD_SERVER, **fields})
        self.assertIn(words, str(caught.exception))

    def test_good_server(self) -> None:
        """The usual one may be used."""
        check_server(GOOD_SERVER)
        check_server({**GOOD_SERVER, "redis_version": "6.2.0"})

    def test_unusable_servers(self) -> None:
        """Others are refused, and told why."""
        self.assert_unusable("6.2 or newer", redis_version="6.0.16")
        self.assert_unusable("cluster", cluster_enabled="1")
        self.assert_unusable("volatile-ttl", maxmemory_policy="volatile-ttl")
        self.assert_unusable("loading", loading="1")
        self.assert_unusable("replica", role="slave")

    def test_persistence(self) -> None:
        """What is lost with the server depends on what it keeps."""
        off = {**GOOD_SERVER, "aof_enabled": "0"}
        self.assertIsNone(persistence_warning(GOOD_SERVER, ""))
        for save, words in (("", "ALL"), ("60 1", "since its last"), (None, "may be")):
            self.assertIn(words, persistence_warning(off, save) or "")


class WireTests(SynchronousTestCase):
    """Commands and replies as bytes."""

    received = (
        b"+OK\r\n:-12\r\n$0\r\n\r\n$-1\r\n$6\r\na\r\n$1\n\r\n-NOSCRIPT no\r\n"
        b"*0\r\n*-1\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n+y\r\n$2\r\n\xff\x00\r\n"
    )
    replies = (
        *(b"OK", -12, b"", None, b"a\r\n$1\n", "NOSCRIPT no", [], None),
        *([1, [b"x", None], b"y"], b"\xff\x00"),
    )

    def shown(self, replies: Sequence[Any]) -> tuple[Any, ...]:
        """Replies, with the text of refusals in their place."""
        return tuple(str(e) if isinstance(e, Refusal) else e for e in replies)

    def test_all_at_once(self) -> None:
        """Replies of every kind are read from one piece."""
        self.assertEqual(self.shown(Replies().feed(self.received)), self.replies)

    def test_in_pieces(self) -> None:
        """The same are read from pieces of any size, each as soon as it is whole."""
        for size in range(1, 40):
            reader, replies = Replies(), []
            for start in range(0, len(self.received), size):
                replies += reader.feed(self.received[start : start + size])
            self.assertEqual(self.shown(replies), self.replies)

    def test_as_soon_as_whole(self) -> None:
        """A reply is given with its last byte, and not twice."""
        reader = Replies()
        self.assertEqual(reader.feed(b"$3\r\nabc\r"), [])
        self.assertEqual(reader.feed(b"\n$3"), [b"abc"])
        self.assertEqual(reader.feed(b""), [])
        self.assertEqual(reader.feed(b"\r\ndef\r\n"), [b"def"])

    def test_not_a_reply(self) -> None:
        """What is no reply is refused at once."""
        for text in (b"HTTP/1.1 400\r\n", b"\r\n", b"$x\r\n", b"*\r\n", b":1.5\r\n"):
            with self.assertRaises(ValueError, msg=repr(text)):
                Replies().feed(text)

    def test_command(self) -> None:
        """A command gives each word with its length in bytes."""
        self.assertEqual(
            encode_command(["SET", "é", b"\r\n\xff", 17]),
            b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$3\r\n\r\n\xff\r\n$2\r\n17\r\n",
        )


class AddressTests(SynchronousTestCase):
    """URIs."""

    def test_server(self) -> None:
        """Host, port, database, login and options are read."""
        self.assertEqual(
            parse_address(
                "redis://me:a%40b@[::1]:7000/4?socket_timeout=0.5&wait_replicas=2"
                "&prefix=x-1"
            ),
            Address(
                hosts=(("::1", 7000),),
                username="me",
                password="a@b",
                database=4,
                socket_timeout=0.5,
                wait_replicas=2,
                prefix="x-1",
            ),
        )

    def test_defaults(self) -> None:
        """A host is enough."""
        self.assertEqual(parse_address("redis://h"), Address((("h", 6379),)))

    def test_sentinels(self) -> None:
        """Sentinels are several hosts with ports of their own, and a name."""
        address = parse_address("redis+sentinel://:p@a,b:7/1?master=m")
        hosts = (("a", 26379), ("b", 7))
        self.assertEqual(address, Address(hosts, "", "m", password="p", database=1))

    def test_sentinels_by_the_name_alone(self) -> None:
        """With the name of a master the plain scheme means Sentinels as well."""
        for named, plain in (
            ("a,b:7/1?master=m", "a,b:7?master=m&dbid=1"),
            ("u:p@a?master=m", "u:p@a?master=m"),
        ):
            address = parse_address(f"redis+sentinel://{named}")
            self.assertEqual(parse_address(f"redis://{plain}"), address)

    def test_login_of_sentinels(self) -> None:
        """Sentinels may have a user and a password of their own."""
        uri = "redis://:p@a?master=m&sentinel_username=u&sentinel_password=s"
        login = {"sentinel_username": "u", "sentinel_password": "s"}
        expected = Address((("a", 26379),), "", "m", password="p", **login)
        self.assertEqual(parse_address(uri), expected)

    def test_database(self) -> None:
        """The number of the database has three places, which may not differ."""
        for uri in ("redis://h/3", "redis://h?db=3", "redis://h?dbid=3"):
            self.assertEqual(parse_address(uri), Address((("h", 6379),), database=3))
        self.assertEqual(parse_address("redis://h/3?db=3&dbid=3").database, 3)
        self.assertEqual(parse_address("redis://h/?dbid=0").database, 0)

    def test_socket(self) -> None:
        """A path without a host is a socket, by either scheme."""
        expected = Address((), "/run/a b", password="p", database=2)
        for uri in (
            "redis+unix://:p@/run/a%20b?db=2",
            "redis://:p@/run/a%20b?dbid=2",
        ):
            self.assertEqual(parse_address(uri), expected)

    def test_refused(self) -> None:
        """What cannot be meant is refused in one line without a password."""
        for uri, words in (
            ("http://h", "begins with one of"),
            ("redis://", "name a host"),
            ("redis:///", "name a host"),
            ("redis:///1", "name a host"),
            ("redis+unix://", "the whole path of a socket"),
            ("redis+unix://run/redis.sock", "the whole path of a socket"),
            ("redis:///run/redis.sock?master=m", "leave out master"),
            ("redis://:secret@h:port", "HOST:PORT"),
            ("redis://:secret@h:65536", "HOST:PORT"),
            ("redis://:secret@[h", "HOST:PORT"),
            ("redis://:secret/x@h", "%XX"),
            ("redis://:secret#x@h", "%XX"),
            ("redis://:secret?x@h", "malformed"),
            ("redis://:x@h?secret@h", "malformed"),
            ("redis://:x?y=secret@h", "%XX"),
            ("redis://:x@h/secret@h", "%XX"),
            ("redis://secret@h", ":PASSWORD@HOST"),
            ("redis://h/x", "the database must be a number"),
            ("redis://h/-1", "the database must be a number"),
            ("redis://h?dbid=x", "dbid must be a number"),
            ("redis://h/1?dbid=2", "two databases"),
            ("redis://h?db=1&dbid=2", "two databases"),
            ("redis://h?dbid=1&dbid=1", "given twice"),
            ("redis://a,b", "master=NAME"),
            ("redis+sentinel://h", "master=NAME"),
            ("redis://h?wait_replicas=many", "wait_replicas must be a number"),
            ("redis://h?socket_timeout=nan", "socket_timeout must be a number"),
            ("redis://h?socket_timeout=0", "from 0.1 to 10"),
            ("redis://h?socket_timeout=11", "from 0.1 to 10"),
            ("redis://:secret@h?prefix={x}", "prefix must be"),
            ("redis://h?colour=red", "no option 'colour'; known are db"),
        ):
            with self.assertRaises(StoreOpenError, msg=uri) as caught:
                parse_address(uri)
            self.assertIn(words, str(caught.exception), uri)
            self.assertNotIn("secret", str(caught.exception))

    def test_secrets_are_not_shown(self) -> None:
        """An address in the log has no password."""
        for uri in (
            "redis://:secret@h/1",
            "redis+sentinel://:secret@h?master=m&sentinel_password=secret",
            "redis+unix://:secret@/socket",
        ):
            address = parse_address(uri)
            self.assertNotIn("secret", f"{address} {address!r}")

    def test_package_that_is_missing(self) -> None:
        """Without the package for Redis the operator is told what to install."""
        module = "mqsvc.storage.messages.redis_connection"
        with (
            patch.dict(sys.modules, {module: None}),
            self.assertRaises(StoreOpenError) as caught,
        ):
            open_redis_messages("redis://h", reactor)
        self.assertIn("mqsvc[redis]", str(caught.exception))

    def test_no_two_destinations_share_a_key(self) -> None:
        """Names that join, or that hold what separates, are kept apart."""
        names = ["p/queue", "p", "{p}", "p}", "%", "%25", "", "\udc80", "é"]
        keys = {
            destination_key("mq", Destination(project, kind, "q"))
            for project in names
            for kind in Kind
        }
        self.assertEqual(len(keys), len(Kind) * len(names))
        for key in keys:
            self.assertEqual((key.count("{"), key.count("}")), (1, 1))


COUNT_WORK = b"""
local server, redis = redis, {}
function redis.call(...)
  local answer = server.call(...)
  local size = select('#', ...) + (type(answer) == 'table' and #answer or 1)
  server.call('INCRBY', 'work', size)
  return answer
end
"""
"""In front of a script: adds up the values that go to the server and come back."""


class CountingConnection(RewritingConnection):
    """A connection whose scripts count what they do."""

    def rewrite(self, script: bytes) -> bytes:
        """The script, counting."""
        return COUNT_WORK + script

    def work(self) -> int:
        """All that was done so far."""
        return int(self.ask("GET", "work") or 0)


class CostTests(SynchronousTestCase):
    """What an operation costs, in values that its script moves."""

    def backlog(self, size: int) -> RedisMessageStore:
        """A store with so many messages each claimed, delayed, free and elsewhere."""
        self.connection = CountingConnection(shared_redis().port)
        store = RedisMessageStore(
            Scripts(self.connection), prefix_of(self.mktemp()), random.getrandbits
        )
        store.startService()
        self.addCleanup(store.stopService)
        elsewhere = Destination("neighbour", Kind.QUEUE, "orders")
        for place, delay in ((ORDERS, 0), (ORDERS, 900), (ORDERS, 0), (elsewhere, 0)):
            new = [NewMessage(b"1", 3600, delay)] * size
            self.successResultOf(store.post(place, new, "alice", START))
        self.successResultOf(store.claim(ORDERS, 600, 60, size, START))
        return store

    def costs(self, size: int) -> dict[str, int]:
        """What each operation costs with such a backlog."""
        store = self.backlog(size)
        others = Selection(10, hide_client="alice")
        first, *_, last = self.successResultOf(
            store.page(ORDERS, Selection(size), START)
        )
        stored = self.successResultOf(store.stored(ORDERS, 10, None, START))
        free = self.successResultOf(store.claim(ORDERS, 60, 60, 10, START)).claim
        assert free is not None
        new = [NewMessage(b"1", 60)]
        operations: dict[str, Callable[[], Deferred[Any]]] = {
            "post": lambda: store.post(ORDERS, new, "bob", START),
            "post to both": lambda: store.post(
                RETURNS, new, "bob", START, Posting(ORDERS, new)
            ),
            "page": lambda: store.page(ORDERS, Selection(10), START),
            "page of all": lambda: store.page(
                ORDERS, replace(EVERYTHING, limit=10), START
            ),
            "page after": lambda: store.page(ORDERS, Selection(10, first.id), START),
            "page of others": lambda: store.page(ORDERS, others, START),
            "get": lambda: store.get(ORDERS, [first.id, last.id], START),
            "get_claim": lambda: store.get_claim(ORDERS, free.id, START),
            "renew": lambda: store.renew(ORDERS, free.id, 60, 60, START),
            "release": lambda: store.release(ORDERS, free.id, START, undelivered=True),
            "stored": lambda: store.stored(ORDERS, 10, None, START),
            "stored after": lambda: store.stored(ORDERS, 10, first.id, START),
            "restore": lambda: store.restore(ORDERS, stored, START),
            "stats": lambda: store.stats(ORDERS, START),
            "stored_bytes": lambda: store.stored_bytes(ORDERS.project),
            "next_ready": lambda: store.next_ready(ORDERS, START),
            "delete": lambda: store.delete(ORDERS, [first.id, last.id], START, []),
            "pop": lambda: store.pop(ORDERS, 10, START),
            "claim": lambda: store.claim(ORDERS, 60, 60, 10, START),
            "sweep": lambda: store.sweep(START),
            "clear": lambda: store.clear(ORDERS),
        }
        return {name: self.cost(call) for name, call in operations.items()}

    def cost(self, call: Callable[[], Deferred[Any]]) -> int:
        before = self.connection.work()
        self.successResultOf(call())
        return self.connection.work() - before

    def test_flat(self) -> None:
        """No operation costs more when thirty times as much is waiting."""
        small, large = self.costs(100), self.costs(3000)
        for operation, cost in small.items():
            self.assertGreater(cost, 0, operation)
        self.assertEqual(large, small)

    def test_claim_in_vain(self) -> None:
        """A claim of an empty queue looks for itself, what is due, and what is free."""
        store = self.backlog(10)
        claim = functools.partial(store.claim, RETURNS, 60, 60, 10, START)
        looks = (["HGET", "claims", "id"], ["ZSCORE", "sweep", "key"])
        free = ["ZRANGEBYSCORE", "ready", "from", "to", "LIMIT", "0", "10"]
        # One for each answer that is nothing, too; the last one is empty.
        self.assertEqual(self.cost(claim), sum(map(len, (*looks, free))) + len(looks))

    def test_one_sweep_is_bounded(self) -> None:
        """A sweep does no more when twice as much is due."""
        costs = []
        for size in (1000, 2000):
            store = self.backlog(size)
            costs.append(self.cost(functools.partial(store.sweep, START + 10**7)))
        self.assertEqual(costs[0], costs[1])
