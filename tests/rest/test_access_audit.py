"""The audit log of a running service, and what no log may hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, eventAsText, globalLogPublisher

from tests.rest.access import OPERATIONS, AccessCase
from tests.rest.server import CONSUMER, PROJECT

SECRET_BODY = "body-that-nobody-else-may-see"
SECRET_METADATA = "metadata-that-nobody-else-may-see"
RECORDED = {"queues", "topics", "subscription", "pools", "flavors"}


class AuditCase(AccessCase):
    """A service with an audit log."""

    settings = ("admin_mode=true", "pooling=true", "signed_url.secret_key=secretkey")

    async def setUp(self) -> None:
        """Choose where the log is to be."""
        self.audit_path = self.new_path()
        self.settings = (*self.settings, f"audit_log={self.audit_path}")
        await super().setUp()

    def lines(self) -> list[dict[str, Any]]:
        """What the log holds."""
        if not os.path.exists(self.audit_path):
            return []
        text = Path(self.audit_path).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


class AuditTests(AuditCase):
    """Which lines there are, and what they say."""

    async def test_line(self) -> None:
        """A line says who did what, and leads to the answer by its request id."""
        answer = await self.ask("t-member", "PUT", "/v2/queues/q?x=1")
        line = {
            "time": "2027-01-15T08:00:00.000+00:00",
            "action": "queues:create",
            "target": "/v2/queues/q",
            "status": 201,
            "project": PROJECT,
            "user": "user-0",
            "roles": ["member"],
            "client_id": CONSUMER,
            "request_id": answer.header("x-openstack-request-id"),
        }
        self.assertEqual([line], self.lines())

    async def test_refused(self) -> None:
        """What the policy, the body or the state is against is recorded too."""
        await self.ask("t-member", "PUT", "/v2/pools/p", json={})
        await self.ask("t-admin", "PUT", "/v2/pools/p", json={})
        await self.ask("t-member", "PATCH", "/v2/queues/none", json=[])
        await self.ask("t-member", "PUT", "/v2/queues/q", raw=b"{")
        found = [(line["action"], line["status"]) for line in self.lines()]
        self.assertEqual(
            [
                *(("pools:create", 403), ("pools:create", 400)),
                *(("queues:update", 415), ("queues:create", 400)),
            ],
            found,
        )

    async def test_done(self) -> None:
        """What was done is recorded with the status of its answer."""
        path = "/v2/queues/q"
        for method, part in (("PUT", ""), ("PUT", ""), ("POST", "/share")):
            await self.ask("t-member", method, path + part, json={})
        await self.ask("t-member", "POST", f"{path}/purge")
        await self.ask("t-member", "DELETE", path)
        statuses = [line["status"] for line in self.lines()]
        self.assertEqual([201, 204, 200, 204, 204], statuses)

    async def test_which(self) -> None:
        """Each operation that changes what is kept of its kind has one line."""
        for operation in OPERATIONS:
            before = len(self.lines())
            await self.ask("t-admin", operation.method, operation.path)
            kind, _, _ = operation.rule.partition(":")
            is_recorded = operation.changes and kind in RECORDED
            actions = [line["action"] for line in self.lines()[before:]]
            self.assertEqual([operation.rule] if is_recorded else [], actions)

    async def test_strangers(self) -> None:
        """Who did not come in left no line: nobody is known to have done it."""
        self.refused_401(await self.ask(None, "PUT", "/v2/queues/q"))
        self.refused_401(await self.ask("bad", "DELETE", "/v2/queues/q"))
        self.assertEqual([], self.lines())

    async def test_strange_texts(self) -> None:
        """No name breaks a line."""
        path = "/v2/queues/%0A%22%7B"
        await self.ask("t-member", "PUT", path)
        for line in self.lines():
            self.assertEqual(path, line["target"])


class SilenceTests(AuditCase):
    """What may be in no log at all."""

    async def setUp(self) -> None:
        """Keep everything that is logged from now on."""
        await super().setUp()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def everything(self) -> str:
        """Both logs, with every field of every event."""
        shown = [eventAsText(event) + repr(event) for event in self.events]
        return "\n".join([*shown, json.dumps(self.lines())])

    async def traffic(self) -> list[str]:
        """Requests of all kinds, done and refused; the secrets in them."""
        queue, messages = "/v2/queues/q", "/v2/queues/q/messages"
        body = {"messages": [{"body": SECRET_BODY, "ttl": 60}]}
        for token in ("t-member", "t-other", "t-admin", "token-of-nobody"):
            await self.ask(token, "PUT", queue, json={"note": SECRET_METADATA})
            await self.ask(token, "POST", messages, json=body)
            await self.ask(token, "POST", messages, raw=SECRET_BODY.encode())
            await self.ask(token, "GET", "/v2/health")
            await self.ask(token, "PUT", "/v2/pools/p", json={"uri": SECRET_METADATA})
        grant = (await self.ask("t-member", "POST", f"{queue}/share", json={})).json
        signed = {
            "URL-Signature": grant["signature"],
            "URL-Expires": grant["expires"],
            "URL-Methods": "GET",
            "URL-Paths": messages,
            "X-Project-ID": PROJECT,
        }
        for method in ("GET", "POST", "PUT"):
            await self.ask(None, method, messages, headers=signed)
        self.assertTrue(self.lines())
        tokens = ["t-member", "t-other", "t-admin", "token-of-nobody"]
        secrets = [SECRET_BODY, SECRET_METADATA, "secretkey", grant["signature"]]
        return tokens + secrets

    async def test_traffic(self) -> None:
        """Neither tokens nor signatures nor contents are in any log."""
        secrets = await self.traffic()
        text = self.everything()
        self.assertEqual([], [secret for secret in secrets if secret in text])

    async def test_failure(self) -> None:
        """Not even when a request fails for want of its store."""
        await self.ask("t-member", "PUT", "/v2/queues/q")
        for service in list(self.root)[1:3]:
            await service.stopService()
        body = {"messages": [{"body": SECRET_BODY, "ttl": 60}]}
        path = "/v2/queues/q/messages"
        answer = await self.ask("t-member", "POST", path, json=body)
        self.refused(answer, 503, "Service temporarily unavailable")
        text = self.everything()
        for secret in ("t-member", SECRET_BODY):
            self.assertNotIn(secret, text)
