"""Nothing of one project or queue is reached through another."""

from __future__ import annotations

from json import dumps
from typing import Any

from attrs import frozen

from tests.rest.server import JSON_PATCH, PROJECT, RestTestCase, asking

SUBSCRIBER = "http://trigger.me"
PATCH = {"Content-Type": JSON_PATCH}
CHANGE = [{"op": "add", "path": "/metadata/stolen", "value": True}]

NEIGHBOURS = [
    *("p2", "P1", "p", "p11", "p1 x", "p1/q", "p1.q", "p1:q", "p1,q", "*", "p%", "p_"),
    *("p1?", "[p]1", "p1/", ".", "%70%31", "p1' OR '1'='1"),
]
"""Projects that a careless store could take for the one of the tests."""


@frozen
class Ids:
    """One of everything: a free message, a claimed one, a claim, a subscription."""

    free: str
    claimed: str
    claim: str
    subscription: str


class IsolationTestCase(RestTestCase):
    """A queue ``q`` in project ``p1`` with one of everything."""

    async def setUp(self) -> None:
        """Fill the queue and remember how it looks."""
        await super().setUp()
        await self.create("q", owner="p1")
        (claimed,) = await self.post("q", "claimed")
        claim = await self.claim("q")
        (free,) = await self.post("q", "free")
        subscription = await self.subscribe("q", SUBSCRIBER)
        self.ids = Ids(free, claimed, claim.id, subscription)
        self.before = await self.state()

    async def state(self) -> str:
        """Everything that can be seen of the queue by its owner."""
        paths = [
            *("/v2/queues?detailed=true&with_count=true", "/v2/queues/q"),
            *("/v2/queues/q/stats", f"/v2/queues/q/claims/{self.ids.claim}"),
            "/v2/queues/q/messages?echo=true&include_claimed=true&include_delayed=true",
            "/v2/queues/q/subscriptions",
        ]
        answers = [await self.call("GET", path, project=PROJECT) for path in paths]
        shown = [self.expect(answer, 200).json for answer in answers]
        return dumps(shown, sort_keys=True)

    def by_id(self, queue: str, **options: Any) -> list[Any]:
        """Reads by id that must find nothing."""
        path, ids = f"/v2/queues/{queue}", self.ids
        both = f"{ids.free},{ids.claimed}"
        confirm = f"{path}/subscriptions/{ids.subscription}/confirm"
        return [
            asking("GET", f"{path}/messages/{ids.free}", **options),
            asking("GET", f"{path}/messages/{ids.claimed}", **options),
            asking("GET", f"{path}/messages?ids={both}", **options),
            asking("GET", f"{path}/claims/{ids.claim}", **options),
            asking("PATCH", f"{path}/claims/{ids.claim}", json={}, **options),
            asking("GET", f"{path}/subscriptions/{ids.subscription}", **options),
            asking(
                "PATCH",
                f"{path}/subscriptions/{ids.subscription}",
                json={"ttl": 60},
                **options,
            ),
            asking("PUT", confirm, json={"confirmed": True}, **options),
        ]

    def deletions(self, queue: str, **options: Any) -> list[Any]:
        """Deletions by id that must not delete anything."""
        path, ids = f"/v2/queues/{queue}", self.ids
        claimed = f"{path}/messages/{ids.claimed}"
        both = f"{ids.free},{ids.claimed}"
        return [
            asking("DELETE", f"{path}/messages/{ids.free}", **options),
            asking("DELETE", claimed, **options),
            asking("DELETE", f"{path}/messages?ids={both}", **options),
            asking("DELETE", f"{path}/claims/{ids.claim}", **options),
            asking("DELETE", f"{path}/subscriptions/{ids.subscription}", **options),
        ]


class ProjectTests(IsolationTestCase):
    """The same paths with another project."""

    async def test_by_id(self) -> None:
        """Another project finds nothing by id."""
        requests = [r for p in NEIGHBOURS for r in self.by_id("q", project=p)]
        await self.refuses(404, "Not found", requests)
        self.assertEqual(self.before, await self.state())

    async def test_reads(self) -> None:
        """Another project sees a queue that does not exist."""
        for project in NEIGHBOURS:
            queue = (await self.call("GET", "/v2/queues/q", project=project)).json
            self.assertNotIn("owner", queue)
            self.assertEqual([], await self.queue_names(project))
            listed = await self.listed("q", "include_claimed=true", project=project)
            self.assertEqual([], listed)
            path = "/v2/queues/q/subscriptions"
            shown = (await self.call("GET", path, project=project)).json
            self.assertEqual([], shown["subscriptions"])

    async def test_numbers(self) -> None:
        """Another project counts nothing."""
        for project in NEIGHBOURS:
            path = "/v2/queues/q/stats"
            stats = (await self.call("GET", path, project=project)).json["messages"]
            self.assertEqual({"claimed": 0, "free": 0, "total": 0}, stats)
            path = "/v2/queues?with_count=true"
            self.assertEqual(
                0, (await self.call("GET", path, project=project)).json["count"]
            )

    async def test_deletions(self) -> None:
        """Another project deletes nothing."""
        requests = [r for p in NEIGHBOURS for r in self.deletions("q", project=p)]
        await self.gives(204, requests)
        self.assertEqual(self.before, await self.state())

    async def test_whole_queue(self) -> None:
        """Another project neither takes, claims, purges, changes nor deletes."""
        path = "/v2/queues/q"
        for project in NEIGHBOURS:
            answer = await self.call(
                "DELETE", f"{path}/messages?pop=5", project=project
            )
            self.assertEqual([], self.expect(answer, 200).json["messages"])
            answer = await self.call(
                "PATCH", path, json=CHANGE, headers=PATCH, project=project
            )
            self.refused(answer, 404)
            await self.gives(
                204,
                [
                    asking("POST", f"{path}/claims", project=project),
                    asking("POST", f"{path}/purge", project=project),
                    asking("DELETE", path, project=project),
                ],
            )
        self.assertEqual(self.before, await self.state())

    async def test_same_names(self) -> None:
        """Another project has a queue, messages and subscribers of its own."""
        await self.call("PUT", "/v2/queues/q", json={"owner": "p2"}, project="p2")
        await self.post("q", "theirs", project="p2")
        body = {"subscriber": SUBSCRIBER}
        path = "/v2/queues/q/subscriptions"
        answer = await self.call("POST", path, json=body, project="p2")
        theirs = self.expect(answer, 201).json["subscription_id"]
        self.assertNotEqual(self.ids.subscription, theirs)
        self.assertEqual(["theirs"], await self.listed("q", project="p2"))
        self.assertEqual(self.before, await self.state())

    async def test_claim_of_another_project(self) -> None:
        """A claim of one project does not delete a message of the other."""
        await self.post("q", "theirs", project="p2")
        answer = await self.call("POST", "/v2/queues/q/claims", project="p2")
        theirs = answer.location.rpartition("/")[2]
        path = f"/v2/queues/q/messages/{self.ids.claimed}?claim_id={theirs}"
        answer = await self.call("DELETE", path)
        self.assertIn(answer.status, (400, 403))
        self.assertEqual(self.before, await self.state())

    async def test_topics(self) -> None:
        """Topics of another project are as far away."""
        (message_id,) = await self.post("t", 1, kind="topics")
        body = {"subscriber": SUBSCRIBER}
        answer = await self.call("POST", "/v2/topics/t/subscriptions", json=body)
        subscription_id = answer.json["subscription_id"]
        paths = [
            f"/v2/topics/t/messages/{message_id}",
            f"/v2/topics/t/messages?ids={message_id}",
            f"/v2/topics/t/subscriptions/{subscription_id}",
        ]
        for project in NEIGHBOURS:
            topics = (await self.call("GET", "/v2/topics", project=project)).json
            self.assertEqual([], topics["topics"])
            requests = [asking("GET", path, project=project) for path in paths]
            await self.refuses(404, "Not found", requests)
            requests = [asking("DELETE", path, project=project) for path in paths]
            requests.append(asking("DELETE", "/v2/topics/t", project=project))
            requests.append(asking("POST", "/v2/topics/t/purge", project=project))
            await self.gives(204, requests)
        await self.gives(200, [asking("GET", path) for path in paths])


class QueueTests(IsolationTestCase):
    """Another queue of the same project."""

    async def test_by_id(self) -> None:
        """Nothing is found through another queue, existing or not."""
        await self.create("other")
        self.before = await self.state()
        names = ["other", "none", "Q", "qq", "q.", "q-", "q_"]
        requests = [r for name in names for r in self.by_id(name)]
        await self.refuses(404, "Not found", requests)
        self.assertEqual(self.before, await self.state())

    async def test_deletions(self) -> None:
        """Nothing is deleted through another queue."""
        requests = [r for n in ("other", "Q", "qq", "q.") for r in self.deletions(n)]
        await self.gives(204, requests)
        self.assertEqual(self.before, await self.state())

    async def test_claim_of_another_queue(self) -> None:
        """A claim of one queue does not delete a message of the other."""
        await self.post("other", 1)
        claim = await self.claim("other")
        self.before = await self.state()
        path = f"/v2/queues/q/messages/{self.ids.claimed}?claim_id={claim.id}"
        self.assertIn((await self.call("DELETE", path)).status, (400, 403))
        self.assertEqual(self.before, await self.state())

    async def test_names_do_not_join(self) -> None:
        """Project and queue are never run together."""
        pairs = [("a", "b.c"), ("a.b", "c"), ("a/b", "c"), ("a", "b-c"), ("a-b", "c")]
        pairs += [("a_b", "c"), ("a", "b_c"), ("a:b", "c"), ("a b", "c")]
        for project, queue in pairs:
            await self.post(queue, [project, queue], project=project)
        for project, queue in pairs:
            found = await self.listed(queue, project=project)
            self.assertEqual([[project, queue]], found)
            self.assertIn(queue, await self.queue_names(project))
