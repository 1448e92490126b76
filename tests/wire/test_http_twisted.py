"""The same resources under twisted.web's own server, compared answer by answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import Data
from twisted.web.util import Redirect

from tests.wire.test_http import Wire, WireTestCase, get, post

WITHOUT_MEANING = {b"date", b"server", b"connection"}
"""Headers in which the two may differ: who they are, and when it is."""


@frozen
class Answer:
    """An answer, however its body was framed."""

    status: bytes
    headers: frozenset[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Answer:
        """Read the bytes of an answer."""
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        headers = [line.split(b": ", 1) for line in lines]
        known = {name.lower(): value for name, value in headers}
        if known.pop(b"transfer-encoding", None) == b"chunked":
            body = unchunked(body)
            # What comes in one chunk may as well come with its length.
            known[b"content-length"] = b"%d" % len(body)
        return cls(
            line.partition(b" ")[2],
            frozenset(
                (name, value)
                for name, value in known.items()
                if name not in WITHOUT_MEANING
            ),
            body,
        )


def unchunked(raw: bytes) -> bytes:
    """The body that was sent in chunks."""
    body = b""
    while raw != b"0\r\n\r\n":
        size, _, rest = raw.partition(b"\r\n")
        length = int(size, 16)
        body, raw = body + rest[:length], rest[length + 2 :]
    return body


class Show(Resource):
    """Tells what it was asked, in all that a resource commonly looks at."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        """Answer with the request."""
        request.setHeader(b"content-type", b"text/plain")
        shown = (
            *(request.method, request.uri, request.path, request.args),
            *(request.prepath, request.postpath, request.clientproto),
            *(request.getHeader(b"host"), request.getHeader("x-a")),
            *(request.requestHeaders.getRawHeaders(b"x-a"), request.getCookie(b"a")),
            *(request.getRequestHostname(), request.isSecure()),
            *(request.getUser(), request.getPassword()),
            sorted(request.getAllHeaders().items()),
            request.content.read(),
        )
        return repr(shown).encode()


class Parts(Resource):
    """Writes its answer in parts."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        """Answer in three parts."""
        request.setHeader(b"x-parts", b"3")
        for part in (b"one", b"two", b"three"):
            request.write(part)
        request.finish()
        return NOT_DONE_YET


class Conditional(Resource):
    """Has an entity tag, and a date."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer what the client does not have yet."""
        request.setHeader(b"content-type", b"text/plain")
        if request.setETag(b'"1"') or request.setLastModified(1_700_000_000):
            return b""
        request.addCookie("c", "1", path="/")
        return b"new"


def tree() -> Resource:
    """Some resources."""
    root = Resource()
    root.putChild(b"", Data(b"root", "text/plain"))
    root.putChild(b"show", Show())
    root.putChild(b"parts", Parts())
    root.putChild(b"conditional", Conditional())
    root.putChild(b"redirect", Redirect(b"/elsewhere"))
    child = Resource()
    child.putChild(b"a b", Data(b"deep", "text/plain"))
    root.putChild(b"child", child)
    return root


def klein() -> IResource:
    """A Klein app."""
    # It installs a reactor, so it comes when there is one.
    from klein import Klein  # noqa: PLC0415

    app = Klein()

    @app.route("/item/<int:number>", methods=["GET", "PUT"])
    def item(request: Request, number: int) -> str:
        return f"{request.method!r} {number} {request.content.read()!r}"

    @app.route("/coroutine")
    async def coroutine(request: Request) -> bytes:
        request.setResponseCode(201)
        request.setHeader("location", "/made")
        return b"made"

    @app.route("/tree/", branch=True)
    def branch(request: Request) -> IResource:
        return tree()

    resource: IResource = app.resource()
    return resource


CHUNKED = [b"Transfer-Encoding: chunked"]

REQUESTS = [
    *(get(), get(method=b"HEAD"), get(b"/unknown"), get(b"/child/")),
    *(get(b"/child/a%20b"), get(b"/child/a%20b?x"), get(b"//"), get(b"/./show")),
    *(get(b"/show"), get(b"/show/"), get(b"/show//a%2Fb/%41?x=1&y=%20&x=2&z")),
    get(b"/show", b"X-A: 1", b"x-a: 2", b"Cookie: a=b", b"Authorization: Basic YTpi"),
    *(get(b"/show", method=method) for method in (b"HEAD", b"PUT", b"DELETE")),
    get(b"/show", *CHUNKED, method=b"POST") + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
    post(b"a=b&c=d", b"Content-Type: application/x-www-form-urlencoded").replace(
        b"POST /", b"POST /show"
    ),
    *(get(b"/parts"), get(b"/parts", method=b"HEAD").replace(b"HEAD", b"GET")),
    *(get(b"/conditional"), get(b"/conditional", method=b"HEAD")),
    *(get(b"/redirect"), get(b"*", method=b"OPTIONS")),
    get(b"/show", b"Connection: close"),
]


class ComparisonTests(WireTestCase):
    """Two servers for the same resources."""

    def under_twisted(self, raw: bytes, root: IResource) -> Answer:
        """What twisted.web's server answers."""
        site = Unlogged(root, parsePOSTFormSubmission=False, reactor=self.clock)
        site.requestFactory = Plain
        channel = site.buildProtocol(None)
        transport = Wire()
        channel.makeConnection(transport)
        channel.dataReceived(raw)
        return Answer.parse(transport.value())

    def both(self, raw: bytes, root: IResource) -> tuple[Answer, Answer]:
        """What twisted.web's server answers, and what ours does."""
        self.serve(root)
        return self.under_twisted(raw, root), Answer.parse(self.connect().send(raw))

    def compare(self, requests: list[bytes], root: Callable[[], IResource]) -> None:
        """Fail unless both answer the same."""
        for raw in requests:
            theirs, ours = self.both(raw, root())
            self.assertEqual(theirs, ours, raw)

    def test_resources(self) -> None:
        """Resources answer the same, whoever serves them."""
        self.compare(REQUESTS, tree)

    def test_nothing_new(self) -> None:
        """To a client that has it already, ours says nothing of an empty body."""
        for condition in (
            b'If-None-Match: "1"',
            b"If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",
        ):
            theirs, ours = self.both(get(b"/conditional", condition), tree())
            self.assertEqual(b"304 Not Modified", ours.status)
            self.assertEqual(theirs.status, ours.status)
            self.assertEqual({(b"content-length", b"0")}, theirs.headers - ours.headers)

    def test_unknown_method(self) -> None:
        """Ours refuses methods in its own words."""
        theirs, ours = self.both(get(b"/child"), tree())
        self.assertEqual(b"405 Method Not Allowed", ours.status)
        self.assertEqual(theirs.status, ours.status)
        self.assertIn((b"allow", b"HEAD"), ours.headers & theirs.headers)
        self.assertIn((b"content-type", b"application/json"), ours.headers)

    def test_head_of_klein(self) -> None:
        """Ours knows the length that GET would have, also in a Klein app."""
        theirs, ours = self.both(get(b"/item/1", method=b"HEAD"), klein())
        self.assertEqual({(b"content-length", b"13")}, ours.headers - theirs.headers)

    def test_klein(self) -> None:
        """A Klein app answers the same, whoever serves it."""
        put = post(b"abc").replace(b"POST /", b"PUT /item/1")
        self.compare(
            [
                *(get(b"/item/1"), put, get(b"/item/x")),
                *(get(b"/item/1", method=b"DELETE"), get(b"/coroutine"), get(b"/tree")),
                *(get(b"/tree/"), get(b"/tree/show/x?y=z"), get(b"/tree/unknown")),
                *(get(b"/%FF"), get(b"/none"), get(b"//item/1")),
            ],
            klein,
        )
        self.assertEqual(2, len(self.flushLoggedErrors(UnicodeDecodeError)))


class Plain(Request):
    """A request of twisted.web that adds no type of its own to answers."""

    defaultContentType = None


class Unlogged(Site):
    """A site of twisted.web that keeps no log of requests."""

    def log(self, request: Request) -> None:
        """Not wanted."""


class AnswerTests(SynchronousTestCase):
    """The comparison sees differences."""

    def test_parsed(self) -> None:
        """Status, headers and body count; framing and time do not."""
        chunked = b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked += b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        sized = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        self.assertEqual(Answer.parse(chunked), Answer.parse(sized))
        others: list[Any] = [
            sized.replace(*pair)
            for pair in (
                (b"200", b"201"),
                (b"abc", b"abd"),
                (b"\r\n\r\n", b"\r\nA: b\r\n\r\n"),
            )
        ]
        for other in others:
            self.assertNotEqual(Answer.parse(sized), Answer.parse(other))
