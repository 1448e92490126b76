"""What came back, and whether a refusal has the shape that every refusal has."""

from __future__ import annotations

import re
from json import JSONDecodeError, loads
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from attrs import frozen
from twisted.web.http_headers import Headers

REQUEST_ID = re.compile(
    r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z"
)

BARE_TITLES = ("404 Not Found", "405 Method Not Allowed")
"""Refusals of a route have no description."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def strict_loads(body: bytes | str) -> Any:
    """Decode JSON; unlike Python's own reading NaN and Infinity are errors."""
    return loads(body, parse_constant=_refuse_constant)


@frozen
class Answer:
    """An answer, and what was asked for the sake of failure messages."""

    asked: str
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return strict_loads(self.body)

    @property
    def location(self) -> str:
        """The ``Location`` header; empty when there is none."""
        return self.header("location") or ""

    @property
    def next_href(self) -> str:
        """Where the one next link of a list leads."""
        (link,) = self.json["links"]
        if set(link) != {"rel", "href"} or link["rel"] != "next":
            raise AssertionError(f"not a next link: {link}")
        return link["href"]

    @property
    def next_query(self) -> dict[str, str]:
        """The parameters of the next link."""
        return dict(parse_qsl(urlsplit(self.next_href).query, strict_parsing=True))

    def header(self, name: str) -> str | None:
        """A header; none when it is missing."""
        values = self.headers.getRawHeaders(name)
        return ", ".join(values) if values else None

    def __str__(self) -> str:
        return f"{self.asked} -> {self.status} {self.body[:300]!r}"


def flaw(answer: Answer, status: int, title: str | None = None) -> str:
    """What is wrong with a refusal; empty when nothing is.

    :param title: the exact title; none accepts any.
    """
    if answer.status != status:
        return f"{answer}: expected {status}"
    if answer.header("content-type") != "application/json":
        return f"{answer}: content-type is {answer.header('content-type')}"
    if not REQUEST_ID.match(answer.header("x-openstack-request-id") or ""):
        return f"{answer}: no request id"
    return _body_flaw(answer, title)


def _body_flaw(answer: Answer, title: str | None) -> str:
    try:
        document = answer.json
    except (JSONDecodeError, ValueError):
        return f"{answer}: not JSON"
    if not isinstance(document, dict):
        return f"{answer}: not an object"
    if title is not None and document.get("title") != title:
        return f"{answer}: expected the title {title!r}"
    bare = document.get("title") in BARE_TITLES
    if set(document) != ({"title"} if bare else {"title", "description"}):
        return f"{answer}: other keys"
    if not all(isinstance(text, str) and text for text in document.values()):
        return f"{answer}: not texts"
    return ""
