"""In front of the Klein app: from a request to its route, and from there to its answer.

Klein's own resource does the same for handlers of every kind, which costs more than
all the checks of this service together. Ours are coroutines that give bytes, so that
what is left of it is short.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote_to_bytes

from attrs import frozen
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.exceptions import HTTPException

from mqsvc.messaging.errors import InvalidHeader
from mqsvc.notification.confirmation import PAGE_PATH
from mqsvc.rest.answer import Answer, write
from mqsvc.rest.cors import CORS
from mqsvc.rest.problems import refuse
from mqsvc.rest.route import Entrance, Serve

log = Logger()

_METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT "
    b"COPY LOCK MKCOL MOVE PROPFIND PROPPATCH UNLOCK REPORT CHECKIN CHECKOUT "
    b"UNCHECKIN UPDATE VERSION-CONTROL".split()
)
"""What HTTP and its extensions know; anything else is no request at all."""

_PAGE = PAGE_PATH.encode()

PATHS_KNOWN = 4096
"""Paths whose route is remembered: those of queues come again and again."""

LONGEST_KNOWN = 200
"""Bytes of a path that is remembered."""


@frozen
class Found:
    """The route of a path.

    :ivar endpoint: its name in the Klein app; empty when there is none.
    :ivar arguments: what the variables of the route stand for.
    :ivar is_page: whether it is that of the page for subscribers.
    """

    endpoint: str
    arguments: dict[str, Any]
    is_page: bool = False


class Front(Resource):
    """Answers every request.

    :param entrance: answers where no route leads.
    :param page: where subscribers answer, if they do it here.
    """

    isLeaf = True

    def __init__(
        self, app: Klein, entrance: Entrance, cors: CORS, page: Resource | None
    ) -> None:
        super().__init__()
        self._page = page
        self._app = app
        self._entrance = entrance
        self._cors = cors
        # Which host a request names makes no difference to the routes.
        self._paths = app.url_map.bind("localhost")
        self._known = lru_cache(PATHS_KNOWN)(self._find)

    def render(self, request: Request) -> Any:
        """See :class:`twisted.web.resource.IResource`."""
        if self._cors.apply(request):
            return write(request, Answer(200))
        if request.method not in _METHODS:
            return refuse(
                request, InvalidHeader("Bad request", "There is no such method.")
            )
        path = request.path
        try:
            found = (self._known if len(path) <= LONGEST_KNOWN else self._find)(path)
        except UnicodeError:
            return refuse(request, InvalidHeader("Bad request", "The path is no text."))
        if found.is_page and self._page is not None:
            return self._page.render(request)
        serve: Serve = partial(self._entrance.refuse_unknown, request)
        if found.endpoint:
            execute: Any = self._app.execute_endpoint
            serve = execute(found.endpoint, request, **found.arguments)
        return _answered(request, Deferred.fromCoroutine(serve()))

    def _find(self, path: bytes) -> Found:
        """The route of a path, which may have escapes.

        :raise UnicodeError: it is no text.
        """
        plain = _without_escapes(path)
        if plain == _PAGE:
            return Found("", {}, is_page=True)
        text = plain.decode()
        try:
            # Methods are not the map's business, so nothing else can be wrong.
            endpoint, arguments = self._paths.match(text)
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


def _answered(request: Request, answering: Deferred[bytes]) -> Any:
    """What to give back from ``render``; ends the work when the client is gone."""
    bodies: list[bytes] = []
    answering.addCallback(bodies.append)
    if bodies:
        return bodies[0]
    gone: list[Failure] = []

    def is_gone(reason: Failure) -> None:
        gone.append(reason)
        answering.cancel()

    def finish(_: object) -> None:
        if not gone:
            request.write(bodies[0])
            request.finish()

    def fail(failure: Failure) -> None:
        if gone:
            log.failure("A request of a client that is gone failed", failure)
        else:
            request.processingFailed(failure)

    request.notifyFinish().addErrback(is_gone)
    answering.addCallback(finish).addErrback(fail)
    return NOT_DONE_YET
