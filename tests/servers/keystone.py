"""A Keystone of the tests: two projects, users, and a role that may only read."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.live import CHECKOUT, missing
from tests.servers.process import ServerProcess, once_a_run

HOW_TO_GET_IT = (
    "python3 -m venv .venv-keystone && .venv-keystone/bin/pip install keystone"
)

PASSWORD = "for-tests-only"
ADMIN, MEMBER, OTHER, READER, SERVICE = "admin", "ann", "bob", "rita", "mqsvc"
"""Users: ann and rita (who only reads) are of project one, bob of project two."""

_CONFIGURATION = """\
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{directory}/keystone.db
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/receipts
[credential]
key_repository = {directory}/credential
[cache]
enabled = false
[identity]
password_hash_rounds = 4
"""

_SERVE = """\
import sys
from werkzeug.serving import run_simple
port = int(sys.argv.pop())
from keystone.server.wsgi import initialize_public_application
run_simple("127.0.0.1", port, initialize_public_application(), threaded=True)
"""


def keystone_python() -> Path:
    """The Python of an environment that has Keystone."""
    environment = os.environ.get("MQSVC_KEYSTONE_VENV")
    path = Path(environment or CHECKOUT / ".venv-keystone") / "bin" / "python"
    if not path.exists():
        missing("Keystone", HOW_TO_GET_IT)
    return path


class KeystoneServer(ServerProcess):
    """Keystone with SQLite and fernet keys, served by werkzeug."""

    def __init__(self) -> None:
        super().__init__("keystone")
        self._python = keystone_python()
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self.projects: dict[str, str] = {}
        text = _CONFIGURATION.format(directory=self.directory)
        (self.directory / "keystone.conf").write_text(text)

    def command(self) -> Sequence[str]:
        """See :class:`ServerProcess`."""
        settings = [f"OS_KEYSTONE_CONFIG_DIR={self.directory}"]
        settings.append("OS_KEYSTONE_CONFIG_FILES=keystone.conf")
        return ["env", *settings, str(self._python), "-c", _SERVE, str(self.port)]

    def answers(self) -> bool:
        """See :class:`ServerProcess`."""
        try:
            return self._exchange("GET", "")[0] == 200
        except OSError:
            return False

    def fill(self) -> None:
        """Make the keys and the database, before the start."""
        for keys in ("fernet", "receipts", "credential"):
            (self.directory / keys).mkdir(mode=0o700)
        user = ["--keystone-user", str(os.getuid()), "--keystone-group"]
        group = str(os.getgid())
        self._manage("db_sync")
        self._manage("fernet_setup", *user, group)
        self._manage("credential_setup", *user, group)
        url = ["--bootstrap-public-url", self.url, "--bootstrap-region-id", "here"]
        self._manage("bootstrap", "--bootstrap-password", PASSWORD, *url)

    def populate(self) -> None:
        """Make projects, users and their roles, after the start."""
        self._make("services", type="messaging", name="mqsvc")
        for project in ("one", "two", "service"):
            made = self._make("projects", name=project, domain_id="default")
            self.projects[project] = made["id"]
        self._member(MEMBER, "one", "member")
        self._member(OTHER, "two", "member")
        self._member(READER, "one", "reader")
        self._member(SERVICE, "service", "admin")

    def token(self, user: str, project: str | None, password: str = PASSWORD) -> str:
        """A token that Keystone issues to a user, for a project or for none."""
        domain = {"id": "default"}
        named = {"name": user, "domain": domain, "password": password}
        auth: dict[str, Any] = {
            "identity": {"methods": ["password"], "password": {"user": named}}
        }
        if project is not None:
            auth["scope"] = {"project": {"name": project, "domain": domain}}
        status, headers, _ = self._exchange("POST", "/auth/tokens", {"auth": auth})
        if status != 201:
            raise AssertionError(f"no token for {user}: {status}")
        return headers["X-Subject-Token"]

    def revoke(self, token: str) -> None:
        """Let a token hold no more."""
        headers = {"X-Auth-Token": self._admin_token(), "X-Subject-Token": token}
        status, _, _ = self._exchange("DELETE", "/auth/tokens", headers=headers)
        if status != 204:
            raise AssertionError(f"not revoked: {status}")

    def application_credential(self, user: str, project: str) -> tuple[str, str]:
        """The id and secret of a new credential of a user."""
        token = self.token(user, project)
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        _, _, document = self._exchange("GET", "/auth/tokens", headers=headers)
        path = f"/users/{document['token']['user']['id']}/application_credentials"
        asked = {"application_credential": {"name": f"of-{user}-{len(token)}"}}
        _, _, document = self._exchange(
            "POST", path, asked, headers={"X-Auth-Token": token}
        )
        made = document["application_credential"]
        return made["id"], made["secret"]

    def _member(self, name: str, project: str, role: str) -> None:
        user = self._make("users", name=name, password=PASSWORD, domain_id="default")
        roles = self._ask("GET", f"/roles?name={role}")["roles"]
        path = f"/projects/{self.projects[project]}/users/{user['id']}/roles/"
        self._ask("PUT", path + roles[0]["id"])

    def _make(self, collection: str, **members: str) -> dict[str, Any]:
        kind = collection.removesuffix("s")
        made: dict[str, Any] = self._ask("POST", f"/{collection}", {kind: members})
        document: dict[str, Any] = made[kind]
        return document

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Auth-Token": self._admin_token()}
        status, _, document = self._exchange(method, path, body, headers)
        if status not in (200, 201, 204):
            raise AssertionError(f"{method} {path}: {status} {document}")
        return document

    @functools.cache  # noqa: B019 - as long as the run
    def _admin_token(self) -> str:
        return self.token(ADMIN, "admin")

    def _exchange(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = None if body is None else json.dumps(body)
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, f"/v3{path}", content, sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None
        finally:
            connection.close()

    def _manage(self, *arguments: str) -> None:
        program = self._python.with_name("keystone-manage")
        settings = ["--config-file", str(self.directory / "keystone.conf")]
        done = subprocess.run(
            [str(self._python), str(program), *settings, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{arguments}: {done.stderr[-2000:]}")


@once_a_run
def keystone() -> KeystoneServer:
    """The one of this run, filled before its start."""
    server = KeystoneServer()
    server.fill()
    return server


def populated() -> KeystoneServer:
    """The Keystone of this run with everybody in it."""
    server = keystone()
    if not server.projects:
        server.populate()
    return server
