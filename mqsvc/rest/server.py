"""The API on the service's own HTTP server (docs/wire.rst)."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from mqsvc.rest.answer import new_request_id
from mqsvc.rest.app import API
from mqsvc.wire import codec
from mqsvc.wire.http import HTTPFactory
from mqsvc.wire.http_limits import HTTPLimits, Refusal
from mqsvc.wire.http_request import LeanRequest


class APIServer(HTTPFactory):
    """Serves the API; when the last port is closed, its waiting requests end."""

    def __init__(self, api: API, clock: IReactorTime) -> None:
        limits = HTTPLimits(body_kept=api.largest_body)
        super().__init__(api.front, limits, clock, _described)
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


def _described(status: int, title: str, description: str) -> bytes:
    return codec.encode({"title": title, "description": description})
