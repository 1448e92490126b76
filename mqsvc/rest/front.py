"""In front of the Klein app: from a request to its route, and from there to its answer.

Klein's own resource does the same for handlers of every kind, which costs more than
all the checks of this service together. Ours are coroutines that give bytes, so that
what is left of it is short.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from mqsvc.messaging.errors import InvalidHeader
from mqsvc.notification.confirmation import PAGE_PATH
from mqsvc.rest.answer import Answer, write
from mqsvc.rest.cors import CORS
from mqsvc.rest.paths import Found, Paths
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
        self._paths = Paths(app.url_map, _PAGE)

    def render(self, request: Request) -> Any:
        """See :class:`twisted.web.resource.IResource`."""
        if self._cors.apply(request):
            return write(request, Answer(200))
        if request.method not in _METHODS:
            return refuse(
                request, InvalidHeader("Bad request", "There is no such method.")
            )
        try:
            found = self._paths.find(request.path)
        except UnicodeError:
            return refuse(request, InvalidHeader("Bad request", "The path is no text."))
        if found.is_aside and self._page is not None:
            return self._page.render(request)
        serve = self._server(request, found)
        return _answered(request, Deferred.fromCoroutine(serve()))

    def _server(self, request: Request, found: Found) -> Serve:
        if not found.endpoint:
            return partial(self._entrance.refuse_unknown, request)
        execute: Any = self._app.execute_endpoint
        serve: Serve = execute(found.endpoint, request, **found.arguments)
        return serve


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
