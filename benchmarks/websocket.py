"""What do operations, connections and pushes cost over WebSocket?

Posts and lists on some connections, opens many that stay idle, and pushes messages to
subscribers at a fixed rate. The processor time of the server is what counts: it is read
from the process whose id is given, which must be on this machine. Start a server with a
data directory of its own first; nothing but the standard library is needed here::

    scripts/serve --data-dir /tmp/bench
    python3 benchmarks/websocket.py ws://127.0.0.1:8888/v2/ws PID
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import struct
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TICKS = os.sysconf("SC_CLK_TCK")
BODY = {"event": "created", "text": "x" * 64}
LISTED = 10
BATCH = 10


class Connection:
    """A client of the API over one WebSocket, without any comfort."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "benchmark"}

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Connect and shake hands."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        key = base64.b64encode(random.randbytes(16)).decode()
        writer.write(
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"No WebSocket there: {head.decode()}")
        return cls(reader, writer)

    async def ask(self, action: str, body: dict[str, Any]) -> Any:
        """The body of the reply to a request; ends the run on errors."""
        request = {"action": action, "headers": self._headers, "body": body}
        payload = json.dumps(request).encode()
        # A mask of zeros changes nothing, so that it costs nothing here.
        self._writer.write(_frame_head(len(payload)) + bytes(4) + payload)
        reply = json.loads(await self.frame())
        if reply["headers"]["status"] >= 300:
            sys.exit(f"{action}: {reply}")
        return reply["body"]

    async def frame(self) -> bytes:
        """The payload of the next text frame."""
        while True:
            first, length = await self._reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            payload = await self._reader.readexactly(length)
            if first == 0x81:
                return payload

    def close(self) -> None:
        """Drop the connection."""
        self._writer.close()


def _frame_head(length: int) -> bytes:
    if length < 126:
        return bytes((0x81, 0x80 | length))
    return bytes((0x81, 0xFE)) + struct.pack("!H", length)


class Process:
    """The server, as the system sees it."""

    def __init__(self, number: int) -> None:
        self._directory = Path(f"/proc/{number}")

    def seconds(self) -> float:
        """The processor time that it has used."""
        fields = (self._directory / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """The bytes that it has in memory."""
        pages = int((self._directory / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


async def many(url: str, number: int) -> list[Connection]:
    """Open connections, a hundred at a time."""
    opened: list[Connection] = []
    while len(opened) < number:
        missing = min(100, number - len(opened))
        opened += await asyncio.gather(*(Connection.open(url) for _ in range(missing)))
    return opened


async def operations(options: argparse.Namespace) -> str:
    """Post one message, list ten, over and over on every connection."""
    server = Process(options.process)
    connections = await many(options.url, options.connections)

    async def work(connection: Connection, until: float) -> int:
        queue, done = f"ws-{uuid.uuid4().hex}", 0
        while time.monotonic() < until:
            post = {"queue_name": queue, "messages": [{"body": BODY, "ttl": 300}]}
            await connection.ask("message_post", post)
            listing = {"queue_name": queue, "limit": LISTED, "echo": True}
            await connection.ask("message_list", listing)
            done += 2
        await connection.ask("queue_delete", {"queue_name": queue})
        return done

    async def phase(seconds: float) -> int:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(work(one, until) for one in connections)))

    await phase(1)
    before, begun = server.seconds(), time.monotonic()
    done = await phase(options.seconds)
    used, passed = server.seconds() - before, time.monotonic() - begun
    for connection in connections:
        connection.close()
    return (
        f"{options.connections} connections: {done / passed:.0f} operations a second, "
        f"{1e6 * used / done:.0f} us of processor each ({100 * used / passed:.0f} %)"
    )


async def idle(options: argparse.Namespace) -> str:
    """Open connections that ask once and then say nothing."""
    server = Process(options.process)
    before = server.memory()
    connections = await many(options.url, options.idle)
    for connection in connections:
        await connection.ask("queue_list", {})
    used = server.memory() - before
    started = server.seconds()
    await asyncio.sleep(options.seconds)
    busy = (server.seconds() - started) / options.seconds
    for connection in connections:
        connection.close()
    return (
        f"{options.idle} idle connections: {used / options.idle / 1024:.1f} KiB each, "
        f"{100 * busy:.1f} % of a processor"
    )


async def pushes(options: argparse.Namespace) -> str:
    """Post at a fixed rate to a queue that many follow."""
    server, queue = Process(options.process), f"ws-{uuid.uuid4().hex}"
    poster = await Connection.open(options.url)
    subscribers = await many(options.url, options.subscribers)
    for subscriber in subscribers:
        await subscriber.ask("subscription_create", {"queue_name": queue})
    wanted = int(options.rate * options.seconds / options.subscribers) // BATCH * BATCH
    latest: list[float] = []

    async def receive(subscriber: Connection) -> None:
        for _ in range(wanted):
            frame = json.loads(await subscriber.frame())
        latest.append(time.monotonic() - frame["body"]["sent"])

    async def post() -> None:
        begun = time.monotonic()
        for number in range(0, wanted, BATCH):
            due = begun + number * options.subscribers / options.rate
            await asyncio.sleep(due - time.monotonic())
            body = {**BODY, "sent": time.monotonic()}
            messages = [{"body": body, "ttl": 300}] * BATCH
            posted = {"queue_name": queue, "messages": messages}
            await poster.ask("message_post", posted)

    before, begun = server.seconds(), time.monotonic()
    await asyncio.gather(post(), *(receive(one) for one in subscribers))
    used, passed = server.seconds() - before, time.monotonic() - begun
    for connection in (poster, *subscribers):
        connection.close()
    count = wanted * options.subscribers
    return (
        f"{options.subscribers} subscribers: {count / passed:.0f} pushes a second, "
        f"{1e6 * used / count:.1f} us of processor each ({100 * used / passed:.0f} %), "
        f"the last message {1000 * max(latest):.0f} ms after its post"
    )


PHASES: dict[str, Callable[[argparse.Namespace], Awaitable[str]]] = {
    "operations": operations,
    "idle": idle,
    "pushes": pushes,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time the WebSocket API.")
    parser.add_argument("url", help="for example ws://127.0.0.1:8888/v2/ws")
    parser.add_argument("process", type=int, help="the id of the server's process")
    parser.add_argument("--only", choices=PHASES, action="append")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--rate", type=int, default=10_000, help="pushes a second")
    parser.add_argument("--seconds", type=float, default=5)
    return parser.parse_args(arguments)


async def main(arguments: Sequence[str]) -> None:
    """Run one phase after the other, and print what came of it."""
    options = parse(arguments)
    for name, phase in PHASES.items():
        if name in (options.only or PHASES):
            print(await phase(options))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
