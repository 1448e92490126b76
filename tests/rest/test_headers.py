"""Request headers, the order in which things are looked at, and answer headers."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.rest.answers import REQUEST_ID, Answer
from tests.rest.server import JSON_PATCH, RestTestCase, asking

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DASHED = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


class ClientTests(RestTestCase):
    """``Client-ID`` and ``X-Project-ID``."""

    async def test_uuid_spellings(self) -> None:
        """Every spelling of a UUID names a client."""
        spellings = [
            *(DASHED, DASHED.replace("-", ""), DASHED.upper()),
            *(f"{{{DASHED}}}", f"urn:uuid:{DASHED}"),
        ]
        await self.gives(204, [asking("GET", "/v2/ping", client=s) for s in spellings])

    async def test_spellings_of_one_client(self) -> None:
        """A poster is recognised however it spells its id."""
        await self.post("q", "mine", client=DASHED)
        for spelling in (DASHED.replace("-", ""), DASHED.upper()):
            answer = await self.call("GET", "/v2/queues/q/messages", client=spelling)
            self.assertEqual([], answer.json["messages"], spelling)

    async def test_missing(self) -> None:
        """A request without a client is refused."""
        await self.refuses(
            400, "Missing header value", [asking("GET", "/v2/ping", client=None)]
        )

    async def test_malformed(self) -> None:
        """A client id that is no UUID is refused, an empty one too."""
        bad = ["", "client", "a" * 31, "a" * 33, "g" * 32, "1234567890"]
        requests = [asking("GET", "/v2/ping", client=client) for client in bad]
        await self.refuses(400, "Wrong UUID value", requests)

    async def test_project_missing(self) -> None:
        """A request without a project is refused, with an empty one as well."""
        await self.refuses(
            400, "Project-Id Missing", [asking("GET", "/v2/queues", project=None)]
        )
        await self.refuses(
            400,
            "Empty project header not allowed",
            [asking("GET", "/v2/queues", project="")],
        )

    async def test_tenant(self) -> None:
        """The old name of the project header is taken when the new one is missing."""
        headers = {"X-Tenant-ID": "old"}
        answer = await self.call("PUT", "/v2/queues/q", project=None, headers=headers)
        self.expect(answer, 201)
        self.assertEqual(["q"], await self.queue_names("old"))

    async def test_project_before_tenant(self) -> None:
        """The project wins over the tenant."""
        headers = {"X-Tenant-ID": "old"}
        await self.call("PUT", "/v2/queues/q", project="new", headers=headers)
        self.assertEqual(["q"], await self.queue_names("new"))
        self.assertEqual([], await self.queue_names("old"))

    async def test_any_text_is_a_project(self) -> None:
        """Projects may hold any character and stay apart."""
        projects = ["a/b", "a b", "a.b", "a", "%41", "*", "é", "'; --", "a?b#c"]
        for project in projects:
            self.expect(await self.call("PUT", "/v2/queues/q", project=project), 201)
            self.assertEqual(["q"], await self.queue_names(project))


class AnyClientTests(RestTestCase):
    """``Client-ID`` when it need not be a UUID."""

    settings = ("transport.client_id_uuid_safe=off",)

    async def test_lengths(self) -> None:
        """Any text of 10 to 36 characters names a client."""
        good = ["client-ten", "a" * 36, DASHED, "with blank", "x!?/,;'()*"]
        await self.gives(204, [asking("GET", "/v2/ping", client=c) for c in good])
        bad = ["", "nine-char", "a" * 37]
        requests = [asking("GET", "/v2/ping", client=client) for client in bad]
        await self.refuses(400, "Wrong UUID value", requests)

    async def test_storage_takes_it(self) -> None:
        """A free text works down to the store."""
        await self.post("q", "a", client="some-client")
        mine = await self.call("GET", "/v2/queues/q/messages", client="some-client")
        self.assertEqual([], self.expect(mine, 200).json["messages"])
        self.assertEqual(["a"], await self.listed("q"))


class AcceptTests(RestTestCase):
    """``Accept`` and ``Content-Type``."""

    async def test_accepted(self) -> None:
        """Whatever does not exclude JSON passes."""
        good = [
            *(None, "", "*/*", "application/*", "application/json"),
            *("application/json;q=0.1", "application/json; charset=utf-8"),
            *("text/html, application/json;q=0.5", "text/html, */*;q=0.1"),
        ]
        requests = [asking("GET", "/v2/queues", headers={"Accept": a}) for a in good]
        await self.gives(200, requests)

    async def test_excluded(self) -> None:
        """A client that takes neither JSON nor XML gets an empty refusal."""
        for accept in ("text/html", "image/*"):
            answer = await self.call("GET", "/v2/queues", headers={"Accept": accept})
            self.expect(answer, 406)
            self.assertEqual(b"", answer.body)

    async def test_excluded_in_xml(self) -> None:
        """A client that wants XML is refused in XML."""
        answer = await self.call("GET", "/v2/", headers={"Accept": "application/xml"})
        self.expect(answer, 406)
        self.assertIn("xml", answer.header("content-type") or "")
        self.assertTrue(ElementTree.fromstring(answer.body).findtext(".//title"))

    async def test_excluded_in_json(self) -> None:
        """A client that wants another kind of JSON is refused in JSON, with a link."""
        headers = {"Accept": "application/vnd.other+json"}
        answer = self.expect(await self.call("GET", "/v2/", headers=headers), 406)
        self.assertEqual({"title", "description", "link"}, set(answer.json))
        self.assertEqual({"text", "href", "rel"}, set(answer.json["link"]))

    async def test_errors_in_xml(self) -> None:
        """A client that prefers XML gets its errors so."""
        headers = {"Accept": "application/xml, application/json;q=0.5"}
        answer = await self.call("GET", "/v2/queues/a!", headers=headers)
        self.expect(answer, 400)
        self.assertIn("xml", answer.header("content-type") or "")
        error = ElementTree.fromstring(answer.body)
        self.assertEqual(
            "Invalid queue identification", error.findtext(".//title"), answer
        )
        self.assertTrue(error.findtext(".//description"))

    async def test_form(self) -> None:
        """A form is refused by its media type alone."""
        kinds = [
            *("application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded"),
            "application/x-www-form-urlencoded; charset=utf-8",
        ]
        path = "/v2/queues/q/messages"
        requests = [
            asking("POST", path, raw=b"a=b", headers={"Content-Type": kind})
            for kind in kinds
        ]
        await self.refuses(400, "Invalid Content-Type", requests)

    async def test_other_content_types(self) -> None:
        """Every other content type is read as JSON."""
        kinds = [None, "", "text/plain", "application/xml", "nonsense", JSON_PATCH]
        body = {"messages": [{"body": 1}]}
        path = "/v2/queues/q/messages"
        requests = [
            asking("POST", path, json=body, headers={"Content-Type": kind})
            for kind in kinds
        ]
        await self.gives(201, requests)


class OrderTests(RestTestCase):
    """Which of several mistakes is told."""

    async def test_signature_first(self) -> None:
        """A bad signature hides everything that comes after it."""
        headers = {**FORM, "URL-Signature": "x", "Accept": "text/html"}
        answer = await self.call("GET", "/v2/queues/a!", headers=headers, client=None)
        self.assertEqual(404, answer.status)

    async def test_content_type_before_accept(self) -> None:
        """The content type is looked at before what the client accepts."""
        headers = {**FORM, "Accept": "text/html"}
        answer = await self.call(
            "POST", "/v2/queues/q/claims", raw=b"{}", headers=headers
        )
        self.assertEqual(400, answer.status)

    async def test_accept_before_client(self) -> None:
        """What the client accepts comes before who it is."""
        headers = {"Accept": "text/html"}
        answer = await self.call("GET", "/v2/ping", headers=headers, client=None)
        self.assertEqual(406, answer.status)

    async def test_client_before_project(self) -> None:
        """The client comes before the project."""
        await self.refuses(
            400,
            "Missing header value",
            [asking("GET", "/v2/queues/a!", client=None, project=None)],
        )

    async def test_project_before_name(self) -> None:
        """The project comes before the name of the queue."""
        await self.refuses(
            400, "Project-Id Missing", [asking("GET", "/v2/queues/a!", project=None)]
        )

    async def test_headers_before_method(self) -> None:
        """A wrong method is told only to a well-formed request."""
        path = "/v2/queues/q"
        await self.refuses(
            400, "Missing header value", [asking("POST", path, client=None)]
        )
        await self.refuses(
            400, "Project-Id Missing", [asking("POST", path, project=None)]
        )

    async def test_name_before_method(self) -> None:
        """A bad name comes before a wrong method."""
        await self.refuses(
            400, "Invalid queue identification", [asking("POST", "/v2/queues/a!")]
        )

    async def test_query_before_body(self) -> None:
        """A bad parameter is told before a broken body."""
        await self.refuses(
            400,
            "Invalid parameter",
            [asking("POST", "/v2/queues/q/claims?limit=x", raw=b"{")],
        )


class AnswerTests(RestTestCase):
    """What every answer carries."""

    async def _answers(self) -> list[Answer]:
        await self.post("q", 1)
        return [
            await self.call("GET", "/", client=None),
            await self.call("PUT", "/v2/queues/new"),
            await self.call("PUT", "/v2/queues/new"),
            await self.call("GET", "/v2/queues"),
            await self.call("POST", "/v2/queues/q/claims"),
            await self.call("GET", "/v2/queues/q", client=None),
            await self.call("GET", "/v2/nothing"),
            await self.call("POST", "/v2/queues/q"),
            await self.call("OPTIONS", "/v2/queues/q"),
            await self.call("HEAD", "/v2/queues/q"),
            await self.call("GET", "/v2/", headers={"Accept": "text/html"}),
            await self.call("FOO", "/v2/queues"),
            await self.call("GET", f"/v2/queues/q/messages/{'0' * 24}"),
        ]

    async def test_request_id(self) -> None:
        """Each answer has a request id of its own, errors included."""
        seen = [a.header("x-openstack-request-id") for a in await self._answers()]
        for number, request_id in enumerate(seen):
            self.assertTrue(REQUEST_ID.match(request_id or ""), (number, request_id))
        self.assertEqual(len(seen), len(set(seen)))

    async def test_created_without_body(self) -> None:
        """A 201 without a body says that it is empty JSON."""
        answer = self.expect(await self.call_raw("PUT", "/v2/queues/q"), 201)
        self.assertEqual("application/json", answer.header("content-type"))
        self.assertEqual("0", answer.header("content-length"))
        self.assertEqual(b"", answer.body)

    async def test_no_content(self) -> None:
        """A 204 has neither a content type nor a length."""
        answer = self.expect(await self.call_raw("GET", "/v2/ping"), 204)
        self.assertIsNone(answer.header("content-type"))
        self.assertIsNone(answer.header("content-length"))

    async def test_json_has_no_charset(self) -> None:
        """The content type of JSON is bare, its length is told."""
        answer = await self.call_raw("GET", "/v2/queues")
        self.assertEqual("application/json", answer.header("content-type"))
        self.assertEqual(str(len(answer.body)), answer.header("content-length"))

    async def test_errors_vary(self) -> None:
        """Errors depend on what the client accepts, and say so."""
        answer = self.expect(await self.call("GET", "/v2/queues?limit=0"), 400)
        self.assertIn("accept", (answer.header("vary") or "").lower())

    async def test_extra_spec_is_no_key(self) -> None:
        """A request with an extra specification is still asked who it is."""
        headers = {"EXTRA-SPEC": "messagecode:x"}
        self.expect(await self.call("GET", "/v2/ping", headers=headers), 204)
        await self.refuses(
            400,
            "Missing header value",
            [asking("GET", "/v2/ping", headers=headers, client=None)],
        )
