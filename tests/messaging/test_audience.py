"""Audience: who must be told of what is posted."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.bus import Bus
from mqsvc.messaging.audience import LOOKED_AT, Audience
from mqsvc.messaging.model import Subscription
from tests.messaging.case import NOW, QUEUE
from tests.messaging.stores import open_management


class AudienceTests(SynchronousTestCase):
    """What is known of the subscriptions of a queue."""

    def setUp(self) -> None:
        """Begin without subscriptions."""
        self.management = open_management(self)
        self.management.create(QUEUE, {})
        self.audience = Audience(self.management, lambda: NOW, Bus())

    def listens(self) -> bool:
        """Whether somebody must be told; it is then known as well."""
        self.audience.forget(QUEUE)
        told = self.successResultOf(self.ask())
        self.assertEqual(not told, self.audience.is_known_silent(QUEUE))
        return told

    async def ask(self) -> bool:
        """Ask once."""
        return await self.audience.listens(QUEUE)

    def subscribe(self, subscriber: str, number: int) -> None:
        """Add a subscription whose id is made of a number."""
        new = Subscription(f"{number:024x}", QUEUE, subscriber, 3600, NOW, {})
        self.successResultOf(self.management.subscribe(new, NOW))

    def test_nobody(self) -> None:
        """Without subscriptions nobody must be told, which is not known before."""
        self.assertFalse(self.audience.is_known_silent(QUEUE))
        self.assertFalse(self.listens())

    def test_connections(self) -> None:
        """Open connections follow by themselves."""
        self.subscribe("websocket:1", 1)
        self.subscribe("websocket:2", 2)
        self.assertFalse(self.listens())

    def test_webhook_behind_connections(self) -> None:
        """One other among connections must be told."""
        self.subscribe("websocket:1", 1)
        self.subscribe("http://example.org/", 2)
        self.assertTrue(self.listens())

    def test_many_connections(self) -> None:
        """Behind many connections there may be others, and nobody looks for them."""
        for number in range(LOOKED_AT):
            self.subscribe(f"websocket:{number}", number)
        self.assertTrue(self.listens())
