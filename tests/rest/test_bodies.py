"""What counts as a JSON body, wherever one is read."""

from __future__ import annotations

from typing import Any

from tests.rest.server import JSON_PATCH, RestTestCase, asking

POST = ("POST", "/v2/queues/q/messages")

# Where a body is read: method, path, one that is accepted, statuses of success.
BODIES: list[tuple[str, str, bytes]] = [
    ("PUT", "/v2/queues/new", b'{"a": 1}'),
    ("PUT", "/v2/topics/new", b'{"a": 1}'),
    (*POST, b'{"messages": [{"body": 1}]}'),
    ("POST", "/v2/topics/t/messages", b'{"messages": [{"body": 1}]}'),
    ("POST", "/v2/queues/q/claims", b'{"ttl": 60}'),
    ("POST", "/v2/queues/q/purge", b'{"resource_types": ["messages"]}'),
    ("POST", "/v2/queues/q/share", b'{"methods": ["GET"]}'),
    ("POST", "/v2/queues/q/subscriptions", b'{"subscriber": "http://trigger.me"}'),
]

BROKEN = [
    *(b"{", b"}", b"[", b'{"a": 1', b'{"a": }', b"{'a': 1}", b'{"a": 1,}', b"nonsense"),
    *(b'{"a": "\xff"}', b"\xff\xfe{\x00}\x00", b'\xef\xbb\xbf{"a": 1}'),
    *(b'{"a": 1} x', b'{"a": 1}{}', b" ", b"\n\t ", b'{"a": 01}', b'{"a": "\n"}'),
    *(b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}'),
    *(b'{"a": "\\ud800"}', b'{"a": "\\udc00\\ud800"}', b'{"\\ud800": 1}'),
]

SCALARS = [b"null", b"true", b"5", b"1.5", b'"text"']


def _with_messages(body: bytes) -> bytes:
    return b'{"messages": [{"body": %s}]}' % body


class BrokenBodyTests(RestTestCase):
    """Bodies that are not JSON, at every place that reads one."""

    settings = ("signed_url.secret_key=secretkey",)

    async def test_accepted(self) -> None:
        """The bodies that the other tests spoil are fine as they are."""
        for method, path, body in BODIES:
            answer = await self.call(method, path, raw=body)
            self.assertLess(answer.status, 300, answer)

    async def test_broken(self) -> None:
        """What is not JSON is refused."""
        requests = [
            asking(method, path, raw=broken)
            for method, path, _ in BODIES
            for broken in BROKEN
        ]
        await self.refuses(400, "Invalid request body", requests)

    async def test_truncated(self) -> None:
        """Half a document is refused at every place where it can be cut."""
        method, path, body = BODIES[2]
        cuts = range(1, len(body))
        requests = [asking(method, path, raw=body[:cut]) for cut in cuts]
        await self.refuses(400, "Invalid request body", requests)

    async def test_scalars(self) -> None:
        """A bare value is refused like broken JSON, and told so."""
        for method, path, _ in BODIES:
            for scalar in SCALARS:
                answer = await self.call(method, path, raw=scalar)
                self.refused(answer, 400, "Invalid request body")
                self.assertIn("could not be parsed", answer.json["description"])

    async def test_arrays(self) -> None:
        """An array where an object is needed is refused."""
        requests = [
            asking(method, path, raw=array)
            for method, path, _ in BODIES
            for array in (b"[]", b"[1]", b'["messages"]', b"[{}]")
        ]
        await self.refuses(400, "Invalid request body", requests)

    async def test_array_is_named(self) -> None:
        """The refusal of an array says that the type of document is wrong."""
        answer = await self.call(*POST, raw=b"[]")
        self.assertIn("Document type not supported", answer.json["description"])

    async def test_wide_integers(self) -> None:
        """Integers beyond 64 bits are refused anywhere."""
        for text in (b"9223372036854775808", b"-9223372036854775809", b"1" * 400):
            for method, path, _ in BODIES:
                answer = await self.call(method, path, raw=b'{"a": [%s]}' % text)
                self.refused(answer, 400, "Invalid request body")
            answer = await self.call(*POST, raw=_with_messages(text))
            self.refused(answer, 400, "Invalid request body")

    async def test_deep_nesting(self) -> None:
        """Thousands of levels are refused, in arrays and in objects."""
        deep = [b"[" * 3000 + b"]" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000]
        requests = [asking(*POST, raw=_with_messages(body)) for body in deep]
        requests += [
            asking(method, path, raw=b'{"a": %s}' % body)
            for method, path, _ in BODIES
            for body in deep
        ]
        await self.refuses(400, None, requests)

    async def test_nothing_was_made(self) -> None:
        """A refused body creates nothing."""
        for method, path, _ in BODIES:
            for broken in (b"{", b"[]", b"null"):
                await self.call(method, path, raw=broken)
        self.assertEqual([], await self.queue_names())
        answer = await self.call("GET", "/v2/topics")
        self.assertEqual([], answer.json["topics"])


class RequiredBodyTests(RestTestCase):
    """Bodies that are missing."""

    settings = ("signed_url.secret_key=secretkey",)

    async def test_required(self) -> None:
        """An empty body is refused where one is needed."""
        await self.create("q")
        await self.post("q", 1)
        claim = await self.claim("q")
        subscription = await self.subscribe("q", "http://trigger.me")
        of_subscription = f"/v2/queues/q/subscriptions/{subscription}"
        requests = [
            asking(method, path, raw=b"")
            for method, path in [
                POST,
                ("POST", "/v2/queues/q/share"),
                ("POST", "/v2/queues/q/subscriptions"),
                ("PATCH", f"/v2/queues/q/claims/{claim.id}"),
                ("PATCH", of_subscription),
                ("PUT", f"{of_subscription}/confirm"),
            ]
        ]
        await self.refuses(400, None, requests)

    async def test_empty_patch(self) -> None:
        """An empty patch of metadata is refused, an empty list of changes is not."""
        await self.create("q")
        headers = {"Content-Type": JSON_PATCH}
        answer = await self.call("PATCH", "/v2/queues/q", raw=b"", headers=headers)
        self.refused(answer, 400)
        answer = await self.call("PATCH", "/v2/queues/q", raw=b"[]", headers=headers)
        self.expect(answer, 200)

    async def test_optional(self) -> None:
        """An empty body is as good as none where it is optional."""
        for raw in (None, b""):
            answer = await self.call("PUT", "/v2/queues/q", raw=raw)
            self.assertIn(answer.status, (201, 204), answer)
            claim = await self.call("POST", "/v2/queues/q/claims", raw=raw)
            self.expect(claim, 204)
            purge = await self.call("POST", "/v2/queues/q/purge", raw=raw)
            self.expect(purge, 204)


class FaithTests(RestTestCase):
    """A message body comes back as it was sent."""

    async def _echo(self, raw: bytes) -> Any:
        answer = self.expect(await self.call(*POST, raw=_with_messages(raw)), 201)
        (href,) = answer.json["resources"]
        return (await self.call("GET", href)).json["body"]

    async def test_values(self) -> None:
        """Every kind of value comes back equal and of the same type."""
        bodies: list[tuple[bytes, Any]] = [
            *((b"null", None), (b"true", True), (b"false", False), (b"0", 0)),
            *((b"-1", -1), (b"5.5", 5.5), (b"1.0", 1.0), (b"1e3", 1000.0)),
            *((b'""', ""), (b'"x"', "x"), (b"{}", {}), (b"[]", [])),
            (b"9223372036854775807", 2**63 - 1),
            (b"-9223372036854775808", -(2**63)),
            (b'{"a": {"b": [1, {"c": null}]}}', {"a": {"b": [1, {"c": None}]}}),
            (b"0.1", 0.1),
            (b"1.7976931348623157e308", 1.7976931348623157e308),
            (b"123456789.123456789", 123456789.123456789),
        ]
        for raw, value in bodies:
            found = await self._echo(raw)
            self.assertEqual((type(value), value), (type(found), found), raw)

    async def test_texts(self) -> None:
        """Every character survives, written out or escaped."""
        texts = ["é", "日本", "😀", "\x00", "\x1f", '"', "\\", "/", "\u2028", "\ufeff"]
        for text in texts:
            written = '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))
            if ord(text[0]) >= 0x20:
                self.assertEqual(text, await self._echo(written.encode()), repr(text))
            units = text.encode("utf-16-be")
            escaped = "".join(
                f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)
            )
            self.assertEqual(text, await self._echo(f'"{escaped}"'.encode()), escaped)

    async def test_key_order(self) -> None:
        """Members keep the order in which they were sent."""
        found = await self._echo(b'{"z": 1, "a": 2, "m": 3}')
        self.assertEqual(["z", "a", "m"], list(found))

    async def test_duplicate_keys(self) -> None:
        """Of members with one name the last one counts."""
        raw = b'{"messages": [], "messages": [{"ttl": 60, "ttl": 70, "body": 1}]}'
        (href,) = self.expect(await self.call(*POST, raw=raw), 201).json["resources"]
        self.assertEqual(70, (await self.call("GET", href)).json["ttl"])
        self.assertEqual({"a": 2}, await self._echo(b'{"a": 1, "a": 2}'))

    async def test_surrounding_blanks(self) -> None:
        """White space around and inside a document means nothing."""
        raw = b' \r\n\t{ "messages" : [ { "body" : 1 } ] } \n'
        self.expect(await self.call(*POST, raw=raw), 201)

    async def test_moderate_nesting(self) -> None:
        """A hundred levels are no reason to refuse."""
        value = await self._echo(b"[" * 100 + b"]" * 100)
        depth = 0
        while value:
            depth, value = depth + 1, value[0]
        self.assertEqual(99, depth)

    async def test_brackets_in_text(self) -> None:
        """Brackets inside of a text are no nesting."""
        text = b'"' + b"[{" * 2000 + b'"'
        self.assertEqual("[{" * 2000, await self._echo(text))

    async def test_numbers_that_overflow(self) -> None:
        """A number that no double can hold is refused."""
        requests = [
            asking(*POST, raw=_with_messages(n)) for n in (b"1e400", b"[-1e999]")
        ]
        await self.refuses(400, "Invalid request body", requests)

    async def test_metadata(self) -> None:
        """Metadata comes back as faithfully."""
        metadata = {"é": [1, 2.5, None, {"x": True}], "big": 2**63 - 1, "": "empty"}
        await self.create("q", **metadata)
        found = (await self.call("GET", "/v2/queues/q")).json
        self.assertEqual(metadata, {key: found[key] for key in metadata})


class RawBodyTests(RestTestCase):
    """Bodies as bytes on a connection."""

    def _head(self, *lines: str) -> bytes:
        fixed = [
            *("POST /v2/queues/q/messages HTTP/1.1", "Host: localhost"),
            *("Client-ID: " + "a" * 32, "X-Project-ID: p1"),
        ]
        return "\r\n".join([*fixed, *lines, "", ""]).encode()

    async def test_chunked(self) -> None:
        """A chunked body is either read or taken as missing, never half."""
        connection = await self.connect()
        body = _with_messages(b'"chunk"')
        parts = [body[:5], body[5:]]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        connection.send(self._head("Transfer-Encoding: chunked"), chunks, b"0\r\n\r\n")
        status = (await connection.answer()).status
        self.assertIn(status, (201, 400))
        self.assertEqual(["chunk"] * (status == 201), await self.listed("q"))

    async def test_bad_length(self) -> None:
        """A length that is no number is refused."""
        for length in ("abc", "-1", "1.5", ""):
            connection = await self.connect()
            connection.send(self._head(f"Content-Length: {length}"), b"{}")
            answer = await connection.answer()
            self.assertEqual(400, answer.status, length)
            self.assertEqual("Invalid header value", answer.json["title"], length)

    async def test_two_lengths(self) -> None:
        """A length together with chunks could smuggle a request, and is refused."""
        connection = await self.connect()
        lines = ("Content-Length: 5", "Transfer-Encoding: chunked")
        connection.send(self._head(*lines), b"0\r\n\r\n")
        self.assertEqual(400, (await connection.answer()).status)

    async def test_in_small_pieces(self) -> None:
        """A request that comes byte by byte is one request."""
        connection = await self.connect()
        body = _with_messages(b"1")
        request = self._head(f"Content-Length: {len(body)}") + body
        for at in range(len(request)):
            connection.send(request[at : at + 1])
            if at % 40 == 0:
                await self.call("GET", "/v2/ping")
        self.assertEqual(201, (await connection.answer()).status)

    async def test_truncated(self) -> None:
        """A client that hangs up in the middle of a body posts nothing."""
        connection = await self.connect()
        body = _with_messages(b"1")
        connection.send(self._head(f"Content-Length: {len(body)}"), body[:-1])
        await self.settle()
        connection.hang_up()
        await self.settle()
        self.assertEqual([], await self.listed("q"))

    async def test_pipelining(self) -> None:
        """Requests sent without waiting are answered in their order."""
        connection = await self.connect()
        for number in range(5):
            body = _with_messages(b"%d" % number)
            connection.send(self._head(f"Content-Length: {len(body)}"), body)
        answers = [await connection.answer() for _ in range(5)]
        self.assertEqual([201] * 5, [answer.status for answer in answers])
        self.assertEqual([0, 1, 2, 3, 4], await self.listed("q"))
        hrefs = [answer.json["resources"][0] for answer in answers]
        bodies = [(await self.call("GET", href)).json["body"] for href in hrefs]
        self.assertEqual([0, 1, 2, 3, 4], bodies)

    async def test_connection_after_refusal(self) -> None:
        """A connection goes on after a refusal."""
        connection = await self.connect()
        connection.send(self._head("Content-Length: 1"), b"{")
        self.assertEqual(400, (await connection.answer()).status)
        body = _with_messages(b"1")
        connection.send(self._head(f"Content-Length: {len(body)}"), body)
        self.assertEqual(201, (await connection.answer()).status)

    async def test_expect_continue(self) -> None:
        """A client that asks before sending its body is told to go on."""
        connection = await self.connect()
        body = _with_messages(b"1")
        length = f"Content-Length: {len(body)}"
        connection.send(self._head(length, "Expect: 100-continue"))
        self.assertEqual(100, (await connection.answer()).status)
        connection.send(body)
        self.assertEqual(201, (await connection.answer()).status)

    async def test_announced_giant(self) -> None:
        """A body that nobody would take is refused before it is sent."""
        connection = await self.connect()
        connection.send(self._head("Content-Length: 10000000000"), b"{")
        self.assertIn((await connection.answer()).status, (400, 413))

    async def test_no_http(self) -> None:
        """Bytes that are no request end the connection, not the service."""
        for junk in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
        ):
            connection = await self.connect()
            connection.send(junk)
            rest = await connection.end()
            self.assertNotIn(b" 500 ", rest.partition(b"\r\n")[0])
        self.expect(await self.call("GET", "/v2/ping"), 204)
