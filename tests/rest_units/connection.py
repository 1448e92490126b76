"""The HTTP API without sockets: real requests in, real answers out, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.audit import AuditLog
from mqsvc.access.gate import Gate
from mqsvc.access.guard import Guard
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.access.turns import Turns
from mqsvc.clock import milliseconds
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.operations import Operations
from mqsvc.messaging.quotas import QuotaLimits, Quotas
from mqsvc.messaging.records import Records
from mqsvc.rest.app import make_api
from mqsvc.rest.cors import CORS
from mqsvc.rest.site import CountingSite
from tests.rest.answers import Answer
from tests.rest.connection import RawConnection

EPOCH = 1_800_000_000
CLIENT = "0123456789abcdef0123456789abcdef"

USUAL = {
    "Host": "localhost",
    "Client-ID": CLIENT,
    "X-Project-ID": "p1",
    "X-Roles": "admin",
}


def encoded(
    method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class Connection:
    """One connection to a site, of which both ends are here."""

    def __init__(self, site: CountingSite) -> None:
        self._server = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        self._client = RawConnection()
        self._taken = 0
        self.transport = StringTransport()
        self._server.makeConnection(self.transport)

    def send(self, *parts: bytes) -> None:
        """Let bytes reach the server."""
        self._server.dataReceived(b"".join(parts))

    def answer(self) -> Deferred[Answer]:
        """The next answer; does not fire before all of it was written."""
        written = self.transport.value()
        self._client.dataReceived(written[self._taken :])
        self._taken = len(written)
        return Deferred.fromCoroutine(self._client.answer())

    def hang_up(self, reason: Exception) -> None:
        """Let the server learn that the client has gone."""
        self._server.connectionLost(Failure(reason))


class InMemoryTestCase(SynchronousTestCase):
    """A site over stores that answer at once."""

    def serve(self, management: Any, messages: Any) -> None:
        """Make the site over these stores."""
        self.clock = Clock()
        self.clock.advance(EPOCH)
        limits = Limits()
        quotas = Quotas(QuotaLimits(), management, self.clock)
        records = Records(management, limits, quotas)
        self.operations = Operations.over(
            management, messages, records, limits, self.clock
        )
        now = milliseconds(self.clock)
        gate = Gate(None, Policy(make_rules({})), SignedUrls("s"), limits, now)
        self.rounds = Clock()
        self.guard = Guard(gate, Turns(self.rounds), quotas, AuditLog("", now))
        api = make_api(
            self.operations, self.guard, limits, self.clock, CORS(), admin_mode=True
        )
        self.site = CountingSite(api)
        # Idle connections are closed by the clock of the test.
        self.site.reactor = self.clock

    def connect(self) -> Connection:
        """A connection that is gone when the test is over."""
        # The reactor would look at its connections between requests.
        self.rounds.advance(0)
        connection = Connection(self.site)
        self.addCleanup(connection.hang_up, ConnectionError("the test is over"))
        return connection

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and take its answer, which must be there at once."""
        body = b"" if json is None else dumps(json).encode()
        connection = self.connect()
        connection.send(encoded(method, path, {**USUAL, **(headers or {})}, body))
        return self.successResultOf(connection.answer())
