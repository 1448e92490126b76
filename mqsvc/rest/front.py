"""In front of the Klein app: from a request to its route, and from there to its answer.

Klein's own resource does the same for handlers of every kind, which costs more than
all the checks of this service together. Ours are coroutines that give answers, so that
what is left of it is short. A request needs a method ``answer`` that sends all of a
body, and a method ``when_gone`` that has a function called when the client is gone.
"""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from mqsvc.messaging.errors import InvalidHeader
from mqsvc.notification.confirmation import PAGE_PATH
from mqsvc.rest.answer import Answer, give_id, write
from mqsvc.rest.cors import CORS
from mqsvc.rest.paths import Paths
from mqsvc.rest.problems import answer_of
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
        self._entrance = entrance
        self._cors = cors
        self._paths = Paths(app.url_map, _PAGE)
        # Who serves a path is the same for every request, so that Klein is asked once.
        execute: Any = app.execute_endpoint
        self._serves: dict[str, Serve] = {
            endpoint: execute(endpoint, None) for endpoint in app.endpoints
        }

    def render(self, request: Request) -> Any:
        """See :class:`twisted.web.resource.IResource`."""
        is_preflight = self._cors.apply(request)
        give_id(request)
        if is_preflight:
            return _answer(request, Answer(200))
        if request.method not in _METHODS:
            return _refuse(request, "There is no such method.")
        try:
            found = self._paths.find(request.path)
        except UnicodeError:
            return _refuse(request, "The path is no text.")
        if found.is_aside and self._page is not None:
            return self._page.render(request)
        if found.endpoint:
            answering = self._serves[found.endpoint](request, found.arguments)
        else:
            answering = self._entrance.refuse_unknown(request)
        return _answer_later(request, Deferred.fromCoroutine(answering))


def _refuse(request: Request, description: str) -> Any:
    error = InvalidHeader("Bad request", description)
    return _answer(request, answer_of(error, request))


def _answer(request: Any, answer: Answer) -> Any:
    """Send an answer; gives what is to be given back from ``render``."""
    request.answer(write(request, answer))
    return NOT_DONE_YET


def _answer_later(request: Any, answering: Deferred[Answer]) -> Any:
    """Send an answer when it is there; ends the work when the client is gone."""
    gone: list[Failure] = []

    def is_gone(reason: Failure) -> None:
        gone.append(reason)
        answering.cancel()

    def finish(answer: Answer) -> None:
        if not gone:
            _answer(request, answer)

    def fail(failure: Failure) -> None:
        if gone:
            log.failure("A request of a client that is gone failed", failure)
        else:
            request.processingFailed(failure)

    answering.addCallback(finish).addErrback(fail)
    if not answering.called:
        request.when_gone(is_gone)
    return NOT_DONE_YET
