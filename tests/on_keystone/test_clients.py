"""A server behind a real Keystone: what its clients see, and what when it is away."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import uuid
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from tests.live import LiveServer, missing
from tests.rest.server import RestTestCase
from tests.servers.keystone import (
    MEMBER,
    OTHER,
    PASSWORD,
    SERVICE,
    KeystoneServer,
    populated,
)

try:
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.session import Session
    from openstack.connection import Connection
    from openstack.message.v2.claim import Claim
    from zaqarclient.queues import client as zaqarclient
    from zaqarclient.transport import errors
except ImportError:
    zaqarclient = None

CLIENT = uuid.uuid4().hex
OPENSTACK = Path(sys.executable).with_name("openstack")
HOOK = "http://hooks.example.org/a"
DOMAIN = "Default"
PROJECTS = {MEMBER: "one", OTHER: "two"}


def guarded_server(
    keystone: KeystoneServer, cache_seconds: int = 0, password: str = PASSWORD
) -> LiveServer:
    """A server that asks this Keystone; not started yet."""
    settings = {
        "auth_strategy": "keystone",
        "keystone_authtoken.auth_url": keystone.url,
        "keystone_authtoken.username": SERVICE,
        "keystone_authtoken.password": password,
        "keystone_authtoken.project_name": "service",
        "keystone_authtoken.token_cache_time": str(cache_seconds),
        "keystone_authtoken.timeout": "25",
    }
    words = [f"{name}={value}" for name, value in settings.items()]
    return LiveServer(*(part for word in words for part in ("--set", word)))


@functools.cache
def server_of_clients() -> LiveServer:
    """The server of all clients, as the catalog of Keystone names it."""
    keystone = populated()
    server = guarded_server(keystone)
    reactor.addSystemEventTrigger("before", "shutdown", server.remove)
    (service,) = keystone._ask("GET", "/services?type=messaging")["services"]
    where = {"service_id": service["id"], "url": server.url, "region_id": "here"}
    keystone._make("endpoints", interface="public", **where)
    server.start()
    return server


class ClientCase(SynchronousTestCase):
    """A client of each kind; each test has queues of its own."""

    def setUp(self) -> None:
        """Take the servers of this run."""
        if zaqarclient is None:
            missing("one of the clients", "install the project with its extra 'test'")
        self.keystone = populated()
        self.server = server_of_clients()
        self.queue_name = f"q-{uuid.uuid4().hex}"

    def password(self, user: str) -> Any:
        """The login of a user, as keystoneauth knows it."""
        return Password(
            self.keystone.url,
            username=user,
            password=PASSWORD,
            user_domain_name=DOMAIN,
            project_name=PROJECTS[user],
            project_domain_name=DOMAIN,
        )


class ZaqarClientTests(ClientCase):
    """python-zaqarclient, with a session, a token, or a password."""

    def by_session(self, user: str) -> Any:
        """A client that is handed a session, and finds the server in the catalog."""
        return zaqarclient.Client(version=2, session=Session(self.password(user)))

    def by_options(self, user: str, **options: str) -> Any:
        """A client that authenticates itself."""
        options = {"os_auth_url": self.keystone.url, **options}
        auth = {"backend": "keystone", "options": options}
        return zaqarclient.Client(self.server.url, 2, conf={"auth_opts": auth})

    def use(self, client: Any) -> None:
        """Every step of a message's life."""
        queue = client.queue(self.queue_name, force_create=True)
        queue.post([{"body": "a", "ttl": 300}, {"body": "b", "ttl": 300}])
        claim = queue.claim(ttl=100, grace=60, limit=1)
        (claimed,) = claim
        self.assertEqual(claimed.body, "a")
        claimed.delete()
        left = [message.body for message in queue.messages(echo=True)]
        self.assertEqual(left, ["b"])
        made = client.subscription(self.queue_name, subscriber=HOOK, ttl=600)
        self.assertEqual([each.id for each in queue.subscriptions()], [made.id])
        self.assertIn(self.queue_name, [each.name for each in client.queues()[0]])

    def test_session(self) -> None:
        """A client with a session does everything."""
        self.use(self.by_session(MEMBER))

    def test_token(self) -> None:
        """A client with a token does everything."""
        token = self.keystone.token(MEMBER, "one")
        self.use(self.by_options(MEMBER, os_auth_token=token))

    def test_password(self) -> None:
        """A client with a password gets its token itself."""
        login = {
            "os_username": MEMBER,
            "os_password": PASSWORD,
            "os_user_domain_name": DOMAIN,
            "os_project_name": "one",
            "os_project_domain_name": DOMAIN,
        }
        self.use(self.by_options(MEMBER, **login))

    def test_projects_apart(self) -> None:
        """The users of two projects do not see each other's queues."""
        mine, theirs = self.by_session(MEMBER), self.by_session(OTHER)
        mine.queue(self.queue_name, force_create=True).post([{"body": 1, "ttl": 300}])
        self.assertNotIn(self.queue_name, [each.name for each in theirs.queues()[0]])
        queue = theirs.queue(self.queue_name, force_create=True)
        self.assertEqual(list(queue.messages(echo=True)), [])
        queue.delete()
        self.assertIn(self.queue_name, [each.name for each in mine.queues()[0]])

    def test_project_that_is_claimed(self) -> None:
        """Naming another project beside one's token does not lead there."""
        self.by_session(MEMBER).queue(self.queue_name, force_create=True)
        liar = self.by_options(
            OTHER,
            os_auth_token=self.keystone.token(OTHER, "two"),
            os_project_id=self.keystone.projects["one"],
        )
        self.assertNotIn(self.queue_name, [each.name for each in liar.queues()[0]])

    def test_bad_token(self) -> None:
        """A token that does not hold is refused."""
        client = self.by_options(MEMBER, os_auth_token="bad")
        self.assertRaises(errors.UnauthorizedError, client.queues)


class SdkTests(ClientCase):
    """openstacksdk, which finds the server in the catalog."""

    def message(self, user: str) -> Any:
        """The message proxy of a user."""
        return Connection(
            session=Session(self.password(user)), region_name="here"
        ).message

    def test_everything(self) -> None:
        """Every step of a message's life."""
        message, name = self.message(MEMBER), self.queue_name
        message.create_queue(name=name)
        message.post_message(name, [{"body": each, "ttl": 300} for each in "ab"])
        claim = Claim.new(queue_name=name, ttl=100, grace=60).create(message)
        claimed = claim.messages[0]
        message.delete_message(name, claimed["id"], claim=claim.id)
        message.delete_claim(name, claim.id)
        self.assertEqual([each.body for each in message.messages(name)], ["b"])
        made = message.create_subscription(name, subscriber=HOOK, ttl=600)
        listed = [each.id for each in message.subscriptions(name)]
        self.assertEqual(listed, [made.subscription_id])
        self.assertIn(name, [each.name for each in message.queues()])

    def test_projects_apart(self) -> None:
        """The users of two projects do not see each other's queues."""
        self.message(MEMBER).create_queue(name=self.queue_name)
        theirs = [each.name for each in self.message(OTHER).queues()]
        self.assertNotIn(self.queue_name, theirs)


class CommandTests(ClientCase):
    """``openstack messaging``."""

    def setUp(self) -> None:
        """Look for the program."""
        super().setUp()
        if not OPENSTACK.exists():
            missing("openstack", "install python-openstackclient beside the clients")

    def run_as(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user knows it."""
        environment = {
            "PATH": os.environ["PATH"],
            # One for all: the command keeps there which plug-ins it found.
            "HOME": os.path.abspath("openstack-home"),
            "OS_AUTH_URL": self.keystone.url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD,
            "OS_USER_DOMAIN_NAME": DOMAIN,
            "OS_PROJECT_NAME": PROJECTS[user],
            "OS_PROJECT_DOMAIN_NAME": DOMAIN,
            "OS_REGION_NAME": "here",
            "OS_MESSAGE_CLIENT_ID": CLIENT,
        }
        return subprocess.run(
            [sys.executable, str(OPENSTACK), "messaging", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def openstack(self, *words: str, user: str = MEMBER) -> Any:
        """What a command says, which must succeed."""
        done = self.run_as(user, *words)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr[-2000:]}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def listed(self, *words: str, **options: str) -> Any:
        """What a command that can be asked for JSON says."""
        return self.openstack(*words, "-f", "json", **options)

    def test_everything(self) -> None:
        """Every step of a message's life."""
        name = self.queue_name
        self.assertEqual(self.listed("queue", "create", name), {"Name": name})
        messages = json.dumps([{"body": each, "ttl": 300} for each in ("a", "b")])
        self.openstack("message", "post", name, messages)
        (claimed,) = self.listed("claim", "create", name, "--limit", "1")
        self.assertEqual(claimed["Messages"], "a")
        left = self.listed("message", "list", name, "--echo")
        self.assertEqual([each["Body"] for each in left], ["b"])
        self.openstack("claim", "release", name, claimed["Claim_ID"])
        left = self.listed("message", "list", name, "--echo")
        self.assertEqual([each["Body"] for each in left], ["a", "b"])
        made = self.listed("subscription", "create", name, HOOK, "600")
        (listed,) = self.listed("subscription", "list", name)
        self.assertEqual(listed["ID"], made["ID"])
        self.openstack("queue", "delete", name)
        names = [each["Name"] for each in self.listed("queue", "list")]
        self.assertNotIn(name, names)

    def test_projects_apart(self) -> None:
        """The users of two projects do not see each other's queues."""
        self.listed("queue", "create", self.queue_name)
        mine, theirs = (self.listed("queue", "list", user=u) for u in (MEMBER, OTHER))
        self.assertIn(self.queue_name, [each["Name"] for each in mine])
        self.assertNotIn(self.queue_name, [each["Name"] for each in theirs])

    def test_administration(self) -> None:
        """What a server without administration does not have is an error."""
        done = self.run_as(MEMBER, "pool", "list")
        self.assertNotEqual(done.returncode, 0)


class OutageCase(SynchronousTestCase):
    """A server of the test's own."""

    def setUp(self) -> None:
        """Take the Keystone of this run, and see that it runs afterwards."""
        self.keystone = populated()

    def serve(self, **options: Any) -> None:
        """Start the server."""
        self.server = guarded_server(self.keystone, **options)
        self.addCleanup(self.server.remove)
        self.server.start()

    def ask(self, token: str | None, path: str = "/v2/queues") -> tuple[int, Any]:
        """The status and the headers of an answer."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"Client-ID": CLIENT}
        headers |= {} if token is None else {"X-Auth-Token": token}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers
        finally:
            connection.close()

    def status(self, token: str | None) -> int:
        """The status of an answer."""
        return self.ask(token)[0]


class TokenTests(OutageCase):
    """Tokens that Keystone issued, and what becomes of them."""

    def test_challenge(self) -> None:
        """Who has no token is told where to get one."""
        self.serve()
        for token in (None, "bad"):
            status, headers = self.ask(token)
            challenge = f'Keystone uri="{self.keystone.url}"'
            self.assertEqual((status, headers["WWW-Authenticate"]), (401, challenge))
        for path, status in (("/", 300), ("/healthz", 200), ("/readyz", 200)):
            self.assertEqual(self.ask(None, path)[0], status)

    def test_without_project(self) -> None:
        """A token for no project opens none."""
        self.serve()
        self.assertEqual(self.status(self.keystone.token(MEMBER, None)), 400)

    def test_revoked(self) -> None:
        """Without a cache a revoked token is refused at once, and others go on."""
        self.serve()
        revoked, kept = (self.keystone.token(MEMBER, "one") for _ in range(2))
        self.assertEqual([self.status(revoked), self.status(kept)], [200, 200])
        self.keystone.revoke(revoked)
        self.assertEqual([self.status(revoked), self.status(kept)], [401, 200])


class AwayTests(OutageCase):
    """A Keystone that stops and comes back."""

    def test_away(self) -> None:
        """Known tokens go on, unknown ones wait for it to come back."""
        self.serve(cache_seconds=300)
        known, unknown = (self.keystone.token(MEMBER, "one") for _ in range(2))
        self.assertEqual(self.status(known), 200)
        self.keystone.stop()
        try:
            self.assertEqual(self.status(known), 200)
            self.assertEqual(self.status(unknown), 503)
            self.assertEqual(self.ask(None, "/readyz")[0], 200)
            self.assertIn("identity service cannot be asked", self.server.log_end())
        finally:
            self.keystone.start()
        self.assertEqual([self.status(known), self.status(unknown)], [200, 200])
        self.assertEqual(self.status("bad"), 401)

    def test_away_at_the_start(self) -> None:
        """The server starts without it, and works as soon as it is there."""
        token = self.keystone.token(MEMBER, "one")
        self.keystone.stop()
        try:
            self.serve()
            self.assertEqual(self.status(token), 503)
        finally:
            self.keystone.start()
        self.assertEqual(self.status(token), 200)


class WrongLoginTests(OutageCase):
    """A server whose own password is wrong."""

    def test_wrong_password(self) -> None:
        """Nobody comes in, and the log says which options to look at."""
        self.serve(password="not-the-password")
        token = self.keystone.token(MEMBER, "one")
        self.assertEqual(self.status(token), 503)
        log = self.server.log_end()
        self.assertIn("401 to the login of the service user", log)
        self.assertIn("keystone_authtoken", log)
        for secret in (token, "not-the-password"):
            self.assertNotIn(secret, log)


class ExpiryTests(RestTestCase):
    """The service's clock, which stands in a year when today's tokens have ended."""

    async def setUp(self) -> None:
        """Start a service behind the Keystone of this run."""
        self.keystone = populated()
        self.settings = (
            "auth_strategy=keystone",
            f"keystone_authtoken.auth_url={self.keystone.url}",
            f"keystone_authtoken.username={SERVICE}",
            f"keystone_authtoken.password={PASSWORD}",
            "keystone_authtoken.project_name=service",
        )
        await super().setUp()

    async def test_expired(self) -> None:
        """A token that has expired is refused, whatever Keystone says of it."""
        token = self.keystone.token(MEMBER, "one")
        headers = {"X-Auth-Token": token}
        self.expect(await self.call("GET", "/v2/queues", headers=headers), 401)
