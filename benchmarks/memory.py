"""Does memory grow with the messages? Posts many, and reads what is resident.

Starts a server of its own, in a directory that is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import settle
from benchmarks.connections import Refused
from benchmarks.engine import Run
from benchmarks.figures import machine
from benchmarks.scenarios import SMALL, Post, Scenario
from benchmarks.servers import Mqsvc, Server

LONGEST_RUN = 300.0


def mebibytes(server: Server) -> list[float]:
    """What each process of a server has resident."""
    return [round(size / 2**20, 1) for size in server.resident()]


def measure(
    server: Server, scenario: Scenario, most: int, seconds: float
) -> dict[str, object]:
    """Post so often, or for so long."""
    # Workers still start when the first of them serves.
    settle([server])
    before = mebibytes(server)
    scenario.create()
    tally = Run(scenario.roles(None)).measure(seconds, 0.0, most=most)
    settle([server])
    return {
        "before": before,
        "after": mebibytes(server),
        "messages": scenario.queue.depth(),
        "seconds": round(tally.seconds, 1),
        "errors": tally.errors,
        "first_error": tally.first_error,
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Post many messages and read how much memory the server has.",
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=LONGEST_RUN, help="at most")
    parser.add_argument("--batch", type=int, default=100, help="messages in a post")
    parser.add_argument("--size", type=int, default=SMALL, help="bytes of a body")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--directory", type=Path, help="where data is kept meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run, print, write what was asked for; 1 if anything was answered wrongly."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory(dir=options.directory) as path:
        server = Mqsvc(Path(path) / "mqsvc", options.workers)
        try:
            server.start()
            scenario = Post(server.target(), options.batch, options.size)
            most = options.messages // options.batch
            result = measure(server, scenario, most, options.seconds)
        finally:
            server.stop()
    print(
        f"{result['messages']} messages in {result['seconds']} s; MiB of each process"
    )
    print(f"before {result['before']}\nafter  {result['after']}")
    if options.json:
        report = {"machine": machine(), **result}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if result["errors"]:
        print(f"{result['errors']} errors; the first: {result['first_error']}")
    return int(bool(result["errors"]))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, OSError) as problem:
        sys.exit(str(problem))
