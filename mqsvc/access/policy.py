"""Who may do what: the rules of rest.md 2.2, and the file that overrides them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from twisted.application.internet import TimerService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mqsvc.access.identity import Caller
from mqsvc.access.policy_rules import (
    PolicyError,
    Rules,
    check_references,
    everybody,
    named,
    parse_rule,
)
from mqsvc.messaging.errors import NotAuthorized

RELOAD_SECONDS = 2.0
"""How often the file is looked at."""

_EVERYBODY = (
    *("queues:get_all", "queues:create", "queues:get", "queues:update"),
    *("queues:delete", "queues:stats", "queues:share", "queues:purge"),
    *("messages:get_all", "messages:create", "messages:get", "messages:delete"),
    *("messages:delete_all", "claims:create", "claims:get", "claims:update"),
    *("claims:delete", "subscription:get_all", "subscription:create"),
    *("subscription:get", "subscription:update", "subscription:delete"),
    *("subscription:confirm", "topics:get_all", "topics:create", "topics:get"),
    *("topics:update", "topics:delete", "topics:stats", "topics:purge", "ping:get"),
    *("flavors:get_all", "flavors:get"),
)
_ADMINISTRATORS = (
    *("health:get", "pools:get_all", "pools:create", "pools:get", "pools:update"),
    *("pools:delete", "flavors:create", "flavors:update", "flavors:delete"),
)

DEFAULT_RULES: Mapping[str, str] = {
    "context_is_admin": "role:admin",
    "admin_or_owner": "is_admin:True or project_id:%(project_id)s",
    **dict.fromkeys(_EVERYBODY, ""),
    **dict.fromkeys(_ADMINISTRATORS, "role:admin"),
}


class Policy:
    """The rules in force."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._is_admin = named("context_is_admin")

    def replace(self, rules: Rules) -> None:
        """Let other rules be in force from now on."""
        self._rules = rules

    def check(self, caller: Caller, rule: str) -> None:
        """Let a caller pass who may do what a rule is about, in the caller's project.

        :raise NotAuthorized: the rule does not hold.
        """
        if self._rules.get(rule) is everybody:
            return
        target = {"project_id": caller.project, "user_id": caller.user or ""}
        credentials: dict[str, Any] = {
            "project_id": caller.project,
            "tenant": caller.project,
            "user_id": caller.user,
            "roles": caller.roles,
            "is_admin": False,
        }
        if self._is_admin(credentials, target, self._rules):
            credentials["is_admin"] = True
        if not named(rule)(credentials, target, self._rules):
            raise NotAuthorized(f"The policy {rule!r} does not allow this.")


def make_rules(overrides: Mapping[str, Any]) -> Rules:
    """All rules, with some in the place of their defaults.

    :raise PolicyError: one cannot be understood.
    """
    written = {**DEFAULT_RULES, **overrides}
    check_references(written)
    return {name: _parsed(name, rule) for name, rule in written.items()}


def _parsed(name: str, rule: Any) -> Any:
    try:
        return parse_rule(rule)
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from error


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
