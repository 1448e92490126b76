"""Does the cost of an operation grow with the backlog? See README.rst beside this.

Times single operations against a server of the messaging API v2 with more and more
messages waiting. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BATCH = 100
CLAIM_LIMIT = 20
LONGEST_CLAIM = 43200
BODY = {"event": "depth", "text": "x" * 64}


@dataclass(frozen=True)
class Figure:
    """One operation at one depth, in milliseconds."""

    operation: str
    waiting: int
    claimed: int
    median: float
    p99: float


class Client:
    """One Client-ID over one keep-alive connection."""

    def __init__(self, url: str, queue: str, project: str) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._http = kind(parts.hostname or "127.0.0.1", parts.port, timeout=120)
        self._queue = f"{parts.path.rstrip('/')}/v2/queues/{queue}"
        self._headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": project}

    def ask(self, method: str, path: str = "", body: Any = None) -> Any:
        """The decoded answer to a request under the queue; ends the run on errors."""
        content = None if body is None else json.dumps(body)
        self._http.request(method, self._queue + path, content, self._headers)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def post(self, number: int) -> list[str]:
        """Post so many messages; their ids."""
        messages = [{"ttl": 86400, "body": BODY}] * number
        answer = self.ask("POST", "/messages", {"messages": messages})
        return [href.rpartition("/")[2] for href in answer["resources"]]

    def claim(self, limit: int, ttl: int) -> str:
        """Claim so many messages; the claim's id."""
        answer = self.ask("POST", f"/claims?limit={limit}", {"ttl": ttl, "grace": 60})
        if not answer or len(answer["messages"]) != limit:
            sys.exit("A claim gave fewer messages than are waiting.")
        return str(answer["messages"][0]["href"].rpartition("=")[2])

    def delete(self, ids: Sequence[str]) -> None:
        """Delete messages by id."""
        self.ask("DELETE", f"/messages?ids={','.join(ids)}")


class Stopwatch:
    """Collects the milliseconds of what runs under :meth:`running`."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time one block."""
        begun = time.perf_counter()
        yield
        self.times.append((time.perf_counter() - begun) * 1000)


class Backlog:
    """A queue that is filled step by step, and the operations timed on it."""

    def __init__(self, url: str, project: str) -> None:
        queue = f"depth-{random.randrange(10**9)}"
        self._filler = Client(url, queue, project)
        self._poster = Client(url, queue, project)
        self._reader = Client(url, queue, project)
        self.waiting = 0
        self.claimed = 0
        self._marker = ""

    def fill(self, depth: int) -> None:
        """Post until so many messages are there."""
        missing = range(self.waiting, depth, BATCH)
        for done in progress(missing, f"filling to {depth}"):
            ids = self._filler.post(min(BATCH, depth - done))
        self._marker = ids[-min(len(ids), 20)]
        self.waiting = depth

    def claim(self, number: int) -> None:
        """Put so many messages under claims that outlast the run."""
        for _ in progress(range(0, number, CLAIM_LIMIT), f"claiming {number}"):
            self._reader.claim(CLAIM_LIMIT, LONGEST_CLAIM)
        self.claimed = number

    def remove(self) -> None:
        """Delete the queue."""
        self._filler.ask("DELETE")

    def operations(self) -> dict[str, Callable[[Stopwatch], None]]:
        """What is timed, by name."""
        end = f"/messages?limit=10&marker={self._marker}"
        return {
            "post 1": lambda watch: self._post(watch, 1),
            "post 10": lambda watch: self._post(watch, 10),
            "claim 10": self._claim,
            "list 10": lambda watch: self._get(watch, "/messages?limit=10"),
            "list 10 at the end": lambda watch: self._get(watch, end),
            "list own": self._list_own,
            "stats": lambda watch: self._get(watch, "/stats"),
        }

    def _post(self, watch: Stopwatch, number: int) -> None:
        with watch.running():
            ids = self._poster.post(number)
        self._poster.delete(ids)

    def _claim(self, watch: Stopwatch) -> None:
        with watch.running():
            claim = self._reader.claim(10, 60)
        self._reader.ask("DELETE", f"/claims/{claim}")

    def _get(self, watch: Stopwatch, path: str) -> None:
        with watch.running():
            self._reader.ask("GET", path)

    def _list_own(self, watch: Stopwatch) -> None:
        with watch.running():
            self._filler.ask("GET", "/messages?limit=10")


def progress(steps: range, what: str) -> Iterator[int]:
    """The steps, with a bar on standard error while they are gone through."""
    for number, step in enumerate(steps, start=1):
        yield step
        bar = "#" * (40 * number // len(steps))
        sys.stderr.write(f"\r{what:24} [{bar:40}]")
    sys.stderr.write("\n")


def measure(backlog: Backlog, rounds: int) -> list[Figure]:
    """Time every operation at the present depth."""
    figures = []
    for name, operation in backlog.operations().items():
        watch = Stopwatch()
        for _ in range(rounds):
            operation(watch)
        figures.append(
            Figure(
                name,
                backlog.waiting,
                backlog.claimed,
                round(statistics.median(watch.times), 3),
                round(sorted(watch.times)[int(0.99 * (rounds - 1))], 3),
            )
        )
    return figures


def ratios(figures: Sequence[Figure]) -> dict[str, float]:
    """Slowest to fastest median of each operation."""
    medians: dict[str, list[float]] = {}
    for figure in figures:
        medians.setdefault(figure.operation, []).append(figure.median)
    return {name: round(max(each) / min(each), 2) for name, each in medians.items()}


def show(figures: Sequence[Figure]) -> None:
    """Print a table of the figures, then the ratios."""
    print(
        f"{'operation':20} {'waiting':>8} {'claimed':>8} {'median':>9} {'p99':>9}  ms"
    )
    for each in sorted(figures, key=lambda figure: figure.operation):
        print(
            f"{each.operation:20} {each.waiting:8} {each.claimed:8} "
            f"{each.median:9.2f} {each.p99:9.2f}"
        )
    print("\nslowest median to fastest:")
    for name, ratio in ratios(figures).items():
        print(f"{name:20} {ratio:8.2f}")


def run(options: argparse.Namespace) -> list[Figure]:
    """Fill and measure, depth by depth, then once more with claimed messages."""
    backlog = Backlog(options.url, options.project)
    figures = []
    for depth in options.depths:
        backlog.fill(depth)
        figures += measure(backlog, options.rounds)
    if options.claimed:
        backlog.claim(options.claimed)
        figures += measure(backlog, options.rounds)
    backlog.remove()
    return figures


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time operations by backlog.")
    parser.add_argument("url", help="for example http://127.0.0.1:8888")
    parser.add_argument(
        "--depths",
        type=lambda text: sorted(int(part) for part in text.split(",")),
        default=[1000, 10_000, 100_000],
        help="messages waiting, with commas between (default: 1000,10000,100000)",
    )
    parser.add_argument("--claimed", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--project", default="benchmark")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    if options.claimed > options.depths[-1] - CLAIM_LIMIT:
        parser.error("--claimed must leave messages of the last depth free")
    return options


def main(arguments: Sequence[str]) -> None:
    """Run, print, and write JSON where asked."""
    options = parse(arguments)
    figures = run(options)
    show(figures)
    if options.json:
        report = {
            "url": options.url,
            "machine": {
                "system": platform.platform(),
                "python": sys.version.split()[0],
            },
            "rounds": options.rounds,
            "milliseconds": [asdict(figure) for figure in figures],
            "ratios": ratios(figures),
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
