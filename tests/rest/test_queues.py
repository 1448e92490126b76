"""Creating, listing, reading and deleting queues."""

from __future__ import annotations

from typing import Any

from tests.rest.server import RestTestCase, asking

DEFAULTS: dict[str, Any] = {
    "_max_messages_post_size": 262144,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
}


class CreateTests(RestTestCase):
    """``PUT`` and ``GET`` of one queue."""

    async def test_create(self) -> None:
        """A new queue is a 201 with its path and no body."""
        for json in (None, {}, {"team": "a"}):
            name = f"q{len(json) if json is not None else 'none'}"
            answer = await self.call("PUT", f"/v2/queues/{name}", json=json)
            self.expect(answer, 201)
            self.assertEqual(
                (f"/v2/queues/{name}", b""), (answer.location, answer.body)
            )

    async def test_create_again(self) -> None:
        """An existing queue is a 204 with the same path."""
        await self.create("q")
        answer = self.expect(await self.call("PUT", "/v2/queues/q"), 204)
        self.assertEqual("/v2/queues/q", answer.location)

    async def test_create_again_changes_nothing(self) -> None:
        """The metadata of an existing queue stay as they were."""
        await self.create("q", team="a")
        answer = await self.call("PUT", "/v2/queues/q", json={"team": "b", "x": 1})
        self.expect(answer, 204)
        found = (await self.call("GET", "/v2/queues/q")).json
        self.assertEqual({"team": "a", **DEFAULTS}, found)

    async def test_create_again_is_checked(self) -> None:
        """Bad metadata are refused for an existing queue as well."""
        await self.create("q")
        bad = {"_default_message_ttl": 1}
        await self.refuses(
            400, "Invalid API request", [asking("PUT", "/v2/queues/q", json=bad)]
        )

    async def test_name_in_body(self) -> None:
        """A name in the body is plain metadata."""
        await self.create("q", name="other")
        found = (await self.call("GET", "/v2/queues/q")).json
        self.assertEqual("other", found["name"])
        self.assertEqual(["q"], await self.queue_names())

    async def test_read(self) -> None:
        """A queue shows its metadata and the seven reserved keys, nothing else."""
        await self.create("q", team="a", _default_message_ttl=100)
        answer = self.expect(await self.call("GET", "/v2/queues/q"), 200)
        expected = {**DEFAULTS, "team": "a", "_default_message_ttl": 100}
        self.assertEqual(expected, answer.json)

    async def test_read_missing(self) -> None:
        """A queue that does not exist reads as one without metadata."""
        answer = self.expect(await self.call("GET", "/v2/queues/q"), 200)
        self.assertEqual(DEFAULTS, answer.json)

    async def test_reading_creates_nothing(self) -> None:
        """No operation but creating, posting and subscribing makes a queue."""
        path = "/v2/queues/q"
        for method, rest in [
            *(("GET", ""), ("GET", "/stats"), ("GET", "/messages"), ("DELETE", "")),
            *(("POST", "/claims"), ("DELETE", "/messages?pop=1"), ("POST", "/purge")),
            *(("DELETE", "/messages?ids=a"), ("GET", "/subscriptions")),
        ]:
            answer = await self.call(method, path + rest)
            self.assertLess(answer.status, 300, answer)
        self.assertEqual([], await self.queue_names())

    async def test_names_differ_by_case(self) -> None:
        """Names are compared exactly."""
        for name in ("q", "Q"):
            await self.create(name, is_=name)
        for name in ("q", "Q"):
            found = (await self.call("GET", f"/v2/queues/{name}")).json
            self.assertEqual(name, found["is_"])

    async def test_not_an_object(self) -> None:
        """Metadata must be an object."""
        requests = [asking("PUT", "/v2/queues/q", json=json) for json in ([], [1], "a")]
        await self.refuses(400, None, requests)


class DeleteTests(RestTestCase):
    """``DELETE`` of a queue."""

    async def test_delete(self) -> None:
        """A queue that is deleted is gone, and may be deleted again."""
        await self.create("q", team="a")
        for _ in range(2):
            answer = self.expect(await self.call("DELETE", "/v2/queues/q"), 204)
            self.assertEqual(b"", answer.body)
        self.assertEqual([], await self.queue_names())
        self.assertEqual(DEFAULTS, (await self.call("GET", "/v2/queues/q")).json)

    async def test_messages_go(self) -> None:
        """Its messages go with it, claimed and delayed ones too."""
        await self.create("q", _default_message_delay=30)
        ids = await self.post("q", 1, delay=0)
        claim = await self.claim("q")
        ids += await self.post("q", 2)
        await self.call("DELETE", "/v2/queues/q")
        requests = [asking("GET", f"/v2/queues/q/messages/{i}") for i in ids]
        requests.append(asking("GET", f"/v2/queues/q/claims/{claim.id}"))
        requests.append(asking("GET", f"/v2/queues/q/messages?ids={','.join(ids)}"))
        await self.refuses(404, "Not found", requests)

    async def test_subscriptions_go(self) -> None:
        """Its subscriptions go with it."""
        subscription = await self.subscribe("q", "http://trigger.me")
        await self.call("DELETE", "/v2/queues/q")
        path = "/v2/queues/q/subscriptions"
        self.assertEqual([], (await self.call("GET", path)).json["subscriptions"])
        await self.refuses(404, "Not found", [asking("GET", f"{path}/{subscription}")])

    async def test_made_again(self) -> None:
        """A queue of the same name starts empty and works."""
        await self.create("q", team="a")
        await self.post("q", *range(5))
        await self.call("DELETE", "/v2/queues/q")
        await self.create("q")
        self.assertEqual(DEFAULTS, (await self.call("GET", "/v2/queues/q")).json)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))
        await self.post("q", "new")
        self.assertEqual(["new"], await self.listed("q"))
        self.assertEqual(["new"], (await self.claim("q")).bodies)

    async def test_others_stay(self) -> None:
        """Queues whose names are alike are not touched."""
        for name in ("q", "q.a", "q-a", "qq", "Q"):
            await self.post(name, name)
        await self.call("DELETE", "/v2/queues/q")
        for name in ("q.a", "q-a", "qq", "Q"):
            self.assertEqual([name], await self.listed(name))


class ListTests(RestTestCase):
    """``GET /v2/queues``."""

    async def _names(self, query: str = "") -> list[str]:
        answer = self.expect(await self.call("GET", f"/v2/queues?{query}"), 200)
        return [queue["name"] for queue in answer.json["queues"]]

    async def test_empty(self) -> None:
        """No queues are an empty list without a link."""
        answer = self.expect(await self.call("GET", "/v2/queues"), 200)
        self.assertEqual({"queues": [], "links": []}, answer.json)

    async def test_entries(self) -> None:
        """An entry is a name and a path."""
        await self.create("a.b", team="x")
        answer = await self.call("GET", "/v2/queues")
        entry = {"name": "a.b", "href": "/v2/queues/a.b"}
        self.assertEqual([entry], answer.json["queues"])

    async def test_detailed(self) -> None:
        """A detailed entry has the metadata with all reserved keys."""
        await self.create("q", team="x", _max_claim_count=3)
        answer = await self.call("GET", "/v2/queues?detailed=true")
        metadata = {**DEFAULTS, "team": "x", "_max_claim_count": 3}
        entry = {"name": "q", "href": "/v2/queues/q", "metadata": metadata}
        self.assertEqual([entry], answer.json["queues"])

    async def test_order(self) -> None:
        """Queues come by the code points of their names."""
        names = ["b", "a", "l9", "l10", "B", "_", "-", ".x", "0", "a.b", "a-b", "a_"]
        for name in names:
            await self.create(name)
        self.assertEqual(sorted(names), await self._names("limit=20"))

    async def test_page_size(self) -> None:
        """Ten queues are a page unless the caller says otherwise."""
        names = [f"q{number:02}" for number in range(13)]
        for name in names:
            await self.create(name)
        self.assertEqual(names[:10], await self._names())
        self.assertEqual(names[:3], await self._names("limit=3"))
        self.assertEqual(names, await self._names("limit=20"))

    async def test_limits(self) -> None:
        """A page has 1 to 20 queues."""
        requests = [asking("GET", f"/v2/queues?limit={n}") for n in (0, -1, 21, 10**30)]
        await self.refuses(400, "Invalid API request", requests)

    async def test_next_link(self) -> None:
        """A page leads on from its last name and repeats only what was given."""
        for name in ("a", "b", "c"):
            await self.create(name)
        answer = await self.call("GET", "/v2/queues?limit=2")
        self.assertTrue(answer.next_href.startswith("/v2/queues?"), answer)
        self.assertEqual({"limit": "2", "marker": "b"}, answer.next_query)
        answer = await self.call("GET", "/v2/queues")
        self.assertEqual({"marker": "c"}, answer.next_query)

    async def test_next_link_keeps_everything(self) -> None:
        """A link keeps details, count, name and the metadata filters."""
        await self.create("abc", team="red", level=3)
        query = "limit=1&detailed=true&with_count=true&name=b&team=red&level=3"
        asked = dict(part.split("=") for part in query.split("&"))
        found = (await self.call("GET", f"/v2/queues?{query}")).next_query
        flags = {key: found.pop(key).lower() for key in ("detailed", "with_count")}
        self.assertEqual({"detailed": "true", "with_count": "true"}, flags)
        del asked["detailed"], asked["with_count"]
        self.assertEqual({**asked, "marker": "abc"}, found)

    async def test_walk(self) -> None:
        """Following the links visits every queue once and ends."""
        names = [f"q{number:02}" for number in range(23)]
        for name in names:
            await self.create(name)
        for limit in ("", "?limit=1", "?limit=4", "?limit=20"):
            pages = await self.walk(f"/v2/queues{limit}", "queues")
            seen = [queue["name"] for page in pages for queue in page]
            self.assertEqual(names, seen, limit)

    async def test_filtered_walk(self) -> None:
        """A filter holds on every page."""
        for number in range(12):
            await self.create(f"q{number:02}", team="red" if number % 2 else "blue")
        pages = await self.walk("/v2/queues?limit=2&team=red", "queues")
        seen = [queue["name"] for page in pages for queue in page]
        self.assertEqual([f"q{number:02}" for number in range(1, 12, 2)], seen)
        self.assertEqual([2, 2, 2], [len(page) for page in pages])

    async def test_marker_need_not_exist(self) -> None:
        """A page starts behind the marker, whether it exists or not."""
        for name in ("a", "c", "e"):
            await self.create(name)
        expected = {"": "ace", "a": "ce", "b": "ce", "d": "e", "e": "", "zz": ""}
        found = {mark: await self._names(f"marker={mark}") for mark in expected}
        self.assertEqual({m: list(names) for m, names in expected.items()}, found)

    async def test_marker_that_was_deleted(self) -> None:
        """A queue that is deleted while paging is no reason to begin again."""
        for name in ("a", "b", "c"):
            await self.create(name)
        answer = await self.call("GET", "/v2/queues?limit=2")
        await self.call("DELETE", "/v2/queues/b")
        answer = await self.call("GET", answer.next_href)
        self.assertEqual(["c"], [queue["name"] for queue in answer.json["queues"]])

    async def test_strange_markers(self) -> None:
        """A marker may be any text."""
        await self.create("a")
        for marker in ("%27%3B--", "%25", "a%00", "%C3%A9", "%F0%9F%98%80"):
            self.assertIn(await self._names(f"marker={marker}"), ([], ["a"]), marker)

    async def test_count(self) -> None:
        """The count is a number of all queues, of filter and page regardless."""
        for name in ("a", "b", "c"):
            await self.create(name)
        for query in ("", "&limit=1", "&marker=b", "&name=a", "&marker=zzz"):
            answer = await self.call("GET", f"/v2/queues?with_count=true{query}")
            self.assertEqual(3, answer.json["count"], query)
            self.assertIsInstance(answer.json["count"], int)
            self.assertNotIsInstance(answer.json["count"], bool)

    async def test_count_of_none(self) -> None:
        """No queues are counted as zero."""
        answer = await self.call("GET", "/v2/queues?with_count=true")
        self.assertEqual({"queues": [], "links": [], "count": 0}, answer.json)

    async def test_no_count(self) -> None:
        """The count is shown only when it is asked for."""
        await self.create("a")
        for query in ("", "?with_count=false"):
            answer = await self.call("GET", f"/v2/queues{query}")
            self.assertEqual({"queues", "links"}, set(answer.json))


class FilterTests(RestTestCase):
    """Lists by name and by metadata."""

    async def _names(self, query: str) -> list[str]:
        answer = self.expect(await self.call("GET", f"/v2/queues?{query}"), 200)
        return [queue["name"] for queue in answer.json["queues"]]

    async def test_name(self) -> None:
        """A name keeps the queues that have it as a part."""
        for name in ("abc", "xabcx", "ab", "a.c", "ABC", "a_c"):
            await self.create(name)
        self.assertEqual(["abc", "xabcx"], await self._names("name=abc"))
        self.assertEqual(["a.c"], await self._names("name=a.c"))
        self.assertEqual(["a_c"], await self._names("name=a_c"))
        self.assertEqual([], await self._names("name=zzz"))

    async def test_name_is_no_pattern(self) -> None:
        """Signs that mean something elsewhere are plain text here."""
        await self.create("abc")
        for text in (
            "%5B",
            "%28",
            "*",
            ".*",
            "a%25",
            "%25",
            "_",
            "%5C",
            "%27",
            "a%7Cb",
        ):
            self.assertEqual([], await self._names(f"name={text}"), text)

    async def test_metadata(self) -> None:
        """Other parameters keep the queues with that very metadata."""
        await self.create("a", team="red", level=1)
        await self.create("b", team="red", level=2)
        await self.create("c", team="blue", level=1)
        await self.create("d")
        self.assertEqual(["a", "b"], await self._names("team=red"))
        self.assertEqual(["a", "c"], await self._names("level=1"))
        self.assertEqual(["a"], await self._names("team=red&level=1"))
        self.assertEqual([], await self._names("team=green"))
        self.assertEqual([], await self._names("nothing=red"))

    async def test_types(self) -> None:
        """A value that reads as an integer equals only integers."""
        await self.create("number", v=5)
        await self.create("text", v="5")
        await self.create("flag", v=True)
        await self.create("list", v=[5])
        await self.create("float", v=5.5)
        self.assertEqual(["number"], await self._names("v=5"))
        self.assertEqual([], await self._names("v=1"))
        self.assertEqual([], await self._names("v=true"))

    async def test_defaults_do_not_count(self) -> None:
        """Only what is stored is compared, not what is shown."""
        await self.create("stored", _default_message_ttl=3600)
        await self.create("default")
        self.assertEqual(["stored"], await self._names("_default_message_ttl=3600"))

    async def test_strange_keys(self) -> None:
        """A key may hold signs that mean something to a store."""
        for key in ("a.b", "$gt", 'a"b', "a'b", "$", "a[0]", "é", "a b"):
            await self.create("q", **{key: "v"})
            query = "".join(f"%{byte:02x}" for byte in key.encode())
            self.assertEqual(["q"], await self._names(f"{query}=v"), key)
            self.assertEqual([], await self._names(f"{query}=w"), key)
            await self.call("DELETE", "/v2/queues/q")

    async def test_several_values(self) -> None:
        """A key with several values is refused, or matches any of them."""
        await self.create("a", team="red")
        await self.create("b", team="blue")
        for query in ("team=red&team=blue", "team=red,blue"):
            answer = await self.call("GET", f"/v2/queues?{query}")
            if answer.status == 400:
                self.refused(answer, 400)
            else:
                names = [queue["name"] for queue in answer.json["queues"]]
                self.assertEqual(["a", "b"], names)
