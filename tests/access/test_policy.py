"""The rules in force, and the file that changes them."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.identity import Caller
from mqsvc.access.policy import DEFAULT_RULES, Policy, make_rules
from mqsvc.access.policy_file import RELOAD_SECONDS, PolicyFile, read_rules
from mqsvc.access.policy_rules import PolicyError
from mqsvc.messaging.errors import NotAuthorized

MEMBER = Caller("p1", "c", frozenset({"member"}), "u1")
ADMIN = Caller("p1", "c", frozenset({"admin"}), "u2")
READER = Caller("p1", "c", frozenset({"reader"}), "u3")


def may(policy: Policy, caller: Caller, rule: str) -> bool:
    """Whether a policy lets a caller pass."""
    try:
        policy.check(caller, rule)
    except NotAuthorized:
        return False
    return True


class DefaultTests(SynchronousTestCase):
    """Without a file."""

    def test_everybody(self) -> None:
        """All may use queues, messages, claims, subscriptions and topics."""
        policy = Policy(make_rules({}))
        for rule, text in DEFAULT_RULES.items():
            if not text:
                self.assertTrue(may(policy, MEMBER, rule), rule)

    def test_administrators(self) -> None:
        """Only administrators may see the health and change pools and flavors."""
        policy = Policy(make_rules({}))
        for rule in ("health:get", "pools:create", "pools:get_all", "flavors:delete"):
            self.assertFalse(may(policy, MEMBER, rule), rule)
            self.assertTrue(may(policy, ADMIN, rule), rule)

    def test_helpers(self) -> None:
        """The helper rules can be used by others."""
        owner = make_rules({"queues:get": "rule:admin_or_owner"})
        self.assertTrue(may(Policy(owner), MEMBER, "queues:get"))
        flag = make_rules({"queues:get": "is_admin:True"})
        self.assertTrue(may(Policy(flag), ADMIN, "queues:get"))
        self.assertFalse(may(Policy(flag), MEMBER, "queues:get"))

    def test_unknown_rule(self) -> None:
        """A rule that is not there lets nobody pass."""
        self.assertFalse(may(Policy(make_rules({})), ADMIN, "queues:fly"))


class FileTests(SynchronousTestCase):
    """With a file."""

    def setUp(self) -> None:
        """Choose a place for the file."""
        self.path = Path(self.mktemp())
        self.changes = 0

    def write(self, text: str) -> None:
        """Put a text into the file, visibly at another time than before."""
        self.path.write_text(text, encoding="utf-8")
        self.changes += 1
        os.utime(self.path, ns=(0, self.changes))

    def follow(self, policy: Policy) -> Clock:
        """Start to follow the file; gives the time it goes by."""
        clock = Clock()

        def at_once(function: object, *args: object) -> Deferred[object]:
            return execute(function, *args)

        follower = PolicyFile(str(self.path), policy, clock, at_once)
        follower.startService()
        self.addCleanup(follower.stopService)
        return clock

    def test_override(self) -> None:
        """A rule of the file takes the place of its default, others stay."""
        self.write('"messages:create": "role:member or role:admin"\n')
        policy = Policy(read_rules(str(self.path)))
        self.assertFalse(may(policy, READER, "messages:create"))
        self.assertTrue(may(policy, MEMBER, "messages:create"))
        self.assertTrue(may(policy, READER, "messages:get"))

    def test_forms(self) -> None:
        """JSON, lists, comments and an empty file are read as well."""
        self.write('{"queues:get": [["role:admin"]]}')
        self.assertFalse(may(Policy(read_rules(str(self.path))), MEMBER, "queues:get"))
        self.write("# nothing\n")
        self.assertTrue(may(Policy(read_rules(str(self.path))), MEMBER, "queues:get"))

    def test_broken(self) -> None:
        """A file that cannot be used is refused in one line that names it."""
        for text in (
            *("a: [", "- a", "5", "1: ''", "a: 'role'", "a: 'rule:a'", "a: {b: c}"),
            "!!python/object/apply:os.system ['true']",
        ):
            self.write(text)
            error = self.assertRaises(PolicyError, read_rules, str(self.path))
            self.assertIn(str(self.path), str(error))
            self.assertNotIn("\n", str(error))

    def test_missing(self) -> None:
        """A file that is not there is refused."""
        self.assertRaises(PolicyError, read_rules, str(self.path))

    def test_reload(self) -> None:
        """A change is in force soon."""
        self.write("'queues:get': '!'")
        policy = Policy(read_rules(str(self.path)))
        clock = self.follow(policy)
        self.write("'queues:get': '@'")
        self.assertFalse(may(policy, MEMBER, "queues:get"))
        clock.advance(RELOAD_SECONDS)
        self.assertTrue(may(policy, MEMBER, "queues:get"))

    def test_broken_reload(self) -> None:
        """A file that breaks, or goes, changes nothing until it is whole again."""
        self.write("'queues:get': '!'")
        policy = Policy(read_rules(str(self.path)))
        clock = self.follow(policy)
        self.write("'queues:get': 'role'")
        clock.advance(RELOAD_SECONDS)
        self.assertFalse(may(policy, MEMBER, "queues:get"))
        self.path.unlink()
        clock.advance(RELOAD_SECONDS)
        self.assertFalse(may(policy, MEMBER, "queues:get"))
        self.write("'queues:get': ''")
        clock.advance(RELOAD_SECONDS)
        self.assertTrue(may(policy, MEMBER, "queues:get"))
