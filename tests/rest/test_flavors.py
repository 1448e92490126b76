"""``/v2/flavors``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.rest.server import PoolingTestCase, Request, RestTestCase, asking

PATH = "/v2/flavors/f"
ADMIN = {"X-Roles": "admin"}
CAPABILITIES = ["FIFO", "CLAIMS", "DURABILITY", "AOD", "HIGH_THROUGHPUT"]


class FlavorTests(PoolingTestCase):
    """Making, reading, changing and removing a flavor."""

    async def flavors_of(self, *pools: str) -> list[str | None]:
        """The flavor that each pool shows."""
        answers = [await self.ask("GET", f"/v2/pools/{pool}") for pool in pools]
        return [self.expect(answer, 200).json["flavor"] for answer in answers]

    async def test_make_and_read(self) -> None:
        """It has the pools it was given, and everybody may read it."""
        for name in ("b", "a"):
            await self.add_pool(name)
        flavor = {"pool_list": ["b", "a"]}
        answer = self.expect(await self.ask("PUT", PATH, json=flavor), 201)
        self.assertEqual((PATH, b""), (answer.location, answer.body))
        shown = {
            "name": "f",
            "href": PATH,
            "pool_list": ["a", "b"],
            "capabilities": CAPABILITIES,
        }
        for query in ("", "?detailed=false", "?detailed=x"):
            for project in ("p1", "p2"):
                answer = await self.call("GET", PATH + query, project=project)
                self.assertEqual(shown, self.expect(answer, 200).json)
        self.assertEqual(["f", "f"], await self.flavors_of("a", "b"))

    async def test_replace(self) -> None:
        """Another PUT replaces it; pools that drop out belong to none."""
        await self.add_flavor("f", "a", "b")
        await self.add_flavor("f", "b", "c")
        self.assertEqual([None, "f", "f"], await self.flavors_of("a", "b", "c"))
        answer = await self.call("GET", PATH)
        self.assertEqual(["b", "c"], answer.json["pool_list"])

    async def test_pool_of_another(self) -> None:
        """A pool belongs to one flavor at most: the one that took it last."""
        await self.add_flavor("f", "a", "b")
        self.expect(
            await self.ask("PUT", "/v2/flavors/g", json={"pool_list": ["b"]}), 201
        )
        self.assertEqual(["a"], (await self.call("GET", PATH)).json["pool_list"])
        self.assertEqual(["f", "g"], await self.flavors_of("a", "b"))

    async def test_named_by_the_pool(self) -> None:
        """A pool that names the flavor belongs to it too."""
        await self.add_flavor("f", "a")
        await self.add_pool("b", flavor="f")
        answer = await self.call("GET", PATH)
        self.assertEqual(["a", "b"], answer.json["pool_list"])

    async def test_capabilities(self) -> None:
        """Capabilities may be given, and do not count."""
        await self.add_pool("a")
        flavor = {"pool_list": ["a"], "capabilities": {"FIFO": False}}
        self.expect(await self.ask("PUT", PATH, json=flavor), 201)
        answer = await self.call("GET", PATH)
        self.assertEqual(CAPABILITIES, answer.json["capabilities"])

    async def test_names(self) -> None:
        """A name may be any text; its path has the escapes that it needs."""
        await self.add_pool("a")
        for name in ("a b", "\u00fc", "?&="):
            path = f"/v2/flavors/{quote(name, safe='')}"
            answer = await self.ask("PUT", path, json={"pool_list": ["a"]})
            self.assertEqual(path, self.expect(answer, 201).location)
            shown = self.expect(await self.call("GET", path), 200).json
            self.assertEqual((name, path), (shown["name"], shown["href"]))

    async def test_refused(self) -> None:
        """A PUT that says something else is refused, and nothing is kept."""
        await self.add_pool("a")
        good = {"pool_list": ["a"]}
        wrong: list[Any] = [
            *({}, [], [good], {"capabilities": {}}, {"pools": ["a"]}),
            *({"pool_list": p} for p in (None, "a", 5, {}, [5], [""], [None])),
            *({**good, key: "a"} for key in ("pool", "pool_group", "name")),
            *({**good, "capabilities": c} for c in (5, "x", ["FIFO"])),
        ]
        requests = [asking("PUT", PATH, json=each, headers=ADMIN) for each in wrong]
        requests += [asking("PUT", PATH, raw=raw, headers=ADMIN) for raw in (b"", b"x")]
        long_path = f"/v2/flavors/{'n' * 256}"
        requests.append(asking("PUT", long_path, json=good, headers=ADMIN))
        await self.refuses(400, "Invalid request body", requests)
        self.assertEqual([], (await self.call("GET", "/v2/flavors")).json["flavors"])

    async def test_unknown_pool(self) -> None:
        """A flavor of a pool that does not exist is refused in known words."""
        await self.add_flavor("f", "a")
        flavor = {"pool_list": ["a", "x"]}
        answer = await self.ask("PUT", "/v2/flavors/new", json=flavor)
        self.refused(answer, 400, "Unable to create")
        self.assertEqual(
            "Flavor new could not be created, error:Pool x does not exist",
            answer.json["description"],
        )
        self.assertEqual("/v2/flavors/new", answer.location)
        answer = await self.ask("PATCH", PATH, json=flavor)
        self.refused(answer, 400, "updatefail")
        self.assertIn("Pool x does not exist", answer.json["description"])
        self.assertEqual(["f"], await self.flavors_of("a"))
        self.expect(await self.call("GET", "/v2/flavors/new"), 404)

    async def test_no_pool(self) -> None:
        """A flavor has at least one pool."""
        await self.add_flavor("f", "a")
        flavor: dict[str, Any] = {"pool_list": []}
        answer = await self.ask("PUT", PATH, json=flavor)
        self.refused(answer, 400, "Unable to create")
        self.assertEqual(PATH, answer.location)
        answer = await self.ask("PATCH", PATH, json=flavor)
        self.refused(answer, 400, "updatefail")
        self.assertEqual(["f"], await self.flavors_of("a"))

    async def test_change(self) -> None:
        """A PATCH replaces the pools, and answers with the whole."""
        await self.add_flavor("f", "a", "b")
        await self.add_pool("c")
        change = {"pool_list": ["c", "b"], "unknown": 1, "capabilities": 5}
        answer = self.expect(await self.ask("PATCH", PATH, json=change), 200)
        self.assertEqual(
            {
                "name": "f",
                "href": PATH,
                "pool_list": ["b", "c"],
                "capabilities": CAPABILITIES,
            },
            answer.json,
        )
        self.assertEqual([None, "f", "f"], await self.flavors_of("a", "b", "c"))

    async def test_change_refused(self) -> None:
        """A PATCH without a list of names changes nothing."""
        await self.add_flavor("f", "a")
        wrong: list[Any] = [{}, [], {"capabilities": {}}]
        wrong += [{"pool_list": p} for p in (None, "a", 5, [5], [""])]
        requests = [asking("PATCH", PATH, json=each, headers=ADMIN) for each in wrong]
        await self.refuses(400, "Invalid request body", requests)
        self.assertEqual(["f"], await self.flavors_of("a"))

    async def test_missing(self) -> None:
        """What is not there cannot be read or changed, and removing it is fine."""
        await self.add_pool("a")
        requests = [
            asking("GET", PATH),
            asking("PATCH", PATH, json={"pool_list": ["a"]}, headers=ADMIN),
        ]
        await self.refuses(404, "Not found", requests)
        self.expect(await self.ask("DELETE", PATH), 204)
        self.assertEqual([None], await self.flavors_of("a"))

    async def test_remove(self) -> None:
        """Its pools belong to none when it is gone."""
        await self.add_flavor("f", "a", "b")
        self.expect(await self.ask("DELETE", PATH), 204)
        self.expect(await self.call("GET", PATH), 404)
        self.assertEqual([None, None], await self.flavors_of("a", "b"))

    async def test_roles(self) -> None:
        """Only administrators change flavors; that is checked first."""
        requests = [
            asking("PUT", PATH, json={}),
            asking("PATCH", PATH, json={}),
            asking("DELETE", PATH),
            asking("DELETE", PATH, headers={"X-Roles": "member"}),
        ]
        await self.refuses(403, "Not authorized", requests)


class PagesTests(PoolingTestCase):
    """Lists of flavors."""

    async def test_pages(self) -> None:
        """They go by name, in pages that lead one to the next, for everybody."""
        for number in range(5):
            await self.add_flavor(f"f{number}", f"p{number}")
        pages = await self.walk("/v2/flavors?limit=2", "flavors")
        self.assertEqual(
            [["f0", "f1"], ["f2", "f3"], ["f4"]],
            [[flavor["name"] for flavor in page] for page in pages],
        )
        self.assertEqual(
            {"name": "f0", "href": "/v2/flavors/f0", "pool_list": ["p0"]}, pages[0][0]
        )

    async def test_details(self) -> None:
        """With details there are the capabilities, on the next page too."""
        for number in range(2):
            await self.add_flavor(f"f{number}", f"p{number}")
        path = "/v2/flavors?limit=1&detailed=true"
        for page in await self.walk(path, "flavors"):
            self.assertEqual(CAPABILITIES, page[0]["capabilities"])

    async def test_parameters(self) -> None:
        """Limits are from 1 to 20, flags are true or false."""
        for query, title in (
            ("limit=0", "Invalid API request"),
            ("limit=21", "Invalid API request"),
            ("limit=x", "Invalid parameter"),
            ("detailed=x", "Invalid parameter"),
        ):
            answer = await self.call("GET", f"/v2/flavors?{query}")
            self.refused(answer, 400, title)


class HomeTests(PoolingTestCase):
    """The home document."""

    async def test_relations(self) -> None:
        """It names the resources and their methods."""
        resources = (await self.call("GET", "/v2/")).json["resources"]
        flavors, flavor = resources["rel/flavors"], resources["rel/flavor"]
        self.assertEqual(
            "/v2/flavors{?detailed,limit,marker}", flavors["href-template"]
        )
        self.assertEqual("param/flavor_limit", flavors["href-vars"]["limit"])
        self.assertEqual("/v2/flavors/{flavor_name}", flavor["href-template"])
        self.assertEqual(["GET", "PUT", "PATCH", "DELETE"], flavor["hints"]["allow"])


class WithoutPoolingTests(RestTestCase):
    """A service without pools."""

    settings = ("admin_mode=true",)

    async def test_unknown(self) -> None:
        """There are no such paths, also for administrators."""
        requests = [
            Request(method, path, {"headers": ADMIN})
            for method, path in (
                *(("GET", "/v2/flavors"), ("GET", PATH), ("PUT", PATH)),
                *(("PATCH", PATH), ("DELETE", PATH)),
            )
        ]
        await self.refuses(404, "404 Not Found", requests)
