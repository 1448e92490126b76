"""Connections that cost little: requests are bytes made before, answers barely read.

The generator shares the machine with the server, so whatever it burns is missing there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

Answer = tuple[int, bytes]
"""Status and body."""

READ_SIZE = 65536
"""At most this is read at once. For a buffer of twice the size, the C library asks the
system for new memory each time, which takes longer than all else that is done here."""
CONNECT_SECONDS = 10

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


class Refused(Exception):
    """The other side did not do as it should; the run cannot go on."""


def http_request(
    url: str, method: str, path: str, headers: dict[str, str], body: Any = None
) -> bytes:
    """The bytes of a request; a body is encoded as JSON."""
    parts = urlsplit(url)
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {parts.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if content or method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def frame(content: bytes) -> bytes:
    """A text frame from a client, masked with zeros, which leave it as it is."""
    length = len(content)
    if length < 126:
        head = bytes([0x81, 0x80 | length])
    elif length < 65536:
        head = b"\x81\xfe" + length.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + content


def _connected(parts: SplitResult) -> socket.socket:
    if parts.scheme in ("https", "wss"):
        raise Refused("TLS would cost more than what is measured: give a plain URL.")
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    opened = socket.create_connection(address, timeout=CONNECT_SECONDS)
    # With a timeout each call would cost a second one, which waits.
    opened.settimeout(None)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


class Connection:
    """A connected socket whose answers come whole.

    :param url: scheme, host and port are used.
    """

    def __init__(self, url: str) -> None:
        self._socket = _connected(urlsplit(url))
        self._received = b""
        self.fileno = self._socket.fileno
        self.send = self._socket.sendall

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def answers(self) -> Iterator[Answer]:
        """Read once; the answers that are whole by then."""
        data = self._socket.recv(READ_SIZE)
        if not data:
            raise Refused("The server closed a connection that was in use.")
        self._received = data = self._received + data
        while data:
            answer, rest = self._first(data)
            if answer is None:
                break
            self._received = data = rest
            yield answer

    def _first(self, data: bytes) -> tuple[Answer | None, bytes]:
        """The first answer, if it is whole, and what comes after it."""
        raise NotImplementedError


class HTTPConnection(Connection):
    """HTTP/1.1 with keep-alive; bodies have a ``Content-Length`` or are none."""

    def _first(self, data: bytes) -> tuple[Answer | None, bytes]:
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return None, data
        status = int(data[9:12])
        length = 0 if status == 204 else _content_length(data, end)
        whole = end + length
        if len(data) < whole:
            return None, data
        return (status, data[end:whole]), data[whole:]


def _content_length(data: bytes, end: int) -> int:
    """What the head says that ends there."""
    found = LENGTH.search(data, 0, end)
    if found is None:
        raise Refused(f"An answer has no Content-Length: {data[:200]!r}")
    return int(found[1])


class WebSocketConnection(Connection):
    """Text frames over a WebSocket, without compression.

    An answer's status is what its envelope says, or 0 for a push.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            data = self._socket.recv(READ_SIZE)
            if not data:
                raise Refused(f"{url} closed while greeting: {received[:200]!r}")
            received += data
        if not received.startswith(b"HTTP/1.1 101"):
            raise Refused(f"{url} is no WebSocket: {received[:200]!r}")
        self._received = received.partition(b"\r\n\r\n")[2]

    def ask(self, request: bytes) -> Answer:
        """Send a frame and wait for the first one that comes."""
        self.send(request)
        while True:
            for answer in self.answers():
                return answer

    def _first(self, data: bytes) -> tuple[Answer | None, bytes]:
        begin, length = _frame_extent(data)
        if not begin or len(data) < begin + length:
            return None, data
        whole = begin + length
        if data[0] == 0x89:
            self.send(b"\x8a\x80\0\0\0\0")
            return self._first(data[whole:])
        if data[0] != 0x81:
            raise Refused(f"An unexpected frame came: {data[:100]!r}")
        content = data[begin:whole]
        return (_status(content), content), data[whole:]


def _frame_extent(data: bytes) -> tuple[int, int]:
    """Where a server's frame's content begins, 0 if unknown yet, and its length."""
    if len(data) < 10:
        return (2, data[1]) if len(data) >= 2 and data[1] < 126 else (0, 0)
    if data[1] < 126:
        return 2, data[1]
    if data[1] == 126:
        return 4, int.from_bytes(data[2:4], "big")
    return 10, int.from_bytes(data[2:10], "big")


def _status(content: bytes) -> int:
    begin = content.rfind(b'"status":')
    return int(content[begin + 9 : begin + 13].strip(b" ,}")) if begin >= 0 else 0
