"""Stages before a message store: what passes, and what a filter makes of messages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace
from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mqsvc.messaging.errors import InvalidRequest, NotAuthorized, StoreUnavailable
from mqsvc.messaging.model import (
    Destination,
    Kind,
    Message,
    NewMessage,
    Posting,
    Selection,
    StoredMessage,
)
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.stages import MessageFilter, Stage
from tests.messaging.stores import Watched, open_messages
from tests.storage.contract import make_store_tests
from tests.storage.test_pools import open_inline

QUEUE = Destination("p", Kind.QUEUE, "q")
NOW = 1_800_000_000_000


def open_store(testcase: TestCase, path: str | None = None) -> IMessageStore:
    """A store behind a filter and a stage that change nothing."""
    return MessageFilter(Stage(open_inline(path or testcase.mktemp())))


globals().update(make_store_tests("Stages", open_store))


class Shout(MessageFilter):
    """Changes whatever it sees, drops and refuses what asks for it."""

    def on_post(
        self, destination: Destination, message: NewMessage
    ) -> NewMessage | None:
        """Drop, refuse, or mark with the name of the destination."""
        match message.body:
            case b'"drop"':
                return None
            case b'"refuse"':
                raise InvalidRequest("Not that word.")
            case b'"forbid"':
                raise NotAuthorized("Not here.")
        return replace(message, body=message.body + f' "{destination.name}"'.encode())

    def on_read(self, destination: Destination, message: Message) -> Message:
        """Shout."""
        return replace(message, body=message.body.upper())


class StageTests(SynchronousTestCase):
    """The stage that does nothing."""

    def setUp(self) -> None:
        """Note the calls that the inner store gets."""
        self.inner = Watched(open_inline(self.mktemp()))
        self.stage = Stage(self.inner)

    def test_interface(self) -> None:
        """It is a message store."""
        verifyObject(IMessageStore, self.stage)

    def test_started_and_stopped_once(self) -> None:
        """The inner store starts and stops with the outermost stage, once each."""
        outermost = Stage(Stage(self.stage))
        outermost.privilegedStartService()
        outermost.startService()
        self.assertEqual(["privilegedStartService", "startService"], self.inner.calls)
        self.assertTrue(outermost.running)
        self.successResultOf(outermost.stopService())
        self.assertEqual(["stopService"], self.inner.calls[2:])
        self.assertFalse(outermost.running)

    def test_stopping_waits(self) -> None:
        """It is stopped when the inner store is."""
        self.stage.startService()
        end = self.inner.hold_answer("stopService")
        stopping = self.stage.stopService()
        self.assertNoResult(stopping)
        end.callback(None)
        self.successResultOf(stopping)

    def test_every_method_is_passed_on(self) -> None:
        """Each method of the interface reaches the inner store with its arguments.

        So do those that a subclass calls by ``super()``.
        """
        given: list[tuple[Any, ...]] = []

        class Recorded:
            def __getattr__(self, name: str) -> Any:
                def call(*args: Any, **kwargs: Any) -> Deferred[str]:
                    given.append((name, *args))
                    return succeed(name)

                return call

        stage: Any = Stage(Recorded())
        calls: Mapping[str, tuple[Any, ...]] = {
            "ping": (),
            "sweep": (1,),
            "post": (QUEUE, [2], "c", 3, 33),
            "page": (QUEUE, 4, 5),
            "get": (QUEUE, ["6"], 7),
            "delete": (QUEUE, ["8"], 9, ["10"]),
            "pop": (QUEUE, 11, 12),
            "claim": (QUEUE, 13, 14, 15, 16, 17),
            "get_claim": (QUEUE, "18", 19),
            "renew": (QUEUE, "20", 21, 22, 23),
            "release": (QUEUE, "24", 25, True),
            "stats": (QUEUE, 26),
            "clear": (QUEUE,),
            "next_ready": (QUEUE, 27),
            "stored_bytes": ("p",),
            "stored": (QUEUE, 28, "29", 30),
            "restore": (QUEUE, [31], 32),
        }
        methods = {*IMessageStore.names(all=True)} - {*IService.names(all=True)}
        self.assertEqual(methods, set(calls))
        for name, arguments in calls.items():
            for method in getattr(stage, name), partial(getattr(Stage, name), stage):
                given.clear()
                self.assertEqual(name, self.successResultOf(method(*arguments)))
                self.assertEqual([(name, *arguments)], given)


class FilterTests(SynchronousTestCase):
    """A filter over a real store."""

    def setUp(self) -> None:
        """Put a filter before a store."""
        self.inner = Watched(open_messages(self))
        self.store = Shout(self.inner)

    def post(self, *bodies: bytes) -> Deferred[list[str]]:
        """Post messages."""
        messages = [NewMessage(body, 3600) for body in bodies]
        return self.store.post(QUEUE, messages, "c", NOW)

    def posted(self, *bodies: bytes) -> list[str]:
        """Post messages; their ids."""
        return self.successResultOf(self.post(*bodies))

    def bodies(self, store: Any = None) -> list[bytes]:
        """What a page of a store shows."""
        page = (store or self.store).page(QUEUE, Selection(20), NOW)
        return [message.body for message in self.successResultOf(page)]

    def test_on_post(self) -> None:
        """What is stored is what the filter makes of it."""
        self.posted(b"true", b"false")
        self.assertEqual([b'true "q"', b'false "q"'], self.bodies(self.inner))

    def test_drop(self) -> None:
        """A dropped message has no id; the others keep their order."""
        ids = self.posted(b"1", b'"drop"', b"2")
        self.assertEqual(2, len(ids))
        self.assertEqual([b'1 "q"', b'2 "q"'], self.bodies(self.inner))

    def test_drop_all(self) -> None:
        """A post of which nothing is left is answered without asking the store."""
        self.assertEqual([], self.posted(b'"drop"', b'"drop"'))
        self.assertEqual([], self.inner.calls)

    def test_further_messages(self) -> None:
        """What is posted elsewhere in the same step is not filtered on its way in."""
        further = Destination("p", Kind.OUTBOX, "o")
        also = Posting(further, [NewMessage(b'"drop"', 60), NewMessage(b"true", 60)])
        new = [NewMessage(b"1", 60)]
        self.successResultOf(self.store.post(QUEUE, new, "c", NOW, also))
        self.assertEqual([b'1 "q"'], self.bodies(self.inner))
        page = self.successResultOf(self.inner.page(further, Selection(20), NOW))
        self.assertEqual([b'"drop"', b"true"], [message.body for message in page])
        dropped = [NewMessage(b'"drop"', 60)]
        self.successResultOf(self.store.post(QUEUE, dropped, "c", NOW, also))
        stats = self.successResultOf(self.inner.stats(further, NOW))
        self.assertEqual(2, stats.total)

    def test_refuse(self) -> None:
        """A message that is refused refuses the whole post."""
        self.failureResultOf(self.post(b"1", b'"refuse"'), InvalidRequest)
        self.failureResultOf(self.post(b'"forbid"', b"1"), NotAuthorized)
        self.assertEqual([], self.inner.calls)

    def test_every_way_to_read(self) -> None:
        """A client meets the filter however it reads."""
        (first, *_) = self.posted(b"true", b"false")
        self.assertEqual([b'TRUE "Q"', b'FALSE "Q"'], self.bodies())
        (found,) = self.successResultOf(self.store.get(QUEUE, [first], NOW))
        self.assertEqual(b'TRUE "Q"', found.body)
        claim = self.successResultOf(self.store.claim(QUEUE, 60, 60, 1, NOW)).claim
        self.assertEqual([b'TRUE "Q"'], [each.body for each in claim.messages])
        again = self.successResultOf(self.store.get_claim(QUEUE, claim.id, NOW))
        self.assertEqual(claim, again)
        (popped,) = self.successResultOf(self.store.pop(QUEUE, 5, NOW))
        self.assertEqual(b'FALSE "Q"', popped.body)

    def test_nothing_to_claim(self) -> None:
        """A claim of nothing stays one."""
        claimed = self.successResultOf(self.store.claim(QUEUE, 60, 60, 1, NOW))
        self.assertIsNone(claimed.claim)

    def test_export(self) -> None:
        """What goes to another store and what comes from it is not filtered."""
        self.posted(b"true")
        (stored,) = self.successResultOf(self.store.stored(QUEUE, 5, None, NOW))
        self.assertEqual(b'true "q"', stored.message.body)
        kept = StoredMessage(replace(stored.message, body=b'"drop"'), stored.expires)
        self.successResultOf(self.store.restore(QUEUE, [kept], NOW))
        self.assertEqual([b'true "q"', b'"drop"'], self.bodies(self.inner))

    def test_failing_store(self) -> None:
        """What the store fails with is passed on."""
        self.inner.broken.update(("page", "post"))
        self.failureResultOf(self.post(b"1"), StoreUnavailable)
        self.failureResultOf(
            self.store.page(QUEUE, Selection(1), NOW), StoreUnavailable
        )

    def test_without_overrides(self) -> None:
        """A filter that overrides nothing changes nothing."""
        store = MessageFilter(self.inner)
        message = NewMessage(b"true", 60)
        self.successResultOf(store.post(QUEUE, [message], "c", NOW))
        self.assertEqual([b"true"], self.bodies(store))
