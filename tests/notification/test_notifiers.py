"""Channels of installed packages."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from mqsvc.config import load
from mqsvc.storage.plugins import PluginError
from mqsvc.tap import make_root
from tests.rest.server import RestTestCase, asking
from tests.storage.test_plugins import install

SUBSCRIPTIONS = "/v2/queues/q/subscriptions"


class NotifierTests(RestTestCase):
    """A package that carries notifications by pigeon."""

    settings = ("transport.subscriber_types=http,pigeon",)

    async def setUp(self) -> None:
        """Install the package, and start."""
        entry = "[mqsvc.notifiers]\npigeon = CODE:Pigeon\n"
        self.module = install(self, "loft", entry)
        await super().setUp()

    def carried(self) -> list[Any]:
        """What was carried so far."""
        found: list[Any] = vars(sys.modules[self.module])["Pigeon"].carried
        return found

    async def test_delivered(self) -> None:
        """A message is handed to the channel of its subscriber's scheme."""
        await self.subscribe("q", "pigeon:white")
        await self.post("q", {"coo": 1})
        while not self.carried():
            await deferLater(reactor, 0.01)
        ((subscriber, content),) = self.carried()
        self.assertEqual("pigeon:white", subscriber)
        self.assertIn(b'"body":{"coo":1}', content)

    async def test_refused(self) -> None:
        """The channel can refuse a subscriber."""
        body = {"subscriber": "pigeon:lame"}
        request = asking("POST", SUBSCRIPTIONS, json=body)
        await self.refuses(400, "Invalid API request", [request])

    def test_taken(self) -> None:
        """A package cannot claim a scheme that is built in."""
        install(self, "thief", "[mqsvc.notifiers]\nhttps = CODE:Pigeon\n")
        settings = load(None, {}, [f"data_dir={self.mktemp()}"])
        error = self.assertRaises(PluginError, make_root, settings, reactor)
        self.assertIn("the package thief claims 'https'", str(error))
