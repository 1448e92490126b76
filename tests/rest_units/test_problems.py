"""Errors as answers: media types, headers, and the log."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, Request

from mqsvc.messaging import errors
from mqsvc.messaging.errors import (
    Conflict,
    InvalidBody,
    MessagingError,
    MethodNotAllowed,
    NotAcceptable,
    StoreUnavailable,
    UnknownRoute,
    UnusableFlavor,
)
from mqsvc.rest.answer import Answer, give_id, request_id, write
from mqsvc.rest.problems import accepts, answer_of, quality, unexpected

JSON = "application/json"


def request(accept: str | None = None) -> Request:
    """A request that wants certain media types."""
    channel = HTTPChannel()
    channel.transport = StringTransport()
    made = Request(channel)
    if accept is not None:
        made.requestHeaders.setRawHeaders(b"accept", [accept.encode("latin-1")])
    return made


def answer(error: MessagingError, accept: str | None = None) -> Answer:
    """What a client that wants certain media types is told of an error."""
    return answer_of(error, request(accept))


class QualityTests(SynchronousTestCase):
    """How much a client wants a media type."""

    def test_all(self) -> None:
        """Who says nothing, or everything, wants all alike."""
        for accept in (None, "", "*/*"):
            for media_type in (JSON, "application/xml", "text/plain"):
                self.assertEqual(1, quality(request(accept), media_type), accept)

    def test_named(self) -> None:
        """A type is wanted by its name, its family or any name, in this order."""
        for accept, expected in (
            ("application/json", 1),
            ("APPLICATION/JSON", 1),
            ("application/json; charset=utf-8", 1),
            ("text/html, application/json;q=0.5", 0.5),
            ("application/*;q=0.4", 0.4),
            ("*/*;q=0.3", 0.3),
            ("application/json;q=0.2, application/*;q=0.9, */*", 0.2),
            ("application/*;q=0.3, */*;q=0.9", 0.3),
            ("application/json;q=0, */*", 0),
            ("application/json, application/json;version=1;q=0", 1),
            ("text/html", 0),
            ("application/json-home", 0),
            ("application/vnd.x+json", 0),
            ("\u00fc", 0),
            (",", 0),
        ):
            wanted = request(accept)
            self.assertEqual(expected, quality(wanted, JSON), accept)
            self.assertEqual(expected > 0, accepts(wanted, JSON), accept)


class AnswerTests(SynchronousTestCase):
    """What a client is told."""

    def test_json(self) -> None:
        """An error has its title and, if there is one, its description."""
        told = answer(InvalidBody("Something is missing."))
        self.assertEqual((400, JSON), (told.status, told.content_type))
        self.assertEqual(
            {"title": "Invalid request body", "description": "Something is missing."},
            told.body,
        )
        self.assertEqual({"vary": "Accept"}, told.headers)
        self.assertEqual({"title": "404 Not Found"}, answer(UnknownRoute()).body)

    def test_every_error(self) -> None:
        """Each error has a status of its kind and a title."""
        arguments: dict[str, tuple[Any, ...]] = {
            "InvalidHeader": ("a title", "words"),
            "InvalidName": ("queue", "words"),
            "UnusableSubscription": ("update", "words"),
            "UnusablePool": ("update", "words"),
            "UnusableFlavor": ("updatefail", "words"),
            "NotAuthenticated": (),
            "IdentityUnavailable": (),
            "QuotaExceeded": ("words", 1),
            "MethodNotAllowed": (["GET"],),
        }
        kinds = [
            kind
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, MessagingError)
        ]
        self.assertGreater(len(kinds), 20)
        for kind in kinds:
            told = answer(kind(*arguments.get(kind.__name__, ("words",))))
            self.assertIn(told.status, range(400, 600), kind)
            self.assertTrue(told.body["title"], kind)
            if issubclass(kind, errors.InvalidRequest):
                self.assertEqual(400, told.status, kind)

    def test_methods(self) -> None:
        """A method that does not exist is answered with those that do."""
        told = answer(MethodNotAllowed(["GET", "PUT"]))
        self.assertEqual((405, "GET, PUT"), (told.status, told.headers["allow"]))

    def test_location(self) -> None:
        """A conflict, or a flavor that cannot be made, says where, if it is known."""
        for here, nowhere in (
            (Conflict("x", "/v2/x"), Conflict("x")),
            (UnusableFlavor("t", "x", "/v2/x"), UnusableFlavor("t", "x")),
        ):
            self.assertEqual("/v2/x", answer(here).headers["location"])
            self.assertNotIn("location", answer(nowhere).headers)

    def test_xml(self) -> None:
        """Who wants XML rather than JSON gets XML, whatever the words are."""
        words = "<&>\"' \u00fc"
        for accept, content_type in (
            ("application/xml", "application/xml"),
            ("text/xml", "text/xml"),
            ("application/json;q=0.5, text/xml", "text/xml"),
        ):
            told = answer(InvalidBody(words), accept)
            self.assertEqual(content_type, told.content_type)
            document = ElementTree.fromstring(told.body)
            self.assertEqual(
                {"title": "Invalid request body", "description": words},
                {child.tag: child.text for child in document},
            )

    def test_json_before_xml(self) -> None:
        """Who wants both alike gets JSON."""
        for accept in (
            "application/xml, application/json",
            "*/*",
            "application/*",
            "text/xml;q=0.5, */*",
        ):
            self.assertEqual(JSON, answer(UnknownRoute(), accept).content_type, accept)

    def test_words_that_xml_cannot_say(self) -> None:
        """Characters that XML does not know leave the document well-formed."""
        told = answer(InvalidBody("a\x00b\x0cc\ufffed"), "text/xml")
        (_, description) = ElementTree.fromstring(told.body)
        self.assertIn("a", description.text)

    def test_neither(self) -> None:
        """Who wants neither gets the status alone."""
        for accept in ("text/html", "application/json;q=0", "image/*"):
            told = answer(UnknownRoute(), accept)
            self.assertEqual((404, b""), (told.status, told.body), accept)

    def test_not_acceptable(self) -> None:
        """Who excludes JSON, but knows some of its kind, is shown where to look."""
        error = NotAcceptable("Only JSON.")
        told = answer(error, "application/vnd.openstack+json")
        self.assertEqual(406, told.status)
        self.assertEqual({"text", "href", "rel"}, set(told.body["link"]))
        self.assertEqual(b"", answer(error, "text/html").body)
        self.assertIn(b"<title>", answer(error, "text/xml").body)


class UnexpectedTests(SynchronousTestCase):
    """Errors of our own."""

    def test_words(self) -> None:
        """The client learns where to look, the log what happened."""
        with capturedLogs() as events:
            error = unexpected(Failure(ValueError("the inside")), "req-1")
        self.assertEqual((500, "Internal server error"), (error.status, error.title))
        self.assertIn("req-1", error.description)
        self.assertNotIn("inside", error.description)
        (event,) = events
        self.assertIn("req-1", formatEvent(event))
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertEqual("the inside", str(failure.value))


class WriteTests(SynchronousTestCase):
    """What an answer does to a request."""

    def headers(self, written: Request) -> dict[bytes, list[bytes]]:
        """The headers of the answer."""
        return dict(written.responseHeaders.getAllRawHeaders())

    def test_body(self) -> None:
        """A body is encoded, and its type is said."""
        written = request()
        body = write(written, Answer(201, {"a": 1}, {"location": "/x"}))
        headers = self.headers(written)
        self.assertEqual((201, b'{"a":1}'), (written.code, body))
        self.assertEqual([b"application/json"], headers[b"Content-Type"])
        self.assertEqual([b"/x"], headers[b"Location"])

    def test_bytes(self) -> None:
        """Bytes are a body already, of whatever type is said."""
        written = request()
        self.assertEqual(b"x", write(written, Answer(200, b"x", {}, "text/plain")))
        self.assertEqual([b"text/plain"], self.headers(written)[b"Content-Type"])

    def test_empty(self) -> None:
        """No body is one of no bytes; no content has not even a type."""
        written = request()
        self.assertEqual(b"", write(written, Answer(201)))
        self.assertEqual({b"Content-Type"}, self.headers(written).keys())
        written = request()
        self.assertEqual(b"", write(written, Answer(204, {"never": "shown"})))
        self.assertEqual({}, self.headers(written))

    def test_request_id(self) -> None:
        """A request keeps its id, and no two have the same."""
        one, other = request(), request()
        give_id(one)
        give_id(other)
        self.assertEqual(request_id(one), request_id(one))
        self.assertNotEqual(request_id(one), request_id(other))
        write(one, answer_of(StoreUnavailable(), one))
        sent = self.headers(one)[b"X-Openstack-Request-Id"]
        self.assertEqual([request_id(one).encode()], sent)
