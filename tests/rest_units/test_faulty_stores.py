"""The HTTP API over stores that fail: one form of answer, and nothing of the inside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from mqsvc.access.signed_urls import SignedUrls
from mqsvc.clock import milliseconds
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import NAMEABLE
from mqsvc.rest.claims import ClaimResource
from mqsvc.rest.home import HomeResource
from mqsvc.rest.messages import MessageResource
from mqsvc.rest.node import NodeResource
from mqsvc.rest.queues import QueueResource
from mqsvc.rest.route import Route
from mqsvc.rest.shapes import Shapes
from mqsvc.rest.subscriptions import SubscriptionResource
from mqsvc.storage.ids import format_id
from tests.rest.answers import REQUEST_ID, Answer, flaw
from tests.rest_units.connection import InMemoryTestCase
from tests.storage.faulty import FaultyStore

ID = format_id(1, 2)
SECRET = "the words of an inner failure"


@frozen
class Variant:
    """What makes a request of a route one that needs its store."""

    query: str = ""
    json: Any = None
    content_type: str = "application/json"


PATCH = Variant(
    json=[{"op": "add", "path": "/metadata/a", "value": 1}],
    content_type="application/openstack-messaging-v2.0-json-patch",
)

VARIANTS: dict[tuple[str, str], list[Variant]] = {
    ("PATCH", "<destination>"): [PATCH],
    ("POST", "messages"): [Variant(json={"messages": [{"body": 1}]})],
    ("GET", "messages"): [Variant(), Variant(f"?ids={ID}"), Variant("?wait=20")],
    ("DELETE", "messages"): [Variant(f"?ids={ID}"), Variant("?pop=1")],
    ("POST", "claims"): [Variant(), Variant("?wait=20")],
    ("PATCH", "<claim_id>"): [Variant(json={})],
    ("POST", "subscriptions"): [Variant(json={"subscriber": "http://x"})],
    ("PATCH", "<subscription_id>"): [Variant(json={"ttl": 60})],
    ("PUT", "confirm"): [Variant(json={"confirmed": True})],
    ("GET", "queues"): [Variant(), Variant("?with_count=true")],
}
"""By method and last part of the path; all others need nothing special."""

NEED_NO_STORE = {
    ("GET", "/"),
    ("GET", "/v2/"),
    ("HEAD", "/v2/ping"),
    ("POST", "/v2/queues/<destination>/share"),
}

PROBE = {("GET", "/v2/ping"), ("GET", "/v2/health")}
"""What answers in a form of its own when a store fails."""


class FaultyTestCase(InMemoryTestCase):
    """The API over stores that fail."""

    def routes(self) -> list[Route]:
        """All routes of the API."""
        limits, now, signed = Limits(), milliseconds(self.clock), SignedUrls("s")
        shapes, operations = Shapes(now, False), self.operations
        routes = [
            *HomeResource(True, False).routes(),
            *NodeResource(operations.health, True).routes(),
            *ClaimResource(operations.claims, shapes).routes(),
        ]
        for kind in NAMEABLE:
            queues = QueueResource(operations.queues, signed, shapes, now, kind)
            subscriptions = SubscriptionResource(operations.subscriptions, None, shapes)
            routes += queues.routes()
            routes += MessageResource(operations.messages, shapes, limits).routes(kind)
            routes += subscriptions.routes(kind)
        return routes

    def endpoints(self) -> set[tuple[str, str]]:
        """All methods with the paths that they have."""
        return {
            (method, route.path) for route in self.routes() for method in route.entries
        }

    def answers(self) -> Iterator[Answer]:
        """The answer of each endpoint that cannot do without its store."""
        for method, path in sorted(self.endpoints() - NEED_NO_STORE - PROBE):
            kind = (method, path.rpartition("/")[2])
            for variant in VARIANTS.get(kind, [Variant()]):
                filled = re.sub("<[a-z_]+>", ID, path.replace("<destination>", "q"))
                yield self.call(
                    method,
                    filled + variant.query,
                    variant.json,
                    {"Content-Type": variant.content_type},
                )

    def leaves_nothing(self) -> None:
        """Fail when a request is still counted, or anything is still waited for."""
        self.assertEqual(0, self.site.requests_in_flight)
        self.assertEqual({}, self.operations.waiting._lines)
        self.assertEqual(set(), self.operations.waiting._signals)


class UnavailableTests(FaultyTestCase):
    """The stores do not answer."""

    def setUp(self) -> None:
        """Serve over them."""
        self.serve(FaultyStore(), FaultyStore())

    def test_table(self) -> None:
        """The special requests are for endpoints that there are."""
        endpoints = self.endpoints()
        self.assertLessEqual(NEED_NO_STORE | PROBE, endpoints)
        kinds = {(method, path.rpartition("/")[2]) for method, path in endpoints}
        self.assertLessEqual(set(VARIANTS), kinds)

    def test_every_endpoint(self) -> None:
        """Each endpoint says that the service is not available, and for how long."""
        flaws = [
            flaw(answer, 503, "Service temporarily unavailable")
            for answer in self.answers()
        ]
        self.assertTrue(flaws)
        self.assertEqual("", "\n".join(filter(None, flaws)))
        self.leaves_nothing()

    def test_words(self) -> None:
        """The description advises to try again."""
        for answer in self.answers():
            description = answer.json["description"]
            self.assertTrue(description.endswith("try again in a few seconds."), answer)

    def test_ping(self) -> None:
        """A ping that cannot be answered has a status and nothing else."""
        answer = self.call("GET", "/v2/ping")
        self.assertEqual((503, b""), (answer.status, answer.body))
        self.assertRegex(answer.header("x-openstack-request-id"), REQUEST_ID)

    def test_alive(self) -> None:
        """The process says that it lives, whatever the stores do."""
        self.assertEqual(204, self.call("HEAD", "/v2/ping").status)

    def test_without_store(self) -> None:
        """What needs no store goes on."""
        for method, path, json, status in (
            ("GET", "/", None, 300),
            ("GET", "/v2/", None, 200),
            ("POST", "/v2/queues/q/share", {}, 200),
            ("OPTIONS", "/v2/queues/q", None, 200),
            ("GET", "/v2/nowhere", None, 404),
            ("GET", "/v2/queues/q/claims", None, 405),
            ("PUT", "/v2/queues/q", [], 400),
        ):
            answer = self.call(method, path, json)
            self.assertEqual(status, answer.status, answer)

    def test_health(self) -> None:
        """The report is given, and says that nothing works."""
        answer = self.call("GET", "/v2/health")
        self.assertEqual(200, answer.status, answer)
        self.assertIs(False, answer.json["storage_reachable"])
        steps = answer.json["operation_status"].values()
        self.assertEqual([False] * 8, [step["succeeded"] for step in steps])
        self.assertEqual(8, len(self.flushLoggedErrors(StoreUnavailable)))


class BugTests(FaultyTestCase):
    """Something fails that never should."""

    def setUp(self) -> None:
        """Serve over stores with a bug."""
        store = FaultyStore(lambda: RuntimeError(SECRET))
        self.serve(store, store)

    def test_every_endpoint(self) -> None:
        """Each endpoint says that the fault is here, and nothing of what it is."""
        flaws = []
        for answer in self.answers():
            flaws.append(flaw(answer, 500, "Internal server error"))
            self.assertNotIn(SECRET, str(answer.body) + str(answer.headers))
            self.assertNotIn(b"RuntimeError", answer.body)
        self.assertEqual("", "\n".join(filter(None, flaws)))
        self.assertEqual(len(flaws), len(self.flushLoggedErrors(RuntimeError)))
        self.leaves_nothing()

    def test_words(self) -> None:
        """All bodies are alike but for the id under which the log has the story."""
        texts = set()
        for answer in self.answers():
            request_id = answer.header("x-openstack-request-id")
            self.assertIn(request_id, answer.json["description"])
            texts.add(answer.body.replace(request_id.encode(), b"ID"))
        self.assertEqual(1, len(texts))
        self.flushLoggedErrors(RuntimeError)

    def test_probes(self) -> None:
        """Not even the probes hide a bug, and they do not show it either."""
        for _, path in PROBE:
            answer = self.call("GET", path)
            self.assertEqual("", flaw(answer, 500, "Internal server error"))
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))

    def test_goes_on(self) -> None:
        """The next request on the same server is served."""
        self.call("GET", "/v2/queues")
        self.assertEqual(300, self.call("GET", "/").status)
        self.flushLoggedErrors(RuntimeError)
