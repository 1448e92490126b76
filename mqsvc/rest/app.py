"""The HTTP API as a Klein app.

Klein has the table of routes: methods, errors and bodies are handled by
:mod:`~mqsvc.rest.route`, since the contract orders the checks in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest

from mqsvc.access.guard import Guard
from mqsvc.clock import milliseconds
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import NAMEABLE
from mqsvc.messaging.operations import Operations
from mqsvc.notification.deliveries import Deliveries
from mqsvc.rest.claims import ClaimResource
from mqsvc.rest.confirming import confirmation_page
from mqsvc.rest.cors import CORS
from mqsvc.rest.flavors import FlavorResource
from mqsvc.rest.front import Front
from mqsvc.rest.home import HomeResource
from mqsvc.rest.messages import MessageResource
from mqsvc.rest.node import NodeResource
from mqsvc.rest.pools import PoolResource
from mqsvc.rest.probes import ProbeResource
from mqsvc.rest.queues import QueueResource
from mqsvc.rest.route import Entrance, Route, Serve
from mqsvc.rest.shapes import Shapes
from mqsvc.rest.subscriptions import SubscriptionResource
from mqsvc.rest.upgrade import UpgradeResource

LEAST_KEPT = 1024 * 1024
"""Bytes of a body that are kept for operations which set no bound themselves."""


@frozen
class API:
    """The HTTP API as a server needs it.

    :ivar front: answers every request.
    :ivar largest_body: bytes of a body that any operation can take.
    :ivar finish: lets go who waits, when the service is about to stop.
    """

    front: Front
    largest_body: int
    finish: Callable[[], None]


def make_api(
    operations: Operations,
    guard: Guard,
    limits: Limits,
    clock: IReactorTime,
    cors: CORS,
    *,
    deliveries: Deliveries | None = None,
    has_confirmation_page: bool = True,
    admin_mode: bool = False,
    pooling: bool = False,
    enable_checksum: bool = False,
    has_websocket: bool = False,
) -> API:
    """The HTTP API over these operations.

    :param guard: stands before the operations.
    :param cors: which pages of other sites may call.
    :param deliveries: what came of notifications; none where nobody is told.
    :param has_confirmation_page: whether subscribers can answer questions on a page.
    :param admin_mode: whether there are resources for administrators.
    :param pooling: whether pools and flavors are among them.
    :param has_websocket: whether clients can go over to WebSocket on this port.
    """
    now, signed_urls = milliseconds(clock), guard.gate.signed_urls
    shapes = Shapes(now, enable_checksum)
    routes = [
        *HomeResource(admin_mode, pooling).routes(),
        *NodeResource(operations.health, admin_mode).routes(),
        *ProbeResource(operations.health, operations.waiting).routes(),
        *ClaimResource(operations.claims, shapes).routes(),
    ]
    if has_websocket:
        routes += UpgradeResource().routes()
    if admin_mode and pooling:
        routes += _administration(operations)
    for kind in NAMEABLE:
        queues = QueueResource(operations.queues, signed_urls, shapes, now, kind)
        routes += queues.routes()
        routes += MessageResource(operations.messages, shapes, limits).routes(kind)
        routes += SubscriptionResource(
            operations.subscriptions, deliveries, shapes
        ).routes(kind)
    entrance = Entrance(guard)
    app = _make_app(routes, entrance)
    largest = max(limits.max_messages_post_size, limits.max_queue_metadata, LEAST_KEPT)

    def finish() -> None:
        guard.turns.finish()
        operations.waiting.finish()

    page = confirmation_page(operations.subscriptions, guard)
    front = Front(app, entrance, cors, page if has_confirmation_page else None)
    return API(front, largest, finish)


def _administration(operations: Operations) -> list[Route]:
    administration = operations.administration
    if administration is None:
        raise ValueError("with pooling, the operations must be over a pooled store")
    return [
        *PoolResource(administration.pools).routes(),
        *FlavorResource(administration.flavors).routes(),
    ]


def _make_app(routes: Sequence[Route], entrance: Entrance) -> Klein:
    app = Klein()
    # A doubled slash is an unknown path, not a reason to redirect.
    app.url_map.merge_slashes = False
    for route in routes:
        _add(app, entrance, route)

    return app


def _add(app: Klein, entrance: Entrance, route: Route) -> None:
    # Klein's types know only what it could render itself, which is left to others.
    def give(_: IRequest) -> Any:
        return serve

    serve: Serve = partial(entrance.serve, route)
    app.route(route.path, endpoint=route.path)(give)
    collection, _, last = route.path.rpartition("/")
    if last == "<destination>":
        unnamed = f"{collection}/"
        app.route(unnamed, defaults={"destination": ""}, endpoint=unnamed)(give)
