"""``/v2/pools``, and the report on the health of each pool."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory

from tests.rest.server import PoolingTestCase, Request, RestTestCase, asking
from tests.rest.test_home import HEALTH_OPERATIONS

PATH = "/v2/pools/p"
ADMIN = {"X-Roles": "admin"}


class PoolTests(PoolingTestCase):
    """Making, reading, changing and removing a pool."""

    async def test_make_and_read(self) -> None:
        """What was put is given back, options only where details are asked for."""
        options = {"max_attempts": 5, "nested": {"a": [1]}}
        pool = {"uri": self.uri("p"), "weight": 100, "flavor": "f", "options": options}
        answer = self.expect(await self.ask("PUT", PATH, json=pool), 201)
        self.assertEqual((PATH, b""), (answer.location, answer.body))
        shown = {
            "name": "p",
            "href": PATH,
            "uri": self.uri("p"),
            "weight": 100,
            "flavor": "f",
        }
        for query, expected in (
            ("", shown),
            ("?detailed=false", shown),
            ("?detailed=true", {**shown, "options": options}),
        ):
            answer = self.expect(await self.ask("GET", PATH + query), 200)
            self.assertEqual(expected, answer.json)

    async def test_least(self) -> None:
        """Without a flavor it belongs to none, and its options are empty."""
        await self.add_pool("p", 0)
        shown = (await self.ask("GET", f"{PATH}?detailed=true")).json
        self.assertEqual(
            (None, 0, {}), (shown["flavor"], shown["weight"], shown["options"])
        )

    async def test_replace(self) -> None:
        """Another PUT replaces it whole."""
        await self.add_pool("p", 5, flavor="f", options={"a": 1})
        await self.add_pool("p", 6)
        shown = (await self.ask("GET", f"{PATH}?detailed=true")).json
        self.assertEqual(
            (6, None, {}), (shown["weight"], shown["flavor"], shown["options"])
        )

    async def test_bounds(self) -> None:
        """The greatest weight, and the longest flavor and name, are fine."""
        name = "n" * 255
        pool = {"uri": self.uri("p"), "weight": 2**32 - 1, "flavor": "f" * 255}
        self.expect(await self.ask("PUT", f"/v2/pools/{name}", json=pool), 201)
        shown = (await self.ask("GET", f"/v2/pools/{name}")).json
        self.assertEqual(2**32 - 1, shown["weight"])
        self.assertEqual("f" * 255, shown["flavor"])

    async def test_names(self) -> None:
        """A name may be any text; its path has the escapes that it needs."""
        for name in ("a b", "\u00fc", "?&=", "..."):
            path = f"/v2/pools/{quote(name, safe='')}"
            pool = {"uri": self.uri(name), "weight": 1}
            answer = self.expect(await self.ask("PUT", path, json=pool), 201)
            self.assertEqual(path, answer.location)
            shown = self.expect(await self.ask("GET", answer.location), 200).json
            self.assertEqual((name, path), (shown["name"], shown["href"]))

    async def test_refused(self) -> None:
        """A PUT that says something else is refused, and nothing is kept."""
        good = {"uri": self.uri("p"), "weight": 1}
        wrong: list[Any] = [
            *({"weight": 1}, {"uri": good["uri"]}, {}),
            *({**good, "weight": w} for w in (-1, 2**32, 1.5, "1", True, None, [])),
            *({**good, "uri": u} for u in ("", 5, None, [], "x" * 256)),
            *({**good, "flavor": f} for f in (None, 5, [], "f" * 256)),
            *({**good, "options": o} for o in (None, 5, [], "x")),
            *({**good, "group": "g"}, {**good, "name": "p"}, [], [good]),
        ]
        requests = [asking("PUT", PATH, json=each, headers=ADMIN) for each in wrong]
        requests += [asking("PUT", PATH, raw=raw, headers=ADMIN) for raw in (b"", b"x")]
        long_path = f"/v2/pools/{'n' * 256}"
        requests.append(asking("PUT", long_path, json=good, headers=ADMIN))
        await self.refuses(400, "Invalid request body", requests)
        self.assertEqual([], (await self.ask("GET", "/v2/pools")).json["pools"])

    async def test_store_that_does_not_work(self) -> None:
        """A URI behind which no store works is refused; its password is not shown."""
        nobody = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(lambda: None)
        )
        port = nobody.getHost().port
        await nobody.stopListening()
        await self.add_pool("p")
        for uri in (
            "sqlite:////nowhere/at/all",
            "sqlite:///relative",
            "nothing://x",
            "no uri at all",
            f"redis://:hunter2@127.0.0.1:{port}",
        ):
            pool = {"uri": uri, "weight": 1}
            answer = await self.ask("PUT", "/v2/pools/new", json=pool)
            self.refused(answer, 400, "Unable to create pool")
            self.assertNotIn(b"hunter2", answer.body)
            answer = await self.ask("PATCH", PATH, json={"uri": uri})
            self.refused(answer, 400, "Unable to update pool")
            self.assertNotIn(b"hunter2", answer.body)
        self.expect(await self.ask("GET", "/v2/pools/new"), 404)
        shown = (await self.ask("GET", PATH)).json
        self.assertEqual(self.uri("p"), shown["uri"])

    async def test_uri_of_another(self) -> None:
        """Two pools have two stores."""
        await self.add_pool("other")
        pool = {"uri": self.uri("other"), "weight": 1}
        self.refused(await self.ask("PUT", PATH, json=pool), 409, "Resource conflict")
        await self.add_pool("p")
        answer = await self.ask("PATCH", PATH, json={"uri": self.uri("other")})
        self.refused(answer, 409, "Resource conflict")

    async def test_change(self) -> None:
        """A PATCH changes what it names, and answers with the whole."""
        await self.add_pool("p", 1, flavor="f", options={"a": 1})
        expected: dict[str, Any] = {
            "name": "p",
            "href": PATH,
            "uri": self.uri("p"),
            "weight": 1,
            "flavor": "f",
        }
        for changes, shown in (
            ({"weight": 7}, {"weight": 7}),
            ({"flavor": "g", "name": 5, "unknown": 1}, {"flavor": "g"}),
            ({"flavor": ""}, {"flavor": None}),
            ({"uri": self.uri("new")}, {"uri": self.uri("new")}),
            ({"options": {"b": 2}}, {}),
        ):
            expected |= shown
            answer = self.expect(await self.ask("PATCH", PATH, json=changes), 200)
            self.assertEqual(expected, answer.json)
        answer = await self.ask("GET", f"{PATH}?detailed=true")
        self.assertEqual({**expected, "options": {"b": 2}}, answer.json)

    async def test_change_refused(self) -> None:
        """A PATCH without a change, or with a wrong type, changes nothing."""
        await self.add_pool("p", 1, flavor="f")
        before = (await self.ask("GET", f"{PATH}?detailed=true")).json
        wrong: list[Any] = [
            *({}, {"name": "x"}, [], {"weight": -1}, {"weight": "1"}, {"weight": None}),
            *({"uri": ""}, {"uri": 5}, {"uri": "x" * 256}, {"flavor": None}),
            *({"flavor": 5}, {"options": []}, {"options": None}),
            {"weight": 5, "flavor": 5},
        ]
        await self.refuses(
            400,
            "Invalid request body",
            [asking("PATCH", PATH, json=each, headers=ADMIN) for each in wrong],
        )
        after = (await self.ask("GET", f"{PATH}?detailed=true")).json
        self.assertEqual(before, after)

    async def test_missing(self) -> None:
        """What is not there cannot be read or changed, and removing it is fine."""
        missing = [
            asking("GET", PATH, headers=ADMIN),
            asking("PATCH", PATH, json={"weight": 1}, headers=ADMIN),
            asking("GET", f"/v2/pools/{'n' * 300}", headers=ADMIN),
        ]
        await self.refuses(404, "Not found", missing)
        self.expect(await self.ask("DELETE", PATH), 204)
        self.assertEqual([], (await self.ask("GET", "/v2/pools")).json["pools"])

    async def test_remove(self) -> None:
        """A pool that is removed is gone, and can be made again."""
        await self.add_pool("p")
        self.expect(await self.ask("DELETE", PATH), 204)
        self.expect(await self.ask("GET", PATH), 404)
        await self.add_pool("p")
        self.expect(await self.ask("GET", PATH), 200)

    async def test_remove_in_use(self) -> None:
        """A pool in which queues live stays until they are gone."""
        await self.add_pool("p")
        await self.post("q", "x")
        answer = await self.ask("DELETE", PATH)
        self.refused(answer, 403, "Unable to delete")
        for words in ("delete them", "weight of 0"):
            self.assertIn(words, answer.json["description"])
        self.assertEqual(["x"], await self.listed("q"))
        self.expect(await self.call("DELETE", "/v2/queues/q"), 204)
        self.expect(await self.ask("DELETE", PATH), 204)

    async def test_remove_the_last_of_a_flavor(self) -> None:
        """A flavor keeps its last pool."""
        await self.add_flavor("f", "p", "other")
        self.expect(await self.ask("DELETE", "/v2/pools/other"), 204)
        self.refused(await self.ask("DELETE", PATH), 403, "Unable to delete")
        self.expect(await self.ask("DELETE", "/v2/flavors/f"), 204)
        self.expect(await self.ask("DELETE", PATH), 204)

    async def test_methods(self) -> None:
        """Other methods do not exist."""
        requests = [
            asking("POST", "/v2/pools", headers=ADMIN),
            asking("POST", PATH, headers=ADMIN),
        ]
        await self.refuses(405, "405 Method Not Allowed", requests)


class PagesTests(PoolingTestCase):
    """Lists of pools."""

    async def test_pages(self) -> None:
        """They go by name, in pages that lead one to the next."""
        names = ["B", "a", "a.b", "b", "\u00fc"]
        for name in reversed(names):
            pool = {"uri": self.uri(name), "weight": 1, "options": {"x": name}}
            path = f"/v2/pools/{quote(name)}"
            self.expect(await self.ask("PUT", path, json=pool), 201)
        path, pages = "/v2/pools?limit=2&detailed=true", []
        while page := (answer := await self.ask("GET", path)).json["pools"]:
            self.assertEqual(path, answer.header("content-location"))
            self.assertEqual(
                {"name", "href", "uri", "weight", "flavor", "options"}, set(page[0])
            )
            pages.append([pool["name"] for pool in page])
            self.assertEqual("true", answer.next_query["detailed"])
            path = answer.next_href
        self.assertEqual([names[:2], names[2:4], names[4:]], pages)
        self.assertEqual([], answer.json["links"])

    async def test_plain(self) -> None:
        """Without details there are no options; ten are a page."""
        for number in range(11):
            await self.add_pool(f"p{number:02}")
        answer = self.expect(await self.ask("GET", "/v2/pools"), 200)
        self.assertEqual({"links", "pools"}, set(answer.json))
        pools = answer.json["pools"]
        self.assertEqual([f"p{number:02}" for number in range(10)], names_of(pools))
        self.assertEqual({"name", "href", "uri", "weight", "flavor"}, set(pools[0]))
        self.assertEqual({"marker": "p09"}, answer.next_query)

    async def test_marker_of_none(self) -> None:
        """A marker need not be the name of a pool."""
        for name in ("a", "c"):
            await self.add_pool(name)
        answer = await self.ask("GET", "/v2/pools?marker=b")
        self.assertEqual(["c"], names_of(answer.json["pools"]))

    async def test_parameters(self) -> None:
        """Limits are from 1 to 20, flags are true or false."""
        for query, title in (
            ("limit=0", "Invalid API request"),
            ("limit=21", "Invalid API request"),
            ("limit=x", "Invalid parameter"),
            ("detailed=x", "Invalid parameter"),
        ):
            answer = await self.ask("GET", f"/v2/pools?{query}")
            self.refused(answer, 400, title)


def names_of(items: list[dict[str, Any]]) -> list[str]:
    """The names of what a list shows."""
    return [item["name"] for item in items]


EVERYTHING = [
    asking("GET", "/v2/pools"),
    asking("GET", PATH),
    asking("PUT", PATH, json={}),
    asking("PATCH", PATH, json={}),
    asking("DELETE", PATH),
]


class RoleTests(PoolingTestCase):
    """Who may."""

    async def test_others(self) -> None:
        """Whoever is no administrator may not even look; that is checked first."""
        requests = [
            Request(each.method, each.path, {**each.options, "headers": headers})
            for each in EVERYTHING
            for headers in ({}, {"X-Roles": "member"}, {"X-Roles": "administrator"})
        ]
        await self.refuses(403, "Not authorized", requests)

    async def test_home(self) -> None:
        """The home document names the resources and their methods."""
        resources = (await self.call("GET", "/v2/")).json["resources"]
        pools, pool = resources["rel/pools"], resources["rel/pool"]
        self.assertEqual("/v2/pools{?detailed,limit,marker}", pools["href-template"])
        self.assertEqual(
            {
                "detailed": "param/detailed",
                "limit": "param/pool_limit",
                "marker": "param/marker",
            },
            pools["href-vars"],
        )
        self.assertEqual(["GET"], pools["hints"]["allow"])
        self.assertEqual("/v2/pools/{pool_name}", pool["href-template"])
        self.assertEqual(["GET", "PUT", "PATCH", "DELETE"], pool["hints"]["allow"])


class WithoutPoolingTests(RestTestCase):
    """The administration of a service without pools."""

    settings = ("admin_mode=true",)

    async def test_unknown(self) -> None:
        """There are no such paths, also for administrators."""
        requests = [
            Request(each.method, each.path, {**each.options, "headers": ADMIN})
            for each in EVERYTHING
        ]
        await self.refuses(404, "404 Not Found", requests)

    async def test_home(self) -> None:
        """The home document does not name them."""
        resources = (await self.call("GET", "/v2/")).json["resources"]
        self.assertIn("rel/health", resources)
        self.assertEqual(
            set(), {"rel/pools", "rel/pool", "rel/flavors", "rel/flavor"} & {*resources}
        )


class WithoutAdminModeTests(RestTestCase):
    """A service with pools that is not for administrators."""

    settings = ("pooling=true",)

    async def test_unknown(self) -> None:
        """There are no such paths, and the service works."""
        requests = [
            Request(each.method, each.path, {**each.options, "headers": ADMIN})
            for each in [*EVERYTHING, asking("GET", "/v2/health")]
        ]
        await self.refuses(404, "404 Not Found", requests)
        await self.post("q", "x")
        self.assertEqual(["x"], await self.listed("q"))


class HealthTests(PoolingTestCase):
    """``/v2/health`` of a service with pools."""

    async def health(self) -> dict[str, Any]:
        """The report."""
        answer = self.expect(await self.ask("GET", "/v2/health"), 200)
        document: dict[str, Any] = answer.json
        return document

    async def test_pools(self) -> None:
        """Each pool is tried out for real, those without a weight too."""
        await self.add_pool("a")
        await self.add_pool("b", 0, flavor="f")
        health = await self.health()
        self.assertEqual({"catalog_reachable", "default", "a", "b"}, set(health))
        self.assertIs(True, health.pop("catalog_reachable"))
        for name, pool in health.items():
            self.assertEqual({"storage_reachable", "operation_status"}, set(pool), name)
            self.assertIs(True, pool["storage_reachable"], name)
            self.assertEqual(HEALTH_OPERATIONS, set(pool["operation_status"]), name)
            for operation in pool["operation_status"].values():
                self.assertIs(True, operation["succeeded"], name)

    async def test_leaves_nothing(self) -> None:
        """The pools can be removed afterwards."""
        await self.add_pool("a")
        await self.health()
        self.expect(await self.ask("DELETE", "/v2/pools/a"), 204)
        self.assertEqual([], await self.queue_names("mqsvc-health"))

    async def test_pool_of_that_name(self) -> None:
        """A pool that is called default takes the place of the default one."""
        await self.add_pool("default")
        self.assertEqual({"catalog_reachable", "default"}, set(await self.health()))
