"""Who a request is from, with and without authentication."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.authentication import Identity
from mqsvc.access.gate import Gate
from mqsvc.access.identity import Caller
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.messaging.errors import (
    InvalidHeader,
    MessagingError,
    NotAuthenticated,
    NotAuthorized,
    UnknownRoute,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Destination, Kind

NOW = 1_800_000_000_000
CLIENT = "11111111111111111111111111111111"
CLAIMED = {
    "Client-ID": CLIENT,
    "X-Project-ID": "victim",
    "X-Tenant-ID": "victim",
    "X-Roles": "admin",
    "X-User-ID": "root",
    "X-Identity-Status": "Confirmed",
}
"""What a client may say of itself."""


class Tokens:
    """Knows two tokens."""

    challenge = "Test"

    def __init__(self) -> None:
        self.known = {
            "good": Identity("p1", "ann", frozenset({"member"})),
            "unscoped": Identity(None, "ann", frozenset()),
        }

    async def identify(self, token: str) -> Identity:
        """See :class:`mqsvc.access.authentication.Authenticator`."""
        try:
            return self.known[token]
        except KeyError:
            raise NotAuthenticated from None


class GateTests(SynchronousTestCase):
    """The checks in the order in which transports make them."""

    def gate(self, authenticated: bool) -> Gate:
        """A gate with or without an authenticator."""
        return Gate(
            Tokens() if authenticated else None,
            Policy(make_rules({"queues:create": "role:admin"})),
            SignedUrls("secret"),
            Limits(),
            lambda: NOW,
        )

    def entering(self, gate: Gate, headers: Mapping[str, str]) -> Deferred[Caller]:
        """A GET of messages with these headers."""

        async def enter() -> Caller:
            identity = await gate.authenticate(headers.get)
            gate.check_signature(headers.get, "GET", "/v2/queues/q/messages")
            return gate.caller(headers.get, identity)

        return Deferred.fromCoroutine(enter())

    def enter(self, gate: Gate, headers: Mapping[str, str]) -> Caller:
        """The caller of a request that comes in."""
        return self.successResultOf(self.entering(gate, headers))

    def assert_refused(
        self, gate: Gate, headers: Mapping[str, str], error: type[MessagingError]
    ) -> None:
        """A request with these headers gets nowhere."""
        self.failureResultOf(self.entering(gate, headers), error)

    def signed(self, gate: Gate, project: str) -> dict[str, str]:
        """The headers of a request with a signature that holds."""
        queue = Destination(project, Kind.QUEUE, "q")
        grant = gate.signed_urls.share(queue, {}, NOW)
        return {
            "URL-Signature": grant.signature,
            "URL-Paths": ",".join(grant.paths),
            "URL-Methods": ",".join(grant.methods),
            "URL-Expires": grant.expires,
            "X-Project-ID": project,
        }

    def test_without_authentication(self) -> None:
        """A client is believed what it says."""
        caller = self.enter(self.gate(False), CLAIMED)
        self.assertEqual(caller, Caller("victim", CLIENT, frozenset({"admin"})))

    def test_token_decides(self) -> None:
        """With a token nothing else that a client says of itself is believed."""
        caller = self.enter(self.gate(True), {**CLAIMED, "X-Auth-Token": "good"})
        wanted = Caller("p1", CLIENT, frozenset({"member"}), "ann", "good")
        self.assertEqual(caller, wanted)
        self.assertNotIn("good", repr(caller))

    def test_no_token(self) -> None:
        """Without a token, or with one that does not hold, nobody comes in."""
        gate = self.gate(True)
        for token in ({}, {"X-Auth-Token": ""}, {"X-Auth-Token": "bad"}):
            self.assert_refused(gate, {**CLAIMED, **token}, NotAuthenticated)

    def test_no_project(self) -> None:
        """A token for no project does not take the project from the client."""
        headers = {**CLAIMED, "X-Auth-Token": "unscoped"}
        self.assert_refused(self.gate(True), headers, InvalidHeader)

    def test_signature(self) -> None:
        """A signature stands for a token, but brings no roles."""
        gate = self.gate(True)
        caller = self.enter(gate, {**CLAIMED, **self.signed(gate, "p1")})
        self.assertEqual(caller, Caller("p1", CLIENT))

    def test_signature_without_authentication(self) -> None:
        """A signature brings no roles where clients are believed either."""
        gate = self.gate(False)
        caller = self.enter(gate, {**CLAIMED, **self.signed(gate, "p1")})
        self.assertEqual(caller, Caller("p1", CLIENT))

    def test_broken_signature(self) -> None:
        """A signature that does not hold opens nothing, a good token or not."""
        gate = self.gate(True)
        signed = self.signed(gate, "p1")
        token = {"X-Auth-Token": "good"}
        for change in (
            *({"URL-Signature": "0" * 64}, {"X-Project-ID": "victim"}),
            *({"URL-Methods": "GET,POST"}, {"URL-Expires": "2999-01-01T00:00:00"}),
        ):
            self.assert_refused(gate, {**CLAIMED, **signed, **change}, UnknownRoute)
            headers = {**CLAIMED, **signed, **token, **change}
            self.assert_refused(gate, headers, UnknownRoute)

    def test_empty_signature(self) -> None:
        """An empty signature replaces no token, and does not hold."""
        gate = self.gate(True)
        headers = {**CLAIMED, "URL-Signature": ""}
        self.assert_refused(gate, headers, NotAuthenticated)
        headers["X-Auth-Token"] = "good"
        self.assert_refused(gate, headers, UnknownRoute)

    def test_headers(self) -> None:
        """A missing client or project is named."""
        gate = self.gate(False)
        for name in ("Client-ID", "X-Project-ID"):
            headers = {k: v for k, v in CLAIMED.items() if k != name}
            headers.pop("X-Tenant-ID")
            self.assert_refused(gate, headers, InvalidHeader)
        self.assert_refused(gate, {**CLAIMED, "X-Project-ID": ""}, InvalidHeader)
        token = {"X-Auth-Token": "good"}
        self.assert_refused(self.gate(True), token, InvalidHeader)

    def test_policy(self) -> None:
        """A caller may do what the policy lets its roles do."""
        gate = self.gate(True)
        gate.allow(Caller("p", CLIENT, frozenset({"admin"})), "queues:create")
        gate.allow(Caller("p", CLIENT), "queues:get")
        self.assertRaises(
            NotAuthorized, gate.allow, Caller("p", CLIENT), "queues:create"
        )
