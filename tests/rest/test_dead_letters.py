"""Messages that were handed out often enough move to another queue."""

from __future__ import annotations

from tests.rest.server import RestTestCase

PATH = "/v2/queues/q/claims"


class DeadLettersTestCase(RestTestCase):
    """Steps of these tests."""

    async def _rule(self, count: int, **more: int) -> None:
        await self.create("q", _max_claim_count=count, _dead_letter_queue="d", **more)

    async def _deliver(self, times: int, limit: int = 10) -> None:
        for _ in range(times):
            claim = await self.claim("q", ttl=60, limit=limit)
            self.assertTrue(claim.messages)
            self.clock.advance(60)


class DeadLetterTests(DeadLettersTestCase):
    """``_max_claim_count`` and ``_dead_letter_queue``."""

    async def test_moves(self) -> None:
        """After N deliveries the next claim moves the message instead."""
        for count in (1, 2):
            await self._rule(count)
            await self.post("q", "x")
            await self._deliver(count)
            self.assertEqual([], await self.listed("d"))
            self.expect(await self.call("POST", PATH), 204)
            self.assertEqual([], await self.listed("q", "include_claimed=true"))
            self.assertEqual(["x"], await self.listed("d"))
            await self.call("DELETE", "/v2/queues/q")
            await self.call("DELETE", "/v2/queues/d")

    async def test_with_release_and_renewal(self) -> None:
        """Neither release nor renewal takes a delivery back."""
        await self._rule(3)
        await self.post("q", "x")
        claim = await self.claim("q")
        await self.release("q", claim.id)
        claim = await self.claim("q")
        await self.call("PATCH", f"{PATH}/{claim.id}", json={"ttl": 60})
        self.clock.advance(60)
        claim = await self.claim("q")
        self.assertEqual(["x"], claim.bodies)
        await self.release("q", claim.id)
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual(["x"], await self.listed("d"))

    async def test_others_are_delivered(self) -> None:
        """A claim moves what is due and hands out the rest."""
        await self._rule(1)
        await self.post("q", "old", "older")
        await self._deliver(1)
        await self.post("q", "new")
        claim = await self.claim("q")
        self.assertEqual(["new"], claim.bodies)
        shown = (await self.call("GET", f"{PATH}/{claim.id}")).json
        self.assertEqual(["new"], [m["body"] for m in shown["messages"]])
        self.assertEqual(["old", "older"], await self.listed("d"))

    async def test_free_at_once(self) -> None:
        """A dead letter can be claimed where it arrives."""
        await self._rule(1)
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q", ttl=300)
        self.assertEqual({"claimed": 0, "free": 1, "total": 1}, await self.stats("d"))
        claim = await self.claim("d")
        self.assertEqual(["x"], claim.bodies)
        await self.call("DELETE", claim.messages[0]["href"])
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("d"))

    async def test_makes_the_queue(self) -> None:
        """The dead-letter queue is made when it is needed."""
        await self._rule(1)
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q")
        self.assertEqual(["d", "q"], await self.queue_names())

    async def test_keeps_the_queue(self) -> None:
        """A dead-letter queue that exists keeps its metadata."""
        await self.create("d", team="a")
        await self._rule(1)
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q")
        self.assertEqual("a", (await self.call("GET", "/v2/queues/d")).json["team"])

    async def test_at_the_end(self) -> None:
        """A dead letter comes behind what is there already."""
        await self._rule(1)
        await self.post("q", "dead")
        await self.post("d", "there")
        await self._deliver(1)
        await self.claim("q")
        await self.post("d", "later")
        self.assertEqual(["there", "dead", "later"], await self.listed("d"))

    async def test_ttl(self) -> None:
        """The ttl of dead letters counts from the move."""
        await self._rule(1, _dead_letter_queue_messages_ttl=100)
        await self.post("q", "x", ttl=3600)
        await self._deliver(1)
        await self.claim("q")
        (message,) = (await self.call("GET", "/v2/queues/d/messages")).json["messages"]
        self.assertEqual(100, message["ttl"])
        self.clock.advance(99)
        self.assertEqual(["x"], await self.listed("d"))
        self.clock.advance(1)
        self.assertEqual([], await self.listed("d"))

    async def test_longer_ttl(self) -> None:
        """The ttl of dead letters may be longer than what was left."""
        await self._rule(1, _dead_letter_queue_messages_ttl=1000)
        await self.post("q", "x", ttl=100)
        await self._deliver(1)
        await self.claim("q", ttl=60)
        self.clock.advance(999)
        self.assertEqual(["x"], await self.listed("d"))
        self.clock.advance(1)
        self.assertEqual([], await self.listed("d"))

    async def test_remaining_life(self) -> None:
        """Without a ttl of their own dead letters live as long as they would have."""
        await self._rule(1)
        await self.post("q", "x", ttl=1000)
        await self._deliver(1)
        await self.claim("q", ttl=60)
        self.clock.advance(939)
        self.assertEqual(["x"], await self.listed("d"))
        self.clock.advance(1)
        self.assertEqual([], await self.listed("d"))

    async def test_count_begins_anew(self) -> None:
        """A dead letter was not handed out yet where it arrives."""
        await self._rule(1)
        await self.create("d", _max_claim_count=2, _dead_letter_queue="last")
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q")
        for _ in range(2):
            claim = await self.claim("d")
            self.assertEqual(["x"], claim.bodies)
            await self.release("d", claim.id)
        self.assertEqual("", (await self.claim("d")).id)
        self.assertEqual(["x"], await self.listed("last"))

    async def test_both_keys_are_needed(self) -> None:
        """One of the keys alone, or null, moves nothing."""
        for metadata in (
            {"_max_claim_count": 1},
            {"_dead_letter_queue": "d"},
            {"_max_claim_count": None, "_dead_letter_queue": "d"},
            {"_max_claim_count": 1, "_dead_letter_queue": None},
        ):
            await self.call("PUT", "/v2/queues/q", json=metadata)
            await self.post("q", "x")
            await self._deliver(3)
            await self.call("DELETE", "/v2/queues/q")
        self.assertEqual([], await self.queue_names())

    async def test_counted_before_the_rule(self) -> None:
        """Deliveries count also before there is a rule."""
        await self.post("q", "x")
        await self._deliver(2)
        for key, value in (("_max_claim_count", 2), ("_dead_letter_queue", "d")):
            change = {"op": "add", "path": f"/metadata/{key}", "value": value}
            self.expect(await self.patch("q", change), 200)
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual(["x"], await self.listed("d"))

    async def test_same_project(self) -> None:
        """Dead letters stay with their project."""
        await self.post("d", "other", project="p2")
        await self._rule(1)
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q")
        self.assertEqual(["other"], await self.listed("d", project="p2"))
        self.assertEqual(["x"], await self.listed("d"))

    async def test_outlives_the_queue(self) -> None:
        """Deleting a queue leaves its dead letters alone."""
        await self._rule(1)
        await self.post("q", "x")
        await self._deliver(1)
        await self.claim("q")
        await self.call("DELETE", "/v2/queues/q")
        self.assertEqual(["x"], await self.listed("d"))


class WithoutPoolingTests(DeadLettersTestCase):
    """Dead letters that stay in their store; those that leave it lose their poster."""

    async def test_same_poster(self) -> None:
        """The poster does not see its own message there either, unless it asks."""
        await self._rule(1)
        await self.post("q", "x", client="3" * 32)
        await self._deliver(1)
        await self.claim("q")
        path = "/v2/queues/d/messages"
        answer = await self.call("GET", path, client="3" * 32)
        self.assertEqual([], answer.json["messages"])
