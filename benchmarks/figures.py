"""What a run amounts to, and the machine that it ran on."""

from __future__ import annotations

import math
import os
import platform
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine import Tally

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Figures:
    """One run.

    :ivar unit: what was counted.
    :ivar rate: of those a second.
    :ivar milliseconds: percentiles of the time of an operation, exact.
    :ivar operations: how many these are taken from.
    :ivar seconds: how long it was measured.
    :ivar errors: answers that were not as expected; the first one is told.
    :ivar generator: microseconds of the generator's processor time for each answer.
    :ivar asked_rate: operations a second, at a fixed rate.
    :ivar server_cpu: microseconds of processor time in the server for each thing.
    """

    scenario: str
    unit: str
    rate: float
    milliseconds: dict[str, float]
    operations: int
    seconds: float
    errors: int
    first_error: str
    generator: float
    asked_rate: float | None = None
    server_cpu: float | None = None


def figures(
    scenario: str, unit: str, tally: Tally, asked_rate: float | None = None
) -> Figures:
    """Sum a run up."""
    server = tally.server_cpu
    return Figures(
        scenario,
        unit,
        round(tally.units / tally.seconds, 1) if tally.seconds else 0.0,
        percentiles(tally.times),
        len(tally.times),
        round(tally.seconds, 3),
        tally.errors,
        tally.first_error,
        round(tally.cpu * 1e6 / max(1, tally.answers), 1),
        asked_rate,
        None if server is None else round(server * 1e6 / max(1, tally.units), 1),
    )


def percentiles(times: Sequence[float] | array[float]) -> dict[str, float]:
    """The percentiles of seconds, in milliseconds; empty without any."""
    ordered = sorted(times)
    if not ordered:
        return {}
    return {
        f"p{each:g}": round(
            1000 * ordered[max(0, math.ceil(len(ordered) * each / 100) - 1)], 3
        )
        for each in PERCENTILES
    }


def machine() -> dict[str, object]:
    """What figures depend on beside the server."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.processor(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


HEADING = (
    f"{'scenario':16} {'per second':>11} {'':10} {'p50':>8} {'p90':>8} {'p99':>8} "
    f"{'p99.9':>8} {'max':>8} ms {'errors':>7} {'generator':>10} us"
)


def line(run: Figures) -> str:
    """A line under the heading."""
    times = [run.milliseconds.get(f"p{each:g}", math.nan) for each in PERCENTILES]
    name = run.scenario + (f" @{run.asked_rate:.0f}" if run.asked_rate else "")
    return (
        f"{name:16} {run.rate:11.1f} {run.unit:10} "
        + " ".join(f"{each:8.2f}" for each in times)
        + f"    {run.errors:7} {run.generator:10.1f}"
    )
