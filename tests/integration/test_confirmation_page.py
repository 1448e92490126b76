"""From a mail through the page behind its link, in a real browser on a phone's screen.

Scripts are turned off in the browser, so that what it does is what the page itself can.
"""

from __future__ import annotations

import base64
import email
import email.policy
import os
import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.traffic import Connection
from tests.live import LiveServer, missing
from tests.websocket.test_browser import CHROMIUM, LOOK_SECONDS, Browser

SENDMAIL = """\
#!/bin/sh
cat > "{mails}/$$.new" && mv "{mails}/$$.new" "{mails}/$$.mail"
"""

WIDTH = 360


class ConfirmationPageTests(TestCase):
    """A server that asks, a program that takes its mails, and a browser."""

    timeout = 120

    def setUp(self) -> Deferred[None]:
        """Start them, and subscribe a mail address."""
        if CHROMIUM is None:
            missing("chromium", "apt-get install chromium")
        self.mails = Path(self.mktemp()).absolute()
        self.mails.mkdir()
        program = self.mails / "sendmail"
        program.write_text(SENDMAIL.format(mails=self.mails))
        program.chmod(0o700)
        self.subscribe(str(program))
        return Deferred.fromCoroutine(self._start_browser())

    def subscribe(self, program: str) -> None:
        """Start the server, and subscribe a mail address."""
        self.server = LiveServer(
            *("--set", "notification.require_confirmation=true"),
            *("--set", "signed_url.secret_key=for-tests-only"),
            *("--set", f"notification.smtp_command={program}"),
        )
        self.server.add("--set", f"notification.public_url={self.server.url}")
        self.addCleanup(self.server.remove)
        self.server.start()
        self.connection = Connection(self.server.port)
        self.addCleanup(self.connection.close)
        path, subscriber = "/v2/queues/q/subscriptions", "mailto:ann@example.org"
        made = self.connection.ask("POST", path, {"subscriber": subscriber})
        self.path = f"{path}/{made['subscription_id']}"

    async def _start_browser(self) -> None:
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        await self.browser.attach()
        await self.browser.do("Emulation.setScriptExecutionDisabled", value=True)
        await self.browser.do(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH,
            height=640,
            deviceScaleFactor=2,
            mobile=True,
        )

    async def link(self) -> str:
        """The link in the next mail."""
        while not (found := list(self.mails.glob("*.mail"))):
            await deferLater(reactor, LOOK_SECONDS)
        raw = found[0].read_bytes()
        found[0].unlink()
        mail: Any = email.message_from_bytes(raw, policy=email.policy.default)
        return re.search(r"http\S+", mail.get_content())[0]

    async def press(self, answer: str) -> None:
        """Click on a button of the page."""
        # A page may have its title before its buttons.
        while (place := await self.place(f"button[value={answer}]")) is None:
            await deferLater(reactor, LOOK_SECONDS)
        x, y = place
        for kind in ("mousePressed", "mouseReleased"):
            await self.browser.do(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                clickCount=1,
            )

    async def place(self, selector: str) -> tuple[float, float] | None:
        """Where an element begins on the screen, once it is there."""
        try:
            document = (await self.browser.do("DOM.getDocument"))["root"]["nodeId"]
            found = await self.browser.do(
                "DOM.querySelector", nodeId=document, selector=selector
            )
            box = await self.browser.do("DOM.getBoxModel", nodeId=found["nodeId"])
        except KeyError:
            # An error in the place of a result: there is no such element yet.
            return None
        x, y = box["model"]["content"][:2]
        return x, y

    async def shows(self, title: str) -> None:
        """Wait for a page, see that it fits the screen, and keep a picture of it."""
        while await self.title() != title:
            await deferLater(reactor, LOOK_SECONDS)
        layout = await self.browser.do("Page.getLayoutMetrics")
        self.assertLessEqual(layout["cssContentSize"]["width"], WIDTH)
        directory = os.environ.get("TEST_PICTURES")
        if directory:
            picture = await self.browser.do("Page.captureScreenshot")
            path = Path(directory) / f"{title.strip('?').replace(' ', '-')}.png"
            path.write_bytes(base64.b64decode(picture["data"]))

    async def title(self) -> str:
        """What the page is called."""
        targets = (await self.browser.do("Target.getTargets"))["targetInfos"]
        return next(each["title"] for each in targets if each["type"] == "page")

    def is_confirmed(self) -> bool:
        """Whether the subscriber agreed, as the API says."""
        return self.connection.ask("GET", self.path)["confirmed"]

    async def test_round(self) -> None:
        """Who is asked by mail confirms, leaves, and comes back by the second mail."""
        await self.browser.do("Page.navigate", url=await self.link())
        await self.shows("Get these messages?")
        self.assertFalse(self.is_confirmed())
        await self.press("confirm")
        await self.shows("Confirmed")
        self.assertTrue(self.is_confirmed())
        await self.press("unsubscribe")
        await self.shows("Unsubscribed")
        self.assertFalse(self.is_confirmed())
        await self.browser.do("Page.navigate", url=await self.link())
        await self.shows("Get these messages?")
        await self.press("confirm")
        await self.shows("Confirmed")
        self.assertTrue(self.is_confirmed())
