"""The API on the service's own HTTP server (docs/wire.rst)."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ServerFactory

from mqsvc.rest.answer import new_request_id
from mqsvc.rest.app import API
from mqsvc.rest.upgrade import WEBSOCKET, WEBSOCKET_PATH
from mqsvc.wire import codec
from mqsvc.wire.http import HTTPFactory
from mqsvc.wire.http_limits import HTTPLimits, Refusal
from mqsvc.wire.http_request import LeanRequest
from mqsvc.wire.http_upgrade import Upgrades


class APIServer(HTTPFactory):
    """Serves the API; when the last port is closed, its waiting requests end."""

    def __init__(self, api: API, clock: IReactorTime, upgrades: Upgrades) -> None:
        limits = HTTPLimits(body_kept=api.largest_body)
        super().__init__(api.front, limits, clock, _described, upgrades)
        self._finish_waiting = api.finish

    def stopFactory(self) -> None:
        """The last port was closed."""
        super().stopFactory()
        self._finish_waiting()

    def is_worth_answering(self, request: LeanRequest) -> bool:
        """Not what may wait for long: its client is more likely gone than patient."""
        return b"wait=" not in request.uri

    def refusal(self, refusal: Refusal) -> bytes:
        """An answer of this API has an id even where there was no request."""
        head, _, rest = super().refusal(refusal).partition(b"\r\n")
        return b"%b\r\nx-openstack-request-id: %b\r\n%b" % (
            head,
            new_request_id().encode(),
            rest,
        )


def upgrades_to(websocket: ServerFactory[Any]) -> Upgrades:
    """Where clients can go over to WebSocket."""
    return {(WEBSOCKET_PATH.encode(), WEBSOCKET.encode()): websocket}


def _described(status: int, title: str, description: str) -> bytes:
    return codec.encode({"title": title, "description": description})
