"""Messages that are pushed to the connection that subscribed."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from mqsvc.bus.news import News
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Message, NewMessage
from mqsvc.websocket.feeds import UNSIGNALLED_EVERY, Feed
from tests.bus.recorder import Recorder
from tests.websocket.client import Client
from tests.websocket.server import EPOCH, STOP_STEP_SECONDS, WebSocketTestCase

NAMED = {"queue_name": "q"}

WEBHOOK = "http://example.org/"


class PushTestCase(WebSocketTestCase):
    """Connections that subscribe."""

    async def subscribe(
        self, client: Client, name: str = "q", binary: bool = False, **body: Any
    ) -> Any:
        """Subscribe a client to a queue; what it is told."""
        document = {"queue_name": name, **body}
        reply = await client.call("subscription_create", document, binary=binary)
        return self.expect(reply, 201)

    async def subscriber(self, name: str = "q", **body: Any) -> Client:
        """A new client that is subscribed to a queue."""
        client = await self.connect()
        await self.subscribe(client, name, **body)
        return client

    async def pushed(self, client: Client, number: int) -> list[Any]:
        """The bodies of the next notifications."""
        frames = [await client.received() for _ in range(number)]
        for frame in frames:
            self.assertEqual("Notification", frame.get("Message_Type"), frame)
        return [frame["body"] for frame in frames]

    async def at_rest(self) -> None:
        """Nothing is being read any more; what was might bring what comes next."""
        feeds = self.factory.feeds._feeds
        while any(
            reader._is_reading
            for feed, _ in feeds.values()
            for reader in (feed, *feed.pushes)
        ):
            await deferLater(reactor, STOP_STEP_SECONDS)

    async def assert_silent(self, client: Client) -> None:
        """Nothing was sent, nor will be: the next frame is a reply."""
        await self.at_rest()
        self.expect(await client.call("queue_get_stats", NAMED), 200)


class BeginningTests(PushTestCase):
    """The first frames of a subscription."""

    async def test_reply_first(self) -> None:
        """The reply comes before all messages, however long it takes to make."""
        ids = await self.post("q", 1, 2)
        client, other = await self.connect(), await self.connect()
        asked, held, look = Deferred[None](), Deferred[None](), Feed.has_gap

        async def has_gap(feed: Feed, after: str | None) -> bool:
            asked.callback(None)
            await held
            return await look(feed, after)

        self.patch(Feed, "has_gap", has_gap)
        options = {"after": ids[0]}
        subscribing = Deferred.fromCoroutine(self.subscribe(client, options=options))
        await asked
        self.factory.feeds.look_again()
        await self.assert_silent(other)
        held.callback(None)
        await subscribing
        self.assertEqual([2], await self.pushed(client, 1))


class NotificationTests(PushTestCase):
    """What is pushed, and in which form."""

    async def test_frame(self) -> None:
        """A notification has the keys that clients know, and id and age."""
        client = await self.connect()
        made = await self.subscribe(client, ttl=600)
        self.assertEqual({"subscription_id", "message"}, set(made))
        self.assertEqual("Subscription q created.", made["message"])
        (posted,) = await self.post("q", {"n": 1}, ttl=60)
        self.assertEqual(
            {
                "ttl": 60,
                "body": {"n": 1},
                "Message_Type": "Notification",
                "queue_name": "q",
                "id": posted,
                "age": 0,
            },
            await client.received(),
        )

    async def test_own_post(self) -> None:
        """Who posts gets the reply first and then the own message."""
        client = await self.subscriber()
        body = {**NAMED, "messages": [{"body": 1}, {"body": "two"}]}
        self.expect(await client.call("message_post", body), 201)
        self.assertEqual([1, "two"], await self.pushed(client, 2))

    async def test_order(self) -> None:
        """Messages of many posts come in the order in which they were accepted."""
        client = await self.subscriber()
        for number in range(100):
            await self.post("q", number)
        self.assertEqual(list(range(100)), await self.pushed(client, 100))

    async def test_large_batch(self) -> None:
        """One post of many messages is pushed whole."""
        client = await self.subscriber()
        await self.post("q", *range(150))
        self.assertEqual(list(range(150)), await self.pushed(client, 150))

    async def test_form_of_each_subscription(self) -> None:
        """A notification has the form in which its subscription was asked for."""
        client = await self.connect()
        await self.subscribe(client, "text")
        await self.subscribe(client, "binary", binary=True)
        for name, is_expected in (("text", False), ("binary", True), ("text", False)):
            await self.post(name, {"x": [1]})
            frame, is_binary = await client.frame()
            self.assertEqual(({"x": [1]}, is_expected), (frame["body"], is_binary))

    async def test_template(self) -> None:
        """A text of the subscription is put around the notification."""
        options = {"post_data": '{"wrapped": "$zaqar_message$", "k": 5}'}
        client = await self.subscriber(options=options)
        await self.post("q", "w")
        frame = await client.received()
        self.assertEqual((5, "w"), (frame["k"], frame["wrapped"]["body"]))

    async def test_template_that_is_no_json(self) -> None:
        """A text that is no JSON comes as it is, or as a string in MessagePack."""
        options = {"post_data": "hello"}
        client = await self.subscriber("text", options=options)
        await self.post("text", 1)
        self.assertEqual((b"hello", False), await client.frame())
        await self.subscribe(client, "binary", binary=True, options=options)
        await self.post("binary", 1)
        self.assertEqual(("hello", True), await client.frame())

    async def test_topic(self) -> None:
        """Topics are pushed under their own key."""
        client = await self.connect()
        reply = await client.call("subscription_create", {"topic_name": "t"})
        self.expect(reply, 201)
        body = {"topic_name": "t", "messages": [{"body": 1}]}
        await client.call("message_post", body)
        self.assertEqual("t", (await client.received())["topic_name"])

    async def test_delayed(self) -> None:
        """Delayed messages come when they are due, and the others before them."""
        client = await self.connect()
        body = {**NAMED, "metadata": {"_default_message_delay": 5}}
        await client.call("queue_create", body)
        await self.subscribe(client)
        await self.post("q", "late", delay=60)
        await self.post("q", "soon", delay=0)
        await self.post("q", "default")
        self.assertEqual(["soon"], await self.pushed(client, 1))
        await self.assert_silent(client)
        self.clock.advance(5)
        self.assertEqual(["default"], await self.pushed(client, 1))
        self.clock.advance(55)
        self.assertEqual(["late"], await self.pushed(client, 1))

    async def test_delayed_and_deleted(self) -> None:
        """What is deleted before it is due is not waited for."""
        client = await self.connect()
        body = {**NAMED, "metadata": {"_default_message_delay": 5}}
        await client.call("queue_create", body)
        await self.subscribe(client)
        ids = await self.post("q", "gone", "kept")
        await self.assert_silent(client)
        deleting = self.operations.messages.delete(self.queue("q"), ids[0], None)
        await deleting
        self.clock.advance(5)
        self.assertEqual(["kept"], await self.pushed(client, 1))
        await self.assert_silent(client)
        self.assertFalse(self.factory.feeds.open(self.queue("q")).reader.has_delayed)

    async def test_projects(self) -> None:
        """A queue of the same name in another project is another queue."""
        client = await self.subscriber()
        posting = self.operations.messages.post(
            self.queue("q", "p2"), "http", [{"body": "other"}], 0
        )
        await posting
        await self.assert_silent(client)


class LifeTests(PushTestCase):
    """When subscriptions begin and end."""

    async def listed(self, client: Client) -> list[Any]:
        """The subscriptions of the queue."""
        reply = await client.call("subscription_list", NAMED)
        return self.expect(reply, 200)["subscriptions"]

    async def test_from_now_on(self) -> None:
        """What was posted before the subscription is not pushed."""
        await self.post("q", "before")
        client = await self.subscriber()
        await self.post("q", "after")
        self.assertEqual(["after"], await self.pushed(client, 1))

    async def test_shown(self) -> None:
        """A subscription of a connection is listed like any other, and confirmed."""
        client = await self.subscriber(ttl=600)
        (shown,) = await self.listed(client)
        self.assertEqual((600, True, "q"), (shown["ttl"], shown["confirmed"], "q"))
        self.assertTrue(shown["subscriber"].startswith("websocket:"))

    async def test_duplicate(self) -> None:
        """A connection has one subscription of a queue."""
        client = await self.subscriber()
        reply = await client.call("subscription_create", NAMED)
        text = self.expect(reply, 409)
        self.assertEqual("Subscription q not created.", text)
        await self.post("q", 1)
        self.assertEqual([1], await self.pushed(client, 1))
        await self.assert_silent(client)

    async def test_deleted(self) -> None:
        """After its subscription is removed a connection gets nothing."""
        client = await self.connect()
        made = await self.subscribe(client)
        one = {**NAMED, "subscription_id": made["subscription_id"]}
        self.expect(await client.call("subscription_delete", one), 204)
        await self.post("q", "gone")
        await self.assert_silent(client)

    async def test_deleted_elsewhere(self) -> None:
        """A subscription that is removed by other ways ends within a second."""
        client = await self.connect()
        made = await self.subscribe(client)
        await self.at_rest()
        removing = self.operations.subscriptions.delete(
            self.queue("q"), made["subscription_id"]
        )
        await removing
        self.clock.advance(1)
        await self.post("q", "gone")
        await self.assert_silent(client)

    async def left_by(self, client: Client) -> list[str]:
        """The subscribers when a client has closed and all is cleared away."""
        client.sendClose()
        await client.gone
        while self.factory.in_flight():
            await deferLater(reactor, STOP_STEP_SECONDS)
        page = await self.operations.subscriptions.page(self.queue("q"), None, "")
        return [each.subscriber for each in page]

    async def test_given_away(self) -> None:
        """A subscription that gets another subscriber is pushed no more, and stays."""
        client = await self.connect()
        made = await self.subscribe(client, options={"max_inflight": 9})
        one = {**NAMED, "subscription_id": made["subscription_id"]}
        client.ask("subscription_update", {**one, "subscriber": WEBHOOK})
        ended = await client.received()
        self.assertEqual("SubscriptionEnded", ended["Message_Type"])
        self.expect(await client.received(), 204)
        await self.post("q", "for others")
        await self.assert_silent(client)
        self.assertEqual([WEBHOOK], await self.left_by(client))

    async def test_given_away_elsewhere(self) -> None:
        """So it is within a second when that was done by other ways."""
        client = await self.connect()
        made = await self.subscribe(client)
        await self.at_rest()
        await self.operations.subscriptions.update(
            self.queue("q"), made["subscription_id"], {"subscriber": WEBHOOK}
        )
        self.clock.advance(1)
        await self.post("q", "for others")
        await self.assert_silent(client)
        self.assertEqual([WEBHOOK], await self.left_by(client))

    async def test_closed_before_it_is_seen(self) -> None:
        """A client that closes leaves alone what has another subscriber by then."""
        client = await self.connect()
        made = await self.subscribe(client)
        await self.operations.subscriptions.update(
            self.queue("q"), made["subscription_id"], {"subscriber": WEBHOOK}
        )
        self.assertEqual([WEBHOOK], await self.left_by(client))

    async def test_purged(self) -> None:
        """A purge of subscriptions, and a removal of the queue, end the pushes."""
        for action in ("queue_purge", "queue_delete"):
            client = await self.subscriber()
            self.expect(await client.call(action, NAMED), 204)
            await self.post("q", "gone")
            await self.assert_silent(client)

    async def test_expired(self) -> None:
        """A subscription whose ttl is over ends, unless it was renewed."""
        client, other = await self.connect(), await self.connect()
        await self.subscribe(client, ttl=60)
        made = await self.subscribe(other, ttl=60)
        self.clock.pump([20, 20])
        body = {**NAMED, "subscription_id": made["subscription_id"], "ttl": 60}
        self.expect(await other.call("subscription_update", body), 204)
        # The clients answer the pings of that time.
        for one in (client, other):
            self.expect(await one.call("ping"), 204)
        await self.at_rest()
        self.clock.advance(20)
        await self.post("q", "late")
        self.assertEqual(["late"], await self.pushed(other, 1))
        await self.assert_silent(client)

    async def test_closed(self) -> None:
        """A connection that ends, in whatever way, takes its subscriptions with it."""
        witness = await self.connect()
        for end in ("sendClose", "hang_up"):
            client = await self.subscriber()
            self.assertEqual(1, len(await self.listed(witness)))
            getattr(client, end)()
            await client.gone
            while await self.listed(witness):
                pass
        self.assertEqual({}, self.factory.feeds._feeds)

    async def test_server_stops(self) -> None:
        """When the service stops its clients are told, and nothing of them is left."""
        client = await self.subscriber()
        self.factory.stopFactory()
        self.assertEqual(1001, (await client.gone)[0])
        while self.factory.in_flight():
            await deferLater(reactor, STOP_STEP_SECONDS)
        page = await self.operations.subscriptions.page(self.queue("q"), None, "")
        self.assertEqual([], page)


class ConsumerTests(PushTestCase):
    """Subscribers beside consumers that claim and delete."""

    async def test_claimed(self) -> None:
        """A message that is claimed is pushed all the same."""
        client = await self.subscriber()
        await self.post("q", "x")
        claiming = self.operations.claims.create(self.queue("q"), None, 1)
        await claiming
        self.assertEqual(["x"], await self.pushed(client, 1))

    async def test_handed_over(self) -> None:
        """A message that is gone from the store is pushed to those it is handed to."""
        client, queue = await self.subscriber(), self.queue("q")
        await self.post("q", "first")
        self.assertEqual(["first"], await self.pushed(client, 1))
        store, now = self.stores[1], EPOCH * 1000
        message = NewMessage(b'"gone at once"', 60)
        (made,) = await store.post(queue, [message], "http", now)
        await store.delete(queue, [made], now)
        self.factory.feeds.open(queue).signal([Message(made, message.body, 60, now)])
        self.assertEqual(["gone at once"], await self.pushed(client, 1))
        await self.post("q", "next")
        self.assertEqual(["next"], await self.pushed(client, 1))


class CrowdTests(PushTestCase):
    """Many subscribers of one queue."""

    async def test_all_together(self) -> None:
        """Whoever comes while messages come misses none and gets none twice."""
        number = 300

        async def post_all() -> None:
            for value in range(number):
                await self.post("q", value)

        async def begin(options: dict[str, Any]) -> Client:
            client = await self.connect()
            await self.subscribe(client, options=options)
            return client

        posting = Deferred.fromCoroutine(post_all())
        beginning = [
            Deferred.fromCoroutine(begin(options))
            for options in ({}, {"after": "oldest"}) * 10
        ]
        clients = [await one for one in beginning]
        await posting
        await self.post("q", number)
        for index, client in enumerate(clients):
            values = await self.pushed(client, 1)
            while values[-1] != number:
                values += await self.pushed(client, 1)
            first = 0 if index % 2 else values[0]
            self.assertEqual(list(range(first, number + 1)), values)

    async def test_deleted_at_once(self) -> None:
        """Places stay in step where messages are popped as soon as they come."""
        clients = [await self.subscriber() for _ in range(3)]
        for value in range(50):
            await self.post("q", value)
            popping = self.operations.messages.pop(self.queue("q"), 1)
            await popping
        await self.post("q", "last")
        for client in clients:
            seen = await self.pushed(client, 1)
            while seen[-1] != "last":
                seen += await self.pushed(client, 1)
            self.assertEqual(sorted(seen[:-1]), seen[:-1])


class OtherProcessTests(PushTestCase):
    """What other processes post."""

    async def setUp(self) -> None:
        """Have a link to others, and a subscriber."""
        await super().setUp()
        self.link = Recorder(shares_board=True, wants=False)
        self.operations.bus.connect(self.link)
        self.client = await self.subscriber()

    async def post_elsewhere(self, *bodies: bytes) -> None:
        """Another process posts."""
        messages = [NewMessage(body, 600) for body in bodies]
        store = self.stores[1]
        await store.post(self.queue("q"), messages, "c", EPOCH * 1000)

    async def test_order(self) -> None:
        """What others post and what is posted here come in the order of the store."""
        for number in range(10):
            await self.post_elsewhere(b"%d" % (2 * number))
            await self.post("q", 2 * number + 1)
        self.assertEqual([*range(20)], await self.pushed(self.client, 20))

    async def test_signal(self) -> None:
        """A signal of another process brings what it posted."""
        # What the subscription itself makes the feed read is over then.
        await self.assert_silent(self.client)
        await self.post_elsewhere(b"1")
        await self.assert_silent(self.client)
        self.operations.bus.hear(News([self.queue("q")]))
        self.assertEqual([1], await self.pushed(self.client, 1))

    async def test_down(self) -> None:
        """While a link is down the store is looked into each second."""
        self.link.is_up = False
        for number in range(3):
            await self.post_elsewhere(b"%d" % number)
            self.clock.advance(1)
            self.assertEqual([number], await self.pushed(self.client, 1))

    async def test_lost(self) -> None:
        """What no signal came for is found all the same, a little later."""
        await self.post_elsewhere(b"1")
        self.clock.pump([1] * UNSIGNALLED_EVERY)
        self.assertEqual([1], await self.pushed(self.client, 1))


class FailureTests(PushTestCase):
    """A store that fails for a while."""

    async def test_live(self) -> None:
        """What could not be read is pushed as soon as it can."""
        client = await self.subscriber()
        await self.post("q", "before")
        self.assertEqual(["before"], await self.pushed(client, 1))
        await self.assert_silent(client)
        store = self.stores[1]
        patched = self.patch(type(store), "page", lambda *_: fail(StoreUnavailable()))
        await self.post("q", "x")
        await self.assert_silent(client)
        patched.restore()
        self.clock.advance(1)
        self.assertEqual(["x"], await self.pushed(client, 1))

    async def test_catching_up(self) -> None:
        """So is what a client asked for that goes on from a place."""
        (place, _) = await self.post("q", "seen", "missed")
        client = await self.connect()
        store = self.stores[1]
        patched = self.patch(type(store), "page", lambda *_: fail(StoreUnavailable()))
        await self.subscribe(client, options={"after": place})
        await self.assert_silent(client)
        patched.restore()
        self.clock.advance(1)
        self.assertEqual(["missed"], await self.pushed(client, 1))

    async def test_cleanup(self) -> None:
        """A subscription that cannot be removed is left to its ttl, and logged."""
        client = await self.subscriber()
        store = self.stores[0]

        def refuse(*_: Any) -> Deferred[None]:
            return fail(StoreUnavailable())

        self.patch(type(store), "unsubscribe", refuse)
        client.hang_up()
        await client.gone
        while self.factory.in_flight():
            await deferLater(reactor, STOP_STEP_SECONDS)
        self.assertTrue(self.flushLoggedErrors(StoreUnavailable))

    async def test_leaving_early(self) -> None:
        """What is made for a client that has left meanwhile is removed."""
        client = await self.connect()
        store, waiting = self.stores[0], Deferred()
        subscribe = store.subscribe

        async def slowly(*arguments: Any) -> Any:
            made = await subscribe(*arguments)
            await waiting
            return made

        self.patch(
            type(store), "subscribe", lambda _, *a: Deferred.fromCoroutine(slowly(*a))
        )
        client.ask("subscription_create", NAMED)
        while not await self.operations.subscriptions.page(self.queue("q"), None, ""):
            pass
        client.hang_up()
        await client.gone
        while self.factory.connections:
            await deferLater(reactor, STOP_STEP_SECONDS)
        waiting.callback(None)
        while await self.operations.subscriptions.page(self.queue("q"), None, ""):
            pass
        self.assertEqual({}, self.factory.feeds._feeds)


class CreditTests(PushTestCase):
    """Clients that say how much they take, and go on where they were."""

    async def acknowledge(self, client: Client, made: Any, message_id: str) -> None:
        """Acknowledge up to a message; its reply may come behind notifications."""
        body = {**NAMED, "subscription_id": made["subscription_id"]}
        client.ask("subscription_ack", {**body, "message_id": message_id})

    async def test_max_inflight(self) -> None:
        """No more is pushed than may be unacknowledged; the rest comes later."""
        client = await self.connect()
        made = await self.subscribe(client, options={"max_inflight": 3})
        ids = await self.post("q", *range(8))
        self.assertEqual([0, 1, 2], await self.pushed(client, 3))
        await self.assert_silent(client)
        await self.acknowledge(client, made, ids[1])
        self.expect(await client.received(), 204)
        self.assertEqual([3, 4], await self.pushed(client, 2))
        await self.assert_silent(client)
        await self.acknowledge(client, made, ids[4])
        self.expect(await client.received(), 204)
        self.assertEqual([5, 6, 7], await self.pushed(client, 3))
        await self.acknowledge(client, made, ids[7])
        self.expect(await client.received(), 204)
        await self.post("q", "live again")
        self.assertEqual(["live again"], await self.pushed(client, 1))

    async def test_delayed(self) -> None:
        """A delayed message that is due waits for its turn, too."""
        client = await self.connect()
        body = {**NAMED, "metadata": {"_default_message_delay": 5}}
        await client.call("queue_create", body)
        made = await self.subscribe(client, options={"max_inflight": 1})
        await self.post("q", "late")
        (first,) = await self.post("q", "first", delay=0)
        self.assertEqual(["first"], await self.pushed(client, 1))
        await self.post("q", "third", delay=0)
        await self.assert_silent(client)
        self.clock.advance(5)
        await self.assert_silent(client)
        await self.acknowledge(client, made, first)
        frames = [await client.received() for _ in range(2)]
        bodies = [frame["body"] for frame in frames if "Message_Type" in frame]
        self.assertEqual(["late"], bodies)

    async def test_nothing_to_acknowledge(self) -> None:
        """Only a subscription of the connection with a bound is acknowledged."""
        client = await self.connect()
        made = await self.subscribe(client)
        for subscription_id in (made["subscription_id"], "x"):
            body = {**NAMED, "subscription_id": subscription_id, "message_id": "x"}
            self.expect(await client.call("subscription_ack", body), 400)

    async def test_resume(self) -> None:
        """A client goes on behind the last message that it has."""
        ids = await self.post("q", *range(50))
        client = await self.connect()
        made = await self.subscribe(client, options={"after": ids[9]})
        self.assertEqual((False, ids[9]), (made["gap"], made["position"]))
        self.assertEqual(list(range(10, 50)), await self.pushed(client, 40))
        await self.post("q", "new")
        self.assertEqual(["new"], await self.pushed(client, 1))

    async def test_oldest(self) -> None:
        """A client can begin with the oldest message that there is."""
        await self.post("q", *range(25))
        client = await self.connect()
        made = await self.subscribe(client, options={"after": "oldest"})
        self.assertFalse(made["gap"])
        self.assertEqual(list(range(25)), await self.pushed(client, 25))

    async def test_gap(self) -> None:
        """Where the place of the client is gone it is told so, and gets the rest."""
        ids = await self.post("q", "a", "b", "c")
        deleting = self.operations.messages.delete_many(self.queue("q"), ids[:2], None)
        await deleting
        client = await self.connect()
        made = await self.subscribe(client, options={"after": ids[0]})
        self.assertTrue(made["gap"])
        self.assertEqual(["c"], await self.pushed(client, 1))

    async def test_place_that_never_was(self) -> None:
        """A place beyond the end is the end, for this client and the others."""
        await self.post("q", "before")
        await self.subscriber(options={"after": "f" * 24})
        client = await self.subscriber()
        await self.post("q", "after")
        self.assertEqual(["after"], await self.pushed(client, 1))
        self.assertEqual(["after"], await self.pushed(self.clients[0], 1))

    async def test_told_of_the_end(self) -> None:
        """A client that knows the extensions is told when its subscription ends."""
        client = await self.connect()
        made = await self.subscribe(client, options={"max_inflight": 5})
        other = await self.connect()
        self.expect(await other.call("queue_purge", NAMED), 204)
        frame = await client.received()
        self.assertEqual("SubscriptionEnded", frame["Message_Type"])
        self.assertEqual(made["subscription_id"], frame["subscription_id"])
