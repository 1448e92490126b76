"""Posting messages."""

from __future__ import annotations

from typing import Any

from tests.rest.server import RestTestCase, asking

PATH = "/v2/queues/q/messages"


class PostTests(RestTestCase):
    """``POST .../messages``."""

    async def test_answer(self) -> None:
        """The answer names each message by path, in posting order."""
        body = {"messages": [{"body": number, "ttl": 300} for number in range(3)]}
        answer = self.expect(await self.call("POST", PATH, json=body), 201)
        self.assertEqual({"resources"}, set(answer.json))
        hrefs = answer.json["resources"]
        ids = [href.removeprefix(f"{PATH}/") for href in hrefs]
        self.assertEqual(f"{PATH}?ids={','.join(ids)}", answer.location)
        bodies = [(await self.call("GET", href)).json["body"] for href in hrefs]
        self.assertEqual([0, 1, 2], bodies)
        for message_id in ids:
            self.assertRegex(message_id, r"\A[A-Za-z0-9._~-]+\Z")

    async def test_location_works(self) -> None:
        """The location of a post shows what was posted."""
        body = {"messages": [{"body": "a"}, {"body": "b"}]}
        answer = await self.call("POST", PATH, json=body)
        found = self.expect(await self.call("GET", answer.location), 200)
        self.assertEqual({"a", "b"}, {m["body"] for m in found.json["messages"]})

    async def test_defaults(self) -> None:
        """A message without a ttl lives an hour."""
        (message_id,) = await self.post("q", 1)
        message = (await self.call("GET", f"{PATH}/{message_id}")).json
        self.assertEqual((3600, 0), (message["ttl"], message["age"]))

    async def test_ttl_bounds(self) -> None:
        """A message lives a minute to a fortnight."""
        for ttl in (60, 1209600):
            (message_id,) = await self.post("q", 1, ttl=ttl)
            message = (await self.call("GET", f"{PATH}/{message_id}")).json
            self.assertEqual(ttl, message["ttl"])

    async def test_bad_ttl(self) -> None:
        """Any other ttl is refused."""
        bad: list[Any] = [
            *(59, 1209601, 0, -60, 2**62, None, "300", "", 300.0, 60.5, True),
            *([300], {}),
        ]
        requests = [
            asking("POST", PATH, json={"messages": [{"body": 1, "ttl": ttl}]})
            for ttl in bad
        ]
        await self.refuses(400, None, requests)

    async def test_creates_queue(self) -> None:
        """The first message makes the queue, with nothing in its metadata."""
        await self.post("q", 1)
        self.assertEqual(["q"], await self.queue_names())
        query = "/v2/queues?_default_message_ttl=3600"
        self.assertEqual([], (await self.call("GET", query)).json["queues"])

    async def test_keeps_metadata(self) -> None:
        """Posting leaves the metadata of the queue alone."""
        await self.create("q", team="a")
        await self.post("q", 1)
        self.assertEqual("a", (await self.call("GET", "/v2/queues/q")).json["team"])

    async def test_bad_documents(self) -> None:
        """Messages are a list of at least one object with a body."""
        bad: list[Any] = [
            *({}, {"messages": []}, {"messages": {}}, {"messages": None}),
            *({"messages": "x"}, {"messages": 5}, {"messages": {"body": 1}}),
            *({"messages": [{}]}, {"messages": [{"ttl": 60}]}, {"messages": [1]}),
            *({"messages": ["body"]}, {"messages": [None]}, {"messages": [[]]}),
            *({"messages": [["body"]]}, {"body": 1}, {"message": [{"body": 1}]}),
            *(["messages"], [{"body": 1}]),
        ]
        await self.refuses(400, None, [asking("POST", PATH, json=b) for b in bad])

    async def test_one_bad_message_refuses_all(self) -> None:
        """A post is accepted whole or not at all."""
        for place in range(3):
            messages: list[Any] = [{"body": number} for number in range(3)]
            messages[place] = {"body": 1, "ttl": 5}
            answer = await self.call("POST", PATH, json={"messages": messages})
            self.refused(answer, 400)
        self.assertEqual([], await self.listed("q"))

    async def test_refusal_creates_nothing(self) -> None:
        """A refused post leaves no queue behind."""
        for json in ({}, {"messages": []}, {"messages": [{"body": 1, "ttl": 1}]}):
            self.refused(await self.call("POST", PATH, json=json), 400)
        self.assertEqual([], await self.queue_names())

    async def test_other_keys(self) -> None:
        """Unknown keys of a message and of the document are ignored and not kept."""
        message = {"body": 1, "id": "x", "age": 99, "claim_id": "y", "href": 5}
        json = {"messages": [message], "links": []}
        answer = self.expect(await self.call("POST", PATH, json=json), 201)
        found = (await self.call("GET", answer.json["resources"][0])).json
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(found))
        self.assertEqual(0, found["age"])

    async def test_delay_without_delaying_queue(self) -> None:
        """A queue without a delay ignores that of a message, whatever it is."""
        for delay in (5, -1, 10000, "x", None, [], 1.5):
            await self.post("q", delay, delay=delay)
        self.assertEqual(7, len((await self.claim("q", limit=20)).messages))

    async def test_null_body(self) -> None:
        """Null is a body."""
        await self.post("q", None)
        self.assertEqual([None], await self.listed("q"))

    async def test_encryption_without_key(self) -> None:
        """What should be encrypted and cannot be is refused, never stored in clear."""
        json = {"_enable_encrypt_messages": True}
        answer = await self.call("PUT", "/v2/queues/q", json=json)
        if answer.status == 201:
            body = {"messages": [{"body": "secret"}]}
            answer = await self.call("POST", PATH, json=body)
        self.refused(answer, 400)
        self.assertEqual([], await self.listed("q"))

    async def test_many_at_once(self) -> None:
        """The number of messages in a post is not limited, their order is kept."""
        ids = await self.post("q", *range(1000))
        self.assertEqual(1000, len(set(ids)))
        pages = await self.walk(f"{PATH}?limit=20", "messages")
        found = [message["id"] for page in pages for message in page]
        self.assertEqual(ids, found)

    async def test_largest_post(self) -> None:
        """A post has 262144 bytes at most."""
        room = 262144 - len(b'{"messages": [{"body": ""}]}')
        fits = b'{"messages": [{"body": "%s"}]}' % (b"x" * room)
        answer = self.expect(await self.call("POST", PATH, raw=fits), 201)
        found = await self.call("GET", answer.json["resources"][0])
        self.assertEqual("x" * room, found.json["body"])
        await self.refuses(
            400, "Invalid API request", [asking("POST", PATH, raw=fits + b" ")]
        )

    async def test_order_over_posts(self) -> None:
        """Messages of later posts come later, whoever posts them."""
        for number in range(6):
            await self.post("q", number, client=f"{number:032x}")
        self.assertEqual(list(range(6)), await self.listed("q"))

    async def test_together(self) -> None:
        """Posts made at the same time keep the order inside of each."""
        waiting = [
            self.call_soon(
                "POST",
                PATH,
                json={"messages": [{"body": [post, n]} for n in range(3)]},
            )
            for post in range(6)
        ]
        answers = [self.expect(await answer, 201) for answer in waiting]
        pages = await self.walk(f"{PATH}?echo=true&limit=20", "messages")
        found = [message["body"] for page in pages for message in page]
        self.assertEqual(
            sorted(found), sorted([p, n] for p in range(6) for n in range(3))
        )
        for post, answer in enumerate(answers):
            self.assertEqual([0, 1, 2], [n for p, n in found if p == post])
            first = (await self.call("GET", answer.json["resources"][0])).json
            self.assertEqual([post, 0], first["body"])
