"""Mail by SMTP, to the server that the operator names."""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS

from mqsvc.notification.channel import Outcome
from mqsvc.notification.mail_text import Mail

CONNECT_SECONDS = 10

Security = Literal["tls", "starttls", "none"]


@frozen
class SMTPServer:
    """A server that takes mail from us.

    :ivar security: ``tls`` from the first byte, ``starttls``, which is then demanded,
        or ``none``.
    :ivar user: logs in when there is one.
    :ivar trust: what vouches for its certificate; none is the platform's choice.
    """

    _reactor: Any
    host: str
    port: int
    security: Security
    user: str = ""
    _password: str = field(default="", repr=False)
    _trust: Any = None

    async def send(self, mail: Mail) -> Outcome:
        """Hand over one mail; whatever fails is in the outcome."""
        # The reactor, which it imports, is not chosen yet when this module is read.
        from mqsvc.notification.smtp_session import Session  # noqa: PLC0415

        session = Session(
            self._reactor,
            self._endpoint(),
            self.user,
            self._password,
            starttls=self._tls() if self.security == "starttls" else None,
            requires_tls=self.security != "none",
        )
        return await session.send(mail)

    def _endpoint(self) -> Any:
        endpoint = HostnameEndpoint(
            self._reactor, self.host, self.port, CONNECT_SECONDS
        )
        if self.security != "tls":
            return endpoint
        return wrapClientTLS(self._tls(), endpoint)

    def _tls(self) -> Any:
        return optionsForClientTLS(self.host, trustRoot=self._trust)
