"""What is measured over WebSocket."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from benchmarks.connections import Refused, WebSocketConnection, frame
from benchmarks.engine import ONE, Operation, Outcome, Role
from benchmarks.queues import Queue, headers, messages
from benchmarks.scenarios import BATCH, KILOBYTE, Make, Scenario, wrong

BOTH: Outcome = (2, None)


class PostAndList(Scenario):
    """A post of 1 KB, then a list of ten, on each connection."""

    def create(self) -> None:
        """Fill the queue with a page, and prepare the frames."""
        super().create()
        self.queue.fill(BATCH, KILOBYTE)
        queue = self.queue
        self._post = request(
            "message_post", queue.producer, queue.name, messages(1, KILOBYTE)
        )
        self._list = request(
            "message_list", queue.consumer, queue.name, {"limit": BATCH}
        )

    def roles(self, rate: float | None) -> list[Role]:
        """All do both."""
        url = self.target.websocket
        connections = (WebSocketConnection(url) for _ in range(self.target.connections))
        return [Role(connections, self.operation, rate)]

    def operation(self) -> Operation:
        """Two requests, one after the other."""
        answer = yield self._post
        if answer[0] != 201:
            wrong("post", answer)
        answer = yield self._list
        # The request is repeated in the answer, and it has no body of a message.
        if answer[0] != 200 or answer[1].count(b'"ttl"') != BATCH:
            wrong("list", answer)
        return BOTH


class Push(Scenario):
    """From a post until the message is pushed to the connection that posted it.

    Each connection has a queue of its own.
    """

    unit = "pushes"
    is_paced = False

    def create(self) -> None:
        """Make the queues."""
        number = self.target.connections
        self._queues = [Queue(self.target.url) for _ in range(number)]
        for queue in self._queues:
            queue.create()

    def remove(self) -> None:
        """Delete the queues."""
        for queue in self._queues:
            queue.remove()

    def roles(self, rate: float | None) -> list[Role]:
        """Each connection follows its own queue."""
        return [self._follower(queue) for queue in self._queues]

    def _follower(self, queue: Queue) -> Role:
        connection = WebSocketConnection(self.target.websocket)
        following = request(
            "subscription_create", queue.consumer, queue.name, {"ttl": 3600}
        )
        answer = connection.ask(following)
        if answer[0] != 201:
            raise Refused(f"subscribing: {answer[1][:300]!r}")
        post = request("message_post", queue.producer, queue.name, messages(1, 200))
        return Role([connection], partial(self._round, post))

    def _round(self, post: bytes) -> Operation:
        statuses = []
        answer = yield post
        statuses.append(answer[0])
        answer = yield b""
        statuses.append(answer[0])
        if sorted(statuses) != [0, 201]:
            wrong("post and push", answer)
        return ONE


def request(action: str, client: str, queue: str, body: dict[str, Any]) -> bytes:
    """The frame of a request."""
    envelope = {
        "action": action,
        "headers": headers(client),
        "body": {"queue_name": queue, **body},
    }
    return frame(json.dumps(envelope).encode())


WEBSOCKET_SCENARIOS: dict[str, Make] = {
    "websocket": PostAndList,
    "websocket-push": Push,
}
