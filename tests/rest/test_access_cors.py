"""Pages of other sites, as a browser asks for them (Fetch standard)."""

from __future__ import annotations

from typing import Any

from tests.rest.access import AccessCase
from tests.rest.answers import Answer
from tests.rest.server import RestTestCase

PAGE = "https://app.example.org"
STRANGER = "https://evil.example.org"
NEEDED = ("client-id", "x-project-id", "x-auth-token", "content-type", "url-signature")


def words(answer: Answer, name: str) -> set[str]:
    """The words of a header, in lower case."""
    return {word.strip().lower() for word in (answer.header(name) or "").split(",")}


def cors_headers(answer: Answer) -> set[str]:
    """The names of those headers of an answer that are for browsers only."""
    names = (name.decode().lower() for name, _ in answer.headers.getAllRawHeaders())
    return {name for name in names if name.startswith("access-control-")}


class CorsCase(AccessCase):
    """A service that wants tokens, and lets one page in."""

    settings = (f"cors.allowed_origin={PAGE},https://other.example.org",)

    async def preflight(
        self, path: str, origin: str = PAGE, method: str = "PUT", **headers: str
    ) -> Answer:
        """What a browser asks before it sends the request."""
        sent = {"Origin": origin, "Access-Control-Request-Method": method, **headers}
        return await self.ask(None, "OPTIONS", path, headers=sent, client=None)

    async def from_page(
        self, token: str | None, method: str, path: str, origin: str = PAGE, **more: Any
    ) -> Answer:
        """A request that a page sends."""
        headers = {"Origin": origin}
        return await self.ask(token, method, path, headers=headers, **more)

    def assert_shown(self, answer: Answer, origin: str = PAGE) -> None:
        """Fail unless a browser would show the answer to the page."""
        self.assertEqual(origin, answer.header("access-control-allow-origin"), answer)
        self.assertEqual("true", answer.header("access-control-allow-credentials"))
        exposed = words(answer, "access-control-expose-headers")
        wanted = {"location", "retry-after", "x-openstack-request-id"}
        self.assertEqual(set(), wanted - exposed)
        self.assertIn("origin", words(answer, "vary"))


class PreflightTests(CorsCase):
    """The question before the request."""

    async def test_allowed(self) -> None:
        """A page that is named may send what the API needs, without a token yet."""
        for path in ("/v2/queues/q", "/v2/queues", "/", "/v2/ping"):
            answer = self.expect(await self.preflight(path), 200)
            self.assertEqual(b"", answer.body)
            self.assertEqual(PAGE, answer.header("access-control-allow-origin"))
            credentials = answer.header("access-control-allow-credentials")
            self.assertEqual("true", credentials)
            methods = {"get", "put", "post", "delete", "patch", "head"}
            self.assertEqual(methods, words(answer, "access-control-allow-methods"))
            allowed = words(answer, "access-control-allow-headers")
            self.assertEqual(set(), set(NEEDED) - allowed)
            self.assertEqual("3600", answer.header("access-control-max-age"))
            self.assertIn("origin", words(answer, "vary"))

    async def test_strangers(self) -> None:
        """A page that is not named is told nothing that a browser would take."""
        for origin in (STRANGER, "null", "", "*", f"{PAGE}.evil", PAGE.upper()):
            answer = await self.preflight("/v2/queues/q", origin)
            self.assertEqual(set(), cors_headers(answer), origin)
            self.assertIn("origin", words(answer, "vary"))

    async def test_plain_options(self) -> None:
        """OPTIONS without a question of a browser tells the methods."""
        answer = await self.call_raw("OPTIONS", "/v2/queues/q")
        self.assertIn("put", words(answer, "allow"))
        self.assertEqual(set(), cors_headers(answer))


class AnswerTests(CorsCase):
    """Requests of pages."""

    async def test_good(self) -> None:
        """A page gets to see its answer."""
        answer = await self.from_page("t-member", "PUT", "/v2/queues/q")
        self.assert_shown(self.expect(answer, 201))
        answer = await self.from_page(
            "t-member", "GET", "/v2/queues", "https://other.example.org"
        )
        self.assert_shown(answer, "https://other.example.org")

    async def test_errors(self) -> None:
        """A page gets to see what is wrong, too."""
        for token, method, path, status in (
            (None, "GET", "/v2/queues", 401),
            ("t-member", "GET", "/v2/nothing", 404),
            ("t-member", "GET", "/v2/queues/!", 400),
            ("t-member", "POST", "/v2/queues", 405),
            ("t-member", "PROPFIND", "/v2/queues", 405),
            ("t-member", "GET", "/v2/queues/%ff", 400),
        ):
            answer = self.expect(await self.from_page(token, method, path), status)
            self.assert_shown(answer)
            self.assertIn("accept", words(answer, "vary"))

    async def test_strangers(self) -> None:
        """Other pages are answered, and their browsers keep it from them."""
        answer = await self.from_page("t-member", "GET", "/v2/queues", STRANGER)
        self.assertEqual(set(), cors_headers(self.expect(answer, 200)))
        self.assertEqual({"origin"}, words(answer, "vary"))

    async def test_no_page(self) -> None:
        """Other clients see no difference but that caches are told."""
        answer = self.expect(await self.ask("t-member", "GET", "/v2/queues"), 200)
        self.assertEqual(set(), cors_headers(answer))
        self.assertEqual({"origin"}, words(answer, "vary"))


class AnybodyTests(CorsCase):
    """All pages may call, without what the browser knows of its user."""

    settings = ("cors.allowed_origin=*",)

    async def test_any(self) -> None:
        """Every page is let in, and none with credentials of the browser."""
        for origin in (PAGE, STRANGER, "null", "*"):
            answer = await self.from_page("t-member", "GET", "/v2/queues", origin)
            self.assertEqual("*", answer.header("access-control-allow-origin"))
            self.assertNotIn("access-control-allow-credentials", cors_headers(answer))
            answer = await self.preflight("/v2/queues/q", origin)
            self.assertEqual("*", answer.header("access-control-allow-origin"))
            self.assertNotIn("access-control-allow-credentials", cors_headers(answer))


class OffTests(RestTestCase):
    """The default: no page of another site."""

    async def test_nothing(self) -> None:
        """Without allowed origins nothing is said to browsers or caches."""
        for method, status in (("GET", 200), ("OPTIONS", 200)):
            headers = {"Origin": PAGE, "Access-Control-Request-Method": "GET"}
            answer = await self.call(method, "/v2/queues", headers=headers)
            self.assertEqual(set(), cors_headers(self.expect(answer, status)))
            self.assertIsNone(answer.header("vary"))
