"""Connections of HTTP clients that are kept, without a word in the log about each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.web.client import HTTPConnectionPool
from zope.interface import implementer


class QuietPool(HTTPConnectionPool):
    """A pool of Twisted's that does not log when connections begin and end."""

    def getConnection(
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        """See :class:`~twisted.web.client.HTTPConnectionPool`."""
        quiet: Any = _Quiet(endpoint)
        return super().getConnection(key, quiet)


@implementer(IStreamClientEndpoint)
@frozen
class _Quiet:
    _endpoint: IStreamClientEndpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory: Any = protocolFactory
        factory.noisy = False
        return self._endpoint.connect(protocolFactory)
