"""Asking a subscriber whether it wants the notifications (semantics.md 8).

The notice carries a signed permission to confirm and to unsubscribe, so that the
answer needs no login.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from mqsvc.access.signed_urls import Grant, sign
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import Destination, Subscription
from mqsvc.notification.channel import Letter, Notice
from mqsvc.notification.mail_address import parse_address
from mqsvc.wire import codec

PAGE_PATH = "/v2/confirm"
"""Where the service itself lets people answer; see :mod:`.confirmation_page`."""

METHOD = "PUT"

_FORMAT = "%Y-%m-%dT%H:%M:%S"
_KEPT = "/:,"

_LAST_SECOND = 253_402_300_799
"""The last one of the year 9999, which is the last that dates can show."""

SENDER = "Zaqar Notifications <no-reply@openstack.org>"


class Ask(enum.Enum):
    """What a notice asks; its value is part of the notice."""

    SUBSCRIBE = "SubscriptionConfirmation"
    UNSUBSCRIBE = "UnsubscribeConfirmation"


class NoPage(Exception):
    """A mail cannot be answered, since no page for that is configured."""

    def __init__(self) -> None:
        super().__init__(
            "Mail subscribers cannot confirm: set notification.public_url to the URL "
            "under which clients reach this service, or "
            "notification.external_confirmation_url to a page of your own."
        )


@frozen
class MailTemplate:
    """A mail that asks, with the names of the configuration.

    :ivar body: ``{0}`` is the queue, ``{1}`` the project, ``{2}`` the link.
    """

    topic: str
    body: str
    sender: str = SENDER

    def letter(self, destination: Destination, link: str) -> Letter:
        """The mail about one queue."""
        text = self.body.format(destination.name, destination.project, link)
        return Letter(self.topic, self.sender, text)

    def check(self) -> None:
        """Accept the sender and the placeholders.

        :raise ValueError: the sender is no address, or a placeholder is malformed or
            none of the three.
        """
        try:
            parse_address(self.sender, "sender")
        except InvalidRequest as error:
            raise ValueError(error.description) from None
        try:
            self.body.format("", "", "")
        except (LookupError, AttributeError, ValueError):
            raise ValueError(
                "the body may have the placeholders {0}, {1} and {2} only; other "
                "braces are doubled"
            ) from None


SUBSCRIBE = MailTemplate(
    "Zaqar Notification - Subscription Confirmation",
    "Somebody asked to send the messages of the queue {0} of project {1} to this "
    "address.\n\nIf you want that, follow this link:\n\n{2}\n\nOtherwise do nothing: "
    "you will get no messages.\n",
)

UNSUBSCRIBE = MailTemplate(
    "Zaqar Notification - Unsubscribe Confirmation",
    "The messages of the queue {0} of project {1} are not sent to this address any "
    "more.\n\nIf you want them again, follow this link:\n\n{2}\n",
)


@frozen
class ConfirmationSettings:
    """What an operator says about confirmations.

    :ivar default_ttl: seconds for which an unsubscribed one can subscribe again.
    :ivar public_url: of this service as clients see it.
    :ivar external_url: of a page that takes answers in place of our own.
    :ivar rest_url: put into notices as the base of the API, if there is one.
    :ivar websocket_url: the same for the WebSocket API.
    """

    default_ttl: int
    public_url: str = ""
    external_url: str = ""
    rest_url: str = ""
    websocket_url: str = ""
    subscribe: MailTemplate = SUBSCRIBE
    unsubscribe: MailTemplate = UNSUBSCRIBE


@frozen
class Confirmations:
    """Makes the notices that ask.

    :param secret: signs the permissions.
    """

    _secret: str = field(repr=False)
    _settings: ConfirmationSettings

    def notice(
        self,
        ask: Ask,
        subscription: Subscription,
        delivery_id: str,
        now: int,
        attempt: int = 1,
    ) -> Notice:
        """What asks a subscriber.

        :param now: the moment of the question, in milliseconds since the epoch; the
            same for all attempts.
        :raise NoPage: it is asked by mail and there is no page for the answer.
        """
        grant = self._grant(ask, subscription, now)
        letter = None
        if subscription.subscriber.lower().startswith("mailto:"):
            letter = self._letter(ask, subscription.destination, grant)
        content = codec.encode(self._document(ask, subscription.destination, grant))
        return Notice(subscription, delivery_id, attempt, content, letter)

    def _grant(self, ask: Ask, subscription: Subscription, now: int) -> Grant:
        is_new = ask is Ask.SUBSCRIBE
        ttl = subscription.ttl if is_new else self._settings.default_ttl
        end = min(now // 1000 + ttl, _LAST_SECOND)
        expires = datetime.fromtimestamp(end, UTC).strftime(_FORMAT)
        paths, methods = [confirm_path(subscription)], [METHOD]
        project = subscription.destination.project
        signature = sign(self._secret, paths, methods, project, expires)
        return Grant(paths, methods, project, expires, signature)

    def _document(
        self, ask: Ask, destination: Destination, grant: Grant
    ) -> dict[str, Any]:
        return {
            "Message_Type": ask.value,
            "Message": _sentence(ask, destination),
            "URL-Signature": grant.signature,
            "URL-Methods": METHOD,
            "URL-Paths": grant.paths[0],
            "X-Project-ID": grant.project,
            "URL-Expires": grant.expires,
            "SubscribeBody": {"confirmed": True},
            "UnsubscribeBody": {"confirmed": False},
            "queue_name": destination.name,
            **self._urls(grant),
        }

    def _urls(self, grant: Grant) -> dict[str, str]:
        bases = {
            "WSGISubscribeURL": self._settings.rest_url,
            "WebSocketSubscribeURL": self._settings.websocket_url,
        }
        return {
            name: base.rstrip("/") + grant.paths[0]
            for name, base in bases.items()
            if base
        }

    def _letter(self, ask: Ask, destination: Destination, grant: Grant) -> Letter:
        template = (
            self._settings.subscribe
            if ask is Ask.SUBSCRIBE
            else self._settings.unsubscribe
        )
        return template.letter(destination, self._link(destination, grant))

    def _link(self, destination: Destination, grant: Grant) -> str:
        page = self._settings.external_url
        if not page and self._settings.public_url:
            page = self._settings.public_url.rstrip("/") + PAGE_PATH
        if not page:
            raise NoPage
        fields = {
            "Signature": grant.signature,
            "Methods": METHOD,
            "Paths": grant.paths[0],
            "Project": grant.project,
            "Expires": grant.expires,
            "Url": self._urls(grant).get("WSGISubscribeURL", ""),
            "Queue": destination.name,
        }
        # Only what would end a value is encoded: pages may read it as it stands.
        pairs = (f"{name}={quote(value, _KEPT)}" for name, value in fields.items())
        return f"{page}?{'&'.join(pairs)}"


def confirm_path(subscription: Subscription) -> str:
    """The path of the API under which a subscription is confirmed."""
    destination = subscription.destination
    kind = destination.kind.value
    return f"/v2/{kind}s/{destination.name}/subscriptions/{subscription.id}/confirm"


def _sentence(ask: Ask, destination: Destination) -> str:
    if ask is Ask.SUBSCRIBE:
        return (
            f"You are about to get the messages of the queue {destination.name}. To "
            "confirm that, send the SubscribeBody to the URL-Paths with the headers "
            "given here."
        )
    return (
        f"You get no more messages of the queue {destination.name}. To subscribe "
        "again, send the SubscribeBody to the URL-Paths with the headers given here."
    )
