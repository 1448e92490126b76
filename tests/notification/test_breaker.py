"""Hosts that fail are left alone for a while."""

from __future__ import annotations

from contextlib import ExitStack

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.notification.breaker import (
    DOUBTFUL_REST,
    FAILURES,
    FIRST_REST,
    LONGEST_REST,
    MAX_HOSTS,
    MOST_DOUBTFUL,
    Breaker,
)

HOST = "https://a.example:443"


class BreakerTests(SynchronousTestCase):
    """One host, and others beside it."""

    def setUp(self) -> None:
        """Begin with no failures."""
        self.clock = Clock()
        self.breaker = Breaker(self.clock)

    def fail(self, times: int = FAILURES, host: str = HOST) -> None:  # type: ignore[override]
        """Let attempts at a host fail."""
        for _ in range(times):
            self.breaker.failed(host)

    def test_doubtful(self) -> None:
        """Only so many attempts are made at a time at hosts that failed before."""
        hosts = [f"https://{number}.example" for number in range(MOST_DOUBTFUL + 1)]
        for host in hosts:
            self.fail(1, host)
        with ExitStack() as under_way:
            for host in hosts[:-1]:
                self.assertEqual(0, self.breaker.wait(host))
                under_way.enter_context(self.breaker.trying(host))
            self.assertEqual(DOUBTFUL_REST, self.breaker.wait(hosts[-1]))
            self.assertEqual(0, self.breaker.wait(HOST))
        self.assertEqual(0, self.breaker.wait(hosts[-1]))

    def test_few_failures(self) -> None:
        """Less than the bound of failures in a row do nothing."""
        for _ in range(3):
            self.fail(FAILURES - 1)
            self.assertEqual(0, self.breaker.wait(HOST))
            self.breaker.succeeded(HOST)

    def test_rest(self) -> None:
        """The bound of failures begins a rest, for this host only."""
        self.fail()
        self.assertEqual(FIRST_REST, self.breaker.wait(HOST))
        self.clock.advance(FIRST_REST - 1)
        self.assertEqual(1, self.breaker.wait(HOST))
        self.assertEqual(0, self.breaker.wait("https://b.example:443"))

    def test_one_is_let_through(self) -> None:
        """After the rest one may try, the next ones wait for what comes of it."""
        self.fail()
        self.clock.advance(FIRST_REST)
        self.assertEqual(0, self.breaker.wait(HOST))
        self.assertEqual(FIRST_REST, self.breaker.wait(HOST))
        self.breaker.succeeded(HOST)
        self.assertEqual([0, 0], [self.breaker.wait(HOST) for _ in range(2)])

    def test_longer_rests(self) -> None:
        """Each failed try doubles the rest, up to a bound."""
        self.fail()
        rest = FIRST_REST
        for _ in range(6):
            self.clock.advance(rest)
            self.assertEqual(0, self.breaker.wait(HOST))
            self.breaker.failed(HOST)
            rest = min(rest * 2, LONGEST_REST)
            self.assertEqual(rest, self.breaker.wait(HOST))
        self.assertEqual(LONGEST_REST, rest)

    def test_stragglers(self) -> None:
        """Attempts that were under way when the rest began do not prolong it."""
        self.fail(FAILURES + 20)
        self.assertEqual(FIRST_REST, self.breaker.wait(HOST))

    def test_straggling_success(self) -> None:
        """One of them that succeeds ends the rest."""
        self.fail()
        self.breaker.succeeded(HOST)
        self.assertEqual(0, self.breaker.wait(HOST))

    def test_lost_try(self) -> None:
        """A try whose outcome is never told does not close the host for ever."""
        self.fail()
        for _ in range(3):
            self.clock.advance(FIRST_REST)
            self.assertEqual(0, self.breaker.wait(HOST))

    def test_several(self) -> None:
        """An attempt waits for all of its hosts, and no try is lost before."""
        self.fail(host="own")
        self.clock.advance(1)
        self.fail()
        self.clock.advance(FIRST_REST - 1)
        self.assertEqual(1, self.breaker.wait(HOST, "own"))
        self.clock.advance(1)
        self.assertEqual(0, self.breaker.wait(HOST, "own"))
        self.assertEqual(FIRST_REST, self.breaker.wait("own"))

    def test_bounded(self) -> None:
        """Of very many hosts the one that failed longest ago is forgotten."""
        self.fail()
        for number in range(MAX_HOSTS - 1):
            self.breaker.failed(f"host-{number}")
        self.assertGreater(self.breaker.wait(HOST), 0)
        self.breaker.failed("one more")
        self.assertEqual(0, self.breaker.wait(HOST))
