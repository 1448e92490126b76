"""What an identity service is asked for trusts, and how often."""

from __future__ import annotations

from typing import Any, cast

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool

from mqsvc.access.keystone import ServiceUser
from mqsvc.notification import trust
from mqsvc.notification.trust import REFUSED_SECONDS, TrustRefused, Trusts
from tests.notification.receiver import Receiver, answer, says

TRUSTEE = ServiceUser.by_password("mqsvc", "x", "Default", "service", "Default")
NO, YES = says(answer(401)), says(answer(201))
"""To a login with a trust, and to one without."""


class RefusedTests(TestCase):
    """An identity service that has no token for a trust."""

    timeout = 30

    def setUp(self) -> None:
        """Have it listen."""
        self.clock = Clock()
        self.receiver = Receiver([NO, YES] * 10)
        port = self.receiver.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.receiver.close()))
        pool = HTTPConnectionPool(reactor, persistent=False)
        client = HTTPClient(Agent(reactor, pool=pool))
        url = f"http://127.0.0.1:{port}/v3"
        self.trusts = Trusts(url, TRUSTEE, client, self.clock, 30, 1)

    async def refused(self, *trust_ids: str) -> int:
        """How many questions there were for so many tokens that nobody gets."""
        before = len(self.receiver.requests)
        for trust_id in trust_ids:
            with self.assertRaises(TrustRefused):
                await self.trusts.fetch(trust_id)
        return len(self.receiver.requests) - before

    async def test_remembered(self) -> None:
        """That there is none is remembered for a while, of each trust for itself."""
        self.assertEqual(2, await self.refused("a", "a", "a"))
        self.assertEqual(2, await self.refused("b"))
        self.clock.advance(REFUSED_SECONDS)
        self.assertEqual(2, await self.refused("a", "a"))

    async def test_few_remembered(self) -> None:
        """Of too many such trusts the oldest one is forgotten."""
        self.patch(trust, "MAX_KNOWN", 1)
        self.assertEqual(6, await self.refused("a", "b", "b", "a"))


class Silent:
    """A client of a service that does not answer."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def request(self, *_: Any, **__: Any) -> Deferred[Any]:
        """See :class:`treq.client.HTTPClient`."""
        self.asked.append(Deferred())
        return self.asked[-1]


class BoundTests(SynchronousTestCase):
    """Many trusts at a time."""

    def test_few_questions(self) -> None:
        """So many questions are asked at a time, and others wait for them."""
        client = Silent()
        trusts = Trusts("http://a/", TRUSTEE, cast(Any, client), Clock(), 30, 2)
        fetched = [Deferred.fromCoroutine(trusts.fetch(str(n))) for n in range(5)]
        self.assertEqual(2, len(client.asked))
        fetched[0].cancel()
        self.failureResultOf(fetched[0], CancelledError)
        self.assertEqual(3, len(client.asked))
        for each in reversed(fetched[1:]):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(3, len(client.asked))
