"""The audit log: who did which administrative action, one JSON line each.

Nothing of what was stored or shown is in it: no metadata, no bodies, no tokens.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import msgspec
from twisted.logger import Logger

from mqsvc.access.identity import Caller
from mqsvc.clock import Now

RULES = frozenset(
    f"{resource}:{action}"
    for resource in ("queues", "topics", "subscription", "pools", "flavors")
    for action in ("create", "update", "delete", "purge", "share", "confirm")
)
"""The policy rules of the actions that are recorded."""


class AuditLog:
    """Appends to a file, which may be moved away and made anew at any time.

    :param path: the file; an empty path records nothing.
    """

    log = Logger()

    def __init__(self, path: str, now: Now) -> None:
        self._path = os.path.abspath(path) if path else ""
        self._now = now

    def keeps(self, rule: str) -> bool:
        """Whether actions under a rule are recorded."""
        return bool(self._path) and rule in RULES

    def record(
        self, caller: Caller, rule: str, target: str, status: int, request_id: str
    ) -> None:
        """Keep one action, whatever it is.

        :param target: the path of what was acted on, or its name.
        :param status: how it ended, as HTTP says it.
        """
        line = msgspec.json.encode(
            {
                "time": _timestamp(self._now()),
                "action": rule,
                "target": target,
                "status": status,
                "project": caller.project,
                "user": caller.user,
                "roles": sorted(caller.roles),
                "client_id": caller.client_id,
                "request_id": request_id,
            }
        )
        try:
            self._append(line + b"\n")
        except OSError as error:
            # The action is done and cannot be taken back.
            self.log.error("The audit log failed: {error}", error=error)

    def _append(self, line: bytes) -> None:
        # Opened each time: actions of this kind are rare, and a log that was rotated
        # needs no signal.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _timestamp(now: int) -> str:
    moment = datetime.fromtimestamp(now / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")
