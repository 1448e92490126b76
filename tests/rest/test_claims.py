"""Claims: taking, looking, renewing, releasing, and their time."""

from __future__ import annotations

from typing import Any

from tests.rest.server import CONSUMER, RestTestCase, asking

PATH = "/v2/queues/q/claims"
NOBODY = "0" * 24
KEYS = {"id", "href", "ttl", "age", "body"}

BAD_TIMES: list[Any] = [59, 43201, 0, -60, 2**62, "300", "", 300.0, 60.5, True, [], {}]


class CreateTests(RestTestCase):
    """``POST .../claims``."""

    async def test_answer(self) -> None:
        """A claim answers with its path and its messages."""
        ids = await self.post("q", {"i": 0}, ttl=86400)
        self.clock.advance(5)
        answer = await self.call("POST", PATH, json={"ttl": 300, "grace": 60})
        self.expect(answer, 201)
        claim_id = answer.location.removeprefix(f"{PATH}/")
        self.assertRegex(claim_id, r"\A[A-Za-z0-9._~-]+\Z")
        message = {
            "id": ids[0],
            "href": f"/v2/queues/q/messages/{ids[0]}?claim_id={claim_id}",
            "ttl": 86400,
            "age": 5,
            "body": {"i": 0},
        }
        self.assertEqual({"messages": [message]}, answer.json)

    async def test_nothing(self) -> None:
        """Nothing to claim is an empty answer, and makes no queue."""
        answer = self.expect(await self.call("POST", PATH), 204)
        self.assertEqual(b"", answer.body)
        self.assertEqual([], await self.queue_names())
        await self.create("q")
        self.expect(await self.call("POST", PATH), 204)

    async def test_everything_taken(self) -> None:
        """What is claimed is not claimed again."""
        await self.post("q", *range(3))
        self.assertEqual([0, 1, 2], (await self.claim("q")).bodies)
        self.assertEqual("", (await self.claim("q")).id)

    async def test_order(self) -> None:
        """Claims take from the front, each message once."""
        await self.post("q", *range(25))
        found = []
        for limit in (1, 20, 10):
            found += (await self.claim("q", limit=limit)).bodies
        self.assertEqual(list(range(25)), found)

    async def test_limit(self) -> None:
        """Ten messages are claimed unless the query says otherwise."""
        await self.post("q", *range(30))
        answer = await self.call("POST", PATH)
        self.assertEqual(10, len(self.expect(answer, 201).json["messages"]))
        answer = await self.call("POST", PATH, json={"limit": 1})
        self.assertEqual(10, len(self.expect(answer, 201).json["messages"]))
        answer = await self.call("POST", f"{PATH}?limit=2")
        self.assertEqual(2, len(self.expect(answer, 201).json["messages"]))

    async def test_bad_limits(self) -> None:
        """A claim takes 1 to 20 messages."""
        requests = [asking("POST", f"{PATH}?limit={n}") for n in (0, -1, 21)]
        await self.refuses(400, "Invalid API request", requests)
        requests = [asking("POST", f"{PATH}?limit={n}") for n in ("x", "1.5")]
        await self.refuses(400, "Invalid parameter", requests)

    async def test_defaults(self) -> None:
        """A claim lasts five minutes unless the body says otherwise."""
        bodies: list[Any] = [None, {}, {"x": 1}, {"ttl": None, "grace": None}]
        for body in bodies:
            await self.post("q", 1)
            answer = self.expect(await self.call("POST", PATH, json=body), 201)
            shown = (await self.call("GET", answer.location)).json
            self.assertEqual(300, shown["ttl"], body)

    async def test_bounds(self) -> None:
        """Time and grace are a minute to twelve hours."""
        for number in (60, 43200):
            await self.post("q", 1)
            body = {"ttl": number, "grace": number}
            self.expect(await self.call("POST", PATH, json=body), 201)

    async def test_bad_times(self) -> None:
        """Every other time and grace is refused, and nothing claimed."""
        await self.post("q", 1)
        requests = [asking("POST", PATH, json={"ttl": value}) for value in BAD_TIMES]
        requests += [asking("POST", PATH, json={"grace": value}) for value in BAD_TIMES]
        await self.refuses(400, None, requests)
        self.assertEqual({"claimed": 0, "free": 1, "total": 1}, await self.stats("q"))

    async def test_own_messages(self) -> None:
        """A client may claim what it posted."""
        await self.post("q", 1, client=CONSUMER)
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_collection_is_not_read(self) -> None:
        """Claims are not listed."""
        await self.refuses(405, "405 Method Not Allowed", [asking("GET", PATH)])

    async def test_together(self) -> None:
        """Claims at the same time never share a message and each take a run."""
        await self.post("q", *range(20))
        waiting = [self.call_soon("POST", f"{PATH}?limit=3") for _ in range(10)]
        answers = [await answer for answer in waiting]
        groups = [[m["body"] for m in a.json["messages"]] for a in answers if a.body]
        self.assertEqual(
            list(range(20)), sorted(body for group in groups for body in group)
        )
        for group in groups:
            self.assertEqual(list(range(group[0], group[0] + len(group))), group)
        self.assertEqual([201] * 7 + [204] * 3, sorted(a.status for a in answers))


class GetTests(RestTestCase):
    """``GET .../claims/{id}``."""

    async def test_claim(self) -> None:
        """A claim shows its age, ttl, path and messages."""
        await self.post("q", 1, 2)
        self.clock.advance(5)
        claim = await self.claim("q", ttl=300)
        self.clock.advance(12)
        answer = self.expect(await self.call("GET", f"{PATH}/{claim.id}"), 200)
        self.assertEqual({"age", "ttl", "messages", "href"}, set(answer.json))
        self.assertEqual((12, 300), (answer.json["age"], answer.json["ttl"]))
        self.assertEqual(f"{PATH}/{claim.id}", answer.json["href"])
        aged = [{**message, "age": 17} for message in claim.messages]
        self.assertEqual(aged, answer.json["messages"])

    async def test_missing(self) -> None:
        """Unknown, malformed, released and expired claims are not found."""
        await self.post("q", 1, 2)
        released = await self.claim("q", limit=1)
        await self.release("q", released.id)
        expired = await self.claim("q", ttl=60, limit=1)
        self.clock.advance(60)
        ids = [released.id, expired.id, NOBODY, "x", "f" * 300, "%C3%A9", "a%00"]
        requests = [asking("GET", f"{PATH}/{i}") for i in ids]
        requests += [asking("PATCH", f"{PATH}/{i}", json={}) for i in ids]
        requests.append(asking("GET", f"/v2/queues/none/claims/{NOBODY}"))
        await self.refuses(404, "Not found", requests)

    async def test_other_queue(self) -> None:
        """A claim is not found through another queue."""
        await self.post("q", 1)
        await self.post("other", 2)
        claim = await self.claim("q")
        path = f"/v2/queues/other/claims/{claim.id}"
        requests = [asking("GET", path), asking("PATCH", path, json={})]
        await self.refuses(404, "Not found", requests)
        self.expect(await self.call("DELETE", path), 204)
        self.expect(await self.call("GET", f"{PATH}/{claim.id}"), 200)

    async def test_deleted_messages(self) -> None:
        """Messages that were deleted leave their claim, which goes on."""
        await self.post("q", 1, 2)
        claim = await self.claim("q")
        await self.call("DELETE", claim.messages[0]["href"])
        shown = (await self.call("GET", f"{PATH}/{claim.id}")).json
        self.assertEqual([2], [message["body"] for message in shown["messages"]])

    async def test_all_messages_deleted(self) -> None:
        """A claim without messages shows none, or is gone."""
        await self.post("q", 1)
        claim = await self.claim("q")
        await self.call("DELETE", claim.messages[0]["href"])
        answer = await self.call("GET", f"{PATH}/{claim.id}")
        self.assertIn(answer.status, (200, 404))
        self.assertEqual([], answer.json.get("messages", []))


class RenewTests(RestTestCase):
    """``PATCH .../claims/{id}``."""

    async def _renew(self, claim_id: str, **body: Any) -> Any:
        return await self.call("PATCH", f"{PATH}/{claim_id}", json=body)

    async def test_renew(self) -> None:
        """A renewed claim begins anew: its age is 0 and its time counts from now."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=60)
        self.clock.advance(50)
        answer = self.expect(await self._renew(claim.id, ttl=100, grace=60), 204)
        self.assertEqual(b"", answer.body)
        shown = (await self.call("GET", f"{PATH}/{claim.id}")).json
        self.assertEqual((0, 100), (shown["age"], shown["ttl"]))
        self.clock.advance(99)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(1)
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_shorter(self) -> None:
        """A claim may be made to end earlier."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=300)
        self.expect(await self._renew(claim.id, ttl=60), 204)
        self.clock.advance(60)
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_defaults(self) -> None:
        """An empty object renews for five minutes."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=60)
        self.expect(await self._renew(claim.id), 204)
        shown = (await self.call("GET", f"{PATH}/{claim.id}")).json
        self.assertEqual(300, shown["ttl"])

    async def test_bad_times(self) -> None:
        """Time and grace have the bounds of creation; a refusal changes nothing."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=77)
        path = f"{PATH}/{claim.id}"
        requests = [asking("PATCH", path, json={"ttl": v}) for v in BAD_TIMES]
        requests += [
            asking("PATCH", path, json={"ttl": 60, "grace": value})
            for value in BAD_TIMES
        ]
        requests += [asking("PATCH", path, raw=raw) for raw in (b"", b"[]", b"{")]
        await self.refuses(400, None, requests)
        self.assertEqual(77, (await self.call("GET", path)).json["ttl"])

    async def test_many_times(self) -> None:
        """A claim may be renewed for ever; its messages live with it."""
        await self.post("q", 1, ttl=60)
        claim = await self.claim("q", ttl=60)
        for _ in range(5):
            self.clock.advance(59)
            self.expect(await self._renew(claim.id, ttl=60, grace=60), 204)
        shown = (await self.call("GET", f"{PATH}/{claim.id}")).json
        self.assertEqual([1], [message["body"] for message in shown["messages"]])


class ReleaseTests(RestTestCase):
    """``DELETE .../claims/{id}``."""

    async def test_release(self) -> None:
        """Released messages are free at once and come in their old place."""
        await self.post("q", 1, 2)
        claim = await self.claim("q")
        await self.post("q", 3)
        answer = await self.call("DELETE", f"{PATH}/{claim.id}")
        self.assertEqual(b"", self.expect(answer, 204).body)
        self.assertEqual([1, 2, 3], await self.listed("q"))
        self.assertEqual([1, 2, 3], (await self.claim("q")).bodies)

    async def test_anything(self) -> None:
        """What is no claim is released already."""
        await self.post("q", 1)
        claim = await self.claim("q")
        await self.release("q", claim.id)
        for claim_id in (claim.id, NOBODY, "x", "%C3%A9"):
            await self.release("q", claim_id)
        self.expect(await self.call("DELETE", f"/v2/queues/none/claims/{NOBODY}"), 204)

    async def test_late(self) -> None:
        """A claim that expired does not free what somebody else claimed since."""
        await self.post("q", 1)
        old = await self.claim("q", ttl=60)
        self.clock.advance(60)
        await self.claim("q")
        await self.release("q", old.id)
        self.assertEqual({"claimed": 1, "free": 0, "total": 1}, await self.stats("q"))

    async def test_only_its_own(self) -> None:
        """Other claims go on."""
        await self.post("q", 1, 2)
        one = await self.claim("q", limit=1)
        await self.claim("q", limit=1)
        await self.release("q", one.id)
        self.assertEqual([1], (await self.claim("q")).bodies)


class ExpiryTests(RestTestCase):
    """The end of a claim, and the life of what it holds."""

    async def test_end(self) -> None:
        """A claim is over the very second its time is reached."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=60)
        self.clock.advance(59)
        self.expect(await self.call("GET", f"{PATH}/{claim.id}"), 200)
        self.assertEqual("", (await self.claim("q")).id)
        self.clock.advance(1)
        await self.refuses(404, "Not found", [asking("GET", f"{PATH}/{claim.id}")])
        self.expect(await self.call("DELETE", f"{PATH}/{claim.id}"), 204)
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_old_place(self) -> None:
        """Messages of an expired claim come before later ones."""
        await self.post("q", 1, 2)
        await self.claim("q", ttl=60, limit=1)
        await self.post("q", 3)
        self.clock.advance(60)
        self.assertEqual([1, 2, 3], await self.listed("q"))
        self.assertEqual([1, 2, 3], (await self.claim("q")).bodies)

    async def test_between_claims(self) -> None:
        """A claim passes over what others hold, wherever it lies."""
        await self.post("q", *range(6))
        first = await self.claim("q", limit=2)
        await self.claim("q", limit=2)
        await self.release("q", first.id)
        self.assertEqual([0, 1, 4, 5], (await self.claim("q", limit=10)).bodies)

    async def test_extension(self) -> None:
        """A message that would expire under its claim lives on for the grace."""
        for ttl, shown in ((99, 100), (100, 100), (101, 161)):
            await self.post("q", 1, ttl=100)
            (message,) = (await self.claim("q", ttl=ttl, grace=60)).messages
            self.assertEqual(shown, message["ttl"], ttl)

    async def test_extension_of_old_message(self) -> None:
        """The new ttl counts from the claim, or from the post."""
        await self.post("q", 1, ttl=100)
        self.clock.advance(50)
        (message,) = (await self.claim("q", ttl=200, grace=60)).messages
        self.assertIn(message["ttl"], (260, 310))
        self.assertEqual(50, message["age"])

    async def test_life_under_claim(self) -> None:
        """A claimed message is there until its claim's end and grace have passed."""
        (message_id,) = await self.post("q", 1, ttl=60)
        self.clock.advance(50)
        claim = await self.claim("q", ttl=300, grace=100)
        path = f"/v2/queues/q/messages/{message_id}"
        self.clock.advance(299)
        self.expect(await self.call("GET", path), 200)
        self.expect(await self.call("GET", f"{PATH}/{claim.id}"), 200)
        self.clock.advance(1)
        self.assertEqual([1], await self.listed("q"))
        self.clock.advance(99)
        self.expect(await self.call("GET", path), 200)
        self.clock.advance(1)
        await self.refuses(404, "Not found", [asking("GET", path)])
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))

    async def test_extension_stays(self) -> None:
        """Releasing a claim does not shorten a life that it made longer."""
        await self.post("q", 1, ttl=60)
        claim = await self.claim("q", ttl=100, grace=60)
        await self.release("q", claim.id)
        self.clock.advance(159)
        self.assertEqual([1], await self.listed("q"))
        self.clock.advance(1)
        self.assertEqual([], await self.listed("q"))

    async def test_release_does_not_lengthen(self) -> None:
        """Releasing and renewing do not begin a message's life anew."""
        await self.post("q", 1, ttl=100)
        claim = await self.claim("q", ttl=60)
        self.clock.advance(30)
        body = {"ttl": 60, "grace": 60}
        await self.call("PATCH", f"{PATH}/{claim.id}", json=body)
        await self.release("q", claim.id)
        self.clock.advance(70)
        self.assertEqual([], await self.listed("q"))

    async def test_expired_is_not_claimed(self) -> None:
        """What expired is claimed by nobody."""
        await self.post("q", 1, ttl=60)
        await self.post("q", 2, ttl=61)
        self.clock.advance(60)
        self.assertEqual([2], (await self.claim("q")).bodies)
