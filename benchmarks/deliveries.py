"""How many notifications does a server deliver in a second, and at what cost?

A queue has a hundred subscribers, each a web server of its own, and gets a hundred
messages: ten thousand deliveries. Start a server with a data directory of its own, then
give its process to see what it used, too; nothing but the standard library is needed
here::

    scripts/serve --data-dir /tmp/bench
    python3 benchmarks/deliveries.py http://127.0.0.1:8888 --pid $(pgrep -f /tmp/bench)

The receivers run in a process of their own. They answer at once and count what they
got, each delivery once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from urllib.parse import urlsplit

TTL = 3600
PER_POST = 10
PAUSE = 0.01
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Used:
    """What a process has used so far.

    :ivar cpu: seconds of all processors, in the kernel, too.
    :ivar peak: the most memory that it ever had, in MiB.
    """

    cpu: float
    peak: float

    @classmethod
    def by(cls, pid: int) -> Used:
        """What Linux tells of a process."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return cls(ticks / os.sysconf("SC_CLK_TCK"), int(peak) / 1024)


class Receiver(asyncio.Protocol):
    """One connection to a receiver.

    :param seen: the deliveries that came to all receivers.
    :param count: how many these are, for the other process.
    """

    def __init__(self, seen: set[bytes], count: Synchronized[int]) -> None:
        self._seen = seen
        self._count = count
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take requests from now on."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < int(field(head, b"content-length")):
            return
        self._received = b""
        self._seen.add(field(head, b"webhook-id"))
        self._count.value = len(self._seen)
        self._transport.write(ANSWER)


def field(head: bytes, name: bytes) -> bytes:
    """The value of a field of a request."""
    for line in head.split(b"\r\n"):
        if line[: len(name)].lower() == name:
            return line.partition(b":")[2].strip()
    return b"0"


def receive(number: int, ports: Connection, count: Synchronized[int]) -> None:
    """Be so many web servers until the process is ended; tells their ports."""

    async def listen() -> None:
        loop, seen = asyncio.get_running_loop(), set[bytes]()
        servers = [
            await loop.create_server(lambda: Receiver(seen, count), "127.0.0.1", 0)
            for _ in range(number)
        ]
        ports.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.Event().wait()

    asyncio.run(listen())


@contextmanager
def receivers(number: int) -> Iterator[tuple[list[int], Synchronized[int]]]:
    """Their ports, and how many deliveries came so far."""
    count: Synchronized[int] = multiprocessing.Value("q", 0, lock=False)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(
        target=receive, args=(number, there, count), daemon=True
    )
    process.start()
    try:
        yield here.recv(), count
    finally:
        process.terminate()
        process.join()


class Queue:
    """A queue of a server, new with each run."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "bench"}
        self._path = f"/v2/queues/told-{uuid.uuid4().hex[:8]}"

    def ask(self, what: str, document: object) -> None:
        """Send something to the queue."""
        path = f"{self._path}/{what}"
        self._http.request("POST", path, json.dumps(document), self._headers)
        answer = self._http.getresponse()
        answer.read()
        if answer.status != 201:
            sys.exit(f"POST {path}: {answer.status}")


def measure(options: argparse.Namespace) -> tuple[int, float]:
    """How many deliveries there were, and how many seconds they took."""
    queue = Queue(options.url)
    with receivers(options.receivers) as (ports, count):
        for port in ports:
            subscriber = f"http://127.0.0.1:{port}/"
            queue.ask("subscriptions", {"subscriber": subscriber, "ttl": TTL})
        messages = [{"ttl": TTL, "body": "x" * options.bytes}] * PER_POST
        wanted = options.receivers * options.messages
        began = time.perf_counter()
        for _ in range(options.messages // PER_POST):
            queue.ask("messages", {"messages": messages})
        while count.value < wanted:
            if time.perf_counter() - began > options.patience:
                sys.exit(f"Only {count.value} of {wanted} deliveries came.")
            time.sleep(PAUSE)
        return wanted, time.perf_counter() - began


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Deliveries to many receivers.")
    parser.add_argument("url", help="for example http://127.0.0.1:8888")
    parser.add_argument("--pid", type=int, help="of the server, on this machine")
    parser.add_argument("--receivers", type=int, default=100)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--bytes", type=int, default=100, help="of each body")
    parser.add_argument("--patience", type=float, default=300, help="seconds")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the figures."""
    options = parse(arguments)
    before = options.pid and Used.by(options.pid)
    count, seconds = measure(options)
    print(f"{count} deliveries in {seconds:.1f} s: {count / seconds:.0f} a second")
    if options.pid:
        used = Used.by(options.pid)
        cpu = 1e6 * (used.cpu - before.cpu) / count
        print(f"CPU of the server: {cpu:.0f} us a delivery; peak: {used.peak:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
