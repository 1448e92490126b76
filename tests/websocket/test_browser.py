"""The example page in a real browser, headless, steered over its own protocol."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

from tests.live import CHECKOUT, missing
from tests.websocket.client import Client, connect
from tests.websocket.server import WebSocketTestCase

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LOOK_SECONDS = 0.1

ITEMS = (
    "JSON.stringify([...document.querySelectorAll('#messages code')]"
    ".map(item => item.textContent))"
)
STATE = "document.getElementById('state').textContent"


class Browser:
    """A browser with one page."""

    def __init__(self) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="mqsvc-browser-"))
        self._numbers = itertools.count(1)
        self.process = subprocess.Popen(
            [
                *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--disable-dev-shm-usage", "--no-first-run"),
                *("--remote-debugging-port=0", f"--user-data-dir={self._profile}"),
                *("--remote-allow-origins=*", "--window-size=900,700", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._steering: Client | None = None
        self._session = ""

    async def attach(self) -> None:
        """Take over its page, as soon as it is up."""
        written = self._profile / "DevToolsActivePort"
        while not (written.exists() and len(written.read_text().split()) == 2):
            await deferLater(reactor, LOOK_SECONDS)
        port, path = written.read_text().split()
        self._steering = await connect(f"ws://127.0.0.1:{port}{path}")
        targets = (await self.do("Target.getTargets"))["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = await self.do(
            "Target.attachToTarget", targetId=page["targetId"], flatten=True
        )
        self._session = attached["sessionId"]

    async def do(self, method: str, **parameters: Any) -> Any:
        """Have it do something; what that gives."""
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        self._steering.sendMessage(json.dumps(order).encode())
        while True:
            answer = await self._steering.received()
            if answer.get("id") == number:
                return answer["result"]

    async def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        result = await self.do("Runtime.evaluate", expression=expression)
        return result["result"].get("value")

    async def until(self, expression: str, wanted: Any) -> None:
        """Wait until an expression has a value."""
        while await self.value(expression) != wanted:
            await deferLater(reactor, LOOK_SECONDS)

    async def close(self) -> None:
        """End it."""
        if self._steering is not None:
            self._steering.hang_up()
            await self._steering.gone
        self.process.kill()
        await deferToThread(self.process.wait)
        shutil.rmtree(self._profile, ignore_errors=True)


class BrowserTests(WebSocketTestCase):
    """A page that subscribes and shows messages as they arrive."""

    timeout = 120

    def setUp(self) -> Deferred[None]:
        """Start the service and a browser."""
        if CHROMIUM is None:
            missing("chromium", "apt-get install chromium")
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await super().setUp()
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        await self.browser.attach()

    def _listen(self, factory: Any) -> IListeningPort:
        root, v2 = File(str(CHECKOUT / "examples")), Resource()
        root.putChild(b"v2", v2)
        v2.putChild(b"ws", WebSocketResource(factory))
        return super()._listen(Site(root))

    async def open_page(self) -> None:
        """Show the page, subscribed to a queue."""
        port = self.port.getHost().port
        url = f"http://127.0.0.1:{port}/websocket.html?project=p1&queue=q"
        await self.browser.do("Page.navigate", url=url)
        await self.browser.until(STATE, "Subscribed.")

    async def test_messages_arrive(self) -> None:
        """What is posted appears on the page, the newest on top, and as text."""
        await self.open_page()
        await self.post("q", "first", {"n": 2}, "<b>third</b>")
        shown = json.dumps(["<b>third</b>", '{"n":2}', "first"], separators=(",", ":"))
        await self.browser.until(ITEMS, shown)
        await self.keep_picture()

    async def keep_picture(self) -> None:
        """Write what the page looks like, where somebody wants to see it."""
        directory = os.environ.get("TEST_PICTURES")
        if directory:
            picture = await self.browser.do("Page.captureScreenshot")
            path = Path(directory) / "websocket.png"
            path.write_bytes(base64.b64decode(picture["data"]))

    async def test_posting(self) -> None:
        """What is typed on the page is posted, and comes back."""
        await self.open_page()
        await self.browser.value(
            "document.querySelector('#post input').value = 'typed';"
            "document.querySelector('#post button').click()"
        )
        await self.browser.until(ITEMS, '["typed"]')

    async def test_resumes(self) -> None:
        """After a broken connection the page gets what it missed, and nothing twice."""
        await self.open_page()
        await self.post("q", 1)
        await self.browser.until(ITEMS, '["1"]')
        (connection,) = self.factory.connections
        connection.transport.abortConnection()
        await self.post("q", 2)
        await self.browser.until(ITEMS, '["2","1"]')
        await self.browser.until(STATE, "Subscribed.")
