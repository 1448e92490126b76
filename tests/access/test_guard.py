"""What stands around every operation: policy, quotas, turns and the audit log."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.audit import AuditLog
from mqsvc.access.gate import Gate
from mqsvc.access.guard import Action, Guard
from mqsvc.access.identity import Caller
from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.access.turns import ALONE, Turns
from mqsvc.messaging.errors import MessageDoesNotExist, NotAuthorized, QuotaExceeded
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.quotas import QuotaLimits, Quotas
from tests.messaging.stores import open_management

NOW = 1_800_000_000_000
CONNECTIONS = 100


@frozen
class Ended:
    """What an operation ends with."""

    status: int


class GuardCase(SynchronousTestCase):
    """A guard whose turns are taken when the test says so."""

    def setUp(self) -> None:
        """Make the guard."""
        self.rounds = Clock()
        self.path = Path(self.mktemp())
        self.running: list[Deferred[Any]] = []
        limits = QuotaLimits(max_connections=CONNECTIONS)
        rules = make_rules({"queues:delete": "role:admin"})
        gate = Gate(None, Policy(rules), SignedUrls(None), Limits(), lambda: NOW)
        quotas = Quotas(limits, open_management(self), Clock())
        audit = AuditLog(str(self.path), lambda: NOW)
        self.guard = Guard(gate, Turns(self.rounds), quotas, audit)

    def run_as(
        self,
        project: str,
        operation: Callable[[], Awaitable[Any]],
        rule: str = "messages:create",
        roles: frozenset[str] = frozenset(),
        is_patient: bool = False,
    ) -> Deferred[Any]:
        """Ask for an operation."""
        caller = Caller(project, "client", roles)
        action = Action(caller, rule, "/v2/queues/q", lambda: "req-1", is_patient)
        running = Deferred.fromCoroutine(self.guard.run(action, operation))
        # What nobody holds on to would end.
        self.running.append(running)
        return running

    def look(self) -> None:
        """The reactor has looked at its connections."""
        for call in self.rounds.getDelayedCalls():
            serve = call.func
            call.cancel()
            serve()

    def statuses(self) -> list[int]:
        """How the actions in the audit log ended."""
        if not self.path.exists():
            return []
        return [
            json.loads(line)["status"] for line in self.path.read_text().splitlines()
        ]

    @contextmanager
    def nothing_left(self) -> Iterator[None]:
        """Fail unless the project is as free afterwards as before."""
        yield
        waiting = [self.run_as("p", Deferred[None]) for _ in range(CONNECTIONS)]
        self.failureResultOf(self.run_as("p", Deferred[None]), QuotaExceeded)
        for _ in range(CONNECTIONS):
            self.look()
        for one in waiting:
            one.addErrback(lambda _: None)
            one.cancel()


class RunTests(GuardCase):
    """One operation."""

    def test_result(self) -> None:
        """What the operation gives is what the caller gets."""
        with self.nothing_left():
            done = self.run_as("p", lambda: succeed("result"))
            self.assertEqual(self.successResultOf(done), "result")

    def test_policy(self) -> None:
        """What the policy is against is not begun."""
        begun: list[str] = []

        def operation() -> Deferred[Ended]:
            begun.append("begun")
            return succeed(Ended(204))

        with self.nothing_left():
            refused = self.run_as("p", operation, "queues:delete")
            self.failureResultOf(refused, NotAuthorized)
        self.assertEqual(begun, [])
        roles = frozenset({"admin"})
        self.successResultOf(self.run_as("p", operation, "queues:delete", roles))
        self.successResultOf(self.run_as("p", operation, ""))
        self.assertEqual(len(begun), 2)

    def test_failure(self) -> None:
        """An operation that fails is over all the same."""

        async def fail() -> None:
            raise MessageDoesNotExist

        with self.nothing_left():
            for is_patient in (False, True):
                failing = self.run_as("p", fail, is_patient=is_patient)
                self.failureResultOf(failing, MessageDoesNotExist)

    def test_hung_up(self) -> None:
        """An operation whose caller hangs up is cancelled, and over."""
        cancelled: list[str] = []
        with self.nothing_left():
            for is_patient in (False, True):
                operation: Deferred[None] = Deferred(lambda _: cancelled.append("yes"))
                running = self.run_as("p", lambda o=operation: o, is_patient=is_patient)
                running.cancel()
                self.failureResultOf(running, CancelledError)
        self.assertEqual(cancelled, ["yes", "yes"])

    def test_hung_up_in_line(self) -> None:
        """Who hangs up before the turn came has begun nothing."""
        begun: list[str] = []

        def operation() -> Deferred[None]:
            begun.append("begun")
            return succeed(None)

        with self.nothing_left():
            for _ in range(ALONE.starts):
                self.successResultOf(self.run_as("p", operation))
            waiting = self.run_as("p", operation)
            self.assertNoResult(waiting)
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(begun), ALONE.starts)


class TurnTests(GuardCase):
    """Operations of several projects."""

    def test_quiet_beside_loud(self) -> None:
        """A quiet project begins at the next look, whatever the other one has."""
        for _ in range(CONNECTIONS):
            self.run_as("loud", Deferred[None])
        quiet = self.run_as("quiet", lambda: succeed("served"))
        self.assertNoResult(quiet)
        self.look()
        self.assertEqual(self.successResultOf(quiet), "served")

    def test_patient(self) -> None:
        """Operations that wait for something keep the others of the project going."""
        for _ in range(ALONE.running + 1):
            self.run_as("p", Deferred[None], is_patient=True)
            self.look()
        done = self.run_as("p", lambda: succeed("served"))
        self.look()
        self.assertEqual(self.successResultOf(done), "served")

    def test_impatient(self) -> None:
        """Operations that do not wait hold up those behind them."""
        for _ in range(ALONE.running):
            self.run_as("p", Deferred[None])
            self.look()
        done = self.run_as("p", lambda: succeed("served"))
        self.look()
        self.assertNoResult(done)


class AuditTests(GuardCase):
    """What the audit log says of how it ended."""

    def test_endings(self) -> None:
        """Done, refused, failed, hung up, and broken."""
        rule = "queues:create"

        async def refuse() -> None:
            raise MessageDoesNotExist

        async def break_down() -> None:
            raise ZeroDivisionError

        for status in (200, 201, 204):
            self.run_as("p", lambda status=status: succeed(Ended(status)), rule)
        self.failureResultOf(self.run_as("p", refuse, rule), MessageDoesNotExist)
        self.failureResultOf(self.run_as("p", refuse, "queues:delete"), NotAuthorized)
        self.failureResultOf(self.run_as("p", break_down, rule), ZeroDivisionError)
        hung_up = self.run_as("p", Deferred[None], rule)
        self.assertEqual(self.statuses(), [200, 201, 204, 404, 403, 500])
        hung_up.cancel()
        self.failureResultOf(hung_up, CancelledError)
        self.assertEqual(self.statuses()[6:], [499])

    def test_quota(self) -> None:
        """What a quota is against is recorded, too."""
        for _ in range(CONNECTIONS):
            self.run_as("p", Deferred[None])
        refused = self.run_as("p", lambda: succeed(None), "queues:create")
        self.failureResultOf(refused, QuotaExceeded)
        self.assertEqual(self.statuses(), [429])

    def test_use_is_not_recorded(self) -> None:
        """Messages that come and go are no matter of the audit log."""
        for rule in ("messages:create", "queues:get", ""):
            self.successResultOf(self.run_as("p", lambda: succeed(None), rule))
        self.assertEqual(self.statuses(), [])
