"""No input is answered by a failure of ours, and none ends the connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.rest.documents import ODD_VALUES, bodies
from tests.websocket.client import CLIENT_ID, Client
from tests.websocket.server import WebSocketTestCase

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": "p1", "X-Roles": "admin"}

GOOD = {
    **dict.fromkeys(("queue_name", "pool_name", "flavor_name"), "q"),
    **dict.fromkeys(("message_id", "claim_id", "subscription_id"), "0" * 24),
    "messages": [{"body": 1}],
    "message_ids": ["0" * 24],
    "pop": 1,
    "metadata": {},
    "confirmed": True,
    "topic_name": "t",
}
"""A value for each key that some action requires."""


class OddBodyTests(WebSocketTestCase):
    """Every action, with every odd value in every place."""

    timeout = 240

    def requests(self) -> Iterator[bytes]:
        """Requests that have one odd place each."""
        for name, action in self.factory.service.actions.items():
            schema = action.schema
            kind = schema.kinds[:1]
            good = {key: GOOD[key] for key in (*kind, *schema.required)}
            for key in (*kind, *schema.required, *schema.optional):
                for value in ODD_VALUES:
                    yield self.encoded(name, {**good, key: value})
            for value in ODD_VALUES:
                yield self.encoded(name, value)

    def encoded(self, action: str, body: Any) -> bytes:
        """A request, also where it is no JSON."""
        # A long wait is no failure, and none that a test has time for.
        if isinstance(body, dict) and body.get("wait") == 1:
            body = {**body, "wait": 0}
        document = {"action": action, "headers": HEADERS, "body": body}
        return json.dumps(document).encode()

    async def test_odd_values(self) -> None:
        """Each is answered, by success or as a mistake of the client."""
        client, failed, count = await self.connect(), [], 0
        for payload in self.requests():
            client.sendMessage(payload)
            reply = await self.reply(client)
            count += 1
            if reply["headers"]["status"] >= 500:
                failed.append((payload, reply["body"]))
        self.assertEqual([], failed)
        self.assertGreater(count, 3000)

    async def reply(self, client: Client) -> Any:
        """The next reply, behind notifications."""
        while True:
            frame = await client.received()
            if "request" in frame:
                return frame


class AnyFrameTests(WebSocketTestCase):
    """Whole frames that were spoilt anywhere."""

    timeout = 240

    async def test_frames(self) -> None:
        """Whatever a text or binary frame holds, it is answered."""
        client = await self.connect()
        body = {"queue_name": "q", "messages": [{"body": 1, "ttl": 60}]}
        good = {"action": "message_post", "headers": HEADERS, "body": body}
        spoilt = self.examples(bodies(good), 300)
        for payload in spoilt:
            for binary in (False, True):
                if not binary and not _is_utf8(payload):
                    continue
                client.sendMessage(payload, binary)
                reply = (await client.frame())[0]
                self.assertLess(reply["headers"]["status"], 500, payload)
        self.expect(await client.call("queue_list"), 200)

    def examples(self, strategy: st.SearchStrategy[bytes], number: int) -> list[bytes]:
        """Some of what a strategy makes, the same ones each time."""
        made: list[bytes] = []

        @settings(
            max_examples=number,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def collect(example: bytes) -> None:
            made.append(example)

        collect()
        return made


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
