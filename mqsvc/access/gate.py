"""What every transport asks before it calls an operation: who is it, and may they.

Either the operator has chosen an authenticator, and then nothing that a client says
of itself is believed; or nobody is asked for credentials, and everything is.
"""

from __future__ import annotations

from attrs import frozen

from mqsvc.access.authentication import TOKEN_HEADER, Authenticator, Identity
from mqsvc.access.identity import Caller, Headers, client_id_of, project_of, roles_of
from mqsvc.access.policy import Policy
from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import Now
from mqsvc.messaging.errors import InvalidHeader, NotAuthenticated
from mqsvc.messaging.limits import Limits

SIGNATURE_HEADER = "URL-Signature"


@frozen
class Gate:
    """The checks of callers, the same for all transports.

    :ivar authenticator: none believes what callers say of themselves.
    """

    authenticator: Authenticator | None
    policy: Policy
    signed_urls: SignedUrls
    limits: Limits
    now: Now

    async def authenticate(self, headers: Headers) -> Identity | None:
        """Whose the token of a request is.

        :return: none where no token is asked for: without an authenticator, or with a
            signature, which :meth:`check_signature` has to accept.
        :raise NotAuthenticated: there is no token, or it does not hold.
        :raise IdentityUnavailable: whether it holds cannot be found out.
        """
        if self.authenticator is None or headers(SIGNATURE_HEADER):
            return None
        token, challenge = headers(TOKEN_HEADER), self.authenticator.challenge
        if not token:
            raise NotAuthenticated(challenge)
        try:
            return await self.authenticator.identify(token)
        except NotAuthenticated as error:
            raise NotAuthenticated(challenge) from error

    def check_signature(self, headers: Headers, method: str, path: str) -> None:
        """Let a request pass that has no signature, or one that holds.

        :raise UnknownRoute: for every failure, so that nothing can be learnt from it.
        """
        # An empty one is none that could hold, and must not open what a missing
        # one does not.
        if headers(SIGNATURE_HEADER) is not None:
            self.signed_urls.check(headers, method, path, self.now())

    def caller(self, headers: Headers, identity: Identity | None) -> Caller:
        """On whose behalf a request is, after both checks above.

        :raise InvalidHeader: a header is missing or malformed, or the token is for no
            project.
        """
        client_id = client_id_of(headers, self.limits)
        if identity is None:
            project = project_of(headers)
            signed = headers(SIGNATURE_HEADER)
            believed = self.authenticator is None and not signed
            roles = roles_of(headers) if believed else frozenset[str]()
            return Caller(_named(project), client_id, roles)
        if not identity.project:
            raise InvalidHeader(
                "Project-Id Missing",
                "The token is for no project: ask for one that is.",
            )
        return Caller(
            *(identity.project, client_id, identity.roles, identity.user),
            token=headers(TOKEN_HEADER),
        )

    def allow(self, caller: Caller, rule: str) -> None:
        """Let a caller do what a rule of the policy is about.

        :raise NotAuthorized: the policy is against it.
        """
        self.policy.check(caller, rule)


def _named(project: str | None) -> str:
    if project is None:
        raise InvalidHeader("Project-Id Missing", "The X-Project-ID header is missing.")
    if not project:
        raise InvalidHeader(
            "Empty project header not allowed", "The X-Project-ID header is empty."
        )
    return project
