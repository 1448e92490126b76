"""A service that asks for tokens, and everything that can be asked of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.rest.answers import Answer
from tests.rest.server import CONSUMER, PROJECT, RestTestCase

CHALLENGE = 'Token realm="mqsvc"'

MEMBER, READER, ADMIN = "member", "reader", "admin"
OTHER = "p2"


@frozen
class Operation:
    """Something that the REST API does, and the rule of the policy it is under."""

    rule: str
    method: str
    path: str

    @property
    def changes(self) -> bool:
        """Whether it is more than looking."""
        return self.rule.partition(":")[2] not in {"get", "get_all", "stats"}


def _of_destinations(kind: str) -> list[Operation]:
    base = f"/v2/{kind}"
    one = f"{base}/d"
    return [
        Operation(f"{kind}:get_all", "GET", base),
        Operation(f"{kind}:get", "GET", one),
        Operation(f"{kind}:create", "PUT", one),
        Operation(f"{kind}:update", "PATCH", one),
        Operation(f"{kind}:stats", "GET", f"{one}/stats"),
        Operation(f"{kind}:purge", "POST", f"{one}/purge"),
        Operation("messages:get_all", "GET", f"{one}/messages"),
        Operation("messages:get_all", "GET", f"{one}/messages?ids=m"),
        Operation("messages:create", "POST", f"{one}/messages"),
        Operation("messages:delete_all", "DELETE", f"{one}/messages?pop=1"),
        Operation("messages:delete_all", "DELETE", f"{one}/messages?ids=m"),
        Operation("messages:get", "GET", f"{one}/messages/m"),
        Operation("messages:delete", "DELETE", f"{one}/messages/m"),
        Operation("subscription:get_all", "GET", f"{one}/subscriptions"),
        Operation("subscription:create", "POST", f"{one}/subscriptions"),
        Operation("subscription:get", "GET", f"{one}/subscriptions/s"),
        Operation("subscription:update", "PATCH", f"{one}/subscriptions/s"),
        Operation("subscription:delete", "DELETE", f"{one}/subscriptions/s"),
        Operation("subscription:confirm", "PUT", f"{one}/subscriptions/s/confirm"),
        Operation(f"{kind}:delete", "DELETE", one),
    ]


def _of_administration(kind: str) -> list[Operation]:
    base = f"/v2/{kind}"
    return [
        Operation(f"{kind}:get_all", "GET", base),
        Operation(f"{kind}:get", "GET", f"{base}/n"),
        Operation(f"{kind}:create", "PUT", f"{base}/n"),
        Operation(f"{kind}:update", "PATCH", f"{base}/n"),
        Operation(f"{kind}:delete", "DELETE", f"{base}/n"),
    ]


OPERATIONS = [
    *_of_destinations("queues"),
    *_of_destinations("topics"),
    Operation("queues:share", "POST", "/v2/queues/d/share"),
    Operation("claims:create", "POST", "/v2/queues/d/claims"),
    Operation("claims:get", "GET", "/v2/queues/d/claims/c"),
    Operation("claims:update", "PATCH", "/v2/queues/d/claims/c"),
    Operation("claims:delete", "DELETE", "/v2/queues/d/claims/c"),
    Operation("ping:get", "GET", "/v2/ping"),
    Operation("ping:get", "HEAD", "/v2/ping"),
    Operation("health:get", "GET", "/v2/health"),
    *_of_administration("pools"),
    *_of_administration("flavors"),
]
"""All that has a rule; the others are open or the home document."""


def tokens_file(tokens: Mapping[str, tuple[str, str]]) -> str:
    """The text of a file of tokens, each with its project and its role."""
    tables = []
    for number, (token, (project, role)) in enumerate(tokens.items()):
        digest = hashlib.sha256(token.encode()).hexdigest()
        tables += [f"[tokens.user-{number}]", f'sha256 = "{digest}"']
        tables += [f"project = {json.dumps(project)}", f"roles = [{json.dumps(role)}]"]
    return "\n".join(tables)


def logged(text: str) -> Deferred[str]:
    """Fires with the first line of the log from now on that has a text in it."""
    found: Deferred[str] = Deferred()

    def look(event: LogEvent) -> None:
        line = formatEvent(event)
        if text in line:
            globalLogPublisher.removeObserver(look)
            # Who wrote the line is to get on first.
            reactor.callLater(0, found.callback, line)

    globalLogPublisher.addObserver(look)
    return found


class WritingCase(RestTestCase):
    """A service that is started with files of the test."""

    def new_path(self) -> str:
        """The absolute path of a file that is not there yet."""
        return os.path.abspath(self.mktemp())

    def written(self, text: str) -> str:
        """The absolute path of a new file."""
        path = self.new_path()
        Path(path).write_text(text, encoding="utf-8")
        return path


class AccessCase(WritingCase):
    """A service with a file of tokens and a policy file.

    :cvar tokens: with the project and the role of each.
    :cvar policy: rules in the place of their defaults.
    """

    tokens: ClassVar[Mapping[str, tuple[str, str]]] = {
        "t-member": (PROJECT, MEMBER),
        "t-reader": (PROJECT, READER),
        "t-admin": (PROJECT, ADMIN),
        "t-other": (OTHER, MEMBER),
    }
    policy: ClassVar[Mapping[str, str]] = {}

    async def setUp(self) -> None:
        """Write both files and start."""
        self.policy_path = self.written(json.dumps(self.policy))
        self.settings = (
            *self.settings,
            "auth_strategy=token_file",
            f"token_file={self.written(tokens_file(self.tokens))}",
            f"policy_file={self.policy_path}",
        )
        await super().setUp()

    async def ask(
        self, token: str | None, method: str, path: str, **options: Any
    ) -> Answer:
        """Send a request with a token and without saying for which project."""
        headers = {"X-Auth-Token": token, **options.pop("headers", {})}
        return await self.call(
            method, path, **{"project": None, **options, "headers": headers}
        )

    async def ask_raw(self, method: str, path: str, *lines: str) -> Answer:
        """Send a request with exactly these header lines and a client id."""
        connection = await self.connect()
        head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Length: 0"]
        text = "\r\n".join([*head, f"Client-ID: {CONSUMER}", *lines, "", ""])
        connection.send(text.encode())
        return await connection.answer()

    def refused_401(self, answer: Answer) -> None:
        """Fail unless the answer asks for a token as the contract says."""
        self.expect(answer, 401)
        self.assertEqual(CHALLENGE, answer.header("www-authenticate"), answer)
        self.assertEqual("application/json", answer.header("content-type"), answer)
        error = answer.json["error"]
        self.assertEqual((401, "Unauthorized"), (error["code"], error["title"]))
        self.assertTrue(error["message"])
