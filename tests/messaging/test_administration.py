"""Pools and flavors: failures, callers who leave, and changes at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, fail

from mqsvc.messaging.errors import (
    PoolDoesNotExist,
    PoolInUse,
    StoreUnavailable,
    UnusableFlavor,
    UnusablePool,
)
from mqsvc.messaging.model import Pool
from mqsvc.messaging.operations import Administration
from mqsvc.storage.errors import StoreOpenError
from tests.messaging.case import QUEUE
from tests.messaging.pooled import PooledTestCase

Call = Callable[[Administration], Awaitable[Any]]

POOL = {"uri": "test:p", "weight": 1}

CALLS: dict[str, Call] = {
    "pools.put": lambda a: a.pools.put("p", POOL),
    "pools.change": lambda a: a.pools.change("p", {"weight": 2}),
    "pools.get": lambda a: a.pools.get("p"),
    "pools.page": lambda a: a.pools.page(None, ""),
    "pools.delete": lambda a: a.pools.delete("spare"),
    "flavors.put": lambda a: a.flavors.put("f", {"pool_list": ["p"]}),
    "flavors.change": lambda a: a.flavors.change("f", {"pool_list": ["p"]}),
    "flavors.get": lambda a: a.flavors.get("f"),
    "flavors.page": lambda a: a.flavors.page(None, ""),
    "flavors.delete": lambda a: a.flavors.delete("f"),
}
"""Every operation, with arguments that are fine."""

METHODS = ("put_pool", "pool", "pools", "delete_pool")
METHODS_FOR_FLAVORS = ("put_flavor", "flavor", "flavors", "delete_flavor")


class FailingTests(PooledTestCase):
    """The catalog does not answer."""

    def test_every_operation_is_here(self) -> None:
        """No operation is missing from the table."""
        names = {
            f"{group}.{name}"
            for group in ("pools", "flavors")
            for name in dir(getattr(self.administration, group))
            if not name.startswith("_")
        }
        self.assertEqual(names, set(CALLS))

    def test_each_method(self) -> None:
        """Whichever method fails, those who need it fail and the others do not."""
        used = set()
        for method in (*METHODS, *METHODS_FOR_FLAVORS):
            for name, call in CALLS.items():
                self.management.broken = set()
                self.add_flavor("f", "p")
                self.add_pool("spare")
                self.management.broken = {method}
                self.management.calls.clear()
                outcome: list[Any] = []
                self.start(call(self.administration)).addBoth(outcome.append)
                failed = getattr(outcome[0], "type", None) is StoreUnavailable
                self.assertEqual(
                    method in self.management.calls, failed, f"{name}, {method}"
                )
                used |= set(self.management.calls)
        self.assertLessEqual({*METHODS, *METHODS_FOR_FLAVORS}, used)

    def test_goes_on_after_a_failure(self) -> None:
        """A change that failed holds up nobody."""
        self.management.broken = {"put_pool"}
        for _ in range(2):
            self.fails(StoreUnavailable, self.administration.pools.put("p", POOL))
        self.management.broken = set()
        self.done(self.administration.pools.put("p", POOL))
        self.assertEqual(1, self.done(self.administration.pools.get("p")).weight)


class TurnTests(PooledTestCase):
    """Changes are made one after the other."""

    def setUp(self) -> None:
        """Make a pool."""
        super().setUp()
        self.add_pool("p")

    def pool(self) -> Pool:
        """The pool as it is."""
        return self.done(self.administration.pools.get("p"))

    def test_two_changes(self) -> None:
        """Neither of two changes undoes the other."""
        held = self.management.hold_call("put_pool")
        pools = self.administration.pools
        first = self.start(pools.change("p", {"weight": 7}))
        second = self.start(pools.change("p", {"flavor": "f"}))
        held.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual((7, "f"), (self.pool().weight, self.pool().flavor))

    def test_flavor_at_the_same_time(self) -> None:
        """A change of a pool does not undo that of a flavor."""
        held = self.management.hold_call("put_pool")
        changing = self.start(self.administration.pools.change("p", {"weight": 7}))
        flavors = self.administration.flavors
        flavoring = self.start(flavors.put("f", {"pool_list": ["p"]}))
        held.callback(None)
        self.successResultOf(changing)
        self.successResultOf(flavoring)
        self.assertEqual((7, "f"), (self.pool().weight, self.pool().flavor))

    def test_deleted_at_the_same_time(self) -> None:
        """A flavor is not made of a pool that is just deleted."""
        held = self.management.hold_call("delete_pool")
        deleting = self.start(self.administration.pools.delete("p"))
        flavors = self.administration.flavors
        flavoring = self.start(flavors.put("f", {"pool_list": ["p"]}))
        held.callback(None)
        self.successResultOf(deleting)
        self.failureResultOf(flavoring, UnusableFlavor)

    def test_caller_leaves(self) -> None:
        """A change whose caller leaves is made, and the next one waits for it."""
        held = self.management.hold_answer("put_pool")
        pools = self.administration.pools
        self.cancel(self.start(pools.change("p", {"uri": "test:other"})))
        later: Deferred[Any] = self.start(pools.change("p", {"weight": 9}))
        self.assertNoResult(later)
        held.callback(None)
        self.assertEqual(
            ("test:other", 9),
            (self.successResultOf(later).uri, self.pool().weight),
        )


class StoreTests(PooledTestCase):
    """The store of a pool is opened anew when the pool changes."""

    def test_another_store(self) -> None:
        """Messages go to the new store from then on."""
        self.add_pool("p")
        self.post("x")
        self.done(self.administration.pools.change("p", {"uri": "test:other"}))
        self.post("y")
        self.assertEqual([b'"y"'], self.listed())
        self.done(self.administration.pools.put("p", POOL))
        self.assertEqual([b'"x"'], self.listed())

    def test_deleted(self) -> None:
        """The store of a pool that is deleted is closed."""
        self.add_pool("p")
        self.post("x")
        self.done(self.operations.queues.delete(QUEUE))
        self.done(self.administration.pools.delete("p"))
        self.assertEqual(1, self.stores["test:p"].calls.count("stopService"))
        self.fails(PoolDoesNotExist, self.administration.pools.get("p"))

    def test_in_use(self) -> None:
        """A pool in which queues live stays, and the refusal says what to do."""
        self.add_pool("p")
        self.post("x")
        error = self.fails(PoolInUse, self.administration.pools.delete("p"))
        for words in ("delete them", "weight of 0"):
            self.assertIn(words, error.description)
        self.assertEqual([b'"x"'], self.listed())
        self.assertNotIn("stopService", self.stores["test:p"].calls)

    def test_no_store(self) -> None:
        """Where no store works nothing is kept."""
        pools = self.administration.pools
        document = {"uri": "nowhere:", "weight": 1}
        error = self.fails(UnusablePool, pools.put("p", document))
        self.assertEqual("Unable to create pool", error.title)
        self.assertIn("there is no store nowhere:", error.description)
        self.fails(PoolDoesNotExist, pools.get("p"))
        self.add_pool("p")
        error = self.fails(UnusablePool, pools.change("p", {"uri": "nowhere:"}))
        self.assertEqual("Unable to update pool", error.title)
        self.assertEqual("test:p", self.done(pools.get("p")).uri)

    def test_no_password(self) -> None:
        """No refusal repeats the password of a URI, however it is written."""
        for uri, secret in (
            ("redis://user:hunter2@host/0", "hunter2"),
            ("redis://:a%2Fb%40c@host", "a/b@c"),
            ("redis://:a%2Fb%40c@host", "a%2Fb%40c"),
            ("redis+sentinel://:hunter2@one:1,two:2/?master=m", "hunter2"),
            ("redis://:hunter2@[host", "hunter2"),
        ):
            error = StoreOpenError(f"{uri} cannot be used with {secret}")
            self.patch(self.pooled, "check", lambda *_, e=error: fail(e))
            document = {"uri": uri, "weight": 1}
            refused = self.fails(
                UnusablePool, self.administration.pools.put("p", document)
            )
            self.assertNotIn(secret, refused.description)
            self.assertIsNone(refused.__cause__)
