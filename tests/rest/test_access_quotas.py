"""What a project may use, and how it is told that it is enough."""

from __future__ import annotations

from twisted.internet.defer import gatherResults

from tests.rest.answers import Answer
from tests.rest.connection import RawConnection
from tests.rest.server import CONSUMER, PROJECT, RestTestCase

MOST_TRIES = 500
"""Requests after which what did not happen will not happen."""


class QuotaCase(RestTestCase):
    """Refusals that say when to come back."""

    def refused_429(self, answer: Answer, seconds: int) -> None:
        """Fail unless the answer says to come back after so long."""
        self.refused(answer, 429, "Too many requests")
        self.assertEqual(str(seconds), answer.header("retry-after"))


class QueueTests(QuotaCase):
    """The number of queues and topics."""

    settings = ("quotas.max_queues=2",)

    async def setUp(self) -> None:
        """Use the quota up."""
        await super().setUp()
        await self.create("a")
        self.expect(await self.call("PUT", "/v2/topics/a"), 201)

    async def assert_full(self) -> None:
        """No way leads to one more queue or topic."""
        messages = {"messages": [{"body": 1}]}
        subscription = {"subscriber": "http://trigger.me"}
        for path in ("/v2/queues/b", "/v2/topics/b"):
            self.refused_429(await self.call("PUT", path), 60)
            answer = await self.call("POST", f"{path}/messages", json=messages)
            self.refused_429(answer, 60)
            answer = await self.call("POST", f"{path}/subscriptions", json=subscription)
            self.refused_429(answer, 60)
        self.assertEqual(["a"], await self.queue_names())

    async def test_full(self) -> None:
        """Made on purpose or by its first message, one more is refused."""
        await self.assert_full()

    async def test_existing(self) -> None:
        """What is there already can be used."""
        self.expect(await self.call("PUT", "/v2/queues/a"), 204)
        await self.post("a", 1)
        await self.post("a", 1, kind="topics")
        await self.subscribe("a", "http://trigger.me")
        await self.assert_full()

    async def test_others(self) -> None:
        """Each project has a quota of its own."""
        for name in ("b", "c"):
            await self.post(name, 1, project="p2")
        self.assertEqual(["b", "c"], await self.queue_names("p2"))

    async def test_room(self) -> None:
        """Who deletes something may make something else."""
        self.expect(await self.call("DELETE", "/v2/topics/a"), 204)
        await self.post("b", 1)
        self.assertEqual(["a", "b"], await self.queue_names())

    async def test_one_name_at_the_same_time(self) -> None:
        """Several who make the same queue all have it."""
        self.expect(await self.call("DELETE", "/v2/topics/a"), 204)
        asked = [self.call_soon("PUT", "/v2/queues/b") for _ in range(5)]
        statuses = sorted(answer.status for answer in await gatherResults(asked))
        self.assertEqual([201, *[204] * 4], statuses)

    async def test_at_the_same_time(self) -> None:
        """Many at a time get no more than one after the other."""
        paths = [f"/v2/queues/many-{number}" for number in range(20)]
        asked = [self.call_soon("PUT", path, project="p2") for path in paths]
        statuses = sorted(answer.status for answer in await gatherResults(asked))
        self.assertEqual([201, 201, *[429] * 18], statuses)
        self.assertEqual(2, len(await self.queue_names("p2")))


class RateTests(QuotaCase):
    """Messages posted in a second."""

    settings = ("quotas.messages_per_second=5",)

    async def test_too_fast(self) -> None:
        """Beyond the rate nothing is taken, until the time that was told."""
        await self.post("q", *range(10))
        body = {"messages": [{"body": "late"}]}
        path = "/v2/queues/q/messages"
        self.refused_429(await self.call("POST", path, json=body), 1)
        path = "/v2/topics/other/messages"
        self.refused_429(await self.call("POST", path, json=body), 1)
        self.assertEqual({"claimed": 0, "free": 10, "total": 10}, await self.stats("q"))
        await self.post("q", 1, project="p2")
        self.clock.advance(1)
        await self.post("q", "late")

    async def test_refused_leaves_nothing(self) -> None:
        """A post that is refused makes no queue, and a wrong one costs nothing."""
        for _ in range(20):
            wrong = {"messages": [{"body": 1, "ttl": -1}]}
            answer = await self.call("POST", "/v2/queues/q/messages", json=wrong)
            self.expect(answer, 400)
        await self.post("q", *range(10))
        body = {"messages": [{"body": "late"}]}
        answer = await self.call("POST", "/v2/queues/new/messages", json=body)
        self.refused_429(answer, 1)
        self.assertEqual(["q"], await self.queue_names())

    async def test_reading(self) -> None:
        """Who may not post may still read and delete."""
        await self.post("q", *range(10))
        claim = await self.claim("q", limit=3)
        self.assertEqual([0, 1, 2], claim.bodies)
        answer = await self.call("DELETE", "/v2/queues/q/messages?pop=2")
        self.expect(answer, 200)


class VolumeTests(QuotaCase):
    """Bytes of messages that are kept."""

    settings = ("quotas.max_stored_bytes=100",)

    async def refuses_post(self, text: str) -> str:
        """Fail unless a message is refused, and leaves no queue; what is said."""
        body = {"messages": [{"body": text}]}
        answer = await self.call("POST", "/v2/queues/new/messages", json=body)
        self.refused_429(answer, 2)
        self.assertNotIn("new", await self.queue_names())
        return answer.json["description"]

    async def test_full(self) -> None:
        """Beyond the bound nothing is taken; all queues and topics count together."""
        await self.post("q", "x" * 58)
        await self.post("t", "x" * 38, kind="topics")
        description = await self.refuses_post("")
        self.assertIn("keeps 100 bytes", description)
        self.assertIn("Delete messages", description)
        await self.post("q", "x" * 58, project="p2")

    async def test_room(self) -> None:
        """Who takes messages away may post again after the time that was told."""
        await self.post("q", "x" * 98)
        await self.refuses_post("")
        answer = await self.call("DELETE", "/v2/queues/q/messages?pop=1")
        self.expect(answer, 200)
        await self.refuses_post("")
        self.clock.advance(2)
        await self.post("q", "x" * 98)

    async def test_deleted_queue(self) -> None:
        """What a queue kept counts no more when it is deleted."""
        await self.post("q", "x" * 98)
        await self.refuses_post("")
        self.expect(await self.call("DELETE", "/v2/queues/q"), 204)
        self.clock.advance(2)
        await self.post("other", "x" * 98)


class ConnectionTests(QuotaCase):
    """Requests at work at one time."""

    settings = ("quotas.max_connections=2",)

    async def wait_for_messages(self) -> list[RawConnection]:
        """Begin as many claims that wait as there may be."""
        lines = [
            *("POST /v2/queues/q/claims?wait=20 HTTP/1.1", "Host: localhost"),
            *(f"Client-ID: {CONSUMER}", f"X-Project-ID: {PROJECT}"),
            *("Content-Length: 0", "", ""),
        ]
        connections = [await self.connect() for _ in range(2)]
        for connection in connections:
            connection.send("\r\n".join(lines).encode())
        # Once several later requests were answered, these have begun.
        for _ in range(4):
            path = "/v2/queues/elsewhere/messages"
            self.expect(await self.call("GET", path, project="p2"), 200)
        return connections

    async def test_too_many(self) -> None:
        """With as many at work as allowed one more is refused at once."""
        await self.wait_for_messages()
        self.refused_429(await self.call("GET", "/v2/ping"), 1)
        self.expect(await self.call("GET", "/v2/ping", project="p2"), 204)

    async def test_answered(self) -> None:
        """What is answered does not count any more."""
        waiting = await self.wait_for_messages()
        self.clock.advance(20)
        for connection in waiting:
            self.expect(await connection.answer(), 204)
        for _ in range(10):
            self.expect(await self.call("GET", "/v2/ping"), 204)

    async def test_hung_up(self) -> None:
        """Who hangs up makes room."""
        waiting = await self.wait_for_messages()
        self.expect(await self.call("GET", "/v2/ping"), 429)
        waiting[0].hang_up()
        for _ in range(MOST_TRIES):
            answer = await self.call("GET", "/v2/ping")
            if answer.status == 204:
                break
        self.expect(answer, 204)

    async def test_refused(self) -> None:
        """Requests that fail do not stay at work."""
        for path in ("/v2/queues/!", "/v2/health", "/v2/queues/q/messages/none"):
            for _ in range(3):
                await self.call("GET", path)
        self.expect(await self.call("GET", "/v2/ping"), 204)
