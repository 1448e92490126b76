"""Does a noisy project make a quiet one wait?

A quiet client asks twenty times a second, alone and beside sixty-four connections of
another project that post and list as fast as they can. Both phases alternate, so that
what else the machine does falls on both; each figure is the median over the rounds.
Start a server with a data directory of its own first; nothing but the standard library
is needed here::

    scripts/serve --data-dir /tmp/bench
    python3 benchmarks/fairness.py http://127.0.0.1:8888

The noise comes from a process of low priority, so that on one machine the two clients
do not wait for each other instead of for the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle, islice
from multiprocessing.sharedctypes import Synchronized
from urllib.parse import urlsplit

PER_SECOND = 20
WARM_UP_SECONDS = 1.0
QUEUES = 8
LEAST_PRIORITY = 19
BODY = json.dumps({"messages": [{"ttl": 300, "body": "x" * 1000}]}).encode()
SHORT_BODY = json.dumps({"messages": [{"ttl": 60, "body": "quiet"}]}).encode()


@dataclass(frozen=True)
class Phase:
    """What the quiet client saw, in milliseconds, and what the noise got done."""

    p50: float
    p99: float
    noise_per_second: float = 0.0


def phase(times: Sequence[float], noise_per_second: float = 0.0) -> Phase:
    """The percentiles of answer times in seconds."""
    ordered = sorted(1000 * each for each in times)
    last = len(ordered) - 1
    return Phase(ordered[last // 2], ordered[math.ceil(last * 0.99)], noise_per_second)


class Quiet:
    """One client that asks at fixed moments, over one connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._http = HTTPConnection(*address, timeout=60)
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": "quiet"}
        path = f"/v2/queues/quiet-{random.randrange(10**9)}/messages"
        self._requests = cycle(
            [("POST", path, SHORT_BODY), ("GET", f"{path}?limit=10&echo=true", None)]
        )

    def ask(self, seconds: float) -> list[float]:
        """Ask for so long; the seconds that each answer took."""
        begin, times = time.perf_counter(), []
        for number in range(int(seconds * PER_SECOND)):
            time.sleep(max(0, begin + number / PER_SECOND - time.perf_counter()))
            times.append(self._timed())
        return times

    def _timed(self) -> float:
        method, path, body = next(self._requests)
        sent = time.perf_counter()
        self._http.request(method, path, body, self._headers)
        answer = self._http.getresponse()
        answer.read()
        taken = time.perf_counter() - sent
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status}")
        return taken


class Noisy(asyncio.Protocol):
    """A connection that asks again as soon as it has its answer.

    :param answers: counts those of all connections.
    """

    def __init__(self, requests: Iterator[bytes], answers: Synchronized[int]) -> None:
        self._requests = requests
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Ask again when the answer is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            sys.exit(f"noise: {head.splitlines()[0]!r}")
        self._received = b""
        self._answers.value += 1
        self._transport.write(next(self._requests))


def _length(head: bytes) -> int:
    for line in head.lower().splitlines():
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def loud_requests(number: int) -> Iterator[bytes]:
    """Posts and lists in turn, of the queue of one connection."""
    path = f"/v2/queues/noisy-{number % QUEUES}/messages"
    headers = f"Host: localhost\r\nClient-ID: {uuid.uuid4()}\r\nX-Project-ID: noisy\r\n"
    post = f"POST {path} HTTP/1.1\r\n{headers}Content-Length: {len(BODY)}\r\n\r\n"
    show = f"GET {path}?limit=10&echo=true HTTP/1.1\r\n{headers}\r\n"
    both = [post.encode() + BODY, show.encode()]
    # Half of the connections begin with the one, half with the other.
    return islice(cycle(both), number % 2, None)


def make_noise(
    address: tuple[str, int], connections: int, answers: Synchronized[int]
) -> None:
    """Ask on many connections until the process is ended."""
    os.nice(LEAST_PRIORITY)

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        for number in range(connections):
            requests = loud_requests(number)
            await loop.create_connection(lambda r=requests: Noisy(r, answers), *address)
        await asyncio.Event().wait()

    asyncio.run(connect())


@contextmanager
def noise(address: tuple[str, int], connections: int) -> Iterator[Synchronized[int]]:
    """Noise as long as this lasts; gives the number of its answers so far."""
    answers: Synchronized[int] = multiprocessing.Value("q", 0, lock=False)
    process = multiprocessing.Process(
        target=make_noise, args=(address, connections, answers), daemon=True
    )
    process.start()
    try:
        time.sleep(WARM_UP_SECONDS)
        yield answers
        if not process.is_alive():
            sys.exit("The noise ended before its time.")
    finally:
        process.terminate()
        process.join()


def measure(options: argparse.Namespace) -> list[tuple[Phase, Phase]]:
    """Alone and beside noise, as many times as asked for."""
    parts = urlsplit(options.url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    quiet, rounds = Quiet(address), []
    quiet.ask(WARM_UP_SECONDS)
    for _ in range(options.rounds):
        alone = phase(quiet.ask(options.seconds))
        with noise(address, options.connections) as answers:
            before, began = answers.value, time.perf_counter()
            times = quiet.ask(options.seconds)
            rate = (answers.value - before) / (time.perf_counter() - began)
        rounds.append((alone, phase(times, rate)))
        show(*rounds[-1])
        time.sleep(WARM_UP_SECONDS)
    return rounds


def show(alone: Phase, beside: Phase) -> None:
    """Print one line of the table."""
    print(
        f"{alone.p50:10.2f} {alone.p99:10.2f} {beside.p50:12.2f} {beside.p99:12.2f} "
        f"{beside.p50 / alone.p50:9.2f} {beside.p99 / alone.p99:9.2f} "
        f"{beside.noise_per_second:10.0f}"
    )


def middle(phases: Sequence[Phase]) -> Phase:
    """The median of each figure."""
    return Phase(
        statistics.median(each.p50 for each in phases),
        statistics.median(each.p99 for each in phases),
        statistics.median(each.noise_per_second for each in phases),
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="A quiet project beside a noisy one.")
    parser.add_argument("url", help="for example http://127.0.0.1:8888")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10, help="of each phase")
    parser.add_argument("--connections", type=int, default=64)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print each round and the medians."""
    print(
        f"{'p50 alone':>10} {'p99 alone':>10} {'p50 beside':>12} {'p99 beside':>12} "
        f"{'p50 ratio':>9} {'p99 ratio':>9} {'noise/s':>10}   ms"
    )
    rounds = measure(parse(arguments))
    print("medians:")
    show(middle([alone for alone, _ in rounds]), middle([both for _, both in rounds]))


if __name__ == "__main__":
    main(sys.argv[1:])
