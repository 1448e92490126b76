"""Messages by id, deleting them, and taking them at once."""

from __future__ import annotations

from typing import Any

from tests.rest.server import CONSUMER, PRODUCER, RestTestCase, asking

PATH = "/v2/queues/q/messages"
NOBODY = "0" * 24
"""Well-formed, and never given out."""


class GetTests(RestTestCase):
    """``GET .../messages/{id}``."""

    async def test_message(self) -> None:
        """A message is shown as in a list."""
        (message_id,) = await self.post("q", {"k": "v"}, ttl=300)
        self.clock.advance(12)
        answer = self.expect(await self.call("GET", f"{PATH}/{message_id}"), 200)
        expected = {
            "id": message_id,
            "href": f"{PATH}/{message_id}",
            "ttl": 300,
            "age": 12,
            "body": {"k": "v"},
        }
        self.assertEqual(expected, answer.json)

    async def test_claimed(self) -> None:
        """A claimed message is shown, with its claim in the path."""
        (message_id,) = await self.post("q", 1)
        claim = await self.claim("q")
        answer = self.expect(await self.call("GET", f"{PATH}/{message_id}"), 200)
        self.assertEqual(
            f"{PATH}/{message_id}?claim_id={claim.id}", answer.json["href"]
        )
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(answer.json))

    async def test_href_works(self) -> None:
        """The path of a claimed message leads to it."""
        await self.post("q", 1)
        (message,) = (await self.claim("q")).messages
        answer = self.expect(await self.call("GET", message["href"]), 200)
        self.assertEqual(message["id"], answer.json["id"])

    async def test_own_message(self) -> None:
        """The poster sees its own message by id."""
        (message_id,) = await self.post("q", 1, client=CONSUMER)
        self.expect(await self.call("GET", f"{PATH}/{message_id}"), 200)

    async def test_missing(self) -> None:
        """Unknown, malformed, deleted and expired ids are not found."""
        (expired,) = await self.post("q", 1, ttl=60)
        (deleted,) = await self.post("q", 1)
        await self.call("DELETE", f"{PATH}/{deleted}")
        self.clock.advance(60)
        ids = [
            expired,
            deleted,
            NOBODY,
            "x",
            "f" * 24,
            "f" * 300,
            "%C3%A9",
            "a%00",
            "a,b",
        ]
        requests = [asking("GET", f"{PATH}/{i}") for i in ids]
        requests.append(asking("GET", f"/v2/queues/none/messages/{NOBODY}"))
        await self.refuses(404, "Not found", requests)

    async def test_ids_are_exact(self) -> None:
        """An id in other spelling is another id."""
        (message_id,) = await self.post("q", 1)
        flipped = message_id[:-1] + ("0" if message_id[-1] != "0" else "1")
        ids = [flipped, message_id[:-1], f"{message_id}0", f"%20{message_id}"]
        requests = [asking("GET", f"{PATH}/{i}") for i in ids]
        await self.refuses(404, "Not found", requests)


class IdsTests(RestTestCase):
    """``?ids=``: several messages at once."""

    async def _get(self, *ids: str) -> Any:
        return await self.call("GET", f"{PATH}?ids={','.join(ids)}")

    async def test_messages(self) -> None:
        """The messages come without links."""
        ids = await self.post("q", 1, 2, 3)
        answer = self.expect(await self._get(ids[0], ids[2]), 200)
        self.assertEqual({"messages"}, set(answer.json))
        self.assertEqual([1, 3], [m["body"] for m in answer.json["messages"]])
        keys = {"id", "href", "ttl", "age", "body"}
        self.assertEqual([keys] * 2, [set(m) for m in answer.json["messages"]])

    async def test_claimed_and_own(self) -> None:
        """Claimed messages and those of the reader are included."""
        ids = await self.post("q", 1, client=CONSUMER)
        await self.claim("q")
        answer = self.expect(await self._get(*ids), 200)
        self.assertIn("?claim_id=", answer.json["messages"][0]["href"])

    async def test_unknown_are_skipped(self) -> None:
        """Ids that lead nowhere are left out."""
        (message_id,) = await self.post("q", 1)
        answer = self.expect(await self._get(NOBODY, message_id, "x"), 200)
        self.assertEqual([message_id], [m["id"] for m in answer.json["messages"]])

    async def test_nothing_found(self) -> None:
        """When nothing is left it is a 404."""
        await self.post("q", 1)
        paths = [f"{PATH}?ids={NOBODY},x", f"/v2/queues/none/messages?ids={NOBODY}"]
        await self.refuses(404, "Not found", [asking("GET", path) for path in paths])

    async def test_repeated(self) -> None:
        """Ids may be repeated as parameters, and as values."""
        one, two = await self.post("q", 1, 2)
        answer = await self.call("GET", f"{PATH}?ids={one}&ids={two}")
        found = {m["id"] for m in self.expect(answer, 200).json["messages"]}
        self.assertEqual({one, two}, found)
        found = {m["id"] for m in (await self._get(one, one)).json["messages"]}
        self.assertEqual({one}, found)

    async def test_number(self) -> None:
        """There are 1 to 20 ids."""
        ids = await self.post("q", *range(20))
        answer = self.expect(await self._get(*ids), 200)
        self.assertEqual(20, len(answer.json["messages"]))
        paths = [f"{PATH}?ids={','.join([*ids, NOBODY])}", f"{PATH}?ids=,"]
        for method in ("GET", "DELETE"):
            requests = [asking(method, path) for path in paths]
            await self.refuses(400, "Invalid API request", requests)
        self.assertEqual({"claimed": 0, "free": 20, "total": 20}, await self.stats("q"))

    async def test_empty(self) -> None:
        """An empty parameter is as if it were not there."""
        await self.post("q", 1)
        self.assertEqual([1], await self.listed("q", "ids="))

    async def test_others_are_ignored(self) -> None:
        """Other parameters are not looked at."""
        (message_id,) = await self.post("q", 1)
        path = f"{PATH}?ids={message_id}&limit=x&echo=foo&marker=y"
        self.expect(await self.call("GET", path), 200)


class DeleteTests(RestTestCase):
    """``DELETE .../messages/{id}``."""

    async def _delete(self, message_id: str, claim_id: str | None = None) -> Any:
        query = "" if claim_id is None else f"?claim_id={claim_id}"
        return await self.call("DELETE", f"{PATH}/{message_id}{query}")

    async def test_free(self) -> None:
        """A free message is deleted by anybody."""
        ids = await self.post("q", 1, 2)
        answer = self.expect(await self._delete(ids[0]), 204)
        self.assertEqual(b"", answer.body)
        self.assertEqual([2], await self.listed("q"))

    async def test_missing(self) -> None:
        """What does not exist is deleted already."""
        (message_id,) = await self.post("q", 1)
        await self._delete(message_id)
        for nothing in (message_id, NOBODY, "x", "%C3%A9"):
            self.expect(await self._delete(nothing), 204)
        path = f"/v2/queues/none/messages/{NOBODY}"
        self.expect(await self.call("DELETE", path), 204)

    async def test_claimed(self) -> None:
        """A claimed message is deleted only with its claim."""
        (message_id,) = await self.post("q", 1)
        claim = await self.claim("q")
        self.refused(await self._delete(message_id), 403, "Unable to delete")
        self.expect(await self._delete(message_id, claim.id), 204)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))

    async def test_href_deletes(self) -> None:
        """The path of a claimed message is all that is needed to delete it."""
        await self.post("q", 1)
        (message,) = (await self.claim("q")).messages
        self.expect(await self.call("DELETE", message["href"]), 204)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))

    async def test_other_claim(self) -> None:
        """Another live claim does not help."""
        ids = await self.post("q", 1, 2)
        await self.claim("q", limit=1)
        other = await self.claim("q", limit=1)
        answer = await self._delete(ids[0], other.id)
        self.refused(answer, 403, "Unable to delete")
        self.assertEqual({"claimed": 2, "free": 0, "total": 2}, await self.stats("q"))

    async def test_dead_claims(self) -> None:
        """A claim that ended or never was does not delete a claimed message."""
        ids = await self.post("q", 1)
        old = await self.claim("q", ttl=60)
        self.clock.advance(60)
        released = await self.claim("q")
        await self.release("q", released.id)
        await self.claim("q")
        for claim_id in (old.id, released.id, NOBODY):
            answer = await self._delete(ids[0], claim_id)
            self.assertIn(answer.status, (400, 403), answer)
            self.refused(answer, answer.status, "Unable to delete")
        self.assertEqual({"claimed": 1, "free": 0, "total": 1}, await self.stats("q"))

    async def test_not_claimed(self) -> None:
        """A free message is not deleted with a claim that does not hold it."""
        ids = await self.post("q", 1, 2)
        claim = await self.claim("q", limit=1)
        for claim_id in (claim.id, NOBODY):
            answer = await self._delete(ids[1], claim_id)
            self.refused(answer, 400, "Unable to delete")
        self.assertEqual([2], await self.listed("q"))

    async def test_malformed_claim(self) -> None:
        """A claim id that is none is refused."""
        ids = await self.post("q", 1, 2)
        await self.claim("q", limit=1)
        for message_id in ids:
            for claim_id in ("x", "%C3%A9", "f" * 100, "a%00b"):
                self.refused(await self._delete(message_id, claim_id), 400)
        self.assertEqual({"claimed": 1, "free": 1, "total": 2}, await self.stats("q"))

    async def test_released(self) -> None:
        """A message whose claim was released needs no claim."""
        (message_id,) = await self.post("q", 1)
        claim = await self.claim("q")
        await self.release("q", claim.id)
        self.refused(await self._delete(message_id, claim.id), 400, "Unable to delete")
        self.expect(await self._delete(message_id), 204)

    async def test_expired_claim(self) -> None:
        """A message whose claim expired needs none; the old one may be refused."""
        one, two = await self.post("q", 1, 2)
        claim = await self.claim("q", ttl=60)
        self.clock.advance(60)
        self.assertIn((await self._delete(one, claim.id)).status, (204, 400))
        self.expect(await self._delete(two), 204)

    async def test_empty_claim(self) -> None:
        """An empty claim id is as if it were not there."""
        (message_id,) = await self.post("q", 1)
        self.expect(await self._delete(message_id, ""), 204)
        self.assertEqual([], await self.listed("q"))

    async def test_whoever_asks(self) -> None:
        """Who made the claim does not matter, only which it is."""
        (message_id,) = await self.post("q", 1)
        claim = await self.claim("q")
        path = f"{PATH}/{message_id}?claim_id={claim.id}"
        self.expect(await self.call("DELETE", path, client=PRODUCER), 204)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))


class BulkDeleteTests(RestTestCase):
    """``DELETE .../messages?ids=``."""

    async def test_delete(self) -> None:
        """Several messages go at once, claimed ones too, unknown ones do not matter."""
        ids = await self.post("q", *range(5))
        await self.claim("q", limit=2)
        gone = [ids[0], ids[1], ids[3], NOBODY, "x"]
        answer = await self.call("DELETE", f"{PATH}?ids={','.join(gone)}")
        self.assertEqual(b"", self.expect(answer, 204).body)
        self.assertEqual([2, 4], await self.listed("q", "include_claimed=true"))
        self.assertEqual({"claimed": 0, "free": 2, "total": 2}, await self.stats("q"))

    async def test_missing_queue(self) -> None:
        """A queue that does not exist has nothing to delete."""
        answer = await self.call("DELETE", f"/v2/queues/none/messages?ids={NOBODY}")
        self.expect(answer, 204)

    async def test_either_or(self) -> None:
        """Exactly one of ids and pop is needed."""
        ids = await self.post("q", 1, 2)
        queries = ["", "?", f"?ids={ids[0]}&pop=1", "?ids=", "?pop=", "?limit=1"]
        requests = [asking("DELETE", PATH + query) for query in queries]
        await self.refuses(400, None, requests)
        self.assertEqual([1, 2], await self.listed("q"))


class DeleteWithClaimsTests(RestTestCase):
    """``message_delete_with_claim_id``."""

    settings = ("transport.message_delete_with_claim_id=true",)

    async def _delete(self, ids: list[str], *claim_ids: str) -> Any:
        path = f"{PATH}?ids={','.join(ids)}"
        query = f"&claim_ids={','.join(claim_ids)}" if claim_ids else ""
        return await self.call("DELETE", path + query)

    async def test_required(self) -> None:
        """Several messages are deleted only with claims."""
        ids = await self.post("q", 1, 2)
        self.refused(await self._delete(ids), 400)
        self.assertEqual([1, 2], await self.listed("q"))

    async def test_held(self) -> None:
        """Messages go with the claims that hold them."""
        ids = await self.post("q", 1, 2, 3)
        one = await self.claim("q", limit=1)
        two = await self.claim("q", limit=2)
        self.expect(await self._delete(ids[:2], one.id, two.id), 204)
        self.assertEqual({"claimed": 1, "free": 0, "total": 1}, await self.stats("q"))
        self.expect(await self._delete([*ids, NOBODY], two.id), 204)
        self.assertEqual({"claimed": 0, "free": 0, "total": 0}, await self.stats("q"))

    async def test_mismatch(self) -> None:
        """One message under another claim keeps all of them."""
        ids = await self.post("q", 1, 2)
        one = await self.claim("q", limit=1)
        await self.claim("q", limit=1)
        answer = await self._delete(ids, one.id)
        self.refused(answer, 403, "Unable to delete")
        self.assertEqual({"claimed": 2, "free": 0, "total": 2}, await self.stats("q"))

    async def test_unclaimed(self) -> None:
        """One message under no claim keeps all of them."""
        ids = await self.post("q", 1, 2)
        claim = await self.claim("q", limit=1)
        answer = await self._delete(ids, claim.id)
        self.assertIn(answer.status, (400, 403))
        self.refused(answer, answer.status, "Unable to delete")
        self.assertEqual({"claimed": 1, "free": 1, "total": 2}, await self.stats("q"))

    async def test_with_pop(self) -> None:
        """Taking at once knows no claims."""
        await self.post("q", 1)
        path = f"{PATH}?pop=1"
        self.refused(await self.call("DELETE", f"{path}&claim_ids={NOBODY}"), 400)
        answer = self.expect(await self.call("DELETE", path), 200)
        self.assertEqual([1], [m["body"] for m in answer.json["messages"]])


class PopTests(RestTestCase):
    """``DELETE .../messages?pop=``."""

    async def _pop(self, number: int) -> list[Any]:
        answer = await self.call("DELETE", f"{PATH}?pop={number}")
        return self.expect(answer, 200).json["messages"]

    async def test_message(self) -> None:
        """A popped message has no path, and tells of its claims."""
        (message_id,) = await self.post("q", 5.5)
        self.clock.advance(1)
        (message,) = await self._pop(1)
        expected = {"id": message_id, "age": 1, "ttl": 3600, "claim_count": 0}
        expected |= {"claim_id": None, "body": 5.5}
        self.assertEqual(expected, message)

    async def test_order(self) -> None:
        """The oldest go first, and each once."""
        await self.post("q", *range(25))
        found = [m["body"] for number in (3, 20, 20) for m in await self._pop(number)]
        self.assertEqual(list(range(25)), found)
        self.assertEqual([], await self._pop(1))

    async def test_nothing(self) -> None:
        """An empty queue and a missing one give an empty list."""
        answer = self.expect(await self.call("DELETE", f"{PATH}?pop=5"), 200)
        self.assertEqual({"messages": []}, answer.json)
        self.assertEqual([], await self.queue_names())

    async def test_claimed_stay(self) -> None:
        """Claimed messages are not taken."""
        await self.post("q", 1, 2)
        await self.claim("q", limit=1)
        self.assertEqual([2], [m["body"] for m in await self._pop(5)])
        self.assertEqual({"claimed": 1, "free": 0, "total": 1}, await self.stats("q"))

    async def test_own_messages(self) -> None:
        """Who posted a message does not matter."""
        await self.post("q", 1, client=CONSUMER)
        self.assertEqual([1], [m["body"] for m in await self._pop(1)])

    async def test_deliveries_are_told(self) -> None:
        """The count tells how often claims handed the message out."""
        await self.post("q", 1)
        for _ in range(2):
            claim = await self.claim("q")
            await self.release("q", claim.id)
        self.assertEqual(2, (await self._pop(1))[0]["claim_count"])

    async def test_expired(self) -> None:
        """Expired messages are not taken."""
        await self.post("q", 1, ttl=60)
        await self.post("q", 2, ttl=120)
        self.clock.advance(60)
        self.assertEqual([2], [m["body"] for m in await self._pop(5)])

    async def test_numbers(self) -> None:
        """At once 1 to 20 are taken."""
        await self.post("q", 1)
        requests = [asking("DELETE", f"{PATH}?pop={n}") for n in (0, -1, 21)]
        await self.refuses(400, "Invalid API request", requests)
        requests = [asking("DELETE", f"{PATH}?pop={n}") for n in ("x", "1.5", "true")]
        await self.refuses(400, "Invalid parameter", requests)
        self.assertEqual([1], await self.listed("q"))

    async def test_together(self) -> None:
        """Takers at the same time never share a message."""
        await self.post("q", *range(20))
        waiting = [self.call_soon("DELETE", f"{PATH}?pop=3") for _ in range(8)]
        answers = [self.expect(await answer, 200) for answer in waiting]
        found = [m["body"] for answer in answers for m in answer.json["messages"]]
        self.assertEqual(list(range(20)), sorted(found))
