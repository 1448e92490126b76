"""Compares servers on one machine: the reference, and mqsvc in several shapes.

All are started, and then measured in turn, round by round, so that what else the
machine does falls on all of them. README.rst beside this says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.chart import chart
from benchmarks.connections import Refused
from benchmarks.engine import Run
from benchmarks.figures import Figures, figures, machine
from benchmarks.load import SCENARIOS, created
from benchmarks.scenarios import Scenario
from benchmarks.servers import Server, default_venv, shapes

DEFAULT_SCENARIOS = [
    name for name in SCENARIOS if name not in ("list-100k", "list-behind-20k")
]
LONGEST_AFTERMATH = 60.0
LOOK_SECONDS = 0.2
BUSY_SHARE = 0.2
"""Of a core, that servers at rest need together at most."""


@dataclass(frozen=True)
class Compared:
    """A server in a scenario: medians over the rounds.

    :ivar ratio: its rate to the reference's.
    """

    scenario: str
    server: str
    unit: str
    rate: float
    ratio: float | None
    p50: float | None
    p99: float | None
    server_cpu: float
    errors: int
    runs: list[Figures]


HEADING = (
    f"{'scenario':16} {'server':12} {'per second':>11} {'':10} {'ratio':>7} "
    f"{'p50 ms':>8} {'p99 ms':>8} {'server us':>10} {'errors':>6}"
)


def line(each: Compared) -> str:
    """A line under the heading."""
    ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
    times = ["" if time is None else f"{time:.2f}" for time in (each.p50, each.p99)]
    return (
        f"{each.scenario:16} {each.server:12} {each.rate:11.1f} {each.unit:10} "
        f"{ratio:>7} {times[0]:>8} {times[1]:>8} {each.server_cpu:10.1f} "
        f"{each.errors:6}"
    )


@contextmanager
def started(options: argparse.Namespace) -> Iterator[dict[str, Server]]:
    """The chosen servers, running, by name."""
    known = shapes(options.reference, options.workers)
    with (
        tempfile.TemporaryDirectory(prefix="compare-", dir=options.directory) as path,
        ExitStack() as stack,
    ):
        servers = {}
        for name in options.servers:
            server = servers[name] = known[name](Path(path) / name)
            stack.callback(server.stop)
            server.start()
        yield servers


def compare(
    scenario: str, servers: dict[str, Server], options: argparse.Namespace
) -> list[Compared]:
    """Measure one scenario on all servers that can do it."""
    runs: dict[str, list[Figures]] = {}
    with ExitStack() as stack:
        prepared = {
            name: stack.enter_context(created(scenario, server.target()))
            for name, server in servers.items()
            if server.can(scenario)
        }
        for _ in range(options.rounds):
            for name, each in prepared.items():
                each.prepare()
                settle(servers.values())
                run = _run(scenario, each, servers[name], options.seconds)
                runs.setdefault(name, []).append(run)
    rates = {
        name: statistics.median(run.rate for run in each) for name, each in runs.items()
    }
    base = rates.get(options.base)
    return [
        _summed_up(name, each, rates[name] / base if base else None)
        for name, each in runs.items()
    ]


def settle(servers: Collection[Server]) -> None:
    """Return when no server works any more on what it was asked before.

    One that is slow goes on after its clients have left, and would slow the next one.
    """
    deadline = time.monotonic() + LONGEST_AFTERMATH
    burnt, is_busy = _burnt(servers), True
    while is_busy and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        before, burnt = burnt, _burnt(servers)
        is_busy = burnt - before > BUSY_SHARE * LOOK_SECONDS


def _burnt(servers: Collection[Server]) -> float:
    return sum(each.cpu() for each in servers)


def _run(name: str, scenario: Scenario, server: Server, seconds: float) -> Figures:
    run = Run(scenario.roles(None))
    tally = run.measure(seconds, scenario.warm_up, server.cpu)
    return figures(name, scenario.unit, tally)


def _summed_up(server: str, runs: list[Figures], ratio: float | None) -> Compared:
    first = runs[0]
    return Compared(
        first.scenario,
        server,
        first.unit,
        statistics.median(run.rate for run in runs),
        ratio,
        _median_time("p50", runs),
        _median_time("p99", runs),
        statistics.median(run.server_cpu or 0.0 for run in runs),
        sum(run.errors for run in runs),
        runs,
    )


def _median_time(name: str, runs: list[Figures]) -> float | None:
    times = [run.milliseconds[name] for run in runs if run.milliseconds]
    return statistics.median(times) if times else None


def ratio_chart(results: Sequence[Compared], base: str) -> str:
    """The ratios of all servers but the one that is compared with."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for each in results:
        if each.ratio and each.server != base:
            label = f"{each.server}: {each.rate:.0f} {each.unit}/s"
            groups.setdefault(each.scenario, []).append((label, round(each.ratio, 2)))
    return chart(f"Times as many as {base}", groups)


def table(results: Sequence[Compared]) -> str:
    """The rates and ratios as a table in reStructuredText."""
    names = list(dict.fromkeys(each.server for each in results))
    rows = [["", *names]]
    for scenario in dict.fromkeys(each.scenario for each in results):
        cells = {each.server: each for each in results if each.scenario == scenario}
        rows.append([scenario, *(_cell(cells.get(name)) for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    # A first cell that is empty would join the row to the one above it.
    rows[0][0] = "\\"
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _cell(each: Compared | None) -> str:
    if each is None:
        return "\\-"
    ratio = "" if each.ratio in (None, 1.0) else f" ({each.ratio:.1f}x)"
    return f"{each.rate:,.{0 if each.rate >= 10 else 1}f}{ratio}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Compare servers of the messaging API v2 on this machine.",
    )
    parser.add_argument(
        "--reference",
        default=default_venv(),
        help="the virtual environment of the reference (MQSVC_REFERENCE_VENV)",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--servers",
        type=lambda text: text.split(","),
        default=list(shapes("", 1)),
        help="default: " + ",".join(shapes("", 1)),
    )
    parser.add_argument("--base", default="reference", help="whom ratios refer to")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--directory", type=Path, help="where data is kept meanwhile")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--chart", type=Path, help="draw the ratios here, as SVG")
    parser.add_argument("scenario", nargs="*", default=DEFAULT_SCENARIOS)
    options = parser.parse_intermixed_args(arguments)
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if unknown := set(options.servers) - set(shapes("", 1)):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if "reference" in options.servers and not options.reference:
        parser.error("--reference is missing; or leave it out of --servers")
    return options


def main(arguments: Sequence[str]) -> int:
    """Run, print, write what was asked for; 1 if anything was answered wrongly."""
    options = parse(arguments)
    results: list[Compared] = []
    with started(options) as servers:
        print(HEADING)
        for scenario in options.scenario:
            for each in compare(scenario, servers, options):
                results.append(each)
                print(line(each), flush=True)
                _show_error(each)
    print("\n" + table(results))
    if options.json:
        report = {"machine": machine(), "results": [*map(asdict, results)]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.chart:
        options.chart.write_text(ratio_chart(results, options.base), encoding="utf-8")
    return int(any(each.errors or not each.rate for each in results))


def _show_error(each: Compared) -> None:
    if told := [run.first_error for run in each.runs if run.errors]:
        print(f"  the first error: {told[0]}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, OSError) as problem:
        sys.exit(str(problem))
