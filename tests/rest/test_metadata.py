"""Reserved metadata, at creation and by JSON patch."""

from __future__ import annotations

from typing import Any

from tests.rest.server import JSON_PATCH, RestTestCase, asking
from tests.rest.test_queues import DEFAULTS

PATH = "/v2/queues/q"

GOOD: list[tuple[str, Any]] = [
    *(("_max_messages_post_size", value) for value in (1, 262144, None)),
    *(("_default_message_ttl", value) for value in (60, 1209600, None)),
    *(("_default_message_delay", value) for value in (0, 900, None)),
    *(("_dead_letter_queue", value) for value in ("dead", "a.b-c_d", None)),
    *(("_dead_letter_queue_messages_ttl", value) for value in (60, 1209600, None)),
    *(("_max_claim_count", value) for value in (1, 10, 1000, None)),
    *(("_enable_encrypt_messages", value) for value in (False, None)),
    *(("_retry_policy", value) for value in ({}, None)),
    ("_other", {"free": ["form"]}),
]

BAD: list[tuple[str, Any]] = [
    *(("_max_messages_post_size", v) for v in (0, -1, 262145, "5", "", 1.5, [], {})),
    *(("_default_message_ttl", v) for v in (59, -60, 1209601, "300", "", 300.5, [])),
    *(("_default_message_delay", v) for v in (-1, 901, "5", "", 0.5, [1], {})),
    *(("_dead_letter_queue", v) for v in (5, True, ["dead"], "a b", "a/b", "n" * 65)),
    *(("_dead_letter_queue_messages_ttl", v) for v in (59, 1209601, "60", "", -1)),
    *(("_max_claim_count", v) for v in (0, -1, "3", "", 1.5, [3], {})),
    *(("_enable_encrypt_messages", v) for v in ("true", 1, "", [], {})),
    *(("_retry_policy", v) for v in (5, "x", [], [1], True)),
]

GOOD_POLICIES: list[dict[str, Any]] = [
    {"retries_with_no_delay": 0},
    {"minimum_delay_retries": 0, "maximum_delay_retries": 0},
    {"minimum_delay": 20},
    {"minimum_delay": 1, "maximum_delay": 11},
    {"maximum_delay": 15},
    {"ignore_subscription_override": True},
    {"unknown": ["key"]},
    *(
        {"retry_backoff_function": name}
        for name in ("linear", "arithmetic", "geometric", "exponential")
    ),
]

BAD_POLICIES: list[dict[str, Any]] = [
    {"retries_with_no_delay": "3"},
    {"retries_with_no_delay": -1},
    {"retries_with_no_delay": 1.5},
    {"minimum_delay_retries": [1]},
    {"maximum_delay_retries": -5},
    {"minimum_delay": 0},
    {"minimum_delay": -1},
    {"minimum_delay": "5"},
    {"maximum_delay": -30},
    {"minimum_delay": 31},
    {"minimum_delay": 21},
    {"maximum_delay": 14},
    {"maximum_delay": 4},
    {"minimum_delay": 10, "maximum_delay": 19},
    {"minimum_delay": 40, "maximum_delay": 10},
    {"retry_backoff_function": "quadratic"},
    {"retry_backoff_function": 1},
    {"ignore_subscription_override": "yes"},
    {"ignore_subscription_override": 2},
]


class ReservedTests(RestTestCase):
    """Reserved keys when a queue is created."""

    async def test_good(self) -> None:
        """Each key takes its bounds and null."""
        for number, (key, value) in enumerate(GOOD):
            answer = await self.call("PUT", f"{PATH}{number}", json={key: value})
            self.expect(answer, 201)
            found = (await self.call("GET", f"{PATH}{number}")).json
            self.assertEqual(
                value or DEFAULTS.get(key, value), found[key], (key, value)
            )

    async def test_flavor_of_none(self) -> None:
        """A flavor may be null: none."""
        answer = await self.call("PUT", PATH, json={"_flavor": None})
        self.expect(answer, 201)

    async def test_bad(self) -> None:
        """Each key refuses what is outside of its bounds or of another type."""
        requests = [asking("PUT", PATH, json={key: value}) for key, value in BAD]
        await self.refuses(400, "Invalid API request", requests)
        self.assertEqual([], await self.queue_names())

    async def test_false_values(self) -> None:
        """What is stored as nothing is shown as the default."""
        await self.create("q", _default_message_ttl=None, _max_claim_count=None, a=None)
        found = (await self.call("GET", PATH)).json
        self.assertEqual({**DEFAULTS, "a": None}, found)

    async def test_good_policies(self) -> None:
        """A retry policy takes these fields and any other."""
        for number, policy in enumerate(GOOD_POLICIES):
            path = f"{PATH}{number}"
            answer = await self.call("PUT", path, json={"_retry_policy": policy})
            self.expect(answer, 201)
            found = (await self.call("GET", path)).json["_retry_policy"]
            self.assertEqual(policy, found)

    async def test_bad_policies(self) -> None:
        """A retry policy refuses wrong types, bounds and too small a span."""
        requests = [
            asking("PUT", PATH, json={"_retry_policy": policy})
            for policy in BAD_POLICIES
        ]
        await self.refuses(400, "Invalid API request", requests)

    async def test_bad_policies_by_patch(self) -> None:
        """A patch refuses the same retry policies."""
        await self.create("q")
        for policy in BAD_POLICIES:
            change = {"op": "add", "path": "/metadata/_retry_policy", "value": policy}
            self.refused(await self.patch("q", change), 400, "Invalid request body")

    async def test_dead_letters_to_itself(self) -> None:
        """A queue cannot be its own dead-letter queue."""
        json = {"_dead_letter_queue": "q", "_max_claim_count": 1}
        await self.refuses(400, "Invalid API request", [asking("PUT", PATH, json=json)])

    async def test_default_ttl_is_used(self) -> None:
        """A message without a ttl gets that of its queue."""
        await self.create("q", _default_message_ttl=77)
        (message_id,) = await self.post("q", 1)
        message = (await self.call("GET", f"{PATH}/messages/{message_id}")).json
        self.assertEqual(77, message["ttl"])

    async def test_post_size_is_used(self) -> None:
        """The largest post of a queue is counted in bytes, inclusive."""
        body = b'{"messages": [{"body": "x"}]}'
        await self.create("exact", _max_messages_post_size=len(body))
        await self.create("small", _max_messages_post_size=len(body) - 1)
        answer = await self.call("POST", "/v2/queues/exact/messages", raw=body)
        self.expect(answer, 201)
        await self.refuses(
            400,
            "Invalid API request",
            [asking("POST", "/v2/queues/small/messages", raw=body)],
        )


class PatchTests(RestTestCase):
    """``PATCH`` of a queue."""

    async def test_add(self) -> None:
        """Adding sets a key, also one that exists, and answers with everything."""
        await self.create("q", team="a")
        answer = await self.patch(
            "q",
            {"op": "add", "path": "/metadata/team", "value": "b"},
            {"op": "add", "path": "/metadata/new", "value": {"x": [1]}},
            {"op": "add", "path": "/metadata/_max_claim_count", "value": 3},
        )
        expected = {**DEFAULTS, "team": "b", "new": {"x": [1]}, "_max_claim_count": 3}
        self.assertEqual(expected, self.expect(answer, 200).json)
        self.assertEqual(expected, (await self.call("GET", PATH)).json)

    async def test_replace(self) -> None:
        """Replacing changes a key that exists or is reserved."""
        await self.create("q", team="a")
        answer = await self.patch(
            "q",
            {"op": "replace", "path": "/metadata/team", "value": "b"},
            {"op": "replace", "path": "/metadata/_default_message_ttl", "value": 60},
        )
        expected = {**DEFAULTS, "team": "b", "_default_message_ttl": 60}
        self.assertEqual(expected, self.expect(answer, 200).json)

    async def test_remove(self) -> None:
        """Removing takes a key away; a reserved one goes back to its default."""
        await self.create("q", team="a", _default_message_ttl=60)
        answer = await self.patch(
            "q",
            {"op": "remove", "path": "/metadata/team"},
            {"op": "remove", "path": "/metadata/_default_message_ttl"},
            {"op": "remove", "path": "/metadata/_max_claim_count"},
        )
        self.assertEqual(DEFAULTS, self.expect(answer, 200).json)

    async def test_every_reserved_key(self) -> None:
        """All keys that a queue shows may be replaced and removed."""
        values = {
            "_max_messages_post_size": 5,
            "_default_message_ttl": 60,
            "_default_message_delay": 1,
            "_dead_letter_queue": "dead",
            "_dead_letter_queue_messages_ttl": 60,
            "_max_claim_count": 1,
            "_enable_encrypt_messages": False,
        }
        await self.create("q")
        for key, value in values.items():
            path = f"/metadata/{key}"
            answer = await self.patch("q", {"op": "remove", "path": path})
            self.expect(answer, 200)
            change = {"op": "replace", "path": path, "value": value}
            self.expect(await self.patch("q", change), 200)

    async def test_conflicts(self) -> None:
        """Replacing or removing what is not there is a conflict."""
        await self.create("q", team="a")
        for key in ("none", "_flavor", "_retry_policy"):
            for op in ("replace", "remove"):
                change = {"op": op, "path": f"/metadata/{key}", "value": {}}
                self.refused(await self.patch("q", change), 409, "Resource conflict")

    async def test_in_order(self) -> None:
        """Operations see what those before them did."""
        await self.create("q")
        path = "/metadata/a"
        add = {"op": "add", "path": path, "value": 1}
        remove = {"op": "remove", "path": path}
        self.expect(await self.patch("q", add, remove, add), 200)
        self.refused(await self.patch("q", remove, remove), 409)
        self.assertEqual(1, (await self.call("GET", PATH)).json["a"])

    async def test_all_or_nothing(self) -> None:
        """One bad operation undoes the others."""
        await self.create("q", team="a")
        good = {"op": "add", "path": "/metadata/x", "value": 1}
        for bad, status in [
            ({"op": "remove", "path": "/metadata/none"}, 409),
            ({"op": "remove"}, 400),
            ({"op": "add", "path": "/metadata/_max_claim_count", "value": "3"}, 400),
        ]:
            self.refused(await self.patch("q", good, bad), status)
            found = (await self.call("GET", PATH)).json
            self.assertEqual({**DEFAULTS, "team": "a"}, found)

    async def test_bad_operations(self) -> None:
        """Operations need a known verb, a path and mostly a value."""
        await self.create("q", a=1)
        path = "/metadata/a"
        for bad in [
            {"path": path, "value": 1},
            {"op": "add", "value": 1},
            {"op": "add", "path": path},
            {"op": "replace", "path": path},
            *(
                {"op": o, "path": path, "value": 1}
                for o in ("", "ADD", "test", 5, None)
            ),
            *({"op": o, "path": path, "from": "/metadata/b"} for o in ("move", "copy")),
            *(
                {"op": "add", "path": p, "value": 1}
                for p in (5, None, ["metadata", "a"])
            ),
        ]:
            self.refused(await self.patch("q", bad), 400, "Invalid request body")

    async def test_bad_paths(self) -> None:
        """A path is the root, and a key."""
        await self.create("q")
        paths = [
            *("", "/", "metadata/a", "/metadata", "/metadata/", "/metadata/a/"),
            *("/metadata/a/b", "/metadata//a", "/other/a", "/a", "/metadata/~2"),
            *("/metadata/a~", "/metadata/a~3b"),
        ]
        for path in paths:
            change = {"op": "add", "path": path, "value": 1}
            answer = await self.patch("q", change)
            self.refused(answer, 400, "Invalid request body")

    async def test_escapes(self) -> None:
        """A slash and a tilde in a key are escaped."""
        await self.create("q")
        paths = {
            "/metadata/a~1b": "a/b",
            "/metadata/c~0d": "c~d",
            "/metadata/~01": "~1",
        }
        for path, key in paths.items():
            change = {"op": "add", "path": path, "value": 1}
            found = self.expect(await self.patch("q", change), 200).json
            self.assertEqual(1, found[key], path)
            change = {"op": "remove", "path": path}
            found = self.expect(await self.patch("q", change), 200).json
            self.assertNotIn(key, found, path)

    async def test_extra_members(self) -> None:
        """Members that an operation does not need are ignored."""
        await self.create("q")
        change = {"op": "add", "path": "/metadata/a", "value": 1, "from": 5, "x": None}
        self.assertEqual(1, self.expect(await self.patch("q", change), 200).json["a"])

    async def test_null_value(self) -> None:
        """Null is a value."""
        await self.create("q")
        change = {"op": "add", "path": "/metadata/a", "value": None}
        found = self.expect(await self.patch("q", change), 200).json
        self.assertEqual({**DEFAULTS, "a": None}, found)

    async def test_bad_values(self) -> None:
        """A patch refuses the reserved values that creation refuses."""
        await self.create("q")
        for key, value in BAD:
            change = {"op": "add", "path": f"/metadata/{key}", "value": value}
            self.refused(await self.patch("q", change), 400, "Invalid request body")
        self.assertEqual(DEFAULTS, (await self.call("GET", PATH)).json)

    async def test_dead_letters_to_itself(self) -> None:
        """A patch cannot make a queue its own dead-letter queue."""
        await self.create("q")
        change = {"op": "add", "path": "/metadata/_dead_letter_queue", "value": "q"}
        self.refused(await self.patch("q", change), 400, "Invalid request body")

    async def test_missing_queue(self) -> None:
        """A queue that does not exist cannot be changed and is not made."""
        change = {"op": "add", "path": "/metadata/a", "value": 1}
        self.refused(await self.patch("q", change), 404, "Not found")
        self.assertEqual([], await self.queue_names())

    async def test_not_an_array(self) -> None:
        """The body is an array of objects."""
        await self.create("q")
        headers = {"Content-Type": JSON_PATCH}
        bodies: list[Any] = [{}, {"op": "add"}, [1], ["add"], [[]], [None], "x", 5]
        requests = [asking("PATCH", PATH, json=b, headers=headers) for b in bodies]
        await self.refuses(400, "Invalid request body", requests)

    async def test_content_type(self) -> None:
        """Only the media type of the patch is taken, and the error names it."""
        await self.create("q")
        kinds = [
            *(None, "application/json", JSON_PATCH.upper(), f"{JSON_PATCH}; charset=x"),
            "application/json-patch+json",
        ]
        for kind in kinds:
            headers = {"Content-Type": kind}
            answer = await self.call("PATCH", PATH, json=[], headers=headers)
            self.refused(answer, 415)
            self.assertIn(JSON_PATCH, answer.json["description"])

    async def test_order_of_checks(self) -> None:
        """Type comes before body, body before existence, conflict before values."""
        headers = {"Content-Type": "text/plain"}
        answer = await self.call("PATCH", PATH, raw=b"", headers=headers)
        self.assertEqual(415, answer.status)
        headers = {"Content-Type": JSON_PATCH}
        answer = await self.call("PATCH", PATH, raw=b"{", headers=headers)
        self.assertEqual(400, answer.status)
        self.assertEqual(400, (await self.patch("q", {"op": "bad"})).status)
        await self.create("q")
        bad = {"op": "add", "path": "/metadata/_max_claim_count", "value": "3"}
        conflict = {"op": "remove", "path": "/metadata/none"}
        self.assertEqual(409, (await self.patch("q", bad, conflict)).status)

    async def test_together(self) -> None:
        """Changes made at the same time are all kept."""
        await self.create("q")
        waiting = [
            self.call_soon(
                "PATCH",
                PATH,
                json=[{"op": "add", "path": f"/metadata/k{number}", "value": number}],
                headers={"Content-Type": JSON_PATCH},
            )
            for number in range(8)
        ]
        for answer in waiting:
            self.expect(await answer, 200)
        expected = {**DEFAULTS, **{f"k{number}": number for number in range(8)}}
        self.assertEqual(expected, (await self.call("GET", PATH)).json)


class SizeTests(RestTestCase):
    """How long metadata may be."""

    async def test_largest(self) -> None:
        """The body of creation and patch has 65536 bytes at most."""
        value = "x" * (65536 - len(b'{"a": ""}'))
        answer = await self.call("PUT", PATH, json={"a": value})
        self.expect(answer, 201)
        other = "/v2/queues/other"
        requests = [asking("PUT", other, json={"a": value + "x"})]
        headers = {"Content-Type": JSON_PATCH}
        requests.append(asking("PATCH", PATH, raw=b" " * 65537, headers=headers))
        await self.refuses(400, "Invalid API request", requests)
        self.assertEqual(["q"], await self.queue_names())


class WithoutPoolingTests(RestTestCase):
    """What is free while there are no pools."""

    async def test_flavor(self) -> None:
        """A flavor is a key like any other."""
        await self.create("q", _flavor="anything")
        found = (await self.call("GET", PATH)).json
        self.assertEqual("anything", found["_flavor"])
