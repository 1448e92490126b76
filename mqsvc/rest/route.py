"""One route: which handler for which method, and the checks before it runs.

The order of the checks decides which error wins (rest.md 1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from mqsvc.access.authentication import Identity
from mqsvc.access.guard import Action, Guard
from mqsvc.access.identity import Headers
from mqsvc.messaging import checks
from mqsvc.messaging.errors import (
    InvalidHeader,
    InvalidParameter,
    MessagingError,
    MethodNotAllowed,
    NotAcceptable,
    UnknownRoute,
)
from mqsvc.messaging.model import Destination, Kind
from mqsvc.rest.answer import Answer, request_id
from mqsvc.rest.call import Call, headers_of
from mqsvc.rest.problems import JSON, accepts, answer_of, unexpected

Handler = Callable[[Call], Awaitable[Answer]]

Answering = Coroutine[Any, Any, Answer]
"""What finds the answer to one request."""

Serve = Callable[[IRequest, Mapping[str, str]], Answering]
"""Answers the requests of a path; told what its variables stand for."""

_FORM = b"application/x-www-form-urlencoded"
_JSON = JSON.encode()


@frozen
class Entry:
    """What one method of a path does.

    :ivar rule: of the policy, who may do it; empty is everybody.
    :ivar may_wait: whether it waits for something when ``wait`` asks for that.
    """

    rule: str
    handler: Handler
    may_wait: bool = False


@frozen
class Route:
    """A path and what can be done with it.

    :ivar path: with ``<name>`` for the variables; ``<destination>`` is a queue or
        topic.
    :ivar entries: by method; HEAD is served by GET where it has none of its own.
    :ivar kind: what ``<destination>`` is.
    :ivar is_open: whether anybody may call, without saying who they are.
    """

    path: str
    entries: Mapping[str, Entry]
    kind: Kind = Kind.QUEUE
    is_open: bool = False

    @property
    def methods(self) -> list[str]:
        """All methods that the path answers."""
        head = ["HEAD"] if "GET" in self.entries else []
        return [*sorted({*self.entries, *head}), "OPTIONS"]

    def entry(self, method: str) -> Entry:
        """What a method does.

        :raise MethodNotAllowed: nothing.
        """
        found = self.entries.get(method)
        if found is None and method == "HEAD":
            found = self.entries.get("GET")
        if found is None:
            raise MethodNotAllowed(self.methods)
        return found


@frozen
class Entrance:
    """Takes requests through the checks to their handler, and gives the answer."""

    guard: Guard

    def serve(
        self, route: Route, request: IRequest, arguments: Mapping[str, str]
    ) -> Answering:
        """Answer one request."""
        return self._shown(request, self._answer(route, request, arguments))

    def refuse_unknown(self, request: IRequest) -> Answering:
        """Answer a request on a path that does not exist."""
        return self._shown(request, self._unknown(request))

    async def _unknown(self, request: IRequest) -> Answer:
        # Who may not come in does not learn which paths there are.
        await self.guard.gate.authenticate(headers_of(request))
        raise UnknownRoute

    async def _shown(self, request: IRequest, answering: Awaitable[Answer]) -> Answer:
        """An answer, or that of the error that there is instead."""
        try:
            return await answering
        except MessagingError as error:
            return answer_of(error, request)
        except CancelledError:
            # The client hung up: nobody will see it.
            return Answer(204)
        except Exception:  # noqa: BLE001 - the border: a bug is logged and answered
            return answer_of(unexpected(Failure(), request_id(request)), request)

    async def _answer(
        self, route: Route, request: IRequest, arguments: Mapping[str, str]
    ) -> Answer:
        method = request.method.decode("latin-1")
        if method == "OPTIONS":
            return Answer(200, headers={"allow": ", ".join(route.methods)})
        if route.is_open:
            _check_media_types(request)
            call = Call(request, None, None, arguments)
            return await route.entry(method).handler(call)
        headers = headers_of(request)
        identity = await self.guard.gate.authenticate(headers)
        path = request.path.decode("latin-1")
        self.guard.gate.check_signature(headers, method, "/" + path.lstrip("/"))
        call = self._check(route, request, arguments, headers, identity)
        entry = route.entry(method)
        action = Action(
            caller=call.caller,
            rule=entry.rule,
            target=path,
            request_id=partial(request_id, request),
            is_patient=entry.may_wait and b"wait=" in request.uri and _waits(call),
        )
        return await self.guard.run(action, partial(entry.handler, call))

    def _check(
        self,
        route: Route,
        request: IRequest,
        arguments: Mapping[str, str],
        headers: Headers,
        identity: Identity | None,
    ) -> Call:
        _check_media_types(request)
        caller = self.guard.gate.caller(headers, identity)
        name = arguments.get("destination")
        if name is None:
            return Call(request, caller, None, arguments)
        destination = Destination(caller.project, route.kind, name)
        return Call(request, caller, checks.destination(destination), arguments)


def _waits(call: Call) -> bool:
    """Whether a caller wants to wait; what is malformed is refused later."""
    try:
        return (call.query.integer("wait") or 0) > 0
    except InvalidParameter:
        return False


def _check_media_types(request: IRequest) -> None:
    sent = request.getHeader(b"content-type")
    if sent and sent != _JSON and sent.partition(b";")[0].strip().lower() == _FORM:
        raise InvalidHeader(
            "Invalid Content-Type", f"Send the body as {JSON}, not as {_FORM.decode()}."
        )
    if not accepts(request, JSON):
        raise NotAcceptable(f"The only media type available is {JSON}.")
