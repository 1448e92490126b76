"""Subscribers as the channels of this service know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject, Subscription
from mqsvc.messaging.subscription_options import HIDDEN, TRUST
from mqsvc.notification.channel import TRUST_PREFIX, Channel, scheme_of
from mqsvc.notification.confirmation import Ask
from mqsvc.notification.filters import compile_filter
from mqsvc.notification.questions import Questions, can_answer

if TYPE_CHECKING:
    from mqsvc.notification.trust import Trusts


@frozen
class ChannelSubscribers:
    """Decides who can be told, and has them asked.

    :ivar _channels: by the scheme of subscribers.
    :ivar _trusts: none where users cannot trust the service.
    :ivar _questions: none where subscribers are not asked.
    """

    _channels: Mapping[str, Channel]
    _trusts: Trusts | None
    _questions: Questions | None

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`~mqsvc.messaging.subscribers.Subscribers`."""
        compile_filter(options)
        scheme = scheme_of(subscriber)
        if scheme in self._channels:
            await self._channels[scheme].check(subscriber, options)
        elif scheme.startswith(TRUST_PREFIX):
            raise InvalidRequest(
                f"This server cannot tell '{scheme}' subscribers: it is not set up for "
                f"trusts of Keystone. Use '{scheme.removeprefix(TRUST_PREFIX)}'."
            )

    async def entitle(self, wanted: Subscription, token: str | None) -> Subscription:
        """See :class:`~mqsvc.messaging.subscribers.Subscribers`."""
        is_trusting = scheme_of(wanted.subscriber).startswith(TRUST_PREFIX)
        # What readers see in the place of a trust is none.
        has_trust = wanted.options.get(TRUST) not in (None, "", HIDDEN)
        if self._trusts is None or not is_trusting or has_trust:
            return wanted
        if token is None:
            raise InvalidRequest(
                "Such a subscriber acts for a user: send the X-Auth-Token of one."
            )
        project = wanted.destination.project
        trust_id = await self._trusts.create(token, project, wanted.expires)
        return evolve(wanted, options={**wanted.options, TRUST: trust_id})

    async def invite(self, subscription: Subscription) -> None:
        """See :class:`~mqsvc.messaging.subscribers.Subscribers`."""
        await self._ask(Ask.SUBSCRIBE, subscription)

    async def farewell(self, subscription: Subscription) -> None:
        """See :class:`~mqsvc.messaging.subscribers.Subscribers`."""
        await self._ask(Ask.UNSUBSCRIBE, subscription)

    async def _ask(self, ask: Ask, subscription: Subscription) -> None:
        if self._questions is not None and can_answer(subscription):
            await self._questions.ask(ask, subscription)
