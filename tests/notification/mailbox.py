"""A mail server on a real socket, and what it got."""

from __future__ import annotations

import logging
import ssl
import tempfile
import warnings
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from attrs import define, field

from tests.live import free_port
from tests.notification.receiver import Certificate

HOST = "127.0.0.1"
USER, PASSWORD = "mqsvc", "for-tests-only"

CERTIFICATE = Certificate(HOST)


def server_context() -> ssl.SSLContext:
    """What a server shows the certificate with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "both.pem"
        path.write_bytes(CERTIFICATE.key + CERTIFICATE.pem)
        context.load_cert_chain(path)
    return context


@define
class Mailbox:
    """Takes mails, or answers as a test wants.

    :ivar replies: to the commands ``MAIL``, ``RCPT`` and ``DATA``, in place of yes.
    """

    replies: dict[str, str] = field(factory=dict)
    mails: list[Any] = field(factory=list)
    logins: list[str] = field(factory=list)

    async def handle_MAIL(
        self, server: SMTP, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """The sender."""
        envelope.mail_from = address
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """The recipient."""
        if "RCPT" in self.replies:
            return self.replies["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """The mail itself."""
        if "DATA" in self.replies:
            return self.replies["DATA"]
        self.mails.append(envelope)
        return "250 taken"

    def authenticate(
        self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        """Accept one user."""
        self.logins.append(mechanism)
        login = LoginPassword(USER.encode(), PASSWORD.encode())
        # Not handled means that the server says so itself.
        return AuthResult(success=data == login, handled=False)

    def listen(self, **arguments: Any) -> Controller:
        """Start in a thread of its own; stop it at the end."""
        # It tells of every session that goes wrong, as many are meant to here.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module="aiosmtpd")
        controller = Controller(self, hostname=HOST, port=free_port(), **arguments)
        controller.start()
        return controller


def port_of(controller: Controller) -> int:
    """The port that it listens on."""
    number: int = controller.port
    return number
