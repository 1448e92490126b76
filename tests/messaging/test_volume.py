"""How much a project may keep."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import QuotaExceeded, StoreUnavailable
from mqsvc.messaging.model import Destination, Kind, NewMessage
from mqsvc.messaging.quotas import MAX_BUCKETS
from mqsvc.messaging.volume import KNOWN_SECONDS, Volume
from tests.messaging.stores import Watched, open_messages

QUEUE = Destination("p", Kind.QUEUE, "q")
NOW = 1_800_000_000_000


class VolumeTests(SynchronousTestCase):
    """A bound of a hundred bytes."""

    def setUp(self) -> None:
        """Watch an empty store."""
        self.clock = Clock()
        self.store = Watched(open_messages(self))
        self.volume = Volume(100, self.store, self.clock)

    def ask(self, *sizes: int, project: str = "p") -> Deferred[None]:
        """Ask whether bodies of these sizes may be posted."""
        messages = [NewMessage(b"x" * size, 60) for size in sizes]
        return Deferred.fromCoroutine(self.volume.admit(project, messages))

    def admit(self, *sizes: int, project: str = "p") -> None:
        """Fail unless they may."""
        self.successResultOf(self.ask(*sizes, project=project))

    def refuse(self, *sizes: int) -> QuotaExceeded:
        """Fail unless they may not; the refusal."""
        return self.failureResultOf(self.ask(*sizes), QuotaExceeded).value

    def keep(self, size: int) -> list[str]:
        """Somebody else posts so many bytes; the id."""
        new = [NewMessage(b"x" * size, 60)]
        return self.successResultOf(self.store.post(QUEUE, new, "c", NOW))

    def test_to_the_last_byte(self) -> None:
        """What was stored before and what is posted here make up the bound."""
        self.keep(60)
        self.admit(30, 9)
        self.refuse(1, 1)
        self.admit(1)
        self.refuse(1)

    def test_what_is_said(self) -> None:
        """Who is refused learns how much there is, and what to do."""
        self.keep(60)
        error = self.refuse(41)
        self.assertEqual(429, error.status)
        for fact in ("60 bytes", "may keep 100", "has 41", "Delete", "expire"):
            self.assertIn(fact, error.description)

    def test_when_to_try_again(self) -> None:
        """What was deleted makes room when the store is asked again."""
        ids = self.keep(100)
        self.assertEqual(KNOWN_SECONDS, self.refuse(1).retry_after)
        self.successResultOf(self.store.delete(QUEUE, ids, NOW))
        self.clock.advance(KNOWN_SECONDS - 0.5)
        self.assertEqual(1, self.refuse(1).retry_after)
        self.clock.advance(0.5)
        self.admit(100)

    def test_store_knows_better(self) -> None:
        """What was posted elsewhere, or failed here, is known at the next question."""
        self.admit(90)
        self.keep(70)
        self.clock.advance(KNOWN_SECONDS)
        self.refuse(31)
        self.admit(30)

    def test_seldom_asked(self) -> None:
        """Many posts are one question to the store, refused or not."""
        for _ in range(100):
            self.admit(1)
        for _ in range(100):
            self.refuse(1)
        self.assertEqual(["stored_bytes"], self.store.calls)

    def test_asked_once_for_many(self) -> None:
        """Those who come while the store is asked wait for the same answer."""
        self.keep(70)
        self.store.calls.clear()
        gate = self.store.hold_call("stored_bytes")
        first, leaving, third = (self.ask(20) for _ in range(3))
        other = self.ask(90, project="other")
        self.successResultOf(other)
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        self.assertNoResult(first)
        gate.callback(None)
        self.successResultOf(first)
        self.failureResultOf(third, QuotaExceeded)
        self.assertEqual(["stored_bytes", "stored_bytes"], self.store.calls)

    def test_slow_store(self) -> None:
        """An answer that took longer than it is good for is used, and asked anew."""
        self.keep(70)
        self.store.calls.clear()
        for _ in range(2):
            gate = self.store.hold_call("stored_bytes")
            first, second = self.ask(20), self.ask(20)
            self.clock.advance(KNOWN_SECONDS + 1)
            gate.callback(None)
            self.successResultOf(first)
            refusal = self.failureResultOf(second, QuotaExceeded).value
            self.assertEqual(1, refusal.retry_after)
        self.assertEqual(["stored_bytes", "stored_bytes"], self.store.calls)

    def test_store_fails(self) -> None:
        """Without an answer nobody is let in, and the next one asks again."""
        gate = self.store.hold_call("stored_bytes")
        both = [self.ask(1), self.ask(1)]
        gate.errback(StoreUnavailable())
        for each in both:
            self.failureResultOf(each, StoreUnavailable)
        self.admit(100)

    def test_projects(self) -> None:
        """Each project has a bound of its own."""
        self.admit(100)
        self.admit(100, project="other")
        self.refuse(1)

    def test_many_projects(self) -> None:
        """The memory is bounded: those asked for longest ago are forgotten."""
        self.admit(100)
        for number in range(MAX_BUCKETS):
            self.admit(1, project=str(number))
        self.assertEqual(MAX_BUCKETS, len(self.volume._known))
        self.admit(100)

    def test_bound(self) -> None:
        """Without a bound there is nothing to be asked."""
        self.assertTrue(self.volume.is_bounded)
        self.assertFalse(Volume(0, self.store, self.clock).is_bounded)
