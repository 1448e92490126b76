"""The weight of what a project keeps, as every message store knows it."""

from __future__ import annotations

from mqsvc.messaging.errors import MessageIsClaimed
from mqsvc.messaging.model import (
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Posting,
)
from tests.storage.store_case import GRAVEYARD, ORDERS, RETURNS, StoreTests, ids_of

PROJECT = ORDERS.project
NEWS = Destination(PROJECT, Kind.TOPIC, "news")
OUTBOX = Destination(PROJECT, Kind.OUTBOX, "orders")
DELIVERY = Destination(PROJECT, Kind.DELIVERY, "orders")
FOREIGN = Destination("neighbour", Kind.QUEUE, "orders")


class StoredBytesTests(StoreTests):
    """Bytes of bodies are counted in the step that they come and go with."""

    async def assert_bytes(self, expected: int, project: str = PROJECT) -> None:
        self.assertEqual(await self.store.stored_bytes(project), expected)

    async def test_nothing(self) -> None:
        """A project that never posted has nothing."""
        await self.assert_bytes(0)
        await self.assert_bytes(0, project="")

    async def test_posts(self) -> None:
        """All queues and topics of a project count, in any state, each body whole."""
        await self.post("1", "22", "333")
        await self.assert_bytes(6)
        await self.post("4444", delay=10)
        await self.post("55555", to=RETURNS, client="bob")
        await self.post("666666", to=NEWS)
        await self.assert_bytes(21)

    async def test_bytes(self) -> None:
        """Bytes count, not characters."""
        await self.post("\u00e9", "\u20ac", "\U0001f4ec")
        await self.assert_bytes(2 + 3 + 4)

    async def test_large(self) -> None:
        """A body that fills pages of a store counts to its last byte."""
        await self.post("x" * 300_001, "1")
        await self.assert_bytes(300_002)

    async def test_many(self) -> None:
        """A large batch counts, and so does taking it away."""
        ids = await self.post(*["12345"] * 1500)
        await self.assert_bytes(7500)
        await self.delete(*ids[1:])
        await self.assert_bytes(5)

    async def test_kinds_and_projects(self) -> None:
        """What the service keeps for itself does not count, nor do other projects."""
        for place in (OUTBOX, DELIVERY, FOREIGN):
            await self.post("12345", to=place)
        await self.assert_bytes(0)
        await self.assert_bytes(5, project=FOREIGN.project)

    async def test_odd_projects(self) -> None:
        """A project may be any text, and is never taken for another one."""
        names = ("", "a", "a/queue", "a/", "%61", "{a}", "a:", "a*", "\u00e9", "A")
        for size, name in enumerate(names, 1):
            await self.post("x" * size, to=Destination(name, Kind.QUEUE, "orders"))
        for size, name in enumerate(names, 1):
            await self.assert_bytes(size, project=name)

    async def test_also(self) -> None:
        """What is posted for a second destination counts there, if it counts."""
        new = [NewMessage(b"1", 60)]
        for also in (NEWS, OUTBOX):
            more = Posting(also, [NewMessage(b"22", 60), NewMessage(b"333", 60)])
            await self.store.post(ORDERS, new, "alice", self.now, more)
        await self.assert_bytes(1 + 5 + 1)

    async def test_deletes(self) -> None:
        """What is deleted counts no more; deleting it again changes nothing."""
        ids = await self.post("1", "22", "333", "4444")
        claim = await self.claim(limit=1)
        await self.delete(ids[2])
        await self.assert_bytes(7)
        await self.delete(ids[2], ids[3])
        await self.assert_bytes(3)
        await self.delete(ids[0], claims=[claim.id])
        await self.assert_bytes(2)

    async def test_refused_delete(self) -> None:
        """What is not deleted, because of a claim, still counts."""
        ids = await self.post("1", "22")
        await self.claim(limit=1)
        with self.assertRaises(MessageIsClaimed):
            await self.delete(*ids, claims=[])
        await self.assert_bytes(3)

    async def test_pops(self) -> None:
        """What is popped counts no more."""
        await self.post("1", "22", "333")
        await self.store.pop(ORDERS, 2, self.now)
        await self.assert_bytes(3)
        await self.store.pop(ORDERS, 2, self.now)
        await self.assert_bytes(0)

    async def test_claims(self) -> None:
        """Claims change nothing, whatever becomes of them."""
        await self.post("1", "22", "333")
        claim = await self.claim(limit=2)
        await self.store.renew(ORDERS, claim.id, 600, 60, self.now)
        await self.assert_bytes(6)
        await self.store.release(ORDERS, claim.id, self.now)
        await self.claim(limit=3, ttl=60)
        self.wait(60)
        await self.sweep_all()
        await self.assert_bytes(6)
        await self.store.pop(ORDERS, 3, self.now)
        await self.assert_bytes(0)

    async def test_dead_letters(self) -> None:
        """What is moved to dead letters counts there, and only there."""
        await self.post("1", "22", "333")
        claim = await self.claim(limit=2)
        await self.store.release(ORDERS, claim.id, self.now)
        rule = DeadLetterRule(GRAVEYARD, max_claim_count=1)
        self.assertEqual((await self.attempt(rule=rule)).dead_lettered, 2)
        await self.assert_bytes(6)
        await self.store.pop(GRAVEYARD, 1, self.now)
        await self.assert_bytes(5)
        await self.store.clear(ORDERS)
        await self.sweep_all()
        await self.assert_bytes(2)
        await self.store.clear(GRAVEYARD)
        await self.sweep_all()
        await self.assert_bytes(0)

    async def test_restored(self) -> None:
        """What comes from another store counts, but not what expired on the way."""
        await self.post("1", ttl=60)
        await self.post("22", ttl=120)
        taken = await self.stored()
        await self.restore(*taken)
        await self.assert_bytes(6)
        self.wait(60)
        await self.restore(*taken)
        await self.sweep_all()
        await self.assert_bytes(6)
        await self.store.pop(RETURNS, 1, self.now)
        await self.assert_bytes(4)

    async def test_expired(self) -> None:
        """What expired counts no more once it is swept, and what lives always does."""
        await self.post("1", "22", ttl=60)
        await self.post("333", to=RETURNS, ttl=60)
        await self.post("4444", ttl=61)
        await self.claim(limit=1, ttl=50, grace=30)
        self.now += 59_999
        await self.sweep_all()
        await self.assert_bytes(10)
        self.now += 1
        self.assertIn(await self.store.stored_bytes(PROJECT), range(4, 11))
        await self.sweep_all()
        await self.assert_bytes(4)

    async def test_deleted_when_expired(self) -> None:
        """What is deleted although it expired is counted off once."""
        ids = await self.post("1", "22", ttl=60)
        self.wait(60)
        await self.delete(*ids)
        await self.sweep_all()
        await self.assert_bytes(0)

    async def test_cleared(self) -> None:
        """What is cleared counts no more, and what is posted after it does."""
        await self.post("1", "22")
        await self.post("333", to=RETURNS)
        await self.store.clear(ORDERS)
        await self.sweep_all()
        await self.assert_bytes(3)
        await self.post("4444")
        await self.assert_bytes(7)
        await self.store.clear(ORDERS)
        await self.store.clear(ORDERS)
        await self.sweep_all()
        await self.assert_bytes(3)

    async def test_many_cleared(self) -> None:
        """Any number of messages is counted off that were cleared while in use."""
        await self.post(*["12345"] * 1500)
        await self.claim(limit=20)
        await self.store.clear(ORDERS)
        ids = await self.post("1")
        await self.sweep_all()
        await self.assert_bytes(1)
        self.assertEqual(ids_of(await self.existing()), ids)

    async def test_kept(self) -> None:
        """It is known to every store on the same messages, also after a restart."""
        path = self.mktemp()
        one = self.start(self.open_store(self, path))
        other = self.start(self.open_store(self, path))
        ids = await one.post(ORDERS, [NewMessage(b"1", 60)], "alice", self.now)
        await other.post(ORDERS, [NewMessage(b"22", 60)], "bob", self.now)
        self.assertEqual(await one.stored_bytes(PROJECT), 3)
        await other.delete(ORDERS, ids, self.now)
        self.assertEqual(await one.stored_bytes(PROJECT), 2)
        await self.stop(one)
        await self.stop(other)
        again = self.start(self.open_store(self, path))
        self.assertEqual(await again.stored_bytes(PROJECT), 2)
