"""Waiting: who looks when, in which order, and what is left behind."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mqsvc.bus.news import News
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.messages import View
from mqsvc.messaging.model import NewMessage
from tests.bus.recorder import Recorder
from tests.messaging.case import NOW, OTHER, QUEUE, OperationsTestCase


class LineTests(OperationsTestCase):
    """Claims wait in a line, of which only the head looks."""

    def test_no_wait(self) -> None:
        """Who does not want to wait looks once."""
        self.assertIsNone(self.claim())
        self.assertEqual(["claim"], self.messages.calls)
        self.leaves_nothing()

    def test_nothing_to_wait_for(self) -> None:
        """Who finds something at once looks once, however long they would wait."""
        self.post("x")
        self.messages.calls.clear()
        self.assertEqual([b'"x"'], self.bodies(self.claiming()))
        self.assertEqual(["claim"], self.messages.calls)
        self.leaves_nothing()

    def test_idle_line(self) -> None:
        """A thousand who wait ask nothing of the store until something happens."""
        line = [self.claiming() for _ in range(1000)]
        self.messages.calls.clear()
        for _ in range(19):
            self.clock.advance(1)
        self.assertEqual([], self.messages.calls)
        for claiming in reversed(line):
            self.cancel(claiming)
        self.assertEqual([], self.messages.calls)
        self.leaves_nothing()

    def test_one_post(self) -> None:
        """A message makes the head look, and the next one when it has moved up."""
        line = [self.claiming() for _ in range(1000)]
        self.messages.calls.clear()
        self.post("x")
        self.assertEqual(["post", *("next_ready", "claim") * 2], self.messages.calls)
        self.assertEqual([b'"x"'], self.bodies(line[0]))
        for claiming in reversed(line[1:]):
            self.assertNoResult(claiming)
            self.cancel(claiming)
        self.leaves_nothing()

    def test_first_come_first_served(self) -> None:
        """Messages are handed out in the order in which the waiting came."""
        line = [self.claiming() for _ in range(3)]
        for body in range(3):
            self.assertNoResult(line[body])
            self.post(body)
            self.assertEqual([b"%d" % body], self.bodies(line[body]))
        self.leaves_nothing()

    def test_several_at_once(self) -> None:
        """Messages of one post serve as many of the line, in its order."""
        line = [self.claiming() for _ in range(3)]
        self.post("x", "y")
        self.assertEqual([b'"x"'], self.bodies(line[0]))
        self.assertEqual([b'"y"'], self.bodies(line[1]))
        self.assertNoResult(line[2])
        self.cancel(line[2])
        self.leaves_nothing()

    def test_newcomer_behind_the_line(self) -> None:
        """Who comes after several were served at once is served after the others."""
        line = [self.claiming() for _ in range(4)]
        self.post("a", "b")
        newcomer = self.claiming()
        self.post("c")
        self.post("d")
        self.assertEqual(
            [[b'"a"'], [b'"b"'], [b'"c"'], [b'"d"']],
            [self.bodies(claiming) for claiming in line],
        )
        self.assertNoResult(newcomer)
        self.cancel(newcomer)
        self.leaves_nothing()

    def test_as_many_as_wait(self) -> None:
        """The line ends when its last one is served in the turn of the first."""
        line = [self.claiming() for _ in range(2)]
        self.post("x", "y")
        self.assertEqual(
            [[b'"x"'], [b'"y"']], [self.bodies(claiming) for claiming in line]
        )
        self.leaves_nothing()

    def test_end_of_delay(self) -> None:
        """The head looks when a delay ends, not before and not more than once."""
        self.create(QUEUE, _default_message_delay=5)
        self.post("x")
        head, second = self.claiming(), self.claiming()
        self.messages.calls.clear()
        self.clock.advance(4.999)
        self.assertEqual([], self.messages.calls)
        self.clock.advance(0.001)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.assertEqual(["next_ready", "claim"] * 2, self.messages.calls)
        self.cancel(second)
        self.leaves_nothing()

    def test_end_of_claim(self) -> None:
        """The head looks when the claim of another ends."""
        self.post("x")
        other = self.done(self.operations.claims.create(QUEUE, {"ttl": 60}, 1))
        self.clock.advance(45)
        head = self.claiming()
        self.clock.advance(14.999)
        self.assertNoResult(head)
        self.clock.advance(0.001)
        claim = self.successResultOf(head)
        self.assertNotEqual(other.id, claim.id)
        self.assertEqual(b'"x"', claim.messages[0].body)
        self.leaves_nothing()

    def test_deadline_of_the_head(self) -> None:
        """The head looks a last time when its time is up, and leaves empty-handed."""
        head = self.claiming(wait=5)
        self.messages.calls.clear()
        self.clock.advance(4.999)
        self.assertNoResult(head)
        self.clock.advance(0.001)
        self.assertIsNone(self.successResultOf(head))
        self.assertEqual(["next_ready", "claim"], self.messages.calls)
        self.leaves_nothing()

    def test_deadline_in_the_line(self) -> None:
        """Who never became the head leaves in time without looking again."""
        head, second, third = self.claiming(), self.claiming(wait=5), self.claiming()
        self.messages.calls.clear()
        self.clock.advance(5)
        self.assertIsNone(self.successResultOf(second))
        self.assertEqual([], self.messages.calls)
        self.post("x")
        self.post("y")
        self.assertEqual([b'"x"'], self.bodies(head))
        self.assertEqual([b'"y"'], self.bodies(third))
        self.leaves_nothing()

    def test_time_counts_from_the_call(self) -> None:
        """Who moves up to the head has waited for a part of its time already."""
        head, second = self.claiming(), self.claiming(wait=10)
        self.clock.advance(6)
        self.cancel(head)
        self.clock.advance(3.999)
        self.assertNoResult(second)
        self.clock.advance(0.001)
        self.assertIsNone(self.successResultOf(second))
        self.leaves_nothing()

    def test_signal_of_another_queue(self) -> None:
        """A message elsewhere wakes nobody here."""
        head = self.claiming()
        self.messages.calls.clear()
        self.post("x", to=OTHER)
        self.assertEqual(["post"], self.messages.calls)
        self.assertNoResult(head)
        self.cancel(head)
        self.leaves_nothing()

    def test_lines_of_queues(self) -> None:
        """Each queue has a line of its own."""
        here = self.claiming()
        there = self.start(self.operations.claims.create(OTHER, None, 1, 20))
        self.post("x", to=OTHER)
        self.assertEqual([b'"x"'], self.bodies(there))
        self.post("y")
        self.assertEqual([b'"y"'], self.bodies(here))
        self.leaves_nothing()

    def test_the_line_can_form_again(self) -> None:
        """After a line has ended another one works as the first."""
        for body in range(3):
            head, second = self.claiming(), self.claiming()
            self.post(body)
            self.assertEqual([b"%d" % body], self.bodies(head))
            self.cancel(second)
            self.leaves_nothing()


class CancelTests(OperationsTestCase):
    """Whoever hangs up makes way, wherever they are."""

    def test_in_the_line(self) -> None:
        """Who leaves the line is passed over."""
        head, second, third = [self.claiming() for _ in range(3)]
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.post("x")
        self.post("y")
        self.assertEqual([b'"x"'], self.bodies(head))
        self.assertEqual([b'"y"'], self.bodies(third))
        self.leaves_nothing()

    def test_idle_head(self) -> None:
        """When the head leaves, the next one looks and takes its place."""
        head, second = self.claiming(), self.claiming()
        self.messages.calls.clear()
        head.cancel()
        self.failureResultOf(head, CancelledError)
        self.assertEqual(["next_ready", "claim"], self.messages.calls)
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(second))
        self.leaves_nothing()

    def test_newcomer(self) -> None:
        """Who leaves before the first look is over was never in the line."""
        answer = self.messages.hold_answer("claim")
        newcomer = self.claiming()
        newcomer.cancel()
        self.failureResultOf(newcomer, CancelledError)
        self.leaves_nothing()
        answer.callback(None)
        self.leaves_nothing()

    def test_looking_head(self) -> None:
        """What a head that has left still claims goes to the next one."""
        head, second = self.claiming(), self.claiming()
        answer = self.messages.hold_answer("claim")
        self.post("x")
        head.cancel()
        self.failureResultOf(head, CancelledError)
        self.assertNoResult(second)
        answer.callback(None)
        self.assertEqual([b'"x"'], self.bodies(second))
        self.leaves_nothing()

    def test_head_that_asks_for_the_time(self) -> None:
        """A head may leave while the store looks for the next delay to end."""
        answer = self.messages.hold_answer("next_ready")
        head, second = self.claiming(), self.claiming()
        head.cancel()
        self.failureResultOf(head, CancelledError)
        answer.callback(None)
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(second))
        self.leaves_nothing()

    def test_everybody(self) -> None:
        """When all have left, in any order, nothing is left."""
        line = [self.claiming() for _ in range(5)]
        for place in (2, 0, 4, 1, 3):
            self.cancel(line[place])
        self.leaves_nothing()


class OtherProcessTests(OperationsTestCase):
    """What other processes post."""

    def setUp(self) -> None:
        """Have a link to others."""
        super().setUp()
        self.link = Recorder(shares_board=True, wants=False)
        self.bus.connect(self.link)

    def post_elsewhere(self) -> None:
        """Another process posts, and its signal is lost."""
        message = NewMessage(b'"x"', 60)
        self.successResultOf(self.messages.post(QUEUE, [message], "c", NOW))

    def test_signal(self) -> None:
        """A signal of another process wakes who waits."""
        head = self.claiming()
        self.post_elsewhere()
        self.assertNoResult(head)
        self.bus.hear(News([QUEUE]))
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_down(self) -> None:
        """While a link is down who waits looks once in a while."""
        self.link.is_up = False
        head = self.claiming()
        self.clock.pump([0.5] * 4)
        self.assertNoResult(head)
        self.post_elsewhere()
        self.clock.advance(1)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_goes_down(self) -> None:
        """Who waits already when a link breaks begins to look, too."""
        head = self.claiming()
        self.link.is_up = False
        self.bus.call_all()
        self.post_elsewhere()
        self.clock.advance(1)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_lost(self) -> None:
        """A signal that is lost costs time, and no message."""
        head = self.claiming(wait=20)
        self.post_elsewhere()
        self.clock.advance(19)
        self.assertNoResult(head)
        self.clock.advance(1)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()


class WakeUpTests(OperationsTestCase):
    """No wake-up is lost, whenever it comes."""

    def test_signal_between_look_and_wait(self) -> None:
        """What is posted before the head begins to wait is found at once."""
        answer = self.messages.hold_answer("next_ready")
        head = self.claiming()
        self.post("x")
        self.assertNoResult(head)
        answer.callback(None)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_signal_while_looking(self) -> None:
        """What is posted while the head looks and sees nothing is found at once."""
        head = self.claiming()
        answer = self.messages.hold_answer("claim")
        self.bus.publish(QUEUE)
        self.post("x")
        self.assertNoResult(head)
        answer.callback(None)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_signals_without_news(self) -> None:
        """A head that is woken for nothing goes on waiting, each time."""
        head = self.claiming()
        for _ in range(10):
            self.bus.publish(QUEUE)
        self.assertNoResult(head)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_delay_that_ends_while_looking(self) -> None:
        """A delay that ends between look and answer is not waited past."""
        self.create(QUEUE, _default_message_delay=5)
        self.post("x")
        head = self.claiming()
        self.clock.advance(4)
        answer = self.messages.hold_answer("claim")
        self.bus.publish(QUEUE)
        self.clock.advance(2)
        self.assertNoResult(head)
        answer.callback(None)
        self.clock.advance(0)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_delay_that_is_swept_while_looking(self) -> None:
        """A delay that ends after the look, and is swept, is not waited past."""
        self.create(QUEUE, _default_message_delay=5)
        self.post("x")
        head = self.claiming()
        self.clock.advance(4)
        answer = self.messages.hold_answer("claim")
        self.bus.publish(QUEUE)
        self.clock.advance(2)
        self.messages.sweep(int(self.clock.seconds() * 1000))
        answer.callback(None)
        self.clock.advance(0)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_slow_answer_is_part_of_the_wait(self) -> None:
        """The time that the store takes to name the next delay is not added."""
        answer = self.messages.hold_answer("next_ready")
        head = self.claiming(wait=5)
        self.clock.advance(3)
        answer.callback(None)
        self.clock.advance(2)
        self.assertIsNone(self.successResultOf(head))
        self.leaves_nothing()

    def test_released_claim(self) -> None:
        """What somebody gives back is found at once."""
        self.post("x")
        claim = self.claim()
        head = self.claiming()
        self.done(self.operations.claims.release(QUEUE, claim.id))
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()

    def test_renewed_claim(self) -> None:
        """A claim that now ends sooner is waited for no longer than that."""
        self.post("x")
        claim = self.done(self.operations.claims.create(QUEUE, {"ttl": 300}, 1))
        self.clock.advance(240)
        self.done(self.operations.claims.renew(QUEUE, claim.id, {"ttl": 60}))
        self.clock.advance(50)
        head = self.claiming()
        self.clock.advance(10)
        self.assertEqual([b'"x"'], self.bodies(head))
        self.leaves_nothing()


class TogetherTests(OperationsTestCase):
    """Lists wait beside each other; each signal makes all of them look."""

    def listing(self, wait: int = 20, **view: Any) -> Deferred[Any]:
        """A list that waits."""
        return self.start(self.operations.messages.page(QUEUE, View(**view), wait))

    def found(self, listing: Deferred[Any]) -> list[bytes]:
        """What a list that was waited for has given."""
        return [each.body for each in self.successResultOf(listing).messages]

    def test_no_wait(self) -> None:
        """Who does not want to wait looks once."""
        self.assertEqual([], self.found(self.listing(wait=0)))
        self.assertEqual(["page"], self.messages.calls)
        self.leaves_nothing()

    def test_everybody_sees_it(self) -> None:
        """A message is shown to all who wait."""
        listings = [self.listing() for _ in range(3)]
        self.post("x")
        self.assertEqual([[b'"x"']] * 3, [self.found(each) for each in listings])
        self.leaves_nothing()

    def test_idle(self) -> None:
        """Nothing is asked of the store until something happens."""
        listings = [self.listing() for _ in range(100)]
        self.messages.calls.clear()
        self.clock.advance(19)
        self.assertEqual([], self.messages.calls)
        for listing in listings:
            self.cancel(listing)
        self.leaves_nothing()

    def test_deadline(self) -> None:
        """An empty page is given when the time is up, after a last look."""
        listing = self.listing(wait=5)
        self.messages.calls.clear()
        self.clock.advance(4.999)
        self.assertNoResult(listing)
        self.clock.advance(0.001)
        self.assertEqual([], self.found(listing))
        self.assertEqual(["next_ready", "page"], self.messages.calls)
        self.leaves_nothing()

    def test_hidden_message(self) -> None:
        """A message that this client does not see does not end its wait."""
        hidden, shown = self.listing(hide_client="producer"), self.listing()
        self.post("x")
        self.assertEqual([b'"x"'], self.found(shown))
        self.assertNoResult(hidden)
        self.cancel(hidden)
        self.leaves_nothing()

    def test_cancel(self) -> None:
        """Who hangs up while idle or looking disturbs nobody else."""
        idle, other = self.listing(), self.listing()
        idle.cancel()
        self.failureResultOf(idle, CancelledError)
        answer = self.messages.hold_answer("page")
        looking = self.listing()
        looking.cancel()
        self.failureResultOf(looking, CancelledError)
        answer.callback(None)
        self.post("x")
        self.assertEqual([b'"x"'], self.found(other))
        self.leaves_nothing()

    def test_beside_a_line(self) -> None:
        """Lists look without waiting for a turn in the line of claims."""
        head, listing = self.claiming(), self.listing(include_claimed=True)
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(head))
        self.assertEqual([b'"x"'], self.found(listing))
        self.leaves_nothing()


class FailureTests(OperationsTestCase):
    """A store that fails fails the one who looks and leaves nothing behind."""

    def test_head(self) -> None:
        """A head that fails passes the turn on."""
        head, second = self.claiming(), self.claiming()
        answer = self.messages.hold_answer("claim")
        self.bus.publish(QUEUE)
        answer.errback(StoreUnavailable())
        self.failureResultOf(head, StoreUnavailable)
        self.assertNoResult(second)
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(second))
        self.leaves_nothing()

    def test_no_next_delay(self) -> None:
        """Who cannot learn when the next delay ends does not wait in the dark."""
        self.messages.broken.add("next_ready")
        self.failureResultOf(self.claiming(), StoreUnavailable)
        listing = self.start(self.operations.messages.page(QUEUE, View(), 20))
        self.failureResultOf(listing, StoreUnavailable)
        self.leaves_nothing()

    def test_whole_line(self) -> None:
        """A long line over a store that fails at once is let go to the last one."""
        line = [self.claiming() for _ in range(1000)]
        self.messages.broken.add("claim")
        self.bus.publish(QUEUE)
        for claiming in line:
            self.failureResultOf(claiming, StoreUnavailable)
        self.leaves_nothing()


class FinishTests(OperationsTestCase):
    """When the service stops, nobody is kept waiting."""

    def test_everybody_is_let_go(self) -> None:
        """Head, line and lists get what there is, which is nothing."""
        line = [self.claiming() for _ in range(3)]
        listing = self.start(self.operations.messages.page(QUEUE, View(), 20))
        self.operations.waiting.finish()
        self.assertEqual([None] * 3, [self.successResultOf(each) for each in line])
        self.assertEqual([], self.successResultOf(listing).messages)
        self.leaves_nothing()

    def test_nobody_waits_any_more(self) -> None:
        """Who comes later looks and goes."""
        self.operations.waiting.finish()
        self.assertIsNone(self.successResultOf(self.claiming()))
        self.post("x")
        self.assertEqual([b'"x"'], self.bodies(self.claiming()))
        self.leaves_nothing()

    def test_while_looking(self) -> None:
        """Who looks at that moment goes with what is found, or with nothing."""
        answer = self.messages.hold_answer("next_ready")
        head = self.claiming()
        self.operations.waiting.finish()
        answer.callback(None)
        self.assertIsNone(self.successResultOf(head))
        self.leaves_nothing()
