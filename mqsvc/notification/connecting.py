"""Connections for webhooks: to checked addresses only, kept open for the next one.

A name is resolved and checked here and the connection goes to the very address that was
checked, so that no second answer of a name server can lead it elsewhere. TLS is still
verified against the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.web.client import URI, Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import implementer

from mqsvc.access.quiet_pool import QuietPool
from mqsvc.notification.resolving import TargetResolver
from mqsvc.notification.target import Target

CONNECT_SECONDS = 5
"""For each address that is tried."""

MOST_ADDRESSES = 3
"""Of one name that are tried."""

IDLE_SECONDS = 15
"""How long an unused connection is kept; servers close theirs after a while, too."""

KEPT_PER_HOST = 4


@implementer(IStreamClientEndpoint)
@frozen
class _CheckedEndpoint:
    """Connects to a target at one of its permitted addresses."""

    _reactor: Any
    _resolver: TargetResolver
    _target: Target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fire with a protocol, or fail as Twisted's endpoints do.

        It fails with :class:`TargetRefused`, too.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        found = await self._resolver.addresses(self._target)
        failed: ConnectError | None = None
        for address in found[:MOST_ADDRESSES]:
            kind = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
            endpoint = kind(
                self._reactor, str(address), self._target.port, CONNECT_SECONDS
            )
            try:
                return cast(IProtocol, await endpoint.connect(factory))
            except ConnectError as error:
                failed = error
            except ConnectingCancelledError as error:
                raise CancelledError from error
        raise failed or DNSLookupError()


@implementer(IAgentEndpointFactory)
@define
class _OneRequest:
    """The endpoints of one request, which tell whether a new connection was needed.

    :ivar is_new: whether one was.
    """

    _reactor: Any
    _resolver: TargetResolver
    _policy: IPolicyForHTTPS
    target: Target
    is_new: bool = False

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint of the target, whatever a reader of its URL made of it."""
        endpoint = _CheckedEndpoint(self._reactor, self._resolver, self.target)
        if self.target.scheme == "https":
            host = self.target.host.encode("ascii")
            creator = self._policy.creatorForNetloc(host, self.target.port)
            return _Noted(wrapClientTLS(creator, cast(Any, endpoint)), self)
        return _Noted(cast(Any, endpoint), self)


@implementer(IStreamClientEndpoint)
@frozen
class _Noted:
    _endpoint: IStreamClientEndpoint
    _request: _OneRequest

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        self._request.is_new = True
        return self._endpoint.connect(protocolFactory)


@implementer(IBodyProducer)
class _Body:
    """A body that is there already."""

    def __init__(self, content: bytes) -> None:
        self.length = len(content)
        self._content = content

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: there is nothing more."""

    def resumeProducing(self) -> None:
        """Do nothing: there is nothing more."""

    def stopProducing(self) -> None:
        """Do nothing: there is nothing more."""


@frozen
class Client:
    """Makes one request to one target.

    It asks for no compression and undoes none: a few bytes could otherwise become a
    body of any size, in memory. Redirects are answers, and no cookies are kept.
    """

    _agent: Agent
    _request: _OneRequest

    async def post(self, headers: Mapping[str, str], body: bytes) -> IResponse:
        """The answer to a request, its body not yet read."""
        url = self._request.target.url.encode("ascii")
        fields = {name: [value] for name, value in headers.items()}
        return await self._agent.request(b"POST", url, Headers(fields), _Body(body))

    @property
    def is_reused(self) -> bool:
        """Whether the request went over a connection that was already open."""
        return not self._request.is_new


class Connections:
    """Open connections to webhooks, kept by scheme, host and port."""

    def __init__(
        self, reactor: Any, resolver: TargetResolver, policy: IPolicyForHTTPS
    ) -> None:
        self._reactor: IReactorTime = reactor
        self._resolver = resolver
        self._policy = policy
        self._pool = QuietPool(reactor)
        self._pool.maxPersistentPerHost = KEPT_PER_HOST
        self._pool.cachedConnectionTimeout = IDLE_SECONDS
        self._pool.retryAutomatically = False

    def client(self, target: Target) -> Client:
        """For one request to a target."""
        request = _OneRequest(self._reactor, self._resolver, self._policy, target)
        agent = Agent.usingEndpointFactory(self._reactor, request, self._pool)
        return Client(agent, request)

    async def close(self) -> None:
        """Close what is kept; fires when all of it is closed."""
        await self._pool.closeCachedConnections()
