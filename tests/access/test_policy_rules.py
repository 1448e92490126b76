"""Rules as oslo.policy writes them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.policy_rules import PolicyError, check_references, parse_rule

CALLER = {
    "project_id": "p1",
    "user_id": "u1",
    "roles": frozenset({"member", "editor"}),
    "is_admin": False,
}
TARGET = {"project_id": "p1", "owner": "u2", "role": "Editor"}


def holds(rule: Any, **rules: str) -> bool:
    """Whether a rule holds for the caller, among some named rules."""
    parsed = {name: parse_rule(text) for name, text in rules.items()}
    return parse_rule(rule)(CALLER, TARGET, parsed)


class ChecksTests(SynchronousTestCase):
    """Single checks."""

    def test_holding(self) -> None:
        """Each of these holds for the caller."""
        for rule in (
            *("", "  ", "@", "role:member", "role:MEMBER", "role:%(role)s"),
            *("project_id:p1", "project_id:%(project_id)s", "user_id:u1"),
            *("is_admin:False", "'u2':%(owner)s", "not !", "NOT role:admin"),
        ):
            self.assertTrue(holds(rule), rule)

    def test_failing(self) -> None:
        """Each of these does not hold for the caller."""
        for rule in (
            *("!", "role:admin", "role:memb", "project_id:p2", "user_id:%(owner)s"),
            *("project_id:%(missing)s", "role:%(missing)s", "nothing:x"),
            *("is_admin:True", "True:%(owner)s", "not @", "unknown_field:None"),
        ):
            self.assertFalse(holds(rule), rule)

    def test_malformed(self) -> None:
        """What cannot be understood is refused, and the text says where."""
        for rule in (
            *("role", "and", "role:a and", "or role:a", "(role:a", "role:a)", "()"),
            *("role:a role:b", "not", "role:a and or role:b", 5, None, {}, [5], [[5]]),
            *("project_id:%(x", "project_id:%d", "http://example.org/", "https:x"),
        ):
            error = self.assertRaises(PolicyError, parse_rule, rule)
            self.assertTrue(str(error))


class OperatorsTests(SynchronousTestCase):
    """Checks joined by operators."""

    def test_precedence(self) -> None:
        """``not`` binds closest, then ``and``, then ``or``."""
        self.assertTrue(holds("@ or @ and !"))
        self.assertFalse(holds("(@ or @) and !"))
        self.assertTrue(holds("not ! and @"))
        self.assertFalse(holds("not (! or @)"))
        self.assertTrue(holds("! and ! or @"))

    def test_parentheses_and_placeholders(self) -> None:
        """A parenthesis of a placeholder closes no group."""
        self.assertTrue(holds("(project_id:%(project_id)s)"))
        self.assertTrue(holds("((project_id:%(project_id)s and @))"))

    def test_lists(self) -> None:
        """The older form: any of the entries, all of each one's checks."""
        self.assertTrue(holds([]))
        self.assertTrue(holds([["role:admin"], ["role:member", "project_id:p1"]]))
        self.assertFalse(holds([["role:admin"], ["role:member", "project_id:p2"]]))
        self.assertTrue(holds(["role:admin", "role:member"]))


class ReferencesTests(SynchronousTestCase):
    """Rules that name others."""

    def test_reference(self) -> None:
        """A rule holds if the one it names does."""
        self.assertTrue(holds("rule:staff", staff="role:member"))
        self.assertFalse(holds("rule:staff", staff="role:admin"))

    def test_missing(self) -> None:
        """A rule that is not there does not hold, or the default stands in."""
        self.assertFalse(holds("rule:staff"))
        self.assertTrue(holds("rule:staff", default="@"))
        self.assertFalse(holds("rule:staff", default="!"))

    def test_circles(self) -> None:
        """Rules that lead back to themselves are refused."""
        circle = {"a": "role:x or rule:b", "b": [["rule:c"]], "c": "not rule:a"}
        self.assertRaises(PolicyError, check_references, circle)
        self.assertRaises(PolicyError, check_references, {"a": "rule:a"})
        check_references({"a": "rule:b and rule:b", "b": "", "c": "rule:missing"})
