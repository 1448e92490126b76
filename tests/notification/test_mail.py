"""Mail, handed to a real SMTP server and to real programs."""

from __future__ import annotations

import email
import os
import shutil
import signal
import sys
from email.policy import default
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.process import ProcessReader
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import InvalidRequest
from mqsvc.notification import sendmail, smtp_session
from mqsvc.notification.channel import Letter, Outcome, Verdict
from mqsvc.notification.mail import Carrier, MailChannel
from mqsvc.notification.mail_address import parse_mailto
from mqsvc.notification.mail_text import Mail, compose
from mqsvc.notification.sendmail import SendmailCommand
from mqsvc.notification.smtp import Security, SMTPServer
from tests.live import free_port, missing
from tests.notification.mailbox import (
    CERTIFICATE,
    HOST,
    PASSWORD,
    USER,
    Mailbox,
    port_of,
    server_context,
)
from tests.notification.notices import CONTENT, notice
from tests.notification.receiver import Receiver, silent

SENDER = "mqsvc <no-reply@service.example>"
_reactor: Any = reactor

ANN = "mailto:ann@example.org"


def read(text: bytes) -> Any:
    """A mail as its recipient's program reads it."""
    return email.message_from_bytes(text, policy=default)


def composed(subscriber: str, **options: Any) -> Any:
    """The mail of a notification, as it is read."""
    return read(compose(notice(subscriber, **options), SENDER, 1_800_000_000).text)


class TextTests(SynchronousTestCase):
    """What a mail says."""

    def test_plain(self) -> None:
        """The content is the text, and the headers are complete."""
        mail = compose(notice(ANN), SENDER, 1_800_000_000)
        self.assertEqual(
            ("no-reply@service.example", "ann@example.org"),
            (mail.sender, mail.recipient),
        )
        message = read(mail.text)
        self.assertEqual(CONTENT.decode(), message.get_content().strip())
        self.assertEqual("text/plain", message.get_content_type())
        wanted = {
            "From": SENDER,
            "To": "ann@example.org",
            "Subject": "",
            "Date": "Fri, 15 Jan 2027 08:00:00 -0000",
            "Message-ID": "<d-1@service.example>",
            "MIME-Version": "1.0",
            "Auto-Submitted": "auto-generated",
        }
        self.assertEqual(wanted, {name: message[name] for name in wanted})
        self.assertEqual([], message.defects)

    def test_subject(self) -> None:
        """The one of the URI goes before the one of the options."""
        self.assertEqual("Opt", composed(ANN, subject="Opt")["Subject"])
        for field in ("subject", "Subject", "SUBJECT"):
            message = composed(f"{ANN}?{field}=From%20URI%21+1", subject="Opt")
            self.assertEqual("From URI!+1", message["Subject"])

    def test_author(self) -> None:
        """The options can name an author; the envelope stays the service's."""
        for text in ("me@z.org", "Zoë <me@z.org>", '"Me, too" <me@z.org>'):
            options: dict[str, Any] = {"from": text}
            mail = compose(notice(ANN, **options), SENDER, 0)
            self.assertEqual("no-reply@service.example", mail.sender)
            [address] = read(mail.text)["From"].addresses
            self.assertEqual("me@z.org", address.addr_spec)
        self.assertEqual("Me, too", address.display_name)

    def test_fields(self) -> None:
        """Of other fields of the URI those are used that add no recipient."""
        message = composed(
            f"{ANN}?reply-to=bob@example.org&keywords=a,b&cc=x@y.z&bcc=x@y.z&to=x@y.z"
            "&from=x@y.z&body=text&subject=first&subject=second"
        )
        self.assertEqual("bob@example.org", message["Reply-To"])
        self.assertEqual("a,b", message["Keywords"])
        self.assertEqual("first", message["Subject"])
        self.assertNotIn("x@y.z", str(message))

    def test_characters(self) -> None:
        """Subject and text are Unicode, also in long lines."""
        content = '{"body":"€ü' + "x" * 5000 + '"}'
        message = composed(ANN, content=content.encode(), subject="Grüße €" * 30)
        self.assertEqual(content, message.get_content().strip())
        self.assertEqual("Grüße €" * 30, message["Subject"])

    def test_lines(self) -> None:
        """No line is longer than mail allows, and all end as mail wants it."""
        content = ('{"body":"' + "y" * 3000 + '"}').encode()
        text = compose(notice(ANN, content=content, subject="s" * 900), SENDER, 0).text
        self.assertNotIn(b"\n", text.replace(b"\r\n", b""))
        self.assertLess(max(len(line) for line in text.split(b"\r\n")), 999)

    def test_header_injection(self) -> None:
        """A line break never begins a header."""
        evil = "a\r\nBcc: victim@example.org\n\nbody\x85\u2028Cc: v@example.org\x00"
        encoded = "%0d%0aBcc:%20victim@example.org%0A%0Ax"
        for message in (
            composed(ANN, subject=evil),
            composed(f"{ANN}?subject=x{encoded}"),
            composed(f"{ANN}?keywords=x{encoded}"),
            composed(ANN, **{"from": f"{evil} <me@z.org>"}),
        ):
            self.assertIsNone(message["Bcc"])
            self.assertIsNone(message["Cc"])
            self.assertEqual(CONTENT.decode(), message.get_content().strip())

    def test_letter(self) -> None:
        """A notice that is no message says itself how it looks."""
        letter = Letter("Confirm", "Service <s@z.org>", "Please follow the link.")
        message = composed(f"{ANN}?subject=x", letter=letter)
        self.assertEqual(
            ("Confirm", "Service <s@z.org>"), (message["Subject"], message["From"])
        )
        self.assertEqual("Please follow the link.", message.get_content().strip())


class AddressTests(SynchronousTestCase):
    """Who can get mail."""

    def test_good(self) -> None:
        """An address, however the URI writes it."""
        for uri, wanted in (
            ("mailto:ann@example.org", "ann@example.org"),
            ("MAILTO:ann%40example.org", "ann@example.org"),
            ("mailto:a.b+c@Example.ORG?", "a.b+c@example.org"),
            ("mailto:ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("mailto:root@localhost", "root@localhost"),
        ):
            self.assertEqual(wanted, parse_mailto(uri).recipient)

    def test_bad(self) -> None:
        """What is no single plain address is refused."""
        for uri in (
            *("mailto:", "mailto:ann", "mailto:@b.c", "mailto:a@", "mailto:?subject=x"),
            *("mailto:a@b.c,d@e.f", "mailto:a@b.c%0d%0ad@e.f", "mailto:a b@c.d"),
            *(
                "mailto:a%0a@b.c",
                "mailto:|cmd@b.c",
                "mailto:a%25b@c.d",
                "mailto:a@b@c.d",
            ),
            *(
                'mailto:"a b"@c.d',
                "mailto:ü@b.c",
                "mailto:a@[127.0.0.1]",
                "mailto:a@ü\u202e.c",
                "mailto:a@b..c",
            ),
            *(f"mailto:{'a' * 65}@b.c", "mailto:.a@b.c", "mailto:a@b.c?reply-to=x"),
        ):
            with self.assertRaises(InvalidRequest, msg=uri):
                parse_mailto(uri)


class CheckTests(TestCase):
    """What is refused when a subscription is made, and later."""

    def setUp(self) -> None:
        """Deliver to nobody."""
        self.channel = MailChannel(Unused(), SENDER, Clock())

    async def test_options(self) -> None:
        """Options that could not be sent are refused."""
        refused: list[dict[str, Any]] = [
            {"subject": 5},
            {"from": []},
            {"from": "nobody"},
        ]
        for options in refused:
            with self.assertRaises(InvalidRequest):
                await self.channel.check(ANN, options)
        await self.channel.check(ANN, {"subject": "x", "from": "a@b.c"})

    async def test_kept_before(self) -> None:
        """What slipped in earlier ends the delivery."""
        options: dict[str, Any] = {"from": "x"}
        for told in (notice("mailto:a@b.c,d@e.f"), notice(ANN, **options)):
            outcome = await self.channel.deliver(told)
            self.assertEqual(Verdict.REFUSED, outcome.verdict)


class Unused:
    """A carrier that must get nothing."""

    async def send(self, mail: Mail) -> Outcome:
        """See :class:`Carrier`."""
        raise AssertionError(f"a mail to {mail.recipient}")


class Scripted(LineReceiver):
    """A mail server that says what is written down, line by line, and then nothing."""

    def __init__(self, replies: list[bytes]) -> None:
        self.silent: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._replies = replies
        self._is_in_mail = False

    def connectionMade(self) -> None:
        """Greet."""
        self.sendLine(self._replies.pop(0))

    def lineReceived(self, line: bytes) -> None:
        """Reply to a command, or to the end of a mail."""
        if self._is_in_mail and line != b".":
            return
        self._is_in_mail = line == b"DATA"
        if self._replies:
            self.sendLine(self._replies.pop(0))
        elif not self.silent.called:
            self.silent.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell of it."""
        self.closed.callback(None)


class SMTPTests(TestCase):
    """Over SMTP to a server that speaks it."""

    timeout = 30

    def setUp(self) -> None:
        """Begin with an empty mailbox."""
        self.mailbox = Mailbox()

    def server(
        self,
        security: Security = "none",
        user: str = "",
        password: str = PASSWORD,
        **arguments: Any,
    ) -> SMTPServer:
        """A server that puts mail into the mailbox, as we reach it."""
        controller = self.mailbox.listen(**arguments)
        self.addCleanup(controller.stop)
        trust = CERTIFICATE.trust()
        port = port_of(controller)
        return SMTPServer(reactor, HOST, port, security, user, password, trust)

    async def outcome(self, carrier: Carrier, **options: Any) -> Outcome:
        """What comes of one attempt."""
        channel = MailChannel(carrier, SENDER, reactor)
        return await channel.deliver(notice(ANN, **options))

    async def test_plain(self) -> None:
        """A mail arrives as it was composed, with its envelope."""
        outcome = await self.outcome(self.server())
        self.assertEqual((Verdict.DELIVERED, ""), (outcome.verdict, outcome.error))
        self.assertGreater(outcome.duration, 0)
        [mail] = self.mailbox.mails
        self.assertEqual("no-reply@service.example", mail.mail_from)
        self.assertEqual(["ann@example.org"], mail.rcpt_tos)
        self.assertEqual(CONTENT.decode(), read(mail.content).get_content().strip())

    async def test_starttls(self) -> None:
        """STARTTLS comes before the mail and the login."""
        server = self.server(
            "starttls",
            USER,
            tls_context=server_context(),
            require_starttls=True,
            auth_required=True,
            authenticator=self.mailbox.authenticate,
        )
        outcome = await self.outcome(server)
        self.assertEqual((Verdict.DELIVERED, ""), (outcome.verdict, outcome.error))
        self.assertEqual(1, len(self.mailbox.mails))
        self.assertEqual(1, len(self.mailbox.logins))

    async def test_tls(self) -> None:
        """TLS from the first byte, with a login."""
        server = self.server(
            "tls",
            USER,
            ssl_context=server_context(),
            auth_require_tls=False,
            auth_required=True,
            authenticator=self.mailbox.authenticate,
        )
        outcome = await self.outcome(server)
        self.assertEqual((Verdict.DELIVERED, ""), (outcome.verdict, outcome.error))
        self.assertEqual(1, len(self.mailbox.mails))

    async def test_no_starttls(self) -> None:
        """A server without STARTTLS gets no mail where it is demanded."""
        outcome = await self.outcome(self.server("starttls"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertEqual([], self.mailbox.mails)

    async def test_untrusted(self) -> None:
        """A server with a certificate that nobody vouches for gets no mail."""
        ways: tuple[tuple[Security, str], ...] = (
            ("tls", "ssl_context"),
            ("starttls", "tls_context"),
        )
        for security, argument in ways:
            controller = self.mailbox.listen(**{argument: server_context()})
            self.addCleanup(controller.stop)
            server = SMTPServer(reactor, HOST, port_of(controller), security)
            outcome = await self.outcome(server)
            self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertEqual([], self.mailbox.mails)

    async def test_wrong_password(self) -> None:
        """A failed login is ours to mend: it is tried again and not shown."""
        server = self.server(
            user=USER,
            password="guessed",
            auth_require_tls=False,
            auth_required=True,
            authenticator=self.mailbox.authenticate,
        )
        outcome = await self.outcome(server)
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertNotIn("guessed", repr((outcome, server)))
        self.assertEqual([], self.mailbox.mails)

    async def test_login_needed(self) -> None:
        """So is a login that the server wants and we do not have."""
        server = self.server(
            auth_require_tls=False,
            auth_required=True,
            authenticator=self.mailbox.authenticate,
        )
        outcome = await self.outcome(server)
        self.assertEqual((Verdict.RETRY, 530), (outcome.verdict, outcome.status))

    async def test_replies(self) -> None:
        """4xx is tried again, 5xx ends it, at each step."""
        server = self.server()
        for command in ("MAIL", "RCPT", "DATA"):
            for reply, verdict in ((450, Verdict.RETRY), (550, Verdict.REFUSED)):
                self.mailbox.replies = {command: f"{reply} no"}
                outcome = await self.outcome(server)
                self.assertEqual((verdict, reply), (outcome.verdict, outcome.status))
        self.assertEqual([], self.mailbox.mails)

    async def test_nobody_listens(self) -> None:
        """A server that is away is tried again."""
        server = SMTPServer(reactor, HOST, free_port(), "none")
        outcome = await self.outcome(server)
        self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_silence(self) -> None:
        """A server that says nothing is left when the time is over."""
        self.patch(smtp_session, "REPLY_SECONDS", 0.05)
        self.patch(smtp_session, "CLOSE_SECONDS", 0.05)
        receiver = Receiver([silent])
        port = receiver.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.close()))
        outcome = await self.outcome(SMTPServer(reactor, HOST, port, "none"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        await receiver.all_closed()

    async def test_cancelled(self) -> None:
        """Who gives up an attempt closes its session."""
        receiver = Receiver([silent])
        accepted: Deferred[None] = Deferred()
        receiver.accepted = accepted
        port = receiver.listen()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.close()))
        server = SMTPServer(reactor, HOST, port, "none")
        attempt = Deferred.fromCoroutine(self.outcome(server))
        await accepted
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        await receiver.all_closed()

    async def test_cancelled_in_session(self) -> None:
        """It does so also in the middle of the session."""
        self.patch(smtp_session, "CLOSE_SECONDS", 3600)
        scripted = Scripted([b"220 ready"])
        attempt = Deferred.fromCoroutine(self.outcome(self.scripted(scripted)))
        await scripted.silent
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        await scripted.closed

    async def test_nonsense_at_the_end(self) -> None:
        """What a server says after it took the mail changes nothing."""
        taken = (b"220 ready", b"250 hi", b"250 ok", b"250 ok", b"354 go", b"250 taken")
        scripted = Scripted([*taken, b"nonsense"])
        outcome = await self.outcome(self.scripted(scripted))
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        await scripted.closed

    def scripted(self, protocol: Scripted) -> SMTPServer:
        """A server whose replies are written down, as we reach it."""
        port = _reactor.listenTCP(0, Factory.forProtocol(lambda: protocol))
        self.addCleanup(port.stopListening)
        return SMTPServer(reactor, HOST, port.getHost().port, "none")

    async def test_dots(self) -> None:
        """A dot at the beginning of a line ends no mail, wherever pieces are cut."""
        server = self.server()
        head = compose(notice(ANN), SENDER, 0).text.partition(b"\r\n\r\n")[0]
        evil = b".\r\nMAIL FROM:<evil@z.org>\r\nRCPT TO:<victim@z.org>\r\nDATA\r\n"
        for shift in range(4):
            # The dot is near the end of a piece, as Twisted cuts them.
            size = 2**14 - len(head) - 4 - 2 + shift - 1
            filler = (b"x" * 98 + b"\r\n") * (size // 100)
            filler += b"x" * (size - len(filler)) + b"\r\n"
            text = head + b"\r\n\r\n" + filler + evil
            outcome = await server.send(Mail("a@b.c", "ann@example.org", text))
            self.assertEqual(Verdict.DELIVERED, outcome.verdict)
            [mail] = self.mailbox.mails
            self.assertEqual(text, mail.original_content)
            self.mailbox.mails.clear()


class CommandTests(TestCase):
    """By a program of this machine."""

    timeout = 30

    def setUp(self) -> None:
        """A place for what the program gets."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.addCleanup(shutil.rmtree, self.directory)

    def script(self, code: str) -> SendmailCommand:
        """A program of a few lines; its first argument is the directory."""
        path = self.directory / "it is sendmail.py"
        path.write_text(code)
        command = f"{sys.executable} '{path}' '{self.directory}' -t \"-o i;$HOME\""
        environ = {**os.environ, "MQSVC_SECRET": "x"}
        return SendmailCommand.parse(reactor, command, environ)

    async def outcome(self, carrier: Carrier) -> Outcome:
        """What comes of one attempt."""
        channel = MailChannel(carrier, SENDER, reactor)
        return await channel.deliver(notice(ANN))

    async def test_script(self) -> None:
        """The program gets the mail, its arguments without a shell, and no secrets."""
        outcome = await self.outcome(
            self.script(
                "import os, sys, pathlib\n"
                "there = pathlib.Path(sys.argv[1])\n"
                "(there / 'mail').write_bytes(sys.stdin.buffer.read())\n"
                "rest = repr((sys.argv[2:], sorted(os.environ)))\n"
                "(there / 'rest').write_text(rest)\n"
            )
        )
        self.assertEqual((Verdict.DELIVERED, 0), (outcome.verdict, outcome.status))
        text = (self.directory / "mail").read_bytes()
        self.assertNotIn(b"\r", text)
        self.assertEqual(CONTENT.decode(), read(text).get_content().strip())
        rest = (self.directory / "rest").read_text()
        self.assertTrue(rest.startswith("(['-t', '-o i;$HOME'], "), rest)
        self.assertNotIn("MQSVC", rest)

    async def test_exit_codes(self) -> None:
        """Some exit codes are about the mail, all others about the machine."""
        for code, verdict in (
            *((65, Verdict.REFUSED), (67, Verdict.REFUSED), (68, Verdict.REFUSED)),
            *((1, Verdict.RETRY), (69, Verdict.RETRY), (75, Verdict.RETRY)),
            (78, Verdict.RETRY),
        ):
            outcome = await self.outcome(self.script(f"raise SystemExit({code})"))
            self.assertEqual((verdict, code), (outcome.verdict, outcome.status))

    async def test_missing(self) -> None:
        """A program that is not there may be there later."""
        command = SendmailCommand.parse(reactor, "/nowhere/sendmail -t", os.environ)
        outcome = await self.outcome(command)
        self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_killed(self) -> None:
        """A program that ends by a signal did not take the mail."""
        code = "import os; os.kill(os.getpid(), 9)"
        outcome = await self.outcome(self.script(code))
        self.assertEqual(Verdict.RETRY, outcome.verdict)

    async def test_left_running(self) -> None:
        """What the program leaves running in the background is not waited for."""
        script = self.script(
            "import pathlib, subprocess, sys\n"
            "left = subprocess.Popen(['sleep', '600'])\n"
            "(pathlib.Path(sys.argv[1]) / 'left').write_text(str(left.pid))\n"
        )
        outcome = await self.outcome(script)
        still_read = [r for r in _reactor.getReaders() if isinstance(r, ProcessReader)]
        left = int((self.directory / "left").read_text())
        os.kill(left, signal.SIGKILL)
        self.assertEqual(Verdict.DELIVERED, outcome.verdict)
        self.assertEqual([], still_read)

    async def test_endless(self) -> None:
        """A program that does not end is ended."""
        self.patch(sendmail, "ATTEMPT_SECONDS", 0.05)
        outcome = await self.outcome(self.script("import time; time.sleep(60)"))
        self.assertEqual(Verdict.RETRY, outcome.verdict)
        self.assertIn("did not end", outcome.error)

    async def test_real_program(self) -> None:
        """msmtp, called as sendmail is, passes the mail on to a server."""
        program = shutil.which("msmtp")
        if program is None:
            missing("msmtp", "apt-get install msmtp")
        mailbox = Mailbox()
        controller = mailbox.listen()
        self.addCleanup(controller.stop)
        command = (
            f"{program} --file=/dev/null --host={HOST} --port={port_of(controller)} "
            "--from=no-reply@service.example -t -oi"
        )
        outcome = await self.outcome(
            SendmailCommand.parse(reactor, command, os.environ)
        )
        self.assertEqual((Verdict.DELIVERED, ""), (outcome.verdict, outcome.error))
        [mail] = mailbox.mails
        self.assertEqual(["ann@example.org"], mail.rcpt_tos)
        self.assertEqual(CONTENT.decode(), read(mail.content).get_content().strip())

    def test_malformed(self) -> None:
        """A command that is none is refused when it is read."""
        for text in ("", "  ", "sendmail 'x"):
            with self.assertRaises(ValueError):
                SendmailCommand.parse(reactor, text, {})
