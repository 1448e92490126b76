"""What ``twistd mqsvc`` runs: its options, and the wiring of the whole service."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from attrs import frozen
from msgspec import structs
from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python import usage

from mqsvc import __version__
from mqsvc.access.audit import AuditLog
from mqsvc.access.guard import Guard
from mqsvc.access.turns import Turns
from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.config import ConfigError, Settings, load
from mqsvc.links.opening import make_bus
from mqsvc.messaging.lease import Lease
from mqsvc.messaging.operations import Operations
from mqsvc.notification.forwarding import Forwarding
from mqsvc.notifying import Notifying, make_notifying
from mqsvc.service import Listener, Root
from mqsvc.storage.encryption import Encryption
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.open import StoreOpenError
from mqsvc.storage.plugins import with_stages
from mqsvc.storage.sealing import Keys, parse_keys
from mqsvc.storage.sweeper import Sweeper
from mqsvc.websocket.late import LateFactory
from mqsvc.wiring import Backends, make_gate, open_backends
from mqsvc.workers.means import Means

if TYPE_CHECKING:
    from mqsvc.websocket.factory import WebSocketFactory

COLLECTIONS = (10_000, 10, 1000)
"""When garbage is collected: rarely, for requests leave next to none."""

EXAMPLES = """
Examples:

  twistd -n mqsvc --data-dir /var/lib/mqsvc
      serves HTTP on 127.0.0.1:8888, in the foreground
  twistd -n mqsvc --config /etc/mqsvc.toml --set transport.max_message_ttl=86400
      takes its options from a file, except one

docs/configuration.rst describes every option.
"""

log = Logger()


class Options(usage.Options):
    """The command line; :attr:`settings` is what it and the other sources say."""

    synopsis = "[options]"
    longdesc = (
        "mqsvc is a multi-tenant messaging service: queues and topics over HTTP. "
        "Options come from a TOML file, then from variables MQSVC_OPTION and "
        "MQSVC_GROUP__OPTION, then from this command line; later ones win."
    )
    optParameters = (
        ["config", "c", None, "Read options from this TOML file [MQSVC_CONFIG]."],
    )

    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._overrides: list[str] = []

    def opt_data_dir(self, directory: str) -> None:
        """Keep the data in this directory; made when it is missing."""
        self._overrides.append(f"--data-dir={directory}")

    def opt_http(self, endpoint: str) -> None:
        """Serve HTTP at this endpoint, e.g. tcp:8888:interface=127.0.0.1"""
        self._overrides.append(f"--http={endpoint}")

    def opt_websocket(self, endpoint: str) -> None:
        """A port for the WebSocket API alone; by default 9000 here, if it is free."""
        self._overrides.append(f"--websocket={endpoint}")

    def opt_workers(self, number: str) -> None:
        """How many processes serve; above 1 this one only looks after them."""
        self._overrides.append(f"--workers={number}")

    def opt_set(self, override: str) -> None:
        """Set any option: OPTION=VALUE or GROUP.OPTION=VALUE; may be repeated."""
        self._overrides.append(override)

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"mqsvc {__version__}\n")
        raise SystemExit(0)

    def parseArgs(self, *words: str) -> None:
        """Take no words beside the options."""
        if words:
            # They are not repeated: one may be a secret put in the wrong place.
            raise usage.UsageError(
                "there is a word that belongs to no option; a value follows its "
                "option, as in --http ENDPOINT"
            )

    def postOptions(self) -> None:
        """Read the configuration."""
        path = self["config"] or os.environ.get("MQSVC_CONFIG") or None
        try:
            self.settings = load(path, os.environ, self._overrides)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from error

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse a command line; what is wrong ends the process with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"mqsvc: {error}") from error

    def getUsage(self, width: int | None = None) -> str:
        """The help text; examples are kept as they are written."""
        return super().getUsage(width) + EXAMPLES


def makeService(options: Options) -> IService:
    """The service that twistd runs."""
    # By now twistd has installed the reactor that its user chose.
    from twisted.internet import reactor  # noqa: PLC0415

    try:
        if options.settings.workers > 1:
            # The workers, which import this module, need none.
            from mqsvc.workers.supervisor import make_supervisor  # noqa: PLC0415

            return make_supervisor(options.settings, reactor)
        root = make_root(options.settings, reactor)
    except (ConfigError, StoreOpenError) as error:
        raise SystemExit(f"mqsvc: {error}") from error
    settle_after_start(root, reactor)
    return root


def settle_after_start(root: Root, reactor: IReactorTime) -> None:
    """Do what is best done when all that was made for the start is there."""
    root.started.addCallback(lambda _: reactor.callLater(1, _settle))


def _settle() -> None:
    """Spare what was made for the start from being looked through again and again.

    A full garbage collection would stop everything for a tenth of a second, and what
    requests leave behind is found by the small ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)


def make_root(
    settings: Settings,
    reactor: Any,
    clock: IReactorTime | None = None,
    means: Means | None = None,
) -> Root:
    """Wire one process, from the stores up to the listener; nothing runs yet.

    :param clock: the time of the service, by default the reactor's.
    :param means: what a worker was given, by default nothing.
    :raise ConfigError: an option cannot be used on this machine.
    :raise StoreOpenError: a store cannot be opened.
    """
    # Klein installs the default reactor when it is imported.
    from mqsvc.rest.app import make_api  # noqa: PLC0415
    from mqsvc.rest.cors import CORS  # noqa: PLC0415
    from mqsvc.rest.server import APIServer, upgrades_to  # noqa: PLC0415
    from mqsvc.rest.site import CountingSite  # noqa: PLC0415

    clock = reactor if clock is None else clock
    keys = parse_keys(settings.encryption.keys)
    # twistd may change its directory between here and the start.
    means = Means(settings.data_dir) if means is None else means
    is_ours = settings.http_server == "llhttp"
    endpoint = means.endpoint(reactor, "http", settings.http)
    gated = make_gate(settings, reactor, clock)
    connected = make_bus(settings, means.place, reactor)
    opened = _open_in(means, settings, keys, reactor, clock, connected.bus)
    backends, messages, notifying = opened.backends, opened.messages, opened.notifying
    audit = AuditLog(settings.audit_log, milliseconds(clock))
    guard = Guard(gated.gate, Turns(reactor), backends.records.quotas, audit)
    operations = Operations.over(
        *(backends.management, messages, backends.records, settings.transport, clock),
        pooled=backends.pooled,
        can_encrypt=keys.can_seal,
        audience=notifying.audience,
        subscribers=notifying.subscribers,
    )
    notifying.add(Forwarding(operations.messages, clock, milliseconds(clock)))
    api = make_api(
        *(operations, guard, settings.transport, clock),
        CORS(**structs.asdict(settings.cors)),
        deliveries=notifying.deliveries,
        has_confirmation_page=not settings.notification.external_confirmation_url,
        admin_mode=settings.admin_mode,
        pooling=settings.pooling,
        enable_checksum=settings.enable_checksum,
        has_websocket=is_ours and settings.websocket_on_http,
    )
    lease = _lease(settings, backends, clock)
    websocket = _websocket(settings, operations, lease, guard, reactor, clock)
    upgrades = upgrades_to(websocket) if settings.websocket_on_http else {}
    server = APIServer(api, clock, upgrades) if is_ours else CountingSite(api)
    listeners = [
        Listener(
            *(settings.http, endpoint, server),
            lambda: server.requests_in_flight + websocket.in_flight(),
            clock,
            stays_here=_stays_here(settings),
        )
    ]
    if settings.websocket_endpoint:
        listeners.append(_own_port(settings, means, websocket, reactor, clock))
    both = (backends.management, messages)
    running = (*connected.services, Sweeper(both, clock), notifying.dispatcher)
    services = [*both, *running, *operations.services, lease, *gated.services]
    return Root(means.directory, services, listeners)


def _own_port(
    settings: Settings,
    means: Means,
    websocket: LateFactory,
    reactor: Any,
    clock: IReactorTime,
) -> Listener:
    """What takes connections for nothing but WebSocket."""
    description = settings.websocket_endpoint
    option = "websocket"
    endpoint = means.endpoint(reactor, option, description)
    return Listener(
        *(description, endpoint, websocket, websocket.in_flight, clock),
        stays_here=_stays_here(settings),
        is_needed=settings.needs_websocket_port,
        option=option,
    )


def _lease(settings: Settings, backends: Backends, clock: IReactorTime) -> Lease:
    """What tells others that the connections of this process are there."""
    seconds, random_bits = settings.websocket_limits.lease_time, SystemRandom()
    return Lease(backends.management, clock, seconds, random_bits.getrandbits)


def _stays_here(settings: Settings) -> bool:
    return not (settings.auth_strategy or settings.allow_anonymous)


def _websocket(
    settings: Settings,
    operations: Operations,
    lease: Lease,
    guard: Guard,
    reactor: Any,
    clock: IReactorTime,
) -> LateFactory:
    """What speaks the WebSocket API, on whatever port."""

    def make() -> WebSocketFactory:
        # autobahn imports the reactor.
        from mqsvc.rest.home import home_document  # noqa: PLC0415
        from mqsvc.websocket.factory import Parts, make_factory  # noqa: PLC0415

        has_administration = settings.admin_mode and settings.pooling
        parts = Parts(
            operations=operations,
            administration=operations.administration if has_administration else None,
            bus=operations.bus,
            lease=lease,
            guard=guard,
            limits=settings.transport,
            home=home_document(settings.admin_mode, settings.pooling),
            admin_mode=settings.admin_mode,
        )
        return make_factory(parts, settings.websocket_limits, clock, reactor)

    return LateFactory(make)


@frozen
class Opened:
    """What stands behind the operations.

    :ivar messages: the outermost stage; what is behind it starts and stops with it.
    """

    backends: Backends
    messages: IMessageStore
    notifying: Notifying


def _open_in(
    means: Means,
    settings: Settings,
    keys: Keys,
    reactor: Any,
    clock: IReactorTime,
    bus: Bus,
) -> Opened:
    # Opening migrates what is stored, which no other process may be using.
    means.directory.acquire()
    try:
        return _opened(means, settings, keys, reactor, clock, bus)
    except BaseException:
        means.directory.release()
        raise


def _opened(
    means: Means,
    settings: Settings,
    keys: Keys,
    reactor: Any,
    clock: IReactorTime,
    bus: Bus,
) -> Opened:
    """The stores, and in front of them encryption, outbox and message filters."""
    backends = open_backends(
        settings, means.directory.path, reactor, clock, bus, shared=means.is_shared
    )
    sealed = Encryption(backends.messages, keys)
    notifying = make_notifying(settings, backends, sealed, reactor, clock)
    pipeline, tables = settings.storage.message_pipeline, settings.stages.by_name
    for name in sorted(tables.keys() - set(pipeline)):
        log.warn(
            "[stages.{name}] is not used: storage.message_pipeline does not name it",
            name=name,
        )
    return Opened(backends, with_stages(notifying.outbox, pipeline, tables), notifying)
