"""From a target to the addresses it may be reached at."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification.guard import TargetGuard, TargetRefused
from mqsvc.notification.target import Address, Target, parse_target

LOOKUP_SECONDS = 5
"""How long a name server has for its answer."""


class NameServerSilent(Exception):
    """The address of a name could not be found out in time."""

    def __init__(self) -> None:
        super().__init__(
            f"the name server did not answer within {LOOKUP_SECONDS} seconds"
        )


class Names(Protocol):
    """What knows the addresses of names."""

    def addresses_of(self, name: str) -> Deferred[list[Address]]:
        """Fire with the addresses of a name, with none if it is not known."""


@frozen
class TargetResolver:
    """Finds addresses and lets those through that the guard permits."""

    _guard: TargetGuard
    _names: Names
    _clock: IReactorTime

    async def addresses(self, target: Target) -> list[Address]:
        """Where a target can be connected to; empty when its name is not known.

        :raise TargetRefused: the guard permits none of its addresses.
        :raise NameServerSilent: they could not be found out in time.
        """
        if target.address is not None:
            return self._guard.permitted([target.address])
        found = self._names.addresses_of(target.host)
        try:
            addresses = await found.addTimeout(LOOKUP_SECONDS, self._clock)
        except DeferredTimeout:
            raise NameServerSilent from None
        return self._guard.permitted(addresses)

    async def check_target(self, url: str) -> None:
        """Accept the URL of a new subscription.

        A name that cannot be resolved now is accepted: it is checked again at each
        connection.

        :raise InvalidRequest: it is malformed, or must not be called.
        """
        try:
            await self.addresses(parse_target(url))
        except TargetRefused as refusal:
            raise InvalidRequest(
                f"The URL of 'subscriber' cannot be used. {refusal}"
            ) from None
        except NameServerSilent:
            return
