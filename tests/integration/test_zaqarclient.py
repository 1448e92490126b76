"""python-zaqarclient, through its public interface, against a real server."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.live import missing, shared_server

try:
    from zaqarclient.queues import client as zaqarclient
    from zaqarclient.transport import errors
except ImportError:
    zaqarclient = None

SUBSCRIBER = "http://hooks.example.org/{}"


class ZaqarClientCase(SynchronousTestCase):
    """Each test is a tenant of its own on one shared server."""

    def setUp(self) -> None:
        """Connect a client and name a queue."""
        if zaqarclient is None:
            missing("python-zaqarclient", "install the project with its extra 'test'")
        self.url = shared_server("--set", "signed_url.secret_key=integration").url
        self.client = self.connect("noauth", {})
        self.queue = self.client.queue("work")

    def connect(self, backend: str, options: dict[str, Any]) -> Any:
        """A client of this test's project with a new Client-ID."""
        options = {"os_project_id": self.id(), **options}
        auth = {"backend": backend, "options": options}
        return zaqarclient.Client(self.url, 2, conf={"auth_opts": auth})

    def post(self, *bodies: Any) -> list[str]:
        """Post messages; their ids."""
        posted = self.queue.post([{"body": body, "ttl": 300} for body in bodies])
        return [href.rpartition("/")[2] for href in posted["resources"]]


class ServiceTests(ZaqarClientCase):
    """What belongs to no queue."""

    def test_ping(self) -> None:
        """The server answers a ping."""
        self.assertTrue(self.client.ping())

    def test_home_document(self) -> None:
        """The home document names the relations."""
        self.assertIn("rel/queues", self.client.homedoc()["resources"])

    def test_health_is_for_administrators(self) -> None:
        """Without the admin mode there is no health document."""
        self.assertRaises(errors.ResourceNotFound, self.client.health)


class QueueTests(ZaqarClientCase):
    """Queues and their metadata."""

    def test_create_and_delete(self) -> None:
        """A queue exists after it was created and not after it was deleted."""
        self.queue.ensure_exists(force_create=True)
        self.assertTrue(self.queue.exists())
        self.assertEqual([queue.name for queue in self.client.queues()[0]], ["work"])
        self.queue.delete()
        self.assertEqual(list(self.client.queues()[0]), [])

    def test_metadata_has_reserved_keys(self) -> None:
        """A queue without metadata shows the reserved keys with their defaults."""
        self.queue.ensure_exists(force_create=True)
        self.assertEqual(
            self.queue.metadata(),
            {
                "_max_messages_post_size": 262144,
                "_default_message_ttl": 3600,
                "_default_message_delay": 0,
                "_dead_letter_queue": None,
                "_dead_letter_queue_messages_ttl": None,
                "_max_claim_count": None,
                "_enable_encrypt_messages": False,
            },
        )

    def test_set_metadata(self) -> None:
        """Metadata is added, replaced and removed, reserved keys included."""
        self.queue.ensure_exists(force_create=True)
        self.queue.metadata(new_meta={"team": "a", "_default_message_ttl": 100})
        self.queue.metadata(new_meta={"team": "b", "color": "red"})
        metadata = self.queue.metadata(force_reload=True)
        self.assertEqual(metadata["team"], "b")
        self.assertEqual(metadata["color"], "red")
        self.assertEqual(metadata["_default_message_ttl"], 3600)
        metadata = self.queue.metadata(new_meta={})
        self.assertNotIn("team", metadata)

    def test_refused_metadata(self) -> None:
        """A reserved key out of its bounds is refused, and nothing changes."""
        self.queue.ensure_exists(force_create=True)
        with self.assertRaises(errors.MalformedRequest):
            self.queue.metadata(new_meta={"_default_message_ttl": 1})
        metadata = self.queue.metadata(force_reload=True)
        self.assertEqual(metadata["_default_message_ttl"], 3600)

    def test_list_by_pages(self) -> None:
        """The iterator follows the next links to the end, in the order of names."""
        names = [f"q{number}" for number in range(7)]
        for name in names:
            self.client.queue(name, force_create=True)
        queues, count = self.client.queues(limit=3, detailed=True, with_count=True)
        listed = list(queues.stream())
        self.assertEqual([queue.name for queue in listed], names)
        self.assertEqual(count, 7)
        self.assertEqual(listed[6].metadata()["_default_message_ttl"], 3600)

    def test_stats(self) -> None:
        """The statistics count free and claimed messages."""
        oldest, _, newest = self.post(1, 2, 3)
        self.queue.claim(ttl=60, grace=60, limit=1)
        stats = self.queue.stats["messages"]
        self.assertEqual((stats["free"], stats["claimed"], stats["total"]), (2, 1, 3))
        self.assertTrue(stats["oldest"]["href"].endswith(oldest))
        self.assertTrue(stats["newest"]["href"].endswith(newest))

    def test_purge_messages(self) -> None:
        """Messages can be purged without the subscriptions."""
        self.post(1, 2)
        self.client.subscription("work", subscriber=SUBSCRIBER.format("a"))
        self.queue.purge(resource_types=["messages"])
        self.assertEqual(self.queue.stats["messages"]["total"], 0)
        self.assertEqual(len(list(self.queue.subscriptions())), 1)

    def test_purge_all(self) -> None:
        """Without resource types everything is purged."""
        self.post(1, 2)
        self.client.subscription("work", subscriber=SUBSCRIBER.format("a"))
        self.queue.purge()
        self.assertEqual(self.queue.stats["messages"]["total"], 0)
        self.assertEqual(list(self.queue.subscriptions()), [])


class MessageTests(ZaqarClientCase):
    """Messages without claims."""

    def test_post_and_get(self) -> None:
        """A message comes back as it was posted."""
        body = {"event": "größer", "numbers": [1, 2.5, None, True]}
        message = self.queue.message(self.post(body)[0])
        self.assertEqual(message.body, body)
        self.assertEqual(message.ttl, 300)
        self.assertIsNone(message.claim_id)

    def test_unknown_message(self) -> None:
        """A message that does not exist is reported as such."""
        self.assertRaises(errors.ResourceNotFound, self.queue.message, "unknown")

    def test_refused_post(self) -> None:
        """A ttl below the least is refused."""
        with self.assertRaises(errors.MalformedRequest):
            self.queue.post({"body": 1, "ttl": 1})

    def test_list_by_pages(self) -> None:
        """The iterator follows the next links to the last message, in order."""
        self.post(*range(25))
        messages = self.queue.messages(echo=True, limit=10).stream()
        self.assertEqual([message.body for message in messages], list(range(25)))

    def test_own_messages_are_hidden(self) -> None:
        """Without echo a client sees only what others posted."""
        self.post("mine")
        other = self.connect("noauth", {}).queue("work")
        other.post({"body": "theirs", "ttl": 300})
        self.assertEqual(
            [message.body for message in self.queue.messages()], ["theirs"]
        )

    def test_tenants_are_apart(self) -> None:
        """Another project sees an empty queue of the same name."""
        self.post("mine")
        stranger = self.connect("noauth", {"os_project_id": f"{self.id()}-other"})
        self.assertEqual(list(stranger.queue("work").messages(echo=True)), [])

    def test_get_by_ids(self) -> None:
        """Several messages are fetched by their ids."""
        first, _, third = self.post("a", "b", "c")
        messages = self.queue.messages(first, third)
        self.assertEqual({message.body for message in messages}, {"a", "c"})

    def test_delete(self) -> None:
        """A deleted message is gone."""
        (message_id,) = self.post(1)
        self.queue.message(message_id).delete()
        self.assertRaises(errors.ResourceNotFound, self.queue.message, message_id)

    def test_delete_by_ids(self) -> None:
        """Several messages are deleted by their ids, the others stay."""
        first, _, third = self.post("a", "b", "c")
        self.queue.delete_messages(first, third)
        bodies = [message.body for message in self.queue.messages(echo=True)]
        self.assertEqual(bodies, ["b"])

    def test_pop(self) -> None:
        """Popped messages are the oldest ones, and are gone."""
        self.post("a", "b", "c")
        popped = list(self.queue.pop(2))
        self.assertEqual([message.body for message in popped], ["a", "b"])
        self.assertEqual(self.queue.stats["messages"]["total"], 1)


class ClaimTests(ZaqarClientCase):
    """Messages under claims."""

    def test_claim(self) -> None:
        """A claim holds the oldest messages, which carry its id."""
        self.post("a", "b", "c")
        claim = self.queue.claim(ttl=100, grace=60, limit=2)
        messages = list(claim)
        self.assertEqual([message.body for message in messages], ["a", "b"])
        self.assertEqual({message.claim_id for message in messages}, {claim.id})

    def test_claim_with_defaults(self) -> None:
        """A claim without ttl and grace, which are then sent as null, is made."""
        self.post("a")
        claim = self.queue.claim()
        self.assertEqual([message.body for message in claim], ["a"])
        self.assertEqual(self.queue.claim(id=claim.id).ttl, 300)

    def test_nothing_to_claim(self) -> None:
        """A claim on an empty queue holds nothing and has no id."""
        claim = self.queue.claim(ttl=100, grace=60)
        self.assertEqual(list(claim), [])
        self.assertIsNone(claim.id)

    def test_read_again(self) -> None:
        """A claim can be read by its id."""
        self.post("a")
        made = self.queue.claim(ttl=100, grace=60)
        read = self.queue.claim(id=made.id)
        self.assertEqual([message.body for message in read], ["a"])
        self.assertEqual(read.ttl, 100)
        self.assertLess(read.age, 60)

    def test_update(self) -> None:
        """An updated claim has the new ttl."""
        self.post("a")
        claim = self.queue.claim(ttl=100, grace=60)
        claim.update(ttl=200, grace=60)
        self.assertEqual(self.queue.claim(id=claim.id).ttl, 200)

    def test_delete_message_with_claim(self) -> None:
        """The holder of a claim deletes a message of it."""
        self.post("a", "b")
        claim = self.queue.claim(ttl=100, grace=60)
        next(iter(claim)).delete()
        self.assertEqual(
            [message.body for message in self.queue.claim(id=claim.id)], ["b"]
        )

    def test_delete_without_claim(self) -> None:
        """A claimed message cannot be deleted without the claim."""
        (message_id,) = self.post("a")
        unclaimed = self.queue.message(message_id)
        self.queue.claim(ttl=100, grace=60)
        self.assertRaises(errors.ForbiddenError, unclaimed.delete)

    def test_claimed_messages_in_lists(self) -> None:
        """Claimed messages are listed only when asked for."""
        self.post("a")
        self.queue.claim(ttl=100, grace=60)
        self.assertEqual(list(self.queue.messages(echo=True)), [])
        listed = self.queue.messages(echo=True, include_claimed=True)
        self.assertEqual([message.body for message in listed], ["a"])

    def test_release(self) -> None:
        """The messages of a released claim can be claimed again."""
        self.post("a")
        released = self.queue.claim(ttl=100, grace=60)
        released.delete()
        self.assertEqual([message.body for message in self.queue.claim()], ["a"])
        gone = self.queue.claim(id=released.id)
        self.assertRaises(errors.ResourceNotFound, list, gone)


class SubscriptionTests(ZaqarClientCase):
    """Records of subscribers."""

    def subscribe(self, name: str, **options: Any) -> Any:
        """A subscription of the queue."""
        return self.client.subscription(
            "work", subscriber=SUBSCRIBER.format(name), **options
        )

    def test_create(self) -> None:
        """A new subscription is read back with what was given."""
        made = self.subscribe("a", ttl=600, options={"post_headers": {"X": "1"}})
        read = self.client.subscription("work", id=made.id)
        self.assertEqual(read.subscriber, SUBSCRIBER.format("a"))
        self.assertEqual(read.ttl, 600)
        self.assertEqual(read.options, {"post_headers": {"X": "1"}})

    def test_same_subscriber(self) -> None:
        """A second subscription of the same subscriber is the first one."""
        self.assertEqual(self.subscribe("a").id, self.subscribe("a").id)

    def test_list_by_pages(self) -> None:
        """The iterator follows the next links to the end."""
        made = [self.subscribe(str(number)).id for number in range(5)]
        listed = self.queue.subscriptions(limit=2).stream()
        self.assertEqual(sorted(each.id for each in listed), sorted(made))

    def test_update(self) -> None:
        """A subscription takes a new subscriber and ttl."""
        subscription = self.subscribe("a")
        subscription.update({"subscriber": SUBSCRIBER.format("b"), "ttl": 700})
        read = self.client.subscription("work", id=subscription.id)
        self.assertEqual((read.subscriber, read.ttl), (SUBSCRIBER.format("b"), 700))

    def test_delete(self) -> None:
        """A deleted subscription is gone."""
        self.subscribe("a").delete()
        self.assertEqual(list(self.queue.subscriptions()), [])


class SignedUrlTests(ZaqarClientCase):
    """Clients that have nothing but a signed URL."""

    def signed(self, **permission: Any) -> Any:
        """A client that uses what the queue's owner shared."""
        return self.connect("signed-url", self.queue.signed_url(**permission))

    def test_share(self) -> None:
        """The document of a share holds all that a client needs."""
        shared = self.queue.signed_url(
            paths=["messages"], ttl_seconds=600, methods=["GET", "POST"]
        )
        self.assertEqual(shared["paths"], ["/v2/queues/work/messages"])
        self.assertEqual(shared["methods"], ["GET", "POST"])
        self.assertEqual(shared["project"], self.id())
        self.assertIn("signature", shared)

    def test_allowed(self) -> None:
        """What was shared can be done."""
        self.post("a")
        signed = self.signed(
            paths=["messages"], ttl_seconds=600, methods=["GET", "POST"]
        ).queue("work")
        signed.post({"body": "b", "ttl": 300})
        bodies = [message.body for message in signed.messages(echo=True)]
        self.assertEqual(bodies, ["a", "b"])

    def test_method_not_shared(self) -> None:
        """A method that was not shared is refused as if nothing was there."""
        (message_id,) = self.post("a")
        signed = self.signed(ttl_seconds=600).queue("work")
        message = signed.message(message_id)
        self.assertRaises(errors.ResourceNotFound, message.delete)

    def test_other_queue(self) -> None:
        """A queue that was not shared is refused."""
        signed = self.signed(paths=["messages"], ttl_seconds=600)
        with self.assertRaises(errors.ResourceNotFound):
            signed.queue("other").messages()
