"""Clients that make, change and delete queues, and know what each must be.

A request without an answer leaves two possibilities, which later answers narrow down.
"""

from __future__ import annotations

import threading
from http.client import HTTPException
from itertools import count
from typing import Any

from tests.integration.traffic import Client, Connection, UnansweredError

JSON_PATCH = "application/openstack-messaging-v2.0-json-patch"

Number = int | None
"""What the metadata of a queue says; none where there is no such queue."""


class Owner(Client):
    """Works on a few queues of its own, and subscribes to one more.

    :ivar complaints: what an answer showed to be lost.
    :ivar done: how many requests were answered.
    """

    def __init__(
        self, name: str, port: int, stop: threading.Event, seed: float = 0
    ) -> None:
        super().__init__(name, port, stop, seed)
        self.complaints: list[str] = []
        self.done = 0
        self._numbers = count(1)
        self._possible: dict[str, set[Number]] = {
            f"/v2/queues/{name}-{n}": {None} for n in range(4)
        }
        self._subscribed: dict[str, bool] = {}

    def step(self) -> None:
        """Do one thing to one queue."""
        path = self._random.choice(list(self._possible))
        self._random.choice(
            (self._create, self._create, self._change, self._delete, self._subscribe)
        )(path)
        self.done += 1

    def _create(self, path: str) -> None:
        number, possible = next(self._numbers), self._possible[path]
        try:
            status = self._ask("PUT", path, {"number": number})
        except UnansweredError:
            if None in possible:
                possible.add(number)
            raise
        if status == 201:
            self._saw(path, {None} & possible, "is new")
            self._possible[path] = {number}
        else:
            self._saw(path, possible - {None}, "exists")

    def _change(self, path: str) -> None:
        number, possible = next(self._numbers), self._possible[path]
        patch = [{"op": "replace", "path": "/metadata/number", "value": number}]
        try:
            status = self._ask("PATCH", path, patch, Content_Type=JSON_PATCH)
        except UnansweredError:
            if possible != {None}:
                possible.add(number)
            raise
        if status == 404:
            self._saw(path, {None} & possible, "is gone")
        else:
            self._saw(path, possible - {None}, "could be changed")
            self._possible[path] = {number}

    def _delete(self, path: str) -> None:
        try:
            self._ask("DELETE", path)
        except UnansweredError:
            self._possible[path].add(None)
            raise
        self._possible[path] = {None}

    def _subscribe(self, _: str) -> None:
        subscriber = f"http://example.org/{next(self._numbers)}"
        self._subscribed[subscriber] = False
        self._ask(
            "POST",
            f"/v2/queues/{self.name}/subscriptions",
            {"subscriber": subscriber, "ttl": 3600, "options": {}},
        )
        self._subscribed[subscriber] = True

    def _saw(self, path: str, possible: set[Number], what: str) -> None:
        if not possible:
            self.complaints.append(f"{path} {what}; could be {self._possible[path]}")
        else:
            self._possible[path] = possible

    def _ask(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        try:
            status, text = self._connection.answer(method, path, body, **headers)
        except (OSError, HTTPException) as error:
            raise UnansweredError(method, path) from error
        if status == 503:
            raise UnansweredError(method, path)
        if status not in (200, 201, 204) and (method, status) != ("PATCH", 404):
            raise AssertionError(f"{method} {path}: {status} {text!r}")
        return status

    def audit(self, port: int) -> list[str]:
        """Everything that is wrong at the end, a sentence each."""
        connection = Connection(port)
        queues = connection.ask("GET", "/v2/queues?limit=20&detailed=true")["queues"]
        there = {each["href"]: each["metadata"].get("number") for each in queues}
        subscribers = self._subscribers(connection)
        connection.close()
        return [
            *self.complaints,
            *(
                f"{path} is {there.get(path)}, could be {possible}"
                for path, possible in self._possible.items()
                if there.get(path) not in possible
            ),
            *(
                f"the subscription of {each} is lost"
                for each, answered in self._subscribed.items()
                if answered and each not in subscribers
            ),
        ]

    def _subscribers(self, connection: Connection) -> set[str]:
        found: set[str] = set()
        path = f"/v2/queues/{self.name}/subscriptions?limit=20"
        while True:
            page = connection.ask("GET", path)
            if not page["subscriptions"]:
                return found
            found |= {each["subscriber"] for each in page["subscriptions"]}
            path = page["links"][0]["href"]
