"""Tokens judged by a real Keystone, and what happens when it does not answer well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mqsvc.access.authentication import Identity
from mqsvc.access.keystone import NEGATIVE_SECONDS, Keystone, ServiceUser
from mqsvc.messaging.errors import IdentityUnavailable, NotAuthenticated
from tests.servers.keystone import (
    MEMBER,
    OTHER,
    PASSWORD,
    READER,
    SERVICE,
    KeystoneServer,
    populated,
)

CACHE_SECONDS = 300
TIMEOUT = 10.0
AT_A_TIME = 4


def service_user(password: str = PASSWORD) -> ServiceUser:
    """The service's own login."""
    return ServiceUser.by_password(SERVICE, password, "Default", "service", "Default")


class Counted:
    """An HTTP client that counts what goes through it."""

    def __init__(self) -> None:
        self.pool = HTTPConnectionPool(reactor, persistent=False)
        self._client = HTTPClient(Agent(reactor, pool=self.pool))
        self.asked: list[str] = []

    def request(self, method: str, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """See :class:`treq.client.HTTPClient`."""
        self.asked.append(method)
        return self._client.request(method, *args, **kwargs)


def validator(
    url: str, client: Any, clock: Clock, user: ServiceUser | None = None
) -> Keystone:
    """What is tested, asking a server."""
    user = service_user() if user is None else user
    return Keystone(
        *(url, url, user, client, clock, CACHE_SECONDS, TIMEOUT),
        most_questions=AT_A_TIME,
    )


class RealKeystoneTests(TestCase):
    """With the tokens that Keystone itself issues."""

    timeout = 120

    def setUp(self) -> None:
        """Take the Keystone of this run."""
        self.server: KeystoneServer = populated()
        self.client = Counted()
        self.clock = Clock()
        self.keystone = validator(self.server.url, self.client, self.clock)

    async def test_member(self) -> None:
        """A token tells project, user and roles."""
        token = self.server.token(MEMBER, "one")
        identity = await self.keystone.identify(token)
        self.assertEqual(identity.project, self.server.projects["one"])
        self.assertIn("member", identity.roles)
        self.assertNotIn("admin", identity.roles)
        self.assertTrue(identity.user)

    async def test_projects_apart(self) -> None:
        """Tokens of two users give the project of each."""
        tokens = [self.server.token(MEMBER, "one"), self.server.token(OTHER, "two")]
        found = [await self.keystone.identify(token) for token in tokens]
        wanted = [self.server.projects["one"], self.server.projects["two"]]
        self.assertEqual([identity.project for identity in found], wanted)

    async def test_reader(self) -> None:
        """Who may only read has that role and no other."""
        identity = await self.keystone.identify(self.server.token(READER, "one"))
        self.assertEqual(identity.roles, {"reader"})

    async def test_without_project(self) -> None:
        """A token that is for no project says so."""
        identity = await self.keystone.identify(self.server.token(MEMBER, None))
        self.assertIsNone(identity.project)

    async def test_unknown(self) -> None:
        """What is no token is refused."""
        for token in ("gAAAAAB", "x", "0" * 200):
            with self.assertRaises(NotAuthenticated):
                await self.keystone.identify(token)

    async def test_malformed(self) -> None:
        """What cannot be a token is refused without asking."""
        for token in ("", " ", "a b", "tök", "a\nb", "x" * 9000):
            with self.assertRaises(NotAuthenticated):
                await self.keystone.identify(token)
        self.assertEqual(self.client.asked, [])

    async def test_good_is_remembered(self) -> None:
        """A token is asked about once in the time of the cache."""
        token = self.server.token(MEMBER, "one")
        first = await self.keystone.identify(token)
        self.clock.advance(CACHE_SECONDS - 1)
        self.assertEqual(await self.keystone.identify(token), first)
        self.assertEqual(self.client.asked, ["POST", "GET"])
        self.clock.advance(1)
        await self.keystone.identify(token)
        self.assertEqual(self.client.asked, ["POST", "GET", "GET"])

    async def test_bad_is_remembered(self) -> None:
        """A token that does not hold is asked about once in a short time."""
        for asked in (["POST", "GET"], ["POST", "GET"]):
            with self.assertRaises(NotAuthenticated):
                await self.keystone.identify("nonsense")
            self.assertEqual(self.client.asked, asked)
        self.clock.advance(NEGATIVE_SECONDS)
        with self.assertRaises(NotAuthenticated):
            await self.keystone.identify("nonsense")
        self.assertEqual(self.client.asked, ["POST", "GET", "GET"])

    async def test_revoked(self) -> None:
        """A revoked token is refused when the cache's time is over at the latest."""
        token = self.server.token(MEMBER, "one")
        await self.keystone.identify(token)
        self.server.revoke(token)
        self.clock.advance(CACHE_SECONDS)
        with self.assertRaises(NotAuthenticated):
            await self.keystone.identify(token)

    async def test_together(self) -> None:
        """Questions about one token at the same time become one."""
        token = self.server.token(MEMBER, "one")
        asking = [
            Deferred.fromCoroutine(self.keystone.identify(token)) for _ in range(20)
        ]
        identities = await gatherResults(asking)
        self.assertEqual(len(set(identities)), 1)
        self.assertEqual(self.client.asked, ["POST", "GET"])

    async def test_one_gives_up(self) -> None:
        """Who hangs up takes the answer from nobody else."""
        token = self.server.token(MEMBER, "one")
        first = Deferred.fromCoroutine(self.keystone.identify(token))
        second = Deferred.fromCoroutine(self.keystone.identify(token))
        first.addErrback(lambda _: None)
        first.cancel()
        self.assertIsInstance(await second, Identity)

    async def test_own_token_revoked(self) -> None:
        """The service logs in again when its own token does not hold any more."""
        await self.keystone.identify(self.server.token(MEMBER, "one"))
        own = self.keystone._own_token
        self.server.revoke(str(own))
        await self.keystone.identify(self.server.token(OTHER, "two"))
        self.assertEqual(self.client.asked, ["POST", "GET", "GET", "POST", "GET"])

    async def test_application_credential(self) -> None:
        """The service may log in with an application credential instead."""
        made = self.server.application_credential(SERVICE, "service")
        user = ServiceUser.by_credential(*made)
        keystone = validator(self.server.url, self.client, self.clock, user)
        identity = await keystone.identify(self.server.token(MEMBER, "one"))
        self.assertEqual(identity.project, self.server.projects["one"])

    async def test_wrong_password(self) -> None:
        """A service that cannot log in cannot tell whether a token is good."""
        user = service_user("wrong")
        keystone = validator(self.server.url, self.client, self.clock, user)
        with self.assertRaises(IdentityUnavailable):
            await keystone.identify(self.server.token(MEMBER, "one"))

    async def test_expired(self) -> None:
        """A token is good until it expires, whatever the cache's time."""
        token = self.server.token(MEMBER, "one")
        identity = await self.keystone.identify(token)
        assert identity.expires is not None
        self.clock.advance(identity.expires / 1000 - 100)
        again = validator(self.server.url, self.client, self.clock)
        await again.identify(token)
        self.clock.advance(101)
        with self.assertRaises(NotAuthenticated):
            await again.identify(token)


class Scripted(Resource):
    """An identity service that answers as told."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[IRequest], Any] = lambda request: b""

    def render(self, request: IRequest) -> Any:
        """See :class:`twisted.web.resource.IResource`."""
        if request.method == b"POST":
            request.setResponseCode(201)
            request.setHeader("X-Subject-Token", "own")
            return b"{}"
        return self.answer(request)


class BrokenKeystoneTests(TestCase):
    """What it says when the identity service does not do its part."""

    def setUp(self) -> None:
        """Start an identity service that answers as told."""
        self.script = Scripted()
        self.port = reactor.listenTCP(0, Site(self.script), interface="127.0.0.1")
        self.addCleanup(self.stop)
        self.clock = Clock()
        url = f"http://127.0.0.1:{self.port.getHost().port}/v3"
        self.client = Counted()
        self.keystone = validator(url, self.client, self.clock)

    def stop(self) -> Deferred[None]:
        """Listen no more, if it still does."""
        port, self.port = self.port, None
        return succeed(None) if port is None else port.stopListening()

    async def assert_unavailable(self, token: str = "t") -> None:
        """Whose the token is cannot be found out."""
        with self.assertRaises(IdentityUnavailable):
            await self.keystone.identify(token)

    async def test_away(self) -> None:
        """Nobody listens: it cannot be found out."""
        await self.stop()
        await self.assert_unavailable()

    async def test_statuses(self) -> None:
        """Unexpected statuses are no answer, and are not remembered as one."""
        for status in (204, 302, 400, 403, 429, 500, 503):

            def answer(request: IRequest, status: int = status) -> bytes:
                request.setResponseCode(status)
                return b""

            self.script.answer = answer
            await self.assert_unavailable()

    async def test_nonsense(self) -> None:
        """Documents that are no token are no answer."""
        for text in (b"", b"[]", b"{", b'{"token": {}}', b'{"token": {"user": 1}}'):
            self.script.answer = lambda request, text=text: text
            await self.assert_unavailable()

    async def test_endless(self) -> None:
        """An answer that is far too large is not read to its end."""
        self.script.answer = lambda request: b" " * (3 * 1024 * 1024)
        await self.assert_unavailable()

    async def test_silent(self) -> None:
        """An identity service that does not answer in time is away."""
        asked: Deferred[None] = Deferred()

        def answer(request: IRequest) -> int:
            request.notifyFinish().addErrback(lambda _: None)
            reactor.callLater(0, asked.callback, None)
            return NOT_DONE_YET

        self.script.answer = answer
        outcome = Deferred.fromCoroutine(self.keystone.identify("t"))
        await asked
        self.clock.advance(TIMEOUT)
        with self.assertRaises(IdentityUnavailable):
            await outcome

    def hold(self) -> DeferredQueue[IRequest]:
        """Let questions about tokens wait for their answers, here."""
        held: DeferredQueue[IRequest] = DeferredQueue()

        def answer(request: IRequest) -> int:
            request.notifyFinish().addErrback(lambda _: None)
            held.put(request)
            return NOT_DONE_YET

        self.script.answer = answer
        return held

    def ask(self, count: int) -> list[Deferred[Identity]]:
        """Ask about so many tokens at once, each another one."""
        tokens = [f"made-up-{number}" for number in range(count)]
        return [Deferred.fromCoroutine(self.keystone.identify(each)) for each in tokens]

    async def test_many_tokens(self) -> None:
        """However many tokens are new at once, few are asked about at a time."""
        held = self.hold()
        asking = self.ask(5 * AT_A_TIME)
        refusals = [self.assertFailure(each, NotAuthenticated) for each in asking]
        for turn in range(5):
            requests = [await held.get() for _ in range(AT_A_TIME)]
            questions = self.client.asked.count("GET")
            self.assertEqual((turn + 1) * AT_A_TIME, questions)
            for request in requests:
                request.setResponseCode(404)
                request.finish()
        await gatherResults(refusals)
        self.assertEqual(AT_A_TIME, self.client.asked.count("POST"))

    async def test_waiting_too_long(self) -> None:
        """Who waits to be asked about waits no longer than for an answer."""
        held = self.hold()
        asking = self.ask(3 * AT_A_TIME)
        for _ in range(AT_A_TIME):
            await held.get()
        self.clock.advance(TIMEOUT)
        for outcome in asking:
            await self.assertFailure(outcome, IdentityUnavailable)
        (later,) = self.ask(1)
        request = await held.get()
        request.setResponseCode(404)
        request.finish()
        await self.assertFailure(later, NotAuthenticated)

    async def test_known_go_on(self) -> None:
        """Tokens that were found good go on while the identity service is away."""
        self.script.answer = lambda request: (
            b'{"token": {"user": {"id": "u"}, "project": {"id": "p"},'
            b' "expires_at": "2100-01-01T00:00:00.000000Z"}}'
        )
        found = await self.keystone.identify("t")
        await self.stop()
        self.assertEqual(await self.keystone.identify("t"), found)
        await self.assert_unavailable("other")
