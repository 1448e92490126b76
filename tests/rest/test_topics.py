"""Topics: like queues, without claims and sharing, and apart from queues."""

from __future__ import annotations

from typing import Any

from tests.rest.server import JSON_PATCH, RestTestCase, asking

PATH = "/v2/topics/t"
DEFAULTS: dict[str, Any] = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
}


class TopicTests(RestTestCase):
    """The topic itself."""

    async def _names(self, query: str = "") -> list[str]:
        answer = self.expect(await self.call("GET", f"/v2/topics?{query}"), 200)
        return [topic["name"] for topic in answer.json["topics"]]

    async def test_create(self) -> None:
        """A new topic is a 201, an existing one a 204 that changes nothing."""
        for status, json in ((201, {"a": 1}), (204, {"a": 2})):
            answer = self.expect(await self.call("PUT", PATH, json=json), status)
            self.assertEqual((PATH, b""), (answer.location, answer.body))
        self.assertEqual({**DEFAULTS, "a": 1}, (await self.call("GET", PATH)).json)

    async def test_read_missing(self) -> None:
        """A missing topic shows the three reserved keys and is not made."""
        answer = self.expect(await self.call("GET", PATH), 200)
        self.assertEqual(DEFAULTS, answer.json)
        self.assertEqual([], await self._names())

    async def test_reserved(self) -> None:
        """The three reserved keys are checked."""
        bad: list[tuple[str, Any]] = [
            ("_max_messages_post_size", 262145),
            ("_default_message_ttl", 59),
            ("_default_message_ttl", ""),
            ("_default_message_delay", 901),
        ]
        requests = [asking("PUT", PATH, json={key: value}) for key, value in bad]
        await self.refuses(400, "Invalid API request", requests)

    async def test_delete(self) -> None:
        """A topic is deleted with its messages, and may be again."""
        await self.call("PUT", PATH, json={"a": 1})
        await self.post("t", 1, kind="topics")
        for _ in range(2):
            self.expect(await self.call("DELETE", PATH), 204)
        self.assertEqual(DEFAULTS, (await self.call("GET", PATH)).json)
        found = (await self.call("GET", f"{PATH}/messages")).json
        self.assertEqual([], found["messages"])

    async def test_patch(self) -> None:
        """Metadata of a topic are changed as those of a queue."""
        headers = {"Content-Type": JSON_PATCH}
        change = [{"op": "add", "path": "/metadata/a", "value": 1}]
        answer = await self.call("PATCH", PATH, json=change, headers=headers)
        self.refused(answer, 404, "Not found")
        await self.call("PUT", PATH)
        answer = await self.call("PATCH", PATH, json=change, headers=headers)
        self.assertEqual({**DEFAULTS, "a": 1}, self.expect(answer, 200).json)
        gone = [{"op": "remove", "path": "/metadata/b"}]
        answer = await self.call("PATCH", PATH, json=gone, headers=headers)
        self.refused(answer, 409, "Resource conflict")
        answer = await self.call("PATCH", PATH, json=[])
        self.refused(answer, 415)

    async def test_list(self) -> None:
        """Topics are listed by name, in pages."""
        for name in ("b", "a", "c"):
            await self.call("PUT", f"/v2/topics/{name}")
        answer = await self.call("GET", "/v2/topics?limit=2")
        entries = [{"name": name, "href": f"/v2/topics/{name}"} for name in "ab"]
        self.assertEqual(entries, answer.json["topics"])
        self.assertTrue(answer.next_href.startswith("/v2/topics?"), answer)
        self.assertEqual({"limit": "2", "marker": "b"}, answer.next_query)
        pages = await self.walk("/v2/topics?limit=2", "topics")
        self.assertEqual([2, 1], [len(page) for page in pages])

    async def test_empty_list(self) -> None:
        """No topics are an empty list."""
        answer = self.expect(await self.call("GET", "/v2/topics"), 200)
        self.assertEqual({"topics": [], "links": []}, answer.json)

    async def test_detailed(self) -> None:
        """A detailed entry has the metadata."""
        await self.call("PUT", PATH, json={"a": 1})
        (entry,) = (await self.call("GET", "/v2/topics?detailed=true")).json["topics"]
        self.assertEqual({"name", "href", "metadata"}, set(entry))
        self.assertEqual({**DEFAULTS, "a": 1}, entry["metadata"])

    async def test_list_limits(self) -> None:
        """A page has 1 to 20 topics."""
        requests = [asking("GET", f"/v2/topics?limit={n}") for n in (0, 21)]
        await self.refuses(400, "Invalid API request", requests)

    async def test_filter(self) -> None:
        """Topics are filtered by name and metadata."""
        for name in ("abc", "b", "xbcx"):
            await self.call("PUT", f"/v2/topics/{name}", json={"of": name})
        self.assertEqual(["abc", "xbcx"], await self._names("name=bc"))
        self.assertEqual(["b"], await self._names("of=b"))

    async def test_stats(self) -> None:
        """A topic counts its messages."""
        answer = self.expect(await self.call("GET", f"{PATH}/stats"), 200)
        self.assertEqual(0, answer.json["messages"]["total"])
        ids = await self.post("t", 1, 2, kind="topics")
        self.clock.advance(3)
        messages = (await self.call("GET", f"{PATH}/stats")).json["messages"]
        self.assertEqual(2, messages["total"])
        oldest = {
            "age": 3,
            "created": "2027-01-15T08:00:00Z",
            "href": f"{PATH}/messages/{ids[0]}",
        }
        self.assertEqual(oldest, messages["oldest"])

    async def test_purge(self) -> None:
        """A topic is emptied by kind."""
        await self.post("t", 1, kind="topics")
        body = {"subscriber": "http://trigger.me"}
        self.expect(await self.call("POST", f"{PATH}/subscriptions", json=body), 201)
        body = {"resource_types": ["messages"]}
        self.expect(await self.call("POST", f"{PATH}/purge", json=body), 204)
        messages = (await self.call("GET", f"{PATH}/messages")).json["messages"]
        self.assertEqual([], messages)
        shown = (await self.call("GET", f"{PATH}/subscriptions")).json
        self.assertEqual(1, len(shown["subscriptions"]))
        self.expect(await self.call("POST", f"{PATH}/purge"), 204)
        shown = (await self.call("GET", f"{PATH}/subscriptions")).json
        self.assertEqual([], shown["subscriptions"])


class TopicMessageTests(RestTestCase):
    """Messages of a topic."""

    async def test_post_and_list(self) -> None:
        """Messages are posted, listed and read under the path of the topic."""
        body = {"messages": [{"body": "a", "ttl": 60}, {"body": "b"}]}
        answer = await self.call("POST", f"{PATH}/messages", json=body, client="2" * 32)
        hrefs = self.expect(answer, 201).json["resources"]
        ids = [href.removeprefix(f"{PATH}/messages/") for href in hrefs]
        self.assertEqual(f"{PATH}/messages?ids={','.join(ids)}", answer.location)
        answer = self.expect(await self.call("GET", f"{PATH}/messages"), 200)
        first = {"id": ids[0], "href": hrefs[0], "ttl": 60, "age": 0, "body": "a"}
        self.assertEqual(first, answer.json["messages"][0])
        self.assertTrue(answer.next_href.startswith(f"{PATH}/messages?"), answer)
        self.assertEqual(first, (await self.call("GET", hrefs[0])).json)

    async def test_makes_the_topic(self) -> None:
        """The first message makes the topic and no queue."""
        await self.post("t", 1, kind="topics")
        names = [
            t["name"] for t in (await self.call("GET", "/v2/topics")).json["topics"]
        ]
        self.assertEqual(["t"], names)
        self.assertEqual([], await self.queue_names())

    async def test_refusal(self) -> None:
        """A refused message makes nothing."""
        for json in ({}, {"messages": [{"body": 1, "ttl": 1}]}):
            answer = await self.call("POST", f"{PATH}/messages", json=json)
            self.refused(answer, 400)
        self.assertEqual([], (await self.call("GET", "/v2/topics")).json["topics"])

    async def test_default_ttl(self) -> None:
        """The defaults of a topic hold for its messages."""
        await self.call("PUT", PATH, json={"_default_message_ttl": 77})
        (message_id,) = await self.post("t", 1, kind="topics")
        message = (await self.call("GET", f"{PATH}/messages/{message_id}")).json
        self.assertEqual(77, message["ttl"])

    async def test_walk(self) -> None:
        """The links of a topic visit every message once."""
        ids = await self.post("t", *range(7), kind="topics")
        pages = await self.walk(f"{PATH}/messages?limit=3", "messages")
        self.assertEqual(ids, [m["id"] for page in pages for m in page])

    async def test_echo(self) -> None:
        """A reader does not see what it posted itself."""
        await self.post("t", 1, kind="topics", client="3" * 32)
        answer = await self.call("GET", f"{PATH}/messages", client="3" * 32)
        self.assertEqual([], answer.json["messages"])

    async def test_ids(self) -> None:
        """Messages are read and deleted by several ids."""
        ids = await self.post("t", 1, 2, 3, kind="topics")
        path = f"{PATH}/messages?ids={ids[0]},{ids[2]}"
        found = (await self.call("GET", path)).json
        self.assertEqual([1, 3], [m["body"] for m in found["messages"]])
        self.expect(await self.call("DELETE", path), 204)
        await self.refuses(404, "Not found", [asking("GET", path)])

    async def test_delete(self) -> None:
        """A message is deleted, as is one that is not there."""
        (message_id,) = await self.post("t", 1, kind="topics")
        path = f"{PATH}/messages/{message_id}"
        for _ in range(2):
            self.expect(await self.call("DELETE", path), 204)
        await self.refuses(404, "Not found", [asking("GET", path)])

    async def test_pop(self) -> None:
        """Messages are taken from a topic too."""
        await self.post("t", 1, 2, kind="topics")
        answer = await self.call("DELETE", f"{PATH}/messages?pop=1")
        self.assertEqual(
            [1], [m["body"] for m in self.expect(answer, 200).json["messages"]]
        )

    async def test_expiry(self) -> None:
        """Messages of a topic expire."""
        await self.post("t", 1, kind="topics", ttl=60)
        self.clock.advance(60)
        answer = await self.call("GET", f"{PATH}/messages")
        self.assertEqual([], answer.json["messages"])


class TopicSubscriptionTests(RestTestCase):
    """Subscriptions of a topic."""

    async def test_life(self) -> None:
        """A subscription is made, shown, changed, confirmed and deleted."""
        path = f"{PATH}/subscriptions"
        body = {"subscriber": "http://trigger.me", "ttl": 600}
        answer = self.expect(await self.call("POST", path, json=body), 201)
        self.assertEqual(path, answer.location)
        one = f"{path}/{answer.json['subscription_id']}"
        shown = self.expect(await self.call("GET", one), 200).json
        self.assertEqual("t", shown["source"])
        self.assertEqual([shown], (await self.call("GET", path)).json["subscriptions"])
        answer = await self.call("PATCH", one, json={"ttl": 700})
        self.assertEqual(one, self.expect(answer, 204).location)
        confirm = {"confirmed": True}
        self.expect(await self.call("PUT", f"{one}/confirm", json=confirm), 204)
        shown = (await self.call("GET", one)).json
        self.assertEqual((700, True), (shown["ttl"], shown["confirmed"]))
        self.expect(await self.call("DELETE", one), 204)
        await self.refuses(404, "Not found", [asking("GET", one)])

    async def test_go_with_the_topic(self) -> None:
        """Deleting a topic deletes its subscriptions."""
        path = f"{PATH}/subscriptions"
        await self.call("POST", path, json={"subscriber": "http://trigger.me"})
        await self.call("DELETE", PATH)
        self.assertEqual([], (await self.call("GET", path)).json["subscriptions"])


class ApartTests(RestTestCase):
    """A topic and a queue of one name."""

    async def setUp(self) -> None:
        """Make a queue and a topic of one name, each with one of everything."""
        await super().setUp()
        self.ids = {}
        self.subscriptions = {}
        for kind in ("queues", "topics"):
            path = f"/v2/{kind}/x"
            await self.call("PUT", path, json={"is": kind})
            self.ids[kind] = (await self.post("x", kind, kind=kind))[0]
            body = {"subscriber": "http://trigger.me"}
            answer = await self.call("POST", f"{path}/subscriptions", json=body)
            self.subscriptions[kind] = answer.json["subscription_id"]

    async def _state(self, kind: str) -> tuple[Any, ...]:
        path = f"/v2/{kind}/x"
        metadata = (await self.call("GET", path)).json
        messages = (await self.call("GET", f"{path}/messages")).json["messages"]
        shown = (await self.call("GET", f"{path}/subscriptions")).json["subscriptions"]
        total = (await self.call("GET", f"{path}/stats")).json["messages"]["total"]
        bodies = [message["body"] for message in messages]
        return metadata.get("is"), bodies, [s["id"] for s in shown], total

    def _full(self, kind: str) -> tuple[Any, ...]:
        return kind, [kind], [self.subscriptions[kind]], 1

    async def test_both(self) -> None:
        """Each has its own metadata, messages, subscriptions and numbers."""
        for kind in ("queues", "topics"):
            self.assertEqual(self._full(kind), await self._state(kind))

    async def test_by_id(self) -> None:
        """What belongs to one is not found through the other."""
        requests = [
            asking("GET", f"/v2/{kind}/x/{what}/{ids[other]}")
            for kind, other in (("queues", "topics"), ("topics", "queues"))
            for what, ids in (
                ("messages", self.ids),
                ("subscriptions", self.subscriptions),
            )
        ]
        await self.refuses(404, "Not found", requests)

    async def test_delete(self) -> None:
        """Deleting one leaves the other."""
        for kind, other in (("queues", "topics"), ("topics", "queues")):
            await self.call("DELETE", f"/v2/{kind}/x/messages/{self.ids[other]}")
            path = f"/v2/{kind}/x/subscriptions/{self.subscriptions[other]}"
            await self.call("DELETE", path)
            self.assertEqual(self._full(other), await self._state(other))
        await self.call("DELETE", "/v2/topics/x")
        self.assertEqual(self._full("queues"), await self._state("queues"))
        self.assertEqual((None, [], [], 0), await self._state("topics"))

    async def test_purge(self) -> None:
        """Purging one leaves the other."""
        await self.call("POST", "/v2/queues/x/purge")
        self.assertEqual(("queues", [], [], 0), await self._state("queues"))
        self.assertEqual(self._full("topics"), await self._state("topics"))
        await self.call("POST", "/v2/topics/x/purge")
        self.assertEqual(("topics", [], [], 0), await self._state("topics"))

    async def test_claim(self) -> None:
        """A claim takes what is in the queue only."""
        self.assertEqual(["queues"], (await self.claim("x")).bodies)
        self.assertEqual("", (await self.claim("x")).id)
