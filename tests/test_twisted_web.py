"""The REST suite once more, on the HTTP server of twisted.web.

Most of it runs there in tests/on_servers/test_rest_mongodb.py; this is all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import TestCase

from tests.matrix import Combination, rest_cases, rest_tests
from tests.rest.server import RestTestCase


def on_twisted_web(case: type[RestTestCase]) -> type[TestCase]:
    """The tests of a case, whose service reads requests as twisted.web does."""

    class Server:
        """In front of a case: what it configures besides."""

        @property
        def settings(self: Any) -> Sequence[str]:
            own = getattr(self, "own_settings", case.settings)
            return [*own, "http_server=twisted.web"]

        @settings.setter
        def settings(self: Any, settings: Sequence[str]) -> None:
            self.own_settings = settings

    subject = case.__module__.rpartition(".test_")[2]
    name = f"{subject}_{case.__name__}"
    said = {"__doc__": case.__doc__, "__module__": __name__, "__qualname__": name}
    return type(name, (Server, case), said)


elsewhere = rest_tests(Combination.named("mongodb+mongodb"), "elsewhere")

globals().update(
    {
        made.__name__: made
        for made in map(on_twisted_web, rest_cases())
        if made.__name__ not in elsewhere
    }
)

# Trial would run them here as well.
del elsewhere
