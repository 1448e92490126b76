"""Exchanges recorded from the reference, replayed: status, keys and types.

``recorded.jsonl`` has one exchange a line: what was sent, and status and body of the
reply, none where the reference lost the connection, and ``unknown`` where the reply
was too long to be kept whole. Sentences are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.websocket.client import Client
from tests.websocket.server import WebSocketTestCase

RECORDED = Path(__file__).with_name("recorded.jsonl")

ADDED = {"marker"}
"""Keys of bodies that the reference does not have."""

NAMES = "names are checked everywhere"
STRICT = "what is no strict JSON is refused"
CHECKED = "a wrong value is the client's error"
IGNORED = "keys that mean nothing to an action are ignored"
IMPLEMENTED = "the reference loses the connection, or does not know the action"
EXTENDED = "a key that is ignored there has its meaning here"
MISSING = "a queue that is missing is an empty one"
OWNED = "a message is only found in its own queue"
WORKING = "the reference fails, by a mistake of its own"
PURGED = "claimed messages are purged, too"
UNCLAIMED = "what was popped is under no claim"
ONE_ERROR = "an undecodable frame is refused before its action is looked at"

DIFFERENCES = {
    **dict.fromkeys((8, 32, 147), NAMES),
    **dict.fromkeys((183, 207, 212, 215, 216, 217), STRICT),
    **dict.fromkeys((12, 13, 48, 49, 63, 94, 111, 114, 115, 140, 250), CHECKED),
    **dict.fromkeys((254, 255), CHECKED),
    **dict.fromkeys((41, 83, 247), IGNORED),
    **dict.fromkeys((164, 165, *range(187, 197), 208, 214), IMPLEMENTED),
    **dict.fromkeys((108, 260), WORKING),
    43: EXTENDED,
    64: ONE_ERROR,
    79: MISSING,
    88: OWNED,
    135: UNCLAIMED,
    144: PURGED,
}
"""Exchanges that are to end in another way than recorded, and why."""


def exchanges() -> Iterator[dict[str, Any]]:
    """The recorded exchanges in their order."""
    with RECORDED.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def replaced(value: Any, ids: dict[str, str]) -> Any:
    """A value with the ids of this server in the place of those recorded."""
    if isinstance(value, dict):
        return {key: replaced(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, ids) for item in value]
    return ids.get(value, value) if isinstance(value, str) else value


def differences(recorded: Any, given: Any, at: str = "body") -> Iterator[str]:
    """Where keys or types are not those recorded."""
    if at.endswith(".error") and recorded is None:
        # The text that the reference has elsewhere stands here, too.
        recorded = ""
    if type(recorded) is not type(given):
        yield f"{at}: {type(recorded).__name__} became {type(given).__name__}"
    elif isinstance(recorded, dict):
        for key in recorded.keys() ^ given.keys() - ADDED:
            yield f"{at}: {key} in one of them only"
        for key in recorded.keys() & given.keys():
            yield from differences(recorded[key], given[key], f"{at}.{key}")
    elif isinstance(recorded, list) and recorded and given:
        yield from differences(recorded[0], given[0], f"{at}[0]")


def learn(recorded: Any, given: Any, ids: dict[str, str]) -> None:
    """Note which id here stands for which one there."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        for key in recorded.keys() & given.keys():
            learn(recorded[key], given[key], ids)
    elif isinstance(recorded, list) and isinstance(given, list):
        for one, other in zip(recorded, given, strict=False):
            learn(one, other, ids)
    elif isinstance(recorded, str) and isinstance(given, str) and len(recorded) == 36:
        ids[recorded] = given


class RecordedTests(WebSocketTestCase):
    """What existing clients saw before, they see here."""

    async def ask(self, client: Client, sent: dict[str, Any]) -> tuple[Any, bool]:
        """Send what was sent; the reply to it."""
        if "hex" in sent:
            client.sendMessage(bytes.fromhex(sent["hex"]), True)
        elif sent["kind"] == "binary":
            packed = sent["msgpack"]
            headers = packed.get("headers")
            client.ask(packed["action"], packed.get("body"), headers, binary=True)
        else:
            data = sent["data"]
            text = data if isinstance(data, str) else json.dumps(data)
            client.sendMessage(text.encode())
        while True:
            frame, is_binary = await client.frame()
            if "request" in frame:
                return frame, is_binary

    async def test_replies(self) -> None:
        """Replies have the recorded status, keys and types, but for those listed."""
        client, ids, found = await self.connect(), {}, {}
        for exchange in exchanges():
            sent = replaced(exchange["sent"], ids)
            reply, is_binary = await self.ask(client, sent)
            self.assertEqual(["request", "body", "headers"], list(reply)[:3])
            self.assertEqual(sent["kind"] == "binary", is_binary)
            recorded = exchange["reply"]
            if recorded == "unknown":
                continue
            found[exchange["n"]] = list(self.compared(recorded, reply))
            if recorded is not None:
                learn(recorded["body"], reply["body"], ids)
        surprising = {
            n: [*texts, DIFFERENCES.get(n, "")]
            for n, texts in found.items()
            if bool(texts) != (n in DIFFERENCES)
        }
        self.assertEqual({}, surprising)

    def compared(self, recorded: Any, reply: Any) -> Iterator[str]:
        """How a reply differs from the one recorded."""
        if recorded is None:
            yield "the connection was lost"
            return
        status = reply["headers"]["status"]
        if status != recorded["status"]:
            yield f"{recorded['status']} became {status}: {reply['body']}"
        elif recorded["echo"] != sorted(reply["request"]):
            yield "another echo"
        else:
            yield from differences(recorded["body"], reply["body"])
