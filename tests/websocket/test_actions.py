"""What can be asked for beyond what the recorded exchanges show."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail

from mqsvc.messaging.errors import QuotaExceeded, StoreUnavailable
from mqsvc.messaging.quotas import QuotaLimits
from tests.websocket.client import PROJECT, Client
from tests.websocket.server import OTHER_CLIENT_ID, WebSocketTestCase

MOST_TRIES = 500
"""Requests after which what did not happen will not happen."""


class QueueTests(WebSocketTestCase):
    """Queues, and what the reference does not offer for them."""

    async def test_metadata(self) -> None:
        """Metadata is shown as given, and with defaults to who asks for them."""
        client, named = await self.connect(), {"queue_name": "q"}
        body = {**named, "metadata": {"a": 1, "~/": 2}}
        self.expect(await client.call("queue_create", body), 201)
        shown = self.expect(await client.call("queue_get", named), 200)
        self.assertEqual({"a": 1, "~/": 2}, shown)
        whole = self.expect(await client.call("queue_get_metadata", named), 200)
        self.assertEqual(3600, whole["_default_message_ttl"])

    async def test_update(self) -> None:
        """Metadata can be changed by operations, and replaced as a whole."""
        client, named = await self.connect(), {"queue_name": "q"}
        body = {**named, "metadata": {"a": 1, "~/": 2}}
        await client.call("queue_create", body)
        changes = [{"op": "replace", "path": "/metadata/a", "value": 5}]
        changed = await client.call("queue_update", {**named, "metadata": changes})
        self.assertEqual(5, self.expect(changed, 200)["a"])
        replaced = {**named, "metadata": {"b": [True], "a/b": None}}
        self.expect(await client.call("queue_set_metadata", replaced), 204)
        shown = self.expect(await client.call("queue_get", named), 200)
        self.assertEqual({"b": [True], "a/b": None}, shown)

    async def test_wrong_updates(self) -> None:
        """What is no metadata or no patch is refused, and a missing queue not found."""
        client, named = await self.connect(), {"queue_name": "q"}
        for action in ("queue_update", "queue_set_metadata"):
            self.expect(await client.call(action, {**named, "metadata": 5}), 400)
        body = {**named, "metadata": {}}
        self.expect(await client.call("queue_set_metadata", body), 404)

    async def test_exists(self) -> None:
        """A queue is told from others whose names are near."""
        client = await self.connect()
        for name in ("a", "aa", "b", "a-", "a.", "Z"):
            await client.call("queue_create", {"queue_name": name})
        for name, status in (("a", 204), ("aa", 204), ("a0", 404), ("aZ", 404)):
            reply = await client.call("queue_exists", {"queue_name": name})
            self.expect(reply, status)
        self.expect(await client.call("queue_exists", {"queue_name": "-"}), 404)

    async def test_stats_of_missing_queue(self) -> None:
        """Numbers of a queue that is missing are 0 under the status of a miss."""
        client = await self.connect()
        reply = await client.call("queue_get_stats", {"queue_name": "q"})
        numbers = self.expect(reply, 404)["messages"]
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, numbers)
        await client.call("queue_create", {"queue_name": "q"})
        reply = await client.call("queue_get_stats", {"queue_name": "q"})
        self.expect(reply, 200)

    async def test_list(self) -> None:
        """A list can be filtered, counted and continued from its marker."""
        client = await self.connect()
        for name in ("red-1", "red-2", "red-3", "blue"):
            body = {"queue_name": name, "metadata": {"color": name[:3]}}
            await client.call("queue_create", body)
        reply = await client.call("queue_list", {"name": "red", "limit": 2})
        page = self.expect(reply, 200)
        self.assertEqual([{"name": "red-1"}, {"name": "red-2"}], page["queues"])
        body = {"name": "red", "marker": page["marker"]}
        page = self.expect(await client.call("queue_list", body), 200)
        self.assertEqual([{"name": "red-3"}], page["queues"])
        body = {"kfilter": {"color": "blu"}, "with_count": True, "detailed": True}
        page = self.expect(await client.call("queue_list", body), 200)
        found = [{"name": "blue", "metadata": {"color": "blu"}}]
        self.assertEqual((found, 4), (page["queues"], page["count"]))

    async def test_names(self) -> None:
        """A name that no queue can have is refused by every action."""
        client = await self.connect()
        for action in ("queue_create", "queue_get", "queue_delete", "message_list"):
            for name in ("", "a/b", "a\n", "x" * 65, ".."):
                self.expect(await client.call(action, {"queue_name": name}), 400)

    async def test_topics(self) -> None:
        """Topics have actions like queues, and share those on messages."""
        client, named = await self.connect(), {"topic_name": "t"}
        reply = await client.call("topic_create", named)
        self.assertEqual("Topic t created.", self.expect(reply, 201))
        listed = self.expect(await client.call("topic_list"), 200)
        self.assertEqual([{"name": "t"}], listed["topics"])
        body = {**named, "messages": [{"body": 1}]}
        self.expect(await client.call("message_post", body), 201)
        reply = await client.call("topic_get_stats", named)
        self.assertEqual(1, self.expect(reply, 200)["messages"]["total"])
        reply = await client.call("message_list", {"queue_name": "t", "echo": True})
        self.assertEqual([], self.expect(reply, 200)["messages"])
        self.expect(await client.call("topic_purge", named), 204)
        self.expect(await client.call("topic_delete", named), 204)
        self.expect(await client.call("topic_exists", named), 404)


class MessageTests(WebSocketTestCase):
    """Messages and claims."""

    async def test_pages(self) -> None:
        """A list of messages can be continued from its marker."""
        client, named = await self.connect(), {"queue_name": "q"}
        await self.post("q", *range(5))
        page = self.expect(
            await client.call("message_list", {**named, "limit": 3}), 200
        )
        self.assertEqual([0, 1, 2], [m["body"] for m in page["messages"]])
        reply = await client.call("message_list", {**named, "marker": page["marker"]})
        page = self.expect(reply, 200)
        self.assertEqual([3, 4], [m["body"] for m in page["messages"]])

    async def test_delay(self) -> None:
        """A message with a delay is claimed after it, in a queue that has delays."""
        client, named = await self.connect(), {"queue_name": "q"}
        metadata = {"_default_message_delay": 5}
        await client.call("queue_create", {**named, "metadata": metadata})
        messages = [{"body": "later", "delay": 60}, {"body": "sooner"}]
        await client.call("message_post", {**named, "messages": messages})
        self.expect(await client.call("claim_create", named), 204)
        self.clock.advance(5)
        claim = self.expect(await client.call("claim_create", named), 201)
        self.assertEqual(["sooner"], [m["body"] for m in claim["messages"]])

    async def test_wait(self) -> None:
        """A claim can wait for a message of somebody else."""
        consumer, named = await self.connect(), {"queue_name": "q"}
        consumer.ask("claim_create", {**named, "wait": 20})
        producer = await self.connect()
        body = {**named, "messages": [{"body": "x"}]}
        self.expect(await producer.call("message_post", body), 201)
        claim = self.expect(await consumer.received(), 201)
        self.assertEqual("x", claim["messages"][0]["body"])

    async def test_hang_up(self) -> None:
        """A client that leaves while it waits takes no message with it."""
        consumer, named = await self.connect(), {"queue_name": "q"}
        consumer.ask("claim_create", {**named, "wait": 20})
        other = await self.connect()
        await other.call("queue_list")
        consumer.hang_up()
        await consumer.gone
        await other.call("queue_list")
        await self.post("q", "x")
        claim = self.expect(
            await other.call("claim_create", {**named, "wait": 20}), 201
        )
        self.assertEqual(1, len(claim["messages"]))

    async def test_renewal_keeps_ttl(self) -> None:
        """A claim that is updated without a ttl keeps its own."""
        client, named = await self.connect(), {"queue_name": "q"}
        await self.post("q", 1)
        reply = await client.call("claim_create", {**named, "ttl": 500})
        body = {**named, "claim_id": self.expect(reply, 201)["claim_id"]}
        self.expect(await client.call("claim_update", body), 204)
        claim = self.expect(await client.call("claim_get", body), 200)
        self.assertEqual(500, claim["ttl"])

    async def test_forms_meet(self) -> None:
        """What is posted in MessagePack is read in JSON, and the other way round."""
        client, named = await self.connect(), {"queue_name": "q"}
        for body, binary in (({"n": [1, None, 2.5]}, True), ({"é": "ü"}, False)):
            messages = {**named, "messages": [{"body": body}]}
            client.ask("message_post", messages, binary=binary)
            self.expect((await client.frame())[0], 201)
        for binary in (True, False):
            listing = {**named, "echo": True}
            reply = await client.call("message_list", listing, binary=binary)
            bodies = [m["body"] for m in self.expect(reply, 200)["messages"]]
            self.assertEqual([{"n": [1, None, 2.5]}, {"é": "ü"}], bodies)

    async def test_size_is_that_of_messages(self) -> None:
        """The bound of a queue is for the messages, not for the envelope."""
        client, named = await self.connect(), {"queue_name": "q"}
        metadata = {"_max_messages_post_size": 50}
        await client.call("queue_create", {**named, "metadata": metadata})
        for length, status in ((30, 201), (50, 400)):
            body = {**named, "messages": [{"body": "x" * length}]}
            self.expect(await client.call("message_post", body), status)

    async def test_client_id(self) -> None:
        """Posting and listing need a UUID to tell clients apart; nothing else does."""
        client, named = await self.connect(), {"queue_name": "q"}
        odd = {"Client-ID": "me"}
        body = {**named, "messages": [{"body": 1}]}
        self.expect(await client.call("message_post", body, headers=odd), 400)
        self.expect(await client.call("message_list", named, headers=odd), 400)
        self.expect(await client.call("claim_create", named, headers=odd), 204)
        await client.call("message_post", body)
        page = self.expect(await client.call("message_list", named), 200)
        self.assertEqual([], page["messages"])
        other = {"Client-ID": OTHER_CLIENT_ID}
        page = self.expect(await client.call("message_list", named, headers=other), 200)
        self.assertEqual(1, len(page["messages"]))


class SubscriptionTests(WebSocketTestCase):
    """Subscriptions of others than the connection."""

    async def test_life(self) -> None:
        """A subscription can be made, changed, confirmed and removed."""
        client, named = await self.connect(), {"queue_name": "q"}
        body = {**named, "subscriber": "http://example.org/a"}
        made = self.expect(await client.call("subscription_create", body), 201)
        one = {**named, "subscription_id": made["subscription_id"]}
        changed = {**one, "ttl": 90, "options": {"a": 1}}
        self.expect(await client.call("subscription_update", changed), 204)
        confirmed = {**one, "confirmed": True}
        self.expect(await client.call("subscription_confirm", confirmed), 204)
        shown = self.expect(await client.call("subscription_get", one), 200)
        self.assertEqual(
            (90, {"a": 1}, True), (shown["ttl"], shown["options"], shown["confirmed"])
        )
        self.expect(await client.call("subscription_create", body), 409)
        self.expect(await client.call("subscription_delete", one), 204)
        self.expect(await client.call("subscription_get", one), 404)

    async def test_connections_cannot_be_named(self) -> None:
        """Nobody can have somebody else's connection as a subscriber."""
        client, named = await self.connect(), {"queue_name": "q"}
        uri = next(iter(self.factory.connections)).uri
        body = {**named, "subscriber": uri}
        self.expect(await client.call("subscription_create", body), 400)

    async def test_options(self) -> None:
        """Options that cannot be kept to are refused."""
        client, named = await self.connect(), {"queue_name": "q"}
        for options in (
            *({"max_inflight": 0}, {"max_inflight": "5"}, {"max_inflight": True}),
            *({"after": 5}, {"after": "x"}),
        ):
            body = {**named, "options": options}
            self.expect(await client.call("subscription_create", body), 400)


class NodeTests(WebSocketTestCase):
    """The service itself, and what needs a role."""

    async def test_ping_and_home(self) -> None:
        """The process answers a ping and shows its home document, by both names."""
        client = await self.connect()
        for name in ("ping", "ping_node"):
            self.expect(await client.call(name), 204)
        for name in ("homedoc", "get_home_doc"):
            home = self.expect(await client.call(name), 200)
            self.assertEqual({"resources": {}}, home)

    async def test_health(self) -> None:
        """The health report is for administrators."""
        client = await self.connect()
        self.expect(await client.call("health"), 403)
        admin = {"X-Roles": "admin"}
        reply = await client.call("check_node_health", headers=admin)
        self.assertTrue(self.expect(reply, 200)["storage_reachable"])

    async def test_without_pools(self) -> None:
        """A server without pools says so."""
        client, admin = await self.connect(), {"X-Roles": "admin"}
        for name in ("pool_list", "flavor_list"):
            self.expect(await client.call(name, headers=admin), 404)

    async def test_store_unavailable(self) -> None:
        """A store that does not answer makes 503, and the connection lives on."""
        client = await self.connect()

        def refuse(*_: Any) -> Deferred[None]:
            return fail(StoreUnavailable())

        for store in self.stores:
            self.patch(store, "ping", refuse)
        reply = await client.call("ping")
        self.assertEqual({"exception", "error"}, set(self.expect(reply, 503)))
        self.expect(await client.call("queue_list"), 200)

    async def test_bug(self) -> None:
        """A mistake of ours is logged and answered, without its text."""
        client = await self.connect()

        def explode(*_: Any) -> None:
            raise ZeroDivisionError("secret text")

        self.patch(type(self.stores[0]), "page", explode)
        reply = await client.call("queue_list")
        body = self.expect(reply, 500)
        self.assertEqual("Unexpected error.", body["error"])
        self.assertNotIn("secret", body["exception"])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class PoolTests(WebSocketTestCase):
    """Pools and flavors."""

    has_pools = True

    async def ask(self, action: str, **body: Any) -> Any:
        """A request of an administrator; its reply."""
        return await self.clients[0].call(action, body, headers={"X-Roles": "admin"})

    def uri(self) -> str:
        """The URI of a new file of the test."""
        return f"sqlite:///{os.path.abspath(self.mktemp())}"

    async def add_pool(self, name: str) -> dict[str, Any]:
        """Make a pool that is a file of the test; what it was made with."""
        pool = {"uri": self.uri(), "weight": 5}
        reply = await self.ask("pool_create", pool_name=name, **pool)
        self.assertEqual(f"Pool {name} created.", self.expect(reply, 201))
        return pool

    async def test_pools(self) -> None:
        """A pool can be made, shown, changed and removed."""
        await self.connect()
        made = await self.add_pool("p")
        reply = await self.ask("pool_get", pool_name="p")
        shown = {"name": "p", "flavor": None, **made}
        self.assertEqual(shown, self.expect(reply, 200))
        reply = await self.ask("pool_list", detailed=True)
        page = self.expect(reply, 200)
        self.assertEqual([{**shown, "options": {}}], page["pools"])
        self.assertEqual("p", page["marker"])
        reply = await self.ask("pool_update", pool_name="p", weight=7)
        self.assertEqual(7, self.expect(reply, 200)["weight"])
        reply = await self.ask("pool_get_detail", pool_name="p")
        self.assertEqual({}, self.expect(reply, 200)["options"])
        self.expect(await self.ask("pool_delete", pool_name="p"), 204)
        self.expect(await self.ask("pool_get", pool_name="p"), 404)

    async def test_flavors(self) -> None:
        """A flavor can be made, shown to everybody, changed and removed."""
        client = await self.connect()
        for name in ("p", "o"):
            await self.add_pool(name)
        flavor = {"flavor_name": "f", "pool_list": ["p"]}
        self.expect(await self.ask("flavor_create", **flavor), 201)
        reply = await client.call("flavor_get", {"flavor_name": "f"})
        self.assertEqual(["p"], self.expect(reply, 200)["pool_list"])
        changed = {**flavor, "pool_list": ["o", "p"]}
        reply = await self.ask("flavor_update", **changed)
        self.assertEqual(["o", "p"], self.expect(reply, 200)["pool_list"])
        page = self.expect(await client.call("flavor_list"), 200)
        self.assertEqual([{"name": "f", "pool_list": ["o", "p"]}], page["flavors"])
        self.expect(await self.ask("flavor_delete", flavor_name="f"), 204)
        self.expect(await self.ask("flavor_get", flavor_name="f"), 404)

    async def test_administrators_only(self) -> None:
        """Everybody else is refused."""
        client = await self.connect()
        for action, body in (
            ("pool_list", {}),
            ("pool_get", {"pool_name": "p"}),
            ("flavor_delete", {"flavor_name": "f"}),
        ):
            self.expect(await client.call(action, body), 403)

    async def test_pushes(self) -> None:
        """Messages that live in a pool are pushed like others."""
        client = await self.connect()
        await self.add_pool("p")
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        await self.post("q", "x")
        self.assertEqual("x", (await client.received())["body"])


class PolicyTests(WebSocketTestCase):
    """Rules of the policy."""

    rules = {"messages:create": "role:producer"}  # noqa: RUF012

    async def test_rule(self) -> None:
        """Who may not do something is told so, and by which rule."""
        client = await self.connect()
        body = {"queue_name": "q", "messages": [{"body": 1}]}
        refused = self.expect(await client.call("message_post", body), 403)
        self.assertIn("messages:create", refused["error"])
        roles = {"X-Roles": "Producer"}
        self.expect(await client.call("message_post", body, headers=roles), 201)


class QuotaTests(WebSocketTestCase):
    """What a project may use."""

    quotas = QuotaLimits(max_connections=3, messages_per_second=1)

    async def test_connections(self) -> None:
        """A connection too many is told so and closed; another project has room."""
        for _ in range(2):
            client = await self.connect()
            self.expect(await client.call("queue_list"), 200)
        client = await self.connect()
        # The request counts as well as its connection.
        self.expect(await client.call("queue_list"), 429)
        late = await self.connect()
        self.expect(await late.call("queue_list"), 429)
        self.assertEqual(4101, (await late.gone)[0])
        other = await self.connect()
        reply = await other.call("queue_list", headers={"X-Project-ID": "p2"})
        self.expect(reply, 200)

    async def test_ended(self) -> None:
        """A connection that ended makes room, whether it was closed or broke."""
        first, second, third = [await self.connect() for _ in range(3)]
        for client, status in ((first, 200), (second, 200), (third, 429)):
            self.expect(await client.call("queue_list"), status)
        first.sendClose()
        await self.served(third)
        fourth = await self.connect()
        self.expect(await fourth.call("queue_list"), 429)
        second.hang_up()
        await self.served(fourth)

    async def served(self, client: Client) -> None:
        """Fail unless a client is served as soon as the server sees who left."""
        for _ in range(MOST_TRIES):
            reply = await client.call("queue_list")
            if reply["headers"]["status"] == 200:
                return
        self.fail("the connection that ended still counts")

    async def test_all_transports(self) -> None:
        """Connections count together with requests that come by HTTP."""
        for _ in range(2):
            self.expect(await (await self.connect()).call("queue_list"), 200)
        self.records.quotas.connect(PROJECT)
        with self.assertRaises(QuotaExceeded):
            self.records.quotas.connect(PROJECT)

    async def test_rate(self) -> None:
        """Who posts too fast is told when to try again."""
        client = await self.connect()
        body = {"queue_name": "q", "messages": [{"body": 1}] * 5}
        self.expect(await client.call("message_post", body), 201)
        refused = self.expect(await client.call("message_post", body), 429)
        self.assertGreater(refused["retry_after"], 0)


class VolumeTests(WebSocketTestCase):
    """How much a project may keep."""

    quotas = QuotaLimits(max_stored_bytes=100)

    async def test_full(self) -> None:
        """Who would keep too much is told what to do, and when to try again."""
        client = await self.connect()
        body = {"queue_name": "q", "messages": [{"body": "x" * 98}]}
        self.expect(await client.call("message_post", body), 201)
        refused = self.expect(await client.call("message_post", body), 429)
        self.assertEqual(2, refused["retry_after"])
        self.assertIn("keeps 100 bytes", refused["error"])
        self.expect(await client.call("queue_delete", {"queue_name": "q"}), 204)
        self.clock.advance(2)
        self.expect(await client.call("message_post", body), 201)
