"""Numbers of a queue, and emptying it."""

from __future__ import annotations

from tests.rest.server import RestTestCase, asking

STATS = "/v2/queues/q/stats"
PURGE = "/v2/queues/q/purge"


class StatsTests(RestTestCase):
    """``GET .../stats``."""

    async def test_missing_queue(self) -> None:
        """A queue that does not exist has nothing, and no oldest message."""
        answer = self.expect(await self.call("GET", STATS), 200)
        self.assertEqual(
            {"messages": {"claimed": 0, "free": 0, "total": 0}}, answer.json
        )

    async def test_empty_queue(self) -> None:
        """An empty queue looks the same."""
        await self.create("q")
        answer = self.expect(await self.call("GET", STATS), 200)
        self.assertEqual(
            {"messages": {"claimed": 0, "free": 0, "total": 0}}, answer.json
        )

    async def test_oldest_and_newest(self) -> None:
        """The oldest and the newest message are told by path, age and time."""
        first = (await self.post("q", {"secret": 1}))[0]
        self.clock.advance(65)
        last = (await self.post("q", 2, 3))[1]
        self.clock.advance(7)
        answer = await self.call("GET", STATS)
        oldest = {
            "age": 72,
            "created": "2027-01-15T08:00:00Z",
            "href": f"/v2/queues/q/messages/{first}",
        }
        newest = {
            "age": 7,
            "created": "2027-01-15T08:01:05Z",
            "href": f"/v2/queues/q/messages/{last}",
        }
        counts = {"claimed": 0, "free": 3, "total": 3}
        expected = {"messages": {**counts, "oldest": oldest, "newest": newest}}
        self.assertEqual(expected, answer.json)

    async def test_claimed(self) -> None:
        """Claimed messages are counted apart, their paths name no claim."""
        await self.post("q", *range(5))
        await self.claim("q", limit=2)
        messages = (await self.call("GET", STATS)).json["messages"]
        self.assertEqual({"claimed": 2, "free": 3, "total": 5}, await self.stats("q"))
        self.assertNotIn("?", messages["oldest"]["href"] + messages["newest"]["href"])
        self.assertEqual({"age", "created", "href"}, set(messages["oldest"]))

    async def test_claim_ends(self) -> None:
        """Messages are free again when their claim is released or expires."""
        await self.post("q", 1, 2)
        claim = await self.claim("q", limit=1)
        await self.release("q", claim.id)
        self.assertEqual({"claimed": 0, "free": 2, "total": 2}, await self.stats("q"))
        await self.claim("q", ttl=60)
        self.clock.advance(59)
        self.assertEqual({"claimed": 2, "free": 0, "total": 2}, await self.stats("q"))
        self.clock.advance(1)
        self.assertEqual({"claimed": 0, "free": 2, "total": 2}, await self.stats("q"))

    async def test_delayed(self) -> None:
        """Delayed messages count as free, also when there are no others."""
        await self.create("q", _default_message_delay=60)
        await self.post("q", 1, 2)
        self.assertEqual({"claimed": 0, "free": 2, "total": 2}, await self.stats("q"))
        messages = (await self.call("GET", STATS)).json["messages"]
        self.assertNotEqual(messages["oldest"]["href"], messages["newest"]["href"])

    async def test_expired(self) -> None:
        """Expired messages are not counted and are nobody's oldest."""
        await self.post("q", 1, ttl=60)
        await self.post("q", 2, ttl=120)
        self.clock.advance(60)
        self.assertEqual({"claimed": 0, "free": 1, "total": 1}, await self.stats("q"))
        self.clock.advance(60)
        answer = await self.call("GET", STATS)
        self.assertEqual(
            {"messages": {"claimed": 0, "free": 0, "total": 0}}, answer.json
        )

    async def test_deleted(self) -> None:
        """Deleted messages are not counted."""
        ids = await self.post("q", *range(3))
        await self.call("DELETE", f"/v2/queues/q/messages/{ids[0]}")
        await self.call("DELETE", "/v2/queues/q/messages?pop=1")
        self.assertEqual({"claimed": 0, "free": 1, "total": 1}, await self.stats("q"))
        messages = (await self.call("GET", STATS)).json["messages"]
        self.assertEqual(messages["oldest"], messages["newest"])
        self.assertTrue(messages["oldest"]["href"].endswith(ids[2]))


class PurgeTests(RestTestCase):
    """``POST .../purge``."""

    async def _fill(self) -> None:
        await self.create("q", _default_message_delay=30, team="a")
        await self.post("q", 1, 2, delay=0)
        self.assertEqual([1, 2], (await self.claim("q")).bodies)
        await self.post("q", 3, delay=0)
        await self.post("q", 4)
        for number in range(12):
            await self.subscribe("q", f"http://trigger.me/{number}")

    async def _left(self) -> tuple[int, int]:
        path = "/v2/queues/q/subscriptions?limit=20"
        subscriptions = (await self.call("GET", path)).json["subscriptions"]
        return (await self.stats("q"))["total"], len(subscriptions)

    async def test_everything(self) -> None:
        """Without a body messages in every state and all subscriptions go."""
        await self._fill()
        self.assertEqual((4, 12), await self._left())
        answer = self.expect(await self.call("POST", PURGE), 204)
        self.assertEqual(b"", answer.body)
        self.assertEqual((0, 0), await self._left())
        found = await self.listed("q", "include_claimed=true&include_delayed=true")
        self.assertEqual([], found)

    async def test_by_kind(self) -> None:
        """Only the kinds that are named go."""
        await self._fill()
        body = {"resource_types": ["subscriptions"]}
        self.expect(await self.call("POST", PURGE, json=body), 204)
        self.assertEqual((4, 0), await self._left())
        body = {"resource_types": ["messages"]}
        await self.subscribe("q", "http://trigger.me")
        self.expect(await self.call("POST", PURGE, json=body), 204)
        self.assertEqual((0, 1), await self._left())

    async def test_both_kinds(self) -> None:
        """Both kinds may be named, also twice."""
        for kinds in (["messages", "subscriptions"], ["messages"] * 2):
            await self.post("q", 1)
            body = {"resource_types": kinds}
            self.expect(await self.call("POST", PURGE, json=body), 204)
            self.assertEqual((0, 0), await self._left())

    async def test_nothing(self) -> None:
        """No kinds purge nothing."""
        await self.post("q", 1)
        answer = await self.call("POST", PURGE, json={"resource_types": []})
        self.expect(answer, 204)
        self.assertEqual([1], await self.listed("q"))

    async def test_queue_stays(self) -> None:
        """The queue keeps its metadata and goes on."""
        await self._fill()
        await self.call("POST", PURGE)
        self.assertEqual("a", (await self.call("GET", "/v2/queues/q")).json["team"])
        await self.post("q", "new", delay=0)
        self.assertEqual(["new"], (await self.claim("q")).bodies)

    async def test_claims_end(self) -> None:
        """A claim on purged messages holds nothing that could come back."""
        await self.post("q", 1)
        claim = await self.claim("q")
        await self.call("POST", PURGE)
        answer = await self.call("GET", f"/v2/queues/q/claims/{claim.id}")
        self.assertIn(answer.status, (200, 404))
        self.assertEqual([], answer.json.get("messages", []))
        await self.release("q", claim.id)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))

    async def test_missing_queue(self) -> None:
        """A queue that does not exist is purged without being made."""
        self.expect(await self.call("POST", PURGE), 204)
        self.assertEqual([], await self.queue_names())

    async def test_bad_bodies(self) -> None:
        """The kinds must be there, known and a list; nothing is purged otherwise."""
        await self.post("q", 1)
        bad = [
            *({}, {"resource_types": "messages"}, {"resource_types": ["queues"]}),
            *({"resource_types": ["messages", "x"]}, {"resource_types": 5}),
            *({"resource_types": None}, {"resource_types": {"messages": 1}}),
            *({"resource_types": [5]}, {"resource_types": [None]}),
            *({"resource_types": [["messages"]]}, {"resource_types": [{}]}, {"x": []}),
        ]
        await self.refuses(400, None, [asking("POST", PURGE, json=b) for b in bad])
        self.assertEqual([1], await self.listed("q"))

    async def test_others_stay(self) -> None:
        """Other queues and projects keep their messages."""
        await self.post("q", 1)
        await self.post("qq", 2)
        await self.post("q", 3, project="p2")
        await self.call("POST", PURGE)
        self.assertEqual([2], await self.listed("qq"))
        self.assertEqual([3], await self.listed("q", project="p2"))
