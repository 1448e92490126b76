"""Policy rules as oslo.policy writes them, read into functions.

A rule is a text of checks joined by ``and``, ``or``, ``not`` and parentheses; the
empty rule and ``@`` let everybody pass, ``!`` nobody. A check is ``role:NAME``,
``rule:NAME``, or ``FIELD:VALUE`` on what is known of the caller (``project_id``,
``user_id``, ``is_admin``), where ``%(FIELD)s`` in the value stands for a field of the
target. The older form, a list of lists of checks, is read as well.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Credentials = Mapping[str, Any]
"""What is known of the caller: texts by field, and ``roles``, in lower case."""

Rules = Mapping[str, "Check"]

Check = Callable[[Credentials, Mapping[str, str], Rules], bool]
"""Whether a caller may do something to a target, given all rules."""

DEFAULT = "default"
"""The rule that stands in for those that do not exist."""


class PolicyError(ValueError):
    """A rule cannot be understood; the text is one line that says why."""


def parse_rule(rule: Any) -> Check:
    """The check that a rule describes.

    :raise PolicyError: it describes none.
    """
    if isinstance(rule, str):
        return _Parser(rule).parse()
    if isinstance(rule, list):
        return _parse_lists(rule)
    raise PolicyError("a rule is a text or a list")


def named(name: str) -> Check:
    """The check that another rule holds; a rule that is not there never does."""

    def check(caller: Credentials, target: Mapping[str, str], rules: Rules) -> bool:
        rule = rules.get(name) or rules.get(DEFAULT)
        return rule is not None and rule(caller, target, rules)

    return check


def check_references(rules: Mapping[str, Any]) -> None:
    """Accept rules as they are written if none leads back to itself.

    :raise PolicyError: one does.
    """
    for name in rules:
        _follow(name, rules, ())


def _follow(name: str, rules: Mapping[str, Any], way: tuple[str, ...]) -> None:
    if name in way:
        raise PolicyError(f"rule {name!r} leads back to itself")
    for reference in _references(rules.get(name, "")):
        _follow(reference, rules, (*way, name))


def _references(rule: Any) -> list[str]:
    if isinstance(rule, list):
        return [name for part in rule for name in _references(part)]
    words = _words(str(rule))
    return [word.partition(":")[2] for word in words if word.startswith("rule:")]


class _Parser:
    """Recursive descent; ``and`` binds closer than ``or``, ``not`` closest."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._words = _words(text)

    def parse(self) -> Check:
        if not self._words:
            return everybody
        check = self._either()
        if self._words:
            raise self._unexpected()
        return check

    def _either(self) -> Check:
        checks = [self._all()]
        while self._take("or"):
            checks.append(self._all())
        return _any_of(checks)

    def _all(self) -> Check:
        checks = [self._single()]
        while self._take("and"):
            checks.append(self._single())
        return _all_of(checks)

    def _single(self) -> Check:
        if self._take("not"):
            return _negated(self._single())
        if self._take("("):
            check = self._either()
            if not self._take(")"):
                raise self._unexpected()
            return check
        if not self._words or self._words[0].lower() in {"and", "or", ")"}:
            raise self._unexpected()
        return _parse_check(self._words.pop(0))

    def _take(self, word: str) -> bool:
        if self._words and self._words[0].lower() == word:
            del self._words[0]
            return True
        return False

    def _unexpected(self) -> PolicyError:
        where = f"at {self._words[0]!r}" if self._words else "at its end"
        return PolicyError(f"{self._text!r} cannot be understood {where}")


def _words(text: str) -> list[str]:
    """Checks, operators and parentheses; one inside of ``%(...)s`` is none."""
    words: list[str] = []
    for word in text.split():
        bare = word.lstrip("(")
        core = bare.rstrip(")")
        words += "(" * (len(word) - len(bare))
        words += [core] if core else []
        words += ")" * (len(bare) - len(core))
    return words


def _parse_lists(rule: Sequence[Any]) -> Check:
    """Any of the entries, each a check or a list of checks of which all must hold."""
    if not rule:
        return everybody
    return _any_of([_parse_entry(entry) for entry in rule if entry])


def _parse_entry(entry: Any) -> Check:
    parts = [entry] if isinstance(entry, str) else entry
    if not isinstance(parts, list) or not all(isinstance(p, str) for p in parts):
        raise PolicyError("a list of rules holds texts, or lists of texts")
    return _all_of([_parse_check(part) for part in parts])


def _parse_check(text: str) -> Check:
    if text == "@":
        return everybody
    if text == "!":
        return _nobody
    kind, colon, match = text.partition(":")
    if not colon:
        raise PolicyError(f"{text!r} is no check: expected KIND:VALUE")
    if kind in {"http", "https"}:
        raise PolicyError(f"{text!r} would ask another server, which is not supported")
    _check_placeholders(match)
    if kind == "rule":
        return named(match)
    return _has_role(match) if kind == "role" else _matches(kind, match)


def _check_placeholders(match: str) -> None:
    class Anything(dict[str, str]):
        def __missing__(self, key: str) -> str:
            return key

    try:
        _ = match % Anything()
    except (TypeError, ValueError):
        raise PolicyError(f"{match!r} has a malformed placeholder") from None


def everybody(_: Credentials, __: Mapping[str, str], ___: Rules) -> bool:
    """The check that lets everybody pass."""
    return True


def _nobody(_: Credentials, __: Mapping[str, str], ___: Rules) -> bool:
    return False


def _negated(inner: Check) -> Check:
    return lambda caller, target, rules: not inner(caller, target, rules)


def _all_of(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    return lambda caller, target, rules: all(c(caller, target, rules) for c in checks)


def _any_of(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    return lambda caller, target, rules: any(c(caller, target, rules) for c in checks)


def _has_role(match: str) -> Check:
    def check(caller: Credentials, target: Mapping[str, str], _: Rules) -> bool:
        role = _filled(match, target)
        return role is not None and role.lower() in caller["roles"]

    return check


def _matches(kind: str, match: str) -> Check:
    try:
        literal = ast.literal_eval(kind)
    except (ValueError, SyntaxError):
        return _field_matches(kind, match)
    return lambda _, target, __: _filled(match, target) == str(literal)


def _field_matches(field: str, match: str) -> Check:
    def check(caller: Credentials, target: Mapping[str, str], _: Rules) -> bool:
        value = caller.get(field)
        return value is not None and _filled(match, target) == str(value)

    return check


def _filled(match: str, target: Mapping[str, str]) -> str | None:
    """The value with the target's fields in it; none where the target has none."""
    try:
        return match % target
    except KeyError:
        return None
