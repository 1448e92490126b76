"""Which paths, methods and names there are."""

from __future__ import annotations

from tests.rest.answers import Answer
from tests.rest.server import RestTestCase, asking

KNOWN_PATHS = {
    "/": "GET",
    "/v2/": "GET",
    "/v2/ping": "GET HEAD",
    "/v2/queues": "GET",
    "/v2/queues/q": "GET PUT PATCH DELETE",
    "/v2/queues/q/stats": "GET",
    "/v2/queues/q/purge": "POST",
    "/v2/queues/q/share": "POST",
    "/v2/queues/q/messages": "GET POST DELETE",
    "/v2/queues/q/messages/m": "GET DELETE",
    "/v2/queues/q/claims": "POST",
    "/v2/queues/q/claims/c": "GET PATCH DELETE",
    "/v2/queues/q/subscriptions": "GET POST",
    "/v2/queues/q/subscriptions/s": "GET PATCH DELETE",
    "/v2/queues/q/subscriptions/s/confirm": "PUT",
    "/v2/topics": "GET",
    "/v2/topics/t": "GET PUT PATCH DELETE",
    "/v2/topics/t/stats": "GET",
    "/v2/topics/t/purge": "POST",
    "/v2/topics/t/messages": "GET POST DELETE",
    "/v2/topics/t/messages/m": "GET DELETE",
    "/v2/topics/t/subscriptions": "GET POST",
    "/v2/topics/t/subscriptions/s": "GET PATCH DELETE",
    "/v2/topics/t/subscriptions/s/confirm": "PUT",
}

UNKNOWN_PATHS = [
    "/v2",
    "/v1/queues",
    "/v1.1/queues",
    "/v2/queue",
    "/v2/ping/",
    "/V2/ping",
    "/v2/Queues",
    "/v2/queues/q/",
    "/v2/queues/q/nothing",
    "/v2/queues/q/messages/",
    "/v2/queues/q/messages/m/",
    "/v2/queues/q/messages/m/n",
    "/v2/queues/q/claims/c/d",
    "/v2/queues/q/subscriptions/s/confirm/",
    "/v2/queues/a%2Fb",
    "/v2/topics/t/claims",
    "/v2/topics/t/claims/c",
    "/v2/topics/t/share",
    "/favicon.ico",
]


def _allowed(answer: Answer) -> set[str]:
    return {method.strip() for method in (answer.header("allow") or "").split(",")}


class RouteTests(RestTestCase):
    """Which paths and methods there are."""

    async def test_unknown_paths(self) -> None:
        """An unknown path is a bare 404, whatever else is wrong."""
        requests = [asking("GET", path) for path in UNKNOWN_PATHS]
        requests += [
            asking("GET", path, client=None, project=None) for path in UNKNOWN_PATHS
        ]
        requests += [asking("POST", path, raw=b"{") for path in UNKNOWN_PATHS]
        await self.refuses(404, "404 Not Found", requests)

    async def test_wrong_methods(self) -> None:
        """A known path answers methods it has not with 405."""
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        requests = [
            asking(method, path)
            for path, methods in KNOWN_PATHS.items()
            for method in every
            if method not in methods.split()
        ]
        await self.refuses(405, "405 Method Not Allowed", requests)

    async def test_allow(self) -> None:
        """A 405 names the methods that there are."""
        for path, methods in KNOWN_PATHS.items():
            answer = self.expect(await self.call("PROPFIND", path), 405)
            self.assertEqual(set(), {*methods.split(), "OPTIONS"} - _allowed(answer))
            extra = _allowed(answer) - {*methods.split(), "OPTIONS", "HEAD"}
            self.assertEqual(set(), extra, path)

    async def test_head_where_get_is(self) -> None:
        """HEAD answers like GET, without the body."""
        await self.post("q", 1)
        for path in ("/", "/v2/", "/v2/queues", "/v2/queues/q", "/v2/queues/none"):
            shown = await self.call("GET", path)
            answer = self.expect(await self.call("HEAD", path), shown.status)
            self.assertEqual(b"", answer.body)
            kind = shown.header("content-type")
            self.assertEqual(kind, answer.header("content-type"), path)

    async def test_head_of_missing(self) -> None:
        """HEAD of a message that does not exist says so like GET."""
        path = f"/v2/queues/q/messages/{'0' * 24}"
        answer = self.expect(await self.call("HEAD", path), 404)
        self.assertEqual(b"", answer.body)

    async def test_head_elsewhere(self) -> None:
        """HEAD is refused where GET is."""
        paths = ["/v2/queues/q/claims", "/v2/queues/q/purge", "/v2/queues/q/share"]
        await self.gives(405, [asking("HEAD", path) for path in paths])

    async def test_options(self) -> None:
        """OPTIONS names the methods of every known path and says nothing else."""
        for path, methods in KNOWN_PATHS.items():
            answer = self.expect(await self.call_raw("OPTIONS", path), 200)
            self.assertEqual(b"", answer.body)
            self.assertEqual("0", answer.header("content-length"))
            self.assertEqual(set(), {*methods.split(), "OPTIONS"} - _allowed(answer))

    async def test_options_without_headers(self) -> None:
        """OPTIONS needs neither client nor project: browsers send none."""
        answer = await self.call("OPTIONS", "/v2/queues", client=None, project=None)
        self.expect(answer, 200)

    async def test_options_of_unknown_path(self) -> None:
        """OPTIONS does not pretend that an unknown path exists."""
        await self.gives(404, [asking("OPTIONS", "/v2/nothing")])

    async def test_unknown_method(self) -> None:
        """A method that HTTP does not know is refused before the path is looked at."""
        requests = [
            asking("FOO", "/v2/queues/q"),
            asking("FOO", "/v2/nothing", client=None),
        ]
        await self.refuses(400, "Bad request", requests)

    async def test_known_but_strange_methods(self) -> None:
        """Methods that HTTP knows and the service does not are 405."""
        requests = [asking(m, "/v2/queues/q") for m in ("TRACE", "PROPFIND", "MKCOL")]
        await self.refuses(405, "405 Method Not Allowed", requests)

    async def test_empty_queue_name(self) -> None:
        """The collection with a slash is a queue without a name."""
        await self.refuses(
            400, "Invalid queue identification", [asking("GET", "/v2/queues/")]
        )


class NameTests(RestTestCase):
    """Names of queues and topics."""

    async def test_good_names(self) -> None:
        """Letters, digits, dash, underscore and dot make a name, up to 64."""
        names = ["a", "Z9", "a-b_c.d", "...", ".hidden", "-", "_", "n" * 64]
        requests = [
            asking("PUT", f"/v2/{kind}/{name}")
            for kind in ("queues", "topics")
            for name in names
        ]
        await self.gives(201, requests)

    async def test_percent_encoding(self) -> None:
        """An encoded letter is that letter."""
        answer = self.expect(await self.call("PUT", "/v2/queues/%61b"), 201)
        self.assertEqual("/v2/queues/ab", answer.location)
        self.assertEqual(["ab"], await self.queue_names())

    async def test_bad_names(self) -> None:
        """Every other character and length is refused, on every route."""
        names = [
            *("n" * 65, "a%20b", "%C3%A9", "a%0A", "%0A", "a!", "a,b", "a%00b"),
            *("a%3Fb", "a%23", "a:b", "a+b", "~", ".", "..", "%2E", "%2e%2E"),
        ]
        for kind in ("queue", "topic"):
            title = f"Invalid {kind} identification"
            paths = [f"/v2/{kind}s/{name}" for name in names]
            paths += [f"/v2/{kind}s/a!/{rest}" for rest in ("stats", "messages")]
            requests = [asking("GET", path) for path in paths]
            await self.refuses(400, title, requests)

    async def test_bytes_that_are_no_text(self) -> None:
        """A name that is not UTF-8 is refused like any bad name."""
        await self.refuses(400, None, [asking("GET", "/v2/queues/%ff")])

    async def test_long_project(self) -> None:
        """A project has 256 characters at most where a name is in the path."""
        for kind in ("queue", "topic"):
            path = f"/v2/{kind}s/name"
            self.expect(await self.call("GET", path, project="p" * 256), 200)
            await self.refuses(
                400,
                f"Invalid {kind} identification",
                [asking("GET", path, project="p" * 257)],
            )

    async def test_long_project_elsewhere(self) -> None:
        """The length of a project is not looked at without a name."""
        paths = ["/v2/queues", "/v2/ping", "/v2/"]
        answers = [await self.call("GET", path, project="p" * 300) for path in paths]
        self.assertEqual([200, 204, 200], [answer.status for answer in answers])
