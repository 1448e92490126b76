"""From a path to its route, nearly always by memory.

Paths of queues come again and again. Those of messages and claims never do, but differ
in their last segment only, so that their family is remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

PATHS_KNOWN = 4096
"""Paths and families that are remembered, of each so many."""

LONGEST_KNOWN = 200
"""Bytes of a path that is remembered."""

_ANY = "-any-"
"""A last segment that stands for all that have no route of their own."""


class Found(Struct, frozen=True):
    """The route of a path.

    :ivar endpoint: its name in the Klein app; empty when there is none.
    :ivar arguments: what the variables of the route stand for.
    :ivar is_aside: whether it is the path that is no business of the app.
    """

    endpoint: str
    arguments: dict[str, Any]
    is_aside: bool = False


class _Family(Struct, frozen=True):
    """The route of all paths that differ in their last segment only.

    :ivar variable: the argument that the last segment is; empty when it is none.
    """

    found: Found
    variable: str


class Paths:
    """The routes of an app.

    :param routes: those of the app; methods are not their business.
    :param aside: a path that somebody else answers.
    """

    def __init__(self, routes: Map, aside: bytes) -> None:
        # Which host a request names makes no difference to the routes.
        self._routes = routes.bind("localhost")
        self._aside = aside
        paths = [aside.decode(), *(rule.rule for rule in routes.iter_rules())]
        self._fixed = {path.rpartition("/")[2].encode() for path in paths}
        self._known = lru_cache(PATHS_KNOWN)(self._look_up)
        self._families = lru_cache(PATHS_KNOWN)(self._look_up_family)

    def find(self, path: bytes) -> Found:
        """The route of a path, which may have escapes.

        :raise UnicodeError: it is no text.
        """
        if len(path) > LONGEST_KNOWN:
            return self._look_up(path)
        parent, _, last = path.rpartition(b"/")
        if last in self._fixed or b"%" in path or _ANY.encode() in path:
            return self._known(path)
        family, text = self._families(parent), last.decode()
        found, variable = family.found, family.variable
        if not variable:
            return found
        arguments = {**found.arguments, variable: text}
        return Found(found.endpoint, arguments, found.is_aside)

    def _look_up_family(self, parent: bytes) -> _Family:
        found = self._look_up(parent + b"/" + _ANY.encode())
        variables = [name for name, value in found.arguments.items() if value == _ANY]
        return _Family(found, "".join(variables))

    def _look_up(self, path: bytes) -> Found:
        plain = _without_escapes(path)
        if plain == self._aside:
            return Found("", {}, is_aside=True)
        text = plain.decode()
        try:
            # Without methods nothing else can be wrong than that there is no route.
            endpoint, arguments = self._routes.match(text)
        except HTTPException:
            return Found("", {})
        return Found(endpoint, dict(arguments))


def _without_escapes(path: bytes) -> bytes:
    """A path as it is meant; a doubled slash in front is one.

    Clients whose base URL ends with a slash send two.
    """
    segments = [unquote_to_bytes(segment) for segment in path[1:].split(b"/")]
    if len(segments) > 1 and not segments[0]:
        segments = segments[1:]
    return b"/" + b"/".join(segments)
