"""Whatever a client sends, the answer is an answer: never a 5xx, never silence.

Hypothesis wants tests that return when they are done, so it runs in a thread with a
blocking client, while the service runs in the reactor.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from json import JSONDecodeError
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from twisted.internet.threads import deferToThread

from tests.rest.answers import BARE_TITLES, REQUEST_ID, strict_loads
from tests.rest.documents import bodies, every_odd_body
from tests.rest.server import CONSUMER, JSON_PATCH, PROJECT, RestTestCase

HEADERS = {"Client-ID": CONSUMER, "X-Project-ID": PROJECT}
PATCH_HEADERS = {"Content-Type": JSON_PATCH}

POLICY = {
    "retries_with_no_delay": 3,
    "minimum_delay_retries": 3,
    "minimum_delay": 5,
    "maximum_delay": 30,
    "maximum_delay_retries": 3,
    "retry_backoff_function": "linear",
    "ignore_subscription_override": False,
}
METADATA = {
    "_max_messages_post_size": 1000,
    "_default_message_ttl": 60,
    "_default_message_delay": 1,
    "_dead_letter_queue": "d",
    "_dead_letter_queue_messages_ttl": 60,
    "_max_claim_count": 1,
    "_enable_encrypt_messages": False,
    "_retry_policy": POLICY,
    "_flavor": None,
    "free": 1,
}
MESSAGES = {"messages": [{"ttl": 60, "delay": 1, "body": {"a": 1}}, {"body": 2}]}
CHANGES = [
    {"op": "add", "path": "/metadata/a", "value": 1},
    {"op": "remove", "path": "/metadata/a"},
]
SUBSCRIPTION = {
    "subscriber": "http://trigger.me",
    "ttl": 60,
    "options": {"_retry_policy": POLICY, "post_headers": {"a": "b"}, "post_data": "x"},
}
SHARE = {"paths": ["messages"], "methods": ["GET"], "expires": "2100-01-01T00:00:00"}

INTEGERS = ["", "0", "1", "-1", "21", "9" * 30, "x", "1.5", "\x00", "é", "１", "1_0"]  # noqa: RUF001
FLAGS = ["", "true", "false", "TRUE", "2", "\x00", "é"]
MARKERS = ["", "x", "0" * 24, "f" * 24, "g" * 24, "\x00", "é", "'", "%", "a" * 500]
PARAMETERS: dict[str, list[str]] = {
    "limit": INTEGERS,
    "pop": INTEGERS,
    "wait": ["", "0", "-1", "21", "x", "1.5", "9" * 30],
    "echo": FLAGS,
    "detailed": FLAGS,
    "with_count": FLAGS,
    "include_claimed": FLAGS,
    "include_delayed": FLAGS,
    "marker": MARKERS,
    "ids": [*MARKERS, ",", "a,b", ",".join("abcdefghijklmnopqrstuvwxyz")],
    "claim_id": MARKERS,
    "claim_ids": [*MARKERS, ","],
    "name": ["", "[", "(", "*", "%", "_", "\x00", "é", "\\"],
    "team": ["", "a", "1", "9" * 30, "1.5", "\x00", "a,b", "é"],
}

Check = Callable[[str, str, bytes | None, Mapping[str, str]], None]


class Prober:
    """A blocking client that judges every answer."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.sent = 0

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def probe(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        """Send a request; its answer must be well-formed and no failure of ours."""
        self._connection.request(method, path, body, {**HEADERS, **headers})
        response = self._connection.getresponse()
        content = response.read()
        self.sent += 1
        story = f"{method} {path} {body!r} {headers} -> {response.status} {content!r}"
        assert response.status < 500, story
        request_id = response.getheader("x-openstack-request-id") or ""
        assert REQUEST_ID.match(request_id), story
        kind = response.getheader("content-type") or ""
        if content and kind.startswith("application/json"):
            self._judge(response.status, content, story)
        elif response.status >= 400:
            assert method == "HEAD" or "Accept" in headers, story

    def _judge(self, status: int, content: bytes, story: str) -> None:
        try:
            document = strict_loads(content)
        except (JSONDecodeError, ValueError) as error:
            raise AssertionError(story) from error
        if status < 400:
            return
        assert isinstance(document.get("title"), str), story
        if document["title"] not in BARE_TITLES:
            assert document.get("description"), story


def explore(strategy: st.SearchStrategy[Any], examples: int, test: Any) -> None:
    """Run a function on examples, always the same ones."""
    bounded = bounds(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    bounded(given(strategy)(test))()


class NoFailureTests(RestTestCase):
    """Requests of every kind of badness."""

    settings = ("signed_url.secret_key=secretkey",)

    async def setUp(self) -> None:
        """Make one of everything."""
        await super().setUp()
        await self.create("q", team="a", _default_message_delay=0)
        await self.post("q", 1, 2, client=CONSUMER)
        self.claim_id = (await self.claim("q", limit=1)).id
        self.message_id = (await self.post("q", 3))[0]
        self.subscription_id = await self.subscribe("q", "http://first.example")
        self.expect(await self.call("PUT", "/v2/topics/t"), 201)

    async def probing(self, work: Callable[[Check], None]) -> None:
        """Work in a thread, then see that everything can still be read."""
        prober = Prober(self.port)
        try:
            await deferToThread(work, prober.probe)
        finally:
            prober.close()
        self.assertGreater(prober.sent, 0)
        for path in (
            *("/v2/queues?detailed=true&with_count=true", "/v2/queues/q"),
            *("/v2/topics?detailed=true", "/v2/queues/q/stats"),
            "/v2/queues/q/messages?echo=true&include_claimed=true&limit=20",
            *("/v2/queues/q/subscriptions?limit=20", "/v2/topics/t/messages"),
        ):
            self.assertIsNotNone(self.expect(await self.call("GET", path), 200).json)

    async def bad_bodies(
        self, method: str, path: str, document: Any, headers: Mapping[str, str]
    ) -> None:
        """Send every odd body, and those that hypothesis thinks of."""

        def work(probe: Check) -> None:
            for body in every_odd_body(document):
                probe(method, path, body, headers)
            explore(
                bodies(document), 60, lambda body: probe(method, path, body, headers)
            )

        await self.probing(work)

    async def test_create_queue(self) -> None:
        """Metadata of a new queue."""
        await self.bad_bodies("PUT", "/v2/queues/new", METADATA, {})

    async def test_patch_queue(self) -> None:
        """Changes of metadata."""
        await self.bad_bodies("PATCH", "/v2/queues/q", CHANGES, PATCH_HEADERS)

    async def test_topics(self) -> None:
        """Metadata and messages of a topic."""
        await self.bad_bodies("PUT", "/v2/topics/new", {"_default_message_ttl": 60}, {})
        await self.bad_bodies("POST", "/v2/topics/t/messages", MESSAGES, {})
        await self.bad_bodies("PATCH", "/v2/topics/t", CHANGES, PATCH_HEADERS)

    async def test_post(self) -> None:
        """Messages."""
        await self.bad_bodies("POST", "/v2/queues/q/messages", MESSAGES, {})

    async def test_post_to_delaying_queue(self) -> None:
        """Messages with a delay that counts."""
        await self.create("slow", _default_message_delay=5)
        await self.bad_bodies("POST", "/v2/queues/slow/messages", MESSAGES, {})

    async def test_claim(self) -> None:
        """Claims and their renewal."""
        times = {"ttl": 60, "grace": 60}
        await self.bad_bodies("POST", "/v2/queues/q/claims", times, {})
        path = f"/v2/queues/q/claims/{self.claim_id}"
        await self.bad_bodies("PATCH", path, times, {})

    async def test_purge(self) -> None:
        """Purges."""
        kinds = {"resource_types": ["messages", "subscriptions"]}
        await self.bad_bodies("POST", "/v2/queues/q/purge", kinds, {})

    async def test_share(self) -> None:
        """Requests to share."""
        await self.bad_bodies("POST", "/v2/queues/q/share", SHARE, {})

    async def test_subscribe(self) -> None:
        """Subscriptions."""
        await self.bad_bodies("POST", "/v2/queues/q/subscriptions", SUBSCRIPTION, {})

    async def test_change_subscription(self) -> None:
        """Changes and confirmations of a subscription."""
        path = f"/v2/queues/q/subscriptions/{self.subscription_id}"
        await self.bad_bodies("PATCH", path, SUBSCRIPTION, {})
        await self.bad_bodies("PUT", f"{path}/confirm", {"confirmed": True}, {})

    def _readable(self) -> Iterable[tuple[str, str]]:
        for kind in ("queues", "topics"):
            yield "GET", f"/v2/{kind}"
            name = f"/v2/{kind}/{kind[0]}"
            yield "GET", f"{name}/messages"
            yield "DELETE", f"{name}/messages"
            yield "GET", f"{name}/subscriptions"
            yield "DELETE", f"{name}/messages/{self.message_id}"
        yield "POST", "/v2/queues/q/claims"

    async def test_every_parameter(self) -> None:
        """Each parameter with each odd value, wherever there is a query."""

        def work(probe: Check) -> None:
            for method, path in self._readable():
                for name, values in PARAMETERS.items():
                    for value in values:
                        query = urlencode({name: value})
                        probe(method, f"{path}?{query}", None, {})
                probe(method, f"{path}?{'limit=1&' * 1000}", None, {})

        await self.probing(work)

    async def test_queries(self) -> None:
        """Queries of several parameters, and such that are none."""
        names = st.sampled_from([name for name in PARAMETERS if name != "wait"])
        pairs = st.lists(st.tuples(names, st.text(max_size=8)), max_size=4)
        raw = st.text("abimrst=&%;,+0129cCfF/?:@!$'()*", max_size=20)
        queries = pairs.map(urlencode) | raw

        def one(probe: Check, query: str, method: str, path: str) -> None:
            probe(method, f"{path}?{query}", None, {})

        for method, path in self._readable():
            await self._exploring(queries, 25, partial(one, method=method, path=path))

    async def test_paths(self) -> None:
        """Names and ids of any kind."""
        names = st.text(max_size=12) | st.sampled_from(["q", "", ".", "..", "a" * 65])
        parts = names.map(lambda name: quote(name, safe=""))
        rest = st.sampled_from(["", "stats", "messages", "claims", "subscriptions"])
        paths = st.tuples(st.sampled_from(["queues", "topics"]), parts, rest, parts)
        methods = st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "POST", "HEAD"])

        def one(probe: Check, case: tuple[str, tuple[str, ...]]) -> None:
            method, path = case
            probe(method, f"/v2/{'/'.join(path)}", None, {})

        await self._exploring(st.tuples(methods, paths), 150, one)

    async def test_raw_paths(self) -> None:
        """Paths of any sign and any percent-encoded byte."""
        steps = st.text("/.%0aAfFqv2~!:@;=+", max_size=16)

        def one(probe: Check, path: str) -> None:
            probe("GET", f"/{path}", None, {})

        await self._exploring(steps, 150, one)

    async def test_headers(self) -> None:
        """Request headers of any text."""
        names = [
            *("Client-ID", "X-Project-ID", "X-Tenant-ID", "Accept", "Content-Type"),
            *("URL-Signature", "URL-Expires", "URL-Methods", "URL-Paths", "X-Roles"),
            *("X-Openstack-Request-Id", "Origin", "If-Match", "Range"),
        ]
        signs = st.characters(
            min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"
        )
        values = st.text(signs, max_size=20).map(str.strip)
        some = st.dictionaries(st.sampled_from(names), values, max_size=3)

        def one(probe: Check, headers: dict[str, str]) -> None:
            probe("POST", "/v2/queues/q/claims", b"{}", headers)
            probe("GET", "/v2/queues/q/messages", None, headers)

        await self._exploring(some, 120, one)

    async def _exploring(
        self,
        strategy: st.SearchStrategy[Any],
        examples: int,
        one: Callable[[Check, Any], None],
    ) -> None:
        def work(probe: Check) -> None:
            explore(strategy, examples, lambda case: one(probe, case))

        await self.probing(work)
