"""Notifications by HTTP: one POST for each message (semantics.md 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseNeverReceived
from twisted.web.iweb import IResponse

from mqsvc import __version__
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject
from mqsvc.notification.channel import (
    Notice,
    Outcome,
    Verdict,
    cause,
    refused,
    retry,
    timed,
)
from mqsvc.notification.connecting import Connections
from mqsvc.notification.guard import TargetRefused
from mqsvc.notification.payload import body_of, check_options, headers_of
from mqsvc.notification.resolving import NameServerSilent, TargetResolver
from mqsvc.notification.signature import secrets_of, signature_headers
from mqsvc.notification.target import Target, parse_target

ATTEMPT_SECONDS = 15
"""From the look at the name to the head of the answer."""

BODY_SECONDS = 5
BODY_BYTES = 64 * 1024
"""How much of an answer's body is read, so that its connection can be used again."""

MOST_STALE = 5
"""Kept connections that may turn out to be closed before a new one must do."""

_TEMPORARY = (408, 425, 429)
"""Statuses below 500 after which it may work later."""


@frozen
class _Request:
    """A request that is ready to be sent, again and again."""

    target: Target
    headers: dict[str, str]
    body: bytes


@frozen
class Webhook:
    """Delivers to ``http`` and ``https`` subscribers."""

    _connections: Connections
    _resolver: TargetResolver
    _clock: IReactorTime

    schemes = ("http", "https")

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        check_options(options)
        secrets_of(options)
        await self._resolver.check_target(subscriber)

    async def deliver(self, notice: Notice) -> Outcome:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        return await self.post(notice, notice.subscription.subscriber, {})

    async def post(
        self, notice: Notice, url: str, credentials: Mapping[str, str]
    ) -> Outcome:
        """Make one attempt at a URL.

        :param credentials: headers with names in lower case; the subscription's own
            ones go before them.
        """
        return await timed(self._clock, self._post(notice, url, credentials))

    async def _post(
        self, notice: Notice, url: str, credentials: Mapping[str, str]
    ) -> Outcome:
        try:
            request = self._request(notice, url, credentials)
        except InvalidRequest as error:
            return refused(error.description)
        try:
            response = await self._answer(request)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the other side
            return _failed(request, error)
        outcome = self._judged(response)
        await self._drop_body(response)
        return outcome

    def _request(
        self, notice: Notice, url: str, credentials: Mapping[str, str]
    ) -> _Request:
        options = notice.subscription.options
        target = parse_target(url)
        body = body_of(options, notice.content)
        headers = {"user-agent": f"mqsvc/{__version__}", **credentials}
        if target.authorization is not None:
            headers["authorization"] = target.authorization
        headers |= headers_of(options)
        headers |= signature_headers(
            secrets_of(options), notice.delivery_id, int(self._clock.seconds()), body
        )
        return _Request(target, headers, body)

    def _answer(self, request: _Request) -> Deferred[IResponse]:
        answered = Deferred.fromCoroutine(self._exchange(request))
        return answered.addTimeout(ATTEMPT_SECONDS, self._clock)

    async def _exchange(self, request: _Request) -> IResponse:
        """The head of an answer.

        A server may close a connection that was kept open just when it is used again.
        That is no failure of the notification, so it is sent anew.
        """
        for _ in range(MOST_STALE):
            client = self._connections.client(request.target)
            try:
                return await client.post(request.headers, request.body)
            except (RequestTransmissionFailed, ResponseNeverReceived) as error:
                if isinstance(cause(error), CancelledError):
                    raise CancelledError from error
                if not client.is_reused:
                    raise
        raise ConnectError

    def _judged(self, response: IResponse) -> Outcome:
        status = response.code
        if 200 <= status < 300:
            return Outcome(Verdict.DELIVERED, status)
        if status == 410:
            return Outcome(Verdict.GONE, status, "the receiver answers 410: gone")
        error = f"the receiver answers {status}"
        if 300 <= status < 400:
            return refused(f"{error}; redirects are not followed", status)
        if 400 <= status < 500 and status not in _TEMPORARY:
            return refused(error, status)
        return evolve(retry(error, status), retry_after=self._retry_after(response))

    def _retry_after(self, response: IResponse) -> int | None:
        values = response.headers.getRawHeaders("Retry-After") or [""]
        text = values[0].strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:  # how the parser shows that it is in UTC
            moment = moment.replace(tzinfo=UTC)
        return max(0, round(moment.timestamp() - self._clock.seconds()))

    async def _drop_body(self, response: IResponse) -> None:
        dropped = _DroppedBody()
        response.deliverBody(dropped)
        await dropped.done.addTimeout(
            BODY_SECONDS, self._clock, lambda _, seconds: None
        )


class _DroppedBody(Protocol):
    """Reads a body to its end, up to a bound, and keeps nothing of it."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(self._stop)
        self._left = BODY_BYTES

    def dataReceived(self, data: bytes) -> None:
        """The next piece."""
        self._left -= len(data)
        if self._left < 0:
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or no more will come."""
        if not self.done.called:
            self.done.callback(None)

    def _stop(self, _: Deferred[None]) -> None:
        self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _failed(request: _Request, error: Exception) -> Outcome:
    if isinstance(error, TargetRefused):
        # A name may be led back to where it belongs, an address stays what it is.
        make = retry if request.target.address is None else refused
        return make(str(error))
    if isinstance(error, DeferredTimeout):
        return retry(f"no answer within {ATTEMPT_SECONDS} seconds")
    if isinstance(error, NameServerSilent):
        return retry(str(error))
    if isinstance(error, DNSLookupError):
        return retry("the name of the host is not known")
    return retry(f"the connection failed: {type(cause(error)).__name__}")
