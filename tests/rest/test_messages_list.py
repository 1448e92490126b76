"""Listing messages: pages, markers, links, and who sees what."""

from __future__ import annotations

from hashlib import md5

from tests.rest.server import CONSUMER, PRODUCER, RestTestCase, asking

PATH = "/v2/queues/q/messages"


class ListTests(RestTestCase):
    """``GET .../messages``."""

    async def test_missing_queue(self) -> None:
        """A queue that does not exist lists as empty."""
        answer = self.expect(await self.call("GET", PATH), 200)
        self.assertEqual({"messages": [], "links": []}, answer.json)

    async def test_message(self) -> None:
        """A message has exactly these keys: clients refuse any other."""
        (message_id,) = await self.post("q", {"event": "x"}, ttl=300)
        self.clock.advance(12)
        answer = self.expect(await self.call("GET", PATH), 200)
        message = {
            "id": message_id,
            "href": f"{PATH}/{message_id}",
            "ttl": 300,
            "age": 12,
            "body": {"event": "x"},
        }
        self.assertEqual({"messages", "links"}, set(answer.json))
        self.assertEqual([message], answer.json["messages"])

    async def test_age_is_whole(self) -> None:
        """An age is a whole number of seconds, the begun one not counted."""
        await self.post("q", 1)
        self.clock.advance(1.9)
        age = (await self.call("GET", PATH)).json["messages"][0]["age"]
        self.assertEqual((1, int), (age, type(age)))

    async def test_page_size(self) -> None:
        """Ten messages are a page unless the caller says otherwise."""
        await self.post("q", *range(25))
        self.assertEqual(list(range(10)), await self.listed("q"))
        self.assertEqual([0], await self.listed("q", "limit=1"))
        self.assertEqual(list(range(20)), await self.listed("q", "limit=20"))

    async def test_bad_limits(self) -> None:
        """A page has 1 to 20 messages."""
        for limit in (0, -1, 21, 10**30):
            await self.refuses(
                400, "Invalid API request", [asking("GET", f"{PATH}?limit={limit}")]
            )

    async def test_echo(self) -> None:
        """A reader does not see its own messages unless it asks for them."""
        await self.post("q", "mine", client=CONSUMER)
        await self.post("q", "yours", client=PRODUCER)
        self.assertEqual(["yours"], await self.listed("q"))
        self.assertEqual(["yours"], await self.listed("q", "echo=false"))
        self.assertEqual(["mine", "yours"], await self.listed("q", "echo=true"))

    async def test_only_own_messages(self) -> None:
        """A queue with nothing but the reader's own messages lists as empty."""
        await self.post("q", *range(30), client=CONSUMER)
        answer = await self.call("GET", PATH)
        self.assertEqual({"messages": [], "links": []}, answer.json)

    async def test_claimed(self) -> None:
        """Claimed messages are shown only on request, with their claim."""
        await self.post("q", 1, 2, 3)
        claim = await self.claim("q", limit=2)
        self.assertEqual([3], await self.listed("q"))
        answer = await self.call("GET", f"{PATH}?include_claimed=true")
        messages = answer.json["messages"]
        self.assertEqual([1, 2, 3], [message["body"] for message in messages])
        suffix = f"?claim_id={claim.id}"
        tails = [message["href"].partition(message["id"])[2] for message in messages]
        self.assertEqual([suffix, suffix, ""], tails)
        keys = {"id", "href", "ttl", "age", "body"}
        self.assertEqual([keys] * 3, [set(message) for message in messages])

    async def test_claim_that_ended(self) -> None:
        """An expired claim stays in the path of its messages, a released one not."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=60)
        self.clock.advance(60)
        (message,) = (await self.call("GET", PATH)).json["messages"]
        self.assertTrue(message["href"].endswith(f"?claim_id={claim.id}"), message)
        claim = await self.claim("q", ttl=60)
        await self.release("q", claim.id)
        (message,) = (await self.call("GET", PATH)).json["messages"]
        self.assertEqual(f"{PATH}/{message['id']}", message["href"])

    async def test_expired(self) -> None:
        """A message is gone when its ttl has passed, to the second."""
        await self.post("q", 1, ttl=60)
        await self.post("q", 2, ttl=61)
        self.clock.advance(59)
        self.assertEqual([1, 2], await self.listed("q"))
        self.clock.advance(1)
        query = "include_claimed=true&include_delayed=true&echo=true"
        self.assertEqual([2], await self.listed("q"))
        self.assertEqual([2], await self.listed("q", query))

    async def test_full_page_behind_hidden_ones(self) -> None:
        """What is hidden takes no place on a page."""
        await self.post("q", *range(15))
        await self.claim("q", limit=15)
        await self.post("q", *range(15, 30), client=CONSUMER)
        await self.post("q", *range(30, 50))
        self.assertEqual(list(range(30, 40)), await self.listed("q"))


class LinkTests(RestTestCase):
    """The link from a page to the next one."""

    async def test_path(self) -> None:
        """A link is a path that begins with the version."""
        await self.post("q", 1)
        href = (await self.call("GET", PATH)).next_href
        self.assertTrue(href.startswith(f"{PATH}?"), href)

    async def test_limit(self) -> None:
        """The limit is repeated only when it was given."""
        await self.post("q", 1)
        self.assertNotIn("limit", (await self.call("GET", PATH)).next_query)
        query = (await self.call("GET", f"{PATH}?limit=7")).next_query
        self.assertEqual("7", query["limit"])

    async def test_flags(self) -> None:
        """What was asked for is repeated."""
        await self.post("q", 1)
        path = f"{PATH}?echo=true&include_claimed=true&include_delayed=true"
        query = (await self.call("GET", path)).next_query
        for name in ("echo", "include_claimed", "include_delayed"):
            self.assertEqual("true", query[name].lower(), name)

    async def test_delayed_are_included_without_a_delay(self) -> None:
        """A queue that delays nothing shows that delayed messages are included."""
        await self.post("q", 1)
        for given in ("", "?include_delayed=false"):
            query = (await self.call("GET", PATH + given)).next_query
            self.assertEqual("true", query["include_delayed"].lower(), given)

    async def test_delayed_are_not_included_with_a_delay(self) -> None:
        """A queue that delays does not pretend so."""
        await self.create("q", _default_message_delay=10)
        await self.post("q", 1, delay=0)
        query = (await self.call("GET", PATH)).next_query
        self.assertIn(query.get("include_delayed", "false").lower(), ("false",))

    async def test_last_page(self) -> None:
        """Each page with messages has a link, the one of the last to an empty page."""
        await self.post("q", 1, 2)
        answer = await self.call("GET", f"{PATH}?limit=2")
        answer = await self.call("GET", answer.next_href)
        self.assertEqual({"messages": [], "links": []}, answer.json)

    async def test_waiting_at_the_end(self) -> None:
        """The link of the last page shows later messages once they are there."""
        await self.post("q", 1, 2)
        link = (await self.call("GET", PATH)).next_href
        await self.post("q", 3)
        messages = (await self.call("GET", link)).json["messages"]
        self.assertEqual([3], [message["body"] for message in messages])


class WalkTests(RestTestCase):
    """Following the links to the end."""

    async def _seen(self, query: str) -> list[int]:
        pages = await self.walk(f"{PATH}?{query}", "messages")
        return [message["body"] for page in pages for message in page]

    async def test_every_page_size(self) -> None:
        """Every message is seen once and in order, and the walk ends."""
        await self.post("q", *range(23))
        for limit in ("", "limit=1", "limit=7", "limit=20"):
            self.assertEqual(list(range(23)), await self._seen(limit), limit)

    async def test_hidden_ones_between(self) -> None:
        """Hidden messages neither end the walk nor make empty pages."""
        for number in range(40):
            client = CONSUMER if number % 4 else PRODUCER
            await self.post("q", number, client=client)
        self.assertEqual(list(range(0, 40, 4)), await self._seen("limit=3"))
        self.assertEqual(list(range(40)), await self._seen("limit=3&echo=true"))

    async def test_claimed_ones_between(self) -> None:
        """Claimed messages are passed over, or walked through."""
        await self.post("q", *range(5))
        await self.claim("q", limit=5)
        await self.post("q", *range(5, 9))
        self.assertEqual([5, 6, 7, 8], await self._seen("limit=2"))
        query = "limit=2&include_claimed=true"
        self.assertEqual(list(range(9)), await self._seen(query))

    async def test_deleting_what_was_read(self) -> None:
        """A reader that deletes each page reads on behind it."""
        await self.post("q", *range(9))
        path, seen = f"{PATH}?limit=2", []
        while messages := (answer := await self.call("GET", path)).json["messages"]:
            seen += [message["body"] for message in messages]
            ids = ",".join(message["id"] for message in messages)
            self.expect(await self.call("DELETE", f"{PATH}?ids={ids}"), 204)
            path = answer.next_href
        self.assertEqual(list(range(9)), seen)

    async def test_posts_meanwhile(self) -> None:
        """Messages posted during the walk come at its end."""
        await self.post("q", 0, 1, 2)
        path, seen = f"{PATH}?limit=1", []
        while messages := (answer := await self.call("GET", path)).json["messages"]:
            seen.append(messages[0]["body"])
            if len(seen) <= 3:
                await self.post("q", 2 + len(seen))
            path = answer.next_href
        self.assertEqual([0, 1, 2, 3, 4, 5], seen)


class MarkerTests(RestTestCase):
    """Markers are positions."""

    async def test_message_ids(self) -> None:
        """The id of any message leads on behind it."""
        ids = await self.post("q", *range(5))
        for place, message_id in enumerate(ids):
            found = await self.listed("q", f"marker={message_id}")
            self.assertEqual(list(range(place + 1, 5)), found)

    async def test_message_that_is_gone(self) -> None:
        """Deleted, popped and expired messages are as good markers as any."""
        (expired,) = await self.post("q", 0, ttl=60)
        ids = await self.post("q", 1, 2, 3, 4)
        self.clock.advance(60)
        await self.call("DELETE", "/v2/queues/q/messages?pop=1")
        await self.call("DELETE", f"{PATH}/{ids[2]}")
        self.assertEqual([2, 4], await self.listed("q", f"marker={expired}"))
        self.assertEqual([2, 4], await self.listed("q", f"marker={ids[0]}"))
        self.assertEqual([4], await self.listed("q", f"marker={ids[2]}"))
        self.assertEqual([], await self.listed("q", f"marker={ids[3]}"))

    async def test_hidden_message(self) -> None:
        """A message that the reader does not see is a marker too."""
        (mine,) = await self.post("q", "mine", client=CONSUMER)
        await self.post("q", "yours")
        self.assertEqual(["yours"], await self.listed("q", f"marker={mine}"))

    async def test_queue_made_again(self) -> None:
        """A marker of a deleted queue is before everything in the new one."""
        ids = await self.post("q", 1, 2)
        await self.call("DELETE", "/v2/queues/q")
        self.clock.advance(1)
        await self.post("q", 3)
        self.assertEqual([3], await self.listed("q", f"marker={ids[1]}"))

    async def test_malformed(self) -> None:
        """A marker that is none never shows a message again."""
        await self.post("q", *range(3))
        for marker in ("x", "zzz", "-1", "%27", "a%00b", "%C3%A9", "z" * 200):
            self.assertEqual([], await self.listed("q", f"marker={marker}"), marker)


class ChecksumTests(RestTestCase):
    """``enable_checksum``."""

    settings = ("enable_checksum=true",)

    VECTORS = (
        (b'{"event":"BackupStarted"}', "82eb2714b7c0237d373947c046cac78d"),
        (b'"s"', "c5b15f346c83772af77657154ff7ce3b"),
        (b"{}", "99914b932bd37a50b983c5e7c90ae93b"),
        (b'{"k":"v"}', "180e4758e293f0a9970762a970fb0dfb"),
        (b"[1, 2]", "04cd0e0151f352e7fd414d694a604136"),
        (b"[1,2]", "04cd0e0151f352e7fd414d694a604136"),
        (b" [ 1 ,\n2 ] ", "04cd0e0151f352e7fd414d694a604136"),
        (b"5.5", "ad9995c0d305d650bc1a138f32113af7"),
    )

    async def test_vectors(self) -> None:
        """The checksum is that of the body as Python writes it."""
        for body, digest in self.VECTORS:
            raw = b'{"messages": [{"body": %s}]}' % body
            answer = self.expect(await self.call("POST", PATH, raw=raw), 201)
            message = (await self.call("GET", answer.json["resources"][0])).json
            self.assertEqual(f"MD5:{digest}", message["checksum"], body)

    async def test_other_characters(self) -> None:
        """Characters beyond ASCII are summed in their escaped form."""
        await self.post("q", {"é": "😀"})
        (message,) = (await self.call("GET", PATH)).json["messages"]
        text = rb'{"\u00e9": "\ud83d\ude00"}'
        self.assertEqual(f"MD5:{md5(text).hexdigest()}", message["checksum"])

    async def test_null(self) -> None:
        """A message without a body has no checksum."""
        await self.post("q", None)
        (message,) = (await self.call("GET", PATH)).json["messages"]
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(message))

    async def test_everywhere(self) -> None:
        """Lists, claims and single messages carry it, with no other new key."""
        (message_id,) = await self.post("q", "s")
        keys = {"id", "href", "ttl", "age", "body", "checksum"}
        listed = (await self.call("GET", PATH)).json["messages"]
        by_ids = (await self.call("GET", f"{PATH}?ids={message_id}")).json["messages"]
        single = (await self.call("GET", f"{PATH}/{message_id}")).json
        claim = await self.claim("q")
        path = f"/v2/queues/q/claims/{claim.id}"
        shown = (await self.call("GET", path)).json["messages"]
        found = [*listed, *by_ids, single, *claim.messages, *shown]
        self.assertEqual([keys] * 5, [set(message) for message in found])
        self.assertEqual(1, len({message["checksum"] for message in found}))
