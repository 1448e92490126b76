"""Subscribers as the operations on subscriptions see them."""

from __future__ import annotations

from typing import Protocol

from mqsvc.messaging.model import JsonObject, Subscription


class Subscribers(Protocol):
    """Who can be told, with what right, and how they are asked."""

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """Accept a subscriber that can be told, and its options.

        :raise InvalidRequest: it never can.
        """

    async def entitle(self, wanted: Subscription, token: str | None) -> Subscription:
        """The subscription with what its deliveries need beyond what the client says.

        :param token: of the user who asks, where users are asked for one.
        :raise InvalidRequest: it needs a user, and there is none.
        :raise NotAuthorized: the user may not give what it needs.
        :raise IdentityUnavailable: it cannot be had now.
        """

    async def invite(self, subscription: Subscription) -> None:
        """Ask one that has not agreed, where they are asked."""

    async def farewell(self, subscription: Subscription) -> None:
        """Tell one that left how to come back, where they are asked."""


class Anybody:
    """Accepts everybody, and asks and tells nobody."""

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`Subscribers`."""

    async def entitle(self, wanted: Subscription, token: str | None) -> Subscription:
        """See :class:`Subscribers`."""
        return wanted

    async def invite(self, subscription: Subscription) -> None:
        """See :class:`Subscribers`."""

    async def farewell(self, subscription: Subscription) -> None:
        """See :class:`Subscribers`."""
