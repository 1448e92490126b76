"""Steps of the MongoDB message store that are broken off, overtaken or unheard."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

from pymongo.errors import OperationFailure
from twisted.internet import reactor
from twisted.internet.defer import (
    Deferred,
    DeferredList,
)
from twisted.trial.unittest import TestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import (
    DeadLetterRule,
    Message,
    NewMessage,
    Posting,
    Selection,
    StoredMessage,
)
from mqsvc.storage.messages import mongodb_queries as queries
from mqsvc.storage.messages.mongodb import MongoMessageStore, open_mongodb_messages
from mqsvc.storage.messages.mongodb_client import POOL_SIZE, MongoClient
from mqsvc.storage.messages.mongodb_commands import Connection, Interrupted
from mqsvc.storage.messages.mongodb_notes import View
from mqsvc.storage.messages.mongodb_schema import (
    CLAIMS,
    DESTINATIONS,
    INDEXES,
    MESSAGES,
)
from mqsvc.storage.mongodb_uri import Address
from tests.on_servers.mongodb_stores import (
    open_stand_alone,
    open_with_few,
)
from tests.storage.also_contract import OUTBOX
from tests.storage.contract import (
    GRAVEYARD,
    ORDERS,
    START,
    UNKNOWN_ID,
    StoreTests,
    flat,
    ids_of,
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

    open_store = staticmethod(open_with_few)
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

    async def about_to_die(self) -> tuple[DyingClient, MongoMessageStore]:
        """A store of another process, which knows all of its connections."""
        client = DyingClient(self.store._client._address, INDEXES, reactor)
        dying = self.start(MongoMessageStore(client, reactor, random.getrandbits))
        for _ in range(2):
            await dying.page(ORDERS, Selection(1), self.now)
        return client, dying

    async def outcomes(self, attempt: Attempt) -> tuple[Any, Any, list[Any]]:
        """What is seen before, after, and after each death in between."""
        seen = []
        for commands in range(100):
            await self.store.clear(ORDERS)
            await self.store.clear(GRAVEYARD)
            ids, claim_id = await self.prepare()
            if not seen:
                before = await self.seen()
            client, dying = await self.about_to_die()
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
            client, dying = await self.about_to_die()
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
            client, dying = await self.about_to_die()
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
