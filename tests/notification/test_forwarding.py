"""Notifications into queues and topics of the same project."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.model import Destination, Kind
from mqsvc.notification import forwarding
from mqsvc.notification.forwarding import MOST_STEPS, ends, share, via_of
from tests.notification.notices import subscription
from tests.rest.server import CONSUMER, PRODUCER, RestTestCase, asking
from tests.websocket.client import connect


class ForwardingTestCase(RestTestCase):
    """A service whose queues follow each other."""

    async def subscribe_to(
        self, kind: str, name: str, subscriber: str, **fields: Any
    ) -> str:
        """Make a subscription of a queue or topic; its id."""
        path = f"/v2/{kind}s/{name}/subscriptions"
        body = {"subscriber": subscriber, **fields}
        answer = await self.call("POST", path, json=body)
        return str(self.expect(answer, 201).json["subscription_id"])

    async def next_of(self, queue: str) -> dict[str, Any]:
        """The next message of a queue, which is waited for and taken."""
        path = f"/v2/queues/{queue}/messages?limit=1&wait=20"
        answer = await self.call("GET", path)
        (message,) = self.expect(answer, 200).json["messages"]
        await self.call("DELETE", message["href"])
        return dict(message)

    async def hold_up(self, source: str, target: str, body: Any, **fields: Any) -> str:
        """Post what the target does not take; the id of the subscription."""
        await self.create(target, _max_messages_post_size=20)
        made = await self.subscribe(source, f"queue:{target}")
        await self.post(source, body, **fields)
        await self.attempts(source, made)
        return made

    async def let_go(self, source: str, target: str, made: str) -> None:
        """Let the target take it, and deliver again what was given up."""
        path = "/metadata/_max_messages_post_size"
        await self.patch(target, {"op": "replace", "path": path, "value": 200})
        path = f"/v2/queues/{source}/subscriptions/{made}/deliveries"
        self.expect(await self.call("POST", path), 200)

    async def attempts(
        self, queue: str, subscription_id: str, least: int = 1, step: float = 1
    ) -> list[dict[str, Any]]:
        """What came of the deliveries of a subscription, once there are so many."""
        path = f"/v2/queues/{queue}/subscriptions/{subscription_id}/deliveries"
        while True:
            answer = self.expect(await self.call("GET", path), 200).json
            if len(answer["attempts"]) >= least:
                return list(answer["attempts"])
            self.clock.advance(step)


class ForwardingTests(ForwardingTestCase):
    """Messages that go on into another queue."""

    async def test_forwarded(self) -> None:
        """A message comes to a queue that is made for it, its body as it was posted."""
        await self.subscribe("a", "queue:b")
        body = {"x": [1.5, None, "\u20ac"], "": {}}
        await self.post("a", body, ttl=300)
        message = await self.next_of("b")
        self.assertEqual((body, 300), (message["body"], message["ttl"]))

    async def test_life(self) -> None:
        """A message that was held up keeps what is left of its life.

        That is at least a minute; after the end it lives as its new queue says.
        """
        cases = ((300, 100, 200), (100, 90, 60), (100, 200, 3600))
        for number, (ttl, held_up, left) in enumerate(cases):
            source, target = f"a{number}", f"b{number}"
            began = self.clock.seconds()
            made = await self.hold_up(source, target, "x" * 100, ttl=ttl)
            self.clock.advance(began + held_up - self.clock.seconds())
            await self.let_go(source, target, made)
            self.assertEqual(left, (await self.next_of(target))["ttl"])

    async def test_no_echo(self) -> None:
        """Whoever posted to the source or made the subscription sees what comes."""
        await self.subscribe("a", "queue:b")
        await self.post("a", 1)
        await self.call("GET", "/v2/queues/b/messages?wait=20&echo=true")
        for client in (PRODUCER, CONSUMER):
            path = "/v2/queues/b/messages?echo=false"
            answer = await self.call("GET", path, client=client)
            self.assertEqual(1, len(self.expect(answer, 200).json["messages"]))

    async def test_filter(self) -> None:
        """A filter decides what goes on."""
        await self.subscribe("a", "queue:b", options={"filter": {"kind": ["order"]}})
        await self.post("a", {"kind": "offer"}, {"kind": "order"})
        message = await self.next_of("b")
        self.assertEqual({"kind": "order"}, message["body"])

    async def test_topic(self) -> None:
        """A topic brings each message to all queues that follow it, also by a topic."""
        for subscriber in ("queue:b", "queue:c", "topic:more"):
            await self.subscribe_to("topic", "news", subscriber)
        await self.subscribe_to("topic", "more", "queue:d")
        await self.post("news", 1, kind="topics")
        for queue in "bcd":
            self.assertEqual(1, (await self.next_of(queue))["body"])

    async def test_round(self) -> None:
        """Queues that follow each other bring no message back."""
        await self.subscribe("a", "queue:b")
        await self.subscribe("b", "queue:a")
        await self.post("a", "from a")
        await self.post("b", "from b")
        for queue, bodies in (("a", ["from a", "from b"]), ("b", ["from b", "from a"])):
            found = [(await self.next_of(queue))["body"] for _ in bodies]
            self.assertEqual(sorted(bodies), sorted(found))
            self.clock.advance(5)
            answer = await self.call("GET", f"/v2/queues/{queue}/messages")
            self.assertEqual([], self.expect(answer, 200).json["messages"])

    async def test_steps(self) -> None:
        """A message goes on for four steps, and leaves nothing to be done there."""
        ids = [await self.subscribe(a, f"queue:{b}") for a, b in pairwise("abcdef")]
        await self.post("a", 1)
        self.assertEqual(1, (await self.next_of("e"))["body"])
        self.clock.advance(5)
        await self.post("e", 2)
        (attempt,) = await self.attempts("e", ids[-1])
        self.assertEqual("delivered", attempt["outcome"])
        self.assertEqual(2, (await self.next_of("f"))["body"])

    async def test_flood(self) -> None:
        """Of one message there are only so many in queues that follow each other."""
        TestCase.patch(self, forwarding, "MOST_COPIES", 20)
        names = "abcdef"
        for source, target in permutations(names, 2):
            await self.subscribe(source, f"queue:{target}")
        await self.post("a", 1)
        found = await self.all_of(names)
        # Five, and three for each of them, of which each has four others to go to.
        self.assertEqual([1] * (1 + 5 + 5 * 3), found)

    async def test_too_many(self) -> None:
        """Where not all queues that follow may be told, the first ones are."""
        TestCase.patch(self, forwarding, "MOST_COPIES", 2)
        for target in "bcde":
            await self.subscribe("a", f"queue:{target}")
        await self.post("a", 1)
        self.assertEqual([1, 1], await self.all_of("bcde"))

    async def all_of(self, queues: str) -> list[Any]:
        """What is in some queues when nothing more comes."""
        found: list[Any] = []
        before = -1
        while len(found) > before:
            before = len(found)
            for _ in range(20):
                await self.pass_time()
            found = []
            for queue in queues:
                path = f"/v2/queues/{queue}/messages?limit=20&echo=true"
                answer = self.expect(await self.call("GET", path), 200).json
                found += [message["body"] for message in answer["messages"]]
        return found

    async def test_itself(self) -> None:
        """Neither a queue nor a topic can follow itself, a topic of that name can."""
        path = "/v2/queues/a/subscriptions"
        changed = await self.subscribe("a", "queue:b")
        for subscriber in ("queue:a", "QUEUE:a"):
            body = {"subscriber": subscriber}
            requests = [
                asking("POST", path, json=body),
                asking("PATCH", f"{path}/{changed}", json=body),
            ]
            await self.refuses(400, "Invalid API request", requests)
        await self.subscribe("a", "topic:a")

    async def test_names(self) -> None:
        """What can be no queue can be no target."""
        bodies = [
            {"subscriber": f"queue:{name}"} for name in ("", "..", "a/b", "x" * 65)
        ]
        path = "/v2/queues/a/subscriptions"
        requests = [asking("POST", path, json=body) for body in bodies]
        await self.refuses(400, "Invalid API request", requests)

    async def test_projects(self) -> None:
        """The queue of that name in another project gets nothing."""
        await self.subscribe("a", "queue:b")
        await self.post("a", 1)
        await self.next_of("b")
        self.assertEqual([], await self.queue_names("p2"))

    async def test_target_refuses(self) -> None:
        """What the target does not take is given up, and can be sent again later."""
        made = await self.hold_up("a", "b", "x" * 100)
        (attempt,) = await self.attempts("a", made)
        self.assertEqual(("refused", 400), (attempt["outcome"], attempt["status"]))
        self.assertIn("at most 20", attempt["error"])
        await self.let_go("a", "b", made)
        self.assertEqual("x" * 100, (await self.next_of("b"))["body"])


class QuotaTests(ForwardingTestCase):
    """A project that may post so many messages a second."""

    settings: ClassVar = ("quotas.messages_per_second=2",)

    async def test_later(self) -> None:
        """What is more than the project may post comes later."""
        made = await self.subscribe("a", "queue:b")
        # The project is in debt for two seconds.
        await self.post("a", *range(8))
        found = await self.attempts("a", made, step=0.1)
        self.assertEqual({429}, {each["status"] for each in found})
        bodies: list[Any] = []
        while len(bodies) < 8:
            self.clock.advance(1)
            answer = await self.call("DELETE", "/v2/queues/b/messages?pop=8")
            popped = self.expect(answer, 200).json["messages"]
            bodies += [message["body"] for message in popped]
        self.assertEqual([*range(8)], sorted(bodies))


class ConfirmationTests(ForwardingTestCase):
    """Where subscribers have to agree."""

    settings: ClassVar = (
        "notification.require_confirmation=true",
        "signed_url.secret_key=for-tests-only",
    )

    async def test_not_asked(self) -> None:
        """A queue of the project is told without being asked."""
        made = await self.subscribe("a", "queue:b")
        path = f"/v2/queues/a/subscriptions/{made}/confirm"
        self.expect(await self.call("PUT", path, json={"confirmed": False}), 204)
        await self.post("a", 1)
        self.assertEqual(1, (await self.next_of("b"))["body"])
        self.assertEqual(1, len(await self.attempts("a", made)))


class WebSocketTests(ForwardingTestCase):
    """A service that serves both APIs."""

    settings: ClassVar = ("websocket=tcp:0:interface=127.0.0.1",)

    async def test_both(self) -> None:
        """A connection makes the subscription, and sees what comes by it."""
        client = await connect(f"ws://127.0.0.1:{self.root.addresses[1].port}/")
        self.addCleanup(client.hang_up)
        body = {"queue_name": "a", "subscriber": "queue:b"}
        reply = await client.call("subscription_create", body)
        self.assertEqual(201, reply["headers"]["status"])
        await client.call("subscription_create", {"queue_name": "b"})
        await self.post("a", 1)
        self.assertEqual(1, (await client.received())["body"])


class ViaTests(SynchronousTestCase):
    """What the poster of a message tells of its way."""

    def test_others(self) -> None:
        """Clients tell nothing."""
        self.assertEqual("", via_of(PRODUCER))

    def test_round(self) -> None:
        """Only a queue or topic can be where a message has been."""
        source = Destination("p", Kind.QUEUE, "a")
        found = [
            ends("", source, subscriber)
            for subscriber in ("queue:a", "Queue:a", "topic:a", "queue:b", "http://a/")
        ]
        self.assertEqual([True, True, False, False, False], found)

    def test_length(self) -> None:
        """A poster is never longer than a store takes, and says what is left."""
        via = "".join([f"{forwarding.MOST_COPIES:x}.", *["0" * 12] * MOST_STEPS])
        poster = forwarding._POSTER + via
        self.assertLessEqual(len(poster), 64)
        self.assertEqual(via, via_of(poster))

    def test_share(self) -> None:
        """Those who are no queues take nothing from those who are."""
        subscriptions = [subscription(s) for s in ("queue:b", "http://a/", "topic:c")]
        self.assertEqual((subscriptions, "4."), share("a.", subscriptions))
        self.assertEqual((subscriptions[:2], "0."), share("1.", subscriptions))
        self.assertEqual(([subscriptions[1]], "0."), share("0.", subscriptions))
