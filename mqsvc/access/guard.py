"""Every operation that a caller asks for runs through here, whatever the transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from attrs import frozen
from msgspec import Struct
from twisted.internet.defer import CancelledError

from mqsvc.access.audit import AuditLog
from mqsvc.access.gate import Gate
from mqsvc.access.identity import Caller
from mqsvc.access.turns import Turns
from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.quotas import Quotas


class Answered(Protocol):
    """What an operation ends with, where it does not fail."""

    @property
    def status(self) -> int:
        """How it ended, as the transport says it."""


Result = TypeVar("Result", bound=Answered)


class Action(Struct, frozen=True):
    """Something that a caller asks for.

    :ivar rule: of the policy; empty is what everybody may do.
    :ivar target: the path or name of what is acted on.
    :ivar request_id: gives the id under which the log knows the request.
    :ivar is_patient: whether it may last for long while there is nothing to do.
    """

    caller: Caller
    rule: str
    target: str
    request_id: Callable[[], str]
    is_patient: bool = False


@frozen
class Guard:
    """Policy, quotas, turns and the audit log, around each operation."""

    gate: Gate
    turns: Turns
    quotas: Quotas
    audit: AuditLog

    def run(
        self, action: Action, operation: Callable[[], Awaitable[Result]]
    ) -> Coroutine[Any, Any, Result]:
        """Run an operation for a caller who may, when it is the project's turn.

        :raise NotAuthorized: the policy is against it.
        :raise QuotaExceeded: the project has too many connections at work.
        """
        is_kept = self.audit.keeps(action.rule)
        return (self._run_on_record if is_kept else self._run)(action, operation)

    async def _run_on_record(
        self, action: Action, operation: Callable[[], Awaitable[Result]]
    ) -> Result:
        status = 500
        try:
            result = await self._run(action, operation)
            status = result.status
        except MessagingError as error:
            status = error.status
            raise
        except CancelledError:
            # The client hung up: it is done or not.
            status = 499
            raise
        finally:
            self.audit.record(
                action.caller, action.rule, action.target, status, action.request_id()
            )
        return result

    async def _run(
        self, action: Action, operation: Callable[[], Awaitable[Result]]
    ) -> Result:
        if action.rule:
            self.gate.allow(action.caller, action.rule)
        project, turns = action.caller.project, self.turns
        self.quotas.connect(project)
        try:
            if not turns.may_begin(project):
                await turns.wait(project)
            if action.is_patient:
                # It has begun in its turn, and is not to keep others from theirs.
                turns.leave(project)
                return await operation()
            try:
                return await operation()
            finally:
                turns.leave(project)
        finally:
            self.quotas.disconnect(project)
