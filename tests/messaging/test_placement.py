"""Placement: which pool a new queue or topic gets, and when it changes."""

from __future__ import annotations

from collections import Counter

from mqsvc.messaging.errors import (
    Conflict,
    FlavorDoesNotExist,
    InvalidBody,
    InvalidRequest,
    NoPool,
    PoolDoesNotExist,
    StoreUnavailable,
)
from mqsvc.messaging.model import Destination, Kind
from tests.messaging.case import (
    GRAVE,
    OTHER,
    QUEUE,
    TOPIC,
    WORN_OUT,
    OperationsTestCase,
)
from tests.messaging.pooled import PooledTestCase


class ChoiceTests(PooledTestCase):
    """The pool of something new."""

    def test_default(self) -> None:
        """Where there is no other pool, it is the default one."""
        self.create(QUEUE)
        self.assertIsNone(self.pool_of())

    def test_no_flavor(self) -> None:
        """Without a flavor it is one of the pools that belong to none."""
        self.add_flavor("f", "a")
        self.add_pool("b")
        self.create(QUEUE)
        self.assertEqual("b", self.pool_of())

    def test_flavor(self) -> None:
        """With a flavor it is one of its pools, for topics too."""
        self.add_pool("a")
        self.add_flavor("f", "b")
        for destination in (QUEUE, TOPIC):
            self.create(destination, _flavor="f")
            self.assertEqual("b", self.pool_of(destination))

    def test_flavor_that_is_none(self) -> None:
        """A flavor that is null or empty is none."""
        self.add_pool("a")
        self.add_flavor("f", "b")
        for number, flavor in enumerate((None, "")):
            destination = Destination("p1", Kind.QUEUE, f"q{number}")
            self.create(destination, _flavor=flavor)
            self.assertEqual("a", self.pool_of(destination))

    def test_weights(self) -> None:
        """Of the tickets below the sum of weights each pool has its weight."""
        for name, weight in (("a", 2), ("b", 0), ("c", 5)):
            self.add_pool(name, weight)
        chosen = []
        for ticket in range(7):
            self.tickets.next = [ticket]
            destination = Destination("p1", Kind.QUEUE, f"q{ticket}")
            self.create(destination)
            chosen.append(self.pool_of(destination))
        self.assertEqual({"a": 2, "c": 5}, Counter(chosen))
        self.assertEqual({7}, set(self.tickets.sums))

    def test_weightless(self) -> None:
        """Pools of no weight are as if they were not there."""
        self.add_pool("a", weight=0)
        self.create(QUEUE)
        self.assertIsNone(self.pool_of())

    def test_many_pools(self) -> None:
        """All pools are looked at, however many there are."""
        for number in range(101):
            self.add_pool(f"p{number:03}", weight=int(number == 100))
        self.create(QUEUE)
        self.assertEqual("p100", self.pool_of())

    def test_unknown_flavor(self) -> None:
        """A flavor that does not exist is refused, also for a queue that exists."""
        self.add_pool("a", flavor="f")
        for _ in range(2):
            creating = self.operations.queues.create(QUEUE, {"_flavor": "f"})
            error = self.fails(InvalidRequest, creating)
            self.assertEqual("The flavor f does not exist.", error.description)
            self.assertEqual("Invalid API request", error.title)
        self.assertIsNone(self.record())
        self.create(QUEUE)
        creating = self.operations.queues.create(QUEUE, {"_flavor": "f"})
        self.fails(InvalidRequest, creating)

    def test_malformed_flavor(self) -> None:
        """A flavor is a text."""
        for value in (5, False, ["f"], {}):
            creating = self.operations.queues.create(QUEUE, {"_flavor": value})
            self.fails(InvalidRequest, creating)
        self.assertIsNone(self.record())

    def test_flavor_without_pool(self) -> None:
        """Where no pool of the flavor has a weight there is none for it."""
        self.add_flavor("f", "a")
        self.add_pool("a", weight=0, flavor="f")
        creating = self.operations.queues.create(QUEUE, {"_flavor": "f"})
        self.assertIn("of the flavor f", self.fails(NoPool, creating).description)
        self.assertIsNone(self.record())

    def test_existing(self) -> None:
        """What exists needs no pool and no choice."""
        self.create(QUEUE)
        self.add_flavor("f", "a")
        self.add_pool("a", weight=0, flavor="f")
        again = self.done(self.operations.queues.create(QUEUE, {"_flavor": "f"}))
        self.assertEqual((False, []), (again, self.tickets.sums[1:]))

    def test_made_by_use(self) -> None:
        """A first message or subscription chooses too."""
        self.add_pool("a")
        self.post("x")
        subscriptions = self.operations.subscriptions
        self.done(subscriptions.create(TOPIC, {"subscriber": "http://example.org/"}))
        self.assertEqual(["a", "a"], [self.pool_of(QUEUE), self.pool_of(TOPIC)])
        self.assertEqual([b'"x"'], self.in_pool("a"))

    def test_pool_that_goes(self) -> None:
        """Where the pool is gone before the record is made, another one is chosen."""
        self.add_pool("a")
        held = self.management.hold_call("create")
        creating = self.start(self.operations.queues.create(QUEUE, {}))
        self.done(self.administration.pools.delete("a"))
        self.add_pool("b")
        held.callback(None)
        self.assertIs(True, self.successResultOf(creating))
        self.assertEqual("b", self.pool_of())

    def test_pools_that_go_on_going(self) -> None:
        """The choice is given up at some time."""
        self.add_pool("a")

        def gone(*_: object) -> None:
            raise PoolDoesNotExist

        self.patch(self.records, "create_in", gone)
        self.fails(NoPool, self.records.create(QUEUE, {}))


class NoDefaultTests(PooledTestCase):
    """The default pool takes nothing new."""

    has_default = False

    def test_refused(self) -> None:
        """Without a pool nothing is made, by whatever way."""
        subscriber = {"subscriber": "http://example.org/"}
        operations = self.operations
        for operation in (
            operations.queues.create(QUEUE, {}),
            operations.messages.post(QUEUE, "c", [{"body": 1}], 1),
            operations.subscriptions.create(QUEUE, subscriber),
        ):
            self.assertIn("No pool takes", self.fails(NoPool, operation).description)
        self.assertIsNone(self.record())
        self.leaves_nothing()

    def test_reads(self) -> None:
        """What is not there reads as empty all the same."""
        self.assertEqual([], self.listed())

    def test_existing(self) -> None:
        """What lives in the default pool goes on living there."""
        self.successResultOf(self.management.create(QUEUE, {}, None))
        self.post("x")
        self.assertEqual([b'"x"'], self.in_pool(None))


class BesideTests(PooledTestCase):
    """A queue goes to the pool of its dead-letter queue."""

    def setUp(self) -> None:
        """Make a dead-letter queue in the second of two pools."""
        super().setUp()
        self.add_pool("b")
        self.create(GRAVE)
        self.add_pool("a", weight=9)

    def test_beside(self) -> None:
        """The lowest ticket does not count where the other pool may be chosen."""
        self.create(QUEUE, **WORN_OUT)
        self.assertEqual("b", self.pool_of())

    def test_weightless(self) -> None:
        """A pool that takes nothing new does not take this one either."""
        self.add_pool("b", weight=0)
        self.create(QUEUE, **WORN_OUT)
        self.assertEqual("a", self.pool_of())

    def test_flavor(self) -> None:
        """The flavor counts for more."""
        self.add_flavor("f", "c")
        self.create(QUEUE, _flavor="f", **WORN_OUT)
        self.assertEqual("c", self.pool_of())

    def test_missing(self) -> None:
        """A dead-letter queue that does not exist is beside nothing."""
        self.create(QUEUE, _dead_letter_queue="later")
        self.assertEqual("a", self.pool_of())


class ChangeTests(PooledTestCase):
    """Another flavor: the queue stays where it was made."""

    def setUp(self) -> None:
        """Make a queue in a pool of no flavor, and a flavor of two pools."""
        super().setUp()
        self.add_pool("plain")
        self.add_flavor("f", "f1", "f2")
        self.create(QUEUE, a=1)

    def test_refused(self) -> None:
        """A flavor of other pools is refused, with or without messages."""
        for _ in range(2):
            before = self.record()
            error = self.failureResultOf(self.change(_flavor="f", a=2), Conflict).value
            self.assertIn("make it again", error.description)
            self.assertEqual(before, self.record())
            self.post("x")
        self.assertEqual([b'"x"', b'"x"'], self.in_pool("plain"))
        self.leaves_nothing()

    def test_back(self) -> None:
        """A queue of a flavor cannot do without it."""
        self.create(OTHER, _flavor="f")
        for value in (None, ""):
            self.failureResultOf(self.change(OTHER, _flavor=value), Conflict)
        self.assertEqual("f1", self.pool_of(OTHER))

    def test_made_again(self) -> None:
        """Deleted and made again, it lives in a pool of the flavor."""
        self.done(self.operations.queues.delete(QUEUE))
        self.create(QUEUE, _flavor="f")
        self.post("x")
        self.assertEqual([b'"x"'], self.in_pool("f1"))
        self.assertEqual([b'"x"'], self.listed())

    def test_fits(self) -> None:
        """It is taken where the pool belongs to the new flavor, and messages stay."""
        self.post("x")
        self.add_pool("plain", flavor="g")
        self.successResultOf(self.management.put_flavor("g", ["plain"]))
        shown = self.successResultOf(self.change(_flavor="g"))
        self.assertEqual("g", shown["_flavor"])
        self.assertEqual("plain", self.pool_of())
        self.assertEqual([b'"x"'], self.listed())

    def test_default_pool(self) -> None:
        """The default pool belongs to no flavor: who asks for none may stay there."""
        old = Destination("p1", Kind.QUEUE, "old")
        self.successResultOf(self.management.create(old, {"_flavor": "old"}, None))
        self.post("x", to=old)
        self.successResultOf(self.change(old, _flavor=None))
        self.assertIsNone(self.pool_of(old))
        self.assertEqual([b'"x"'], self.listed(old))

    def test_unknown(self) -> None:
        """A flavor that does not exist is refused, and nothing is changed."""
        before = self.record()
        error = self.failureResultOf(
            self.change(_flavor="g", a=2), FlavorDoesNotExist
        ).value
        self.assertEqual("The flavor g does not exist.", error.description)
        self.assertEqual(before, self.record())
        self.leaves_nothing()

    def test_malformed(self) -> None:
        """A flavor is a text."""
        before = self.record()
        for value in (5, False, ["f"], {}):
            self.failureResultOf(self.change(_flavor=value), InvalidBody)
        self.assertEqual(before, self.record())

    def test_other_keys(self) -> None:
        """Other changes are taken, whatever became of its flavor."""
        self.create(OTHER, _flavor="f")
        self.done(self.administration.flavors.delete("f"))
        self.successResultOf(self.change(OTHER, a=3))
        self.assertEqual("f1", self.pool_of(OTHER))

    def test_malformed_before(self) -> None:
        """What was stored before there were pools does not stop other changes."""
        old = Destination("p1", Kind.QUEUE, "old")
        self.successResultOf(self.management.create(old, {"_flavor": 5}, None))
        self.assertEqual(5, self.successResultOf(self.change(old, a=1))["_flavor"])


class AtOnceTests(PooledTestCase):
    """Posts and removals at the same time: nothing is lost or stranded."""

    def setUp(self) -> None:
        """Make a queue in a pool of no flavor."""
        super().setUp()
        self.add_pool("plain")
        self.create(QUEUE)
        self.listed()

    def posting(self, body: str) -> object:
        """A post under way."""
        messages = [{"body": body}]
        return self.start(self.operations.messages.post(QUEUE, "c", messages, 1))

    def test_removal_during_a_post(self) -> None:
        """A removal waits for posts, so that it takes their messages away too."""
        held = self.stores["test:plain"].hold_call("post")
        posting = self.posting("x")
        removing = self.start(self.operations.queues.delete(QUEUE))
        later = self.posting("y")
        self.assertNoResult(removing)
        held.callback(None)
        for each in (posting, removing, later):
            self.successResultOf(each)
        self.assertEqual([b'"y"'], self.in_pool("plain"))
        self.assertEqual([b'"y"'], self.listed())
        self.assertIsNotNone(self.record())
        self.leaves_nothing()

    def test_made_again_elsewhere(self) -> None:
        """What comes during a removal is found, wherever the queue is made again."""
        held = self.management.hold_answer("delete")
        removing = self.start(self.operations.queues.delete(QUEUE))
        posting = self.posting("x")
        self.add_pool("plain", weight=0)
        held.callback(None)
        self.successResultOf(removing)
        self.successResultOf(posting)
        self.assertIsNone(self.pool_of())
        self.assertEqual([[b'"x"'], []], [self.in_pool(None), self.in_pool("plain")])
        self.assertEqual([b'"x"'], self.listed())

    def test_removal_that_fails(self) -> None:
        """A removal that fails keeps the queue where it is, and lets others go on."""
        self.post("x")
        self.stores["test:plain"].broken = {"clear"}
        self.fails(StoreUnavailable, self.operations.queues.delete(QUEUE))
        self.assertEqual("plain", self.pool_of())
        self.post("y")
        self.assertEqual([b'"x"', b'"y"'], self.listed())
        self.leaves_nothing()


class WithoutPoolsTests(OperationsTestCase):
    """Where there are no pools a flavor is a key like any other."""

    def test_any_value(self) -> None:
        """Anything can be stored, and is not looked up."""
        self.create(QUEUE, _flavor=5)
        patch = [{"op": "replace", "path": "/metadata/_flavor", "value": ["x"]}]
        shown = self.done(self.operations.queues.change(QUEUE, patch))
        self.assertEqual(["x"], shown["_flavor"])
        self.assertNotIn("flavor", self.management.calls)
        self.assertIsNone(self.operations.administration)
