"""Measures a server of the messaging API v2 from outside; README.rst says how.

Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.chart import latency_chart
from benchmarks.connections import Refused
from benchmarks.engine import Run, Tally
from benchmarks.figures import HEADING, Figures, figures, line, machine
from benchmarks.scenarios import HTTP_SCENARIOS, Make, Scenario, Target
from benchmarks.websocket_scenarios import WEBSOCKET_SCENARIOS

SCENARIOS: dict[str, Make] = {**HTTP_SCENARIOS, **WEBSOCKET_SCENARIOS}


def run_once(scenario: Scenario, seconds: float, rate: float | None = None) -> Tally:
    """Prepare a scenario that was created, and run it."""
    scenario.prepare()
    return Run(scenario.roles(rate)).measure(seconds, scenario.warm_up)


@contextmanager
def created(name: str, target: Target) -> Iterator[Scenario]:
    """A scenario whose queue exists meanwhile."""
    scenario = SCENARIOS[name](target)
    scenario.create()
    try:
        yield scenario
    finally:
        scenario.remove()


def measure(name: str, target: Target, options: argparse.Namespace) -> list[Figures]:
    """The figures of one scenario, printed as they come."""
    with created(name, target) as scenario:
        rate = options.rate if scenario.is_paced else None
        runs = [_run(scenario, name, options.seconds, rate)]
        if options.share and scenario.is_paced and runs[0].operations:
            highest = runs[0].operations / (runs[0].seconds or 1.0)
            runs.append(_run(scenario, name, options.seconds, options.share * highest))
    return runs


def _run(scenario: Scenario, name: str, seconds: float, rate: float | None) -> Figures:
    run = figures(name, scenario.unit, run_once(scenario, seconds, rate), rate)
    print(line(run), flush=True)
    if run.errors:
        print(f"  the first error: {run.first_error}")
    return run


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description="Measure a server of the messaging API v2.",
        epilog="Scenarios: " + ", ".join(SCENARIOS),
    )
    parser.add_argument("url", help="for example http://127.0.0.1:8888")
    parser.add_argument("scenario", nargs="*", help="default: all that are possible")
    parser.add_argument("--websocket", default="", help="ws://127.0.0.1:9000/")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument(
        "--rate", type=float, help="operations a second, instead of as many as possible"
    )
    parser.add_argument(
        "--share",
        type=float,
        help="run again at this share of the highest rate, for example 0.5",
    )
    parser.add_argument("--claim-limit", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--chart", type=Path, help="draw the times here, as SVG")
    options = parser.parse_intermixed_args(arguments)
    if unknown := set(options.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if not options.websocket and set(options.scenario) & set(WEBSOCKET_SCENARIOS):
        parser.error("the WebSocket scenarios need --websocket")
    if not options.scenario:
        options.scenario = list(SCENARIOS if options.websocket else HTTP_SCENARIOS)
    return options


def main(arguments: Sequence[str]) -> int:
    """Run, print, write what was asked for; 1 if anything was answered wrongly."""
    options = parse(arguments)
    target = Target(
        options.url, options.websocket, options.connections, options.claim_limit
    )
    print(HEADING)
    runs = [run for name in options.scenario for run in measure(name, target, options)]
    if options.json:
        report = {
            "machine": machine(),
            "url": options.url,
            "runs": [*map(asdict, runs)],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.chart:
        options.chart.write_text(latency_chart(runs), encoding="utf-8")
    return int(any(run.errors or not run.operations for run in runs))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Refused, OSError) as problem:
        sys.exit(str(problem))
