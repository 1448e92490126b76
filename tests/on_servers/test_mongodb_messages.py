"""The MongoDB message store: the behaviour of every store, its groups and costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    execute,
    gatherResults,
)
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from mqsvc.messaging.errors import MessageIsClaimed, StoreUnavailable
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    NewMessage,
    Posting,
    Selection,
)
from mqsvc.storage.messages.mongodb import MongoMessageStore, open_mongodb_messages
from mqsvc.storage.messages.mongodb_notes import key_of
from mqsvc.storage.messages.mongodb_schema import (
    DESTINATIONS,
)
from tests.on_servers.mongodb_stores import (
    open_on_a_set,
    open_stand_alone,
    open_with_few,
)
from tests.servers.mongodb import (
    stand_alone,
)
from tests.storage.also_contract import OUTBOX
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

globals().update(make_store_tests("StandAlone", open_with_few))
globals().update(make_store_tests("ReplicaSet", open_on_a_set))


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
        store = blockingCallFromThread(reactor, open_with_few, self._testcase, path)
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
        places = [replace(ORDERS, name=f"place{number}") for number in range(16)]
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
