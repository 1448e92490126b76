"""Subscribers that act for a user, from a request to the token that they get."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.notification.receiver import OK, Received, Receiver, says
from tests.rest.answers import Answer
from tests.rest.server import RestTestCase
from tests.servers.keystone import MEMBER, PASSWORD, READER, SERVICE, populated
from tests.websocket.client import connect

SUBSCRIPTIONS = "/v2/queues/q/subscriptions"


@functools.cache
def token_of(user: str) -> str:
    """A token of a user of project one; they take Keystone long to make."""
    return populated().token(user, "one")


class TrustingTests(RestTestCase):
    """A service behind Keystone, and a receiver."""

    timeout = 120

    async def setUp(self) -> None:
        """Start the service and the receiver."""
        self.keystone = populated()
        self.project = self.keystone.projects["one"]
        self.settings = (
            *("auth_strategy=keystone", "signed_url.secret_key=for-tests-only"),
            *("websocket=tcp:0:interface=127.0.0.1", "policy_file="),
            f"keystone_authtoken.auth_url={self.keystone.url}",
            f"keystone_authtoken.username={SERVICE}",
            f"keystone_authtoken.password={PASSWORD}",
            "keystone_authtoken.project_name=service",
        )
        self.receiver = Receiver([says(OK)])
        port = self.receiver.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.receiver.close()))
        self.subscriber = f"trust+http://127.0.0.1:{port}/hook"
        await super().setUp()

    async def _start(self, settings: Sequence[str]) -> None:
        # Keystone has a clock of its own.
        self.clock.rightNow = reactor.seconds()
        await super()._start(settings)

    async def ask(self, user: str, method: str, path: str, json: Any = None) -> Answer:
        """Send a request of a user of project one."""
        headers = {"X-Auth-Token": token_of(user)}
        return await self.call(method, path, json=json, headers=headers)

    async def told(self) -> Received:
        """What the receiver gets when there is a message."""
        messages = {"messages": [{"body": 1}]}
        posted = await self.ask(MEMBER, "POST", "/v2/queues/q/messages", messages)
        self.expect(posted, 201)
        while not self.receiver.requests:
            await self.pass_time()
        return self.receiver.requests.pop()

    def user_of(self, told: Received) -> str:
        """For whom the receiver can act in project one, as Keystone sees it."""
        headers = {
            "X-Auth-Token": self.keystone._admin_token(),
            "X-Subject-Token": told.headers["x-auth-token"],
        }
        status, _, document = self.keystone._exchange(
            "GET", "/auth/tokens", headers=headers
        )
        self.assertEqual(200, status)
        self.assertEqual(self.project, document["token"]["project"]["id"])
        return document["token"]["user"]["name"]

    async def test_round(self) -> None:
        """The receiver acts for who subscribed, and nobody sees the trust."""
        wanted = {"subscriber": self.subscriber, "options": {"post_data": "{}"}}
        made = await self.ask(MEMBER, "POST", SUBSCRIPTIONS, wanted)
        path = f"{SUBSCRIPTIONS}/{self.expect(made, 201).json['subscription_id']}"
        shown = (await self.ask(MEMBER, "GET", path)).json["options"]
        self.assertEqual({"post_data": "{}", "trust_id": "***"}, shown)
        told = await self.told()
        self.assertEqual(b"{}", told.body)
        self.assertEqual(MEMBER, self.user_of(told))

    async def test_other_user(self) -> None:
        """Who leads it elsewhere lets it act for themselves, not for who made it."""
        made = await self.ask(
            MEMBER, "POST", SUBSCRIPTIONS, {"subscriber": f"{self.subscriber}/old"}
        )
        path = f"{SUBSCRIPTIONS}/{made.json['subscription_id']}"
        change = {"subscriber": self.subscriber}
        self.expect(await self.ask(READER, "PATCH", path, change), 204)
        self.assertEqual(READER, self.user_of(await self.told()))

    async def test_websocket(self) -> None:
        """A subscription made over a WebSocket acts for who authenticated there."""
        client = await connect(f"ws://127.0.0.1:{self.root.addresses[1].port}/")
        headers = {"X-Project-ID": self.project}
        shown = {**headers, "X-Auth-Token": token_of(MEMBER)}
        await client.call("authenticate", headers=shown)
        wanted = {"queue_name": "q", "subscriber": self.subscriber, "ttl": 300}
        made = await client.call("subscription_create", wanted, headers=headers)
        self.assertEqual(201, made["headers"]["status"], made)
        listed = await client.call(
            "subscription_list", {"queue_name": "q"}, headers=headers
        )
        (only,) = listed["body"]["subscriptions"]
        self.assertEqual({"trust_id": "***"}, only["options"])
        self.assertEqual(MEMBER, self.user_of(await self.told()))
        client.hang_up()
        await client.gone

    async def test_signed(self) -> None:
        """A signature stands for no user, so that nobody could be acted for."""
        asked = {"paths": ["subscriptions"], "methods": ["POST"]}
        shared = await self.ask(MEMBER, "POST", "/v2/queues/q/share", asked)
        grant = self.expect(shared, 200).json
        headers = {
            "URL-Signature": grant["signature"],
            "URL-Expires": grant["expires"],
            "URL-Methods": ",".join(grant["methods"]),
            "URL-Paths": ",".join(grant["paths"]),
        }
        wanted = {"subscriber": self.subscriber}
        answer = await self.call(
            "POST", SUBSCRIPTIONS, json=wanted, headers=headers, project=self.project
        )
        self.refused(answer, 400, "Invalid API request")
        self.assertIn("X-Auth-Token", answer.json["description"])

    async def test_wrong_trustee(self) -> None:
        """A trustee that cannot log in is no fault of the client."""
        await self.restart(*self.settings, "trustee.password=wrong")
        wanted = {"subscriber": self.subscriber}
        answer = await self.ask(MEMBER, "POST", SUBSCRIPTIONS, wanted)
        self.refused(answer, 503)
        listed = await self.ask(MEMBER, "GET", SUBSCRIPTIONS)
        self.assertEqual([], listed.json["subscriptions"])
