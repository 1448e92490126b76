"""From settings to what tells subscribers: channels, outbox and dispatcher."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from random import SystemRandom
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.clock import Now, milliseconds
from mqsvc.config import ConfigError, Settings
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.subscribers import Subscribers
from mqsvc.notification.breaker import Breaker
from mqsvc.notification.channel import Channel
from mqsvc.notification.confirmation import (
    SUBSCRIBE,
    UNSUBSCRIBE,
    Confirmations,
    ConfirmationSettings,
    MailTemplate,
    NoPage,
)
from mqsvc.notification.deliverer import Deliverer
from mqsvc.notification.deliveries import Deliveries
from mqsvc.notification.dispatcher import Dispatcher
from mqsvc.notification.guard import TargetGuard, parse_networks
from mqsvc.notification.history import History
from mqsvc.notification.lanes import Lanes
from mqsvc.notification.mail import Carrier, MailChannel
from mqsvc.notification.names import NameLookup
from mqsvc.notification.outbox import Outbox
from mqsvc.notification.questions import Questions
from mqsvc.notification.sendmail import SendmailCommand
from mqsvc.notification.smtp import SMTPServer
from mqsvc.secret_options import MailText, Notification
from mqsvc.service import is_on_this_machine
from mqsvc.storage.interfaces import IManagementStore, IMessageStore
from mqsvc.storage.plugins import NOTIFIERS, load, names, refuse_taken
from mqsvc.wiring import Backends, make_trusts

log = Logger()

NAMES_PER_PAGE = 100

_URLS = {
    "public_url": ("http://", "https://"),
    "public_websocket_url": ("ws://", "wss://"),
    "external_confirmation_url": ("http://", "https://"),
}
"""The options that are addresses for clients, and how they begin."""

BUILT_IN = (
    *("http", "https", "mailto", "trust+http", "trust+https", "websocket"),
    *("queue", "topic"),
)
"""Schemes of subscribers that no package can claim."""


@frozen
class Notifying:
    """What a process needs to tell subscribers.

    :ivar outbox: the message store with the outbox in front of it.
    """

    outbox: Outbox
    dispatcher: Dispatcher
    deliveries: Deliveries
    audience: Audience
    subscribers: Subscribers
    _channels: dict[str, Channel]

    def add(self, channel: Channel) -> None:
        """Deliver by one more channel, which could not be made before."""
        self._channels.update(dict.fromkeys(channel.schemes, channel))


def make_notifying(
    settings: Settings,
    backends: Backends,
    store: IMessageStore,
    reactor: Any,
    clock: IReactorTime,
) -> Notifying:
    """Everything that tells subscribers; nothing runs yet.

    :param store: behind which there are no message filters.
    :raise ConfigError: an option cannot be used.
    """
    # treq and the agents of twisted.web import the reactor.
    from mqsvc.notification.connecting import Connections  # noqa: PLC0415
    from mqsvc.notification.subscribers import ChannelSubscribers  # noqa: PLC0415

    now = milliseconds(clock)
    resolver = _resolver(settings, reactor, clock)
    connections = Connections(reactor, resolver, _tls_policy())
    trusts = make_trusts(settings, reactor, clock)
    channels = {
        **_channels(
            *(settings.notification, connections, resolver, trusts, reactor, clock)
        ),
        **_installed_channels(settings, reactor),
    }
    audience = Audience(backends.management, now, backends.records.bus)
    attempts = _history(settings, store, now)
    deliverer = Deliverer(
        *(backends.management, store, backends.records, channels),
        *(Breaker(clock), Lanes(clock), attempts),
        *(audience, now),
    )
    dispatcher = Dispatcher(
        *(backends.management, store, deliverer, attempts),
        _pools(backends),
        clock,
        settings.notification.require_confirmation,
        connections.close,
    )
    outbox = Outbox(store, audience, backends.records.pool_of, dispatcher.wake)
    deliveries = Deliveries(
        *(backends.management, store, backends.records, now, dispatcher.wake)
    )
    confirmations, questions = _confirmations(settings), None
    if confirmations is not None:
        questions = Questions(
            *(confirmations, store, backends.records, now),
            *(SystemRandom().getrandbits, dispatcher.wake),
        )
    subscribers = ChannelSubscribers(channels, trusts, questions)
    return Notifying(outbox, dispatcher, deliveries, audience, subscribers, channels)


def _confirmations(settings: Settings) -> Confirmations | None:
    """What asks subscribers; none where they are not asked."""
    options, secret = settings.notification, settings.signed_url.secret_key
    _check_urls(options)
    subscribe = _template(options, "subscription", SUBSCRIBE)
    unsubscribe = _template(options, "unsubscribe", UNSUBSCRIBE)
    if not options.require_confirmation:
        return None
    if secret is None:
        log.error(
            "Subscribers are not asked to confirm, and so are never told: set "
            "signed_url.secret_key, which signs the questions"
        )
        return None
    if not (options.public_url or options.external_confirmation_url):
        log.warn("{reason}", reason=NoPage())
    confirmation = ConfirmationSettings(
        default_ttl=settings.transport.default_subscription_ttl,
        public_url=options.public_url,
        external_url=options.external_confirmation_url,
        rest_url=options.public_url,
        websocket_url=options.public_websocket_url,
        subscribe=subscribe,
        unsubscribe=unsubscribe,
    )
    return Confirmations(secret, confirmation)


def _check_urls(options: Notification) -> None:
    """Accept the addresses that are sent to subscribers.

    :raise ConfigError: one could not be followed.
    """
    for name, schemes in _URLS.items():
        url = getattr(options, name)
        if url and not url.lower().startswith(schemes):
            raise ConfigError(
                f"notification.{name}: expected a URL with {' or '.join(schemes)}, "
                f"not {url!r}"
            )


def _template(options: Notification, kind: str, built_in: MailTemplate) -> MailTemplate:
    """A mail that asks, as the settings want it.

    :raise ConfigError: it cannot be written.
    """
    name = f"{kind}_confirmation_email_template"
    given: MailText = getattr(options, name)
    template = MailTemplate(
        topic=given.topic or built_in.topic,
        body=given.body or built_in.body,
        sender=given.sender or options.sender,
    )
    try:
        template.check()
    except ValueError as error:
        raise ConfigError(f"notification.{name}: {error}") from None
    return template


def _history(settings: Settings, store: IMessageStore, now: Now) -> History:
    return History(store, now, settings.notification.history_time)


def _resolver(settings: Settings, reactor: Any, clock: IReactorTime) -> Any:
    from mqsvc.notification.resolving import TargetResolver  # noqa: PLC0415

    try:
        allowed = parse_networks(settings.notification.allowed_networks)
    except ValueError as error:
        raise ConfigError(f"notification.allowed_networks: {error}") from error
    guard = TargetGuard(allowed, _has_local_clients_only(settings))
    names = NameLookup(reactor, socket.getaddrinfo)
    return TargetResolver(guard, names, clock)


def _has_local_clients_only(settings: Settings) -> bool:
    """Whether all who can call the service can call its machine, too.

    Addresses for clients tell of others: they come through a proxy on the machine.
    """
    endpoints = filter(None, (settings.http, settings.websocket_endpoint))
    options = settings.notification
    is_published = options.public_url or options.public_websocket_url
    return not is_published and all(map(is_on_this_machine, endpoints))


def _tls_policy() -> Any:
    from twisted.web.client import (  # noqa: PLC0415
        BrowserLikePolicyForHTTPS,
        HostnameCachingHTTPSPolicy,
    )

    return HostnameCachingHTTPSPolicy(BrowserLikePolicyForHTTPS())


def _channels(
    options: Notification,
    connections: Any,
    resolver: Any,
    trusts: Any,
    reactor: Any,
    clock: IReactorTime,
) -> dict[str, Channel]:
    from mqsvc.notification.webhook import Webhook  # noqa: PLC0415

    webhook = Webhook(connections, resolver, clock)
    mail = MailChannel(_carrier(options, reactor), options.sender, clock)
    channels: list[Channel] = [webhook, mail]
    if trusts is not None:
        from mqsvc.notification.trust import TrustWebhook  # noqa: PLC0415

        channels.append(TrustWebhook(webhook, trusts))
    return {scheme: channel for channel in channels for scheme in channel.schemes}


def _installed_channels(settings: Settings, reactor: Any) -> dict[str, Channel]:
    """The channels of packages, for schemes that subscribers may have."""
    refuse_taken(NOTIFIERS, BUILT_IN)
    allowed = settings.transport.subscriber_types
    schemes = [scheme for scheme in names(NOTIFIERS) if scheme in allowed]
    return {scheme: load(NOTIFIERS, scheme)(reactor) for scheme in schemes}


def _carrier(options: Notification, reactor: Any) -> Carrier:
    if options.smtp_mode == "third_part":
        try:
            return SendmailCommand.parse(reactor, options.smtp_command, os.environ)
        except ValueError as error:
            raise ConfigError(f"notification.smtp_command: {error}") from error
    return SMTPServer(
        reactor,
        options.smtp_host,
        options.smtp_port,
        options.smtp_security,
        options.smtp_user_name,
        options.smtp_user_password,
    )


def _pools(backends: Backends) -> Any:
    async def pools() -> Sequence[str | None]:
        if not backends.has_pools:
            return [None]
        return [None, *await _pool_names(backends.management)]

    return pools


async def _pool_names(management: IManagementStore) -> list[str]:
    names: list[str] = []
    while True:
        after = names[-1] if names else ""
        pools = await management.pools(NAMES_PER_PAGE, after)
        names += [pool.name for pool in pools]
        if len(pools) < NAMES_PER_PAGE:
            return names
