"""The page on which subscribers answer, and what of them is not shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.rest.answers import Answer
from tests.rest.server import PROJECT, RestTestCase, asking
from tests.rest.test_confirmation import SIGNATURE, SUBSCRIPTIONS, ConfirmationTestCase

PAGE = "/v2/confirm"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LINK_NAMES = ("Signature", "Methods", "Paths", "Expires", "Project")


def last_line(path: str) -> Any:
    """The last record of a log."""
    *_, last = Path(path).read_text().splitlines()
    return json.loads(last)


class PageTests(ConfirmationTestCase):
    """The page that takes answers."""

    async def link(self) -> dict[str, str]:
        """The fields of a link."""
        notice = await self.asked()
        values = (notice[name] for name in SIGNATURE)
        return dict(zip(LINK_NAMES, values, strict=True))

    async def press(self, fields: dict[str, str], answer: str) -> Answer:
        """Send the page's form."""
        raw = urlencode({**fields, "answer": answer}).encode()
        return await self.call(
            "POST", f"{PAGE}?", raw=raw, headers=FORM, project=None, client=None
        )

    async def test_round(self) -> None:
        """A browser without any header of ours shows it and answers on it."""
        fields = await self.link()
        url = f"{PAGE}?{urlencode(fields)}"
        page = await self.call("GET", url, project=None, client=None)
        self.expect(page, 200)
        self.assertIn(b"<form", page.body)
        self.assertFalse(await self.is_confirmed())
        for answer, wanted in (("confirm", True), ("unsubscribe", False)):
            self.expect(await self.press(fields, answer), 200)
            self.assertIs(wanted, await self.is_confirmed())
        head = await self.call("HEAD", url)
        self.assertEqual((200, b""), (head.status, head.body))

    async def test_audited(self) -> None:
        """What is answered on the page stands in the audit log."""
        log = self.data_dir + ".audit"
        await self.restart(*self.settings, f"audit_log={log}")
        fields = await self.link()
        self.expect(await self.press(fields, "confirm"), 200)
        record = last_line(log)
        self.assertEqual(
            ("subscription:confirm", fields["Paths"], PROJECT, 204),
            tuple(record[name] for name in ("action", "target", "project", "status")),
        )

    async def test_refused(self) -> None:
        """A link of somebody else's making does nothing."""
        fields = await self.link()
        for name, value in (("Signature", "0" * 64), ("Project", "p2"), ("Paths", "/")):
            answer = await self.press({**fields, name: value}, "confirm")
            self.expect(answer, 404)
        self.expect(await self.call("DELETE", PAGE), 405)
        self.assertFalse(await self.is_confirmed())

    async def test_page_of_others(self) -> None:
        """Where there is another page, this one is not there."""
        url = "notification.external_confirmation_url=https://a.example/"
        await self.restart(*self.settings, url)
        await self.refuses(404, None, [asking("GET", PAGE), asking("POST", PAGE)])


class SecretTests(RestTestCase):
    """What is written and never read."""

    async def test_hidden(self) -> None:
        """Secrets are not shown, and stay when what is shown is sent back."""
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        wanted = {"signing_secrets": [secret]}
        made = await self.subscribe("q", "http://127.0.0.1:1/", options=wanted)
        path = f"{SUBSCRIPTIONS}/{made}"
        one = (await self.call("GET", path)).json
        (listed,) = (await self.call("GET", SUBSCRIPTIONS)).json["subscriptions"]
        self.assertEqual({"signing_secrets": ["***"]}, one["options"])
        self.assertEqual(one, listed)
        change = {"options": one["options"]}
        self.expect(await self.call("PATCH", path, json=change), 204)
        no_secret = {"options": {"signing_secrets": ["***", "***"]}}
        await self.refuses(
            400, "Invalid API request", [asking("PATCH", path, json=no_secret)]
        )

    async def test_no_trusts(self) -> None:
        """Without Keystone nobody can be acted for, and the refusal says so."""
        wanted = {"subscriber": "trust+http://127.0.0.1:1/"}
        answer = await self.call("POST", SUBSCRIPTIONS, json=wanted)
        self.refused(answer, 400, "Invalid API request")
        self.assertIn("Keystone", answer.json["description"])
        self.assertEqual([], await self.queue_names(PROJECT))
