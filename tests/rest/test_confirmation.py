"""Subscribers that are asked, and how they answer (semantics.md 8)."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from mqsvc.notification.questions import PAUSE
from tests.notification.receiver import OK, Receiver, says
from tests.rest.server import RestTestCase
from tests.websocket.client import connect

SUBSCRIPTIONS = "/v2/queues/q/subscriptions"
SIGNATURE = ("URL-Signature", "URL-Methods", "URL-Paths", "URL-Expires", "X-Project-ID")


class ConfirmationTestCase(RestTestCase):
    """A service that asks, and a webhook."""

    settings = (
        "notification.require_confirmation=true",
        "signed_url.secret_key=for-tests-only",
    )

    async def setUp(self) -> None:
        """Start the receiver and the service."""
        self.receiver = Receiver([says(OK)])
        self.hook = f"http://127.0.0.1:{self.receiver.listen()}/"
        self.addCleanup(lambda: Deferred.fromCoroutine(self.receiver.close()))
        await super().setUp()

    async def told(self, path: str = "/") -> Any:
        """What a webhook is told next."""
        received = self.receiver.requests
        line = f"POST {path} HTTP/1.1"
        while not (found := [each for each in received if each.line == line]):
            await self.pass_time()
        received.remove(found[0])
        return json.loads(found[0].body)

    async def asked(self) -> Any:
        """Subscribe the webhook; what it is asked."""
        made = await self.subscribe("q", self.hook)
        self.path = f"{SUBSCRIPTIONS}/{made}"
        return await self.told()

    async def is_confirmed(self) -> bool:
        """Whether it agreed."""
        return self.expect(await self.call("GET", self.path), 200).json["confirmed"]


class NoticeTests(ConfirmationTestCase):
    """Questions to a webhook, and its answers over the API."""

    async def answer(self, notice: Any, body: str) -> None:
        """Do what a notice says."""
        headers = {name: notice[name] for name in SIGNATURE}
        path = notice["URL-Paths"]
        answer = await self.call("PUT", path, json=notice[body], headers=headers)
        self.expect(answer, 204)

    async def agree(self, subscriber: str) -> None:
        """Subscribe a webhook that has agreed."""
        made = await self.subscribe("q", subscriber)
        # An answer before the question would leave that out.
        await self.told("/other")
        path = f"{SUBSCRIPTIONS}/{made}/confirm"
        self.expect(await self.call("PUT", path, json={"confirmed": True}), 204)

    async def post_to_other(self, body: str) -> None:
        """Post a message, and wait until it was decided who is told of it."""
        await self.post("q", body)
        self.assertEqual(body, (await self.told("/other"))["body"])

    async def test_round(self) -> None:
        """It is told of messages from when it agrees until it leaves."""
        await self.agree(f"{self.hook}other")
        notice = await self.asked()
        self.assertEqual("SubscriptionConfirmation", notice["Message_Type"])
        await self.post_to_other("too early")
        await self.answer(notice, "SubscribeBody")
        self.assertTrue(await self.is_confirmed())
        await self.post_to_other("in time")
        self.assertEqual("in time", (await self.told())["body"])
        await self.answer(notice, "UnsubscribeBody")
        self.assertFalse(await self.is_confirmed())
        again = await self.told()
        self.assertEqual("UnsubscribeConfirmation", again["Message_Type"])
        await self.post_to_other("too late")
        await self.answer(again, "SubscribeBody")
        await self.post_to_other("again")
        self.assertEqual("again", (await self.told())["body"])

    async def test_websocket(self) -> None:
        """Over the WebSocket API a subscriber is asked and answers alike."""
        await self.restart(*self.settings, "websocket=tcp:0:interface=127.0.0.1")
        client = await connect(f"ws://127.0.0.1:{self.root.addresses[1].port}/")
        wanted = {"queue_name": "q", "subscriber": self.hook, "ttl": 300}
        made = await client.call("subscription_create", wanted)
        self.assertEqual(201, made["headers"]["status"], made)
        self.assertEqual(
            "SubscriptionConfirmation", (await self.told())["Message_Type"]
        )
        named = {"subscription_id": made["body"]["subscription_id"]}
        for confirmed in (True, False):
            answer = {"queue_name": "q", **named, "confirmed": confirmed}
            reply = await client.call("subscription_confirm", answer)
            self.assertEqual(204, reply["headers"]["status"], reply)
        asked = await self.told()
        self.assertEqual("UnsubscribeConfirmation", asked["Message_Type"])
        client.hang_up()
        await client.gone

    async def test_asked_again(self) -> None:
        """Who subscribes again later without having agreed is asked again."""
        await self.asked()
        self.clock.advance(PAUSE / 1000)
        again = await self.asked()
        self.assertEqual(f"{self.path}/confirm", again["URL-Paths"])

    async def test_options(self) -> None:
        """A question is sent as messages are."""
        options = {"post_headers": {"X-A": "b"}, "post_data": '{"a":"$zaqar_message$"}'}
        await self.subscribe("q", self.hook, options=options)
        while not self.receiver.requests:
            await self.pass_time()
        (request,) = self.receiver.requests
        self.assertEqual("b", request.headers["x-a"])
        self.assertIn("URL-Signature", json.loads(request.body)["a"])
