"""Tokens and what they are for: who comes in, as whom, and with which roles."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.task import deferLater

from mqsvc.access.policy import DEFAULT_RULES
from mqsvc.access.policy_file import RELOAD_SECONDS
from tests.rest.access import ADMIN, OPERATIONS, OTHER, AccessCase, WritingCase, logged
from tests.rest.answers import Answer
from tests.rest.server import PROJECT, RestTestCase
from tests.rest.test_routes import KNOWN_PATHS, UNKNOWN_PATHS

OPEN_PATHS = ("/", "/healthz", "/readyz")
HELPERS = {"context_is_admin", "admin_or_owner"}
"""Rules that other rules are made of."""

STEP_SECONDS = 0.01

LIES = {
    "X-Project-ID": PROJECT,
    "X-Tenant-ID": PROJECT,
    "X-Project-Name": PROJECT,
    "X-Roles": "admin",
    "X-Role": "admin",
    "X-User-Id": "root",
    "X-User-Name": "root",
    "X-Identity-Status": "Confirmed",
    "X-Service-Roles": "admin",
    "X-Is-Admin-Project": "True",
    "EXTRA-SPEC": "messagecode:1",
}
"""What a client may say of itself that nobody vouched for."""


class TokenTests(AccessCase):
    """Who comes in."""

    settings = ("admin_mode=true", "pooling=true")

    async def test_everything_needs_a_token(self) -> None:
        """Without a token every operation is a 401, whatever else is wrong."""
        for operation in OPERATIONS:
            if operation.method == "HEAD":
                continue
            answer = await self.ask(None, operation.method, operation.path)
            self.refused_401(answer)
        self.refused_401(await self.ask(None, "GET", "/v2/"))
        self.refused_401(await self.ask(None, "GET", "/v2/ping", client=None))
        self.refused_401(await self.ask(None, "POST", "/v2/ping"))
        answer = self.expect(await self.ask(None, "HEAD", "/v2/ping"), 401)
        self.assertEqual(b"", answer.body)

    async def test_bad_tokens(self) -> None:
        """What is no token of the file is a 401."""
        digest = "4f7a2e1b" * 8
        for token in ("", "t", "T-MEMBER", "t-member-", digest, "t-member t-member"):
            self.refused_401(await self.ask(token, "GET", "/v2/queues"))
        for line in ("X-Auth-Token: \xff\xfe", "X-Auth-Token:", "Authorization: x"):
            self.refused_401(await self.ask_raw("GET", "/v2/queues", line))

    async def test_unknown_paths(self) -> None:
        """Who may not come in does not learn which paths there are."""
        for path in (*UNKNOWN_PATHS, "/healthz/", "/readyz/x", "/v2/health/x"):
            self.refused_401(await self.ask(None, "GET", path))
            self.refused_401(await self.ask("bad", "POST", path, raw=b"{"))
            self.expect(await self.ask("t-member", "GET", path), 404)

    async def test_open_paths(self) -> None:
        """Versions and probes need neither token nor client."""
        for path, status in zip(OPEN_PATHS, (300, 200, 200), strict=True):
            for token in (None, "bad"):
                answer = await self.ask(token, "GET", path, client=None)
                self.expect(answer, status)
                self.assertIsNone(answer.header("www-authenticate"))

    async def test_good_token(self) -> None:
        """A token of the file opens its project, without naming it."""
        self.expect(await self.ask("t-member", "PUT", "/v2/queues/q"), 201)
        answer = self.expect(await self.ask("t-reader", "GET", "/v2/queues"), 200)
        self.assertEqual(["q"], [queue["name"] for queue in answer.json["queues"]])
        answer = self.expect(await self.ask("t-other", "GET", "/v2/queues"), 200)
        self.assertEqual([], answer.json["queues"])

    async def test_client_id(self) -> None:
        """A good token is no excuse for a missing client id."""
        answer = await self.ask("t-member", "GET", "/v2/queues", client=None)
        self.refused(answer, 400, "Missing header value")

    async def test_xml(self) -> None:
        """Who wants XML gets the 401 in it."""
        answer = await self.ask(
            None, "GET", "/v2/queues", headers={"Accept": "text/xml"}
        )
        self.expect(answer, 401)
        self.assertEqual("text/xml", answer.header("content-type"))
        self.assertIn(b"<title>Unauthorized</title>", answer.body)

    async def test_repeated_tokens(self) -> None:
        """Of several tokens one decides, and nothing of another is mixed in."""
        both = ("X-Auth-Token: t-other", "X-Auth-Token: t-member")
        self.expect(await self.ask("t-member", "PUT", "/v2/queues/q"), 201)
        for lines, names in ((both, ["q"]), (both[::-1], [])):
            answer = self.expect(await self.ask_raw("GET", "/v2/queues", *lines), 200)
            self.assertEqual(names, [each["name"] for each in answer.json["queues"]])
        lines = ("X-Auth-Token: t-member", "X-Auth-Token: bad")
        self.refused_401(await self.ask_raw("GET", "/v2/queues", *lines))
        lines = ("X-Auth-Token: t-admin", "X-Auth-Token: t-member")
        self.expect(await self.ask_raw("GET", "/v2/health", *lines), 403)

    async def test_joined_tokens(self) -> None:
        """Two tokens in one header are none."""
        line = "X-Auth-Token: t-member, t-member"
        self.refused_401(await self.ask_raw("GET", "/v2/queues", line))


class LyingTests(AccessCase):
    """Clients that say more of themselves than their token does."""

    settings = ("admin_mode=true", "pooling=true")

    async def test_another_project(self) -> None:
        """No header leads into a project that the token is not for."""
        self.expect(await self.ask("t-member", "PUT", "/v2/queues/q"), 201)
        for name, value in LIES.items():
            answer = await self.ask(
                "t-other", "GET", "/v2/queues", headers={name: value}
            )
            self.assertEqual([], self.expect(answer, 200).json["queues"], name)
        lines = [f"{name}: {value}" for name, value in LIES.items()] * 2
        answer = await self.ask_raw(
            "GET", "/v2/queues", *lines, "X-Auth-Token: t-other"
        )
        self.assertEqual([], self.expect(answer, 200).json["queues"])

    async def test_lies_without_a_token(self) -> None:
        """Headers of an identity service do not stand for a token."""
        self.refused_401(await self.ask(None, "GET", "/v2/queues", headers=LIES))

    async def test_roles(self) -> None:
        """Roles that a client claims are not there."""
        for path in ("/v2/health", "/v2/pools"):
            self.expect(await self.ask("t-admin", "GET", path), 200)
            for token in ("t-member", "t-reader", "t-other"):
                answer = await self.ask(token, "GET", path, headers=LIES)
                self.refused(answer, 403, "Not authorized")

    async def test_empty_project(self) -> None:
        """An empty project header is as meaningless as any other."""
        for name in ("X-Project-ID", "X-Tenant-ID"):
            headers = {name: ""}
            answer = await self.ask("t-member", "GET", "/v2/ping", headers=headers)
            self.expect(answer, 204)


class RuleTests(WritingCase):
    """Each operation is under one rule of the policy; here each rule is a role."""

    async def setUp(self) -> None:
        """Start with a policy in which nobody may do anything by default."""
        rules = {rule: f"role:{rule}" for rule in DEFAULT_RULES.keys() - HELPERS}
        path = self.written(json.dumps(rules))
        self.settings = ("admin_mode=true", "pooling=true", f"policy_file={path}")
        await super().setUp()

    async def with_roles(self, method: str, path: str, *roles: str) -> Answer:
        """A request of somebody with these roles."""
        return await self.call(method, path, headers={"X-Roles": ",".join(roles)})

    async def test_rules(self) -> None:
        """Only the operation's own rule lets it pass."""
        everything = {operation.rule for operation in OPERATIONS}
        for operation in OPERATIONS:
            asked = (operation.method, operation.path)
            others = everything - {operation.rule}
            answer = await self.with_roles(*asked, *others)
            self.expect(answer, 403)
            if operation.method != "HEAD":
                self.refused(answer, 403, "Not authorized")
                self.assertIn(operation.rule, answer.json["description"])
            answer = await self.with_roles(*asked, operation.rule)
            self.assertNotIn(answer.status, (401, 403, 405, 500), answer)

    async def test_without_rule(self) -> None:
        """The home document is for everybody who may come in."""
        self.expect(await self.call("GET", "/v2/"), 200)

    async def test_head(self) -> None:
        """HEAD is under the rule of GET."""
        for path in ("/v2/queues", "/v2/queues/d", "/v2/queues/d/messages/m"):
            self.expect(await self.call("HEAD", path), 403)

    def test_every_rule_is_used(self) -> None:
        """There is no rule that is about nothing."""
        used = {operation.rule for operation in OPERATIONS}
        self.assertEqual(DEFAULT_RULES.keys() - HELPERS, used)

    def test_every_operation_is_known(self) -> None:
        """No path and method of the API is missing from the table."""
        named = {
            (method, re.sub("/[qt](?=/|$)", "/d", path))
            for path, methods in KNOWN_PATHS.items()
            for method in methods.split()
        }
        table = {(one.method, one.path.partition("?")[0]) for one in OPERATIONS}
        self.assertEqual({("GET", "/"), ("GET", "/v2/")}, named - table)


class ReaderTests(AccessCase):
    """A role that may look and nothing else."""

    settings = ("admin_mode=true", "pooling=true")
    policy: ClassVar[Mapping[str, str]] = {
        operation.rule: "role:member or role:admin"
        for operation in OPERATIONS
        if operation.changes
    }

    async def test_reader(self) -> None:
        """A reader is refused whatever changes something, and sees the rest."""
        await self.ask("t-member", "PUT", "/v2/queues/d", json={"by": "member"})
        for operation in OPERATIONS:
            asked = (operation.method, operation.path)
            answer = await self.ask("t-reader", *asked)
            is_refused = operation.changes or operation.rule.startswith(
                ("health", "pools")
            )
            self.assertEqual(is_refused, answer.status == 403, answer)
        answer = await self.ask("t-reader", "GET", "/v2/queues/d")
        self.assertEqual("member", answer.json["by"])

    async def test_member(self) -> None:
        """Those who may change are refused nothing of it."""
        for operation in OPERATIONS:
            if operation.changes:
                answer = await self.ask("t-member", operation.method, operation.path)
                self.assertNotIn(answer.status, (401, 403), answer)


class ReloadTests(AccessCase):
    """A policy that changes while the service runs."""

    def write_policy(self, text: str) -> None:
        """Change the file."""
        Path(self.policy_path).write_text(text, encoding="utf-8")

    async def rewrite(self, text: str, line: str) -> None:
        """Change the file, and wait until the log says that it was looked at."""
        self.write_policy(text)
        seen = logged(line)
        while not seen.called:
            # While a look is under way in its thread the time for the next one passes.
            self.clock.advance(RELOAD_SECONDS)
            await deferLater(reactor, STEP_SECONDS)

    async def test_change(self) -> None:
        """A rule is in force soon after it was written, and gone again as soon."""
        for token in ("t-member", "t-admin"):
            self.expect(await self.ask(token, "GET", "/v2/queues"), 200)
        rules = json.dumps({"queues:get_all": f"role:{ADMIN}"})
        await self.rewrite(rules, "The policy was read again")
        self.expect(await self.ask("t-member", "GET", "/v2/queues"), 403)
        self.expect(await self.ask("t-admin", "GET", "/v2/queues"), 200)
        await self.rewrite("", "The policy was read again")
        self.expect(await self.ask("t-member", "GET", "/v2/queues"), 200)

    async def test_broken(self) -> None:
        """A file that cannot be understood changes nothing, and the log says so."""
        rules = json.dumps({"queues:get_all": f"role:{ADMIN}"})
        await self.rewrite(rules, "The policy was read again")
        for text in ("{", "[]", '{"queues:get_all": "role:"}{', '{"queues:get": 5}'):
            await self.rewrite(text, "The policy stays as it was")
            self.expect(await self.ask("t-member", "GET", "/v2/queues"), 403)
        await self.rewrite("{}", "The policy was read again")
        self.expect(await self.ask("t-member", "GET", "/v2/queues"), 200)


class AnonymousTests(RestTestCase):
    """Without authentication callers are believed, on this machine or by consent."""

    settings = ("admin_mode=true", "pooling=true")

    async def test_believed(self) -> None:
        """Project and roles are taken as sent, and a token is not looked at."""
        headers = {"X-Roles": "admin", "X-Auth-Token": "anything"}
        answer = await self.call("GET", "/v2/health", headers=headers, project=OTHER)
        self.expect(answer, 200)
        self.expect(await self.call("GET", "/v2/health"), 403)

    async def test_repeated_project(self) -> None:
        """Of several projects the last one is meant."""
        await self.create("q")
        connection = await self.connect()
        for projects, names in (((OTHER, PROJECT), ["q"]), ((PROJECT, OTHER), [])):
            lines = [f"X-Project-ID: {project}" for project in projects]
            head = ["GET /v2/queues HTTP/1.1", "Host: x", f"Client-ID: {'1' * 32}"]
            connection.send("\r\n".join([*head, *lines, "", ""]).encode())
            answer = self.expect(await connection.answer(), 200)
            self.assertEqual(names, [each["name"] for each in answer.json["queues"]])

    async def test_tenant(self) -> None:
        """The older header counts only where the newer one is missing."""
        await self.create("q")
        older = {"X-Tenant-ID": PROJECT}
        answer = await self.call("GET", "/v2/queues", project=None, headers=older)
        self.assertEqual(1, len(self.expect(answer, 200).json["queues"]))
        answer = await self.call("GET", "/v2/queues", project=OTHER, headers=older)
        self.assertEqual([], self.expect(answer, 200).json["queues"])
        answer = await self.call("GET", "/v2/queues", project="", headers=older)
        self.refused(answer, 400, "Empty project header not allowed")
