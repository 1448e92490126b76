"""Pre-signed URLs: making them and using them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from tests.rest.answers import Answer
from tests.rest.server import RestTestCase, asking

SHARE = "/v2/queues/shq/share"
MESSAGES = "/v2/queues/shq/messages"
FOREVER = "2100-01-01T00:00:00"

BEYOND_THE_CALENDAR = ("9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00")
"""Times whose zone leads out of the years that have four digits."""

ONE_PATH = "3b37861ee8da7d5d299a5f9fa781566f8efee4917b5295ddf0134f23141f616d"
THREE_PATHS = "c94dcc21f611d36081f26bfa54de1861acbe936cb829f949f424cbbeb502988f"


def sign(paths: str, methods: str, expires: str, project: str = "p1") -> str:
    """A signature made by the book; paths and methods are sorted comma lists."""
    text = rf"{paths}\n{methods}\n{project}\n{expires}"
    return hmac.new(b"secretkey", text.encode(), hashlib.sha256).hexdigest()


def signed(**changes: str | None) -> dict[str, str | None]:
    """The headers of the first test vector, with changes (underscores are dashes)."""
    headers: dict[str, str | None] = {
        "URL-Signature": ONE_PATH,
        "URL-Expires": FOREVER,
        "URL-Methods": "GET",
        "URL-Paths": MESSAGES,
    }
    headers.update({f"URL-{key.title()}": value for key, value in changes.items()})
    return headers


class SharingTestCase(RestTestCase):
    """A service with the secret of the test vectors."""

    settings = ("signed_url.secret_key=secretkey",)

    async def share(self, **body: Any) -> Any:
        """What is given out for a request."""
        return self.expect(await self.call("POST", SHARE, json=body), 200).json


class ShareTests(SharingTestCase):
    """``POST .../share``."""

    async def test_one_path(self) -> None:
        """The first test vector is signed as everybody signs it."""
        expected = {
            "paths": [MESSAGES],
            "methods": ["GET"],
            "project": "p1",
            "expires": FOREVER,
            "signature": ONE_PATH,
        }
        self.assertEqual(expected, await self.share(expires=FOREVER))

    async def test_three_paths(self) -> None:
        """The second one too; paths and methods are sorted."""
        found = await self.share(
            paths=["messages", "claims", "subscriptions"],
            methods=["POST", "GET"],
            expires=FOREVER,
        )
        paths = [f"/v2/queues/shq/{p}" for p in ("claims", "messages", "subscriptions")]
        self.assertEqual(paths, found["paths"])
        self.assertEqual(["GET", "POST"], found["methods"])
        self.assertEqual(THREE_PATHS, found["signature"])

    async def test_defaults(self) -> None:
        """Without wishes reading the messages is granted for a day."""
        for body in ({}, {"paths": None, "methods": None, "expires": None}):
            found = await self.share(**body)
            self.assertEqual([MESSAGES], found["paths"])
            self.assertEqual(["GET"], found["methods"])
            self.assertEqual("2027-01-16T08:00:00", found["expires"])

    async def test_empty_lists(self) -> None:
        """Empty lists are as if they were not given."""
        found = await self.share(paths=[], methods=[])
        self.assertEqual([MESSAGES], found["paths"])
        self.assertEqual(["GET"], found["methods"])

    async def test_expiry_forms(self) -> None:
        """A time may come with a zone, a fraction, or as a date, and is told in UTC."""
        forms = {
            "2100-01-01": FOREVER,
            "2100-01-01T00:00:00Z": FOREVER,
            "2100-01-01T02:00:00+02:00": FOREVER,
            "2099-12-31T19:00:00-05:00": FOREVER,
            "2100-01-01T00:00:00.999999": FOREVER,
        }
        for text, expected in forms.items():
            found = await self.share(expires=text)
            self.assertEqual(expected, found["expires"], text)
            self.assertEqual(ONE_PATH, found["signature"], text)

    async def test_duplicates(self) -> None:
        """What is named twice is signed twice."""
        found = await self.share(paths=["messages"] * 2, expires=FOREVER)
        self.assertEqual([MESSAGES] * 2, found["paths"])
        both = f"{MESSAGES},{MESSAGES}"
        self.assertEqual(sign(both, "GET", FOREVER), found["signature"])

    async def test_project_is_signed(self) -> None:
        """The signature is for the project of the caller."""
        answer = await self.call(
            "POST", SHARE, json={"expires": FOREVER}, project="other"
        )
        expected = sign(MESSAGES, "GET", FOREVER, "other")
        self.assertEqual("other", answer.json["project"])
        self.assertEqual(expected, answer.json["signature"])

    async def test_creates_nothing(self) -> None:
        """The queue need not exist and is not made."""
        await self.share()
        self.assertEqual([], await self.queue_names())

    async def test_bad_bodies(self) -> None:
        """Unknown paths, wrong types, past and unreadable times are refused."""
        bad: list[dict[str, Any]] = [
            *({"paths": value} for value in (["stats"], ["/v2"], "messages", 5, {})),
            *({"paths": value} for value in ([5], [None], ["messages", "x"], [[]])),
            *({"methods": value} for value in ("GET", 5, [5], [None], {}, [["GET"]])),
            *(
                {"expires": value}
                for value in (5, 1e9, "5", "1893456000", [], {}, True)
            ),
            *({"expires": v} for v in ("soon", "2020-01-01", "2100-13-01T00:00:00")),
            *({"expires": v} for v in ("2027-01-15T07:59:59", "2027-01-14T23:00:00")),
            *({"expires": v} for v in BEYOND_THE_CALENDAR),
            *({"unknown": 1}, {"path": ["messages"]}, {"project": "p2"}),
        ]
        requests = [asking("POST", SHARE, json=body) for body in bad]
        requests += [asking("POST", SHARE, raw=raw) for raw in (b"", b"[]", b"{")]
        await self.refuses(400, None, requests)


class UseTests(SharingTestCase):
    """Requests with a signature."""

    async def _get(self, path: str = MESSAGES, **changes: str | None) -> Answer:
        return await self.call("GET", path, headers=signed(**changes))

    async def test_good(self) -> None:
        """What was granted works."""
        await self.post("shq", 1)
        answer = self.expect(await self._get(), 200)
        self.assertEqual([1], [m["body"] for m in answer.json["messages"]])

    async def test_below(self) -> None:
        """What lies below a granted path is granted too."""
        (message_id,) = await self.post("shq", 1)
        self.expect(await self._get(f"{MESSAGES}/{message_id}"), 200)
        self.expect(await self._get(f"{MESSAGES}?ids={message_id}"), 200)

    async def test_what_share_gave(self) -> None:
        """What share gives out is what is accepted, in any order."""
        found = await self.share(paths=["messages", "claims"], methods=["POST", "GET"])
        headers = {
            "URL-Signature": found["signature"],
            "URL-Expires": found["expires"],
            "URL-Methods": "POST,GET",
            "URL-Paths": "/v2/queues/shq/messages,/v2/queues/shq/claims",
        }
        body = {"messages": [{"body": 1}]}
        answer = await self.call("POST", MESSAGES, json=body, headers=headers)
        self.expect(answer, 201)
        claim = await self.call("POST", "/v2/queues/shq/claims", headers=headers)
        self.expect(claim, 201)

    async def test_project_with_signs(self) -> None:
        """Any text may be a project, also in a signature."""
        for project in ("é", "a,b", "x\\ny"):
            signature = sign(MESSAGES, "GET", FOREVER, project)
            headers = signed(signature=signature)
            answer = await self.call("GET", MESSAGES, headers=headers, project=project)
            self.expect(answer, 200)

    async def test_expiry_is_normalised(self) -> None:
        """The expiry may be written in another form than it was signed in."""
        for text in ("2100-01-01", f"{FOREVER}Z", f"{FOREVER}.5"):
            self.expect(await self._get(expires=text), 200)

    async def test_failures(self) -> None:
        """Every failure is the same bare 404."""
        await self.post("shq", 1)
        claims = "/v2/queues/shq/claims"
        past = "2027-01-15T07:59:59"
        changes: list[dict[str, str | None]] = [
            *({"signature": ""}, {"signature": "x"}, {"signature": THREE_PATHS}),
            *({"signature": ONE_PATH.upper()}, {"signature": ONE_PATH[:-1]}),
            *({"signature": "é"}, {"signature": ONE_PATH + "0"}),
            *({"expires": None}, {"expires": ""}, {"expires": "soon"}),
            *({"expires": "2100-01-02T00:00:00"}, {"expires": "4102444800"}),
            *({"expires": text} for text in BEYOND_THE_CALENDAR),
            {"expires": past, "signature": sign(MESSAGES, "GET", past)},
            *({"methods": None}, {"methods": "GET,POST"}, {"methods": "POST"}),
            *({"methods": ""}, {"paths": ""}, {"paths": None}, {"paths": claims}),
            *({"paths": "/v2/queues/shq"}, {"paths": f"{MESSAGES},{claims}"}),
        ]
        requests = [asking("GET", MESSAGES, headers=signed(**c)) for c in changes]
        await self.refuses(404, "404 Not Found", requests)

    async def test_other_requests(self) -> None:
        """A signature is good for its methods, paths and project only."""
        paths = [
            *("/v2/queues/shq", "/v2/queues/shq/claims", "/v2/queues", "/v2/ping"),
            *("/v2/queues/other/messages", "/v2/queues/shq/stats"),
            *("/v2/topics/shq/messages", "/v2/queues/shq2/messages"),
        ]
        requests = [asking("GET", path, headers=signed()) for path in paths]
        requests += [
            asking("POST", MESSAGES, headers=signed(), json={"messages": []}),
            asking("DELETE", f"{MESSAGES}?pop=1", headers=signed()),
            asking("GET", MESSAGES, headers=signed(), project="p2"),
        ]
        await self.refuses(404, "404 Not Found", requests)

    async def test_whole_names(self) -> None:
        """A path is granted exactly or with what is below it, and is no pattern."""
        for granted, asked, status in [
            ("/v2/queues/a.b/messages", "/v2/queues/aXb/messages", 404),
            ("/v2/queues/a.b/messages", "/v2/queues/a.b/messages", 200),
            ("queues/aXb/messages", "/v2/queues/aXb/messages", 404),
            ("/v2/queues/a", "/v2/queues/aXb/messages", 404),
            ("/v2/queues/aXb/mess", "/v2/queues/aXb/messages", 404),
            ("/v2/queues/aXb", "/v2/queues/aXb/messages", 200),
        ]:
            signature = sign(granted, "GET", FOREVER)
            answer = await self._get(asked, signature=signature, paths=granted)
            self.expect(answer, status)

    async def test_it_ends(self) -> None:
        """A signature is good until its expiry is reached."""
        found = await self.share(expires="2027-01-15T08:01:40")
        changes = {"signature": found["signature"], "expires": found["expires"]}
        self.clock.advance(99)
        self.expect(await self._get(**changes), 200)
        self.clock.advance(1)
        await self.refuses(
            404,
            "404 Not Found",
            [asking("GET", MESSAGES, headers=signed(**changes))],
        )

    async def test_client_is_still_asked(self) -> None:
        """A signature replaces neither the client nor the project."""
        await self.refuses(
            400,
            "Missing header value",
            [asking("GET", MESSAGES, headers=signed(), client=None)],
        )

    async def test_empty_signature_fails_at_once(self) -> None:
        """A signature that is there and empty is a failed one, with nothing else."""
        await self.refuses(
            404,
            "404 Not Found",
            [asking("GET", MESSAGES, headers={"URL-Signature": ""})],
        )

    async def test_other_headers_alone(self) -> None:
        """Without a signature the other headers mean nothing."""
        self.expect(await self._get(signature=None), 200)


class NoSecretTests(RestTestCase):
    """A service without a secret."""

    async def test_share(self) -> None:
        """Nothing can be shared."""
        await self.refuses(400, None, [asking("POST", SHARE, json={})])

    async def test_use(self) -> None:
        """No signature is good, not even one made with an empty secret."""
        text = rf"{MESSAGES}\nGET\np1\n{FOREVER}".encode()
        empty = hmac.new(b"", text, hashlib.sha256).hexdigest()
        none = hmac.new(b"None", text, hashlib.sha256).hexdigest()
        requests = [
            asking("GET", MESSAGES, headers=signed(signature=signature))
            for signature in (ONE_PATH, empty, none)
        ]
        await self.refuses(404, "404 Not Found", requests)
