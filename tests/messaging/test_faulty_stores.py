"""Operations over stores that fail: nothing is hidden and nothing is left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import IService
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.messages import View
from mqsvc.messaging.model import Destination, Kind, Subscription
from mqsvc.messaging.operations import Operations
from mqsvc.storage.ids import format_id
from mqsvc.storage.interfaces import IManagementStore, IMessageStore
from tests.messaging.case import QUEUE, TOPIC, WORN_OUT, OperationsTestCase
from tests.messaging.stores import Watched
from tests.storage.faulty import FaultyStore

ID = format_id(1, 2)
MESSAGES = [{"body": 1}]
PATCH = [{"op": "add", "path": "/metadata/a", "value": 1}]
SUBSCRIBER = {"subscriber": "http://example.org/"}

Call = Callable[[Operations, Destination], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "queues.create": lambda o, d: o.queues.create(d, {}),
    "queues.describe": lambda o, d: o.queues.describe(d),
    "queues.change": lambda o, d: o.queues.change(d, PATCH),
    "queues.delete": lambda o, d: o.queues.delete(d),
    "queues.page": lambda o, d: o.queues.page("p1", d.kind, None, "", "", {}),
    "queues.count": lambda o, d: o.queues.count("p1", d.kind),
    "queues.stats": lambda o, d: o.queues.stats(d),
    "queues.purge": lambda o, d: o.queues.purge(d, None),
    "messages.post": lambda o, d: o.messages.post(d, "c", MESSAGES, 1),
    "messages.page": lambda o, d: o.messages.page(d, View()),
    "messages.page waiting": lambda o, d: o.messages.page(d, View(), 20),
    "messages.get": lambda o, d: o.messages.get(d, ID),
    "messages.get_many": lambda o, d: o.messages.get_many(d, [ID]),
    "messages.delete": lambda o, d: o.messages.delete(d, ID, None),
    "messages.delete_many": lambda o, d: o.messages.delete_many(d, [ID], None),
    "messages.pop": lambda o, d: o.messages.pop(d, 1),
    "claims.create": lambda o, d: o.claims.create(d, None, 1),
    "claims.create waiting": lambda o, d: o.claims.create(d, None, 1, 20),
    "claims.get": lambda o, d: o.claims.get(d, ID),
    "claims.renew": lambda o, d: o.claims.renew(d, ID, {}),
    "claims.release": lambda o, d: o.claims.release(d, ID),
    "subscriptions.create": lambda o, d: o.subscriptions.create(d, SUBSCRIBER),
    "subscriptions.get": lambda o, d: o.subscriptions.get(d, ID),
    "subscriptions.page": lambda o, d: o.subscriptions.page(d, None, ""),
    "subscriptions.update": lambda o, d: o.subscriptions.update(d, ID, {"ttl": 60}),
    "subscriptions.delete": lambda o, d: o.subscriptions.delete(d, ID),
    "subscriptions.confirm": lambda o, d: o.subscriptions.confirm(
        d, ID, {"confirmed": True}
    ),
    "subscriptions.restore": lambda o, d: o.subscriptions.restore(
        Subscription(ID, d, "http://example.net/", 9**9, 0, {})
    ),
    "subscriptions.leave": lambda o, d: o.subscriptions.leave(
        Subscription(ID, d, "http://example.net/", 9**9, 0, {})
    ),
    "health.ping": lambda o, d: o.health.ping(),
}
"""Every operation that needs a store, with arguments that are fine."""

ONLY_WITH_POOLS = {
    *("pool", "pools", "put_pool", "delete_pool"),
    *("flavor", "flavors", "put_flavor", "delete_flavor"),
}
"""Methods of the management store; tests/messaging/test_administration.py has them."""

ONLY_WITH_LEASES = {"begin_lease", "renew_lease", "end_lease"}
"""Methods of the management store; tests/messaging/test_lease.py has them."""

NEVER_USED = {"sweep", "records", "stored", "stored_bytes", "restore"}
"""Methods that no operation of the table needs."""

NEVER_FAIL = {"queues.shown", "queues.check_size", "health.report"}
"""The first two need no store, the last reports failures instead."""


def methods(interface: InterfaceClass) -> set[str]:
    """What an interface of stores asks for, beside being a service."""
    return set(interface.names(all=True)) - set(IService.names(all=True))


class FaultyStoreTests(SynchronousTestCase):
    """The store that fails is a store."""

    def test_interfaces(self) -> None:
        """It can take the place of either kind of store."""
        verifyObject(IMessageStore, FaultyStore())
        verifyObject(IManagementStore, FaultyStore())

    def test_every_method_fails(self) -> None:
        """Each method fails with what the store was told to fail with."""
        store = FaultyStore(lambda: ValueError("broken"))
        for interface in (IMessageStore, IManagementStore):
            self.assertLessEqual({"ping", "page", "get"}, methods(interface))
            for name in methods(interface):
                self.failureResultOf(getattr(store, name)(), ValueError)


class BothFailTests(OperationsTestCase):
    """Neither store answers."""

    def setUp(self) -> None:
        """Wire the operations over stores that fail."""
        super().setUp()
        self.over(FaultyStore(), FaultyStore())

    def test_every_operation_is_here(self) -> None:
        """No operation is missing from the table."""
        groups = ("queues", "messages", "claims", "subscriptions", "health")
        names = {
            f"{group}.{name}"
            for group in groups
            for name in dir(getattr(self.operations, group))
            if not name.startswith("_") and name != "log"
        }
        self.assertEqual(names - NEVER_FAIL, {name.split()[0] for name in CALLS})

    def test_every_operation_fails(self) -> None:
        """Each operation says that the store is not available, and forgets it."""
        for destination in (QUEUE, TOPIC):
            for name, call in CALLS.items():
                error = self.fails(StoreUnavailable, call(self.operations, destination))
                self.assertEqual(
                    StoreUnavailable().description, error.description, name
                )
                self.leaves_nothing()

    def test_health(self) -> None:
        """The report says of each step that it failed, with a reference to the log."""
        report = self.done(self.operations.health.report())
        self.assertIs(False, report["storage_reachable"])
        steps = report["operation_status"]
        self.assertEqual([False] * 8, [each["succeeded"] for each in steps.values()])
        self.assertEqual(8, len({each["ref"] for each in steps.values()}))
        self.assertEqual(8, len(self.flushLoggedErrors(StoreUnavailable)))
        self.leaves_nothing()


class OneFailsTests(OperationsTestCase):
    """One method of one store fails; the operations that need it fail with it."""

    def setUp(self) -> None:
        """Make what the operations can work on."""
        super().setUp()
        self.create(QUEUE, **WORN_OUT)
        self.subscription = self.done(
            self.operations.subscriptions.create(QUEUE, SUBSCRIBER)
        ).id

    def test_each_method_of_the_message_store(self) -> None:
        """Whichever method fails, those who need it fail and the others do not."""
        used = self.break_each(self.messages, IMessageStore)
        self.assertEqual(methods(IMessageStore) - NEVER_USED, used)

    def test_each_method_of_the_management_store(self) -> None:
        """Whichever method fails, those who need it fail and the others do not."""
        used = self.break_each(self.management, IManagementStore)
        # No subscription has the id of the table.
        never = {*NEVER_USED, *ONLY_WITH_POOLS, *ONLY_WITH_LEASES}
        never |= {"update_subscription"}
        self.assertEqual(methods(IManagementStore) - never, used)

    def break_each(self, store: Watched, interface: InterfaceClass) -> set[str]:
        """Let each method fail while all operations run; those that were called."""
        called = set()
        for method in methods(interface):
            store.broken = {method}
            # A ping is not repeated at once.
            self.clock.advance(1)
            for name, call in CALLS.items():
                store.calls.clear()
                failed = self.has_failed(call)
                self.assertEqual(method in store.calls, failed, f"{name}, {method}")
                called |= {method} & set(store.calls)
                self.leaves_nothing()
        return called

    def has_failed(self, call: Call) -> bool:
        """Whether an operation fails as it should; one that waits is let go."""
        outcome: list[Any] = []
        running = self.start(call(self.operations, QUEUE)).addBoth(outcome.append)
        running.cancel()
        return getattr(outcome[0], "type", None) is StoreUnavailable

    def test_update_of_a_subscription(self) -> None:
        """A subscription that cannot be changed stays as it was."""
        self.management.broken = {"update_subscription"}
        subscriptions = self.operations.subscriptions
        for change in (
            subscriptions.update(QUEUE, self.subscription, {"ttl": 60}),
            subscriptions.confirm(QUEUE, self.subscription, {"confirmed": True}),
        ):
            self.fails(StoreUnavailable, change)
        kept = self.done(subscriptions.get(QUEUE, self.subscription))
        self.assertEqual((3600, False), (kept.ttl, kept.confirmed))

    def test_memory_after_a_failure(self) -> None:
        """What could not be read or changed is read again when the store is back."""
        self.management.broken = {"get"}
        self.over(self.management, self.messages)
        self.fails(StoreUnavailable, self.operations.queues.describe(QUEUE))
        self.management.broken = set()
        shown = self.done(self.operations.queues.describe(QUEUE))
        self.assertEqual(1, shown["_max_claim_count"])

    def test_post_without_record(self) -> None:
        """Where the record cannot be made nothing is posted."""
        other = Destination("p1", Kind.QUEUE, "new")
        self.management.broken = {"create"}
        self.fails(
            StoreUnavailable, self.operations.messages.post(other, "c", MESSAGES, 1)
        )
        self.assertNotIn("post", self.messages.calls)

    def test_failed_post_is_no_signal(self) -> None:
        """A post that failed wakes nobody."""
        head = self.claiming()
        self.messages.broken = {"post"}
        self.messages.calls.clear()
        self.fails(
            StoreUnavailable, self.operations.messages.post(QUEUE, "c", MESSAGES, 1)
        )
        self.assertEqual(["post"], self.messages.calls)
        self.cancel(head)
        self.leaves_nothing()

    def test_health_of_one_step(self) -> None:
        """The report blames the step that fails, and the others go on."""
        self.messages.broken = {"stats", "release"}
        report = self.done(self.operations.health.report())
        failed = [
            name
            for name, step in report["operation_status"].items()
            if not step["succeeded"]
        ]
        self.assertEqual(["delete_claim"], failed)
        self.assertIs(True, report["storage_reachable"])
        self.assertEqual(1, len(self.flushLoggedErrors(StoreUnavailable)))

    def test_health_without_messages(self) -> None:
        """Steps that find nothing to work on have not failed."""
        self.messages.broken = {"post"}
        report = self.done(self.operations.health.report())
        failed = [
            name
            for name, step in report["operation_status"].items()
            if not step["succeeded"]
        ]
        self.assertEqual(["post_messages"], failed)
        self.flushLoggedErrors(StoreUnavailable)

    def test_health_leaves_no_queue(self) -> None:
        """The report takes its own queue away, also after a step that failed."""
        self.messages.broken = {"claim"}
        self.done(self.operations.health.report())
        self.flushLoggedErrors(StoreUnavailable)
        self.assertEqual(
            0, self.done(self.operations.queues.count("mqsvc-health", Kind.QUEUE))
        )
