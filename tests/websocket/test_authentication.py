"""Who is calling: tokens, their end, and signatures."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mqsvc.access.authentication import Identity
from mqsvc.access.signed_urls import sign
from mqsvc.messaging.errors import NotAuthenticated
from tests.websocket.client import Client
from tests.websocket.server import WebSocketTestCase

POST = {"queue_name": "sq", "messages": [{"body": 1}]}


class AuthenticationTestCase(WebSocketTestCase):
    """A service that wants tokens."""

    has_tokens = True

    async def authenticate(
        self, client: Client, token: str, project: str = "p1"
    ) -> Any:
        """Show a token; the reply."""
        headers = {"X-Auth-Token": token, "X-Project-ID": project}
        return await client.call("authenticate", headers=headers)


class TokenTests(AuthenticationTestCase):
    """Tokens."""

    async def test_order_of_checks(self) -> None:
        """A request is understood before it is asked who sent it."""
        client = await self.connect()
        refused = self.expect(await client.call("queue_list"), 403)
        self.assertEqual({"error": "Not authentified."}, refused)
        self.expect(await client.call("queue_list", {"limit": "x"}), 400)
        self.expect(await client.call("foo"), 400)
        self.expect(await client.call("get_home_doc"), 403)

    async def test_accepted(self) -> None:
        """A good token opens the connection, and is not echoed."""
        client = await self.connect()
        reply = await self.authenticate(client, "tok-p1")
        self.assertEqual({"message": "Authentified."}, self.expect(reply, 200))
        echo = {"action": "authenticate", "body": {}, "headers": {}, "api": "v2"}
        self.assertEqual(echo, reply["request"])
        self.expect(await client.call("queue_list"), 200)

    async def test_right_behind(self) -> None:
        """A request sent behind the token, without waiting, is accepted."""
        client = await self.connect()
        client.ask("authenticate", headers={"X-Auth-Token": "tok-p1"})
        client.ask("queue_list")
        for _ in range(2):
            self.expect(await client.received(), 200)

    async def test_refused(self) -> None:
        """Tokens that do not hold are refused, and may be followed by better ones."""
        client = await self.connect()
        for token in ("bad", "", "t\u00e9", "tok-unscoped"):
            reply = await self.authenticate(client, token)
            refused = self.expect(reply, 401)
            self.assertEqual({"error": "Authentication failed."}, refused)
        self.expect(await self.authenticate(client, "tok-p1"), 200)

    async def test_malformed(self) -> None:
        """A token that is missing or no text is refused by the schema, unseen."""
        client = await self.connect()
        self.expect(await client.call("authenticate"), 400)
        self.expect(await client.call("authenticate", headers={"X-Auth-Token": 5}), 400)
        headers = {"X-Auth-Token": "s3cret", "X-Project-ID": None}
        reply = await client.call("authenticate", headers=headers)
        self.expect(reply, 400)
        self.assertNotIn("s3cret", str(reply))

    async def test_unavailable(self) -> None:
        """An identity service that is out of order is told from a bad token."""
        client = await self.connect()
        self.tokens.is_down = True
        self.expect(await self.authenticate(client, "tok-p1"), 503)

    async def test_project(self) -> None:
        """The project is that of the token, whatever the request says."""
        client = await self.connect()
        self.expect(await self.authenticate(client, "tok-p2", project="p1"), 200)
        refused = self.expect(await client.call("queue_list"), 403)
        self.assertEqual({"error": "Not authenticated."}, refused)
        reply = await client.call("queue_list", headers={"X-Project-ID": "p2"})
        self.expect(reply, 200)

    async def test_again(self) -> None:
        """A later token takes the place of the first one; a bad one changes nothing."""
        client = await self.connect()
        await self.authenticate(client, "tok-p1")
        await self.authenticate(client, "bad")
        self.expect(await client.call("queue_list"), 200)
        await self.authenticate(client, "tok-p2")
        self.expect(await client.call("queue_list"), 403)

    async def test_other_project_ends_pushes(self) -> None:
        """Who becomes another project gets no more messages of the first one."""
        client = await self.connect()
        await self.authenticate(client, "tok-p1")
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        await self.authenticate(client, "tok-p2")
        await self.post("q", "secret")
        reply = await client.call("queue_list", headers={"X-Project-ID": "p2"})
        self.expect(reply, 200)

    async def test_roles(self) -> None:
        """Roles are those of the token; what a client says of itself is not heard."""
        client, claimed = await self.connect(), {"X-Roles": "admin"}
        await self.authenticate(client, "tok-p1")
        self.expect(await client.call("health", headers=claimed), 403)
        await self.authenticate(client, "tok-admin")
        self.expect(await client.call("health"), 200)

    async def test_expiry(self) -> None:
        """When the token ends the connection is closed, and its subscriptions end."""
        client, other = await self.connect(), await self.connect()
        await self.authenticate(client, "tok-short")
        await self.authenticate(other, "tok-p1")
        named = {"queue_name": "q"}
        self.expect(await client.call("subscription_create", named), 201)
        self.clock.pump([1] * 4)
        self.assertEqual((4003, "Authentication expired."), await client.gone)
        left = None
        while left != []:
            reply = await other.call("subscription_list", named)
            left = self.expect(reply, 200)["subscriptions"]

    async def test_expiry_put_off(self) -> None:
        """A token shown in time keeps the connection."""
        client = await self.connect()
        await self.authenticate(client, "tok-short")
        self.clock.pump([1] * 3)
        await self.authenticate(client, "tok-p1")
        self.clock.pump([1] * 5)
        self.expect(await client.call("queue_list"), 200)

    async def test_deadline(self) -> None:
        """Who shows no token in time is closed; who did stays."""
        client, other = await self.connect(), await self.connect()
        await self.authenticate(other, "tok-p1")
        self.clock.pump([1] * 30)
        self.assertEqual(4001, (await client.gone)[0])
        self.expect(await other.call("queue_list"), 200)


class RevocationTests(AuthenticationTestCase):
    """Tokens that end before their time."""

    options = {"token_check_interval": 20}  # noqa: RUF012

    async def subscriber(self, token: str) -> Client:
        """A client with a token that follows a queue."""
        client = await self.connect()
        await self.authenticate(client, token)
        reply = await client.call("subscription_create", {"queue_name": "q"})
        self.expect(reply, 201)
        return client

    async def test_revoked(self) -> None:
        """Who only listens is closed too when the token is revoked; others stay."""
        client = await self.subscriber("tok-p1")
        other = await self.subscriber("tok-admin")
        del self.tokens.known["tok-p1"]
        self.clock.pump([1] * 19)
        self.expect(await client.call("queue_list"), 200)
        self.clock.pump([1] * 2)
        self.assertEqual((4003, "Authentication expired."), await client.gone)
        await self.post("q", "x")
        self.assertEqual("x", (await other.received())["body"])

    async def test_roles_change(self) -> None:
        """The roles of a token are those that it has now."""
        client = await self.connect()
        await self.authenticate(client, "tok-p1")
        self.expect(await client.call("health"), 403)
        self.tokens.known["tok-p1"] = self.tokens.known["tok-admin"]
        self.clock.pump([1] * 21)
        self.expect(await client.call("health"), 200)

    async def test_other_project(self) -> None:
        """A token that is for another project now is another one."""
        client = await self.subscriber("tok-p1")
        self.tokens.known["tok-p1"] = self.tokens.known["tok-p2"]
        self.clock.pump([1] * 21)
        self.assertEqual(4003, (await client.gone)[0])

    async def test_identity_service_away(self) -> None:
        """While nobody can be asked, what is known of a token holds."""
        client = await self.subscriber("tok-p1")
        self.tokens.is_down = True
        for _ in range(4):
            self.clock.pump([1] * 20)
            self.expect(await client.call("queue_list"), 200)
        self.tokens.is_down = False
        del self.tokens.known["tok-p1"]
        self.clock.pump([1] * 21)
        self.assertEqual(4003, (await client.gone)[0])

    async def test_replaced_meanwhile(self) -> None:
        """A new token shown while the old one is looked at keeps the connection."""
        client, answers = await self.subscriber("tok-p1"), []
        identify = self.tokens.identify

        async def slow(token: str) -> Identity:
            if token != "tok-p1":
                return await identify(token)
            answers.append(Deferred())
            return await answers[-1]

        self.tokens.identify = slow
        self.clock.pump([1] * 21)
        await self.authenticate(client, "tok-admin")
        answers[0].errback(NotAuthenticated())
        self.expect(await client.call("health"), 200)

    async def test_warning(self) -> None:
        """Who asks for it is told once that the token ends, in the form of asking."""
        for binary in (False, True):
            self.tokens.known["tok"] = evolve(
                self.tokens.known["tok-p1"],
                expires=int(self.clock.seconds() + 15) * 1000,
            )
            client = await self.connect()
            shown = {"X-Auth-Token": "tok"}
            wanted = {"warn_before": 10}
            options = {"headers": shown, "binary": binary}
            self.expect(await client.call("authenticate", wanted, **options), 200)
            self.clock.pump([1] * 7)
            warning = {"Message_Type": "AuthenticationExpires", "body": None}
            self.assertEqual(
                ({**warning, "expires_in": 10}, binary), await client.frame()
            )
            self.expect(await client.call("queue_list"), 200)
            self.clock.pump([1] * 9)
            self.assertEqual(4003, (await client.gone)[0])

    async def test_no_warning(self) -> None:
        """What is no span asks for nothing, as ever."""
        for body in (None, {}, "x", [], {"warn_before": "x"}, {"warn_before": True}):
            self.tokens.known["tok"] = evolve(
                self.tokens.known["tok-p1"],
                expires=int(self.clock.seconds() + 3) * 1000,
            )
            client = await self.connect()
            shown = {"headers": {"X-Auth-Token": "tok"}}
            self.expect(await client.call("authenticate", body, **shown), 200)
            self.clock.pump([1] * 2)
            self.expect(await client.call("queue_list"), 200)


class FailureTests(AuthenticationTestCase):
    """Guessing."""

    options = {"max_failed_authentications": 3}  # noqa: RUF012

    async def test_bound(self) -> None:
        """After some tokens that do not hold the connection is closed."""
        client = await self.connect()
        for _ in range(3):
            self.expect(await self.authenticate(client, "bad"), 401)
        self.assertEqual(4001, (await client.gone)[0])


class SignatureTests(AuthenticationTestCase):
    """Requests with a signature in the place of a token."""

    def signed(self, methods: list[str], **changes: Any) -> dict[str, Any]:
        """Headers that allow some methods on the messages of the queue ``sq``."""
        paths, expires = ["/v2/queues/sq/messages"], "2027-01-16T08:00:00"
        headers = {
            "URL-Signature": sign("secret", paths, methods, "p1", expires),
            "URL-Expires": expires,
            "URL-Methods": methods,
            "URL-Paths": paths,
        }
        return {k: v for k, v in (headers | changes).items() if v is not None}

    async def test_accepted(self) -> None:
        """A signature allows its methods, and does not authenticate."""
        client = await self.connect()
        allowed = self.signed(["DELETE", "GET", "POST"])
        ids = self.expect(await client.call("message_post", POST, headers=allowed), 201)
        one = {"queue_name": "sq", "message_id": ids["message_ids"][0]}
        for action, body, status in (
            ("message_list", {"queue_name": "sq", "echo": True}, 200),
            ("message_get", one, 200),
            ("message_get_many", {"queue_name": "sq", **ids}, 200),
            ("message_delete", one, 204),
            ("message_delete_many", {"queue_name": "sq", "pop": 1}, 200),
        ):
            self.expect(await client.call(action, body, headers=allowed), status)
        self.expect(await client.call("message_list", {"queue_name": "sq"}), 403)

    async def test_commas(self) -> None:
        """Lists may also be texts with commas, as HTTP has them."""
        client = await self.connect()
        allowed = self.signed(["GET", "POST"], **{"URL-Methods": "GET,POST"})
        allowed["URL-Paths"] = "/v2/queues/sq/messages"
        self.expect(await client.call("message_post", POST, headers=allowed), 201)

    async def test_shared(self) -> None:
        """What this API signs can be used here."""
        owner, guest = await self.connect(), await self.connect()
        await self.authenticate(owner, "tok-p1")
        body = {"queue_name": "sq", "methods": ["POST"], "paths": ["messages"]}
        grant = self.expect(await owner.call("signed_url_create", body), 200)
        allowed = {
            "URL-Signature": grant["signature"],
            "URL-Expires": grant["expires"],
            "URL-Methods": grant["methods"],
            "URL-Paths": grant["paths"],
        }
        self.expect(await guest.call("message_post", POST, headers=allowed), 201)

    async def test_refused(self) -> None:
        """Everything else is refused in one way, whatever its type."""
        client = await self.connect()
        for changes in (
            *({"URL-Signature": "0" * 64}, {"URL-Signature": ""}, {"URL-Paths": None}),
            *({"URL-Expires": "2026-01-01T00:00:00"}, {"URL-Expires": 5}),
            *({"URL-Expires": []}, {"URL-Expires": None}, {"URL-Expires": "x"}),
            *({"URL-Methods": None}, {"URL-Methods": [5]}, {"URL-Methods": ["GET"]}),
            *({"URL-Paths": {}}, {"X-Project-ID": "p2"}),
        ):
            headers = self.signed(["POST"], **changes)
            reply = await client.call("message_post", POST, headers=headers)
            refused = self.expect(reply, 403)
            self.assertEqual({"error": "Not authentified."}, refused)

    async def test_bound_to_its_queue(self) -> None:
        """A signature opens no other queue, and no other action."""
        client, allowed = await self.connect(), self.signed(["DELETE", "GET", "POST"])
        for name in ("other", "sq2", "sq/messages/../x", "sq/messages"):
            body = {**POST, "queue_name": name}
            reply = await client.call("message_post", body, headers=allowed)
            self.assertIn(reply["headers"]["status"], (400, 403))
        topic = {"topic_name": "sq", "messages": [{"body": 1}]}
        self.expect(await client.call("message_post", topic, headers=allowed), 403)
        for action in ("queue_get", "claim_create", "subscription_create"):
            named = {"queue_name": "sq"}
            self.expect(await client.call(action, named, headers=allowed), 403)
