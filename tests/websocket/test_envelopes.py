"""Frames, envelopes and what is refused before an action is looked at."""

from __future__ import annotations

import json
from typing import Any

import msgpack

from tests.websocket.client import CLIENT_ID
from tests.websocket.server import WebSocketTestCase

HEADERS = {"Client-ID": CLIENT_ID, "X-Project-ID": "p1"}
BLANK = {"action": None, "body": {}, "headers": {}, "api": "v2"}


class EnvelopeTests(WebSocketTestCase):
    """The outside of requests and replies."""

    async def test_reply(self) -> None:
        """A reply has three keys in order, the echo of its request and a status."""
        client = await self.connect()
        client.ask("queue_list")
        reply, is_binary = await client.frame()
        self.assertFalse(is_binary)
        self.assertEqual(["request", "body", "headers"], list(reply))
        self.assertEqual(
            {"action": "queue_list", "body": {}, "headers": HEADERS, "api": "v2"},
            reply["request"],
        )
        self.assertEqual({"queues": []}, reply["body"])
        self.assertEqual({"status": 200}, reply["headers"])

    async def test_form_mirrors_request(self) -> None:
        """Each reply has the form of its own request, also on one connection."""
        client = await self.connect()
        for binary in (True, False, True):
            client.ask("queue_list", binary=binary)
            reply, is_binary = await client.frame()
            self.assertEqual(binary, is_binary)
            self.assertEqual({"queues": []}, reply["body"])

    async def test_pipelining(self) -> None:
        """Requests sent at once are answered in their order."""
        client = await self.connect()
        for number in range(30):
            client.ask("queue_create", {"queue_name": f"q{number}"})
        replies = [await client.received() for _ in range(30)]
        self.assertEqual(
            [f"Queue q{number} created." for number in range(30)],
            [reply["body"] for reply in replies],
        )

    async def test_request_id(self) -> None:
        """A request may carry an id, which its reply repeats."""
        client = await self.connect()
        for request_id in ("abc", 7):
            reply = await client.call("queue_list", id=request_id)
            self.assertEqual(request_id, reply["id"])
        reply = await client.call("queue_list", id={"not": "echoed"})
        self.assertNotIn("id", reply)

    async def test_secrets_are_not_echoed(self) -> None:
        """Tokens and signatures do not come back, in whatever case their names are."""
        client = await self.connect()
        secret = {"X-Auth-Token": "s3cret", "x-auth-token": 5, "URL-Signature": "s3cr"}
        reply = await client.call("queue_list", headers=secret)
        self.assertEqual(
            HEADERS | dict.fromkeys(secret, "***"), reply["request"]["headers"]
        )

    async def test_authenticate_without_authentication(self) -> None:
        """Where nobody is authenticated, authenticating succeeds."""
        client = await self.connect()
        reply = await client.call("authenticate", headers={"X-Auth-Token": "any"})
        self.assertEqual({"message": "Authentified."}, self.expect(reply, 200))
        self.assertEqual(BLANK | {"action": "authenticate"}, reply["request"])


class RefusedTests(WebSocketTestCase):
    """What is no request is answered, and the connection lives on."""

    async def refused(self, payload: bytes, binary: bool = False) -> Any:
        """The reply to a frame that must be refused; another request follows it."""
        client = self.clients[0] if self.clients else await self.connect()
        reply = await client.raw(payload, binary)
        self.expect(reply, 400)
        self.expect(await client.call("queue_list"), 200)
        return reply

    async def test_undecodable_text(self) -> None:
        """Text that is no strict JSON is refused with a blank echo."""
        for payload in (
            *(b"foo", b"", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a": NaN}', b"{"),
            *(b'{"a": 1e999}', b'{"a": 99999999999999999999}', b'{"a": "\\ud800"}'),
        ):
            reply = await self.refused(payload)
            self.assertEqual(BLANK, reply["request"])
            text = reply["body"]["error"]
            self.assertTrue(text.startswith("Can't decode text (JSON) request. "), text)

    async def test_undecodable_binary(self) -> None:
        """Binary frames that hold no strict JSON value are refused alike."""
        for payload in (
            *(b"\xc1\xff", b"", b"\x01\x02", b"\x91" * 100_000, b"\xa1\xff"),
            b"\x91" * 300 + b"\x01",
            *(b"\x81\x01\x02", b"\x81\xc4\x01a\x01", b"{}", b"\xd4\x01a"),
            *(b"\xd6\xff\x00\x00\x00\x05", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
            msgpack.packb({"body": b"\xff\xfe"}),
            msgpack.packb({"body": 2**64 - 1}),
        ):
            reply = await self.refused(payload, binary=True)
            self.assertEqual(BLANK, reply["request"])
            text = reply["body"]["error"]
            start = "Can't decode binary (MessagePack) request. "
            self.assertTrue(text.startswith(start), text)

    async def test_no_object(self) -> None:
        """A value that is no object is no request."""
        for payload in (b"123", b"[]", b"null", b'"x"', b"true"):
            reply = await self.refused(payload)
            self.assertEqual(
                {"error": "Unexpected body type. Expected dict or dict like."},
                reply["body"],
            )

    async def test_actions(self) -> None:
        """What is no action is named, whatever its type."""
        for action, shown in (
            *((None, "None"), ("foo", "foo"), (5, "5"), ([], "[]"), ({}, "{}")),
            (True, "True"),
        ):
            document = {"action": action, "headers": HEADERS}
            reply = await self.refused(json.dumps(document).encode())
            self.assertEqual({"error": f"{shown} is not a valid action"}, reply["body"])
            self.assertEqual(action, reply["request"]["action"])

    async def test_binary_action(self) -> None:
        """An action that is no text in MessagePack is none."""
        payload = msgpack.packb({"action": b"queue_list", "headers": HEADERS})
        await self.refused(payload, binary=True)

    async def test_schemas(self) -> None:
        """Headers and body keys that are missing or of a wrong type are named."""
        for document, named in (
            ({}, "headers"),
            ({"headers": None}, "headers"),
            ({"headers": []}, "headers"),
            ({"headers": {"X-Project-ID": "p"}}, "Client-ID"),
            ({"headers": {"Client-ID": "x"}}, "X-Project-ID"),
            ({"headers": {**HEADERS, "Accept": 1}}, "Accept"),
            ({"headers": {"client-id": "x", "X-Project-ID": "p"}}, "Client-ID"),
            ({"headers": HEADERS, "body": None}, "body"),
            ({"headers": HEADERS, "body": []}, "body"),
            ({"headers": HEADERS, "body": {"limit": "5"}}, "limit"),
            ({"headers": HEADERS, "body": {"limit": True}}, "limit"),
            ({"headers": HEADERS, "body": {"limit": 2.0}}, "limit"),
            ({"headers": HEADERS, "body": {"limit": None}}, "limit"),
            ({"headers": HEADERS, "body": {"detailed": 1}}, "detailed"),
        ):
            request = {"action": "queue_list", **document}
            reply = await self.refused(json.dumps(request).encode())
            text = reply["body"]["error"]
            self.assertTrue(text.startswith("Schema validation failed. "), text)
            self.assertIn(named, text)

    async def test_destination_is_required(self) -> None:
        """An action on messages needs a queue or a topic, and not both."""
        client = await self.connect()
        for body in ({}, {"queue_name": "a", "topic_name": "b"}, {"queue_name": 5}):
            self.expect(await client.call("message_list", body), 400)
        self.expect(await client.call("queue_get", {"topic_name": "t"}), 400)
