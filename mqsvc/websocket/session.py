"""One client from its first request to its last: who it is, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mqsvc.access.authentication import TOKEN_HEADER, Identity
from mqsvc.access.gate import SIGNATURE_HEADER
from mqsvc.access.guard import Action as Asked
from mqsvc.access.guard import Guard
from mqsvc.access.identity import Caller, roles_of
from mqsvc.messaging.errors import (
    IdentityUnavailable,
    MessagingError,
    NotAuthenticated,
    NotAuthorized,
    QuotaExceeded,
    UnknownRoute,
)
from mqsvc.websocket.call import Action, Call, Subscriber
from mqsvc.websocket.closing import NOT_AUTHENTICATED, TOO_MANY_CONNECTIONS, Closing
from mqsvc.websocket.envelope import Refused, Reply, enveloped, problem
from mqsvc.websocket.frames import Format, FrameError
from mqsvc.websocket.schema import QUEUE_KEY, check_authentication
from mqsvc.websocket.validity import Shown

AUTHENTICATE = "authenticate"

# The three texts are what clients know; they are spelt like this.
_AUTHENTICATED = {"message": "Authentified."}
_NOT_AUTHENTICATED = "Not authentified."
_OTHER_PROJECT = "Not authenticated."

_LONGEST_NAME = 64


@frozen
class Service:
    """What all sessions share.

    :ivar actions: by name, without ``authenticate``.
    :ivar most_failures: failed authentications of a session before it is ended.
    """

    actions: Mapping[str, Action]
    guard: Guard
    most_failures: int


class Session:
    """The requests of one connection.

    :ivar shown: the token that was accepted last.
    :ivar closing: how the connection is to end, once that is decided.
    :ivar project: whose connection it is; known from the first request on.
    """

    log = Logger()

    def __init__(
        self,
        service: Service,
        subscriber: Subscriber,
        on_identity: Callable[[Identity], None],
    ) -> None:
        self.shown: Shown | None = None
        self.closing: Closing | None = None
        self.project: str | None = None
        self._service = service
        self._subscriber = subscriber
        self._on_identity = on_identity
        self._failures = 0
        self._id = uuid4()
        self._requests = 0

    async def answer(self, payload: bytes, form: Format) -> bytes:
        """The frame that answers a frame; there is one for each."""
        document: Any = None
        self._requests += 1
        try:
            document = form.decode(payload)
            reply = await self._perform(document, form)
        except FrameError as error:
            reply = Reply(400, {"error": str(error)})
        except Refused as refused:
            reply = refused.reply
        except MessagingError as error:
            reply = problem(error)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the border: a bug is logged and answered
            reply = self._unexpected()
        return form.encode(enveloped(document, reply))

    def _unexpected(self) -> Reply:
        reference = self._request_id()
        self.log.failure("Request {reference} failed", reference=reference)
        text = f"Something went wrong here, see the log for {reference}."
        return Reply(500, {"exception": text, "error": "Unexpected error."})

    def _request_id(self) -> str:
        """Under which the log knows the request at work."""
        return f"req-{self._id}-{self._requests}"

    async def _perform(self, document: Any, form: Format) -> Reply:
        if not isinstance(document, Mapping):
            raise Refused(400, "Unexpected body type. Expected dict or dict like.")
        name = document.get("action")
        if name == AUTHENTICATE:
            return await self._authenticate(document, form)
        action = self._service.actions.get(name) if isinstance(name, str) else None
        if action is None:
            shown = str(name)[:_LONGEST_NAME]
            raise Refused(400, f"{shown} is not a valid action")
        action.schema.check(document)
        headers, body = document["headers"], document.get("body", {})
        caller = self._caller(action, headers, body)
        self._belong_to(caller.project)
        call = Call(caller, headers, body, form, self._subscriber)
        return await self._run(action, call)

    async def _run(self, action: Action, call: Call) -> Reply:
        target = next((str(v) for k, v in call.body.items() if k.endswith("_name")), "")
        wait = call.body.get("wait")
        is_patient = action.may_wait and isinstance(wait, int) and wait > 0
        asked = Asked(
            *(call.caller, action.rule, target, self._request_id),
            is_patient=is_patient,
        )
        try:
            return await self._service.guard.run(asked, lambda: action.handler(call))
        except NotAuthorized as error:
            raise Refused(error.status, error.description) from error

    def _caller(
        self, action: Action, headers: Mapping[str, Any], body: Mapping[str, Any]
    ) -> Caller:
        """On whose behalf a request is.

        :raise Refused: that is not known, or it is for another project.
        """
        project, client_id = headers["X-Project-ID"], headers["Client-ID"]
        if self._service.guard.gate.authenticator is None:
            return Caller(project, client_id, roles_of(_texts(headers)))
        shown, identity = self.shown, self.identity
        if shown is None or identity is None:
            self._check_signature(action, headers, body)
            return Caller(project, client_id)
        if project != identity.project:
            raise Refused(403, _OTHER_PROJECT)
        return Caller(
            *(project, client_id, identity.roles, identity.user), token=shown.token
        )

    def _check_signature(
        self, action: Action, headers: Mapping[str, Any], body: Mapping[str, Any]
    ) -> None:
        """Accept a request with a signature for the messages of its queue."""
        texts, method = _texts(headers), action.signed_method
        if method is None or not texts(SIGNATURE_HEADER) or QUEUE_KEY not in body:
            raise Refused(403, _NOT_AUTHENTICATED)
        path = f"/v2/queues/{body[QUEUE_KEY]}/messages"
        try:
            self._service.guard.gate.check_signature(texts, method, path)
        except UnknownRoute:
            raise Refused(403, _NOT_AUTHENTICATED) from None

    def _belong_to(self, project: str) -> None:
        """Count the connection as one of the project that uses it first."""
        if self.project is not None:
            return
        try:
            self._service.guard.quotas.connect(project)
        except QuotaExceeded:
            self.closing = TOO_MANY_CONNECTIONS
            raise
        self.project = project

    def end(self) -> None:
        """The connection is gone."""
        if self.project is not None:
            self._service.guard.quotas.disconnect(self.project)

    @property
    def identity(self) -> Identity | None:
        """Whose the token is, as long as it holds."""
        return None if self.shown is None else self.shown.identity

    async def _authenticate(self, document: Mapping[str, Any], form: Format) -> Reply:
        check_authentication(document)
        gate = self._service.guard.gate
        if gate.authenticator is None:
            return Reply(200, _AUTHENTICATED, hides_request=True)
        token = document["headers"][TOKEN_HEADER]
        try:
            identity = await gate.authenticate({TOKEN_HEADER: token}.get)
        except NotAuthenticated as error:
            return self._fail(error.status)
        except IdentityUnavailable as error:
            return _failed(error.status)
        if identity is None or identity.project is None:
            return self._fail(NotAuthenticated.status)
        self.shown = Shown(token, identity, document.get("body"), form)
        self._on_identity(identity)
        return Reply(200, _AUTHENTICATED, hides_request=True)

    def _fail(self, status: int) -> Reply:
        self._failures += 1
        if self._failures >= self._service.most_failures:
            self.closing = NOT_AUTHENTICATED
        return _failed(status)


def _failed(status: int) -> Reply:
    return Reply(status, {"error": "Authentication failed."}, hides_request=True)


def _texts(headers: Mapping[str, Any]) -> Callable[[str], str | None]:
    """Headers as texts; a list of texts counts as one with commas."""

    def header(name: str) -> str | None:
        value = headers.get(name)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return ",".join(value)
        return value if isinstance(value, str) else None

    return header
