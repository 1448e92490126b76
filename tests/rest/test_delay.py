"""Messages that cannot be claimed yet."""

from __future__ import annotations

from typing import Any

from tests.rest.server import RestTestCase, asking

PATH = "/v2/queues/q/messages"


class DelayTests(RestTestCase):
    """A queue with ``_default_message_delay``."""

    async def setUp(self) -> None:
        """Make a queue that delays for ten seconds."""
        await super().setUp()
        await self.create("q", _default_message_delay=10)

    async def test_default(self) -> None:
        """A message is claimable when the delay of its queue is over, not before."""
        await self.post("q", 1)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(9)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(1)
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_own_delay(self) -> None:
        """The delay of a message replaces that of its queue."""
        await self.post("q", "long", delay=20)
        await self.post("q", "none", delay=0)
        self.assertEqual(["none"], (await self.claim("q")).bodies)
        self.clock.advance(19)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(1)
        self.assertEqual(["long"], (await self.claim("q")).bodies)

    async def test_bounds(self) -> None:
        """A delay is 0 to 900 seconds."""
        await self.post("q", 1, delay=0)
        await self.post("q", 2, delay=900)
        bad: list[Any] = [-1, 901, "5", "", None, 1.5, [], {}, 2**62]
        requests = [
            asking("POST", PATH, json={"messages": [{"body": 1, "delay": delay}]})
            for delay in bad
        ]
        await self.refuses(400, None, requests)
        self.assertEqual(2, (await self.stats("q"))["total"])

    async def test_list(self) -> None:
        """A delayed message is listed only on request."""
        await self.post("q", 1)
        await self.post("q", 2, delay=0)
        for query in ("", "include_delayed=false", "include_claimed=true"):
            self.assertEqual([2], await self.listed("q", query), query)
        self.assertEqual([1, 2], await self.listed("q", "include_delayed=true"))
        self.clock.advance(10)
        self.assertEqual([1, 2], await self.listed("q"))

    async def test_link_keeps_delayed(self) -> None:
        """The next page includes delayed messages when the first one did."""
        await self.post("q", 1, 2, 3)
        pages = await self.walk(f"{PATH}?limit=1&include_delayed=true", "messages")
        self.assertEqual([1, 2, 3], [m["body"] for page in pages for m in page])

    async def test_by_id(self) -> None:
        """A delayed message is found by its id and can be deleted."""
        ids = await self.post("q", 1, 2)
        found = (await self.call("GET", f"{PATH}/{ids[0]}")).json
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(found))
        answer = await self.call("GET", f"{PATH}?ids={','.join(ids)}")
        self.assertEqual([1, 2], [m["body"] for m in answer.json["messages"]])
        self.expect(await self.call("DELETE", f"{PATH}/{ids[0]}"), 204)
        self.assertEqual([2], await self.listed("q", "include_delayed=true"))

    async def test_pop(self) -> None:
        """A delayed message is not taken."""
        await self.post("q", 1)
        path = f"{PATH}?pop=5"
        self.assertEqual([], (await self.call("DELETE", path)).json["messages"])
        self.clock.advance(10)
        messages = (await self.call("DELETE", path)).json["messages"]
        self.assertEqual([1], [message["body"] for message in messages])

    async def test_place(self) -> None:
        """A message keeps the place of its posting."""
        await self.post("q", "late", delay=10)
        await self.post("q", "early", delay=0)
        self.clock.advance(10)
        self.assertEqual(["late", "early"], await self.listed("q"))
        self.assertEqual(["late", "early"], (await self.claim("q")).bodies)

    async def test_life_runs(self) -> None:
        """The ttl runs during the delay: a longer delay is never delivered."""
        await self.post("q", "gone", ttl=60, delay=60)
        await self.post("q", "short", ttl=61, delay=60)
        self.clock.advance(59)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(1)
        self.assertEqual(["short"], (await self.claim("q")).bodies)

    async def test_age_runs(self) -> None:
        """The age counts from the post."""
        await self.post("q", 1)
        self.clock.advance(10)
        (message,) = (await self.claim("q")).messages
        self.assertEqual(10, message["age"])

    async def test_release(self) -> None:
        """A message that was claimed is not delayed again."""
        await self.post("q", 1)
        self.clock.advance(10)
        claim = await self.claim("q")
        await self.release("q", claim.id)
        self.assertEqual([1], (await self.claim("q")).bodies)


class DelayByPatchTests(RestTestCase):
    """A queue that begins to delay later."""

    async def test_later_posts(self) -> None:
        """A new delay is for later posts, not for what is there."""
        await self.post("q", "before")
        change = {"op": "add", "path": "/metadata/_default_message_delay", "value": 10}
        self.expect(await self.patch("q", change), 200)
        await self.post("q", "after")
        self.assertEqual(["before"], await self.listed("q"))
        self.assertEqual(["before"], (await self.claim("q")).bodies)
        self.clock.advance(10)
        self.assertEqual(["after"], (await self.claim("q")).bodies)
