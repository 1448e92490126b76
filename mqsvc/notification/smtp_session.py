"""One session with a mail server.

Importing this module imports Twisted's mail client and with it the reactor, so that
:mod:`.smtp` does so only when the first mail is sent.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
)
from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import (
    ESMTPSender,
    ESMTPSenderFactory,
    SMTPClientError,
    SMTPDeliveryError,
)
from twisted.python.failure import Failure

from mqsvc.notification.channel import Outcome, Verdict, refused, retry
from mqsvc.notification.mail_text import Mail

REPLY_SECONDS = 30
ATTEMPT_SECONDS = 60
"""For the whole session."""

CLOSE_SECONDS = 5
"""For the good-bye, when all is said."""

_LOGIN = (530, 534, 535, 538)
"""Replies that say that it is our login which is wrong, not the mail."""


class _Protocol(ESMTPSender):
    """The client's side of a session."""

    # It would keep the lines of the login.
    debug = False

    def sendError(self, exc: Exception) -> None:
        """See Twisted's; what goes wrong after the mail was taken is nothing."""
        if self.factory.sendFinished:
            self.smtpState_disconnect(-1, b"")
        else:
            super().sendError(exc)

    def smtpState_msgSent(self, code: int, resp: bytes | str) -> None:
        """The fate of the mail is known; say good-bye, which takes any reply.

        Twisted would clear the session for another mail first, and do so for ever with
        a server that refuses that, too.
        """
        self.sentMail(
            code, resp, len(self.successAddresses), self.toAddressesResult, self.log
        )
        self._disconnectFromServer()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The session is over."""
        super().connectionLost(reason)
        # Endpoints do not tell a factory, as the reactor would.
        self.factory.clientConnectionLost(None, reason)
        self.factory.closed.callback(None)

    def transformChunk(self, chunk: bytes) -> bytes:
        """The next piece as it is: the dots are doubled already.

        Twisted does so piece by piece and misses one at the beginning of a piece, with
        which a sender could end the mail early and go on with commands.
        """
        self.resetTimeout()
        return chunk


class _Factory(ESMTPSenderFactory):
    protocol = _Protocol
    noisy = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.closed: Deferred[None] = Deferred()


@frozen
class Session:
    """How to hand over one mail.

    :ivar user: logs in when there is one.
    :ivar starttls: the TLS to change to before anything is said, if any.
    :ivar requires_tls: whether nothing is said without TLS.
    """

    _reactor: Any
    _endpoint: Any
    user: str
    _password: str = field(repr=False)
    _starttls: Any
    requires_tls: bool

    async def send(self, mail: Mail) -> Outcome:
        """Hand over one mail; whatever fails is in the outcome."""
        sent = Deferred.fromCoroutine(self._send(mail))
        try:
            await sent.addTimeout(ATTEMPT_SECONDS, self._reactor)
        except SMTPDeliveryError as error:
            is_final = error.code >= 500 and error.code not in _LOGIN
            outcome = refused if is_final else retry
            return outcome(f"the mail server answers {error.code}", error.code)
        except SMTPClientError as error:
            code = error.code if error.code > 0 else None
            return retry(f"no mail session: {type(error).__name__}", code)
        except (ConnectError, DNSLookupError, DeferredTimeout) as error:
            return retry(f"the mail server is away: {type(error).__name__}")
        return Outcome(Verdict.DELIVERED, 250)

    async def _send(self, mail: Mail) -> None:
        result: Deferred[Any] = Deferred()
        factory = self._factory(mail, result)
        protocol = await self._connected(factory)
        try:
            await result
        except CancelledError:
            factory.sendFinished = True
            protocol.transport.abortConnection()
            raise
        finally:
            factory.closed.addTimeout(
                CLOSE_SECONDS,
                self._reactor,
                lambda _, seconds: protocol.transport.abortConnection(),
            )
            await factory.closed

    async def _connected(self, factory: _Factory) -> Any:
        try:
            return await self._endpoint.connect(factory)
        except ConnectingCancelledError as error:
            raise CancelledError from error

    def _factory(self, mail: Mail, result: Deferred[Any]) -> _Factory:
        return _Factory(
            self.user.encode(),
            self._password.encode() if self.user else b"",
            mail.sender,
            mail.recipient,
            BytesIO(mail.text.replace(b"\r\n.", b"\r\n..")),
            result,
            retries=0,
            timeout=REPLY_SECONDS,
            contextFactory=self._starttls,
            requireAuthentication=bool(self.user),
            requireTransportSecurity=self.requires_tls,
        )
