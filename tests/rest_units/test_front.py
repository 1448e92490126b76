"""From a request to its answer, where the answer cannot be written."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site

from mqsvc.rest.answer import Answer
from mqsvc.rest.cors import CORS
from mqsvc.rest.front import Front
from mqsvc.rest.site import BoundedRequest
from tests.wire.test_http import Wire, WireTestCase, get


class Unlogged(Site):
    """Writes no log of its requests."""

    requestFactory = BoundedRequest

    def log(self, request: Request) -> None:
        """Say nothing."""


class BrokenTests(WireTestCase):
    """Handlers that fail, or give something that is no body."""

    def setUp(self) -> None:
        """Make the front of an app with such handlers."""
        # It installs a reactor, so it comes when there is one.
        from klein import Klein  # noqa: PLC0415

        app = Klein()
        self.waiting: Deferred[Any] = Deferred()

        async def now(*_: object) -> Answer:
            raise LookupError("now")

        async def later(*_: object) -> Any:
            return await self.waiting

        app.route("/now", endpoint="now")(lambda _: now)
        app.route("/later", endpoint="later")(lambda _: later)

        # No route is missing, so nobody is needed who says so.
        entrance: Any = None
        self.front = Front(app, entrance, CORS(), None)

    def test_at_once(self) -> None:
        """A handler that fails is a 500, and the next request is answered."""
        self.serve(self.front)
        connection = self.connect()
        for _ in range(2):
            self.assertIn(b" 500 ", connection.send(get(b"/now")))
        self.assertEqual(2, len(self.flushLoggedErrors(LookupError)))

    def test_later(self) -> None:
        """An answer that cannot be written is a 500, and is logged."""
        self.serve(self.front)
        connection = self.connect()
        self.assertEqual(b"", connection.send(get(b"/later")))
        self.waiting.callback(Answer(200, object()))
        self.assertIn(b" 500 ", connection.sent)
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))

    def test_gone(self) -> None:
        """What fails for a client that is gone is logged."""
        self.waiting = Deferred(lambda one: one.errback(ZeroDivisionError()))
        self.serve(self.front)
        connection = self.connect()
        connection.send(get(b"/later"))
        connection.vanish()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def under_twisted_web(self) -> tuple[HTTPChannel, Wire]:
        """A connection to the server of twisted.web that has sent a request."""
        channel: Any = Unlogged(self.front).buildProtocol(None)
        channel.timeOut = None
        transport = Wire()
        channel.makeConnection(transport)
        channel.dataReceived(get(b"/later"))
        return channel, transport

    def test_under_twisted_web(self) -> None:
        """The server of twisted.web answers so, too."""
        _, transport = self.under_twisted_web()
        self.waiting.errback(LookupError("later"))
        self.assertIn(b" 500 ", transport.value())
        self.assertEqual(1, len(self.flushLoggedErrors(LookupError)))

    def test_gone_under_twisted_web(self) -> None:
        """There, too, the work for a client that is gone is cancelled."""
        self.waiting = Deferred(lambda one: one.errback(ZeroDivisionError()))
        channel, _ = self.under_twisted_web()
        channel.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
