"""The page behind the link in a mail: confirm, unsubscribe, subscribe again.

Looking at it changes nothing, since programs follow links in mails, too. The answer is
a form, sent by a button; no script is needed and none would run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import Now
from mqsvc.messaging.errors import MessagingError, NotFound, UnknownRoute
from mqsvc.messaging.model import Destination, Kind
from mqsvc.notification.confirmation import METHOD

Confirm = Callable[[Destination, str, Any], Awaitable[None]]
"""Sets whether a subscriber agreed, as the API does: with ``{"confirmed": true}``."""

MOST_BYTES = 16 * 1024
"""Of a form that are read."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --back: #eef1f5;
  --line: #c9d1da; --blue: #1558c0; --on-blue: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --paper: #1d242c;
  --back: #12171c; --line: #45525f; --blue: #8ab8ff; --on-blue: #0d1b2e } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; padding: 1rem; display: grid;
  place-items: center; background: var(--back); color: var(--ink);
  font: 1.0625rem/1.5 system-ui, sans-serif }
main { width: 100%; max-width: 30rem; padding: 1.75rem; background: var(--paper);
  border: 1px solid var(--line); border-radius: 0.75rem }
h1 { margin: 0 0 0.75rem; font-size: 1.5rem; line-height: 1.2 }
p { margin: 0; overflow-wrap: anywhere }
form { display: flex; flex-wrap: wrap; gap: 0.75rem; margin-top: 1.5rem }
button { flex: 1 1 11rem; min-height: 3rem; padding: 0.5rem 1rem; font: inherit;
  color: var(--blue); background: none; border: 1px solid var(--blue);
  border-radius: 0.5rem; cursor: pointer }
button[value=confirm] { color: var(--on-blue); background: var(--blue) }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px }
"""

_STYLE_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # The URL is the permission: it must not get to others, nor into a cache.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}

_PATH = re.compile(
    r"/v2/(?P<kind>queue|topic)s/(?P<name>[A-Za-z0-9_.-]+)"
    r"/subscriptions/(?P<id>[A-Za-z0-9_-]+)/confirm\Z"
)

_HEADER_OF = {
    "Signature": "URL-Signature",
    "Methods": "URL-Methods",
    "Paths": "URL-Paths",
    "Expires": "URL-Expires",
    "Project": "X-Project-ID",
}
"""The fields of a link and the headers of a signed request that they stand for."""

_ANSWERS = {"confirm": True, "unsubscribe": False}

Fields = Mapping[str, str]


@frozen
class Page:
    """An answer to a browser."""

    status: int
    body: bytes


@frozen
class _Question:
    """What a good link is about."""

    destination: Destination
    subscription_id: str
    fields: Fields

    @property
    def queue(self) -> str:
        """What a reader sees of it."""
        destination = self.destination
        return (
            f"{destination.kind.value} <b>{escape(destination.name)}</b> of project "
            f"<b>{escape(destination.project)}</b>"
        )


@frozen
class ConfirmationPage:
    """Shows the question and takes the answer."""

    _signed_urls: SignedUrls
    _confirm: Confirm
    _now: Now

    def show(self, fields: Fields) -> Page:
        """The question of a link.

        :param fields: of its query.
        """
        try:
            question = self._question(fields)
        except UnknownRoute:
            return _void()
        text = f"Do you want to get the messages of {question.queue} at this address?"
        return _page(200, "Get these messages?", text, question, _BOTH)

    async def answer(self, fields: Fields) -> Page:
        """Do what a form says.

        :param fields: of the form: those of the link, and ``answer``.
        """
        try:
            question = self._question(fields)
            return await self._decided(question, fields.get("answer", ""))
        except (NotFound, UnknownRoute):
            return _void()
        except MessagingError as error:
            text = "This did not work. Please try again in a few minutes."
            return _page(error.status, "Not done", text)

    def _question(self, fields: Fields) -> _Question:
        """What a link is about, if its signature holds.

        :raise UnknownRoute: it does not.
        """
        path = fields.get("Paths", "")
        match = _PATH.match(path)
        if match is None:
            raise UnknownRoute
        shown = {name: fields.get(name, "") for name in _HEADER_OF}
        headers = {_HEADER_OF[name]: value for name, value in shown.items()}
        self._signed_urls.check(headers.get, METHOD, path, self._now())
        kind = Kind(match["kind"])
        destination = Destination(shown["Project"], kind, match["name"])
        return _Question(destination, match["id"], shown)

    async def _decided(self, question: _Question, answer: str) -> Page:
        if answer not in _ANSWERS:
            return self.show(question.fields)
        is_wanted = _ANSWERS[answer]
        await self._confirm(
            question.destination, question.subscription_id, {"confirmed": is_wanted}
        )
        if is_wanted:
            text = f"From now on you get the messages of {question.queue}."
            return _page(200, "Confirmed", text, question, _LEAVE)
        text = f"You get no more messages of {question.queue}."
        return _page(200, "Unsubscribed", text, question, _RETURN)


class ConfirmationResource(Resource):
    """Serves the page."""

    isLeaf = True
    log = Logger()

    def __init__(self, page: ConfirmationPage) -> None:
        super().__init__()
        self._page = page

    def render(self, request: IRequest) -> bytes | int:
        """See :class:`twisted.web.resource.IResource`."""
        if request.method == b"POST":
            return self.render_POST(request)
        if request.method in (b"GET", b"HEAD"):
            return self.render_GET(request)
        request.setHeader(b"Allow", b"GET, HEAD, POST")
        return _write(request, _page(405, "Not done", "There is no such action."))

    def render_GET(self, request: IRequest) -> bytes:
        """Show the question."""
        return _write(request, self._page.show(link_fields(request.uri)))

    def render_POST(self, request: IRequest) -> int:
        """Take the answer."""
        form = request.content.read(MOST_BYTES)
        answering = Deferred.fromCoroutine(self._page.answer(form_fields(form)))
        # Who hangs up has answered all the same.
        hung_up: Deferred[Any] = cast(Any, request).notifyFinish()
        hung_up.addErrback(lambda _: None)
        answering.addErrback(self._unexpected)
        answering.addCallback(self._finish, request, hung_up)
        return NOT_DONE_YET

    def _unexpected(self, failure: Failure) -> Page:
        self.log.failure("A confirmation failed", failure)
        return _page(500, "Not done", "This did not work. Please try again later.")

    def _finish(self, page: Page, request: IRequest, hung_up: Deferred[Any]) -> None:
        if not hung_up.called:
            request.write(_write(request, page))
            request.finish()


def link_fields(uri: bytes) -> dict[str, str]:
    """The fields of a link's query, in which a plus sign is a plus sign."""
    query = uri.partition(b"?")[2].decode("latin-1")
    pairs = (pair.partition("=") for pair in query.split("&"))
    return {unquote(name): unquote(value) for name, _, value in pairs}


def form_fields(form: bytes) -> dict[str, str]:
    """The fields of a form as browsers send it."""
    return dict(parse_qsl(form.decode("latin-1"), keep_blank_values=True))


def _write(request: IRequest, page: Page) -> bytes:
    request.setResponseCode(page.status)
    for name, value in HEADERS.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii"))
    request.setHeader(b"Content-Length", str(len(page.body)).encode("ascii"))
    return page.body


def _void() -> Page:
    # One text for all: it tells nothing about what exists.
    text = "This link is not valid any more. Subscribe again to get a new one."
    return _page(404, "Not valid", text)


_BOTH = {"confirm": "Yes, send them to me", "unsubscribe": "No, send nothing"}
_LEAVE = {"unsubscribe": "Unsubscribe"}
_RETURN = {"confirm": "Subscribe again"}
"""The buttons of a page: for each answer what the button says."""

_NO_BUTTONS: Mapping[str, str] = {}


def _page(
    status: int,
    title: str,
    text: str,
    question: _Question | None = None,
    buttons: Mapping[str, str] = _NO_BUTTONS,
) -> Page:
    form = "" if question is None else _form(question, buttons)
    html = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n<p>{text}</p>\n{form}</main>\n</body>\n</html>\n"
    )
    return Page(status, html.encode("utf-8", "replace"))


def _form(question: _Question, buttons: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">\n'
        for name, value in question.fields.items()
    )
    shown = "".join(
        f'<button name="answer" value="{answer}">{text}</button>\n'
        for answer, text in buttons.items()
    )
    return f'<form method="post" action="?">\n{hidden}{shown}</form>\n'
