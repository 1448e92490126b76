"""Signed URLs where everybody else needs a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.rest.access import OPERATIONS, OTHER, AccessCase
from tests.rest.answers import Answer
from tests.rest.server import PROJECT

MESSAGES = "/v2/queues/q/messages"
POST = {"messages": [{"body": "signed", "ttl": 300}]}


class SignedCase(AccessCase):
    """A service that signs, and a queue ``q`` with a message."""

    settings = ("admin_mode=true", "pooling=true", "signed_url.secret_key=secretkey")

    async def setUp(self) -> None:
        """Post the message."""
        await super().setUp()
        body = {"messages": [{"body": "owner", "ttl": 300}]}
        answer = await self.ask("t-member", "POST", MESSAGES, json=body)
        self.message = self.expect(answer, 201).json["resources"][0]

    async def share(self, queue: str = "q", **wishes: Any) -> dict[str, str]:
        """The headers that a grant consists of."""
        path = f"/v2/queues/{queue}/share"
        answer = await self.ask("t-member", "POST", path, json=wishes)
        grant = self.expect(answer, 200).json
        return {
            "URL-Signature": grant["signature"],
            "URL-Expires": grant["expires"],
            "URL-Methods": ",".join(grant["methods"]),
            "URL-Paths": ",".join(grant["paths"]),
            "X-Project-ID": grant["project"],
        }

    async def signed(
        self, grant: dict[str, str], method: str, path: str, **options: Any
    ) -> Answer:
        """A request with a grant and no token."""
        headers = {**grant, **options.pop("headers", {})}
        return await self.ask(None, method, path, headers=headers, **options)

    def refused_404(self, answer: Answer) -> None:
        """Fail unless the answer is that of a path that does not exist."""
        self.refused(answer, 404, "404 Not Found")


class GrantTests(SignedCase):
    """What a grant opens, and what it does not."""

    async def test_no_token_needed(self) -> None:
        """Who has the grant reads and posts as the project that gave it."""
        grant = await self.share(methods=["GET", "POST"])
        answer = self.expect(await self.signed(grant, "POST", MESSAGES, json=POST), 201)
        self.expect(await self.signed(grant, "GET", answer.json["resources"][0]), 200)
        self.expect(await self.signed(grant, "GET", self.message), 200)
        path = f"{MESSAGES}?echo=true"
        listed = (await self.ask("t-member", "GET", path)).json["messages"]
        self.assertEqual(["owner", "signed"], [each["body"] for each in listed])

    async def test_method(self) -> None:
        """Methods that were not granted are refused."""
        grant = await self.share(methods=["GET"])
        for method in ("POST", "DELETE", "HEAD"):
            answer = await self.signed(grant, method, MESSAGES)
            self.expect(answer, 404)
        answer = await self.signed(grant, "DELETE", self.message)
        self.refused_404(answer)
        self.expect(await self.ask("t-member", "GET", self.message), 200)

    async def test_everything_else(self) -> None:
        """Whatever is granted, nothing but those paths of the queue is reached."""
        grant = await self.share(
            "d",
            paths=["messages", "claims", "subscriptions"],
            methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"],
        )
        granted = grant["URL-Paths"].split(",")
        reached = set()
        for operation in OPERATIONS:
            answer = await self.signed(grant, operation.method, operation.path)
            path = operation.path.partition("?")[0]
            inside = any(path == one or path.startswith(f"{one}/") for one in granted)
            is_refused = answer.status == 404 and b"404 Not Found" in answer.body
            is_refused |= operation.method == "HEAD" and answer.status == 404
            self.assertEqual(not inside, is_refused, answer)
            reached |= {path} if inside else set()
        self.assertNotIn("/v2/queues/d", reached)
        self.assertIn("/v2/queues/d/claims/c", reached)

    async def test_other_queues(self) -> None:
        """Names that only resemble the granted one are other queues."""
        grant = await self.share("a.b", methods=["GET", "POST"])
        self.expect(await self.signed(grant, "GET", "/v2/queues/a.b/messages"), 200)
        granted = "/v2/queues/a.b/messages"
        for path in (
            *("/v2/queues/aXb/messages", "/v2/queues/a.bc/messages", MESSAGES),
            *(f"{granted}x", "/v2/topics/a.b/messages", "/v2/queues/a%2Eb/messages"),
            *(f"{granted}/../../q/messages", f"{granted}/%2e%2e/stats"),
            *(f"{granted}%2F..%2Fstats", f"{granted}/..%2F..%2Fq%2Fmessages"),
            *(f"{MESSAGES}?x={granted}", "/v2/queues/a.b//messages"),
        ):
            self.refused_404(await self.signed(grant, "GET", path))

    async def test_leading_slashes(self) -> None:
        """A base URL that ends with a slash is no way around the path."""
        grant = await self.share()
        self.expect(await self.signed(grant, "GET", f"/{MESSAGES}"), 200)
        for path in ("//v2/queues/other/messages", f"//v2/queues/other/{MESSAGES}"):
            self.refused_404(await self.signed(grant, "GET", path))

    async def test_project(self) -> None:
        """A grant is of one project, by whichever header it is named."""
        grant = await self.share()
        for name in ("X-Project-ID", "X-Tenant-ID"):
            headers = {"X-Project-ID": None, name: OTHER}
            answer = await self.signed(grant, "GET", MESSAGES, headers=headers)
            self.refused_404(answer)
        headers = {"X-Project-ID": None, "X-Tenant-ID": PROJECT}
        answer = await self.signed(grant, "GET", MESSAGES, headers=headers)
        self.expect(answer, 200)
        headers = {"X-Project-ID": None}
        self.refused_404(await self.signed(grant, "GET", MESSAGES, headers=headers))

    async def test_expiry(self) -> None:
        """A grant ends when it says."""
        grant = await self.share(expires="2027-01-15T08:00:10")
        self.clock.advance(9)
        self.expect(await self.signed(grant, "GET", MESSAGES), 200)
        self.clock.advance(1)
        self.refused_404(await self.signed(grant, "GET", MESSAGES))

    async def test_client_id(self) -> None:
        """A grant is no client."""
        answer = await self.signed(await self.share(), "GET", MESSAGES, client=None)
        self.refused(answer, 400, "Missing header value")


class BrokenGrantTests(SignedCase):
    """Signatures that do not hold."""

    async def test_changed(self) -> None:
        """A grant of which anything was changed opens nothing, with a token or not."""
        grant = await self.share()
        for name, value in (
            *(("URL-Signature", "0" * 64), ("URL-Signature", "ü" * 64)),
            *(("URL-Expires", "2099-01-01T00:00:00"), ("URL-Expires", "never")),
            *(("URL-Methods", "GET,POST"), ("URL-Methods", "")),
            *(("URL-Paths", f"{MESSAGES},/v2/queues"), ("URL-Paths", "")),
            *((n, None) for n in grant if n not in ("URL-Signature", "X-Project-ID")),
            ("URL-Signature", grant["URL-Signature"].upper()),
        ):
            for token in (None, "t-member", "t-admin"):
                headers = {**grant, name: value}
                answer = await self.ask(token, "GET", MESSAGES, headers=headers)
                self.refused_404(answer)

    async def test_empty_signature(self) -> None:
        """An empty signature stands for no token, and spoils a good one."""
        for headers in (
            {"URL-Signature": ""},
            {**await self.share(), "URL-Signature": ""},
        ):
            answer = await self.ask(None, "GET", MESSAGES, headers=headers)
            self.refused_401(answer)
            answer = await self.ask("t-member", "GET", MESSAGES, headers=headers)
            self.refused_404(answer)

    async def test_repeated_signature(self) -> None:
        """Several signatures are as good as the last one; the first is no way in."""
        grant = await self.share()
        lines = [f"{k}: {v}" for k, v in grant.items() if k != "URL-Signature"]
        good = f"URL-Signature: {grant['URL-Signature']}"
        for bad in ("URL-Signature: x", f"URL-Signature: {'0' * 64}"):
            answer = await self.ask_raw("GET", MESSAGES, good, bad, *lines)
            self.refused_404(answer)
        answer = await self.ask_raw("GET", MESSAGES, good, "URL-Signature:", *lines)
        self.refused_401(answer)
        for bad in ("URL-Signature:", "URL-Signature: x"):
            answer = await self.ask_raw("GET", MESSAGES, bad, good, *lines)
            self.expect(answer, 200)
        joined = f"{good}, {grant['URL-Signature']}"
        self.refused_404(await self.ask_raw("GET", MESSAGES, joined, *lines))

    async def test_any_signature_on_unknown_paths(self) -> None:
        """A made-up signature shows nothing but that there is nothing."""
        headers = {"URL-Signature": "x"}
        for path in ("/v2/nothing", "/v2/queues", "/v2/health", "/v2/"):
            self.refused_404(await self.ask(None, "GET", path, headers=headers))


class RolesTests(SignedCase):
    """Grants under a policy."""

    policy: ClassVar[Mapping[str, str]] = {
        "messages:create": "role:member",
        "messages:get_all": "",
    }

    async def test_no_roles(self) -> None:
        """A grant brings no roles, neither of its owner nor claimed ones."""
        grant = await self.share(methods=["GET", "POST"])
        lies = {"X-Roles": "member,admin", "X-User-Id": "root"}
        answer = await self.signed(grant, "POST", MESSAGES, json=POST, headers=lies)
        self.refused(answer, 403, "Not authorized")
        self.expect(await self.signed(grant, "GET", MESSAGES), 200)

    async def test_a_token_beside_it(self) -> None:
        """A token beside a grant adds nothing to it."""
        grant = await self.share(methods=["GET", "POST"])
        headers = {**grant, "X-Auth-Token": "t-member"}
        answer = await self.ask(None, "POST", MESSAGES, json=POST, headers=headers)
        self.refused(answer, 403, "Not authorized")


class SecretTests(AccessCase):
    """A service without a secret."""

    async def test_nothing_is_signed(self) -> None:
        """Without a secret no signature is given and none holds."""
        answer = await self.ask("t-member", "POST", "/v2/queues/q/share", json={})
        self.refused(answer, 400, "Invalid API request")
        headers = {
            "URL-Signature": "0" * 64,
            "URL-Expires": "2100-01-01T00:00:00",
            "URL-Methods": "GET",
            "URL-Paths": MESSAGES,
            "X-Project-ID": PROJECT,
        }
        answer = await self.ask(None, "GET", MESSAGES, headers=headers)
        self.refused(answer, 404, "404 Not Found")
