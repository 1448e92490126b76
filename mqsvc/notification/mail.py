"""Notifications by mail: one for each message (semantics.md 7.5)."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import JsonObject
from mqsvc.notification.channel import Notice, Outcome, refused, timed
from mqsvc.notification.mail_address import parse_mailto
from mqsvc.notification.mail_text import Mail, check_options, compose


class Carrier(Protocol):
    """What takes mails from us."""

    async def send(self, mail: Mail) -> Outcome:
        """Hand over one mail; whatever fails is in the outcome."""


@frozen
class MailChannel:
    """Delivers to ``mailto`` subscribers.

    :param sender: the service's own address.
    """

    _carrier: Carrier
    _sender: str
    _clock: IReactorTime

    schemes = ("mailto",)

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        parse_mailto(subscriber)
        check_options(options)

    async def deliver(self, notice: Notice) -> Outcome:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        try:
            mail = compose(notice, self._sender, self._clock.seconds())
        except InvalidRequest as error:
            return refused(error.description)
        return await timed(self._clock, self._carrier.send(mail))
