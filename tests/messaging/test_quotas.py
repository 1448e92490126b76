"""What a project may use."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import QuotaExceeded
from mqsvc.messaging.model import Destination, Kind
from mqsvc.messaging.quotas import MAX_BUCKETS, QuotaLimits, Quotas, Rate
from tests.messaging.stores import open_management


class QuotasTests(SynchronousTestCase):
    """Queues and messages of a project."""

    def setUp(self) -> None:
        """Open an empty catalog."""
        self.management = open_management(self)
        self.clock = Clock()

    def quotas(self, **limits: int) -> Quotas:
        """Quotas with these bounds."""
        return Quotas(QuotaLimits(**limits), self.management, self.clock)

    def admit(self, quotas: Quotas, project: str) -> Deferred[None]:
        """Ask for one more queue."""
        return Deferred.fromCoroutine(quotas.admit_destination(project))

    def test_queues(self) -> None:
        """Queues and topics of the project count together, those of others do not."""
        quotas = self.quotas(max_queues=2)
        self.management.create(Destination("p", Kind.QUEUE, "a"), {})
        self.successResultOf(self.admit(quotas, "p"))
        self.management.create(Destination("p", Kind.TOPIC, "a"), {})
        failure = self.failureResultOf(self.admit(quotas, "p"), QuotaExceeded)
        self.assertEqual((failure.value.status, failure.value.retry_after), (429, 60))
        self.successResultOf(self.admit(quotas, "other"))

    def test_without_bounds(self) -> None:
        """Nothing is bounded unless the operator says so."""
        quotas = self.quotas()
        self.management.create(Destination("p", Kind.QUEUE, "a"), {})
        self.successResultOf(self.admit(quotas, "p"))
        for _ in range(1000):
            quotas.admit_messages("p", 1000)

    def test_messages(self) -> None:
        """Who posts faster than allowed is told when to go on."""
        quotas = self.quotas(messages_per_second=10)
        quotas.admit_messages("p", 20)
        error = self.assertRaises(QuotaExceeded, quotas.admit_messages, "p", 1)
        self.assertEqual(error.retry_after, 1)
        quotas.admit_messages("other", 1)
        self.clock.advance(1)
        quotas.admit_messages("p", 1)


class RateTests(SynchronousTestCase):
    """The buckets."""

    def test_steady(self) -> None:
        """Over a long time exactly the rate passes."""
        clock = Clock()
        rate = Rate(10, clock)
        passed = 0
        for _ in range(1000):
            passed += rate.take("p", 1) == 0
            clock.advance(0.01)
        self.assertEqual(passed, 20 + 10 * 10)

    def test_large_batch(self) -> None:
        """A batch larger than the bucket passes, and is worked off before the next."""
        clock = Clock()
        rate = Rate(10, clock)
        self.assertEqual(rate.take("p", 100), 0)
        self.assertEqual(rate.take("p", 1), 9)
        clock.advance(8)
        self.assertEqual(rate.take("p", 1), 1)
        clock.advance(0.5)
        self.assertEqual(rate.take("p", 1), 0)

    def test_many_projects(self) -> None:
        """The memory is bounded: those idle longest are forgotten."""
        rate = Rate(1, Clock())
        for number in range(MAX_BUCKETS + 10):
            rate.take(str(number), 2)
        self.assertEqual(rate.take("0", 1), 0)
        self.assertEqual(rate.take(str(MAX_BUCKETS), 1), 1)
