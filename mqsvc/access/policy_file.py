"""The file whose rules take the place of the defaults, and its changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import yaml
from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.access.policy import Policy, make_rules
from mqsvc.access.policy_rules import PolicyError, Rules

RELOAD_SECONDS = 2.0
"""How often the file is looked at."""


def read_rules(path: str) -> Rules:
    """The rules with those of a YAML (or JSON) file in the place of defaults.

    :raise PolicyError: it cannot be read, or a rule in it cannot be understood.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise PolicyError(f"{path} cannot be read: {reason}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict) or not all(isinstance(k, str) for k in document):
        raise PolicyError(f"{path}: expected rules by name, like 'queues:create': ''")
    try:
        return make_rules(document)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from error


class PolicyFile(TimerService):
    """Follows the changes of a policy file; one that is broken is kept out."""

    log = Logger()

    def __init__(
        self,
        path: str,
        policy: Policy,
        clock: IReactorTime,
        in_thread: Callable[..., Deferred[Any]],
    ) -> None:
        super().__init__(RELOAD_SECONDS, self.look)
        self.clock = clock
        self._path = path
        self._policy = policy
        self._in_thread = in_thread
        self._seen = _state(path)

    async def look(self) -> None:
        """Read the file again if it changed."""
        try:
            await self._look()
        except PolicyError as error:
            self.log.error("The policy stays as it was: {error}", error=error)

    async def _look(self) -> None:
        seen = await self._in_thread(_state, self._path)
        if seen == self._seen:
            return
        self._seen = seen
        self._policy.replace(await self._in_thread(read_rules, self._path))
        self.log.info("The policy was read again from {path}", path=self._path)


def _state(path: str) -> tuple[int, ...]:
    """What tells one content of a file from another; empty where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino)
