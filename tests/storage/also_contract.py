"""A post for two destinations in one step, as every message store does it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from twisted.internet.defer import CancelledError, gatherResults

from mqsvc.messaging.model import (
    Destination,
    Kind,
    Message,
    NewMessage,
    Posting,
    Stats,
)
from mqsvc.storage.interfaces import IMessageStore
from tests.storage.sharing_contract import SharedPlaceTests
from tests.storage.store_case import (
    GRAVEYARD,
    ORDERS,
    RETURNS,
    START,
    StoreTests,
    flat,
    ids_of,
    position_of,
    running,
)

OUTBOX = Destination("tenant", Kind.OUTBOX, "orders")


def bodies_of(messages: Sequence[Message]) -> list[str]:
    """The bodies, in the same order."""
    return [message.body.decode() for message in messages]


class PostingToTwo(StoreTests):
    """What tests of such posts are written with."""

    async def post_both(
        self,
        *bodies: str,
        to: Destination = ORDERS,
        also: Destination = OUTBOX,
        further: Sequence[str] | None = None,
        client: str = "alice",
        store: IMessageStore | None = None,
    ) -> list[str]:
        """Post messages, and the same or others to a second destination."""
        new = [NewMessage(body.encode(), 3600) for body in bodies]
        others = new
        if further is not None:
            others = [NewMessage(body.encode(), 3600) for body in further]
        posting = Posting(also, others)
        return await (store or self.store).post(to, new, client, self.now, posting)

    async def bodies(self, of: Destination) -> list[str]:
        """What a destination has, in any state."""
        return bodies_of(await self.existing(of))


class AlsoTests(PostingToTwo):
    """Both destinations get what is theirs."""

    async def test_both(self) -> None:
        """Each destination has its messages in order; the ids are of the first."""
        ids = await self.post_both("1", "2", further=["a", "b", "c"])
        self.assertEqual(ids_of(await self.existing()), ids)
        self.assertEqual(await self.bodies(ORDERS), ["1", "2"])
        self.assertEqual(await self.bodies(OUTBOX), ["a", "b", "c"])

    async def test_message_as_posted(self) -> None:
        """A further message shows its body, ttl and moment, a new id, and no claim."""
        also = Posting(OUTBOX, [NewMessage(b'{"a": 1}', 77)])
        (posted,) = await self.store.post(
            ORDERS, [NewMessage(b"1", 60)], "alice", self.now, also
        )
        (further,) = await self.page(OUTBOX)
        self.assertEqual(further, Message(further.id, b'{"a": 1}', 77, START))
        self.assertGreater(position_of(further.id), 0)
        self.assertNotEqual(further.id, posted)
        self.assertEqual(await self.message(further.id, OUTBOX), further)

    async def test_their_own_times(self) -> None:
        """Ttl and delay of a further message are its own."""
        also = Posting(OUTBOX, [NewMessage(b"a", 60), NewMessage(b"b", 3600, 30)])
        await self.store.post(ORDERS, [NewMessage(b"1", 3600)], "alice", self.now, also)
        self.assertEqual(bodies_of(await self.page(OUTBOX)), ["a"])
        self.assertEqual(
            await self.store.next_ready(OUTBOX, self.now), self.now + 30_000
        )
        self.wait(60)
        self.assertEqual(bodies_of(await self.page(OUTBOX)), ["b"])
        self.assertEqual(await self.bodies(ORDERS), ["1"])

    async def test_poster(self) -> None:
        """Who posted the messages posted the further ones."""
        await self.post_both("1", "2")
        await self.post("3", to=OUTBOX, client="bob")
        await self.post_both("4", client="bob", to=RETURNS)
        shown = await self.page(OUTBOX, hide_client="alice")
        self.assertEqual(bodies_of(shown), ["3", "4"])
        shown = await self.page(OUTBOX, hide_client="bob")
        self.assertEqual(bodies_of(shown), ["1", "2"])
        self.assertEqual(await self.listed(hide_client="alice"), [])

    async def test_many_posters(self) -> None:
        """Each client finds what the others posted, however they came together."""
        posts = [self.post_both(f"{n}", f"-{n}", client=f"c{n % 3}") for n in range(12)]
        await gatherResults(running(*posts))
        everything = await self.bodies(OUTBOX)
        for number in range(3):
            shown = await self.page(OUTBOX, limit=24, hide_client=f"c{number}")
            self.assertEqual(
                bodies_of(shown), [b for b in everything if abs(int(b)) % 3 != number]
            )

    async def test_order(self) -> None:
        """What is posted to a destination either way stands in the order accepted."""
        ids = await self.post("1", to=OUTBOX)
        await self.post_both("2", "3")
        self.wait(-60)
        ids += await self.post("4", to=OUTBOX)
        self.wait(60)
        await self.post_both("5", to=RETURNS)
        page = await self.page(OUTBOX)
        self.assertEqual(bodies_of(page), list("12345"))
        self.assertEqual([page[0].id, page[3].id], ids)
        for earlier, later in pairwise(ids_of(page)):
            self.assertLess(position_of(earlier), position_of(later))

    async def test_following_markers(self) -> None:
        """A reader of the second destination goes on from the last id it saw."""
        seen: list[Message] = []
        for number in range(5):
            await self.post_both(str(number))
            after = seen[-1].id if seen else None
            seen += await self.page(OUTBOX, after=after)
        self.assertEqual(bodies_of(seen), list("01234"))

    async def test_work(self) -> None:
        """Further messages are counted, lent, deleted and popped like any others."""
        await self.post_both("1", further=["a", "b", "c"])
        claim = await self.claim(of=OUTBOX, limit=1)
        self.assertEqual(bodies_of(claim.messages), ["a"])
        stats = await self.store.stats(OUTBOX, self.now)
        self.assertEqual((stats.claimed, stats.free), (1, 2))
        await self.store.delete(OUTBOX, [claim.messages[0].id], self.now, [claim.id])
        popped = await self.store.pop(OUTBOX, 1, self.now)
        self.assertEqual(bodies_of(popped), ["b"])
        stats = await self.store.stats(OUTBOX, self.now)
        self.assertEqual((stats.claimed, stats.free), (0, 1))
        self.assertEqual(stats.oldest, stats.newest)
        self.assertEqual((await self.store.stats(ORDERS, self.now)).total, 1)

    async def test_kinds(self) -> None:
        """Destinations of one name and different kinds are different ones."""
        outbox, delivery, topic = (
            Destination("tenant", kind, "orders")
            for kind in (Kind.OUTBOX, Kind.DELIVERY, Kind.TOPIC)
        )
        await self.post_both("1", further=["a"], also=outbox)
        await self.post_both("2", further=["b"], to=outbox, also=delivery)
        await self.post_both("3", further=["c"], to=delivery, also=topic)
        self.assertEqual(await self.bodies(ORDERS), ["1"])
        self.assertEqual(await self.bodies(outbox), ["a", "2"])
        self.assertEqual(await self.bodies(delivery), ["b", "3"])
        self.assertEqual(await self.bodies(topic), ["c"])

    async def test_clear(self) -> None:
        """Clearing one of the two leaves the other, and both take new messages."""
        await self.post_both("1")
        await self.store.clear(ORDERS)
        self.assertEqual(await self.bodies(OUTBOX), ["1"])
        await self.post_both("2")
        await self.store.clear(OUTBOX)
        self.assertEqual(await self.bodies(ORDERS), ["2"])
        self.assertEqual(await self.store.stats(OUTBOX, self.now), Stats())
        await self.sweep_all()
        await self.post_both("3")
        self.assertEqual(await self.bodies(ORDERS), ["2", "3"])
        self.assertEqual(await self.bodies(OUTBOX), ["3"])

    async def test_expired(self) -> None:
        """Further messages expire and are swept; their place is not given again."""
        await self.post_both("1")
        (first,) = await self.page(OUTBOX)
        self.wait(3600)
        await self.assert_nothing_shown(OUTBOX)
        await self.sweep_all()
        await self.post_both("2")
        page = await self.page(OUTBOX, after=first.id)
        self.assertEqual(bodies_of(page), ["2"])

    async def test_large(self) -> None:
        """Very many messages for both are kept whole and in order."""
        bodies = [str(number) for number in range(3000)]
        ids = await self.post_both(*bodies, further=bodies[::-1])
        self.assertEqual(ids_of(await self.existing()), ids)
        self.assertEqual(await self.bodies(OUTBOX), bodies[::-1])


class AlsoAtOnceTests(PostingToTwo):
    """Such posts that do not wait for one another, and those who look on."""

    async def test_one_outbox(self) -> None:
        """Posts to many places with one second place are each whole there, in order."""
        places = [Destination("tenant", Kind.QUEUE, f"q{n}") for n in range(5)]

        async def produce(number: int) -> None:
            for turn in range(6):
                bodies = [f"{number} {turn} {n}" for n in range(3)]
                await self.post_both(*bodies, to=places[number % 5])

        await gatherResults(running(*(produce(number) for number in range(15))))
        bodies = await self.bodies(OUTBOX)
        wanted = {
            f"{number} {turn} {n}"
            for number in range(15)
            for turn in range(6)
            for n in range(3)
        }
        self.assertEqual(len(bodies), len(wanted))
        self.assertEqual(set(bodies), wanted)
        for start in range(0, len(bodies), 3):
            stem = bodies[start][:-1]
            self.assertEqual(bodies[start : start + 3], [f"{stem}{n}" for n in "012"])
        for number in range(15):
            mine = [body for body in bodies if body.startswith(f"{number} ")]
            self.assertEqual(mine, sorted(mine))
        there = flat([await self.bodies(place) for place in places])
        self.assertEqual(sorted(there), sorted(wanted))

    async def test_crosswise(self) -> None:
        """Destinations that post to one another, round in a circle too, all get on."""
        circle = [ORDERS, RETURNS, GRAVEYARD, OUTBOX]
        pairs = [*pairwise([*circle, ORDERS]), *pairwise([*circle[::-1], OUTBOX])]
        posts = [
            self.post_both(f"{n}", to=place, also=other)
            for n in range(5)
            for place, other in pairs
        ]
        ids = flat(await gatherResults(running(*posts)))
        self.assertEqual(len(ids), 5 * len(pairs))
        for place in circle:
            bodies = await self.bodies(place)
            self.assertEqual(sorted(bodies), sorted(4 * [str(n) for n in range(5)]))

    async def test_reader_sees_both(self) -> None:
        """Who sees a message in the first place finds its fellow in the second."""
        producing = gatherResults(
            running(*(self.produce(f"{number}") for number in range(4)))
        )
        looks = 0
        while not producing.called or not looks:
            first = await self.bodies(ORDERS)
            second = await self.bodies(OUTBOX)
            self.assertLessEqual(set(first), set(second))
            looks += 1
        await producing
        self.assertEqual(sorted(await self.bodies(OUTBOX)), await self.all_sorted())

    async def produce(self, name: str) -> None:
        """Post one after the other."""
        for number in range(10):
            await self.post_both(f"{name}-{number}")

    async def all_sorted(self) -> list[str]:
        """What the first destination has."""
        return sorted(await self.bodies(ORDERS))

    async def test_worker_sees_both(self) -> None:
        """Who takes a message from the first place finds its fellow in the second."""
        posting = running(*(self.post_both(f"{n}") for n in range(20)))
        taken: list[str] = []
        while len(taken) < 20:
            taken += bodies_of(await self.store.pop(ORDERS, 3, self.now))
            self.assertLessEqual(set(taken), set(await self.bodies(OUTBOX)))
        await gatherResults(posting)
        self.assertEqual(len(await self.bodies(OUTBOX)), 20)

    async def test_cancelled_caller(self) -> None:
        """What a caller gave up is in both places or in neither."""
        for number in range(5):
            (posted,) = running(self.post_both(f"{number}"))
            posted.addErrback(lambda failure: failure.trap(CancelledError))
            posted.cancel()
        await self.post_both("last")
        bodies = await self.bodies(ORDERS)
        self.assertEqual(bodies, await self.bodies(OUTBOX))
        self.assertEqual(bodies[-1], "last")


class AlsoSharedTests(SharedPlaceTests, PostingToTwo):
    """Such posts on one place through several stores, and after a restart."""

    async def test_kept(self) -> None:
        """Both are there after a restart."""
        await self.post_both("1", "2")
        existing = [await self.existing(of) for of in (ORDERS, OUTBOX)]
        await self.stop(self.store)
        self.store = self.open_again()
        self.assertEqual([await self.existing(of) for of in (ORDERS, OUTBOX)], existing)
        await self.post_both("3")
        self.assertEqual(await self.bodies(OUTBOX), ["1", "2", "3"])

    async def test_neighbours(self) -> None:
        """Through two stores each post is once in both places, and in one order."""
        other = self.open_again()
        posts = [
            self.post_both(f"{n}", store=store)
            for n in range(15)
            for store in (self.store, other)
        ]
        await gatherResults(running(*posts))
        wanted = sorted(2 * [str(n) for n in range(15)])
        for place in (ORDERS, OUTBOX):
            self.assertEqual(sorted(await self.bodies(place)), wanted)
        new = [NewMessage(b"last", 60)]
        (last,) = await other.post(OUTBOX, new, "bob", self.now)
        self.assertEqual((await self.listed(OUTBOX))[-1], last)

    async def test_neighbour_sees_both(self) -> None:
        """Who looks through another store never sees the first without the second."""
        other = self.open_again()
        posting = gatherResults(
            running(*(self.post_both(f"{n}", store=other) for n in range(20)))
        )
        looks = 0
        while not posting.called or not looks:
            first = await self.bodies(ORDERS)
            self.assertLessEqual(set(first), set(await self.bodies(OUTBOX)))
            looks += 1
        await posting
        self.assertEqual(len(await self.bodies(OUTBOX)), 20)
