"""One route: which handler for which method, and the checks before it runs.

The order of the checks decides which error wins (rest.md 1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from mqsvc.access.identity import identify
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import Now
from mqsvc.messaging import checks
from mqsvc.messaging.errors import (
    InvalidHeader,
    MessagingError,
    MethodNotAllowed,
    NotAcceptable,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Destination, Kind
from mqsvc.rest.answer import Answer, request_id, write
from mqsvc.rest.call import Call, header
from mqsvc.rest.problems import JSON, accepts, answer_of, unexpected

Handler = Callable[[Call], Awaitable[Answer]]

_FORM = "application/x-www-form-urlencoded"


@frozen
class Route:
    """A path and what can be done with it.

    :ivar path: with ``<name>`` for the variables; ``<destination>`` is a queue or
        topic.
    :ivar handlers: by method; HEAD is served by GET where it has none of its own.
    :ivar kind: what ``<destination>`` is.
    :ivar is_open: whether anybody may call, without saying who they are.
    """

    path: str
    handlers: Mapping[str, Handler]
    kind: Kind = Kind.QUEUE
    is_open: bool = False

    @property
    def methods(self) -> list[str]:
        """All methods that the path answers."""
        head = ["HEAD"] if "GET" in self.handlers else []
        return [*sorted({*self.handlers, *head}), "OPTIONS"]

    def handler(self, method: str) -> Handler:
        """The handler of a method.

        :raise MethodNotAllowed: there is none.
        """
        found = self.handlers.get(method)
        if found is None and method == "HEAD":
            found = self.handlers.get("GET")
        if found is None:
            raise MethodNotAllowed(self.methods)
        return found


@frozen
class Entrance:
    """Takes requests through the checks to their handler, and answers or errors back.

    :ivar signed_urls: lets requests with a signature pass.
    """

    signed_urls: SignedUrls
    limits: Limits
    now: Now

    async def serve(
        self, route: Route, request: IRequest, arguments: dict[str, str]
    ) -> bytes:
        """Answer one request; gives the bytes of the body."""
        try:
            answer = await self._answer(route, request, arguments)
        except MessagingError as error:
            answer = answer_of(error, request)
        except CancelledError:
            # The client hung up.
            return b""
        except Exception:  # noqa: BLE001 - the border: a bug is logged and answered
            answer = answer_of(unexpected(Failure(), request_id(request)), request)
        return write(request, answer)

    async def _answer(
        self, route: Route, request: IRequest, arguments: dict[str, str]
    ) -> Answer:
        method = request.method.decode("latin-1")
        if method == "OPTIONS":
            return Answer(200, headers={"allow": ", ".join(route.methods)})
        call = self._check(route, request, method, arguments)
        return await route.handler(method)(call)

    def _check(
        self, route: Route, request: IRequest, method: str, arguments: dict[str, str]
    ) -> Call:
        headers = partial(header, request)
        if headers("URL-Signature") is not None:
            path = "/" + request.path.decode("latin-1").lstrip("/")
            self.signed_urls.check(headers, method, path, self.now())
        _check_media_types(request)
        if route.is_open:
            return Call(request, None, None, arguments)
        caller = identify(headers, self.limits)
        name = arguments.pop("destination", None)
        if name is None:
            return Call(request, caller, None, arguments)
        destination = Destination(caller.project, route.kind, name)
        return Call(request, caller, checks.destination(destination), arguments)


def _check_media_types(request: IRequest) -> None:
    content_type = header(request, "Content-Type")
    if content_type and content_type.partition(";")[0].strip().lower() == _FORM:
        raise InvalidHeader(
            "Invalid Content-Type", f"Send the body as {JSON}, not as {_FORM}."
        )
    if not accepts(request, JSON):
        raise NotAcceptable(f"The only media type available is {JSON}.")
