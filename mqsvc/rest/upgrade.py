"""``/v2/ws``, where clients go over to WebSocket, for requests that do not."""

from __future__ import annotations

from attrs import frozen

from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Entry, Route

WEBSOCKET_PATH = "/v2/ws"
WEBSOCKET = "websocket"
"""What a client has to ask for there."""

_DESCRIPTION = (
    "Open a WebSocket here: a GET of HTTP/1.1 without a body, with the headers "
    "Connection: Upgrade and Upgrade: websocket, which a proxy has to pass on."
)


@frozen
class UpgradeResource:
    """Tells those who ask for nothing else than HTTP what to ask for."""

    def routes(self) -> list[Route]:
        """The table of paths."""
        return [Route(WEBSOCKET_PATH, {"GET": Entry("", self.refuse)}, is_open=True)]

    async def refuse(self, _: Call) -> Answer:
        """Nothing is to be had here by HTTP."""
        body = {"title": "Upgrade required", "description": _DESCRIPTION}
        return Answer(426, body, {"connection": "upgrade", "upgrade": WEBSOCKET})
