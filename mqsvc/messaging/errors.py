"""Every failure a caller can meet, each with what both transports show of it.

::

    MessagingError
      InvalidRequest 400            a value out of its bounds
        InvalidBody                 broken JSON, wrong type, bad patch
        InvalidParameter            a query parameter that cannot be read
        InvalidHeader               Client-ID, X-Project-ID, Content-Type, ...
        InvalidName                 a queue or topic name
        MessageNotClaimed           deleted with a claim that does not hold it
        UnusableSubscription        "Unable to update / confirm subscription"
        UnusablePool                "Unable to create / update pool"
        UnusableFlavor              "Unable to create", "updatefail"
      NotAuthenticated 401          no valid token
      NotAuthorized 403
      MessageIsClaimed 403          deleted without the claim that holds it
      PoolInUse 403                 a pool that queues or a flavor still need
      NotFound 404
        DestinationDoesNotExist, MessageDoesNotExist, ClaimDoesNotExist,
        SubscriptionDoesNotExist, PoolDoesNotExist, FlavorDoesNotExist
      UnknownRoute 404              no such path, or a signature that does not hold
      MethodNotAllowed 405
      NotAcceptable 406
      BodyTooLarge 413
      UnsupportedMediaType 415
      Conflict 409
      QuotaExceeded 429             a project uses more than it may
      StoreUnavailable 503
        NoPool                      there is no pool for a queue
        IdentityUnavailable         whose a token is cannot be found out now
        UnreadableMessage           encrypted with a key that is not configured

The text of an exception is shown to the caller as the description: it names the
field and the bound, and never a secret, a body or the text of an inner failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class MessagingError(Exception):
    """The root. ``status`` and ``title`` are fixed by the class."""

    status: ClassVar[int] = 500
    title: str = "Internal server error"

    def __init__(self, description: str = "") -> None:
        super().__init__(description)
        self.description = description


class InvalidRequest(MessagingError):
    """A value is of the right type but outside what is allowed."""

    status = 400
    title = "Invalid API request"


class InvalidBody(InvalidRequest):
    """The body cannot be read or has the wrong shape."""

    title = "Invalid request body"


class InvalidParameter(InvalidRequest):
    """A query parameter is not of its type."""

    title = "Invalid parameter"


class InvalidHeader(InvalidRequest):
    """A request header is missing or malformed; the title says how."""

    def __init__(self, title: str, description: str) -> None:
        super().__init__(description)
        self.title = title


class InvalidName(InvalidRequest):
    """A queue or topic name, or its project, is malformed."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(description)
        self.title = f"Invalid {kind} identification"


class MessageNotClaimed(InvalidRequest):
    """The claim given does not exist, or the message is under no claim."""

    title = "Unable to delete"


class UnusableSubscription(InvalidRequest):
    """A subscription cannot be changed as asked."""

    def __init__(self, action: str, description: str) -> None:
        super().__init__(description)
        self.title = f"Unable to {action} subscription"


class UnusablePool(InvalidRequest):
    """A pool cannot be kept as asked: its store does not work."""

    def __init__(self, action: str, description: str) -> None:
        super().__init__(description)
        self.title = f"Unable to {action} pool"


class UnusableFlavor(InvalidRequest):
    """A flavor cannot be kept as asked: a pool of it is missing.

    :ivar title: as it is in the contract.
    :ivar location: the path of the flavor, where the answer is to name it.
    """

    def __init__(
        self, title: str, description: str, location: str | None = None
    ) -> None:
        super().__init__(description)
        self.title = title
        self.location = location


class NotAuthenticated(MessagingError):
    """The caller shows no token, or one that does not hold.

    :ivar challenge: how to get one, as ``WWW-Authenticate`` says it.
    """

    status = 401
    title = "Unauthorized"

    def __init__(self, challenge: str = "") -> None:
        super().__init__("The request you have made requires authentication.")
        self.challenge = challenge


class NotAuthorized(MessagingError):
    """The caller's roles do not allow the operation."""

    status = 403
    title = "Not authorized"


class MessageIsClaimed(MessagingError):
    """The message is under a live claim that the caller did not show."""

    status = 403
    title = "Unable to delete"


class PoolInUse(MessagingError):
    """Queues have their messages in the pool, or it is the last one of a flavor."""

    status = 403
    title = "Unable to delete"


class NotFound(MessagingError):
    """The resource has the right shape and does not exist."""

    status = 404
    title = "Not found"


class DestinationDoesNotExist(NotFound):
    """No such queue or topic."""


class MessageDoesNotExist(NotFound):
    """No such message, or it expired."""


class ClaimDoesNotExist(NotFound):
    """No such claim, or it expired or was released."""


class SubscriptionDoesNotExist(NotFound):
    """No such subscription of this destination, or it expired."""


class PoolDoesNotExist(NotFound):
    """No such pool."""


class FlavorDoesNotExist(NotFound):
    """No such flavor."""


class UnknownRoute(MessagingError):
    """No such path; also what every failure of a signature looks like."""

    status = 404
    title = "404 Not Found"


class MethodNotAllowed(MessagingError):
    """The path exists, the method does not."""

    status = 405
    title = "405 Method Not Allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.allowed = tuple(allowed)


class NotAcceptable(MessagingError):
    """The client excludes JSON."""

    status = 406
    title = "Media type not acceptable"


class BodyTooLarge(MessagingError):
    """The body is larger than any operation takes; it was not read to its end."""

    status = 413
    title = "Request body too large"


class UnsupportedMediaType(MessagingError):
    """The Content-Type is not the one this operation takes."""

    status = 415
    title = "415 Unsupported Media Type"


class Conflict(MessagingError):
    """The state of the resource does not allow the change.

    :ivar location: the path of the resource in the way, where there is one.
    """

    status = 409
    title = "Resource conflict"

    def __init__(self, description: str, location: str | None = None) -> None:
        super().__init__(description)
        self.location = location


class QuotaExceeded(MessagingError):
    """The project has or does as much as it may.

    :ivar retry_after: seconds until it is worth another try.
    """

    status = 429
    title = "Too many requests"

    def __init__(self, description: str, retry_after: int) -> None:
        super().__init__(description)
        self.retry_after = retry_after


class StoreUnavailable(MessagingError):
    """A store did not answer; nothing is known to have changed."""

    status = 503
    title = "Service temporarily unavailable"

    def __init__(self, description: str = "") -> None:
        super().__init__(
            description
            or "The store did not answer. Please try again in a few seconds."
        )


class NoPool(StoreUnavailable):
    """A destination has no pool, and none is there for it."""


class IdentityUnavailable(StoreUnavailable):
    """The identity service did not answer."""

    def __init__(self) -> None:
        super().__init__(
            "The identity service did not answer. Please try again in a few seconds."
        )


class UnreadableMessage(StoreUnavailable):
    """A message was encrypted with a key that this server does not have."""
