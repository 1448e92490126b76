"""The headers for pages of other sites, one request at a time."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel, Request

from mqsvc.rest.cors import ANSWER_HEADERS, ANY, CORS, REQUEST_HEADERS

PAGE = "https://app.example.org"
PREFIX = b"access-control-"


def request(
    method: bytes = b"GET", origin: str | None = PAGE, asked: str | None = None
) -> Request:
    """A request of a page, or of somebody else."""
    channel = HTTPChannel()
    channel.transport = StringTransport()
    made = Request(channel)
    made.method = method
    if origin is not None:
        made.requestHeaders.addRawHeader("origin", origin)
    if asked is not None:
        made.requestHeaders.addRawHeader("access-control-request-method", asked)
    return made


class ApplyTests(SynchronousTestCase):
    """What is set on the answer, and whether that is all of it."""

    def apply(self, cors: CORS, made: Request) -> tuple[bool, dict[str, str]]:
        """Whether it was a preflight, and the headers for browsers."""
        is_answered = cors.apply(made)
        found = {
            name.lower().removeprefix(PREFIX).decode(): values[0].decode()
            for name, values in made.responseHeaders.getAllRawHeaders()
            if name.lower().startswith(PREFIX)
        }
        return is_answered, found

    def vary(self, made: Request) -> list[str]:
        """What the answer says that it depends on."""
        return made.responseHeaders.getRawHeaders("vary", [])

    def test_off(self) -> None:
        """Without allowed origins nothing is set, not even for a preflight."""
        made = request(b"OPTIONS", asked="GET")
        self.assertEqual((False, {}), self.apply(CORS(), made))
        self.assertEqual([], self.vary(made))

    def test_allowed(self) -> None:
        """A page that is named may see the answer, with its user's credentials."""
        made = request()
        expected = {
            "allow-origin": PAGE,
            "allow-credentials": "true",
            "expose-headers": ",".join(ANSWER_HEADERS),
        }
        self.assertEqual((False, expected), self.apply(CORS((PAGE,)), made))
        self.assertEqual(["Origin"], self.vary(made))

    def test_not_allowed(self) -> None:
        """Any other origin gets nothing, but caches must know that it mattered."""
        origins = ("http://app.example.org", f"{PAGE}:444", f"{PAGE}/", "null", "")
        for origin in (*origins, None):
            made = request(origin=origin)
            self.assertEqual((False, {}), self.apply(CORS((PAGE,)), made))
            self.assertEqual(["Origin"], self.vary(made))

    def test_any(self) -> None:
        """Where all pages may call, none comes with credentials."""
        for origin in (PAGE, "null", ANY):
            _, found = self.apply(CORS((ANY,)), request(origin=origin))
            self.assertEqual(ANY, found["allow-origin"])
            self.assertNotIn("allow-credentials", found)

    def test_any_and_named(self) -> None:
        """A page that is named beside all the others keeps its credentials."""
        _, found = self.apply(CORS((ANY, PAGE)), request())
        self.assertEqual(
            (PAGE, "true"), (found["allow-origin"], found["allow-credentials"])
        )

    def test_without_credentials(self) -> None:
        """The operator may allow a page and not its user's credentials."""
        _, found = self.apply(CORS((PAGE,), allow_credentials=False), request())
        self.assertEqual({"allow-origin", "expose-headers"}, found.keys())

    def test_preflight(self) -> None:
        """A preflight is told methods, headers and for how long."""
        cors = CORS((PAGE,), max_age=5, allow_headers=("X-Mine",))
        is_answered, found = self.apply(cors, request(b"OPTIONS", asked="PUT"))
        self.assertTrue(is_answered)
        self.assertEqual(",".join((*REQUEST_HEADERS, "X-Mine")), found["allow-headers"])
        self.assertEqual("5", found["max-age"])
        self.assertIn("PATCH", found["allow-methods"].split(","))
        self.assertNotIn("expose-headers", found)

    def test_no_preflight(self) -> None:
        """Only OPTIONS with the question of a browser is a preflight."""
        for made in (request(b"OPTIONS"), request(b"GET", asked="PUT")):
            self.assertFalse(self.apply(CORS((PAGE,)), made)[0])

    def test_preflight_of_stranger(self) -> None:
        """A preflight of a page that may not call is not answered here."""
        made = request(b"OPTIONS", "https://evil.example.org", "PUT")
        self.assertEqual((False, {}), self.apply(CORS((PAGE,)), made))

    def test_exposed(self) -> None:
        """The operator may let pages see more."""
        _, found = self.apply(CORS((PAGE,), expose_headers=("X-Mine",)), request())
        self.assertIn("X-Mine", found["expose-headers"].split(","))
