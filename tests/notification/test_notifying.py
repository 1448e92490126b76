"""How settings become what asks subscribers."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.config import ConfigError, load
from mqsvc.tap import make_root
from tests.rest.server import PROJECT, RestTestCase, asking

SENDMAIL = """\
#!/bin/sh
cat > "{mail}.new" && mv "{mail}.new" "{mail}"
"""

CONFIRMATION = "notification.require_confirmation=true"
SECRET = "signed_url.secret_key=for-tests-only"
TEMPLATE = "notification.subscription_confirmation_email_template"


class MailTests(RestTestCase):
    """Mails that ask, in the operator's words."""

    async def setUp(self) -> None:
        """Start with a program that keeps mails."""
        self.mail, program = self.make_program()
        self.settings = (
            *(CONFIRMATION, SECRET, f"notification.smtp_command={program}"),
            "notification.public_url=https://mq.example/",
            "notification.sender=Messages <no-reply@mq.example>",
            f'{TEMPLATE}={{"topic": "Please", "body": "{{0}} of {{1}}:\\n{{2}}"}}',
        )
        await super().setUp()

    def make_program(self) -> tuple[Path, Path]:
        """Where a mail will be, and what puts it there."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        mail, program = directory / "mail", directory / "sendmail"
        program.write_text(SENDMAIL.format(mail=mail))
        program.chmod(0o700)
        return mail, program

    def read(self) -> Any:
        """The mail, if it is there."""
        if not self.mail.exists():
            return None
        raw = self.mail.read_bytes()
        return email.message_from_bytes(raw, policy=email.policy.default)

    async def test_words(self) -> None:
        """Subject and text are those of the settings, the sender is the service."""
        made = await self.subscribe("q", "mailto:ann@example.org")
        while (mail := self.read()) is None:
            await self.pass_time()
        self.assertEqual("Please", mail["Subject"])
        self.assertEqual("Messages <no-reply@mq.example>", mail["From"])
        head, link = mail.get_content().strip().splitlines()
        self.assertEqual(f"q of {PROJECT}:", head)
        self.assertTrue(link.startswith("https://mq.example/v2/confirm?Signature="))
        self.assertIn(made, link)

    async def test_refused(self) -> None:
        """An address that no mail can go to is refused, and nobody asked."""
        body = {"subscriber": "mailto:nobody"}
        request = asking("POST", "/v2/queues/q/subscriptions", json=body)
        await self.refuses(400, "Invalid API request", [request])


class SettingTests(SynchronousTestCase):
    """Settings that cannot be used."""

    def refusal(self, *settings: str) -> str:
        """What is said at the start."""
        settings = (f"data_dir={self.mktemp()}", CONFIRMATION, *settings)
        error = self.assertRaises(
            ConfigError, make_root, load(None, {}, settings), reactor
        )
        return str(error)

    def test_bad_template(self) -> None:
        """A mail that could not be written is an error before anything runs."""
        for template, said in (
            ('{"body": "{3}"}', "placeholders"),
            ('{"body": "{"}', "placeholders"),
            ('{"sender": "nobody"}', "address"),
        ):
            text = self.refusal(SECRET, f"{TEMPLATE}={template}")
            self.assertIn(TEMPLATE, text)
            self.assertIn(said, text)

    def test_bad_url(self) -> None:
        """An address that no link could lead to is an error before anything runs."""
        for name, value in (
            ("public_url", "mq.example.org"),
            ("public_websocket_url", "https://mq.example.org"),
            ("external_confirmation_url", "/confirm"),
        ):
            text = self.refusal(f"notification.{name}={value}")
            self.assertIn(f"notification.{name}: expected a URL with", text)

    def test_no_table(self) -> None:
        """What is no table of texts is refused, with the names that there are."""
        for value in ("text", '{"subject": "x"}', '{"topic": 1}', "[]"):
            error = self.assertRaises(
                ConfigError, load, None, {}, [f"{TEMPLATE}={value}"]
            )
            self.assertIn("a table with topic, sender, body", str(error))


class LocalTests(RestTestCase):
    """Webhooks to the machine of the service, which listens there only."""

    async def status(self, *settings: str) -> int:
        """How a subscription of such a webhook is answered."""
        await self.restart(*settings)
        body = {"subscriber": "http://127.0.0.1:9/"}
        return (await self.call("POST", "/v2/queues/q/subscriptions", json=body)).status

    async def test_open(self) -> None:
        """The machine is open to those who are on it."""
        local = "websocket=tcp:0:interface=127.0.0.1"
        for settings in ((), (local,)):
            self.assertEqual(201, await self.status(*settings), settings)

    async def test_closed(self) -> None:
        """Where others can come, by whatever way, it is closed."""
        public = ("websocket=tcp:0:interface=0.0.0.0", "allow_anonymous=true")
        for settings in (
            public,
            ("notification.public_url=https://mq.example",),
            ("notification.public_websocket_url=wss://mq.example",),
        ):
            self.assertEqual(400, await self.status(*settings), settings)


class MissingTests(RestTestCase):
    """Without what questions need."""

    settings = (CONFIRMATION,)

    async def said_at_start(self, *settings: str) -> list[str]:
        """What is logged at the start."""
        said: list[str] = []

        def listen(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(listen)
        self.addCleanup(globalLogPublisher.removeObserver, listen)
        await self.restart(*self.settings, *settings)
        return said

    async def test_secret(self) -> None:
        """The log says that the key is missing; subscribing works."""
        said = await self.said_at_start()
        self.assertEqual(1, sum("set signed_url.secret_key" in text for text in said))
        await self.subscribe("q", "mailto:ann@example.org")

    async def test_page(self) -> None:
        """The log says that mails could not be answered."""
        for url, times in (("", 1), ("https://mq.example/", 0)):
            said = await self.said_at_start(SECRET, f"notification.public_url={url}")
            found = sum("set notification.public_url" in text for text in said)
            self.assertEqual(times, found)
