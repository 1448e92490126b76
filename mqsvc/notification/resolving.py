"""From a target to the addresses it may be reached at."""

from __future__ import annotations

import ipaddress

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification.guard import TargetGuard, TargetRefused
from mqsvc.notification.target import Address, Target, parse_target

CHECK_SECONDS = 5
"""How long the check of a new subscription waits for a name server."""


@implementer(IResolutionReceiver)
class _Resolution:
    """Collects the addresses of one name."""

    def __init__(self) -> None:
        self._found: list[Address] = []
        self.complete: Deferred[list[Address]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """See :class:`IResolutionReceiver`."""

    def addressResolved(self, address: IAddress) -> None:
        """See :class:`IResolutionReceiver`."""
        host = getattr(address, "host", "")
        self._found.append(ipaddress.ip_address(host))

    def resolutionComplete(self) -> None:
        """See :class:`IResolutionReceiver`."""
        self.complete.callback(self._found)


@frozen
class TargetResolver:
    """Finds addresses and lets those through that the guard permits."""

    _guard: TargetGuard
    _resolver: IHostnameResolver
    _clock: IReactorTime

    async def addresses(self, target: Target) -> list[Address]:
        """Where a target can be connected to; empty when its name is not known.

        :raise TargetRefused: the guard permits none of its addresses.
        """
        if target.address is not None:
            return self._guard.permitted([target.address])
        resolution = _Resolution()
        self._resolver.resolveHostName(resolution, target.host, target.port)
        return self._guard.permitted(await resolution.complete)

    async def check_target(self, url: str) -> None:
        """Accept the URL of a new subscription.

        A name that cannot be resolved now is accepted: it is checked again at each
        connection.

        :raise InvalidRequest: it is malformed, or must not be called.
        """
        found = Deferred.fromCoroutine(self.addresses(parse_target(url)))
        try:
            await found.addTimeout(CHECK_SECONDS, self._clock)
        except TargetRefused as refusal:
            raise InvalidRequest(
                f"The URL of 'subscriber' cannot be used. {refusal}"
            ) from None
        except DeferredTimeout:
            return
