"""What the tests of every management store share: names, values, a running store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mqsvc.messaging.model import Destination, Kind, Record, Subscription
from mqsvc.storage.interfaces import IManagementStore

OpenPlace = Callable[[], IManagementStore]
"""Opens a store, not yet started, always on the same data."""

OpenStore = Callable[[TestCase], OpenPlace]
"""Makes an empty place for one test, and cleans up after it if need be."""

NOW = 1_800_000_000_000

ODD_PROJECTS = (
    "p",
    "P",
    "p ",
    " p",
    "p%",
    "p_",
    "%",
    "_",
    "p.q",
    "p/q",
    "p\\q",
    "p'; DROP TABLE destinations; --",
    'p"q"',
    "p\nq",
    "*",
    "[p]",
    "\u00e9",
    "e\u0301",
    "\u00df",
    "ss",
    "\u9879\u76ee",
    "\U0001f4ec",
    "x" * 256,
    "\U0001f4ec" * 256,
)


def queue(name: str, project: str = "p") -> Destination:
    """A queue of a project."""
    return Destination(project, Kind.QUEUE, name)


def topic(name: str, project: str = "p") -> Destination:
    """A topic of a project."""
    return Destination(project, Kind.TOPIC, name)


def subscription(number: int, **changes: Any) -> Subscription:
    """A subscription of queue ``q``; a higher number has a higher id."""
    plain = Subscription(
        id=f"{number:024x}",
        destination=queue("q"),
        subscriber=f"http://subscriber.example/{number}",
        ttl=60,
        created=NOW,
        options={},
    )
    return evolve(plain, **changes)


def names(records: Iterable[Record]) -> list[str]:
    """The names of some records."""
    return [record.destination.name for record in records]


class ManagementTestCase(TestCase):
    """A running store in an empty place."""

    open_store: OpenStore

    def setUp(self) -> None:
        """Open the place and start a first store."""
        self.place = self.open_store(self)
        self.store = self.start_store()

    def start_store(self) -> IManagementStore:
        """One more store on the same data, which stops with the test."""
        store = self.place()
        store.startService()
        self.addCleanup(store.stopService)
        return store

    async def create_all(self, *destinations: Destination) -> None:
        """Make records without metadata."""
        await gatherResults([self.store.create(each, {}) for each in destinations])

    async def subscribe_all(self, *subscriptions: Subscription) -> None:
        """Keep subscriptions, at the moment they were made."""
        await gatherResults(
            [self.store.subscribe(each, each.created) for each in subscriptions]
        )

    async def read(self, destination: Destination) -> Record:
        """A record that is there."""
        record = await self.store.get(destination)
        assert record is not None, destination
        return record


class ConcurrentTestCase(ManagementTestCase):
    """Callers that act at the same time, through two stores on the same data."""

    CALLERS = range(20)

    def setUp(self) -> None:
        """Start a second store, as another process would."""
        super().setUp()
        self.stores = (self.store, self.start_store())

    async def at_once(
        self, call: Callable[[IManagementStore, int], Deferred[Any]]
    ) -> list[Any]:
        """What each caller got; a failure counts as its exception."""

        def caught(failure: Failure) -> BaseException | None:
            return failure.value

        return await gatherResults(
            [
                call(self.stores[number % 2], number).addErrback(caught)
                for number in self.CALLERS
            ]
        )
