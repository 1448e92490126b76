"""A service whose limits were made small."""

from __future__ import annotations

from typing import Any

from tests.rest.server import JSON_PATCH, RestTestCase, asking

QUEUE = "/v2/queues/q"


class PageLimitTests(RestTestCase):
    """The largest pages."""

    settings = (
        "transport.max_queues_per_page=2",
        "transport.max_messages_per_page=3",
        "transport.max_messages_per_claim_or_pop=4",
        "transport.max_subscriptions_per_page=5",
    )

    async def test_collections(self) -> None:
        """Each collection has its own bound."""
        bounds = [
            *(("GET", "/v2/queues?limit=", 2), ("GET", "/v2/topics?limit=", 2)),
            *(("GET", f"{QUEUE}/messages?limit=", 3),),
            *(("POST", f"{QUEUE}/claims?limit=", 4),),
            *(("DELETE", f"{QUEUE}/messages?pop=", 4),),
            *(("GET", f"{QUEUE}/subscriptions?limit=", 5),),
        ]
        for method, path, bound in bounds:
            answer = await self.call(method, f"{path}{bound}")
            self.assertLess(answer.status, 300, answer)
            await self.refuses(
                400, "Invalid API request", [asking(method, f"{path}{bound + 1}")]
            )

    async def test_ids(self) -> None:
        """The number of ids is bound like a page of messages."""
        ids = await self.post("q", *range(4))
        path = f"{QUEUE}/messages?ids="
        self.expect(await self.call("GET", path + ",".join(ids[:3])), 200)
        requests = [asking(m, path + ",".join(ids)) for m in ("GET", "DELETE")]
        await self.refuses(400, "Invalid API request", requests)
        self.expect(await self.call("DELETE", path + ",".join(ids[:3])), 204)

    async def test_without_limit(self) -> None:
        """A caller that names no limit gets ten, whatever the bound is."""
        await self.post("q", *range(12))
        self.assertEqual(10, len(await self.listed("q")))


class TimeLimitTests(RestTestCase):
    """The longest times, and the defaults."""

    settings = (
        "transport.max_message_ttl=100",
        "transport.default_message_ttl=70",
        "transport.max_message_delay=20",
        "transport.default_message_delay=5",
        "transport.max_claim_ttl=110",
        "transport.max_claim_grace=120",
        "transport.default_claim_ttl=80",
        "transport.default_claim_grace=90",
        "transport.default_subscription_ttl=95",
    )

    async def test_message(self) -> None:
        """Messages live and wait as long as configured."""
        good = [{"ttl": 100}, {"delay": 20}, {"ttl": 60, "delay": 0}]
        bad = [{"ttl": 101}, {"delay": 21}, {"delay": -1}]
        await self.create("q", _default_message_delay=10)
        path = f"{QUEUE}/messages"
        for status, cases in ((201, good), (400, bad)):
            for fields in cases:
                json = {"messages": [{"body": 1, **fields}]}
                answer = await self.call("POST", path, json=json)
                self.expect(answer, status)

    async def test_message_default(self) -> None:
        """A message without a ttl gets the configured one."""
        (message_id,) = await self.post("q", 1)
        path = f"{QUEUE}/messages/{message_id}"
        self.assertEqual(70, (await self.call("GET", path)).json["ttl"])

    async def test_metadata(self) -> None:
        """Metadata have the same bounds."""
        bad = [
            *({"_default_message_ttl": 101}, {"_default_message_delay": 21}),
            {"_dead_letter_queue_messages_ttl": 101},
        ]
        requests = [asking("PUT", QUEUE, json=json) for json in bad]
        await self.refuses(400, "Invalid API request", requests)

    async def test_shown_defaults(self) -> None:
        """A queue shows the configured defaults."""
        shown = (await self.call("GET", QUEUE)).json
        self.assertEqual(70, shown["_default_message_ttl"])
        self.assertEqual(5, shown["_default_message_delay"])

    async def test_claim(self) -> None:
        """Claims last as long as configured."""
        path = f"{QUEUE}/claims"
        bad = [{"ttl": 111}, {"grace": 121}]
        requests = [asking("POST", path, json=json) for json in bad]
        await self.refuses(400, "Invalid API request", requests)
        self.expect(await self.call("POST", path, json={"ttl": 110, "grace": 120}), 204)

    async def test_claim_defaults(self) -> None:
        """A claim without times gets the configured ones, grace included."""
        await self.post("q", 1, ttl=60)
        self.clock.advance(5)
        answer = self.expect(await self.call("POST", f"{QUEUE}/claims"), 201)
        self.assertEqual(80, (await self.call("GET", answer.location)).json["ttl"])
        (message,) = answer.json["messages"]
        self.assertIn(message["ttl"], (80 + 90, 5 + 80 + 90))

    async def test_subscription_default(self) -> None:
        """A subscription without a ttl gets the configured one."""
        subscription_id = await self.subscribe("q", "http://trigger.me")
        path = f"{QUEUE}/subscriptions/{subscription_id}"
        self.assertEqual(95, (await self.call("GET", path)).json["ttl"])


class SizeLimitTests(RestTestCase):
    """The largest bodies."""

    settings = (
        "transport.max_messages_post_size=1000",
        "transport.max_queue_metadata=200",
        "transport.subscriber_types=http,mailto",
    )

    @staticmethod
    def _padded(json: bytes, size: int) -> bytes:
        return json + b" " * (size - len(json))

    async def test_bodies_without_a_bound(self) -> None:
        """The bounds of posts and metadata are not those of other bodies."""
        options = {"post_data": "x" * 5000}
        body = {"subscriber": "http://a.example", "options": options}
        answer = await self.call("POST", "/v2/queues/q/subscriptions", json=body)
        self.expect(answer, 201)

    async def test_post(self) -> None:
        """A post is as long as configured, whatever its queue says."""
        await self.create("q", _max_messages_post_size=1000)
        body = b'{"messages": [{"body": 1}]}'
        for kind in ("queues", "topics"):
            path = f"/v2/{kind}/q/messages"
            fits = await self.call("POST", path, raw=self._padded(body, 1000))
            self.expect(fits, 201)
            await self.refuses(
                400,
                "Invalid API request",
                [asking("POST", path, raw=self._padded(body, 1001))],
            )

    async def test_post_size_of_queue(self) -> None:
        """A queue cannot allow more than the service."""
        json = {"_max_messages_post_size": 1001}
        await self.refuses(
            400, "Invalid API request", [asking("PUT", QUEUE, json=json)]
        )
        shown = (await self.call("GET", QUEUE)).json
        self.assertEqual(1000, shown["_max_messages_post_size"])

    async def test_metadata(self) -> None:
        """Metadata are as long as configured, at creation and by patch."""
        headers = {"Content-Type": JSON_PATCH}
        for path in (QUEUE, "/v2/topics/t"):
            self.expect(await self.call("PUT", path, raw=self._padded(b"{}", 200)), 201)
            patch = self._padded(b"[]", 200)
            answer = await self.call("PATCH", path, raw=patch, headers=headers)
            self.expect(answer, 200)
            requests: list[Any] = [
                asking("PUT", path, raw=self._padded(b"{}", 201)),
                asking("PATCH", path, raw=patch + b" ", headers=headers),
            ]
            await self.refuses(400, "Invalid API request", requests)

    async def test_size_before_content(self) -> None:
        """What is too long is not even read."""
        await self.refuses(
            400,
            "Invalid API request",
            [asking("POST", f"{QUEUE}/messages", raw=b"{" * 1001)],
        )
        self.assertEqual([], await self.queue_names())

    async def test_subscriber_types(self) -> None:
        """Only the configured schemes may subscribe."""
        await self.subscribe("q", "http://trigger.me")
        await self.subscribe("q", "mailto:a@b.example")
        json = {"subscriber": "https://trigger.me"}
        await self.refuses(
            400, None, [asking("POST", f"{QUEUE}/subscriptions", json=json)]
        )
