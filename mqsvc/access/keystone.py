"""The identity service (Keystone, API version 3): whose a token is.

rest.md 2.1. What was found out is kept for a while, good and bad, by a digest of the
token; concurrent questions about one token become one, and those about many tokens
are asked a few at a time: who sends made-up tokens must not flood the identity service.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import treq
from attrs import frozen
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from mqsvc.access.authentication import Identity
from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import IdentityUnavailable, NotAuthenticated

MAX_KNOWN = 10_000
"""Tokens remembered, of good ones and of bad ones each."""

NEGATIVE_SECONDS = 10
"""How long a token that does not hold is remembered."""

_TOKEN = re.compile(r"[!-~]{1,8192}")
"""What can be a token: others are not worth the question."""

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer of the identity service that are read."""


@frozen
class ServiceUser:
    """With what the service itself logs in at the identity service.

    Either by an application credential or by name and password.
    """

    identity: Mapping[str, Any]
    scope: Mapping[str, Any] | None

    @classmethod
    def by_credential(cls, credential_id: str, secret: str) -> ServiceUser:
        """An application credential, which is bound to its project."""
        credential = {"id": credential_id, "secret": secret}
        methods = ["application_credential"]
        return cls({"methods": methods, "application_credential": credential}, None)

    @classmethod
    def by_password(
        cls, name: str, password: str, domain: str, project: str, project_domain: str
    ) -> ServiceUser:
        """A user and a project, each with the name of its domain."""
        user = {"name": name, "password": password, "domain": {"name": domain}}
        scope = {"project": {"name": project, "domain": {"name": project_domain}}}
        return cls({"methods": ["password"], "password": {"user": user}}, scope)

    def login(self) -> dict[str, Any]:
        """The document that asks for a token."""
        scope = {} if self.scope is None else {"scope": self.scope}
        return {"auth": {"identity": self.identity, **scope}}

    def __repr__(self) -> str:
        return "ServiceUser(...)"


@frozen
class _Known:
    """What was found out about a token.

    :ivar identity: none when the token does not hold.
    :ivar until: the moment from which it must be asked again.
    """

    identity: Identity | None
    until: int


class _Memory:
    """What was found out, by digest of the token, for a bounded number of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def recall(self, key: bytes, now: int) -> _Known | None:
        """What is known and still holds."""
        known = self._known.get(key)
        if known is None or known.until <= now:
            return None
        self._known.move_to_end(key)
        return known

    def keep(self, key: bytes, known: _Known) -> None:
        """Remember; what was not recalled for the longest time makes room."""
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


class Keystone:
    """Asks an identity service and remembers for a while what it said.

    :param url: of its version 3, ``https://identity.example.org/v3``.
    :param public_url: what clients are told to log in at.
    :param cache_seconds: how long an answer is used; a token that is revoked is
        accepted for so long at most.
    :param timeout: seconds after which the identity service counts as away.
    :param most_questions: tokens that it is asked about at a time; others wait.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        public_url: str,
        user: ServiceUser,
        client: HTTPClient,
        clock: IReactorTime,
        cache_seconds: int,
        timeout: float,
        most_questions: int,
    ) -> None:
        self.challenge = f'Keystone uri="{public_url}"'
        self._tokens_url = f"{url.rstrip('/')}/auth/tokens"
        self._user = user
        self._client = client
        self._clock = clock
        self._now = milliseconds(clock)
        self._cache = cache_seconds * 1000
        self._timeout = timeout
        # Apart, so that no flood of bad tokens drives out the good ones.
        self._good, self._bad = _Memory(), _Memory()
        self._asking: dict[bytes, list[Deferred[_Known]]] = {}
        self._own_token: str | None = None
        self._turns = DeferredSemaphore(most_questions)

    async def identify(self, token: str) -> Identity:
        """See :class:`~mqsvc.access.authentication.Authenticator`."""
        if not _TOKEN.fullmatch(token):
            raise NotAuthenticated
        # Never the token itself: memory may be dumped.
        key = hashlib.sha256(token.encode()).digest()
        now = self._now()
        known = self._good.recall(key, now) or self._bad.recall(key, now)
        if known is None:
            known = await self._ask_once(key, token)
        if known.identity is None:
            raise NotAuthenticated
        return known.identity

    def _ask_once(self, key: bytes, token: str) -> Deferred[_Known]:
        """Join those who wait for the answer about a token, or ask."""
        waiters = self._asking.get(key)
        answer: Deferred[_Known] = Deferred(lambda _: None)
        if waiters is not None:
            waiters.append(answer)
            return answer
        self._asking[key] = [answer]
        asked = Deferred.fromCoroutine(self._ask(token))
        asked.addCallback(self._remember, key)
        asked.addBoth(self._tell, key)
        return answer

    def _tell(self, outcome: _Known | Failure, key: bytes) -> None:
        for waiter in self._asking.pop(key):
            if waiter.called:
                continue
            if isinstance(outcome, Failure):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)

    def _remember(self, known: _Known, key: bytes) -> _Known:
        (self._bad if known.identity is None else self._good).keep(key, known)
        return known

    async def _ask(self, token: str) -> _Known:
        identity = await self._validate_in_turn(token)
        now = self._now()
        if identity is None or (identity.expires or now) <= now:
            return _Known(None, now + NEGATIVE_SECONDS * 1000)
        return _Known(identity, min(now + self._cache, identity.expires or now))

    async def _validate_in_turn(self, token: str) -> Identity | None:
        try:
            await self._turns.acquire().addTimeout(self._timeout, self._clock)
        except TimeoutError as error:
            raise self._unusable("is still busy with earlier questions") from error
        try:
            return await self._validate(token)
        finally:
            self._turns.release()

    async def _validate(self, token: str) -> Identity | None:
        """What the identity service says; logs in again where that is needed."""
        for own in (self._own_token, None):
            if own is None:
                own = self._own_token = await self._log_in()  # noqa: PLW2901
            headers = {"X-Auth-Token": own, "X-Subject-Token": token}
            status, _, document = await self._exchange("GET", headers)
            if status == 200:
                return self._identity(document)
            if status == 404:
                return None
            if status != 401:
                raise self._unusable(f"answers {status} to a validation")
        raise self._unusable("does not accept the service user's own token")

    async def _log_in(self) -> str:
        status, headers, _ = await self._exchange("POST", {}, self._user.login())
        token = (headers.getRawHeaders("X-Subject-Token") or [""])[0]
        if status != 201 or not token:
            raise self._unusable(
                f"answers {status} to the login of the service user; check the group "
                "keystone_authtoken of the configuration"
            )
        return str(token)

    async def _exchange(
        self, method: str, headers: Mapping[str, str], body: Any = None
    ) -> tuple[int, Headers, Any]:
        """Status, headers and decoded body of an answer."""
        asked = Deferred.fromCoroutine(self._request(method, headers, body))
        try:
            return await asked.addTimeout(self._timeout, self._clock)
        except Exception as error:
            raise self._unusable(f"cannot be asked: {_reason(error)}") from error

    async def _request(
        self, method: str, headers: Mapping[str, str], body: Any
    ) -> tuple[int, Headers, Any]:
        response = await self._client.request(
            method,
            self._tokens_url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            **({} if body is None else {"json": body}),
            allow_redirects=False,
            unbuffered=True,
        )
        content = bytearray()

        def collect(data: bytes) -> None:
            content.extend(data)
            if len(content) > MAX_ANSWER:
                raise ValueError("the answer is too large")

        await treq.collect(response, collect)
        return response.code, response.headers, _document(bytes(content))

    def _identity(self, document: Any) -> Identity:
        try:
            answer = msgspec.convert(document, _Answer).token
            expires = datetime.fromisoformat(answer.expires_at)
        except ValueError as error:
            raise self._unusable("gives an answer that is no token") from error
        return Identity(
            project=None if answer.project is None else answer.project.id,
            user=answer.user.id,
            roles=frozenset(role.name.lower() for role in answer.roles),
            expires=int(expires.timestamp() * 1000),
        )

    def _unusable(self, reason: str) -> IdentityUnavailable:
        self.log.error("The identity service {reason}", reason=reason)
        return IdentityUnavailable()


class _Named(msgspec.Struct):
    id: str


class _Role(msgspec.Struct):
    name: str


class _Token(msgspec.Struct):
    user: _Named
    expires_at: str
    project: _Named | None = None
    roles: tuple[_Role, ...] = ()


class _Answer(msgspec.Struct):
    """What is needed of the answer to a validation."""

    token: _Token


def _document(content: bytes) -> Any:
    """The JSON of an answer; none where it is something else."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None


def _reason(error: Exception) -> str:
    # Twisted packs what went wrong on a connection into lists of failures.
    reasons = getattr(error, "reasons", None)
    return _reason(reasons[0].value) if reasons else f"{type(error).__name__}: {error}"
