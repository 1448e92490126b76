"""Trust webhooks, with trusts and tokens of a real Keystone."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from msgspec.structs import replace
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from mqsvc.access.authentication import Identity
from mqsvc.access.keystone import Keystone, ServiceUser
from mqsvc.messaging.errors import IdentityUnavailable, InvalidRequest, NotAuthorized
from mqsvc.notification import trust
from mqsvc.notification.channel import Notice, Outcome, Verdict
from mqsvc.notification.trust import TrustRefused, Trusts, TrustWebhook
from tests.notification.names import Outside
from tests.notification.notices import CONTENT, notice
from tests.notification.receiver import OK, Receiver, answer, says, silent
from tests.servers.keystone import MEMBER, OTHER, PASSWORD, SERVICE, populated


def trustee(password: str = PASSWORD) -> ServiceUser:
    """Whom users trust."""
    return ServiceUser.by_password(SERVICE, password, "Default", "service", "Default")


class TrustCase(TestCase):
    """A receiver, an identity service, and what delivers between them."""

    timeout = 120

    def setUp(self) -> None:
        """Take the Keystone of this run, and start a receiver."""
        self.server = populated()
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.client = HTTPClient(Agent(reactor, pool=pool))
        self.trusts = self.trusts_of(self.server.url)
        self.receiver = Receiver([says(OK)])
        port = self.receiver.listen()
        self.subscriber = f"trust+http://127.0.0.1:{port}/hook"
        outside = Outside()
        self.channel = TrustWebhook(outside.webhook, self.trusts)
        self.outside = outside
        self.addCleanup(lambda: Deferred.fromCoroutine(self.receiver.close()))
        self.addCleanup(lambda: Deferred.fromCoroutine(outside.connections.close()))

    def trusts_of(self, url: str, password: str = PASSWORD) -> Trusts:
        """Trusts at an identity service."""
        return Trusts(url, trustee(password), self.client, reactor, 30, 2)

    async def identity(self, token: str) -> Identity:
        """Whose a token is, by Keystone."""
        own = trustee()
        url = self.server.url
        asker = Keystone(url, url, own, self.client, Clock(), 0, 30, 1)
        return await asker.identify(token)

    async def trust(self, user: str = MEMBER, project: str = "one") -> str:
        """The id of a new trust of a user."""
        token = self.server.token(user, project)
        return await self.trusts.create(
            token, self.server.projects[project], self.in_seconds(3600)
        )

    def in_seconds(self, seconds: int) -> int:
        """A moment to come."""
        return int(reactor.seconds() + seconds) * 1000

    def notice(self, trust_id: Any, project: str = "one") -> Notice:
        """A notice to the receiver, of a subscription in a project."""
        made = notice(self.subscriber, trust_id=trust_id)
        subscription = made.subscription
        destination = replace(
            subscription.destination, project=self.server.projects[project]
        )
        return evolve(made, subscription=evolve(subscription, destination=destination))

    async def deliver(self, trust_id: Any, project: str = "one") -> Outcome:
        """What comes of one attempt."""
        return await self.channel.deliver(self.notice(trust_id, project))

    @property
    def tokens(self) -> list[str]:
        """The tokens that the receiver saw."""
        return [request.headers["x-auth-token"] for request in self.receiver.requests]


class TrustTests(TrustCase):
    """With trusts that hold."""

    async def test_delivered(self) -> None:
        """The token is the user's, in the project and with the role of the trust."""
        outcome = await self.deliver(await self.trust())
        self.assertEqual((Verdict.DELIVERED, ""), (outcome.verdict, outcome.error))
        [request] = self.receiver.requests
        self.assertEqual("POST /hook HTTP/1.1", request.line)
        self.assertEqual(CONTENT, request.body)
        self.assertEqual("application/json", request.headers["content-type"])
        identity = await self.identity(self.tokens[0])
        member = await self.identity(self.server.token(MEMBER, "one"))
        self.assertEqual(member.user, identity.user)
        self.assertEqual(member.project, identity.project)
        self.assertIn("member", identity.roles)

    async def test_remembered(self) -> None:
        """The next delivery uses the same token."""
        trust_id = await self.trust()
        for _ in range(3):
            await self.deliver(trust_id)
        self.assertEqual(1, len(set(self.tokens)))
        self.assertEqual(3, len(self.tokens))

    async def test_not_accepted(self) -> None:
        """A remembered token that is not accepted is replaced, once."""
        trust_id = await self.trust()
        await self.deliver(trust_id)
        self.server.revoke(self.tokens[0])
        self.receiver.scripts = [says(answer(401)), says(OK)]
        outcome = await self.deliver(trust_id)
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        first, again, new = self.tokens
        self.assertEqual(first, again)
        self.assertNotEqual(first, new)

    async def test_never_accepted(self) -> None:
        """A receiver that accepts no token has the last word."""
        trust_id = await self.trust()
        self.receiver.scripts = [says(answer(401))]
        for wanted in (1, 3):
            outcome = await self.deliver(trust_id)
            self.assertEqual(Verdict.REFUSED, outcome.verdict)
            self.assertEqual(wanted, len(self.tokens))

    async def test_few_remembered(self) -> None:
        """Of too many tokens the one that was not used for longest is forgotten."""
        self.patch(trust, "MAX_KNOWN", 1)
        first, second = await self.trust(), await self.trust()
        await self.deliver(first)
        await self.deliver(second)
        self.assertIsNone(self.trusts.recall(first))
        self.assertIsNotNone(self.trusts.recall(second))

    async def test_expiry(self) -> None:
        """A trust can have an end, and so have its tokens."""
        token = self.server.token(MEMBER, "one")
        end = self.in_seconds(30)
        trust_id = await self.trusts.create(token, self.server.projects["one"], end)
        made = await self.trusts.fetch(trust_id)
        self.assertLessEqual(made.expires, end / 1000)
        # Less than a minute is left, so that it is not used again.
        self.assertIsNone(self.trusts.recall(trust_id))


class RefusedTests(TrustCase):
    """With trusts that do not hold."""

    async def test_unknown(self) -> None:
        """A trust that never was ends the delivery."""
        for trust_id in ("0" * 32, "nonsense", "../../users"):
            outcome = await self.deliver(trust_id)
            self.assertEqual(Verdict.REFUSED, outcome.verdict)
        self.assertEqual([], self.tokens)

    async def test_deleted(self) -> None:
        """A trust that its user took back gives no token."""
        trust_id = await self.trust()
        await self.trusts.fetch(trust_id)
        url = f"{self.server.url}/OS-TRUST/trusts/{trust_id}"
        token = self.server.token(MEMBER, "one")
        headers = Headers({"X-Auth-Token": [token]})
        response = await self.client.delete(url, headers=headers)
        self.assertEqual(204, response.code)
        await response.content()
        with self.assertRaises(TrustRefused):
            await self.trusts.fetch(trust_id)

    async def test_none(self) -> None:
        """A subscription without a trust is not delivered to."""
        for trust_id in (None, "", 5):
            outcome = await self.deliver(trust_id)
            self.assertEqual(Verdict.REFUSED, outcome.verdict)

    async def test_other_project(self) -> None:
        """A trust of another project is no good, whoever knows its id."""
        trust_id = await self.trust(OTHER, "two")
        for _ in range(2):
            outcome = await self.deliver(trust_id, "one")
            self.assertEqual(Verdict.REFUSED, outcome.verdict)
            self.assertIn("another project", outcome.error)
        self.assertEqual([], self.tokens)

    async def test_not_the_user(self) -> None:
        """A token of another project, of none, or that is no token makes no trust."""
        for token in (
            self.server.token(OTHER, "two"),
            self.server.token(MEMBER, None),
            "nonsense",
        ):
            with self.assertRaises(NotAuthorized):
                await self.trusts.create(
                    token, self.server.projects["one"], self.in_seconds(60)
                )

    async def test_application_credential(self) -> None:
        """A token that was not got with a password makes no trust."""
        made, secret = self.server.application_credential(MEMBER, "one")
        login = ServiceUser.by_credential(made, secret).login()
        _, headers, _ = self.server._exchange("POST", "/auth/tokens", login)
        with self.assertRaises(NotAuthorized):
            await self.trusts.create(
                headers["X-Subject-Token"],
                self.server.projects["one"],
                self.in_seconds(60),
            )

    async def test_delegated(self) -> None:
        """Who acts for a user cannot pass that on."""
        given = await self.trusts.fetch(await self.trust())
        with self.assertRaises(NotAuthorized):
            await self.trusts.create(given.value, given.project, self.in_seconds(60))

    async def test_check(self) -> None:
        """A new subscription is checked as its webhook is."""
        await self.channel.check(self.subscriber, {"trust_id": "x"})
        await self.channel.check(self.subscriber, {})
        for subscriber, options in (
            (self.subscriber, {"trust_id": 5}),
            ("trust+http://10.0.0.1/", {}),
            ("trust+http://", {}),
            (self.subscriber, {"post_data": 5}),
        ):
            with self.assertRaises(InvalidRequest):
                await self.channel.check(subscriber, options)


class AwayTests(TrustCase):
    """When the identity service does not help."""

    async def outcome(self, trusts: Trusts) -> Outcome:
        """What comes of one attempt with some trusts."""
        channel = TrustWebhook(self.outside.webhook, trusts)
        return await channel.deliver(self.notice("t"))

    async def test_away(self) -> None:
        """A delivery waits until the service is back."""
        outcome = await self.outcome(self.trusts_of("http://127.0.0.1:9/v3"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_wrong_login(self) -> None:
        """The trustee's login is ours to mend."""
        outcome = await self.outcome(self.trusts_of(self.server.url, "wrong"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        with self.assertRaises(IdentityUnavailable):
            await self.trusts_of(self.server.url, "wrong").create(
                self.server.token(MEMBER, "one"),
                self.server.projects["one"],
                self.in_seconds(60),
            )

    async def test_nonsense(self) -> None:
        """An answer that is none gives no token."""
        bodies = [b"", b"[]", b'{"token": {"expires_at": 5}}', b"{" * 2_000_000]
        header = "X-Subject-Token: x"
        other = Receiver([says(answer(201, header, body=body)) for body in bodies])
        port = other.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(other.close()))
        trusts = self.trusts_of(f"http://127.0.0.1:{port}/v3")
        for _ in bodies:
            outcome = await self.outcome(trusts)
            self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_silence(self) -> None:
        """A service that does not answer is not waited for."""
        other = Receiver([silent])
        port = other.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(other.close()))
        url = f"http://127.0.0.1:{port}/v3"
        trusts = Trusts(url, trustee(), self.client, reactor, 0.05, 1)
        outcome = await self.outcome(trusts)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
