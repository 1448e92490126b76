"""Who may do what: the rules of rest.md 2.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
