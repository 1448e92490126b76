"""The notices that ask a subscriber, and the page that takes the answer."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode, urlsplit

from attrs import evolve
from msgspec.structs import replace
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.access.signed_urls import SignedUrls
from mqsvc.messaging.errors import (
    StoreUnavailable,
    SubscriptionDoesNotExist,
    UnknownRoute,
)
from mqsvc.messaging.model import Destination, Kind, Subscription
from mqsvc.notification.channel import Letter
from mqsvc.notification.confirmation import (
    SUBSCRIBE,
    UNSUBSCRIBE,
    Ask,
    Confirmations,
    ConfirmationSettings,
    MailTemplate,
    NoPage,
    confirm_path,
)
from mqsvc.notification.confirmation_page import (
    ConfirmationPage,
    ConfirmationResource,
    link_fields,
)
from tests.notification.notices import QUEUE, subscription

SECRET = "secretkey"
NOW = 1_800_000_000_000
HOUR = 3_600_000

HOOK = subscription("http://a.example/")
MAIL = subscription("MailTo:ann@example.org")
PUBLIC = ConfirmationSettings(7200, public_url="https://mq.example/")


def document(ask: Ask = Ask.SUBSCRIBE, **settings: Any) -> Any:
    """What a webhook is sent."""
    confirmations = Confirmations(SECRET, ConfirmationSettings(7200, **settings))
    return json.loads(confirmations.notice(ask, HOOK, "d", NOW).content)


def letter(
    ask: Ask = Ask.SUBSCRIBE,
    settings: ConfirmationSettings = PUBLIC,
    told: Subscription = MAIL,
) -> Letter:
    """What a mail says."""
    made = Confirmations(SECRET, settings).notice(ask, told, "d", NOW).letter
    assert made is not None
    return made


def link(**arguments: Any) -> str:
    """The link in a mail."""
    [found] = [word for word in letter(**arguments).text.split() if "?" in word]
    return found


class NoticeTests(SynchronousTestCase):
    """What a webhook gets."""

    def test_keys(self) -> None:
        """All keys are there, in the order of the contract."""
        made = document()
        wanted = (
            *("Message_Type", "Message", "URL-Signature", "URL-Methods", "URL-Paths"),
            *("X-Project-ID", "URL-Expires", "SubscribeBody", "UnsubscribeBody"),
            "queue_name",
        )
        self.assertEqual(list(wanted), list(made))
        self.assertEqual("SubscriptionConfirmation", made["Message_Type"])
        self.assertIn("nq", made["Message"])
        self.assertEqual(
            ("PUT", "/v2/queues/nq/subscriptions/s1/confirm", "p1", "nq"),
            tuple(
                made[name]
                for name in ("URL-Methods", "URL-Paths", "X-Project-ID", "queue_name")
            ),
        )
        self.assertEqual({"confirmed": True}, made["SubscribeBody"])
        self.assertEqual({"confirmed": False}, made["UnsubscribeBody"])

    def test_expiry(self) -> None:
        """It ends with the subscription, or after the default time to live."""
        self.assertEqual("2027-01-15T09:00:00", document()["URL-Expires"])
        again = document(Ask.UNSUBSCRIBE)
        self.assertEqual("UnsubscribeConfirmation", again["Message_Type"])
        self.assertEqual("2027-01-15T10:00:00", again["URL-Expires"])

    def test_end_of_time(self) -> None:
        """Who is asked again about the longest subscription can answer to the end."""
        longest = evolve(HOOK, ttl=253_402_300_799 - NOW // 1000)
        confirmations = Confirmations(SECRET, PUBLIC)
        for now in (NOW, NOW + HOUR):
            notice = confirmations.notice(Ask.SUBSCRIBE, longest, "d", now)
            expires = json.loads(notice.content)["URL-Expires"]
            self.assertEqual("9999-12-31T23:59:59", expires)

    def test_signature(self) -> None:
        """The headers, copied from the notice, let the answer in until they expire."""
        made = document()
        check = SignedUrls(SECRET).check
        path = made["URL-Paths"]
        check(made.get, "PUT", path, NOW + HOUR - 1000)
        for method, asked, now in (
            ("PUT", path, NOW + HOUR),
            ("DELETE", path, NOW),
            ("PUT", path.replace("s1", "s2"), NOW),
        ):
            with self.assertRaises(UnknownRoute):
                check(made.get, method, asked, now)

    def test_urls(self) -> None:
        """The addresses of the services are told where they are known."""
        made = document(rest_url="https://mq.example/", websocket_url="wss://w.example")
        path = made["URL-Paths"]
        self.assertEqual(f"https://mq.example{path}", made["WSGISubscribeURL"])
        self.assertEqual(f"wss://w.example{path}", made["WebSocketSubscribeURL"])

    def test_topic(self) -> None:
        """A subscription of a topic is confirmed there."""
        of_topic = evolve(HOOK, destination=Destination("p1", Kind.TOPIC, "t"))
        self.assertEqual(
            "/v2/topics/t/subscriptions/s1/confirm", confirm_path(of_topic)
        )

    def test_no_letter(self) -> None:
        """A webhook needs no page and gets no mail."""
        settings = ConfirmationSettings(7200)
        made = Confirmations(SECRET, settings).notice(Ask.SUBSCRIBE, HOOK, "d", NOW)
        self.assertIsNone(made.letter)
        self.assertNotIn(SECRET, repr((made, Confirmations(SECRET, settings))))


class LetterTests(SynchronousTestCase):
    """What a mailbox gets."""

    def test_defaults(self) -> None:
        """Subject and sender are those of the contract; queue and project are named."""
        for ask, word in ((Ask.SUBSCRIBE, "Subscription"), (Ask.UNSUBSCRIBE, "Unsub")):
            made = letter(ask)
            self.assertTrue(made.subject.startswith(f"Zaqar Notification - {word}"))
            self.assertEqual(
                "Zaqar Notifications <no-reply@openstack.org>", made.sender
            )
            self.assertIn("queue nq of project p1", made.text)

    def test_own_page(self) -> None:
        """Without a page of the operator's own the link leads to the service's."""
        self.assertTrue(link().startswith("https://mq.example/v2/confirm?Signature="))

    def test_external_page(self) -> None:
        """A page of the operator's goes before; the fields are in order and plain."""
        settings = evolve(PUBLIC, external_url="http://page", rest_url="http://api:1/")
        found = link(settings=settings)
        signature = found.partition("Signature=")[2].partition("&")[0]
        path = "/v2/queues/nq/subscriptions/s1/confirm"
        self.assertEqual(
            f"http://page?Signature={signature}&Methods=PUT&Paths={path}&Project=p1"
            f"&Expires=2027-01-15T09:00:00&Url=http://api:1{path}&Queue=nq",
            found,
        )

    def test_odd_project(self) -> None:
        """A project of any characters comes back as it was."""
        project = 'a b&Paths=x+%20#"<ü'
        told = evolve(MAIL, destination=replace(QUEUE, project=project))
        fields = link_fields(link(told=told).encode())
        self.assertEqual(project, fields["Project"])

    def test_no_page(self) -> None:
        """Without any page a mail would be useless; the error names the options."""
        with self.assertRaises(NoPage) as caught:
            letter(settings=ConfirmationSettings(7200))
        self.assertIn("notification.external_confirmation_url", str(caught.exception))

    def test_template(self) -> None:
        """An operator's text has its placeholders filled in."""
        own = MailTemplate("T", "q {0}, p {1}, l {2} {{}}", "s@z.org")
        made = letter(settings=evolve(PUBLIC, subscribe=own))
        self.assertEqual(("T", "s@z.org"), (made.subject, made.sender))
        self.assertTrue(made.text.startswith("q nq, p p1, l https://mq.example/"))
        self.assertTrue(made.text.endswith(" {}"))

    def test_bad_template(self) -> None:
        """Other placeholders are refused when the configuration is read."""
        for body in ("{3}", "{queue}", "{", "}", "{0", "{0.nothing}", "{0[x]}", "{:d}"):
            with self.assertRaises((ValueError, TypeError), msg=body):
                MailTemplate("T", body).check()
        for good in (SUBSCRIBE, UNSUBSCRIBE, MailTemplate("T", "{2} {1} {0}")):
            good.check()


class Form(HTMLParser):
    """The fields and buttons of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.buttons: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See :class:`HTMLParser`."""
        self.tags.add(tag)
        found = dict(attrs)
        if tag == "input":
            self.fields[str(found["name"])] = str(found["value"])
        elif tag == "button":
            self.buttons.append(str(found["value"]))


class PageTests(SynchronousTestCase):
    """The page, by HTTP."""

    def setUp(self) -> None:
        """Serve it."""
        self.now = NOW
        self.decided: list[tuple[Destination, str, Any]] = []
        self.error: Exception | None = None
        self.waiting: Deferred[None] | None = None
        page = ConfirmationPage(SignedUrls(SECRET), self.confirm, lambda: self.now)
        self.client: Any = StubTreq(ConfirmationResource(page))

    async def confirm(self, destination: Destination, id_: str, answer: Any) -> None:
        """Take an answer as the API would."""
        if self.error is not None:
            raise self.error
        await (self.waiting or succeed(None))
        self.decided.append((destination, id_, answer))

    def look(self, url: str) -> tuple[int, str, Any]:
        """Follow a link: status, page and headers."""
        response = self.successResultOf(self.client.get(url))
        text = self.successResultOf(response.text())
        return response.code, text, response.headers

    def press(self, form: Form, button: str) -> tuple[int, str]:
        """Press a button of a form: status and page."""
        body = urlencode({**form.fields, "answer": button}).encode()
        return self.post(body)

    def post(self, body: bytes) -> tuple[int, str]:
        """Send a form: status and page."""
        response = self.successResultOf(
            self.client.post("https://mq.example/v2/confirm?", data=body)
        )
        return response.code, self.successResultOf(response.text())

    def test_question(self) -> None:
        """The link shows a question and does nothing."""
        status, text, headers = self.look(link())
        self.assertEqual(200, status)
        form = Form(text)
        self.assertEqual(["confirm", "unsubscribe"], form.buttons)
        self.assertIn("<b>nq</b> of project <b>p1</b>", text)
        self.assertEqual([], self.decided)
        self.assertNotIn("script", form.tags)
        [policy] = headers.getRawHeaders("Content-Security-Policy")
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertEqual(["no-referrer"], headers.getRawHeaders("Referrer-Policy"))
        self.assertEqual(["no-store"], headers.getRawHeaders("Cache-Control"))

    def test_round(self) -> None:
        """Confirm, unsubscribe and subscribe again, each from the page before."""
        _, text, _ = self.look(link())
        for button, title in (
            ("confirm", "Confirmed"),
            ("unsubscribe", "Unsubscribed"),
            ("confirm", "Confirmed"),
        ):
            self.assertIn(button, Form(text).buttons)
            status, text = self.press(Form(text), button)
            self.assertEqual(200, status)
            self.assertIn(f"<h1>{title}</h1>", text)
        wanted = [True, False, True]
        self.assertEqual(
            [(QUEUE, "s1", {"confirmed": answer}) for answer in wanted], self.decided
        )

    def test_again_by_mail(self) -> None:
        """The link of the mail about the end of a subscription works alike."""
        _, text, _ = self.look(link(ask=Ask.UNSUBSCRIBE))
        self.press(Form(text), "confirm")
        self.assertEqual(1, len(self.decided))

    def test_escaped(self) -> None:
        """Nothing of a project becomes part of the page's own language."""
        project = "<script>alert(1)</script>\"'&<ü"
        told = evolve(MAIL, destination=replace(QUEUE, project=project))
        _, text, _ = self.look(link(told=told))
        form = Form(text)
        self.assertNotIn("script", form.tags)
        self.assertEqual(project, form.fields["Project"])
        self.press(form, "confirm")
        self.assertEqual(project, self.decided[0][0].project)

    def test_forged(self) -> None:
        """What is not signed, or not for this, is not valid, whatever is wrong."""
        good = link()
        pages = set()
        for bad in (
            good.replace("s1", "s2"),
            good.replace("Project=p1", "Project=p2"),
            good.replace("queues", "topics"),
            good.replace("/confirm&", "&"),
            good.replace("Methods=PUT", "Methods=GET"),
            good.replace("Expires=2027", "Expires=2028"),
            good.replace("Signature=", "Signature=0"),
            urlsplit(good)._replace(query="").geturl(),
        ):
            self.assertNotEqual(good, bad)
            status, text, _ = self.look(bad)
            self.assertEqual(404, status)
            pages.add(text)
            query = urlsplit(bad).query.encode()
            self.assertEqual((404, text), self.post(query + b"&answer=confirm"))
        self.assertEqual(1, len(pages))
        self.assertEqual([], self.decided)

    def test_other_grant(self) -> None:
        """A permission for other paths of the queue opens no page."""
        grant = SignedUrls(SECRET).share(
            QUEUE, {"paths": ["subscriptions"], "methods": ["PUT"]}, NOW
        )
        fields = {
            "Signature": grant.signature,
            "Methods": "PUT",
            "Paths": grant.paths[0],
            "Project": "p1",
            "Expires": grant.expires,
        }
        status, _, _ = self.look(f"https://mq.example/v2/confirm?{urlencode(fields)}")
        self.assertEqual(404, status)

    def test_expired(self) -> None:
        """A link ends; a form that was open until then does, too."""
        _, text, _ = self.look(link())
        self.now = NOW + HOUR
        self.assertEqual(404, self.look(link())[0])
        self.assertEqual(404, self.press(Form(text), "confirm")[0])
        self.assertEqual([], self.decided)

    def test_no_answer(self) -> None:
        """A form without one of the answers shows the question again."""
        _, text, _ = self.look(link())
        for button in ("", "maybe"):
            status, again = self.press(Form(text), button)
            self.assertEqual((200, text), (status, again))
        self.assertEqual([], self.decided)

    def test_gone(self) -> None:
        """A subscription that ended is as good as never made."""
        _, text, _ = self.look(link())
        self.error = SubscriptionDoesNotExist("Subscription s1 does not exist.")
        status, page = self.press(Form(text), "confirm")
        self.assertEqual(404, status)
        self.assertIn("not valid any more", page)

    def test_store_away(self) -> None:
        """While the store is away nothing is said to be done."""
        _, text, _ = self.look(link())
        self.error = StoreUnavailable()
        status, page = self.press(Form(text), "confirm")
        self.assertEqual(503, status)
        self.assertIn("try again", page)

    def test_broken(self) -> None:
        """What goes wrong in the program is logged and not shown."""
        _, text, _ = self.look(link())
        self.error = ZeroDivisionError("inner words")
        status, page = self.press(Form(text), "confirm")
        self.assertEqual(500, status)
        self.assertNotIn("inner words", page)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_hung_up(self) -> None:
        """Who hangs up after the answer has answered."""
        _, text, _ = self.look(link())
        self.waiting = Deferred()
        body = urlencode({**Form(text).fields, "answer": "confirm"}).encode()
        asked = self.client.post("https://mq.example/v2/confirm", data=body)
        asked.addErrback(lambda _: None)
        self.client.flush()
        asked.cancel()
        self.client.flush()
        self.waiting.callback(None)
        self.assertEqual(1, len(self.decided))

    def test_large_form(self) -> None:
        """Of a form that is too large the rest is not looked at."""
        self.assertEqual(404, self.post(b"a=" + b"x" * 100_000)[0])
