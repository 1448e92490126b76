"""Subscriptions: what is accepted, what a change keeps, and changes that meet."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from mqsvc.messaging.audience import Audience
from mqsvc.messaging.errors import (
    Conflict,
    InvalidBody,
    InvalidRequest,
    SubscriptionDoesNotExist,
    UnusableSubscription,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import JsonObject, Kind, Subscription
from mqsvc.messaging.subscription_options import shown
from mqsvc.storage.ids import format_id
from tests.messaging.case import EPOCH, NOW, OTHER, QUEUE, OperationsTestCase

HOOK = "http://example.org/hook"
UNKNOWN = format_id(1, 2)

LAST_SECOND = 253_402_300_799
"""The last one of the year 9999."""


class SubscriptionTestCase(OperationsTestCase):
    """Operations on subscriptions."""

    def setUp(self) -> None:
        """Give the operations a short name."""
        super().setUp()
        self.subscriptions = self.operations.subscriptions

    def subscribe(self, subscriber: str = HOOK, **document: Any) -> Subscription:
        """A new subscription, or the one there is."""
        document["subscriber"] = subscriber
        return self.done(self.subscriptions.create(QUEUE, document))

    def get(self, subscription_id: str) -> Subscription:
        """A subscription as it is stored."""
        return self.done(self.subscriptions.get(QUEUE, subscription_id))

    def confirm(self, subscription_id: str, confirmed: bool = True) -> None:
        """The subscriber agrees, or not any more."""
        document = {"confirmed": confirmed}
        self.done(self.subscriptions.confirm(QUEUE, subscription_id, document))


class AudienceTests(SubscriptionTestCase):
    """Who is told of what is posted, when a subscription becomes another one."""

    def test_connection_becomes_a_webhook(self) -> None:
        """A change of subscriber is known at once to those who post."""
        limits = Limits(subscriber_types=("http", "websocket"))
        self.limits = limits  # type: ignore[misc]
        self.over(self.management, self.messages)
        audience = Audience(self.management, lambda: NOW, self.bus)
        made = self.done(
            self.operations.subscriptions.create(QUEUE, {"subscriber": "websocket:1"})
        )
        self.assertFalse(self.done(audience.listens(QUEUE)))
        change = {"subscriber": HOOK}
        self.done(self.operations.subscriptions.update(QUEUE, made.id, change))
        self.assertTrue(self.done(audience.listens(QUEUE)))

    def test_deleted(self) -> None:
        """When the last one unsubscribes, those who post know that nobody listens."""
        audience = Audience(self.management, lambda: NOW, self.bus)
        made = self.subscribe()
        self.assertTrue(self.done(audience.listens(QUEUE)))
        self.done(self.subscriptions.delete(QUEUE, made.id))
        self.assertFalse(self.done(audience.listens(QUEUE)))


class CreateTests(SubscriptionTestCase):
    """New subscriptions."""

    def test_defaults(self) -> None:
        """Only a subscriber is needed; the queue is made."""
        made = self.subscribe()
        self.assertEqual(made, self.get(made.id))
        self.assertEqual(
            (QUEUE, HOOK, 3600, NOW, {}, False),
            (
                *(made.destination, made.subscriber, made.ttl),
                *(made.created, made.options, made.confirmed),
            ),
        )
        self.assertEqual(1, self.done(self.operations.queues.count("p1", Kind.QUEUE)))

    def test_ids_sort_by_creation(self) -> None:
        """Later subscriptions have greater ids."""
        ids = []
        for number in range(5):
            ids.append(self.subscribe(f"{HOOK}/{number}").id)
            self.clock.advance(1)
        self.assertEqual(sorted(ids), ids)

    def test_duplicate(self) -> None:
        """Subscribing again gives the same one back, unchanged."""
        made = self.subscribe(ttl=100)
        self.assertEqual(made, self.subscribe(ttl=200, options={"a": 1}))

    def test_confirmed_duplicate(self) -> None:
        """A subscriber that has agreed already is a conflict."""
        self.confirm(self.subscribe().id)
        document = {"subscriber": HOOK}
        self.fails(Conflict, self.subscriptions.create(QUEUE, document))

    def test_subscribers(self) -> None:
        """The scheme counts, in any case, and nothing behind it."""
        for subscriber in (
            "http:",
            "HTTPS://x",
            "mailto:a@b?subject=c",
            "trust+http://x",
        ):
            self.assertEqual(subscriber, self.subscribe(subscriber).subscriber)
        for subscriber in (
            *("ftp://x", "http", "//x", ":", " http://x", "1http://x", "trust http:x"),
            *("", None, 5, ["http://x"], {}),
        ):
            document = {"subscriber": subscriber}
            self.fails(InvalidRequest, self.subscriptions.create(OTHER, document))

    def test_length_of_subscribers(self) -> None:
        """A subscriber has up to 2,000 characters, new or changed."""
        longest = HOOK.ljust(2000, "x")
        made = self.subscribe(longest)
        self.assertEqual(longest, made.subscriber)
        document = {"subscriber": f"{longest}x"}
        for refused in (
            self.subscriptions.create(OTHER, document),
            self.subscriptions.update(QUEUE, made.id, document),
        ):
            error = self.fails(InvalidRequest, refused)
            self.assertIn("longer than 2000 characters", error.description)

    def test_ttl(self) -> None:
        """A ttl is from a minute to the end of the year 9999."""
        most = LAST_SECOND - EPOCH
        for ttl in (60, most):
            self.assertEqual(ttl, self.subscribe(f"{HOOK}/{ttl}", ttl=ttl).ttl)
        for ttl in (59, 0, -1, most + 1, None, "60", 60.0, True):
            document = {"subscriber": HOOK, "ttl": ttl}
            self.fails(InvalidRequest, self.subscriptions.create(OTHER, document))

    def test_options(self) -> None:
        """Options are an object or nothing; of them the retry policy is checked."""
        for options in ({}, {"a": [1]}, {"_retry_policy": {"minimum_delay": 5}}):
            made = self.subscribe(f"{HOOK}/{options}", options=options)
            self.assertEqual(options, made.options)
        self.assertEqual({}, self.subscribe(options=None).options)
        for options in ([], "x", 0, {"_retry_policy": {"minimum_delay": 0}}):
            document = {"subscriber": HOOK, "options": options}
            self.fails(InvalidRequest, self.subscriptions.create(OTHER, document))

    def test_refused(self) -> None:
        """What is refused makes no queue."""
        for document in (None, [], "x", {}, {"ttl": 60}):
            self.fails(InvalidBody, self.subscriptions.create(QUEUE, document))
        self.assertEqual([], self.management.calls)

    def test_own_fields_only(self) -> None:
        """A client cannot set what is not its own."""
        made = self.subscribe(confirmed=True, id=UNKNOWN, source="other", created=0)
        self.assertEqual((False, NOW), (made.confirmed, made.created))
        self.assertNotEqual(UNKNOWN, made.id)

    def test_other_schemes(self) -> None:
        """Which schemes there are is a matter of configuration."""
        self.limits = Limits(subscriber_types=("gopher",))
        self.over(self.management, self.messages)
        subscriptions = self.operations.subscriptions
        self.done(subscriptions.create(QUEUE, {"subscriber": "gopher://x"}))
        error = self.fails(
            InvalidRequest, subscriptions.create(QUEUE, {"subscriber": HOOK})
        )
        self.assertIn("must be supported in the list gopher", error.description)


class UpdateTests(SubscriptionTestCase):
    """Changes of subscriptions."""

    def setUp(self) -> None:
        """Have a confirmed subscription of some age."""
        super().setUp()
        made = self.subscribe(options={"a": 1})
        self.made_id = made.id
        self.confirm(self.made_id)
        self.clock.advance(10)

    def update(self, **document: Any) -> Subscription:
        """The subscription after a change."""
        self.done(self.subscriptions.update(QUEUE, self.made_id, document))
        return self.get(self.made_id)

    def test_ttl(self) -> None:
        """A new ttl counts from now."""
        changed = self.update(ttl=100)
        self.assertEqual((100, NOW + 10_000), (changed.ttl, changed.created))
        self.assertEqual(({"a": 1}, True), (changed.options, changed.confirmed))

    def test_options(self) -> None:
        """New options replace the old, and the time goes on."""
        changed = self.update(options={"b": 2})
        self.assertEqual(({"b": 2}, NOW), (changed.options, changed.created))
        self.assertTrue(changed.confirmed)

    def test_subscriber(self) -> None:
        """A new subscriber has not agreed yet; the old one named again has."""
        self.assertTrue(self.update(subscriber=HOOK).confirmed)
        changed = self.update(subscriber="http://other")
        self.assertEqual(
            ("http://other", False), (changed.subscriber, changed.confirmed)
        )

    def test_nulls(self) -> None:
        """Null beside a change means no change; alone it is none."""
        self.assertEqual(HOOK, self.update(subscriber=None, ttl=100).subscriber)
        for document in ({}, {"ttl": None}, {"other": 1}):
            error = self.fails(
                UnusableSubscription,
                self.subscriptions.update(QUEUE, self.made_id, document),
            )
            self.assertEqual("Unable to update subscription", error.title)

    def test_fixed(self) -> None:
        """What cannot be changed is refused, whatever else is changed."""
        for name in ("source", "queue", "project", "subscription_id"):
            document = {name: "x", "ttl": 100}
            self.fails(
                UnusableSubscription,
                self.subscriptions.update(QUEUE, self.made_id, document),
            )
        self.assertEqual(3600, self.get(self.made_id).ttl)

    def test_refused(self) -> None:
        """Values are checked as for a new one."""
        for document in ([], None, "x"):
            error = self.fails(
                InvalidBody, self.subscriptions.update(QUEUE, self.made_id, document)
            )
            self.assertEqual("Subscriptions must be a dict.", error.description)
        for document in ({"ttl": 59}, {"subscriber": "x"}, {"options": []}):
            self.fails(
                InvalidRequest, self.subscriptions.update(QUEUE, self.made_id, document)
            )

    def test_subscriber_of_another(self) -> None:
        """Two subscriptions of a queue cannot have one subscriber."""
        self.subscribe("http://other")
        document = {"subscriber": "http://other"}
        self.fails(Conflict, self.subscriptions.update(QUEUE, self.made_id, document))

    def test_missing(self) -> None:
        """What is unknown, expired or of another queue cannot be changed."""
        document = {"ttl": 60}
        self.fails(
            SubscriptionDoesNotExist,
            self.subscriptions.update(OTHER, self.made_id, document),
        )
        self.fails(
            SubscriptionDoesNotExist,
            self.subscriptions.update(QUEUE, UNKNOWN, document),
        )
        self.clock.advance(3590)
        self.fails(
            SubscriptionDoesNotExist,
            self.subscriptions.update(QUEUE, self.made_id, document),
        )

    def test_confirm(self) -> None:
        """Agreement is given and taken back; nothing else changes."""
        before = self.get(self.made_id)
        self.confirm(self.made_id, confirmed=False)
        self.assertFalse(self.get(self.made_id).confirmed)
        self.confirm(self.made_id)
        self.assertEqual(before, self.get(self.made_id))

    def test_refused_confirmation(self) -> None:
        """Agreement is true or false."""
        for document in (None, [], {}, {"confirmed": 1}, {"confirmed": None}, "true"):
            error = self.fails(
                UnusableSubscription,
                self.subscriptions.confirm(QUEUE, self.made_id, document),
            )
            self.assertEqual("The 'confirmed' should be boolean.", error.description)

    def test_confirmation_beside_a_change(self) -> None:
        """A confirmation that overlaps a change does not undo it."""
        answer = self.management.hold_answer("subscription")
        document = {"confirmed": True}
        confirming = self.start(
            self.subscriptions.confirm(QUEUE, self.made_id, document)
        )
        self.update(subscriber="http://other")
        answer.callback(None)
        self.successResultOf(confirming)
        self.assertEqual("http://other", self.get(self.made_id).subscriber)

    def test_no_end_of_changes(self) -> None:
        """Who is overtaken again and again gives up with a conflict."""
        answer = self.management.hold_answer("subscription")
        document = {"confirmed": False}
        confirming = self.start(
            self.subscriptions.confirm(QUEUE, self.made_id, document)
        )
        overtaken = 0
        while not confirming.called and overtaken < 100:
            overtaken += 1
            self.update(ttl=60 + overtaken)
            due, answer = answer, self.management.hold_answer("subscription")
            due.callback(None)
        self.assertEqual(100, overtaken)
        self.failureResultOf(confirming, Conflict)
        answer.callback(None)
        self.assertTrue(self.get(self.made_id).confirmed)

    def test_removed_meanwhile(self) -> None:
        """What is removed while it is changed stays removed."""
        answer = self.management.hold_answer("subscription")
        changing = self.start(
            self.subscriptions.update(QUEUE, self.made_id, {"ttl": 60})
        )
        self.done(self.subscriptions.delete(QUEUE, self.made_id))
        answer.callback(None)
        self.failureResultOf(changing, SubscriptionDoesNotExist)


class ListTests(SubscriptionTestCase):
    """Lists and removal."""

    def test_pages(self) -> None:
        """Ten without a limit, one to twenty with one, by id."""
        made = []
        for number in range(25):
            made.append(self.subscribe(f"{HOOK}/{number}").id)
            self.clock.advance(1)
        for limit, after, expected in (
            (None, "", made[:10]),
            (20, "", made[:20]),
            (20, made[19], made[20:]),
        ):
            page = self.done(self.subscriptions.page(QUEUE, limit, after))
            self.assertEqual(expected, [each.id for each in page])
        for limit in (0, 21):
            self.fails(InvalidRequest, self.subscriptions.page(QUEUE, limit, ""))

    def test_delete(self) -> None:
        """What is deleted is gone; what is not there is no error."""
        made = self.subscribe()
        for _ in range(2):
            self.done(self.subscriptions.delete(QUEUE, made.id))
            self.fails(SubscriptionDoesNotExist, self.subscriptions.get(QUEUE, made.id))


class Asked:
    """Subscribers that are all accepted, with a note of what was asked of them."""

    def __init__(self) -> None:
        self.tokens: list[str | None] = []
        self.invited: list[Subscription] = []
        self.left: list[Subscription] = []

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`mqsvc.messaging.subscribers.Subscribers`."""

    async def entitle(self, wanted: Subscription, token: str | None) -> Subscription:
        """Give a right to those that have none and are of a user."""
        self.tokens.append(token)
        if token is None or "trust_id" in wanted.options:
            return wanted
        number = len(self.tokens)
        return evolve(wanted, options={**wanted.options, "trust_id": f"t{number}"})

    async def invite(self, subscription: Subscription) -> None:
        """See :class:`mqsvc.messaging.subscribers.Subscribers`."""
        self.invited.append(subscription)

    async def farewell(self, subscription: Subscription) -> None:
        """See :class:`mqsvc.messaging.subscribers.Subscribers`."""
        self.left.append(subscription)


class AskedTestCase(SubscriptionTestCase):
    """Operations that ask subscribers."""

    def setUp(self) -> None:
        """Write down what is asked."""
        super().setUp()
        self.asked = Asked()
        self.subscriptions = evolve(self.subscriptions, subscribers=self.asked)

    def update(
        self, subscription_id: str, token: str | None = None, **changes: Any
    ) -> Subscription:
        """Change a subscription; as it is then stored."""
        done = self.subscriptions.update(QUEUE, subscription_id, changes, token)
        self.done(done)
        return self.get(subscription_id)


class AskingTests(AskedTestCase):
    """When subscribers are asked."""

    def test_new(self) -> None:
        """A new subscriber is asked, and once more when it subscribes again."""
        made = self.subscribe()
        self.assertEqual([made], self.asked.invited)
        self.subscribe(ttl=100)
        self.assertEqual([made, made], self.asked.invited)

    def test_confirmed(self) -> None:
        """Who has agreed is not asked any more."""
        made = self.subscribe()
        self.confirm(made.id)
        self.fails(Conflict, self.subscriptions.create(QUEUE, {"subscriber": HOOK}))
        self.assertEqual(([made], []), (self.asked.invited, self.asked.left))

    def test_left(self) -> None:
        """Who leaves is told how to come back."""
        made = self.subscribe()
        self.confirm(made.id)
        self.confirm(made.id, False)
        self.assertEqual([made], self.asked.left)
        self.assertEqual(1, len(self.asked.invited))

    def test_other_subscriber(self) -> None:
        """A new subscriber of an old subscription is asked; other changes ask none."""
        made = self.subscribe()
        self.confirm(made.id)
        self.update(made.id, ttl=100)
        self.update(made.id, options={"a": 1})
        self.update(made.id, subscriber=HOOK)
        self.assertEqual(1, len(self.asked.invited))
        changed = self.update(made.id, subscriber=f"{HOOK}/other")
        self.assertFalse(changed.confirmed)
        self.assertEqual([made, changed], self.asked.invited)

    def test_hung_up(self) -> None:
        """A client that leaves while its subscription is made has it asked."""
        answer = self.management.hold_answer("subscribe")
        creating = self.start(self.subscriptions.create(QUEUE, {"subscriber": HOOK}))
        self.cancel(creating)
        answer.callback(None)
        self.assertEqual(1, len(self.asked.invited))

    def test_hung_up_on_a_change(self) -> None:
        """A client that leaves while a subscriber changes has the new one asked."""
        made = self.subscribe()
        answer = self.management.hold_answer("update_subscription")
        change = {"subscriber": f"{HOOK}/other"}
        changing = self.start(self.subscriptions.update(QUEUE, made.id, change))
        self.cancel(changing)
        answer.callback(None)
        self.assertEqual([made, self.get(made.id)], self.asked.invited)

    def test_hung_up_on_a_farewell(self) -> None:
        """A client that leaves while it unsubscribes is told how to come back."""
        made = self.subscribe()
        self.confirm(made.id)
        answer = self.management.hold_answer("update_subscription")
        document = {"confirmed": False}
        leaving = self.start(self.subscriptions.confirm(QUEUE, made.id, document))
        self.cancel(leaving)
        answer.callback(None)
        self.assertEqual([made], self.asked.left)


class HiddenTests(AskedTestCase):
    """Options that nobody can read."""

    def test_shown(self) -> None:
        """Readers see where something is hidden; the rest is shown."""
        options = {"signing_secrets": ["one", "two"], "trust_id": "t", "from": "a"}
        wanted = {"signing_secrets": ["***"] * 2, "trust_id": "***", "from": "a"}
        self.assertEqual(wanted, shown(options))
        self.assertEqual({"a": 1}, shown({"a": 1}))

    def test_sent_back(self) -> None:
        """What a reader saw and sends back stays what it was."""
        made = self.subscribe(options={"signing_secrets": ["one"], "trust_id": "t"})
        seen = shown(self.get(made.id).options)
        wanted = {"filter": {"a": ["b"]}}
        changed = self.update(made.id, options={**seen, **wanted})
        self.assertEqual({**made.options, **wanted}, changed.options)

    def test_secret_added_and_taken(self) -> None:
        """A secret can be added beside one that is hidden, and that one be left out."""
        made = self.subscribe(options={"signing_secrets": ["one"]})
        changed = self.update(made.id, options={"signing_secrets": ["***", "two"]})
        self.assertEqual(["one", "two"], changed.options["signing_secrets"])
        changed = self.update(made.id, options={"signing_secrets": ["two"]})
        self.assertEqual(["two"], changed.options["signing_secrets"])
        self.assertEqual({}, self.update(made.id, options={}).options)

    def test_nothing_hidden(self) -> None:
        """What stands for something hidden does not where nothing is."""
        made = self.subscribe()
        changed = self.update(made.id, options={"trust_id": "***"})
        self.assertEqual({}, changed.options)


class TrustTests(AskedTestCase):
    """A right that a user gave holds for what the user asked for."""

    def trusted(self) -> Subscription:
        """A subscription of a user."""
        document = {"subscriber": HOOK}
        return self.done(self.subscriptions.create(QUEUE, document, "token"))

    def test_created(self) -> None:
        """It is had with the token of the user, and kept."""
        made = self.trusted()
        self.assertEqual(["token"], self.asked.tokens)
        self.assertEqual({"trust_id": "t1"}, self.get(made.id).options)

    def test_kept(self) -> None:
        """Options that do not change what is sent leave it as it is."""
        made = self.trusted()
        options = {
            "filter": {"a": ["b"]},
            "signing_secrets": ["one"],
            "_retry_policy": {"minimum_delay": 5},
        }
        for given in (options, {**options, "trust_id": "***"}):
            changed = self.update(made.id, "other", options=given)
            self.assertEqual({**options, "trust_id": "t1"}, changed.options)

    def test_something_else_to_send(self) -> None:
        """Other data or headers take the right of who wants them sent."""
        made = self.trusted()
        for number, options in enumerate(
            ({"post_data": "x"}, {"post_data": "y"}, {"post_headers": {"a": "b"}}, {}),
            start=2,
        ):
            changed = self.update(made.id, "other", options=options)
            self.assertEqual({**options, "trust_id": f"t{number}"}, changed.options)
        changed = self.update(made.id, options={"post_data": "z", "trust_id": "***"})
        self.assertEqual({"post_data": "z"}, changed.options)

    def test_renewed(self) -> None:
        """Another subscriber, or a longer life, takes the right of who wants that."""
        made = self.trusted()
        changed = self.update(made.id, "other", subscriber=f"{HOOK}/other")
        self.assertEqual({"trust_id": "t2"}, changed.options)
        changed = self.update(made.id, "other", ttl=7200)
        self.assertEqual({"trust_id": "t3"}, changed.options)
        changed = self.update(made.id, subscriber=HOOK)
        self.assertEqual({}, changed.options)

    def test_own(self) -> None:
        """One that a client brings is used."""
        made = self.trusted()
        values = {"subscriber": f"{HOOK}/other", "options": {"trust_id": "mine"}}
        changed = self.update(made.id, "other", **values)
        self.assertEqual({"trust_id": "mine"}, changed.options)
