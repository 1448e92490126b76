"""Queues and topics: changes among others' changes, listing, removal."""

from __future__ import annotations

from typing import Any

from mqsvc.messaging.errors import (
    Conflict,
    DestinationDoesNotExist,
    InvalidBody,
    InvalidRequest,
    StoreUnavailable,
)
from mqsvc.messaging.messages import View
from mqsvc.messaging.model import NAMEABLE, Destination, Kind
from tests.messaging.case import OTHER, QUEUE, TOPIC, OperationsTestCase


def add(key: str, value: Any) -> dict[str, Any]:
    """An operation of a patch."""
    return {"op": "add", "path": f"/metadata/{key}", "value": value}


class CreateTests(OperationsTestCase):
    """Making destinations."""

    def test_existing(self) -> None:
        """What exists is not changed, but the metadata given is checked."""
        queues = self.operations.queues
        self.assertTrue(self.done(queues.create(QUEUE, {"a": 1})))
        self.assertFalse(self.done(queues.create(QUEUE, {"a": 2})))
        self.assertEqual(1, self.done(queues.describe(QUEUE))["a"])
        self.fails(InvalidRequest, queues.create(QUEUE, {"_default_message_ttl": 1}))

    def test_refusals(self) -> None:
        """Metadata that cannot be stored is refused as a request, not as a body."""
        for key, value in (
            ("_default_message_ttl", "60"),
            ("_default_message_ttl", 59),
            ("_dead_letter_queue", "q"),
        ):
            error = self.fails(
                InvalidRequest, self.operations.queues.create(QUEUE, {key: value})
            )
            self.assertEqual("Invalid API request", error.title)
            self.assertIn(key, error.description)
        error = self.fails(InvalidBody, self.operations.queues.create(QUEUE, []))
        self.assertIn("must be a dict", error.description)
        self.assertEqual([], self.management.calls)


class ChangeTests(OperationsTestCase):
    """Patches of metadata."""

    def change(self, *operations: Any, of: Destination = QUEUE) -> Any:
        """A patch."""
        return self.operations.queues.change(of, list(operations))

    def test_result(self) -> None:
        """The whole metadata is given back, with what reserved keys default to."""
        self.create(QUEUE, a=1)
        shown = self.done(self.change(add("b", 2)))
        self.assertEqual(shown, self.done(self.operations.queues.describe(QUEUE)))
        self.assertEqual(
            (1, 2, 3600), tuple(map(shown.get, ["a", "b", "_default_message_ttl"]))
        )

    def test_missing(self) -> None:
        """What does not exist cannot be changed, and is not made."""
        for destination in (QUEUE, TOPIC):
            error = self.fails(DestinationDoesNotExist, self.change(of=destination))
            self.assertIn(destination.kind.value, error.description)
        self.assertNotIn("create", self.management.calls)

    def test_result_out_of_bounds(self) -> None:
        """A result that cannot be stored is refused as a body, and nothing changes."""
        self.create(QUEUE)
        error = self.fails(
            InvalidBody, self.change(add("a", 1), add("_default_message_ttl", 1))
        )
        self.assertEqual("Invalid request body", error.title)
        self.assertNotIn("a", self.done(self.operations.queues.describe(QUEUE)))

    def test_malformed(self) -> None:
        """A patch that cannot be read is refused before anything is looked up."""
        self.fails(InvalidBody, self.operations.queues.change(QUEUE, {}))
        self.assertEqual([], self.management.calls)

    def test_beside_another_change(self) -> None:
        """A change that another one overtakes is applied to what that one left."""
        self.create(QUEUE, n=0)
        answer = self.management.hold_answer("get")
        first = self.start(self.change(add("a", 1)))
        self.done(self.change(add("n", 7)))
        answer.callback(None)
        shown = self.successResultOf(first)
        self.assertEqual((7, 1), (shown["n"], shown["a"]))

    def test_conflict_with_another_change(self) -> None:
        """What another change took away cannot be replaced any more."""
        self.create(QUEUE, n=0)
        answer = self.management.hold_answer("get")
        replace = {"op": "replace", "path": "/metadata/n", "value": 1}
        first = self.start(self.change(replace))
        self.done(self.change({"op": "remove", "path": "/metadata/n"}))
        answer.callback(None)
        self.failureResultOf(first, Conflict)

    def test_removed_meanwhile(self) -> None:
        """A queue that is removed during the change does not exist."""
        self.create(QUEUE)
        answer = self.management.hold_answer("get")
        first = self.start(self.change(add("a", 1)))
        self.done(self.operations.queues.delete(QUEUE))
        answer.callback(None)
        self.failureResultOf(first, DestinationDoesNotExist)

    def test_made_again_meanwhile(self) -> None:
        """A queue that is made again during the change is a new one to change."""
        self.create(QUEUE, old=1)
        answer = self.management.hold_answer("get")
        first = self.start(self.change(add("a", 1)))
        self.done(self.operations.queues.delete(QUEUE))
        self.create(QUEUE, new=1)
        answer.callback(None)
        shown = self.successResultOf(first)
        self.assertEqual((None, 1, 1), (shown.get("old"), shown["new"], shown["a"]))

    def test_no_end_of_changes(self) -> None:
        """Who is overtaken again and again gives up with a conflict."""
        self.create(QUEUE, n=0)
        answer = self.management.hold_answer("get")
        first = self.start(self.change(add("a", 1)))
        overtaken = 0
        while not first.called and overtaken < 1000:
            overtaken += 1
            self.done(self.change(add("n", overtaken)))
            due, answer = answer, self.management.hold_answer("get")
            due.callback(None)
        self.assertEqual(100, overtaken)
        self.failureResultOf(first, Conflict)
        answer.callback(None)
        self.assertNotIn("a", self.done(self.operations.queues.describe(QUEUE)))


class RemovalTests(OperationsTestCase):
    """Deleting and purging."""

    def setUp(self) -> None:
        """Fill a queue."""
        super().setUp()
        self.create(QUEUE, a=1)
        self.post("x")
        self.subscribe()

    def subscribe(self) -> None:
        """Subscribe somebody."""
        document = {"subscriber": "http://example.org/"}
        self.done(self.operations.subscriptions.create(QUEUE, document))

    def contents(self) -> tuple[int, int]:
        """How many messages and subscriptions there are."""
        page = self.operations.subscriptions.page(QUEUE, None, "")
        return len(self.listed()), len(self.done(page))

    def test_delete(self) -> None:
        """Everything is gone, and again when it is deleted again."""
        for _ in range(2):
            self.done(self.operations.queues.delete(QUEUE))
            self.assertEqual((0, 0), self.contents())
            self.assertNotIn("a", self.done(self.operations.queues.describe(QUEUE)))

    def test_delete_only_this(self) -> None:
        """The topic of the same name stays."""
        topic = Destination("p1", Kind.TOPIC, "q")
        self.post("y", to=topic)
        self.done(self.operations.queues.delete(topic))
        self.assertEqual((1, 1), self.contents())

    def has_ghosts(self) -> bool:
        """Whether there are messages without a queue."""
        queues = self.operations.queues
        return (
            self.done(queues.count("p1", Kind.QUEUE)) == 0
            and self.done(queues.stats(QUEUE)).total > 0
        )

    def test_half_deleted(self) -> None:
        """A deletion that fails in the middle leaves no messages without a queue."""
        self.messages.broken = {"clear"}
        self.fails(StoreUnavailable, self.operations.queues.delete(QUEUE))
        self.assertFalse(self.has_ghosts())

    def test_abandoned_deletion(self) -> None:
        """A deletion goes on to its end when the one who asked for it has left."""
        for store, name in ((self.management, "delete"), (self.messages, "clear")):
            self.post("x")
            answer = store.hold_answer(name)
            self.cancel(self.start(self.operations.queues.delete(QUEUE)))
            answer.callback(None)
            queues = self.operations.queues
            self.assertEqual(0, self.done(queues.count("p1", Kind.QUEUE)), name)
            self.assertEqual(0, self.done(queues.stats(QUEUE)).total, name)

    def test_purge(self) -> None:
        """What is named is purged, nothing named means all, and the queue stays."""
        for document, left in (
            ({"resource_types": []}, (1, 1)),
            ({"resource_types": ["messages"]}, (0, 1)),
            ({"resource_types": ["subscriptions"]}, (1, 0)),
            ({"resource_types": ["messages", "subscriptions"]}, (0, 0)),
            (None, (0, 0)),
        ):
            self.done(self.operations.queues.purge(QUEUE, document))
            self.assertEqual(left, self.contents(), document)
            self.assertEqual(1, self.done(self.operations.queues.describe(QUEUE))["a"])
            self.done(self.operations.queues.purge(QUEUE, None))
            self.post("x")
            self.subscribe()

    def test_refused_purge(self) -> None:
        """What names anything else purges nothing."""
        for document in (
            {},
            [],
            "messages",
            {"resource_types": None},
            {"resource_types": 5},
            {"resource_types": "messages"},
            {"resource_types": ["messages", "claims"]},
            {"resource_types": [["messages"]]},
            {"resource_types": [None]},
            {"resource_types": {"messages": True}},
        ):
            self.fails(InvalidRequest, self.operations.queues.purge(QUEUE, document))
        self.assertEqual((1, 1), self.contents())


class ListTests(OperationsTestCase):
    """Lists and numbers."""

    def names(self, limit: int | None = None, after: str = "") -> list[str]:
        """The names on one page."""
        page = self.operations.queues.page("p1", Kind.QUEUE, limit, after, "", {})
        return [record.destination.name for record in self.done(page)]

    def test_pages(self) -> None:
        """Ten without a limit, one to twenty with one, by name."""
        for number in range(25):
            self.create(Destination("p1", Kind.QUEUE, f"q{number:02}"))
        self.assertEqual([f"q{number:02}" for number in range(10)], self.names())
        self.assertEqual(20, len(self.names(20)))
        self.assertEqual(["q24"], self.names(20, "q23"))
        for limit in (0, 21):
            page = self.operations.queues.page("p1", Kind.QUEUE, limit, "", "", {})
            self.fails(InvalidRequest, page)

    def test_count(self) -> None:
        """Destinations are counted by project and kind."""
        self.create(QUEUE)
        self.create(OTHER)
        self.create(TOPIC)
        self.create(Destination("p2", Kind.QUEUE, "q"))
        counts = [
            self.done(self.operations.queues.count(project, kind))
            for project in ("p1", "p2", "p3")
            for kind in NAMEABLE
        ]
        self.assertEqual([2, 1, 1, 0, 0, 0], counts)

    def test_stats(self) -> None:
        """Numbers of what does not exist are zero, and nothing is made."""
        stats = self.done(self.operations.queues.stats(QUEUE))
        self.assertEqual((0, None), (stats.total, stats.oldest))
        self.done(self.operations.queues.describe(QUEUE))
        self.done(self.operations.messages.page(QUEUE, View()))
        self.assertIsNone(self.claim())
        self.assertEqual(0, self.done(self.operations.queues.count("p1", Kind.QUEUE)))
