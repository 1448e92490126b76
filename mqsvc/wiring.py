"""From settings to the parts of a process: its stores, and its gate for callers."""

from __future__ import annotations

from random import SystemRandom
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool

from mqsvc.access.authentication import Authenticator, TokenFileError, read_tokens
from mqsvc.access.gate import Gate
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.policy_rules import PolicyError
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.config import ConfigError, Settings
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.quotas import Quotas
from mqsvc.messaging.records import Records
from mqsvc.secret_options import KeystoneAuthtoken
from mqsvc.storage.interfaces import (
    IManagementStore,
    IMessageStore,
    IPooledMessageStore,
)
from mqsvc.storage.open import open_pool, open_stores

if TYPE_CHECKING:
    from mqsvc.notification.trust import Trusts


@frozen
class Backends:
    """The opened stores of a process, not yet started.

    :ivar messages: below all stages, so that bodies are as they are stored.
    :ivar records: those of the management store; without a placement if there are no
        pools.
    :ivar pooled: the message store, if there are pools.
    """

    management: IManagementStore
    messages: IMessageStore
    records: Records
    pooled: IPooledMessageStore | None = None

    @property
    def has_pools(self) -> bool:
        """Whether there may be pools beside the default one."""
        return self.records.placement is not None


def open_backends(
    settings: Settings,
    directory: str,
    reactor: Any,
    clock: IReactorTime,
    bus: Bus,
    shared: bool = False,
) -> Backends:
    """Open the stores that the settings name, blocking.

    :param directory: where embedded stores have their files.
    :param bus: tells what other processes change.
    :param shared: whether other processes of this server have the same files open.
    :raise StoreOpenError: a store cannot be opened.
    """
    uris = (settings.drivers.management_store, settings.drivers.message_store)
    stores = open_stores(*uris, directory, reactor, shared)
    management, limits = stores.management, settings.transport
    quotas = Quotas(settings.quotas, management, clock)
    if not settings.pooling:
        records = Records(management, limits, quotas, bus=bus)
        return Backends(management, stores.messages, records)
    from mqsvc.storage.pools import PooledMessages  # noqa: PLC0415

    random_below = SystemRandom().randrange
    placement = Placement(management, random_below, settings.enable_virtual_pool)
    records = Records(management, limits, quotas, placement, bus)
    pooled = PooledMessages(
        stores.messages,
        management,
        records.pool_of,
        lambda uri, options: open_pool(uri, options, reactor, shared),
        clock,
        bus,
    )
    return Backends(management, pooled, records, pooled)


@frozen
class Gated:
    """The gate of a process, and what has to run for it."""

    gate: Gate
    services: tuple[IService, ...]


def make_gate(settings: Settings, reactor: Any, clock: IReactorTime) -> Gated:
    """The checks of callers as the settings want them.

    :raise ConfigError: a file that they name cannot be used.
    """
    services: tuple[IService, ...] = ()
    try:
        policy = Policy(make_rules({}))
        if settings.policy_file:
            services = (_policy_file(settings.policy_file, policy, reactor, clock),)
        gate = Gate(
            authenticator=_authenticator(settings, reactor, clock),
            policy=policy,
            signed_urls=SignedUrls(settings.signed_url.secret_key),
            limits=settings.transport,
            now=milliseconds(clock),
        )
    except PolicyError as error:
        raise ConfigError(f"policy_file: {error}") from error
    except TokenFileError as error:
        raise ConfigError(f"token_file: {error}") from error
    return Gated(gate, services)


def _policy_file(
    path: str, policy: Policy, reactor: Any, clock: IReactorTime
) -> IService:
    # Only who has a file needs what reads YAML.
    from mqsvc.access.policy_file import PolicyFile, read_rules  # noqa: PLC0415

    def in_thread(function: Any, *args: Any) -> Any:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

    policy.replace(read_rules(path))
    return PolicyFile(path, policy, clock, in_thread)


def _authenticator(
    settings: Settings, reactor: Any, clock: IReactorTime
) -> Authenticator | None:
    match settings.auth_strategy:
        case "token_file":
            return read_tokens(settings.token_file)
        case "keystone":
            return _keystone(settings.keystone_authtoken, reactor, clock)
    return None


def _keystone(
    options: KeystoneAuthtoken, reactor: Any, clock: IReactorTime
) -> Authenticator:
    # treq imports the reactor.
    from treq.client import HTTPClient  # noqa: PLC0415
    from twisted.web.client import Agent  # noqa: PLC0415

    from mqsvc.access.keystone import Keystone, ServiceUser  # noqa: PLC0415
    from mqsvc.access.quiet_pool import QuietPool  # noqa: PLC0415

    if options.application_credential_id:
        user = ServiceUser.by_credential(
            options.application_credential_id, options.application_credential_secret
        )
    else:
        user = ServiceUser.by_password(
            options.username,
            options.password,
            options.user_domain_name,
            options.project_name,
            options.project_domain_name,
        )
    pool = QuietPool(reactor)
    pool.maxPersistentPerHost = options.max_connections
    return Keystone(
        url=options.auth_url,
        public_url=options.www_authenticate_uri or options.auth_url,
        user=user,
        client=HTTPClient(Agent(reactor, connectTimeout=options.timeout, pool=pool)),
        clock=clock,
        cache_seconds=options.token_cache_time,
        timeout=options.timeout,
        most_questions=options.max_connections,
    )


def make_trusts(settings: Settings, reactor: Any, clock: IReactorTime) -> Trusts | None:
    """What makes trusts; none where users cannot trust the service.

    A trust takes a user with a password: an application credential is bound to its own
    project.
    """
    own, chosen = settings.keystone_authtoken, settings.trustee
    name = chosen.username or own.username
    if settings.auth_strategy != "keystone" or not name:
        return None
    # treq imports the reactor.
    from treq.client import HTTPClient  # noqa: PLC0415
    from twisted.web.client import Agent  # noqa: PLC0415

    from mqsvc.access.keystone import ServiceUser  # noqa: PLC0415
    from mqsvc.access.quiet_pool import QuietPool  # noqa: PLC0415
    from mqsvc.notification.trust import Trusts  # noqa: PLC0415

    pool = QuietPool(reactor, persistent=False)
    return Trusts(
        chosen.auth_url or own.auth_url,
        ServiceUser.by_password(
            name,
            chosen.password or own.password,
            chosen.user_domain_name or own.user_domain_name,
            *(own.project_name, own.project_domain_name),
        ),
        HTTPClient(Agent(reactor, connectTimeout=own.timeout, pool=pool)),
        *(clock, own.timeout, own.max_connections),
    )
