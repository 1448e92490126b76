"""How far it is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

Advance = Callable[[int], object]
"""Told how many more messages are done."""


def is_watched() -> bool:
    """Whether somebody sees the progress."""
    return sys.stderr.isatty()


@contextmanager
def shown_progress(title: str, total: int | None) -> Iterator[Advance]:
    """A bar on a terminal, and nothing elsewhere.

    :param total: how many messages there are.
    """
    with tqdm(
        desc=title,
        total=total,
        unit=" messages",
        file=sys.stderr,
        disable=not is_watched(),
    ) as bar:
        yield bar.update
