"""The MongoDB message store: the behaviour of every store, and its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pymongo as blocking
from attrs import evolve
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo.errors import OperationFailure
from twisted.internet import reactor
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    execute,
    gatherResults,
)
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import MessageIsClaimed, StoreUnavailable
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    Selection,
    StoredMessage,
)
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb import MongoMessageStore, open_mongodb_messages
from mqsvc.storage.messages.mongodb_client import POOL_SIZE, MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, Interrupted
from mqsvc.storage.messages.mongodb_lanes import TIMEOUT
from mqsvc.storage.messages.mongodb_notes import View, key_of
from mqsvc.storage.messages.mongodb_schema import (
    CLAIMS,
    DESTINATIONS,
    INDEXES,
    MESSAGES,
)
from mqsvc.storage.mongodb_connections import patience
from mqsvc.storage.mongodb_login import Scram
from mqsvc.storage.mongodb_uri import Address, read_uri
from tests.live import CHECKOUT, free_port
from tests.servers.mongodb import (
    Databases,
    MongoServer,
    set_of_one,
    set_of_three,
    stand_alone,
)
from tests.storage.also_contract import OUTBOX
from tests.storage.bytes_contract import StoredBytesTests
from tests.storage.contract import (
    GRAVEYARD,
    ORDERS,
    RETURNS,
    START,
    UNKNOWN_ID,
    StoreTests,
    flat,
    ids_of,
    make_store_tests,
)
from tests.storage.state_machine import PROFILE, machine_for

STAND_ALONE = Databases("messages")
SET_OF_ONE = Databases("messages")


def open_stand_alone(testcase: TestCase, path: str | None = None) -> MongoMessageStore:
    """A store on a server that is no replica set."""
    server = stand_alone()
    database = STAND_ALONE.at(testcase, server, path)
    return open_mongodb_messages(server.uri(database), reactor)


def open_on_a_set(testcase: TestCase, path: str | None = None) -> MongoMessageStore:
    """A store on a replica set."""
    server = set_of_one()
    database = SET_OF_ONE.at(testcase, server, path)
    return open_mongodb_messages(server.uri(database), reactor)


WITHOUT = [StoredBytesTests]
"""Concerns that are still to come."""

globals().update(make_store_tests("StandAlone", open_stand_alone, without=WITHOUT))
globals().update(make_store_tests("ReplicaSet", open_on_a_set, without=WITHOUT))


class AgreementTests(TestCase):
    """The driver against the model."""

    timeout = 300

    async def test_agreement(self) -> None:
        """Store and model answer alike through any history."""
        machine = machine_for(WaitingStores(self))
        await deferToThread(
            run_state_machine_as_test,
            machine,
            settings=settings(PROFILE, max_examples=8),
        )


class WaitingStores:
    """Opens stores for a thread, which waits for each of their answers."""

    def __init__(self, testcase: TestCase) -> None:
        self._testcase = testcase

    def __call__(self, path: str) -> Any:
        store = blockingCallFromThread(reactor, open_stand_alone, self._testcase, path)
        return WaitingStore(store)


class WaitingStore:
    """A store whose Deferreds have fired when they are returned."""

    def __init__(self, store: MongoMessageStore) -> None:
        self._store = store

    def startService(self) -> None:
        blockingCallFromThread(reactor, self._store.startService)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return lambda *arguments: execute(
            blockingCallFromThread, reactor, method, *arguments
        )


class Died(Exception):
    """The process of a store is no more."""


class DyingClient(MongoClient):
    """A client whose process dies before one of its commands.

    :ivar commands: how many it still sends.
    """

    commands = 10_000
    is_dead = False

    def _connection(self, protocol: Any) -> Connection:
        return DyingConnection(protocol, self._address, self)


class DyingConnection(Connection):
    """Sends commands while its client lives."""

    def __init__(self, protocol: Any, address: Address, client: DyingClient) -> None:
        super().__init__(protocol, address)
        self._client = client

    async def command(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        if not self._client.commands:
            self._client.is_dead = True
            raise Died
        self._client.commands -= 1
        return await super().command(*arguments, **options)


Attempt = Callable[[MongoMessageStore, list[str], str], Deferred[Any]]


class CrashTests(StoreTests, TestCase):
    """A process that dies in the middle of a step, at every place where it can."""

    open_store = staticmethod(open_stand_alone)
    timeout = 120

    async def prepare(self) -> tuple[list[str], str]:
        """Messages in every state: ids, and the claim that holds the first two."""
        ids = await self.post("1", "2", "3", "4")
        claim = await self.claim(limit=2)
        await self.post("5", delay=60)
        worn = await self.claim(limit=1)
        await self.store.release(ORDERS, worn.id, self.now)
        await self.post("old", to=GRAVEYARD)
        return ids, claim.id

    async def seen(self) -> Any:
        """All that can be seen of both destinations, apart from ids that are new."""
        return [
            [
                (m.body, m.ttl, m.claim_id is not None, m.claim_count)
                for m in await self.existing(of)
            ]
            + [(await self.store.stats(of, self.now)).claimed]
            + [(await self.store.stats(of, self.now)).free]
            + [await self.store.next_ready(of, self.now)]
            for of in (ORDERS, GRAVEYARD)
        ] + [await self.store.stored_bytes(ORDERS.project)]

    async def outcomes(self, attempt: Attempt) -> tuple[Any, Any, list[Any]]:
        """What is seen before, after, and after each death in between."""
        seen = []
        for commands in range(100):
            await self.store.clear(ORDERS)
            await self.store.clear(GRAVEYARD)
            ids, claim_id = await self.prepare()
            before = await self.seen()
            client = DyingClient(self.store._client._address, INDEXES, reactor)
            dying = MongoMessageStore(client, reactor, random.getrandbits)
            dying.startService()
            await dying.page(ORDERS, Selection(1), self.now)
            client.commands = commands
            with contextlib.suppress(StoreUnavailable):
                await attempt(dying, ids, claim_id)
            await dying.stopService()
            self.flushLoggedErrors(Died)
            after = await self.seen()
            if not client.is_dead:
                return before, after, seen
            seen.append(after)
        raise AssertionError("the attempt never ends")

    async def assert_whole(self, attempt: Attempt) -> None:
        """Wherever it dies, everything or nothing of it is seen."""
        before, after, seen = await self.outcomes(attempt)
        self.assertNotEqual(before, after)
        for commands, state in enumerate(seen):
            self.assertIn(state, (before, after), f"died after {commands} commands")
        self.assertEqual(seen[0], before)
        self.assertEqual(seen[-1], after)
        # What was left behind is found in the end.
        self.wait(61)
        await self.sweep_all()
        await self.assert_nothing_hidden()

    async def assert_nothing_hidden(self) -> None:
        connection = await self.store._client.connection()
        for collection in (MESSAGES, CLAIMS):
            hidden = {"batch": {"$exists": True}}
            self.assertEqual(await connection.find(collection, hidden), [])

    async def test_post(self) -> None:
        """A post is whole or not there."""
        new = [NewMessage(b"6", 60), NewMessage(b"7", 60, 30)]
        await self.assert_whole(
            lambda store, ids, claim: store.post(ORDERS, new, "bob", self.now)
        )

    def posting_both(self, *bodies: bytes, client: str = "bob") -> Attempt:
        """Post the same to both destinations."""
        new = [NewMessage(body, 3600) for body in bodies]
        also = Posting(GRAVEYARD, new)
        return lambda store, ids, claim: store.post(ORDERS, new, client, self.now, also)

    async def test_post_to_two(self) -> None:
        """A post to two destinations is whole in both or in neither."""
        await self.assert_whole(self.posting_both(b"6", b"7"))

    async def test_group_to_two(self) -> None:
        """Of posts to two destinations that are one step, all are in both or none."""
        first, second = self.posting_both(b"6"), self.posting_both(b"7", client="carol")

        def attempt(
            store: MongoMessageStore, ids: list[str], claim: str
        ) -> Deferred[Any]:
            calls = [
                # While this one looks, the others come together.
                store.delete(ORDERS, [UNKNOWN_ID], self.now),
                first(store, ids, claim),
                store.claim(ORDERS, 7200, 60, 1, self.now),
                second(store, ids, claim),
            ]
            return DeferredList(calls, consumeErrors=True)

        await self.assert_whole(attempt)

    async def test_sweep_brings_it_there(self) -> None:
        """What a dead process posted to two is in both once it is swept, or in neither.

        Nobody looks at the first destination before, and one half may be cleared.
        """
        for commands in range(100):
            await self.store.clear(ORDERS)
            await self.store.clear(GRAVEYARD)
            client = DyingClient(self.store._client._address, INDEXES, reactor)
            dying = MongoMessageStore(client, reactor, random.getrandbits)
            dying.startService()
            await dying.page(ORDERS, Selection(1), self.now)
            client.commands = commands
            told = []
            with contextlib.suppress(StoreUnavailable):
                for body in (b"1", b"2"):
                    await self.posting_both(body)(dying, [], "")
                    told.append(body)
                await dying.clear(ORDERS)
                told.clear()
                await self.posting_both(b"3")(dying, [], "")
                told.append(b"3")
            await dying.stopService()
            self.flushLoggedErrors(Died)
            self.wait(61)
            await self.sweep_all()
            await self.assert_nothing_hidden()
            second = [message.body for message in await self.existing(GRAVEYARD)]
            first = [message.body for message in await self.existing()]
            self.assertEqual(second, [b"1", b"2", b"3"][: len(second)], commands)
            cleared = len(second) == 3 or not first
            self.assertEqual(first, [b"3"] * (len(second) == 3) if cleared else second)
            self.assertLessEqual(set(told), set(first), commands)
            if not client.is_dead:
                self.assertEqual((first, len(second)), ([b"3"], 3))
                return
        raise AssertionError("the attempt never ends")

    async def test_claim(self) -> None:
        """A claim is whole or not there."""
        await self.assert_whole(
            lambda store, ids, claim: store.claim(ORDERS, 7200, 60, 5, self.now)
        )

    async def test_dead_letters(self) -> None:
        """A message is moved from one destination to the other, and never nowhere."""
        rule = DeadLetterRule(GRAVEYARD, 1)
        await self.assert_whole(
            lambda store, ids, claim: store.claim(ORDERS, 300, 60, 5, self.now, rule)
        )

    async def test_renew(self) -> None:
        """A claim is renewed for all of its messages or for none."""
        await self.assert_whole(
            lambda store, ids, claim: store.renew(ORDERS, claim, 7200, 60, self.now)
        )

    async def test_release(self) -> None:
        """A claim lets all of its messages go or none."""
        await self.assert_whole(
            lambda store, ids, claim: store.release(ORDERS, claim, self.now)
        )

    async def test_delete(self) -> None:
        """All messages are deleted or none."""
        await self.assert_whole(
            lambda store, ids, claim: store.delete(ORDERS, ids, self.now)
        )

    async def test_pop(self) -> None:
        """All messages are taken or none."""
        await self.assert_whole(
            lambda store, ids, claim: store.pop(ORDERS, 2, self.now)
        )

    async def test_clear(self) -> None:
        """A destination is emptied whole or not."""
        await self.assert_whole(lambda store, ids, claim: store.clear(ORDERS))

    async def test_restore(self) -> None:
        """All that another store kept comes, or none of it."""
        kept = [
            StoredMessage(Message(UNKNOWN_ID, b"%d" % n, 900, START), START + 900_000)
            for n in range(3)
        ]
        await self.assert_whole(
            lambda store, ids, claim: store.restore(ORDERS, kept, self.now)
        )

    async def test_group(self) -> None:
        """What many want at once is done for all of them or for none."""

        def attempt(
            store: MongoMessageStore, ids: list[str], claim: str
        ) -> Deferred[Any]:
            calls = [
                # While this one looks, the others come together.
                store.delete(ORDERS, [UNKNOWN_ID], self.now),
                store.post(ORDERS, [NewMessage(b"6", 60)], "bob", self.now),
                store.post(ORDERS, [NewMessage(b"7", 60)] * 2, "carol", self.now),
                store.claim(ORDERS, 300, 60, 1, self.now),
                store.delete(ORDERS, ids[:1], self.now, [claim]),
            ]
            return DeferredList(calls, consumeErrors=True)

        await self.assert_whole(attempt)

    async def test_note_that_nobody_reads(self) -> None:
        """What a dead process left to do does not keep an empty destination alive."""
        await self.post("1")
        for commands in range(5):
            client = DyingClient(self.store._client._address, INDEXES, reactor)
            dying = self.start(MongoMessageStore(client, reactor, random.getrandbits))
            await dying.page(ORDERS, Selection(1), self.now)
            client.commands = commands
            with contextlib.suppress(StoreUnavailable):
                await dying.clear(ORDERS)
            await dying.stopService()
            self.flushLoggedErrors(Died)
        self.wait(7200)
        await self.sweep_all()
        connection = await self.store._client.connection()
        self.assertEqual(await connection.find(DESTINATIONS, {}), [])


class SlowClient(MongoClient):
    """A client that something comes in between of, once, before it commits.

    :ivar meanwhile: what happens; none when it has happened.
    :ivar held: what showing second halves waits for, where they are committed.
    """

    meanwhile: Callable[[], Any] | None = None
    held: Deferred[None] | None = None

    def _connection(self, protocol: Any) -> Connection:
        return SlowConnection(protocol, self._address, self)


class SlowConnection(Connection):
    """Sends commands, a commit after what happens meanwhile."""

    def __init__(self, protocol: Any, address: Address, client: SlowClient) -> None:
        super().__init__(protocol, address)
        self._client = client

    async def replace(self, *arguments: Any, **options: Any) -> dict[str, Any] | None:
        meanwhile, self._client.meanwhile = self._client.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await super().replace(*arguments, **options)

    async def update_many(self, collection: str, updates: Any) -> None:
        is_second_half = any("position" in to.get("$inc", ()) for _, to in updates)
        if is_second_half and self._client.held is not None:
            await self._client.held
        await super().update_many(collection, updates)


class RivalTests(StoreTests, TestCase):
    """What comes in between while a step or a look is underway."""

    open_store = staticmethod(open_stand_alone)

    def slow(self, meanwhile: Callable[[], Any]) -> MongoMessageStore:
        """Another store on the same messages, that is overtaken once."""
        client = SlowClient(self.store._client._address, INDEXES, reactor)
        client.meanwhile = meanwhile
        store = MongoMessageStore(client, reactor, random.getrandbits)
        self.start(store)
        return store

    async def disturbed_look(
        self, store: MongoMessageStore, disturb: Callable[[], Any]
    ) -> list[list[bytes]]:
        """What is free, each time it is asked in one look: the first is disturbed."""
        pages: list[list[bytes]] = []

        async def question(connection: Connection, view: View) -> list[bytes]:
            if not pages:
                await disturb()
            rows = await queries.free(connection, view, 9, self.now, self.now)
            pages.append([row["body"] for row in rows])
            return pages[-1]

        answer = await store._ledger.look(ORDERS, question, [])
        self.assertEqual(answer, pages[-1])
        return pages

    async def test_look_is_taken_again(self) -> None:
        """An answer that was found while a claim was committed is not given."""
        await self.post("1", "2", "3")
        store = self.start(
            open_mongodb_messages(self.store._client._address.uri, reactor)
        )

        async def disturb() -> None:
            await self.claim(limit=1)

        pages = await self.disturbed_look(store, disturb)
        self.assertEqual(len(pages), 2)
        self.assertEqual(pages[1], [b"2", b"3"])

    async def test_look_goes_on_while_others_post(self) -> None:
        """A look is not taken again because of messages that come behind it."""
        await self.post("1", "2")
        store = self.start(
            open_mongodb_messages(self.store._client._address.uri, reactor)
        )

        async def disturb() -> None:
            await self.post("3", "4")

        pages = await self.disturbed_look(store, disturb)
        self.assertEqual(pages, [[b"1", b"2"]])
        # But what was known before the look may be older than it, on connections that
        # were there when it was learned.
        for _ in range(2 * POOL_SIZE):
            await self.page()
        pages = await self.disturbed_look(self.store, disturb)
        self.assertEqual(len(pages), 2)
        self.assertEqual(len(pages[1]), 6)

    async def test_overtaken_post(self) -> None:
        """A post that was overtaken comes after the other one."""
        first = await self.post("1")
        second: list[str] = []

        async def overtake() -> None:
            second.extend(await self.post("2"))

        new = [NewMessage(b"3", 60), NewMessage(b"4", 60)]
        third = await self.slow(overtake).post(ORDERS, new, "bob", self.now)
        self.assertEqual(await self.listed(), [*first, *second, *third])

    async def test_overtaken_claim(self) -> None:
        """A claim whose messages somebody else took meanwhile takes others."""
        ids = await self.post("1", "2")
        slow = self.slow(lambda: self.claim(limit=1))
        claimed = await slow.claim(ORDERS, 60, 60, 1, self.now)
        assert claimed.claim is not None
        self.assertEqual(ids_of(claimed.claim.messages), ids[1:])

    async def test_slow_post_and_sweep(self) -> None:
        """A post so slow that its messages were swept is whole all the same."""
        await self.post("1")

        async def sweep() -> None:
            await self.store.sweep(self.now + 3_000_000)

        new = [NewMessage(b"2", 7200), NewMessage(b"3", 7200)]
        ids = await self.slow(sweep).post(ORDERS, new, "bob", self.now)
        self.assertEqual((await self.listed())[1:], ids)

    async def assert_both_once(self, second: Callable[[], Any]) -> None:
        """A post to two destinations is once in both, whatever comes in between.

        :param second: comes between its first commit and its second one.
        """
        await self.post("0")
        client = SlowClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))

        async def after_the_first() -> None:
            client.meanwhile = second

        client.meanwhile = after_the_first
        new = [NewMessage(b"1", 7200), NewMessage(b"2", 7200)]
        also = Posting(OUTBOX, new)
        ids = await store.post(ORDERS, new, "bob", self.now, also)
        self.assertIsNone(client.meanwhile)
        self.assertEqual((await self.listed())[1:], ids)
        page = await self.page(OUTBOX)
        bodies = [message.body for message in page if message.body != b"rival"]
        self.assertEqual(bodies, [b"1", b"2"])
        stats = await self.store.stats(OUTBOX, self.now)
        self.assertEqual(stats.total, len(page))

    async def test_reader_was_faster(self) -> None:
        """A reader of the first destination brings the other half where it belongs."""
        seen: list[list[bytes]] = []

        async def look() -> None:
            await self.page()
            seen.append([message.body for message in await self.page(OUTBOX)])

        await self.assert_both_once(look)
        self.assertEqual(seen, [[b"1", b"2"]])

    async def test_rival_of_the_second_half(self) -> None:
        """A post to the second destination that comes in between is before it."""
        await self.assert_both_once(lambda: self.post("rival", to=OUTBOX))
        page = await self.page(OUTBOX)
        self.assertEqual([m.body for m in page], [b"rival", b"1", b"2"])

    async def test_second_half_and_sweep(self) -> None:
        """A second half so late that it was swept is whole all the same."""

        async def sweep() -> None:
            await self.store.sweep(self.now + 3_000_000)

        await self.assert_both_once(sweep)

    async def test_second_half_and_clear(self) -> None:
        """Who clears the first destination in between does not lose the second half."""
        await self.post("0")
        client = SlowClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))

        async def clear() -> None:
            await self.store.clear(ORDERS)
            await self.sweep_all()

        async def after_the_first() -> None:
            client.meanwhile = clear

        client.meanwhile = after_the_first
        new = [NewMessage(b"1", 7200)]
        await store.post(ORDERS, new, "bob", self.now, Posting(OUTBOX, new))
        self.assertEqual(await self.listed(), [])
        self.assertEqual([m.body for m in await self.page(OUTBOX)], [b"1"])

    async def test_second_half_is_shown_late(self) -> None:
        """What is committed in both is not swept before it is shown in the second."""
        await self.post("0", ttl=60)
        client = SlowClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))
        # So that it knows what it learns on all of its connections.
        for _ in range(2 * POOL_SIZE):
            await store.page(ORDERS, Selection(1), self.now)
        client.held = Deferred()
        new = [NewMessage(b"1", 7200)]
        await store.post(ORDERS, new, "bob", self.now, Posting(OUTBOX, new))
        # This would make the first destination forget what it sent.
        cleared = store.clear(ORDERS)
        for _ in range(100):
            await store.ping()
        self.assertNoResult(cleared)
        self.wait(61)
        await self.sweep_all()
        self.assertEqual([m.body for m in await self.page(OUTBOX)], [b"1"])
        client.held.callback(None)
        await cleared
        await self.sweep_all()
        self.assertEqual([m.body for m in await self.page(OUTBOX)], [b"1"])
        self.assertEqual(await self.listed(), [])

    async def move_slowly(self, meanwhile: Callable[[], Any]) -> None:
        """Move a dead letter behind an old one; in between something happens."""
        await self.post("1")
        await self.post("old", to=GRAVEYARD)
        worn = await self.claim()
        await self.store.release(ORDERS, worn.id, self.now)
        client = SlowClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))

        async def after_the_target() -> None:
            # The first commit is the target's, the next one that of the source.
            client.meanwhile = meanwhile

        client.meanwhile = after_the_target
        rule = DeadLetterRule(GRAVEYARD, 1)
        claimed = await store.claim(ORDERS, 60, 60, 5, self.now, rule)
        self.assertEqual(claimed.dead_lettered, 1)

    async def test_slow_dead_letters(self) -> None:
        """A move that is called off by a reader of the target happens in the end."""
        pages = []

        async def read() -> None:
            pages.append(await self.page(GRAVEYARD))

        await self.move_slowly(read)
        self.assertEqual([m.body for m in pages[0]], [b"old"])
        self.assertEqual([m.body for m in await self.page(GRAVEYARD)], [b"old", b"1"])
        self.assertEqual(await self.listed(), [])

    async def test_bytes_of_slow_dead_letters(self) -> None:
        """What is on its way to another destination counts once at every moment."""
        counted = []

        async def count() -> None:
            counted.append(await self.store.stored_bytes(ORDERS.project))

        await self.move_slowly(count)
        await count()
        await count()
        self.assertEqual(counted, [4, 4, 4])


class DeafClient(MongoClient):
    """A client that misses the answer to a commit, once.

    :ivar failure: what it hears instead; none when it has heard it.
    :ivar is_sent: whether the commit reaches the server.
    """

    failure: Exception | None = None
    is_sent = True
    first = 0
    """How many commits it hears the answers of before."""

    def _connection(self, protocol: Any) -> Connection:
        return DeafConnection(protocol, self._address, self)


class DeafConnection(Connection):
    """Sends commands, and loses the answer to a commit if its client is to miss it."""

    def __init__(self, protocol: Any, address: Address, client: DeafClient) -> None:
        super().__init__(protocol, address)
        self._client = client

    async def replace(self, *arguments: Any, **options: Any) -> dict[str, Any] | None:
        if self._client.first:
            self._client.first -= 1
            return await super().replace(*arguments, **options)
        failure, self._client.failure = self._client.failure, None
        answer = None
        if failure is None or self._client.is_sent:
            answer = await super().replace(*arguments, **options)
        if failure is not None:
            raise failure
        return answer


class LostAnswerTests(StoreTests, TestCase):
    """A commit of which nobody can tell at first whether it was carried out."""

    open_store = staticmethod(open_stand_alone)

    async def assert_once(self, failure: Exception, *, is_sent: bool) -> None:
        """What a group wants is done once, whatever became of the first attempt."""
        client = DeafClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))
        (first,) = await store.post(ORDERS, [NewMessage(b"0", 60)], "bob", self.now)
        client.failure, client.is_sent = failure, is_sent
        busy = store.delete(ORDERS, [UNKNOWN_ID], self.now)
        posts = [
            store.post(ORDERS, [NewMessage(body, 60)], "bob", self.now)
            for body in (b"1", b"2")
        ]
        ids = [first, *flat([await post for post in posts])]
        await busy
        self.assertIsNone(client.failure)
        self.assertEqual(await self.listed(), ids)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 3)

    async def assert_both_once(
        self, failure: Exception, *, first: int, is_sent: bool
    ) -> None:
        """A post to two is once in both, whichever of its commits is in doubt."""
        client = DeafClient(self.store._client._address, INDEXES, reactor)
        store = self.start(MongoMessageStore(client, reactor, random.getrandbits))
        (before,) = await store.post(ORDERS, [NewMessage(b"0", 60)], "bob", self.now)
        client.first, client.is_sent, client.failure = first, is_sent, failure
        new = [NewMessage(b"1", 60), NewMessage(b"2", 60)]
        ids = await store.post(ORDERS, new, "bob", self.now, Posting(OUTBOX, new))
        self.assertIsNone(client.failure)
        self.assertEqual(await self.listed(), [before, *ids])
        page = await self.page(OUTBOX)
        self.assertEqual([message.body for message in page], [b"1", b"2"])
        self.assertEqual((await self.store.stats(OUTBOX, self.now)).total, 2)

    async def test_post_to_two(self) -> None:
        """Either commit of a post to two destinations may go unheard, or unsent."""
        for first in (0, 1):
            for is_sent in (True, False):
                lost = Interrupted("lost")
                await self.assert_both_once(lost, first=first, is_sent=is_sent)
                await self.store.clear(ORDERS)
                await self.store.clear(OUTBOX)

    async def test_carried_out(self) -> None:
        """It was carried out: it is not done again."""
        await self.assert_once(Interrupted("lost"), is_sent=True)

    async def test_not_carried_out(self) -> None:
        """It never came to the server: it is tried again."""
        await self.assert_once(Interrupted("lost"), is_sent=False)

    async def test_error_of_what_was_done(self) -> None:
        """An error is not believed before it is certain that nothing was done."""
        await self.assert_once(OperationFailure("no", 11601), is_sent=True)

    async def test_error(self) -> None:
        """A group that is refused is tried in parts."""
        await self.assert_once(OperationFailure("no", 11601), is_sent=False)
        self.assertEqual(len(self.flushLoggedErrors(OperationFailure)), 1)


class GroupTests(StoreTests, TestCase):
    """Calls of one process that become one step."""

    open_store = staticmethod(open_stand_alone)

    async def document(self, of: Destination = ORDERS) -> dict[str, Any]:
        """What the server has of a destination."""
        connection = await self.store._client.connection()
        document = await connection.read(DESTINATIONS, key_of(of))
        assert document is not None
        return document

    async def at_once(self, *calls: Callable[[], Deferred[Any]]) -> list[Any]:
        """The outcomes of calls that are one group, and one commit."""
        before = await self.document()
        busy = self.store.delete(ORDERS, [UNKNOWN_ID], self.now)
        outcomes = await DeferredList([call() for call in calls], consumeErrors=True)
        await busy
        after = await self.document()
        self.assertEqual(after["version"], before["version"] + 1)
        return [outcome for _, outcome in outcomes]

    def posting(self, *bodies: bytes, client: str = "alice") -> Callable[[], Any]:
        new = [NewMessage(body, 3600) for body in bodies]
        return lambda: self.store.post(ORDERS, new, client, self.now)

    def claiming(self, limit: int, at: int = 0, **options: Any) -> Callable[[], Any]:
        now = self.now + at
        return lambda: self.store.claim(ORDERS, 300, 60, limit, now, **options)

    def deleting(self, *ids: str, claims: Any = None) -> Callable[[], Any]:
        return lambda: self.store.delete(ORDERS, ids, self.now, claims)

    async def test_posts(self) -> None:
        """Posts of many are one commit, each in one piece, in the order of calling."""
        (first,) = await self.post("0")
        bodies = [(b"%d" % n, b"%d" % -n) for n in range(1, 17)]
        posts = [
            self.posting(*pair, client=f"c{n % 3}") for n, pair in enumerate(bodies)
        ]
        ids = await self.at_once(*posts)
        page = await self.page()
        self.assertEqual(ids_of(page), [first, *flat(ids)])
        self.assertEqual([m.body for m in page[1:]], flat(bodies))
        for number in range(3):
            shown = await self.listed(hide_client=f"c{number}")
            hidden = flat(each for n, each in enumerate(ids) if n % 3 == number)
            self.assertEqual(
                shown, [each for each in ids_of(page) if each not in hidden]
            )

    async def test_posts_to_two(self) -> None:
        """Posts of many to two destinations are one commit in each."""
        await self.post("0")
        await self.post("0", to=OUTBOX)
        bodies = [b"%d" % number for number in range(16)]

        def posting(body: bytes) -> Callable[[], Deferred[Any]]:
            new = [NewMessage(body, 3600)]
            also = Posting(OUTBOX, new)
            return lambda: self.store.post(ORDERS, new, "alice", self.now, also)

        before = await self.document(OUTBOX)
        ids = await self.at_once(*map(posting, bodies))
        after = await self.document(OUTBOX)
        self.assertEqual(after["version"], before["version"] + 1)
        self.assertEqual((await self.listed())[1:], flat(ids))
        page = (await self.page(OUTBOX))[1:]
        self.assertEqual([message.body for message in page], bodies)

    async def test_posts_of_many_places(self) -> None:
        """What many places send to one at once takes fewer commits there than posts."""
        await self.post("0", to=OUTBOX)
        before = await self.document(OUTBOX)
        new = [NewMessage(b"1", 3600)]
        places = [evolve(ORDERS, name=f"place{number}") for number in range(16)]
        await gatherResults(
            [
                self.store.post(place, new, "alice", self.now, Posting(OUTBOX, new))
                for place in places
                for _ in range(4)
            ]
        )
        after = await self.document(OUTBOX)
        self.assertLess(after["version"] - before["version"], 64)
        self.assertEqual((await self.store.stats(OUTBOX, self.now)).total, 65)

    async def test_second_half_is_too_large(self) -> None:
        """What MongoDB cannot keep in one of two destinations is in neither."""
        new, large = [NewMessage(b"1", 60)], [NewMessage(b"x" * 15_500_001, 60)]
        with self.assertRaises(StoreUnavailable):
            await self.store.post(
                ORDERS, new, "alice", self.now, Posting(OUTBOX, large)
            )
        self.assertEqual(await self.listed(), [])
        self.assertEqual(await self.listed(OUTBOX), [])

    async def test_one_is_too_large(self) -> None:
        """What MongoDB cannot keep fails by itself, and the others are stored."""
        await self.post("0")
        first, failure, last = await self.at_once(
            self.posting(b"1"), self.posting(b"x" * 15_500_001), self.posting(b"2")
        )
        failure.trap(StoreUnavailable)
        self.assertIn("15500000 bytes", str(failure.value))
        self.assertEqual((await self.listed())[1:], [*first, *last])

    async def test_one_is_refused_by_the_server(self) -> None:
        """If a group cannot be sent, each part is tried on its own, in its order."""
        await self.post("0")
        posts = [self.posting(b"1"), self.posting(b"2", client="\ud800")]
        posts.append(self.posting(b"3", b"4"))
        busy = self.store.delete(ORDERS, [UNKNOWN_ID], self.now)
        answers = [post() for post in posts]
        with self.assertRaises(StoreUnavailable):
            await answers[1]
        stored = [*(await answers[0]), *(await answers[2])]
        self.assertEqual((await self.listed())[1:], stored)
        await busy
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 2)

    async def test_claims(self) -> None:
        """Many workers get different messages in one commit, the first the oldest."""
        ids = await self.post(*"123456789")
        claims = await self.at_once(*[self.claiming(2) for _ in range(6)])
        lent = [ids_of(each.claim.messages) for each in claims[:5]]
        self.assertEqual(lent, [ids[0:2], ids[2:4], ids[4:6], ids[6:8], ids[8:]])
        self.assertEqual(claims[5], Claimed(None))
        for each in claims[:5]:
            held = await self.store.get_claim(ORDERS, each.claim.id, self.now)
            self.assertEqual(held, each.claim)
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (9, 0))

    async def test_clocks_that_differ(self) -> None:
        """Each claim takes what is free by the clock of its caller, and all of it."""
        late = await self.post("1", "2", delay=10)
        (ready,) = await self.post("3")
        busy = self.store.delete(ORDERS, [UNKNOWN_ID], self.now)
        early, later = self.claiming(1)(), self.claiming(1, at=10_000)()
        lent = [ids_of((await each).claim.messages) for each in (early, later)]
        self.assertEqual(lent, [[ready], late[:1]])
        await busy

    async def test_dead_letters(self) -> None:
        """Claims of one group move what is worn, and count it for themselves."""
        ids = await self.post("1", "2")
        worn = await self.claim()
        await self.store.release(ORDERS, worn.id, self.now)
        ids += await self.post("3", "4", "5")
        rule = DeadLetterRule(GRAVEYARD, 1)
        first, second = await self.at_once(
            self.claiming(3, dead_letter=rule), self.claiming(3, dead_letter=rule)
        )
        self.assertEqual((first.dead_lettered, second.dead_lettered), (2, 0))
        self.assertEqual(ids_of(first.claim.messages), ids[2:3])
        self.assertEqual(ids_of(second.claim.messages), ids[3:])
        self.assertEqual([m.body for m in await self.page(GRAVEYARD)], [b"1", b"2"])

    async def test_different_targets(self) -> None:
        """Claims whose dead letters go to different places are different steps."""
        await self.post("1", "2")
        worn = await self.claim()
        await self.store.release(ORDERS, worn.id, self.now)
        busy = self.store.delete(ORDERS, [UNKNOWN_ID], self.now)
        targets = (GRAVEYARD, RETURNS)
        claims = [
            self.claiming(1, dead_letter=DeadLetterRule(target, 1))()
            for target in targets
        ]
        for claim in claims:
            self.assertEqual(await claim, Claimed(None, 1))
        await busy
        bodies = [[m.body for m in await self.page(target)] for target in targets]
        self.assertEqual(bodies, [[b"1"], [b"2"]])

    async def test_mixed(self) -> None:
        """What deletes comes first, then what takes, then what appends."""
        ids = await self.post("1", "2", "3", "4")
        held = await self.claim(limit=1)
        posted, popped, claimed, refused, again, deleted = await self.at_once(
            self.posting(b"5"),
            lambda: self.store.pop(ORDERS, 1, self.now),
            self.claiming(9),
            self.deleting(ids[0], ids[3], claims=[]),
            self.deleting(ids[1], claims=[]),
            self.deleting(ids[1], ids[0], claims=[held.id]),
        )
        refused.trap(MessageIsClaimed)
        self.assertIsNone(again)
        self.assertIsNone(deleted)
        self.assertEqual(ids_of(popped), ids[2:3])
        self.assertEqual(ids_of(claimed.claim.messages), ids[3:])
        self.assertEqual(await self.listed(include_claimed=True), [ids[3], *posted])
        stats = await self.store.stats(ORDERS, self.now)
        self.assertEqual((stats.claimed, stats.free), (1, 1))

    async def test_nothing_there(self) -> None:
        """In a destination that was never posted to each finds nothing."""
        busy = self.store.delete(RETURNS, [UNKNOWN_ID], self.now)
        popped = self.store.pop(RETURNS, 5, self.now)
        claimed = self.store.claim(RETURNS, 60, 60, 5, self.now)
        self.assertEqual(await popped, [])
        self.assertEqual(await claimed, Claimed(None))
        self.assertIsNone(await busy)

    async def test_caller_leaves(self) -> None:
        """A caller that gives up frees himself, and his part is done all the same."""
        await self.post("0")
        busy = self.store.delete(ORDERS, [UNKNOWN_ID], self.now)
        left, stayed = self.posting(b"1")(), self.posting(b"2")()
        left.cancel()
        with self.assertRaises(CancelledError):
            await left
        (last,) = await stayed
        await busy
        self.assertEqual([m.body for m in await self.page()], [b"0", b"1", b"2"])
        self.assertEqual((await self.listed())[-1], last)

    async def test_nothing_is_left_to_do(self) -> None:
        """When nobody wants anything any more, the note of the last step is removed."""
        await gatherResults([self.posting(b"1")() for _ in range(5)])
        new = [NewMessage(b"1", 60)]
        await self.store.post(ORDERS, new, "bob", self.now, Posting(OUTBOX, new))
        other = self.start(
            open_mongodb_messages(self.store._client._address.uri, reactor)
        )
        await self.store.stopService()
        connection = await other._client.connection()
        for of in (ORDERS, OUTBOX):
            document = await connection.read(DESTINATIONS, key_of(of))
            assert document is not None
            self.assertNotIn("pending", document)
            self.assertNotIn("outgoing", document)


class PostingProcess(ProcessProtocol):
    """What a posting process prints.

    :ivar done: fires with the ids of each batch, when it ended well.
    """

    def __init__(self) -> None:
        self.done: Deferred[list[list[str]]] = Deferred()
        self._output = b""
        self._errors = b""

    def outReceived(self, data: bytes) -> None:
        self._output += data

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        if reason.check(ProcessDone):
            self.done.callback([json.loads(line) for line in self._output.splitlines()])
        else:
            self.done.errback(AssertionError(self._errors.decode()))


class ProcessesTests(TestCase):
    """Several processes on the same messages."""

    timeout = 120
    processes = 4
    batches = 60

    async def follow(self, server: Any, uri: str) -> None:
        """Four processes with six posters each post; a reader follows the markers."""
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        posting = gatherResults(
            [self.spawn(uri, str(n)) for n in range(self.processes)]
        )
        seen: list[Message] = []
        more = True
        while more:
            # Asked before the page, so that the last page comes after the last post.
            more = not posting.called
            after = seen[-1].id if seen else None
            page = await store.page(ORDERS, Selection(7, after), START)
            seen += page
            more = more or bool(page)
        batches = flat(await posting)
        ids = ids_of(seen)
        self.assertEqual(ids, sorted(flat(batches)))
        self.assertEqual(len(ids), self.processes * self.batches * 3)
        for batch in batches:
            start = ids.index(batch[0])
            self.assertEqual(ids[start : start + 3], batch)
        further = await store.page(OUTBOX, Selection(len(ids) + 1), START)
        self.assertEqual(
            sorted(message.body for message in further),
            sorted(message.body for message in seen),
        )
        self.assertEqual((await store.stats(OUTBOX, START)).total, len(ids))

    def spawn(self, uri: str, name: str) -> Deferred[list[list[str]]]:
        process = PostingProcess()
        module = [
            *("-m", "tests.on_servers.mongodb_poster"),
            uri,
            name,
            str(self.batches),
        ]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        reactor.spawnProcess(
            process, sys.executable, [sys.executable, *module], environment
        )
        return process.done

    async def test_stand_alone(self) -> None:
        """A reader that follows markers misses nothing of four posting processes."""
        server = stand_alone()
        await self.follow(server, server.uri(STAND_ALONE.at(self, server, None)))

    async def test_replica_set(self) -> None:
        """The same on a replica set."""
        server = set_of_one()
        await self.follow(server, server.uri(SET_OF_ONE.at(self, server, None)))


class TroubleTests(TestCase):
    """Servers that die, move or do not answer."""

    timeout = 120
    posters = 12

    def begin(self, uri: str) -> MongoMessageStore:
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        return store

    async def post_until(self, goal: int, poster: str) -> None:
        """Post batches until so many of all posters were acknowledged."""
        number = 0
        while len(self.acknowledged) < goal and self.store.running:
            bodies = [
                b'["%s", %d, %d]' % (poster.encode(), number, n) for n in range(3)
            ]
            new = [NewMessage(body, 3600) for body in bodies]
            number += 1
            try:
                also = Posting(OUTBOX, new)
                ids = await self.store.post(ORDERS, new, poster, START, also)
            except StoreUnavailable:
                self.unknown.append(bodies)
            else:
                self.acknowledged.append(list(zip(ids, bodies, strict=True)))

    async def read_along(self, posting: Deferred[Any]) -> list[Message]:
        """All messages, by following the markers."""
        seen: list[Message] = []
        more = True
        while more:
            more = not posting.called
            after = seen[-1].id if seen else None
            try:
                page = await self.store.page(ORDERS, Selection(50, after), START)
            except StoreUnavailable:
                more = self.store.running
                continue
            seen += page
            more = more or bool(page)
        return seen

    async def assert_survives(
        self, uri: str, trouble: Callable[[], Any], times: int
    ) -> None:
        """Nothing is lost, halved or doubled while there is trouble, so many times."""
        self.store = self.begin(uri)
        self.acknowledged: list[list[tuple[str, bytes]]] = []
        self.unknown: list[list[bytes]] = []
        goals = [20 * (n + 1) for n in range(times)]
        posting = gatherResults(
            [
                Deferred.fromCoroutine(self.post_until(goals[-1] + 40, str(n)))
                for n in range(self.posters)
            ]
        )
        reading = Deferred.fromCoroutine(self.read_along(posting))
        for goal in goals:
            while len(self.acknowledged) < goal:
                await self.store.ping()
            await deferToThread(trouble)
        await posting
        seen = await reading
        self.check(seen)
        await self.check_further(seen)

    def check(self, seen: list[Message]) -> None:
        """What a reader that followed the markers saw is what was posted."""
        ids = ids_of(seen)
        self.assertEqual(ids, sorted(set(ids)))
        bodies = [message.body for message in seen]
        self.assertEqual(len(set(bodies)), len(bodies))
        shown = {message.id: message.body for message in seen}
        for batch in self.acknowledged:
            self.assertEqual(
                [shown.get(each) for each, _ in batch], [b for _, b in batch]
            )
        for batch in self.unknown:
            self.assertIn(sum(body in bodies for body in batch), (0, len(batch)))

    async def check_further(self, seen: list[Message]) -> None:
        """What was posted is also in the second destination, once, in whole batches."""
        everything = Selection(len(seen) + 1000)
        sizes = [len(message.body) for message in seen]
        stored_bytes = await self.store.stored_bytes(ORDERS.project)
        self.assertEqual(stored_bytes, sum(sizes))
        further = await self.store.page(OUTBOX, everything, START)
        bodies = [message.body for message in further]
        self.assertEqual(sorted(bodies), sorted(message.body for message in seen))
        for start in range(0, len(bodies), 3):
            parts = [json.loads(body) for body in bodies[start : start + 3]]
            self.assertEqual([part for _, _, part in parts], [0, 1, 2])
            self.assertEqual(len({(poster, turn) for poster, turn, _ in parts}), 1)

    async def test_killed(self) -> None:
        """A server that is killed and started again has all that was acknowledged."""
        server = MongoServer()
        self.addCleanup(server.remove)
        server.start()

        def restart() -> None:
            server.kill()
            server.start()

        await self.assert_survives(server.uri("killed"), restart, times=3)

    async def test_stepped_down(self) -> None:
        """The primary may change under load."""
        members = set_of_three()
        members.wipe("moved")

        def step_down() -> None:
            old = members.primary()
            old.admin("replSetStepDown", 9, secondaryCatchUpPeriodSecs=8)
            members.primary()
            # The third time there would be nobody else who may be elected.
            old.admin("replSetFreeze", 0)

        await self.assert_survives(members.uri("moved"), step_down, times=3)

    async def test_primary_killed(self) -> None:
        """A primary that dies under load is succeeded by another member."""
        members = set_of_three()
        members.wipe("succeeded")

        def replace() -> None:
            old = members.primary()
            old.kill()
            members.primary()
            old.start()

        await self.assert_survives(members.uri("succeeded"), replace, times=2)

    async def test_nobody_answers(self) -> None:
        """Without a server every call fails within its time, and stopping works."""
        clock = Clock()
        store = open_mongodb_messages(f"mongodb://127.0.0.1:{free_port()}/none", clock)
        store.startService()
        calls = [store.ping(), store.page(ORDERS, Selection(1), START)]
        clock.advance(patience(1) - 0.1)
        self.assertNoResult(calls[0])
        clock.advance(0.1)
        for call in calls:
            with self.assertRaises(StoreUnavailable):
                await call
        await store.stopService()

    async def test_lost_connection(self) -> None:
        """What is asked on a connection that was lost fails at once."""
        store = self.begin(stand_alone().uri("lost"))
        connection = await store._client.connection()
        asked = Deferred.fromCoroutine(connection.command("ping", 1))
        connection.protocol.transport.abortConnection()
        with self.assertRaises(Interrupted):
            await asked
        with self.assertRaises(Interrupted):
            await connection.command("ping", 1)
        await store.ping()

    async def test_hung_server(self) -> None:
        """A server that hangs is unavailable, and is used again when it goes on."""
        server = MongoServer()
        self.addCleanup(server.remove)
        server.start()
        clock = Clock()
        store = open_mongodb_messages(server.uri("hung"), clock)
        store.startService()
        self.addCleanup(store.stopService)
        await store.ping()
        process = server.admin("serverStatus")["pid"]
        os.kill(process, signal.SIGSTOP)
        call = store.post(ORDERS, [NewMessage(b"1", 60)], "alice", START)
        clock.advance(TIMEOUT)
        with self.assertRaises(StoreUnavailable):
            await call
        os.kill(process, signal.SIGCONT)
        await store.ping()


class UriTests(SynchronousTestCase):
    """What can be said in a URI."""

    def test_refused(self) -> None:
        """What would not be done as asked is refused, and said why."""
        for uri, fact in (
            ("mongodb://", "this URI cannot be used"),
            ("mongodb+srv://example.org/x", "name them"),
            ("mongodb://localhost/x?tls=true", "TLS"),
            ("mongodb://a:b@localhost/x?authMechanism=MONGODB-X509", "SCRAM-SHA-1"),
            ("mongodb://localhost/x?w=0", "acknowledges nothing"),
        ):
            with self.assertRaises(StoreOpenError) as caught:
                open_mongodb_messages(uri, Clock())
            self.assertIn(fact, str(caught.exception))
            self.assertNotIn("a:b", str(caught.exception))

    def test_durable_unless_told_otherwise(self) -> None:
        """A change waits for the journals of a majority, unless the URI says less."""
        address = read_uri("mongodb://localhost")
        concern = address.write_concern
        self.assertEqual((concern["w"], concern["j"]), ("majority", True))
        self.assertEqual(address.read_concern, {"level": "majority"})
        weaker = read_uri("mongodb://localhost/x?w=1&journal=false")
        concern = weaker.write_concern
        self.assertEqual((concern["w"], concern["j"]), (1, False))
        self.assertEqual(weaker.read_concern, {"level": "local"})


class GuardedServer(MongoServer):
    """A server that wants to know who calls."""

    def command(self) -> Sequence[str]:
        """See the base class."""
        return [*super().command(), "--auth"]


class LoginTests(TestCase):
    """A server whose users have passwords."""

    timeout = 120

    async def assert_usable(self, uri: str) -> None:
        """A store on this URI takes and gives messages."""
        store = open_mongodb_messages(uri, reactor)
        store.startService()
        self.addCleanup(store.stopService)
        new = [NewMessage(b"1", 60)]
        calls = [store.post(ORDERS, new, "alice", START) for _ in range(30)]
        ids = flat(await gatherResults(calls))
        page = await store.page(ORDERS, Selection(1000), START)
        self.assertEqual(ids_of(page)[-30:], ids)

    async def test_mechanisms(self) -> None:
        """A user logs in by what the server has of him, or by what the URI says."""
        server = GuardedServer()
        self.addCleanup(server.remove)
        server.start()
        # Only the first user may be made by somebody unknown.
        admin = {"roles": ["root"], "mechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"]}
        server.admin("createUser", "both", pwd="p@ss", **admin)
        with blocking.MongoClient(f"mongodb://both:p%40ss@{server.address}") as client:
            for name, mechanism in (("old", "SCRAM-SHA-1"), ("new", "SCRAM-SHA-256")):
                only = {"roles": ["readWrite"], "mechanisms": [mechanism]}
                client["place"].command("createUser", name, pwd="p=,\u00e4ss", **only)
        for user, place in (
            ("both:p%40ss", "place?authSource=admin"),
            ("both:p%40ss", "place?authSource=admin&authMechanism=SCRAM-SHA-256"),
            ("both:p%40ss", "place?authSource=admin&authMechanism=SCRAM-SHA-1"),
            ("old:p=,%C3%A4ss", "place"),
            ("new:p=,%C3%A4ss", "place"),
        ):
            await self.assert_usable(f"mongodb://{user}@{server.address}/{place}")

    async def test_wrong_password(self) -> None:
        """Whoever is not let in finds the store unavailable, and the log says why."""
        server = GuardedServer()
        self.addCleanup(server.remove)
        server.start()
        server.admin("createUser", "one", pwd="right", roles=["root"])
        uri = f"mongodb://one:secret@{server.address}/place?authSource=admin"
        store = open_mongodb_messages(uri, reactor)
        said: list[str] = []

        def hear(event: Any) -> None:
            said.append(str(formatEvent(event)))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        store.startService()
        with self.assertRaises(StoreUnavailable):
            await store.page(ORDERS, Selection(1), START)
        await store.stopService()
        self.assertTrue(self.flushLoggedErrors(OperationFailure))
        self.assertIn("MongoDB does not let user one in: OperationFailure", said)
        self.assertNotIn("secret", "".join(said))

    def test_conversation(self) -> None:
        """The words are those of the example in RFC 7677, section 3."""
        scram = Scram("user", "pencil", "rOprNGfwEbeRWgbNEkqO")
        self.assertEqual(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        challenge = b"r=%s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % nonce
        proof = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        self.assertEqual(scram.proof(challenge), b"c=biws,r=%s,p=%s" % (nonce, proof))
        scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def test_false_server(self) -> None:
        """A server that cannot be the right one is told nothing, or not believed."""
        for challenge in (
            b"r=mine,s=AAAA,i=4095",
            b"r=other,s=AAAA,i=4096",
        ):
            with self.assertRaises(OperationFailure):
                Scram("user", "pencil", "mine").proof(challenge)
        scram = Scram("user", "pencil", "mine")
        scram.proof(b"r=mine2,s=AAAA,i=4096")
        for verdict in (b"v=AAAA", b"e=other-error", b""):
            with self.assertRaises(OperationFailure):
                scram.check(verdict)


class CostTests(TestCase):
    """What an operation costs, in index keys and documents that the server looks at."""

    timeout = 120

    async def costs(self, size: int) -> dict[str, int]:
        """What each operation costs with so many messages in each state."""
        server = stand_alone()
        database = f"cost{size}"
        store = open_mongodb_messages(server.uri(database), reactor)
        store.startService()
        self.addCleanup(store.stopService)
        for delay in (0, 900, 0):
            new = [NewMessage(b"1", 3600, delay)] * size
            await store.post(ORDERS, new, "alice", START)
        await store.claim(ORDERS, 600, 60, size, START)
        free = await store.page(ORDERS, Selection(size), START)
        first, last = free[0], free[-1]
        everything = Selection(10, include_claimed=True, include_delayed=True)
        ids = [first.id, last.id]
        new = [NewMessage(b"1", 60)]
        operations: dict[str, Callable[[], Deferred[Any]]] = {
            "post": lambda: store.post(ORDERS, new, "bob", START),
            "post to both": lambda: store.post(
                RETURNS, new, "bob", START, Posting(ORDERS, new)
            ),
            "page": lambda: store.page(ORDERS, Selection(10), START),
            "page of all": lambda: store.page(ORDERS, everything, START),
            "page after": lambda: store.page(ORDERS, Selection(10, first.id), START),
            "page of others": lambda: store.page(
                ORDERS, Selection(10, hide_client="alice"), START
            ),
            "get": lambda: store.get(ORDERS, ids, START),
            "stats": lambda: store.stats(ORDERS, START),
            "stored_bytes": lambda: store.stored_bytes(ORDERS.project),
            "next_ready": lambda: store.next_ready(ORDERS, START),
            "delete": lambda: store.delete(ORDERS, ids, START, []),
            "pop": lambda: store.pop(ORDERS, 10, START),
            "claim": lambda: store.claim(ORDERS, 60, 60, 10, START),
            "sweep": lambda: store.sweep(START),
            "clear": lambda: store.clear(ORDERS),
        }
        costs = {}
        with server.profiled(database) as looked_at:
            for name, call in operations.items():
                before = looked_at()
                await call()
                costs[name] = looked_at() - before
        return costs

    async def test_flat(self) -> None:
        """No operation costs more when thirty times as much is waiting."""
        small, large = await self.costs(100), await self.costs(3000)
        for operation, cost in small.items():
            self.assertLessEqual(large[operation], cost * 1.1 + 2, operation)
        self.assertGreater(small["page"], 10)
