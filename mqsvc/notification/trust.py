"""Webhooks with a token of the subscriber's project (semantics.md 7.4).

A user trusts the service to act in a project: the trust is made at the identity
service (Keystone, API version 3) and kept in the options of the subscription. Each
delivery carries a token for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import treq
from attrs import field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from mqsvc.access.keystone import MAX_ANSWER, ServiceUser
from mqsvc.messaging.errors import IdentityUnavailable, InvalidRequest, NotAuthorized
from mqsvc.messaging.model import JsonObject
from mqsvc.messaging.subscription_options import TRUST as KEY
from mqsvc.notification.channel import TRUST_PREFIX, Notice, Outcome, refused, retry
from mqsvc.notification.webhook import Webhook

_USER = ("token", "user", "id")
_PROJECT = ("token", "project", "id")
"""Where they stand in what the identity service says of a token."""

MAX_KNOWN = 1000
"""Tokens that are remembered, and as many trusts without one."""

REFUSED_SECONDS = 10
"""How long it is remembered that there is no token for a trust."""

EARLY_SECONDS = 60
"""How long before its end a token is not used any more."""


class TrustRefused(Exception):
    """The identity service gives no token for a trust: it is gone, or never was."""


@frozen
class TrustToken:
    """A token for a trust.

    :ivar expires: seconds since the epoch.
    """

    value: str = field(repr=False)
    project: str
    expires: float


@frozen
class _Answer:
    status: int
    headers: Headers
    document: Any


class Trusts:
    """Makes trusts and gets tokens for them, and remembers those.

    :param url: of version 3 of the identity service.
    :param trustee: whom users trust, with name and password.
    :param timeout: seconds after which the identity service counts as away.
    :param most_questions: it is asked so many at a time; others wait.
    """

    log = Logger()

    def __init__(
        self,
        url: str,
        trustee: ServiceUser,
        client: HTTPClient,
        clock: IReactorTime,
        timeout: float,
        most_questions: int,
    ) -> None:
        self._url = url.rstrip("/")
        self._trustee = trustee
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._trustee_id: str | None = None
        self._known: OrderedDict[str, TrustToken] = OrderedDict()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._turns = DeferredSemaphore(most_questions)

    async def create(self, token: str, project: str, expires: int) -> str:
        """Make a trust of a user, with all roles that the token has; gives its id.

        :param token: the user's own one: nobody else can make it.
        :param expires: milliseconds since the epoch.
        :raise NotAuthorized: the token is for another project, or for none, or does not
            let its user make trusts.
        :raise IdentityUnavailable: it cannot be made now.
        """
        owner = await self._owner(token)
        if _text(owner, *_PROJECT) != project:
            raise _not_trusted()
        trust = {
            "trustor_user_id": _text(owner, *_USER),
            "trustee_user_id": await self._trustee_user(),
            "project_id": project,
            "impersonation": True,
            "roles": _roles(owner),
            "expires_at": _moment(expires),
        }
        path, own = "/OS-TRUST/trusts", {"X-Auth-Token": token}
        answer = await self._ask("POST", path, own, {"trust": trust})
        made = _text(answer.document, "trust", "id")
        if answer.status in (401, 403):
            raise _not_trusted()
        if answer.status != 201 or not made:
            raise self._unusable(f"answers {answer.status} to a new trust")
        return made

    def recall(self, trust_id: str) -> TrustToken | None:
        """The token that is remembered and still good."""
        known = self._known.get(trust_id)
        if known is None or known.expires - EARLY_SECONDS <= self._clock.seconds():
            return None
        self._known.move_to_end(trust_id)
        return known

    async def fetch(self, trust_id: str) -> TrustToken:
        """A new token for a trust.

        :raise TrustRefused: there is none for this trust.
        :raise IdentityUnavailable: that cannot be found out now.
        """
        self._known.pop(trust_id, None)
        if self._refused.get(trust_id, 0) > self._clock.seconds():
            raise TrustRefused
        scope = {"OS-TRUST:trust": {"id": trust_id}}
        answer = await self._log_in(scope)
        if answer.status in (401, 403, 404) and await self._is_login_good():
            self._remember_refused(trust_id)
            raise TrustRefused
        token = _token(answer)
        if token is None:
            raise self._unusable(f"answers {answer.status} to a login with a trust")
        self._known[trust_id] = token
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return token

    def _remember_refused(self, trust_id: str) -> None:
        self._refused[trust_id] = self._clock.seconds() + REFUSED_SECONDS
        self._refused.move_to_end(trust_id)
        if len(self._refused) > MAX_KNOWN:
            self._refused.popitem(last=False)

    async def _owner(self, token: str) -> Any:
        """Whose a token is, in the words of the identity service."""
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        answer = await self._ask("GET", "/auth/tokens", headers)
        if answer.status in (401, 403, 404):
            raise _not_trusted()
        if answer.status != 200:
            raise self._unusable(f"answers {answer.status} to a look at a token")
        return answer.document

    async def _trustee_user(self) -> str:
        if self._trustee_id is None:
            answer = await self._log_in(None)
            found = _text(answer.document, *_USER)
            if answer.status != 201 or not found:
                raise self._unusable(
                    f"answers {answer.status} to the login of the trustee; check the "
                    "group trustee of the configuration"
                )
            self._trustee_id = found
        return self._trustee_id

    async def _is_login_good(self) -> bool:
        # A wrong login and a missing trust get the same answer.
        return (await self._log_in(None)).status == 201

    async def _log_in(self, scope: Mapping[str, Any] | None) -> _Answer:
        scoped = {} if scope is None else {"scope": scope}
        document = {"auth": {"identity": self._trustee.identity, **scoped}}
        return await self._ask("POST", "/auth/tokens", {}, document)

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], document: Any = None
    ) -> _Answer:
        sent = self._send_in_turn(method, path, headers, document)
        asked = Deferred.fromCoroutine(sent)
        try:
            return await asked.addTimeout(self._timeout, self._clock)
        except CancelledError:
            raise
        except Exception as error:
            raise self._unusable("cannot be asked") from error

    async def _send_in_turn(self, *request: Any) -> _Answer:
        async with self._turns:
            return await self._send(*request)

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], document: Any
    ) -> _Answer:
        response = await self._client.request(
            method,
            self._url + path,
            headers=Headers({name: [value] for name, value in headers.items()}),
            **({} if document is None else {"json": document}),
            allow_redirects=False,
            unbuffered=True,
        )
        content = await _content(cast(IResponse, response))
        return _Answer(response.code, response.headers, _decoded(content))

    def _unusable(self, reason: str) -> IdentityUnavailable:
        self.log.error("The identity service {reason}", reason=reason)
        return IdentityUnavailable()


@frozen
class TrustWebhook:
    """Delivers to ``trust+http`` and ``trust+https`` subscribers."""

    _webhook: Webhook
    _trusts: Trusts

    schemes = ("trust+http", "trust+https")

    async def check(self, subscriber: str, options: JsonObject) -> None:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        if not isinstance(options.get(KEY, ""), str):
            raise InvalidRequest(f"'options.{KEY}' must be a string.")
        await self._webhook.check(_plain(subscriber), options)

    async def deliver(self, notice: Notice) -> Outcome:
        """See :class:`~mqsvc.notification.channel.Channel`."""
        trust_id = notice.subscription.options.get(KEY)
        if not isinstance(trust_id, str) or not trust_id:
            return refused(f"the subscription has no '{KEY}' in its options")
        try:
            return await self._deliver(notice, trust_id)
        except TrustRefused:
            return refused("the identity service does not know the trust any more")
        except IdentityUnavailable:
            return retry("the identity service gives no token now")

    async def _deliver(self, notice: Notice, trust_id: str) -> Outcome:
        token = self._trusts.recall(trust_id)
        if token is not None:
            outcome = await self._post(notice, token)
            if outcome.status != 401:
                return outcome
            # It may have been revoked, so a new one is worth the question.
        return await self._post(notice, await self._trusts.fetch(trust_id))

    async def _post(self, notice: Notice, token: TrustToken) -> Outcome:
        # Whoever learns the id of another project's trust must not get to use it.
        if token.project != notice.subscription.destination.project:
            return refused("the trust is one of another project")
        credentials = {"x-auth-token": token.value}
        url = _plain(notice.subscription.subscriber)
        return await self._webhook.post(notice, url, credentials)


def _plain(subscriber: str) -> str:
    return subscriber[len(TRUST_PREFIX) :]


def _not_trusted() -> NotAuthorized:
    return NotAuthorized(
        "Your token does not let you make a trust for this project. Use one that you "
        "got for the project with your password."
    )


def _roles(document: Any) -> list[dict[str, str]]:
    """The roles of a token, by their ids: names may differ in case only."""
    token = document.get("token") if isinstance(document, Mapping) else None
    roles = token.get("roles") if isinstance(token, Mapping) else None
    return [{"id": _text(role, "id")} for role in roles or []]


def _moment(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _token(answer: _Answer) -> TrustToken | None:
    value = (answer.headers.getRawHeaders("X-Subject-Token") or [""])[0]
    project = _text(answer.document, *_PROJECT)
    try:
        expires = datetime.fromisoformat(_text(answer.document, "token", "expires_at"))
    except ValueError:
        return None
    if answer.status != 201 or not value or not project:
        return None
    return TrustToken(value, project, expires.timestamp())


def _text(document: Any, *path: str) -> str:
    """The text at a path of a document, or nothing."""
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document if isinstance(document, str) else ""


async def _content(response: IResponse) -> bytes:
    content = bytearray()

    def collect(data: bytes) -> None:
        content.extend(data)
        if len(content) > MAX_ANSWER:
            raise ValueError("the answer is too large")

    await treq.collect(cast(Any, response), collect)
    return bytes(content)


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return None
