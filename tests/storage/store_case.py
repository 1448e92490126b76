"""What the tests of message stores are written with.

They see a store only through its interface, and time only as ``self.now``, which they
move themselves.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    Message,
    NewMessage,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.ids import format_id, parse_id
from mqsvc.storage.interfaces import IMessageStore

ORDERS = Destination("tenant", Kind.QUEUE, "orders")
RETURNS = Destination("tenant", Kind.QUEUE, "returns")
GRAVEYARD = Destination("tenant", Kind.QUEUE, "graveyard")

Item = TypeVar("Item")

START = 1_700_000_000_123
"""Where ``self.now`` begins: any moment that is no whole second."""

UNKNOWN_ID = format_id(START * 1000 - 1, 7)
"""Well formed, and older than any message of the tests."""

MALFORMED_IDS = (
    "",
    "3",
    "x" * 24,
    UNKNOWN_ID + "0",
    UNKNOWN_ID[:-1],
    UNKNOWN_ID + "\n",
    " " + UNKNOWN_ID[1:],
    "A" + UNKNOWN_ID[1:],
    "-" + UNKNOWN_ID[1:],
    "\u0663" * 24,
)


class OpenStore(Protocol):
    """Makes a store for one test, and clears away after it."""

    def __call__(self, testcase: TestCase, path: str | None = None) -> IMessageStore:
        """A store that is not started yet.

        :param path: where it keeps its messages: the same path is the same messages,
            also while another store has it open. None is a new and empty place.
        """


if TYPE_CHECKING:
    Mixin = TestCase
else:
    # The mixins are no test cases, so that trial does not run them by themselves.
    Mixin = object


class StoreTests(Mixin):
    """What the tests of all concerns are written with."""

    open_store: OpenStore
    timeout = 30
    """Seconds after which a store that does not answer fails its test."""

    def setUp(self) -> None:
        self.now = START
        self.store = self.start(self.open_store(self))

    def start(self, store: IMessageStore) -> IMessageStore:
        store.startService()
        self.addCleanup(self.stop, store)
        return store

    async def stop(self, store: IMessageStore) -> None:
        if store.running:
            await maybeDeferred(store.stopService)

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds * 1000

    async def post(
        self,
        *bodies: str,
        to: Destination = ORDERS,
        ttl: int = 3600,
        delay: int = 0,
        client: str = "alice",
    ) -> list[str]:
        new = [NewMessage(body.encode(), ttl, delay) for body in bodies]
        return await self.store.post(to, new, client, self.now)

    async def page(
        self, of: Destination = ORDERS, limit: int = 100, **filters: Any
    ) -> list[Message]:
        return await self.store.page(of, Selection(limit, **filters), self.now)

    async def listed(
        self, of: Destination = ORDERS, limit: int = 100, **filters: Any
    ) -> list[str]:
        return ids_of(await self.page(of, limit, **filters))

    async def existing(self, of: Destination = ORDERS) -> list[Message]:
        """All messages, in any state."""
        return await self.page(
            of, limit=20_000, include_claimed=True, include_delayed=True
        )

    async def attempt(
        self,
        limit: int = 20,
        ttl: int = 300,
        grace: int = 60,
        of: Destination = ORDERS,
        rule: DeadLetterRule | None = None,
    ) -> Claimed:
        """Try to claim."""
        return await self.store.claim(of, ttl, grace, limit, self.now, rule)

    async def claim(self, **options: Any) -> Claim:
        """Claim something."""
        claimed = await self.attempt(**options)
        assert claimed.claim is not None, "there was nothing to claim"
        return claimed.claim

    async def message(self, message_id: str, of: Destination = ORDERS) -> Message:
        """One message that exists."""
        (found,) = await self.store.get(of, [message_id], self.now)
        return found

    async def delete(
        self, *message_ids: str, claims: Sequence[str] | None = None
    ) -> None:
        await self.store.delete(ORDERS, message_ids, self.now, claims)

    async def stored(
        self, of: Destination = ORDERS, limit: int = 20_000, after: str | None = None
    ) -> list[StoredMessage]:
        """Everything, as it is taken to another store."""
        return await self.store.stored(of, limit, after, self.now)

    async def restore(
        self, *messages: StoredMessage, to: Destination = RETURNS
    ) -> list[str]:
        """Bring what another store kept."""
        return await self.store.restore(to, messages, self.now)

    async def sweep_all(self) -> None:
        """Sweep until there is nothing left to do."""
        for _ in range(100):
            if not await self.store.sweep(self.now):
                return
        self.fail("sweep always says that there may be more")

    async def assert_nothing_shown(self, of: Destination = ORDERS) -> None:
        """No view of a destination has anything in it."""
        self.assertEqual(await self.existing(of), [])
        self.assertEqual(await self.stored(of), [])
        self.assertEqual(await self.store.stats(of, self.now), Stats())
        self.assertIsNone(await self.store.next_ready(of, self.now))
        self.assertEqual(await self.store.pop(of, 100, self.now), [])
        self.assertEqual(await self.attempt(of=of), Claimed(None, 0))

    def test_interface(self) -> None:
        """The driver provides IMessageStore."""
        self.assertTrue(verifyObject(IMessageStore, self.store))


def ids_of(messages: Sequence[Message]) -> list[str]:
    """The ids, in the same order."""
    return [message.id for message in messages]


def position_of(message_id: str) -> int:
    """The place that an id stands for."""
    parsed = parse_id(message_id)
    assert parsed is not None, f"{message_id!r} is not a message id"
    return parsed[0]


def forged(message_id: str) -> str:
    """The id of the same position with another random part."""
    parsed = parse_id(message_id)
    assert parsed is not None, f"{message_id!r} is not a message id"
    return format_id(parsed[0], parsed[1] ^ 1)


def running(*coroutines: Coroutine[Any, Any, Any]) -> list[Deferred[Any]]:
    """Start all of them without waiting for any."""
    return [Deferred.fromCoroutine(each) for each in coroutines]


def flat(lists: Iterable[Sequence[Item]]) -> list[Item]:
    """One list of all."""
    return [item for each in lists for item in each]
