"""Targets that fail again and again are left alone for a while.

After some failures in a row a host rests. When the rest is over one notification is
let through to try it; if that fails, too, the next rest is twice as long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define
from twisted.internet.interfaces import IReactorTime

FAILURES = 5
"""In a row, after which a host rests."""

FIRST_REST = 60.0
LONGEST_REST = 600.0
"""Seconds."""

MOST_DOUBTFUL = 100
"""Attempts at a time at hosts that failed the last time: each may take long."""

DOUBTFUL_REST = 5.0
"""Seconds after which such an attempt comes again when there are too many."""

MAX_HOSTS = 10_000
"""Hosts with failures that are remembered."""


@define
class _Record:
    """What is known of a host that failed.

    :ivar rest: seconds of its last rest; 0 before the first one.
    :ivar until: seconds of the clock; nobody is let through before.
    :ivar is_tried: whether one was let through after the rest.
    """

    failures: int = 0
    rest: float = 0.0
    until: float = 0.0
    is_tried: bool = False


class Breaker:
    """Which hosts rest. A host is any text, such as ``https://example.org:443``.

    An attempt may have several: the host for everybody, and that of one project.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._doubtful = 0

    def wait(self, *hosts: str) -> float:
        """Seconds until all hosts are worth an attempt; 0 lets the caller through.

        Who is let through to a host that rested is alone there until the outcome is
        told, or for as long as the last rest if it never is.
        """
        records = [self._records[host] for host in hosts if host in self._records]
        if records and self._doubtful >= MOST_DOUBTFUL:
            return DOUBTFUL_REST
        rested = [record for record in records if record.rest]
        now = self._clock.seconds()
        rest = max((record.until - now for record in rested), default=0.0)
        if rest > 0:
            return rest
        for record in rested:
            record.until = now + record.rest
            record.is_tried = True
        return 0.0

    @contextmanager
    def trying(self, *hosts: str) -> Iterator[None]:
        """The time of an attempt."""
        is_doubtful = any(host in self._records for host in hosts)
        self._doubtful += is_doubtful
        try:
            yield
        finally:
            self._doubtful -= is_doubtful

    def succeeded(self, host: str) -> None:
        """An attempt reached the host."""
        self._records.pop(host, None)

    def failed(self, host: str) -> None:
        """An attempt did not reach the host, or found it broken."""
        record = self._records.setdefault(host, _Record())
        self._records.move_to_end(host)
        if len(self._records) > MAX_HOSTS:
            self._records.popitem(last=False)
        record.failures += 1
        # What was on its way when a rest began says nothing new.
        if record.is_tried or record.failures == FAILURES:
            self._rest(record)

    def _rest(self, record: _Record) -> None:
        record.rest = min(record.rest * 2 or FIRST_REST, LONGEST_REST)
        record.until = self._clock.seconds() + record.rest
        record.is_tried = False
