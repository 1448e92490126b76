"""Questions to subscribers: written down, delivered, and dropped when answered."""

from __future__ import annotations

import json
from random import Random

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from mqsvc.messaging.audience import CONNECTION
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Subscription
from mqsvc.messaging.records import Records
from mqsvc.notification import questions
from mqsvc.notification.channel import Outcome, Verdict, retry
from mqsvc.notification.confirmation import Confirmations, ConfirmationSettings
from mqsvc.notification.entries import due
from mqsvc.notification.questions import PAUSE, Questions
from mqsvc.notification.subscribers import ChannelSubscribers
from tests.messaging.stores import unlimited
from tests.notification.test_dispatcher import DispatcherTestCase


class QuestionTests(DispatcherTestCase):
    """Subscribers that have to agree, and are asked."""

    require_confirmation = True
    page = "https://a.example/confirm"

    def setUp(self) -> None:
        """Have them asked."""
        super().setUp()
        self.subscribers = self.make_subscribers(self.page)

    def make_subscribers(self, page: str) -> ChannelSubscribers:
        """Subscribers that answer mails on a page."""
        settings = ConfirmationSettings(7200, external_url=page)
        asker = Questions(
            Confirmations("for-tests-only", settings),
            self.store,
            Records(self.management, Limits(), unlimited(self.management)),
            self.now,
            Random(1).getrandbits,
            self.wake,
        )
        return ChannelSubscribers({"http": self.script}, None, asker)

    def invite(self, subscription: Subscription) -> None:
        """Ask one."""
        self.successResultOf(
            Deferred.fromCoroutine(self.subscribers.invite(subscription))
        )

    def confirm(self, subscription: Subscription) -> None:
        """It agrees."""
        agreed = evolve(subscription, confirmed=True)
        self.successResultOf(
            self.management.update_subscription(agreed, self.now(), subscription)
        )

    def types(self) -> list[str]:
        """What was told so far: questions and messages."""
        made = [json.loads(notice.content) for notice in self.script.made]
        return [content["Message_Type"] for content in made]

    def test_asked(self) -> None:
        """It is asked at once, and told nothing."""
        subscription = self.subscribe()
        self.invite(subscription)
        self.post(1)
        self.assertEqual(["SubscriptionConfirmation"], self.types())
        (notice,) = self.script.made
        self.assertIn(subscription.id, notice.delivery_id)
        self.assertEqual(0, self.left(due(None)))

    def test_two_questions(self) -> None:
        """A second question is another delivery than the first."""
        subscription = self.subscribe()
        for _ in range(2):
            self.invite(subscription)
            self.clock.advance(PAUSE / 1000)
        self.assertEqual(2, len({each.delivery_id for each in self.script.made}))

    def test_again_and_again(self) -> None:
        """Who was asked less than a minute ago is not asked the same again."""
        subscription = self.subscribe()
        for _ in range(50):
            self.invite(subscription)
            self.clock.advance(1)
        self.assertEqual(1, len(self.script.made))
        self.invite(self.subscribe("http://b/"))
        self.assertEqual(2, len(self.script.made))
        asked = self.subscribers.farewell(subscription)
        self.successResultOf(Deferred.fromCoroutine(asked))
        self.assertEqual(3, len(self.script.made))

    def test_not_written(self) -> None:
        """A question that could not be written down is asked at the next request."""
        subscription = self.subscribe()
        self.store.broken.add("post")
        invited = Deferred.fromCoroutine(self.subscribers.invite(subscription))
        self.failureResultOf(invited, StoreUnavailable)
        self.store.broken.clear()
        self.invite(subscription)
        self.assertEqual(1, len(self.script.made))

    def test_memory(self) -> None:
        """Of very many questions the oldest one is forgotten."""
        self.patch(questions, "MOST_ASKED", 2)
        asked = [self.subscribe(f"http://{name}/") for name in "abc"]
        for subscription in (*asked, asked[2], asked[0]):
            self.invite(subscription)
        self.assertEqual(4, len(self.script.made))

    def test_mail(self) -> None:
        """A mail says it in words, at each attempt."""
        self.script.outcomes = [retry("no")]
        channels = {"http": self.script, "mailto": self.script}
        self.dispatcher._deliverer = evolve(
            self.dispatcher._deliverer, channels=channels
        )
        self.invite(self.subscribe("mailto:ann@example.org"))
        self.pass_time(5)
        first, second = (notice.letter for notice in self.script.made)
        assert first is not None
        self.assertIn("https://a.example/confirm?Signature=", first.text)
        self.assertEqual(first, second)

    def test_tried_again(self) -> None:
        """A question that fails is asked again, also by the next process."""
        self.script.outcomes = [Outcome(Verdict.RETRY, 503, retry_after=20)]
        self.invite(self.subscribe())
        self.successResultOf(self.dispatcher.stopService())
        self.dispatcher = self.make_dispatcher()
        self.dispatcher.startService()
        self.pass_time(30)
        self.assertEqual(["SubscriptionConfirmation"] * 2, self.types())

    def test_answered(self) -> None:
        """A question that was answered meanwhile is not asked again."""
        self.script.outcomes = [Outcome(Verdict.RETRY, 503, retry_after=20)]
        subscription = self.subscribe()
        self.invite(subscription)
        self.confirm(subscription)
        self.pass_time(60)
        self.assertEqual(1, len(self.types()))
        self.assertEqual(0, self.left(due(None)))

    def test_left(self) -> None:
        """What waits for somebody who left meanwhile is not told."""
        subscription = self.subscribe()
        self.confirm(subscription)
        self.script.outcomes = [Outcome(Verdict.RETRY, 503, retry_after=20)]
        self.post(1)
        agreed = evolve(subscription, confirmed=True)
        self.successResultOf(
            self.management.update_subscription(subscription, self.now(), agreed)
        )
        self.pass_time(60)
        self.assertEqual(["Notification"], self.types())
        self.assertEqual(0, self.left(due(None)))

    def test_connection(self) -> None:
        """A connection asks for itself and is not asked."""
        self.invite(self.subscribe(f"{CONNECTION}1"))
        self.assertEqual(0, self.left(due(None)))

    def test_queue(self) -> None:
        """A queue of the project is nobody, and is not asked."""
        self.invite(self.subscribe("queue:b"))
        self.assertEqual(0, self.left(due(None)))

    def test_became_queue(self) -> None:
        """A question is dropped when a queue has taken the place of who was asked."""
        self.script.outcomes = [Outcome(Verdict.RETRY, 503, retry_after=20)]
        subscription = self.subscribe()
        self.invite(subscription)
        queue = evolve(subscription, subscriber="queue:b")
        self.successResultOf(
            self.management.update_subscription(queue, self.now(), subscription)
        )
        self.pass_time(60)
        self.assertEqual(1, len(self.types()))
        self.assertEqual(0, self.left(due(None)))

    def test_no_page(self) -> None:
        """Where a mail could not be answered none is sent, and the log says why."""
        self.subscribers = self.make_subscribers("")
        said: list[str] = []

        def listen(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(listen)
        self.addCleanup(globalLogPublisher.removeObserver, listen)
        self.invite(self.subscribe("mailto:ann@example.org"))
        self.assertIn("set notification.public_url", said[-1])
        self.assertEqual(0, self.left(due(None)))
        self.assertEqual([], self.script.made)
