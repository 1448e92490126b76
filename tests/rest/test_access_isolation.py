"""Projects apart where a token says which one is meant.

The tests are those of :mod:`tests.rest.test_isolation`; here each project has a token,
and whoever asks claims in a header to be of the project that owns everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.rest import test_isolation
from tests.rest.access import MEMBER, OTHER, AccessCase
from tests.rest.answers import Answer
from tests.rest.server import PROJECT

JOINED = ("a", "a.b", "a/b", "a-b", "a_b", "a:b", "a b")
PROJECTS = (PROJECT, OTHER, *test_isolation.NEIGHBOURS, *JOINED)


def token_of(project: str) -> str:
    """The token of a project, in characters that a header may have."""
    return project.encode().hex()


class _Tokens(AccessCase):
    """The projects of the tests, each with a token instead of a header."""

    tokens: ClassVar[Mapping[str, tuple[str, str]]] = {
        token_of(project): (project, MEMBER) for project in dict.fromkeys(PROJECTS)
    }

    async def call(
        self,
        method: str,
        path: str,
        *,
        project: str | None = PROJECT,
        headers: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> Answer:
        """Send a request with a project's token, in the name of the owner."""
        token = {} if project is None else {"X-Auth-Token": token_of(project)}
        lies = {"X-Tenant-ID": PROJECT, "X-Roles": "admin"}
        sent = {**token, **lies, **(headers or {})}
        return await super().call(method, path, headers=sent, **options)


class ProjectTests(_Tokens, test_isolation.ProjectTests):
    """Another project, by its token."""


class QueueTests(_Tokens, test_isolation.QueueTests):
    """Another queue of the same project."""
