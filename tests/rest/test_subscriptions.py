"""Subscriptions: making, listing, changing and confirming them."""

from __future__ import annotations

from typing import Any

from tests.rest.answers import Answer
from tests.rest.server import RestTestCase, asking
from tests.rest.test_metadata import BAD_POLICIES
from tests.rest.test_share import sign

PATH = "/v2/queues/q/subscriptions"
SUBSCRIBER = "http://trigger.me"
NOBODY = "0" * 24


class CreateTests(RestTestCase):
    """``POST .../subscriptions``."""

    async def _post(self, **body: Any) -> Answer:
        return await self.call("POST", PATH, json=body)

    async def test_answer(self) -> None:
        """The answer is the id, the location the collection."""
        answer = self.expect(await self._post(subscriber=SUBSCRIBER), 201)
        self.assertEqual(PATH, answer.location)
        self.assertEqual({"subscription_id"}, set(answer.json))
        subscription_id = answer.json["subscription_id"]
        self.assertRegex(subscription_id, r"\A[A-Za-z0-9._~-]+\Z")
        shown = self.expect(await self.call("GET", f"{PATH}/{subscription_id}"), 200)
        expected = {
            "id": subscription_id,
            "source": "q",
            "subscriber": SUBSCRIBER,
            "ttl": 3600,
            "age": 0,
            "options": {},
            "confirmed": False,
        }
        self.assertEqual(expected, shown.json)

    async def test_everything(self) -> None:
        """Time to live and options are kept as given."""
        options = {"post_data": "x", "post_headers": {"A": "b"}, "mine": [1, None]}
        subscription_id = await self.subscribe(
            "q", SUBSCRIBER, ttl=600, options=options
        )
        self.clock.advance(3)
        shown = (await self.call("GET", f"{PATH}/{subscription_id}")).json
        self.assertEqual((600, 3), (shown["ttl"], shown["age"]))
        self.assertEqual(options, shown["options"])

    async def test_schemes(self) -> None:
        """Web addresses and mail addresses are subscribers, in any case."""
        subscribers = [
            *("http://a.example/x?y=z", "https://a.example:8443/", "HTTP://b.example"),
            *("mailto:somebody@example.org", "mailto:a@b.example?subject=Hello"),
        ]
        for subscriber in subscribers:
            self.expect(await self._post(subscriber=subscriber), 201)

    async def test_bad_subscribers(self) -> None:
        """A subscriber is a text with a scheme that is offered."""
        bad: list[Any] = [
            *("", "trigger.me", "ftp://a.example", "://x", None, 5, [], {}, True),
            *("gopher:x", " ", "trust+ftp://a.example", ["http://a.example"]),
        ]
        requests = [asking("POST", PATH, json={"subscriber": s}) for s in bad]
        requests += [asking("POST", PATH, json=json) for json in ({}, {"ttl": 60})]
        await self.refuses(400, None, requests)

    async def test_scheme_is_explained(self) -> None:
        """The refusal of a scheme says that it must be on the list."""
        answer = await self._post(subscriber="ftp://a.example")
        self.assertIn("must be supported in the list", answer.json["description"])

    async def test_ttl(self) -> None:
        """A ttl is a minute or more, up to the end of the calendar."""
        for number, ttl in enumerate((60, 10**9)):
            await self.subscribe("q", f"http://t.example/{number}", ttl=ttl)
        bad: list[Any] = [59, 0, -60, "600", "", None, 600.0, [], True, 10**12, 2**62]
        requests = [
            asking("POST", PATH, json={"subscriber": SUBSCRIBER, "ttl": ttl})
            for ttl in bad
        ]
        await self.refuses(400, None, requests)

    async def test_options(self) -> None:
        """Options are an object with a sound retry policy."""
        bad: list[Any] = [5, "x", True, [1], ["a"]]
        bad += [{"_retry_policy": policy} for policy in [*BAD_POLICIES, 5, "x", [1]]]
        requests = [
            asking("POST", PATH, json={"subscriber": SUBSCRIBER, "options": options})
            for options in bad
        ]
        await self.refuses(400, None, requests)

    async def test_other_keys(self) -> None:
        """Unknown keys, and those that are not the caller's to set, are ignored."""
        answer = await self._post(
            subscriber=SUBSCRIBER, confirmed=True, id="x", source="other", age=9, x=1
        )
        subscription_id = self.expect(answer, 201).json["subscription_id"]
        shown = (await self.call("GET", f"{PATH}/{subscription_id}")).json
        found = (shown["confirmed"], shown["source"], shown["age"], shown["id"])
        self.assertEqual((False, "q", 0, subscription_id), found)
        self.assertNotIn("x", shown)

    async def test_makes_the_queue(self) -> None:
        """The first subscription makes the queue; a refused one does not."""
        self.refused(await self._post(subscriber="ftp://x"), 400)
        self.refused(await self._post(subscriber=SUBSCRIBER, ttl=1), 400)
        self.assertEqual([], await self.queue_names())
        await self.subscribe("q", SUBSCRIBER)
        self.assertEqual(["q"], await self.queue_names())

    async def test_again(self) -> None:
        """The same subscriber again is the same subscription, unchanged."""
        first = await self.subscribe("q", SUBSCRIBER, ttl=600, options={"a": 1})
        self.clock.advance(5)
        again = await self.subscribe("q", SUBSCRIBER, ttl=60, options={"b": 1})
        self.assertEqual(first, again)
        shown = (await self.call("GET", f"{PATH}/{first}")).json
        self.assertEqual(
            (600, 5, {"a": 1}), tuple(shown[k] for k in ("ttl", "age", "options"))
        )

    async def test_again_when_confirmed(self) -> None:
        """The same subscriber again is a conflict once it is confirmed."""
        first = await self.subscribe("q", SUBSCRIBER)
        path = f"{PATH}/{first}/confirm"
        self.expect(await self.call("PUT", path, json={"confirmed": True}), 204)
        answer = await self._post(subscriber=SUBSCRIBER)
        self.refused(answer, 409, "Resource conflict")
        self.assertTrue(answer.location.startswith(PATH), answer.location)

    async def test_again_when_expired(self) -> None:
        """A subscriber whose subscription expired gets a new one at once."""
        first = await self.subscribe("q", SUBSCRIBER, ttl=60)
        self.clock.advance(60)
        self.assertNotEqual(first, await self.subscribe("q", SUBSCRIBER))

    async def test_other_queue(self) -> None:
        """One subscriber may have several queues."""
        first = await self.subscribe("q", SUBSCRIBER)
        self.assertNotEqual(first, await self.subscribe("other", SUBSCRIBER))


class GetTests(RestTestCase):
    """``GET`` and ``DELETE`` of one subscription."""

    async def test_missing(self) -> None:
        """Unknown, malformed, deleted and expired ones are not found."""
        expired = await self.subscribe("q", "http://a.example", ttl=60)
        deleted = await self.subscribe("q", "http://b.example")
        other = await self.subscribe("other", "http://c.example")
        await self.call("DELETE", f"{PATH}/{deleted}")
        self.clock.advance(60)
        ids = [expired, deleted, other, NOBODY, "x", "%C3%A9", "a%00", "f" * 300]
        requests = [asking("GET", f"{PATH}/{i}") for i in ids]
        requests += [asking("PATCH", f"{PATH}/{i}", json={"ttl": 60}) for i in ids]
        confirm = {"confirmed": True}
        requests += [asking("PUT", f"{PATH}/{i}/confirm", json=confirm) for i in ids]
        await self.refuses(404, "Not found", requests)

    async def test_expiry(self) -> None:
        """A subscription is there until its ttl is reached."""
        subscription_id = await self.subscribe("q", SUBSCRIBER, ttl=60)
        path = f"{PATH}/{subscription_id}"
        self.clock.advance(59)
        self.assertEqual(59, self.expect(await self.call("GET", path), 200).json["age"])
        self.clock.advance(1)
        await self.refuses(404, "Not found", [asking("GET", path)])
        self.assertEqual([], (await self.call("GET", PATH)).json["subscriptions"])

    async def test_delete(self) -> None:
        """A subscription is deleted, as is one that is not there."""
        subscription_id = await self.subscribe("q", SUBSCRIBER)
        for name in (subscription_id, subscription_id, NOBODY, "x", "%C3%A9"):
            answer = self.expect(await self.call("DELETE", f"{PATH}/{name}"), 204)
            self.assertEqual(b"", answer.body)
        self.assertEqual([], (await self.call("GET", PATH)).json["subscriptions"])

    async def test_delete_through_other_queue(self) -> None:
        """A subscription is not deleted through another queue."""
        subscription_id = await self.subscribe("q", SUBSCRIBER)
        await self.call("DELETE", f"/v2/queues/other/subscriptions/{subscription_id}")
        self.expect(await self.call("GET", f"{PATH}/{subscription_id}"), 200)


class ListTests(RestTestCase):
    """``GET .../subscriptions``."""

    async def _fill(self, number: int) -> list[str]:
        ids = []
        for at in range(number):
            ids.append(await self.subscribe("q", f"http://t.example/{at}"))
            self.clock.advance(1)
        return ids

    async def test_empty(self) -> None:
        """No subscriptions are an empty list."""
        answer = self.expect(await self.call("GET", PATH), 200)
        self.assertEqual({"subscriptions": [], "links": []}, answer.json)
        self.assertEqual([], await self.queue_names())

    async def test_entries(self) -> None:
        """An entry looks like the single subscription."""
        (subscription_id,) = await self._fill(1)
        single = (await self.call("GET", f"{PATH}/{subscription_id}")).json
        answer = await self.call("GET", PATH)
        self.assertEqual({"subscriptions", "links"}, set(answer.json))
        self.assertEqual([single], answer.json["subscriptions"])

    async def test_link(self) -> None:
        """A page leads on from its last id, with the limit if there was one."""
        ids = sorted(await self._fill(3))
        answer = await self.call("GET", f"{PATH}?limit=2")
        self.assertTrue(answer.next_href.startswith(f"{PATH}?"), answer)
        self.assertEqual({"limit": "2", "marker": ids[1]}, answer.next_query)
        answer = await self.call("GET", PATH)
        self.assertEqual({"marker": ids[2]}, answer.next_query)

    async def test_walk(self) -> None:
        """The links visit every subscription once, by id."""
        ids = sorted(await self._fill(13))
        for query, sizes in (
            ("", [10, 3]),
            ("?limit=5", [5, 5, 3]),
            ("?limit=20", [13]),
        ):
            pages = await self.walk(PATH + query, "subscriptions")
            self.assertEqual(sizes, [len(page) for page in pages])
            self.assertEqual(ids, [s["id"] for page in pages for s in page])

    async def test_marker_that_is_gone(self) -> None:
        """A deleted subscription is still a place to go on from."""
        ids = sorted(await self._fill(3))
        await self.call("DELETE", f"{PATH}/{ids[1]}")
        answer = await self.call("GET", f"{PATH}?marker={ids[1]}")
        self.assertEqual([ids[2]], [s["id"] for s in answer.json["subscriptions"]])

    async def test_limits(self) -> None:
        """A page has 1 to 20 subscriptions."""
        requests = [asking("GET", f"{PATH}?limit={n}") for n in (0, -1, 21)]
        await self.refuses(400, "Invalid API request", requests)
        await self.refuses(400, "Invalid parameter", [asking("GET", f"{PATH}?limit=x")])

    async def test_other_queues(self) -> None:
        """Subscriptions of other queues are not shown."""
        await self.subscribe("q.a", SUBSCRIBER)
        await self.subscribe("qq", SUBSCRIBER)
        self.assertEqual([], (await self.call("GET", PATH)).json["subscriptions"])


class ChangeTests(RestTestCase):
    """``PATCH .../subscriptions/{id}``."""

    async def setUp(self) -> None:
        """Make one subscription."""
        await super().setUp()
        self.subscription_id = await self.subscribe(
            "q", SUBSCRIBER, ttl=600, options={"a": 1}
        )
        self.path = f"{PATH}/{self.subscription_id}"

    async def _shown(self) -> Any:
        return self.expect(await self.call("GET", self.path), 200).json

    async def _change(self, **body: Any) -> Answer:
        return await self.call("PATCH", self.path, json=body)

    async def _confirm(self) -> None:
        path = f"{self.path}/confirm"
        self.expect(await self.call("PUT", path, json={"confirmed": True}), 204)

    async def test_answer(self) -> None:
        """The answer is the place of the subscription."""
        answer = self.expect(await self._change(options={"b": 2}), 204)
        self.assertEqual((self.path, b""), (answer.location, answer.body))
        shown = await self._shown()
        self.assertEqual(
            ({"b": 2}, SUBSCRIBER), (shown["options"], shown["subscriber"])
        )

    async def test_ttl(self) -> None:
        """A new ttl counts from now."""
        self.clock.advance(100)
        self.expect(await self._change(ttl=60), 204)
        shown = await self._shown()
        self.assertEqual((60, 0), (shown["ttl"], shown["age"]))
        self.clock.advance(60)
        await self.refuses(404, "Not found", [asking("GET", self.path)])

    async def test_age_goes_on(self) -> None:
        """A change of anything else leaves the age alone."""
        self.clock.advance(100)
        self.expect(
            await self._change(options={}, subscriber="http://new.example"), 204
        )
        shown = await self._shown()
        self.assertEqual((600, 100), (shown["ttl"], shown["age"]))

    async def test_new_subscriber(self) -> None:
        """A new subscriber has to confirm anew."""
        await self._confirm()
        self.expect(await self._change(subscriber="http://new.example"), 204)
        shown = await self._shown()
        self.assertEqual("http://new.example", shown["subscriber"])
        self.assertIs(False, shown["confirmed"])

    async def test_confirmation_stays(self) -> None:
        """A change of options or ttl leaves a confirmation alone."""
        await self._confirm()
        self.expect(await self._change(ttl=700, options={}), 204)
        self.assertIs(True, (await self._shown())["confirmed"])

    async def test_taken_subscriber(self) -> None:
        """A subscriber that the queue has already is a conflict."""
        await self.subscribe("q", "http://other.example")
        answer = await self._change(subscriber="http://other.example")
        self.refused(answer, 409, "Resource conflict")
        self.assertEqual(SUBSCRIBER, (await self._shown())["subscriber"])

    async def test_freed_subscriber(self) -> None:
        """The subscriber that was given up may subscribe again."""
        self.expect(await self._change(subscriber="http://new.example"), 204)
        self.assertNotEqual(self.subscription_id, await self.subscribe("q", SUBSCRIBER))

    async def test_unusable(self) -> None:
        """A change names something that can be changed, and nothing that cannot."""
        bad: list[Any] = [
            *({"unknown": 1}, {"ttl": None}, {"subscriber": None, "options": None}),
            *({"source": "x", "ttl": 60}, {"queue": "x", "ttl": 60}),
            *({"project": "x", "ttl": 60}, {"subscription_id": "x", "ttl": 60}),
        ]
        requests = [asking("PATCH", self.path, json=body) for body in bad]
        await self.refuses(400, "Unable to update subscription", requests)
        self.assertEqual(600, (await self._shown())["ttl"])

    async def test_bad(self) -> None:
        """Values are checked as at creation."""
        bad: list[Any] = [
            *({}, {"ttl": 59}, {"ttl": "60"}, {"ttl": 0}, {"ttl": 10**12}),
            *({"subscriber": ""}, {"subscriber": "ftp://x"}, {"subscriber": 5}),
            *({"options": 5}, {"options": "x"}, {"options": [1]}),
            {"options": {"_retry_policy": {"minimum_delay": "x"}}},
        ]
        requests = [asking("PATCH", self.path, json=body) for body in bad]
        requests += [asking("PATCH", self.path, raw=raw) for raw in (b"{", b"")]
        await self.refuses(400, None, requests)
        self.assertEqual(SUBSCRIBER, (await self._shown())["subscriber"])

    async def test_not_an_object(self) -> None:
        """A change is an object, and the refusal says so."""
        for body in ([], [1], ["ttl"]):
            answer = await self.call("PATCH", self.path, json=body)
            self.refused(answer, 400)
            self.assertIn("Subscriptions must be a dict.", answer.json["description"])

    async def test_other_keys(self) -> None:
        """Unknown keys beside good ones are ignored."""
        self.expect(await self._change(ttl=70, unknown=1), 204)
        self.assertEqual(70, (await self._shown())["ttl"])


class ConfirmTests(RestTestCase):
    """``PUT .../subscriptions/{id}/confirm``."""

    async def setUp(self) -> None:
        """Make one subscription."""
        await super().setUp()
        self.subscription_id = await self.subscribe("q", SUBSCRIBER)
        self.path = f"{PATH}/{self.subscription_id}/confirm"

    async def _confirmed(self) -> Any:
        answer = await self.call("GET", f"{PATH}/{self.subscription_id}")
        return self.expect(answer, 200).json["confirmed"]

    async def test_both_ways(self) -> None:
        """A subscription is confirmed and taken back, as often as one likes."""
        for confirmed in (True, True, False, False, True):
            answer = await self.call("PUT", self.path, json={"confirmed": confirmed})
            self.expect(answer, 204)
            self.assertEqual((self.path, b""), (answer.location, answer.body))
            self.assertIs(confirmed, await self._confirmed())

    async def test_bad_values(self) -> None:
        """The value is exactly true or false, and the refusal says so."""
        bad: list[Any] = [1, 0, "true", "", None, [], {}, [True]]
        for value in bad:
            answer = await self.call("PUT", self.path, json={"confirmed": value})
            self.refused(answer, 400)
            text = "The 'confirmed' should be boolean."
            self.assertEqual(text, answer.json["description"], value)
        self.assertIs(False, await self._confirmed())

    async def test_bad_bodies(self) -> None:
        """The body is an object with that key."""
        requests = [asking("PUT", self.path, raw=raw) for raw in (b"", b"{", b"{}")]
        await self.refuses(400, None, requests)
        await self.refuses(
            400,
            "Unable to confirm subscription",
            [asking("PUT", self.path, json=json) for json in ([], [True])],
        )

    async def test_other_queue(self) -> None:
        """A subscription is not confirmed through another queue or as a topic's."""
        await self.create("other")
        confirm = {"confirmed": True}
        paths = [
            self.path.replace("/q/", "/other/"),
            self.path.replace("queue", "topic"),
        ]
        requests = [asking("PUT", path, json=confirm) for path in paths]
        await self.refuses(404, "Not found", requests)
        self.assertIs(False, await self._confirmed())

    async def test_post(self) -> None:
        """Confirming is no POST."""
        await self.refuses(
            405, "405 Method Not Allowed", [asking("POST", self.path, json={})]
        )

    async def test_time_goes_on(self) -> None:
        """Confirming does not make a subscription live longer."""
        self.clock.advance(100)
        await self.call("PUT", self.path, json={"confirmed": True})
        answer = await self.call("GET", f"{PATH}/{self.subscription_id}")
        self.assertEqual((3600, 100), (answer.json["ttl"], answer.json["age"]))


class SignedConfirmTests(RestTestCase):
    """Confirming with a signature instead of credentials."""

    settings = ("signed_url.secret_key=secretkey",)

    async def test_signature(self) -> None:
        """A signed path confirms and takes back its own subscription and no other."""
        first = await self.subscribe("q", "http://a.example")
        second = await self.subscribe("q", "http://b.example")
        path = f"{PATH}/{first}/confirm"
        expires = "2027-01-15T09:00:00"
        headers = {
            "URL-Signature": sign(path, "PUT", expires),
            "URL-Methods": "PUT",
            "URL-Paths": path,
            "URL-Expires": expires,
        }
        for confirmed in (True, False, True):
            json = {"confirmed": confirmed}
            answer = await self.call("PUT", path, json=json, headers=headers)
            self.expect(answer, 204)
        requests = [
            asking("PUT", f"{PATH}/{second}/confirm", json=json, headers=headers),
            asking("PUT", path, json=json, headers=headers, project="p2"),
            asking("GET", f"{PATH}/{first}", headers=headers),
        ]
        await self.refuses(404, "404 Not Found", requests)
        self.clock.advance(3600)
        await self.refuses(
            404,
            "404 Not Found",
            [asking("PUT", path, json=json, headers=headers)],
        )
