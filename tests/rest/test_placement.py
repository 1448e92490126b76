"""Queues in pools: where they go, and what they do there."""

from __future__ import annotations

from typing import Any

from tests.rest.server import PoolingTestCase, asking

FLAVOR = "/metadata/_flavor"


class PlacementTests(PoolingTestCase):
    """The choice of a pool, seen from outside."""

    async def test_flavor(self) -> None:
        """Messages are kept in a pool of the flavor that the queue asks for."""
        await self.add_pool("plain")
        await self.add_flavor("f", "fast")
        await self.create("q", _flavor="f")
        await self.post("q", "x")
        await self.post("other", "y")
        self.assertEqual(['"x"'], self.in_pool("fast"))
        self.assertEqual(['"y"'], self.in_pool("plain", "other"))

    async def test_topic(self) -> None:
        """Topics are placed as queues are, and apart from queues of the name."""
        await self.add_flavor("f", "fast")
        answer = await self.call("PUT", "/v2/topics/q", json={"_flavor": "f"})
        self.expect(answer, 201)
        await self.post("q", "x", kind="topics")
        await self.post("q", "y")
        self.assertEqual(['"x"'], self.in_pool("fast"))
        self.assertEqual(["y"], await self.listed("q"))

    async def test_weights(self) -> None:
        """A pool of no weight gets nothing new, and keeps what it has."""
        await self.add_pool("a")
        await self.post("old", "x")
        await self.add_pool("a", 0)
        await self.add_pool("b")
        await self.post("new", "y")
        await self.post("old", "z")
        self.assertEqual(['"x"', '"z"'], self.in_pool("a", "old"))
        self.assertEqual(['"y"'], self.in_pool("b", "new"))

    async def test_both_are_used(self) -> None:
        """Many queues do not all go to one of two pools."""
        for name in ("a", "b"):
            await self.add_pool(name)
        names = [f"q{number}" for number in range(40)]
        for name in names:
            await self.post(name, "x")
        for pool in ("a", "b"):
            self.assertTrue(any(self.in_pool(pool, name) for name in names), pool)

    async def test_shown(self) -> None:
        """The flavor is shown where it was set, and nowhere else."""
        await self.add_flavor("f", "a")
        await self.create("q", _flavor="f")
        await self.create("other")
        self.assertEqual("f", (await self.call("GET", "/v2/queues/q")).json["_flavor"])
        shown = (await self.call("GET", "/v2/queues/other")).json
        self.assertNotIn("_flavor", shown)

    async def test_refused(self) -> None:
        """A flavor that does not exist, or is no text, is refused."""
        requests = [
            asking("PUT", "/v2/queues/q", json={"_flavor": flavor})
            for flavor in ("unknown", 5, True, [], {"a": 1})
        ]
        await self.refuses(400, "Invalid API request", requests)
        self.assertEqual([], await self.queue_names())

    async def test_none(self) -> None:
        """Null and the empty text ask for none."""
        await self.add_flavor("f", "a")
        for number, flavor in enumerate((None, "")):
            await self.create(f"q{number}", _flavor=flavor)
            await self.post(f"q{number}", "x")
            self.assertEqual([], self.in_pool("a", f"q{number}"))

    async def test_no_pool(self) -> None:
        """A flavor all of whose pools are full is not to be had for now."""
        await self.add_flavor("f", "a")
        await self.add_pool("a", 0, flavor="f")
        answer = await self.call("PUT", "/v2/queues/q", json={"_flavor": "f"})
        self.refused(answer, 503, "Service temporarily unavailable")
        self.assertIn("flavor f", answer.json["description"])
        self.assertEqual([], await self.queue_names())

    async def test_queue_works(self) -> None:
        """Everything that a queue does is done in its pool."""
        await self.add_pool("a")
        ids = await self.post("q", *range(5))
        claim = await self.claim("q", limit=2)
        self.assertEqual([0, 1], claim.bodies)
        self.assertEqual({"claimed": 2, "free": 3, "total": 5}, await self.stats("q"))
        path = f"/v2/queues/q/claims/{claim.id}"
        self.expect(await self.call("PATCH", path, json={"ttl": 90}), 204)
        shown = self.expect(await self.call("GET", path), 200).json
        self.assertEqual([0, 1], [each["body"] for each in shown["messages"]])
        await self.release("q", claim.id)
        popped = await self.call("DELETE", "/v2/queues/q/messages?pop=1")
        self.assertEqual([0], [each["body"] for each in popped.json["messages"]])
        answer = await self.call("GET", f"/v2/queues/q/messages/{ids[3]}")
        self.assertEqual(3, self.expect(answer, 200).json["body"])
        await self.call("DELETE", f"/v2/queues/q/messages?ids={ids[1]},{ids[2]}")
        self.assertEqual(["3", "4"], self.in_pool("a"))
        self.expect(await self.call("POST", "/v2/queues/q/purge"), 204)
        self.assertEqual([], self.in_pool("a"))

    async def test_waiting(self) -> None:
        """Who waits for a message gets it from the pool as soon as it is there."""
        await self.add_pool("a")
        await self.create("q")
        waiting = self.call_soon("POST", "/v2/queues/q/claims?wait=20")
        await self.settle()
        await self.post("q", "x")
        messages = self.expect(await waiting, 201).json["messages"]
        self.assertEqual(["x"], [each["body"] for each in messages])

    async def test_projects(self) -> None:
        """Queues of one name in two projects stay apart within a pool."""
        await self.add_pool("a")
        await self.post("q", "x", project="p1")
        await self.post("q", "y", project="p2")
        self.assertEqual(["x"], await self.listed("q", project="p1"))
        self.assertEqual(["y"], await self.listed("q", project="p2"))

    async def test_made_again(self) -> None:
        """A queue that is deleted and made again elsewhere begins empty."""
        await self.add_flavor("f", "a")
        await self.create("q", _flavor="f")
        await self.post("q", "x")
        self.expect(await self.call("DELETE", "/v2/queues/q"), 204)
        self.assertEqual([], self.in_pool("a"))
        await self.post("q", "y")
        self.assertEqual([["y"], []], [await self.listed("q"), self.in_pool("a")])


class NoDefaultTests(PoolingTestCase):
    """A service whose default pool takes nothing new."""

    settings = (*PoolingTestCase.settings, "enable_virtual_pool=false")

    async def test_refused(self) -> None:
        """Without a pool nothing can be made, and what is missing reads as empty."""
        subscriber = {"subscriber": "http://example.org/"}
        requests = [
            asking("PUT", "/v2/queues/q"),
            asking("PUT", "/v2/topics/q"),
            asking("POST", "/v2/queues/q/messages", json={"messages": [{"body": 1}]}),
            asking("POST", "/v2/queues/q/subscriptions", json=subscriber),
        ]
        await self.refuses(503, "Service temporarily unavailable", requests)
        self.assertEqual([], await self.listed("q"))
        self.assertEqual("", (await self.claim("q")).id)
        self.expect(await self.call("DELETE", "/v2/queues/q"), 204)

    async def test_first_pool(self) -> None:
        """It goes as soon as there is a pool."""
        self.expect(await self.call("PUT", "/v2/queues/q"), 503)
        await self.add_pool("a")
        await self.post("q", "x")
        self.assertEqual(['"x"'], self.in_pool("a"))


class ChangeTests(PoolingTestCase):
    """Another flavor for a queue."""

    async def setUp(self) -> None:
        """Make a queue in a pool of no flavor, and a flavor."""
        await super().setUp()
        await self.add_pool("plain")
        await self.add_flavor("f", "fast")
        await self.create("q", a=1)

    async def ask_for(self, flavor: Any, status: int) -> Any:
        """Set the flavor; the body of the answer."""
        operation = {"op": "add", "path": FLAVOR, "value": flavor}
        return self.expect(await self.patch("q", operation), status).json

    async def test_elsewhere(self) -> None:
        """A flavor of other pools is refused, with and without messages."""
        for listed in ([], ["x"]):
            before = (await self.call("GET", "/v2/queues/q")).json
            refusal = await self.ask_for("f", 409)
            self.assertEqual("Resource conflict", refusal["title"])
            self.assertIn("make it again", refusal["description"])
            self.assertEqual(before, (await self.call("GET", "/v2/queues/q")).json)
            self.assertEqual(listed, await self.listed("q"))
            await self.post("q", "x")

    async def test_same_pool(self) -> None:
        """It is taken where the pool of the queue belongs to the flavor."""
        await self.post("q", "x")
        await self.add_flavor("g", "plain")
        shown = await self.ask_for("g", 200)
        self.assertEqual(("g", 1), (shown["_flavor"], shown["a"]))
        self.assertEqual(["x"], await self.listed("q"))

    async def test_refused(self) -> None:
        """An unknown flavor is not found, a malformed one no request at all."""
        await self.post("q", "x")
        before = (await self.call("GET", "/v2/queues/q")).json
        self.assertEqual("Not found", (await self.ask_for("unknown", 404))["title"])
        for flavor in (5, True, [], {"a": 1}):
            refusal = await self.ask_for(flavor, 400)
            self.assertEqual("Invalid request body", refusal["title"])
        self.assertEqual(before, (await self.call("GET", "/v2/queues/q")).json)
        await self.post("q", "y")
        self.assertEqual(["x", "y"], await self.listed("q"))

    async def test_not_stored(self) -> None:
        """What is not there cannot be replaced or removed."""
        for operation in (
            {"op": "replace", "path": FLAVOR, "value": "f"},
            {"op": "remove", "path": FLAVOR},
        ):
            answer = await self.patch("q", operation)
            self.refused(answer, 409, "Resource conflict")


class DeadLetterTests(PoolingTestCase):
    """Dead letters over pools."""

    async def worn_out(self, **more: Any) -> None:
        """Make a queue whose messages are worn out, and let one be."""
        await self.create("q", _max_claim_count=1, _dead_letter_queue="d", **more)
        await self.post("q", "x")
        claim = await self.claim("q")
        self.assertEqual(["x"], claim.bodies)
        await self.release("q", claim.id)

    async def test_beside(self) -> None:
        """A queue goes where its dead-letter queue is, so that they need not travel."""
        await self.add_pool("one")
        await self.create("d")
        await self.add_pool("two", 4_000_000_000)
        await self.worn_out()
        self.assertEqual(['"x"'], self.in_pool("one"))

    async def test_other_pool(self) -> None:
        """They travel where they must."""
        await self.add_flavor("f", "fast")
        await self.add_flavor("g", "slow")
        await self.create("d", _flavor="g")
        await self.worn_out(_flavor="f")
        await self.post("q", "y")
        claim = await self.claim("q")
        self.assertEqual(["y"], claim.bodies)
        self.assertEqual(["x"], await self.listed("d"))
        self.assertEqual(['"x"'], self.in_pool("slow", "d"))
        self.assertEqual(['"y"'], self.in_pool("fast"))

    async def test_missing(self) -> None:
        """A dead-letter queue that is not there is made beside its queue."""
        await self.add_flavor("f", "fast")
        await self.worn_out(_flavor="f")
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual(["d", "q"], await self.queue_names())
        self.assertEqual(["x"], await self.listed("d"))
        self.assertEqual(['"x"'], self.in_pool("fast", "d"))
