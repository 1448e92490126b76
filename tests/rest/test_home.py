"""The documents that say what is here, ping and health."""

from __future__ import annotations

from typing import Any

from tests.rest.server import RestTestCase, asking

QUEUE = "/v2/queues/{queue_name}"
MESSAGE = f"{QUEUE}/messages/{{message_id}}"
CLAIM = f"{QUEUE}/claims/{{claim_id}}"
SUBSCRIPTION = f"{QUEUE}/subscriptions/{{subscriptions_id}}"

# relation: (path, variables of the query, methods)
RELATIONS: dict[str, tuple[str, str, str]] = {
    "rel/queues": ("/v2/queues", "marker,limit,detailed", "GET"),
    "rel/queue": (QUEUE, "", "GET PUT DELETE PATCH"),
    "rel/queue_stats": (f"{QUEUE}/stats", "", "GET"),
    "rel/queue_share": (f"{QUEUE}/share", "", "POST"),
    "rel/queue_purge": (f"{QUEUE}/purge", "", "POST"),
    "rel/messages": (
        f"{QUEUE}/messages",
        "marker,limit,echo,include_claimed",
        "GET",
    ),
    "rel/post_messages": (f"{QUEUE}/messages", "", "POST"),
    "rel/messages_delete": (f"{QUEUE}/messages", "ids,pop", "DELETE"),
    "rel/message_delete": (MESSAGE, "claim_id", "DELETE"),
    "rel/message_get": (MESSAGE, "", "GET"),
    "rel/claim": (CLAIM, "", "GET"),
    "rel/post_claim": (f"{QUEUE}/claims", "limit", "POST"),
    "rel/patch_claim": (CLAIM, "", "PATCH"),
    "rel/delete_claim": (CLAIM, "", "DELETE"),
    "rel/subscriptions_get": (f"{QUEUE}/subscriptions", "marker,limit", "GET"),
    "rel/subscriptions_post": (f"{QUEUE}/subscriptions", "", "POST"),
    "rel/subscription": (SUBSCRIPTION, "", "GET DELETE"),
    "rel/subscription_patch": (SUBSCRIPTION, "", "PATCH"),
    "rel/ping": ("/v2/ping", "", "GET"),
}

LIMITS = {
    "rel/queues": "param/queue_limit",
    "rel/messages": "param/messages_limit",
    "rel/post_claim": "param/claim_limit",
    "rel/subscriptions_get": "param/subscription_limit",
    "rel/subscriptions_post": "param/subscription_limit",
}

HEALTH_OPERATIONS = {
    "create_queue",
    "post_messages",
    "claim_messages",
    "list_messages",
    "delete_messages",
    "delete_claim",
    "bulk_delete_messages",
    "delete_queue",
}


class VersionTests(RestTestCase):
    """``GET /``."""

    async def test_versions(self) -> None:
        """The root names the one version and where it lives."""
        answer = self.expect(await self.call("GET", "/"), 300)
        self.assertEqual("application/json", answer.header("content-type"))
        version = {
            "id": "2",
            "status": "CURRENT",
            "updated": "2014-9-24T04:06:47Z",
            "media-types": [
                {
                    "base": "application/json",
                    "type": "application/vnd.openstack.messaging-v2+json",
                }
            ],
            "links": [{"href": "/v2/", "rel": "self"}],
        }
        self.assertEqual({"versions": [version]}, answer.json)

    async def test_needs_no_headers(self) -> None:
        """The root is shown to a caller that names neither itself nor a project."""
        answer = await self.call("GET", "/", project=None, client=None)
        self.expect(answer, 300)

    async def test_not_acceptable(self) -> None:
        """The root too refuses a client that wants no JSON."""
        answer = await self.call("GET", "/", headers={"Accept": "image/png"})
        self.expect(answer, 406)

    async def test_other_methods(self) -> None:
        """The root can only be read."""
        answer = await self.call("POST", "/", json={})
        self.refused(answer, 405, "405 Method Not Allowed")
        self.assertIn("GET", answer.header("allow") or "")


class HomeDocumentTests(RestTestCase):
    """``GET /v2/``."""

    async def _resources(self) -> dict[str, Any]:
        return self.expect(await self.call("GET", "/v2/"), 200).json["resources"]

    async def test_headers(self) -> None:
        """The home document is JSON home and may be cached for a day."""
        answer = await self.call("GET", "/v2/")
        self.assertEqual("application/json-home", answer.header("content-type"))
        self.assertEqual("max-age=86400", answer.header("cache-control"))

    async def test_templates(self) -> None:
        """Each relation has the path and at least the parameters of the contract."""
        resources = await self._resources()
        for name, (path, variables, _) in RELATIONS.items():
            template = resources[name]["href-template"]
            given, _, query = template.partition("{?")
            self.assertEqual(path, given, name)
            wanted = set(filter(None, variables.split(",")))
            self.assertEqual(set(), wanted - set(query.rstrip("}").split(",")), name)

    async def test_variables(self) -> None:
        """Every variable of a template leads to a parameter, limits to their own."""
        resources = await self._resources()
        for name, (path, variables, _) in RELATIONS.items():
            used = [part.partition("}")[0] for part in path.split("{")[1:]]
            used += filter(None, variables.split(","))
            wanted = {variable: f"param/{variable}" for variable in used}
            if name in LIMITS:
                wanted["limit"] = LIMITS[name]
            given = resources[name].get("href-vars", {})
            self.assertEqual(wanted, {k: given.get(k) for k in wanted}, name)

    async def test_hints(self) -> None:
        """Each relation tells its methods and formats."""
        resources = await self._resources()
        for name, (_, _, methods) in RELATIONS.items():
            hints = resources[name]["hints"]
            self.assertEqual(set(methods.split()), set(hints["allow"]), name)
            self.assertEqual({"application/json": {}}, hints["formats"], name)
            if methods in {"POST", "PATCH"}:
                self.assertEqual(["application/json"], hints["accept-post"], name)

    async def test_no_admin_relations(self) -> None:
        """Without the admin mode its relations are not shown."""
        hidden = {"rel/pools", "rel/pool", "rel/flavors", "rel/flavor", "rel/health"}
        self.assertEqual(set(), hidden & set(await self._resources()))

    async def test_needs_slash(self) -> None:
        """The path without the slash is unknown."""
        await self.refuses(404, "404 Not Found", [asking("GET", "/v2")])


class PingTests(RestTestCase):
    """``/v2/ping``."""

    async def test_ping(self) -> None:
        """A service that works answers with nothing to say."""
        for method in ("GET", "HEAD"):
            answer = self.expect(await self.call(method, "/v2/ping"), 204)
            self.assertEqual(b"", answer.body)

    async def test_needs_headers(self) -> None:
        """Ping asks for a client and a project like everything else."""
        for method in ("GET", "HEAD"):
            answer = await self.call(method, "/v2/ping", client=None)
            self.expect(answer, 400)
        answer = await self.call("GET", "/v2/ping", project=None)
        self.refused(answer, 400, "Project-Id Missing")


class NoHealthTests(RestTestCase):
    """The admin endpoints without the admin mode."""

    async def test_unknown(self) -> None:
        """They do not exist, not even for an admin."""
        paths = ["/v2/health", "/v2/pools", "/v2/pools/p", "/v2/flavors"]
        requests = [asking("GET", path, headers={"X-Roles": "admin"}) for path in paths]
        await self.refuses(404, "404 Not Found", requests)


class WithoutPoolingHealthTests(RestTestCase):
    """``/v2/health`` in the admin mode."""

    settings = ("admin_mode=true",)

    async def test_health(self) -> None:
        """An admin sees each operation tried out for real."""
        answer = await self.call("GET", "/v2/health", headers={"X-Roles": "admin"})
        health = self.expect(answer, 200).json
        self.assertIs(True, health["storage_reachable"])
        self.assertEqual(HEALTH_OPERATIONS, set(health["operation_status"]))
        for name, operation in health["operation_status"].items():
            self.assertEqual({"succeeded", "seconds", "ref"}, set(operation), name)
            self.assertIs(True, operation["succeeded"], name)
            self.assertIsInstance(operation["seconds"], int | float, name)
            self.assertIsNone(operation["ref"], name)

    async def test_role_among_others(self) -> None:
        """The admin role counts wherever it stands in the list."""
        headers = {"X-Roles": "member,admin"}
        self.expect(await self.call("GET", "/v2/health", headers=headers), 200)

    async def test_leaves_nothing(self) -> None:
        """The exercise leaves no queue behind."""
        await self.call("GET", "/v2/health", headers={"X-Roles": "admin"})
        self.assertEqual([], await self.queue_names())

    async def test_others(self) -> None:
        """Whoever is not an admin may not look."""
        roles = [None, "", "member", "administrator"]
        requests = [asking("GET", "/v2/health", headers={"X-Roles": r}) for r in roles]
        await self.refuses(403, "Not authorized", requests)

    async def test_relation(self) -> None:
        """The home document names it."""
        resources = (await self.call("GET", "/v2/")).json["resources"]
        self.assertEqual("/v2/health", resources["rel/health"]["href"])
