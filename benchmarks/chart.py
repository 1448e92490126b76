"""Charts as SVG, of bars on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.figures import PERCENTILES, Figures

WIDTH = 900
LABEL_WIDTH = 190
ROW = 18
COLOURS = ("#1b6ca8", "#58a55c", "#e0a030", "#c8553d", "#7d4f9e")

Bar = tuple[str, float]
"""What it is, and how much."""


def latency_chart(runs: Sequence[Figures]) -> str:
    """The percentiles of each run."""
    names = [f"p{each:g}" for each in PERCENTILES]
    groups = {
        run.scenario + (f" @{run.asked_rate:.0f}" if run.asked_rate else ""): [
            (name, run.milliseconds[name]) for name in names if run.milliseconds
        ]
        for run in runs
    }
    return chart("Milliseconds of an operation", groups)


def chart(title: str, groups: dict[str, list[Bar]]) -> str:
    """Groups of bars, one below the other, on one scale."""
    values = [value for bars in groups.values() for _, value in bars if value > 0]
    if not values:
        return chart(title, {"nothing was measured": [("", 1.0)]})
    low = 10 ** math.floor(math.log10(min(values)) - 0.01)
    span = math.log10(max(values) / low) or 1.0
    rows: list[str] = []
    y = 3 * ROW
    for name, bars in groups.items():
        rows.append(_text(4, y, name))
        for number, (label, value) in enumerate(bars):
            length = (WIDTH - LABEL_WIDTH - 160) * math.log10(max(value, low) / low)
            rows.append(_bar(y, length / span, COLOURS[number % len(COLOURS)]))
            rows.append(_text(LABEL_WIDTH + length / span + 6, y, f"{value:g} {label}"))
            y += ROW
        y += ROW // 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>\n'
        + "\n".join([_text(4, ROW, f"{title} (logarithmic)"), *rows])
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y}">{escape(text)}</text>'


def _bar(y: float, length: float, colour: str) -> str:
    return (
        f'<rect x="{LABEL_WIDTH}" y="{y - 11}" width="{max(length, 1):.0f}" '
        f'height="13" fill="{colour}"/>'
    )
