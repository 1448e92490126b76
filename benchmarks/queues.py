"""A queue of a run: made, filled and removed over a plain blocking connection."""

from __future__ import annotations

import json
import random
import uuid
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from benchmarks.connections import Refused, http_request

PROJECT = "benchmark"
FILLING_BATCH = 100
LONGEST_CLAIM = 43200
MESSAGE_TTL = 86400


class Queue:
    """A queue of its own name, and the requests under it.

    :param url: of the HTTP API.
    :param claim_limit: how many messages the server gives to one claim.
    """

    def __init__(self, url: str, claim_limit: int = 20) -> None:
        parts = urlsplit(url)
        self.url = url
        self.name = f"load-{random.randrange(10**9)}"
        self.producer = str(uuid.uuid4())
        self.consumer = str(uuid.uuid4())
        self._claim_limit = claim_limit
        self._http = HTTPConnection(parts.hostname or "", parts.port, timeout=300)
        self._path = f"{parts.path.rstrip('/')}/v2/queues/{self.name}"

    def request(self, client: str, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request under the queue."""
        path = f"/v2/queues/{self.name}{path}"
        return http_request(self.url, method, path, headers(client), body)

    def post(self, number: int, size: int) -> bytes:
        """The bytes of a post of messages with a body of so many bytes."""
        return self.request(self.producer, "POST", "/messages", messages(number, size))

    def create(self) -> None:
        """Make it."""
        self._ask("PUT", "")

    def remove(self) -> None:
        """Delete it with all that is in it."""
        self._ask("DELETE", "")

    def depth(self) -> int:
        """How many messages it holds."""
        return int(self._ask("GET", "/stats")["messages"]["total"])

    def fill(self, depth: int, size: int) -> None:
        """Post until it holds so many messages."""
        for done in range(self.depth(), depth, FILLING_BATCH):
            number = min(FILLING_BATCH, depth - done)
            self._ask("POST", "/messages", messages(number, size))

    def claim(self, number: int) -> None:
        """Put so many messages under claims that outlast the run."""
        done = 0
        while done < number:
            limit = min(self._claim_limit, number - done)
            body = {"ttl": LONGEST_CLAIM, "grace": 60}
            answer = self._ask("POST", f"/claims?limit={limit}", body)
            if not answer:
                raise Refused("A claim gave nothing though messages are waiting.")
            done += len(answer["messages"])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body)
        self._http.request(
            method,
            self._path + path,
            content,
            {**headers(self.producer), "Content-Type": "application/json"},
        )
        answer = self._http.getresponse()
        text = answer.read()
        # A server closes a connection that was idle for as long as a run may take.
        self._http.close()
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None


def headers(client: str) -> dict[str, str]:
    """What every request names."""
    return {"Client-ID": client, "X-Project-ID": PROJECT}


def messages(number: int, size: int) -> dict[str, Any]:
    """The body of a post."""
    return {"messages": [{"ttl": MESSAGE_TTL, "body": "x" * size}] * number}
