"""Requests that wait for a message: ``wait=SECONDS``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from tests.rest.answers import Answer
from tests.rest.server import CONSUMER, RestTestCase, asking

CLAIMS = "/v2/queues/q/claims"
MESSAGES = "/v2/queues/q/messages"


class WaitingTestCase(RestTestCase):
    """A service with clients that wait."""

    async def waiting(self, method: str, path: str, **options: Any) -> Deferred[Answer]:
        """A request that was not answered at once."""
        answer = self.call_soon(method, path, **options)
        await self.still_waiting(answer)
        return answer

    async def still_waiting(self, *answers: Deferred[Answer]) -> None:
        """Fail when a request was answered."""
        await self.settle()
        for answer in answers:
            self.assertFalse(answer.called, "answered instead of waiting")

    async def soon(self, answer: Deferred[Answer]) -> Answer:
        """An answer that needs no more time to pass."""
        # As long as the machine needs; trial ends a test that waits for ever.
        while not answer.called:
            await self.settle()
            # Timers that are due now and were set after the last step of the clock.
            self.clock.advance(0)
        return await answer

    async def claiming(self, wait: int = 20, **options: Any) -> Deferred[Answer]:
        """A claim that waits."""
        return await self.waiting("POST", f"{CLAIMS}?wait={wait}", **options)

    async def listing(self, query: str = "wait=20", **options: Any) -> Deferred[Answer]:
        """A list that waits."""
        return await self.waiting("GET", f"{MESSAGES}?{query}", **options)

    def bodies(self, answer: Answer) -> list[Any]:
        """The bodies of an answer that has messages."""
        self.assertIn(answer.status, (200, 201), answer)
        return [message["body"] for message in answer.json["messages"]]


class ClaimTests(WaitingTestCase):
    """Claims that wait."""

    async def test_nothing_to_wait_for(self) -> None:
        """A message that is there is claimed at once."""
        await self.post("q", 1)
        answer = await self.call("POST", f"{CLAIMS}?wait=20")
        self.assertEqual([1], self.bodies(self.expect(answer, 201)))

    async def test_no_wait(self) -> None:
        """Zero and nothing mean not to wait."""
        for query in ("?wait=0", "?wait=", ""):
            self.expect(await self.call("POST", CLAIMS + query), 204)

    async def test_post(self) -> None:
        """A post is answered to the client that waits, like any claim."""
        answer = await self.claiming(json={"ttl": 100, "grace": 60})
        self.clock.advance(5)
        await self.post("q", "x", ttl=60)
        claim = self.expect(await self.soon(answer), 201)
        (message,) = claim.json["messages"]
        self.assertEqual({"id", "href", "ttl", "age", "body"}, set(message))
        self.assertEqual(
            (160, 0, "x"), (message["ttl"], message["age"], message["body"])
        )
        shown = (await self.call("GET", claim.location)).json
        self.assertEqual((0, 100), (shown["age"], shown["ttl"]))

    async def test_post_of_several(self) -> None:
        """A client that waits gets as many as it asked for."""
        answer = await self.waiting("POST", f"{CLAIMS}?wait=20&limit=2")
        await self.post("q", 1, 2, 3)
        self.assertEqual([1, 2], self.bodies(await self.soon(answer)))

    async def test_own_post(self) -> None:
        """What the client posts itself counts."""
        answer = await self.claiming()
        await self.post("q", 1, client=CONSUMER)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_end_of_delay(self) -> None:
        """A message is claimed when its delay is over."""
        await self.create("q", _default_message_delay=5)
        await self.post("q", "before")
        answer = await self.claiming()
        self.clock.advance(4)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual(["before"], self.bodies(await self.soon(answer)))

    async def test_delayed_post(self) -> None:
        """A message that is posted meanwhile is waited for until its delay is over."""
        await self.create("q", _default_message_delay=5)
        answer = await self.claiming()
        self.clock.advance(1)
        await self.post("q", "during")
        await self.still_waiting(answer)
        self.clock.advance(4)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual(["during"], self.bodies(await self.soon(answer)))

    async def test_earlier_delay(self) -> None:
        """The earliest end of a delay counts, also of a later message."""
        await self.create("q", _default_message_delay=15)
        await self.post("q", "late")
        answer = await self.claiming()
        await self.post("q", "early", delay=3)
        await self.still_waiting(answer)
        self.clock.advance(3)
        self.assertEqual(["early"], self.bodies(await self.soon(answer)))

    async def test_end_of_delay_while_looking(self) -> None:
        """A delay that ends just while the waiting claim looks is not missed."""
        await self.create("q", _default_message_delay=3)
        answer = await self.claiming()
        await self.post("q", 1)
        self.clock.advance(3)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_expiry_of_claim(self) -> None:
        """A message is claimed when another claim expires."""
        await self.post("q", 1)
        await self.claim("q", ttl=60)
        self.clock.advance(50)
        answer = await self.claiming()
        self.clock.advance(9)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_shortened_claim(self) -> None:
        """A claim that is renewed for less time is waited for no longer than that."""
        await self.post("q", 1)
        claim = await self.claim("q", ttl=300)
        self.clock.advance(240)
        await self.call("PATCH", f"{CLAIMS}/{claim.id}", json={"ttl": 60})
        self.clock.advance(45)
        answer = await self.claiming()
        self.clock.advance(15)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_release(self) -> None:
        """A message is claimed when another claim is released."""
        await self.post("q", 1)
        claim = await self.claim("q")
        answer = await self.claiming()
        await self.release("q", claim.id)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_dead_letter(self) -> None:
        """A message is claimed when it arrives as a dead letter."""
        await self.create("q", _max_claim_count=1, _dead_letter_queue="d")
        await self.post("q", "x")
        claim = await self.claim("q")
        await self.release("q", claim.id)
        answer = await self.waiting("POST", "/v2/queues/d/claims?wait=20")
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual(["x"], self.bodies(await self.soon(answer)))

    async def test_nothing_came(self) -> None:
        """When the time is over the answer is the ordinary empty one."""
        answer = await self.claiming(5)
        self.clock.advance(4)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual(b"", self.expect(await self.soon(answer), 204).body)
        self.assertEqual([], await self.queue_names())

    async def test_nothing_came_to_several(self) -> None:
        """Each of several clients is answered when its own time is over."""
        answers = {at: await self.claiming(wait) for at, wait in enumerate((9, 5, 7))}
        for seconds, next_one in ((5, 1), (2, 2), (2, 0)):
            await self.still_waiting(*answers.values())
            self.clock.advance(seconds)
            self.expect(await self.soon(answers.pop(next_one)), 204)

    async def test_longest(self) -> None:
        """One may wait for twenty seconds."""
        answer = await self.claiming(20)
        self.clock.advance(19)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.expect(await self.soon(answer), 204)

    async def test_other_posts(self) -> None:
        """Messages of other queues, topics and projects wake nobody."""
        answer = await self.claiming()
        await self.post("other", 1)
        await self.post("q", 1, project="p2")
        await self.post("q", 1, kind="topics")
        await self.still_waiting(answer)
        await self.post("q", 2)
        self.assertEqual([2], self.bodies(await self.soon(answer)))

    async def test_several_clients(self) -> None:
        """One message goes to one of those who wait, the others go on waiting."""
        answers = [await self.claiming() for _ in range(3)]
        await self.post("q", 1)
        await DeferredList(answers, fireOnOneCallback=True)
        await self.settle()
        answered = [answer for answer in answers if answer.called]
        self.assertEqual(1, len(answered))
        self.assertEqual([1], self.bodies(await self.soon(answered[0])))
        await self.post("q", *range(2, 40))
        taken = [
            self.bodies(await self.soon(a)) for a in answers if a is not answered[0]
        ]
        self.assertEqual(20, len({body for bodies in taken for body in bodies}))

    async def test_deleted_queue(self) -> None:
        """A client goes on waiting when its queue is deleted and made again."""
        await self.create("q")
        answer = await self.claiming()
        await self.call("DELETE", "/v2/queues/q")
        await self.create("q")
        await self.still_waiting(answer)
        await self.post("q", 1)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_hanging_up(self) -> None:
        """Whoever hangs up waits no longer: its message stays for others."""
        connection = await self.connect()
        lines = [
            *(f"POST {CLAIMS}?wait=20 HTTP/1.1", "Host: localhost"),
            *("Client-ID: " + "a" * 32, "X-Project-ID: p1", "Content-Length: 0"),
        ]
        connection.send("\r\n".join([*lines, "", ""]).encode())
        await self.settle()
        self.assertFalse(connection.has_answer())
        connection.hang_up()
        await self.settle()
        await self.post("q", 1)
        await self.settle()
        self.assertEqual({"claimed": 0, "free": 1, "total": 1}, await self.stats("q"))
        self.assertEqual([1], (await self.claim("q")).bodies)

    async def test_behind_a_pipeline(self) -> None:
        """A request behind one that waits is answered after it."""
        connection = await self.connect()
        for path in (f"{CLAIMS}?wait=20", "/v2/queues/q/purge"):
            lines = [f"POST {path} HTTP/1.1", "Host: localhost", "X-Project-ID: p1"]
            lines += ["Client-ID: " + "a" * 32, "Content-Length: 0", "", ""]
            connection.send("\r\n".join(lines).encode())
        await self.settle()
        self.assertFalse(connection.has_answer())
        await self.post("q", 1)
        statuses = [(await connection.answer()).status for _ in range(2)]
        self.assertEqual([201, 204], statuses)


class ListTests(WaitingTestCase):
    """Lists that wait."""

    async def test_nothing_to_wait_for(self) -> None:
        """Messages that are there are listed at once."""
        await self.post("q", 1)
        answer = self.expect(await self.call("GET", f"{MESSAGES}?wait=20"), 200)
        self.assertEqual([1], self.bodies(answer))

    async def test_no_wait(self) -> None:
        """Zero and nothing mean not to wait."""
        for query in ("wait=0", "wait="):
            self.assertEqual([], await self.listed("q", query))

    async def test_post(self) -> None:
        """A post is shown to those who wait, to all of them."""
        answers = [await self.listing() for _ in range(3)]
        await self.post("q", 1, 2)
        for answer in answers:
            found = self.expect(await self.soon(answer), 200)
            self.assertEqual([1, 2], self.bodies(found))
            self.assertTrue(found.next_href.startswith(f"{MESSAGES}?"))

    async def test_own_post(self) -> None:
        """What the reader posts itself wakes it only if it asked for that."""
        hidden = await self.listing()
        shown = await self.listing("wait=20&echo=true")
        await self.post("q", "mine", client=CONSUMER)
        self.assertEqual(["mine"], self.bodies(await self.soon(shown)))
        await self.still_waiting(hidden)
        await self.post("q", "yours")
        self.assertEqual(["yours"], self.bodies(await self.soon(hidden)))

    async def test_marker(self) -> None:
        """Behind the last message one waits for the next."""
        await self.post("q", 1, 2)
        link = (await self.call("GET", MESSAGES)).next_href
        answer = await self.waiting("GET", f"{link}&wait=20")
        await self.post("q", 3)
        self.assertEqual([3], self.bodies(await self.soon(answer)))

    async def test_end_of_delay(self) -> None:
        """A message is listed when its delay is over."""
        await self.create("q", _default_message_delay=5)
        await self.post("q", 1)
        answer = await self.listing()
        self.clock.advance(4)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_end_of_delay_while_looking(self) -> None:
        """A delay that ends just while the waiting list looks is not missed."""
        await self.create("q", _default_message_delay=3)
        answer = await self.listing()
        await self.post("q", 1)
        self.clock.advance(3)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_delayed_on_request(self) -> None:
        """Who wants delayed messages waits for their post only."""
        await self.create("q", _default_message_delay=5)
        answer = await self.listing("wait=20&include_delayed=true")
        await self.post("q", 1)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_expiry_of_claim(self) -> None:
        """A message is listed when its claim expires."""
        await self.post("q", 1)
        await self.claim("q", ttl=60)
        self.clock.advance(50)
        answer = await self.listing()
        self.clock.advance(9)
        await self.still_waiting(answer)
        self.clock.advance(1)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_release(self) -> None:
        """A message is listed when its claim is released."""
        await self.post("q", 1)
        claim = await self.claim("q")
        answer = await self.listing()
        await self.release("q", claim.id)
        self.assertEqual([1], self.bodies(await self.soon(answer)))

    async def test_dead_letter(self) -> None:
        """A message is listed when it arrives as a dead letter."""
        await self.create("q", _max_claim_count=1, _dead_letter_queue="d")
        await self.post("q", "x")
        claim = await self.claim("q")
        await self.release("q", claim.id)
        answer = await self.waiting("GET", "/v2/queues/d/messages?wait=20")
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual(["x"], self.bodies(await self.soon(answer)))

    async def test_nothing_came(self) -> None:
        """When the time is over the answer is the ordinary empty list."""
        answer = await self.listing("wait=5")
        self.clock.advance(4)
        await self.still_waiting(answer)
        self.clock.advance(1)
        found = self.expect(await self.soon(answer), 200).json
        self.assertEqual({"messages": [], "links": []}, found)

    async def test_topic(self) -> None:
        """Readers of a topic wait as well."""
        answer = await self.waiting("GET", "/v2/topics/t/messages?wait=20")
        await self.post("t", 1)
        await self.still_waiting(answer)
        await self.post("t", 2, kind="topics")
        self.assertEqual([2], self.bodies(await self.soon(answer)))

    async def test_claimer_and_reader(self) -> None:
        """A message that one claims is not promised to one who reads."""
        reader = await self.listing("wait=20&include_claimed=true")
        claimer = await self.claiming()
        await self.post("q", 1)
        self.assertEqual([1], self.bodies(await self.soon(claimer)))
        self.assertEqual([1], self.bodies(await self.soon(reader)))

    async def test_by_ids(self) -> None:
        """Messages asked for by id are not waited for."""
        path = f"{MESSAGES}?ids={'0' * 24}&wait=20"
        await self.refuses(404, "Not found", [asking("GET", path)])


class ValueTests(WaitingTestCase):
    """What may be waited."""

    async def test_out_of_bounds(self) -> None:
        """The time is 0 to 20 seconds."""
        requests = [
            asking(method, f"{path}?wait={seconds}")
            for method, path in (("POST", CLAIMS), ("GET", MESSAGES))
            for seconds in (-1, 21, 3600, 10**30)
        ]
        await self.refuses(400, "Invalid API request", requests)

    async def test_no_integers(self) -> None:
        """The time is a whole number."""
        requests = [
            asking(method, f"{path}?wait={text}")
            for method, path in (("POST", CLAIMS), ("GET", MESSAGES))
            for text in ("x", "1.5", "1s", "true", "None")
        ]
        await self.refuses(400, "Invalid parameter", requests)

    async def test_refused_before_waiting(self) -> None:
        """A bad request is refused at once."""
        requests = [asking("POST", f"{CLAIMS}?wait=20", json={"ttl": 1})]
        requests.append(asking("GET", f"{MESSAGES}?wait=20&limit=0"))
        await self.refuses(400, None, requests)
