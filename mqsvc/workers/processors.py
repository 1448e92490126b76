"""Which processor a worker runs on, where there is one for each."""

from __future__ import annotations

import os
from collections.abc import Collection


def own_processor(number: int, workers: int, usable: Collection[int]) -> int | None:
    """The processor of a worker; none where the system is to decide.

    Python runs one thread of a process at a time. Where these move from processor to
    processor, each has to fetch what the others left in the cache, and is woken from
    farther away. With more workers or fewer there would be busy and idle processors.

    :param number: of the worker, from 0.
    :param usable: those that this process may use.
    """
    if len(usable) != workers:
        return None
    return sorted(usable)[number]


def stay_on_own_processor(number: int, workers: int) -> None:
    """Keep this process on its processor; threads that begin later, too.

    Does nothing on systems that cannot.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    processor = own_processor(number, workers, os.sched_getaffinity(0))
    if processor is not None:
        os.sched_setaffinity(0, {processor})
