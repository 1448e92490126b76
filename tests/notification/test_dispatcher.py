"""From a post to the attempts at telling subscribers, on real stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.errors import InvalidRequest, SubscriptionDoesNotExist
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import (
    Destination,
    JsonObject,
    Kind,
    NewMessage,
    Selection,
    Subscription,
)
from mqsvc.messaging.records import Records
from mqsvc.notification.breaker import FAILURES, FIRST_REST, Breaker
from mqsvc.notification.channel import Notice, Outcome, Verdict, retry
from mqsvc.notification.deliverer import Deliverer
from mqsvc.notification.deliveries import Deliveries, Report
from mqsvc.notification.dispatcher import INTERVAL, LEASE_SECONDS, Dispatcher
from mqsvc.notification.entries import due, given_up, history, outbox
from mqsvc.notification.history import MOST_SHOWN, TRIM_EVERY, History
from mqsvc.notification.lanes import Lanes
from mqsvc.notification.outbox import Outbox
from mqsvc.notification.places import MOST_OF_ONE
from mqsvc.notification.webhook import ATTEMPT_SECONDS
from tests.messaging.stores import (
    Watched,
    open_management,
    open_messages,
    unlimited,
)

EPOCH = 1_800_000_000
QUEUE = Destination("p", Kind.QUEUE, "q")
HISTORY_TIME = 3600
DELIVERED = Outcome(Verdict.DELIVERED, 200)


class Script:
    """A channel that answers as told, and holds back where it is told to.

    :ivar outcomes: what the next attempts come to; after that they succeed.
    :ivar made: the attempts so far.
    """

    schemes = ("http", "https")

    def __init__(self) -> None:
        self.outcomes: list[Outcome | Deferred[Outcome]] = []
        self.made: list[Notice] = []

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`mqsvc.notification.channel.Channel`."""

    async def deliver(self, notice: Notice) -> Outcome:
        """See :class:`mqsvc.notification.channel.Channel`."""
        self.made.append(notice)
        outcome = self.outcomes.pop(0) if self.outcomes else DELIVERED
        return outcome if isinstance(outcome, Outcome) else await outcome


class DispatcherTestCase(SynchronousTestCase):
    """An outbox and a dispatcher over real stores, in the hands of the test."""

    require_confirmation = False

    def setUp(self) -> None:
        """Start with empty stores."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        self.management = open_management(self)
        self.store = Watched(open_messages(self))
        self.script = Script()
        self.ids: Iterator[int] = count(1)
        self.audience = Audience(self.management, self.now, Bus())
        self.dispatcher = self.make_dispatcher()
        self.outbox = Outbox(
            self.store,
            self.audience,
            lambda _: succeed(None),
            self.wake,
        )
        self.dispatcher.startService()
        self.addCleanup(self.stop)

    def wake(self) -> None:
        """Tell the dispatcher that there is at the time of something new."""
        self.dispatcher.wake()

    def stop(self) -> None:
        """Stop the dispatcher that there is in the end."""
        self.successResultOf(self.dispatcher.stopService())

    def make_dispatcher(self) -> Dispatcher:
        """A dispatcher as a process has it."""
        attempts = History(self.store, self.now, HISTORY_TIME)
        limits = Limits()
        deliverer = Deliverer(
            management=self.management,
            store=self.store,
            records=Records(self.management, limits, unlimited(self.management)),
            channels=dict.fromkeys(("http", "https"), self.script),
            breaker=Breaker(self.clock),
            lanes=Lanes(self.clock),
            history=attempts,
            audience=self.audience,
            now=self.now,
        )
        return Dispatcher(
            self.management,
            self.store,
            deliverer,
            attempts,
            lambda: succeed([None]),
            self.clock,
            self.require_confirmation,
            lambda: succeed(None),
        )

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.clock.seconds() * 1000)

    def subscribe(
        self,
        subscriber: str = "http://a/",
        destination: Destination = QUEUE,
        **options: Any,
    ) -> Subscription:
        """Subscribe to a queue."""
        made = Subscription(
            id=f"{next(self.ids):024x}",
            destination=destination,
            subscriber=subscriber,
            ttl=10_000_000,
            created=self.now(),
            options=options,
        )
        self.successResultOf(self.management.subscribe(made, self.now()))
        self.audience.forget(destination)
        return made

    def post(self, *bodies: Any, destination: Destination = QUEUE) -> None:
        """Post to a queue."""
        messages = [NewMessage(json.dumps(body).encode(), 300) for body in bodies]
        self.successResultOf(self.outbox.post(destination, messages, "c", self.now()))

    def bodies(self) -> list[Any]:
        """The bodies that were told so far, in order."""
        return [json.loads(notice.content)["body"] for notice in self.script.made]

    def left(self, queue: Destination) -> int:
        """How much there is in an internal queue."""
        return self.successResultOf(self.store.stats(queue, self.now())).total

    def pass_time(self, seconds: int) -> None:
        """Let seconds go by, one after the other."""
        for _ in range(seconds):
            self.clock.advance(1)


class DeliveryTests(DispatcherTestCase):
    """What is told, to whom, and when."""

    def test_at_once(self) -> None:
        """A message is told at once, and nothing of it is left."""
        self.subscribe()
        self.post({"x": 1})
        (notice,) = self.script.made
        wanted = {"ttl": 300, "body": {"x": 1}, "queue_name": "q"}
        wanted["Message_Type"] = "Notification"
        self.assertEqual(json.loads(notice.content), wanted)
        self.assertEqual((self.left(outbox(None)), self.left(due(None))), (0, 0))

    def test_nobody(self) -> None:
        """Without a subscription nothing is written down beside the messages."""
        self.post(1)
        self.assertEqual(self.script.made, [])
        self.assertEqual(self.store.calls.count("claim"), 2)

    def test_everybody(self) -> None:
        """Each subscription is told of each message, in order."""
        for name in "abc":
            self.subscribe(f"http://{name}/")
        self.post(1, 2)
        self.post(3)
        for name in "abc":
            told = [
                json.loads(notice.content)["body"]
                for notice in self.script.made
                if notice.subscription.subscriber == f"http://{name}/"
            ]
            self.assertEqual(told, [1, 2, 3])

    def test_filter(self) -> None:
        """A subscription with a filter is told of what it lets pass."""
        self.subscribe(filter={"kind": ["order"]})
        self.post({"kind": "order"}, {"kind": "offer"}, 5)
        self.assertEqual(self.bodies(), [{"kind": "order"}])

    def test_messages_that_are_gone(self) -> None:
        """A message that is taken before its entry is seen to is told all the same."""
        self.subscribe()
        self.dispatcher.stopService()
        self.post(1)
        self.successResultOf(self.store.pop(QUEUE, 1, self.now()))
        self.dispatcher.startService()
        self.assertEqual(self.bodies(), [1])

    def test_in_order_while_one_is_slow(self) -> None:
        """A subscription is told of one message after the other."""
        self.subscribe()
        slow: Deferred[Outcome] = Deferred()
        self.script.outcomes = [slow]
        self.post(1, 2)
        self.post(3)
        self.assertEqual(self.bodies(), [1])
        slow.callback(DELIVERED)
        self.assertEqual(self.bodies(), [1, 2, 3])

    def test_slow_one_holds_up_nobody_else(self) -> None:
        """Others are told while one subscriber does not answer."""
        self.subscribe("http://slow/")
        slow: Deferred[Outcome] = Deferred()
        self.script.outcomes = [slow]
        self.post(1)
        self.subscribe("http://quick/")
        for number in range(2, 40):
            self.post(number)
        told = [
            json.loads(notice.content)["body"]
            for notice in self.script.made
            if notice.subscription.subscriber == "http://quick/"
        ]
        self.assertEqual(told, list(range(2, 40)))
        slow.callback(DELIVERED)

    def test_many_subscribers(self) -> None:
        """One post to very many has so many attempts under way, others go on."""
        for number in range(MOST_OF_ONE + 20):
            self.subscribe(f"http://{number}/")
        attempts: list[Any] = [Deferred() for _ in range(MOST_OF_ONE + 20)]
        self.script.outcomes = list(attempts)
        self.post(1)
        self.assertEqual(MOST_OF_ONE, len(self.script.made))
        for attempt in attempts:
            attempt.callback(DELIVERED)
        self.assertEqual(MOST_OF_ONE + 20, len(self.script.made))
        self.assertEqual(self.left(outbox(None)), 0)


class RetryTests(DispatcherTestCase):
    """Attempts that fail."""

    def test_policy(self) -> None:
        """A failed delivery is tried again when the policy says so, then given up."""
        policy = {
            "retries_with_no_delay": 1,
            "minimum_delay_retries": 1,
            "minimum_delay": 5,
            "maximum_delay": 15,
            "maximum_delay_retries": 1,
        }
        subscription = self.subscribe(_retry_policy=policy)
        self.script.outcomes = [retry("no")] * 100
        self.post(1)
        began = self.clock.seconds()
        times = []
        for _ in range(200):
            while len(times) < len(self.script.made):
                times.append(int(self.clock.seconds() - began))
            self.clock.advance(1)
        self.assertEqual(len(times), 6)
        self.assertEqual(self.left(due(None)), 0)
        self.assertEqual(self.left(given_up(None, subscription.id)), 1)
        ids = {notice.delivery_id for notice in self.script.made}
        self.assertEqual(len(ids), 1)
        numbers = [notice.attempt for notice in self.script.made]
        self.assertEqual(numbers, [1, 2, 3, 4, 5, 6])

    def test_one_failure_is_of_one_message(self) -> None:
        """The next messages are told although one fails, and that one is told later."""
        self.subscribe()
        self.script.outcomes = [retry("no")]
        self.post(1, 2)
        self.assertEqual(self.bodies()[:2], [1, 2])
        self.pass_time(2)
        self.assertEqual(self.bodies(), [1, 2, 1])

    def test_retry_after(self) -> None:
        """A receiver that asks for time gets it."""
        self.subscribe()
        self.script.outcomes = [Outcome(Verdict.RETRY, 429, retry_after=30)]
        self.post(1)
        self.pass_time(29)
        self.assertEqual(len(self.script.made), 1)
        self.pass_time(3)
        self.assertEqual(len(self.script.made), 2)

    def test_gone(self) -> None:
        """A receiver that is gone ends its subscription."""
        self.subscribe()
        self.script.outcomes = [Outcome(Verdict.GONE, 410)]
        self.post(1)
        found = self.management.subscriptions(QUEUE, 10, "", self.now())
        self.assertEqual(self.successResultOf(found), [])
        self.post(2)
        self.assertTrue(self.audience.is_known_silent(QUEUE))

    def test_refused(self) -> None:
        """What would fail again is not tried again, and kept."""
        subscription = self.subscribe()
        self.script.outcomes = [Outcome(Verdict.REFUSED, 404)]
        self.post(1)
        self.pass_time(100)
        self.assertEqual(len(self.script.made), 1)
        self.assertEqual(self.left(given_up(None, subscription.id)), 1)

    def test_unsubscribed(self) -> None:
        """What waits for a subscription that is gone by then is dropped."""
        subscription = self.subscribe()
        self.script.outcomes = [Outcome(Verdict.RETRY, 503, retry_after=20)]
        self.post(1)
        self.management.unsubscribe(QUEUE, subscription.id)
        self.pass_time(60)
        self.assertEqual(len(self.script.made), 1)
        self.assertEqual(self.left(due(None)), 0)

    def test_dead_target_rests(self) -> None:
        """A target that fails again and again is left alone, and loses nothing."""
        self.subscribe()
        self.script.outcomes = [retry("no")] * FAILURES
        for number in range(FAILURES):
            self.post(number)
        made = len(self.script.made)
        self.post("late")
        self.pass_time(int(FIRST_REST) - 5)
        self.assertLessEqual(len(self.script.made), made + 1)
        self.pass_time(200)
        self.assertEqual(set(map(str, self.bodies())), {*map(str, range(5)), "late"})
        self.assertEqual(self.left(due(None)), 0)

    def told_to_another(self, failure: Outcome) -> bool:
        """Whether another project is told by a host where those of one failed."""
        self.subscribe("http://shared/bad")
        self.script.outcomes = [failure] * FAILURES
        for number in range(FAILURES):
            self.post(number)
        other = Destination("p2", Kind.QUEUE, "q")
        self.subscribe("http://shared/good", other)
        self.post("good", destination=other)
        self.post("bad")
        self.assertNotIn("bad", self.bodies())
        return "good" in self.bodies()

    def test_bad_answers_of_one_project(self) -> None:
        """A host that answers badly rests for the project that it answers so."""
        self.assertTrue(self.told_to_another(retry("no", 500)))

    def test_unreachable(self) -> None:
        """A host that cannot be reached rests for everybody."""
        self.assertFalse(self.told_to_another(retry("no")))

    def test_history(self) -> None:
        """Attempts can be looked at."""
        subscription = self.subscribe()
        self.script.outcomes = [retry("the receiver answers 500", 500)]
        self.post(1)
        self.pass_time(3)
        where = history(None, subscription.id)
        page = self.store.page(where, Selection(limit=10), self.now())
        attempts = [
            attempt
            for message in self.successResultOf(page)
            for attempt in json.loads(message.body)["attempts"]
        ]
        outcomes = [(each["outcome"], each["status"]) for each in attempts]
        self.assertEqual(outcomes, [("retry", 500), ("delivered", 200)])


class Hosts(Script):
    """A channel to hosts of which some are dead."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    async def deliver(self, notice: Notice) -> Outcome:
        """Deliver, or fail at once, or after the time that one waits for an answer."""
        subscriber = notice.subscription.subscriber
        if subscriber.startswith("http://silent"):
            await deferLater(self._clock, ATTEMPT_SECONDS)
        if not subscriber.startswith("http://live"):
            return retry("it is dead")
        return await super().deliver(notice)


class DeadTests(DispatcherTestCase):
    """Many targets that are dead, each with a queue of its own."""

    def setUp(self) -> None:
        """Have one live target."""
        super().setUp()
        self.successResultOf(self.dispatcher.stopService())
        self.script = Hosts(self.clock)
        self.dispatcher = self.make_dispatcher()
        self.dispatcher.startService()
        self.subscribe("http://live/")

    def told_after(self, body: int) -> int:
        """Post a message for the live target; seconds until it is told."""
        self.post(body)
        for seconds in range(100):
            if body in self.bodies():
                return seconds
            self.clock.advance(1)
        return 100

    def check(self, host: str) -> None:
        """The live target does not notice that hundreds of others are dead."""
        dead = [Destination("p", Kind.QUEUE, f"q{number}") for number in range(400)]
        for destination in dead:
            self.subscribe(f"http://{host}-{destination.name}/", destination)
        for destination in dead:
            self.post(0, destination=destination)
        times = [self.told_after(number) for number in range(60)]
        self.assertLessEqual(max(times), 2)
        self.assertEqual(times[5:], [0] * 55)

    def test_backlog(self) -> None:
        """What waits for a few silent hosts holds up nobody else, either."""
        for number in range(10):
            where = Destination("p", Kind.QUEUE, f"q{number}")
            self.subscribe(f"http://silent-{number}/", where)
            for body in range(50):
                self.post(body, destination=where)
        times = [self.told_after(1000 + number) for number in range(30)]
        self.assertLessEqual(max(times), 3)
        self.assertEqual(times[5:], [0] * 25)

    def test_refused(self) -> None:
        """Connections that are refused hold up nobody else."""
        self.check("refusing")

    def test_silent(self) -> None:
        """Hosts that do not answer hold up nobody else."""
        self.check("silent")


class Endless(Script):
    """A channel to a subscriber who has one more message posted for each it is told.

    :ivar written: records of its attempts when it had enough.
    """

    def __init__(self, case: DispatcherTestCase, where: Destination) -> None:
        super().__init__()
        self._case = case
        self._where = where
        self._left = 3 * LEASE_SECONDS
        self.written = 0

    async def deliver(self, notice: Notice) -> Outcome:
        """Take a second for it."""
        if notice.subscription.destination == self._where and self._left:
            self._left -= 1
            self._case.clock.advance(1)
            self._case.post("more", destination=self._where)
            self.written = self._case.left(history(None, notice.subscription.id))
        return await super().deliver(notice)


class BusyTests(DispatcherTestCase):
    """A process that always finds something new."""

    def test_always_news(self) -> None:
        """It keeps what takes long from others, and writes down what it attempts."""
        self.successResultOf(self.dispatcher.stopService())
        busy = Destination("p", Kind.QUEUE, "busy")
        self.script = endless = Endless(self, busy)
        self.dispatcher = self.make_dispatcher()
        self.dispatcher.startService()
        endless.outcomes = [Deferred()]
        self.subscribe()
        self.post("slow")
        self.subscribe(destination=busy)
        other = self.make_dispatcher()
        other.startService()
        self.addCleanup(other.stopService)
        gate = self.store.hold_call("claim")
        self.post("more", destination=busy)
        gate.callback(None)
        self.assertEqual(1, self.bodies().count("slow"))
        self.assertGreater(self.bodies().count("more"), 2 * LEASE_SECONDS)
        self.assertGreater(endless.written, LEASE_SECONDS)


class CrashTests(DispatcherTestCase):
    """Processes that end in the middle."""

    def test_killed(self) -> None:
        """What a process had taken is told by another one after its lease."""
        self.subscribe()
        self.script.outcomes = [Deferred()]
        self.post(1)
        # Nothing that this process would do from now on happens.
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.dispatcher._timer = None
        other = self.make_dispatcher()
        other.startService()
        self.addCleanup(other.stopService)
        self.pass_time(LEASE_SECONDS - 1)
        self.assertEqual(len(self.script.made), 1)
        self.pass_time(2)
        self.assertEqual(self.bodies(), [1, 1])
        self.assertEqual(len({notice.delivery_id for notice in self.script.made}), 1)

    def test_stopped(self) -> None:
        """What a process has not done when it stops is told by the next one at once."""
        self.subscribe()
        self.script.outcomes = [Deferred()]
        self.post(1)
        self.successResultOf(self.dispatcher.stopService())
        self.dispatcher = self.make_dispatcher()
        self.dispatcher.startService()
        self.assertEqual(self.bodies(), [1, 1])

    def test_stopped_half_way(self) -> None:
        """Whom a process has told before it stops is not told again by the next one."""
        for name in ("quick", "slow"):
            self.subscribe(f"http://{name}/")
        self.script.outcomes = [DELIVERED, Deferred()]
        self.post(1)
        self.successResultOf(self.dispatcher.stopService())
        self.dispatcher = self.make_dispatcher()
        self.dispatcher.startService()
        told = [notice.subscription.subscriber for notice in self.script.made]
        self.assertEqual(told, ["http://quick/", "http://slow/", "http://slow/"])
        self.assertEqual(len({notice.delivery_id for notice in self.script.made}), 2)

    def test_long_attempt(self) -> None:
        """What takes long is not taken over by others."""
        self.subscribe()
        slow: Deferred[Outcome] = Deferred()
        self.script.outcomes = [slow]
        self.post(1)
        other = self.make_dispatcher()
        other.startService()
        self.addCleanup(other.stopService)
        self.pass_time(3 * LEASE_SECONDS)
        self.assertEqual(len(self.script.made), 1)
        slow.callback(DELIVERED)
        self.assertEqual(self.left(outbox(None)), 0)

    def test_one_of_several_fails(self) -> None:
        """Nobody is told again while others of the same message are still under way."""
        for name in ("refusing", "slow"):
            self.subscribe(f"http://{name}/")
        refusing, slow = Deferred[Outcome](), Deferred[Outcome]()
        self.script.outcomes = [refusing, slow]
        self.post(1)
        self.store.broken |= {"post"}
        refusing.callback(Outcome(Verdict.REFUSED, 404))
        self.pass_time(2 * LEASE_SECONDS)
        self.assertEqual(2, len(self.script.made))
        slow.callback(DELIVERED)

    def test_store_away(self) -> None:
        """Nothing is lost while the store is away, and all goes on when it is back."""
        self.subscribe()
        self.store.broken |= {"claim"}
        self.post(1)
        self.pass_time(10)
        self.assertEqual(self.script.made, [])
        self.store.broken.clear()
        self.pass_time(int(INTERVAL) + 1)
        self.assertEqual(self.bodies(), [1])


class ConfirmationTests(DispatcherTestCase):
    """Where subscribers have to agree."""

    require_confirmation = True

    def test_unconfirmed(self) -> None:
        """Who has not agreed is not told."""
        self.subscribe()
        self.post(1)
        self.assertEqual(self.script.made, [])
        self.assertEqual(self.left(outbox(None)), 0)


class DeliveriesTests(DispatcherTestCase):
    """Looking at deliveries, and sending them again."""

    def setUp(self) -> None:
        """One delivery was given up."""
        super().setUp()
        self.deliveries = Deliveries(
            self.management,
            self.store,
            Records(self.management, Limits(), unlimited(self.management)),
            self.now,
            self.wake,
        )
        self.subscription = self.subscribe()
        self.script.outcomes = [Outcome(Verdict.REFUSED, 404, "the receiver says no")]
        self.post("x")
        self.pass_time(1)

    def report(self) -> Report:
        """What is reported of the subscription."""
        asked = self.deliveries.report(QUEUE, self.subscription.id)
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def resend(self, document: Any = None) -> int:
        """Send again."""
        asked = self.deliveries.resend(QUEUE, self.subscription.id, document)
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def test_report(self) -> None:
        """The attempts are told, and what was given up."""
        report = self.report()
        (attempt,), (given_up_one,) = report.attempts, report.given_up
        self.assertEqual(attempt.delivery, given_up_one.id)
        self.assertEqual((attempt.outcome, attempt.status), ("refused", 404))
        self.assertEqual(attempt.error, "the receiver says no")

    def test_newest(self) -> None:
        """The newest attempts are shown, and not much more is kept."""
        for number in range(150):
            self.post(number)
            self.pass_time(1)
        shown = self.report().attempts
        self.assertEqual(len(shown), MOST_SHOWN)
        self.assertEqual(shown[0].time, max(each.time for each in shown))
        kept = self.left(history(None, self.subscription.id))
        self.assertLess(kept, MOST_SHOWN + TRIM_EVERY)
        self.assertGreaterEqual(kept, MOST_SHOWN)

    def test_many_at_once(self) -> None:
        """Attempts of the same moment are written together, the newest ones of them."""
        self.post(*range(200))
        self.pass_time(30)
        self.assertEqual(len(self.report().attempts), MOST_SHOWN)
        self.assertLess(self.left(history(None, self.subscription.id)), 32)

    def test_old(self) -> None:
        """Attempts are forgotten after a time."""
        self.clock.advance(HISTORY_TIME - 2)
        self.assertEqual(len(self.report().attempts), 1)
        self.clock.advance(2)
        self.assertEqual(self.report().attempts, ())

    def test_resend(self) -> None:
        """It is delivered again under its id, and is not given up any more."""
        self.assertEqual(self.resend(), 1)
        self.assertEqual(self.bodies(), ["x", "x"])
        self.assertEqual(len({notice.delivery_id for notice in self.script.made}), 1)
        self.pass_time(1)
        report = self.report()
        self.assertEqual(report.given_up, ())
        self.assertEqual(report.attempts[0].outcome, "delivered")

    def test_resend_some(self) -> None:
        """Only those that are asked for are sent again, others can be later."""
        self.assertEqual(self.resend({"deliveries": ["unknown"]}), 0)
        self.assertEqual(self.bodies(), ["x"])
        (left,) = self.report().given_up
        self.assertEqual(self.resend({"deliveries": [left.id]}), 1)

    def test_resend_and_hang_up(self) -> None:
        """A client that leaves too early leaves nothing that would be sent twice."""
        answer = self.store.hold_answer("post")
        asked = self.deliveries.resend(QUEUE, self.subscription.id, None)
        resending = Deferred.fromCoroutine(asked)
        resending.addErrback(lambda _: None)
        resending.cancel()
        answer.callback(None)
        self.pass_time(1)
        self.assertEqual(self.bodies(), ["x", "x"])
        self.assertEqual(self.resend(), 0)
        self.assertEqual(self.report().given_up, ())

    def test_malformed(self) -> None:
        """Other documents are refused."""
        for document in ([], 5, {"deliveries": "x"}, {"deliveries": [5]}):
            asked = self.deliveries.resend(QUEUE, self.subscription.id, document)
            self.failureResultOf(Deferred.fromCoroutine(asked), InvalidRequest)

    def test_unknown(self) -> None:
        """A subscription of another queue, or none, has no deliveries."""
        other = Destination("p2", Kind.QUEUE, "q")
        asked = self.deliveries.report(other, self.subscription.id)
        self.failureResultOf(Deferred.fromCoroutine(asked), SubscriptionDoesNotExist)
