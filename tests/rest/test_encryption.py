"""Queues with ``_enable_encrypt_messages``."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.rest.server import PRODUCER, PoolingTestCase, RestTestCase

ENCRYPT = "_enable_encrypt_messages"

SECRET = {"card": "4711-0815", "n": [1, None, "\u00fc"]}
PART = b"4711-0815"
"""What nobody must find who looks at the files."""


def key(letter: str) -> str:
    """A key in the form of the configuration; its id is the letter."""
    return f"{letter}:{b64encode(letter.encode() * 32).decode()}"


class EncryptionTestCase(RestTestCase):
    """A service with a key."""

    settings = (f"encryption.keys={key('a')}",)

    async def encrypt(self, queue: str, is_encrypted: bool) -> None:
        """Turn encryption of a queue on or off."""
        operation = {"op": "add", "path": f"/metadata/{ENCRYPT}", "value": is_encrypted}
        self.expect(await self.patch(queue, operation), 200)

    def is_stored(self, part: bytes) -> bool:
        """Whether the files of the embedded stores hold this."""
        paths = Path(self.data_dir).iterdir()
        return any(part in path.read_bytes() for path in paths)


class ReadTests(EncryptionTestCase):
    """Whoever reads a message gets what was posted."""

    async def setUp(self) -> None:
        """Post to an encrypted queue."""
        await super().setUp()
        await self.create("q", **{ENCRYPT: True})
        (self.message_id,) = await self.post("q", SECRET)

    async def body(self, method: str, path: str, status: int = 200) -> Any:
        """The body of the one message in an answer."""
        answer = self.expect(await self.call(method, f"/v2/queues/q{path}"), status)
        document = answer.json
        messages = document.get("messages", [document])
        self.assertEqual(1, len(messages))
        return messages[0]["body"]

    async def test_by_every_way(self) -> None:
        """In a list, by ids, by id, with a claim, from the claim, and popped."""
        for path in (
            "/messages",
            f"/messages?ids={self.message_id}",
            f"/messages/{self.message_id}",
        ):
            self.assertEqual(SECRET, await self.body("GET", path))
        claim = await self.claim("q")
        self.assertEqual([SECRET], claim.bodies)
        self.assertEqual(SECRET, await self.body("GET", f"/claims/{claim.id}"))
        await self.release("q", claim.id)
        self.assertEqual(SECRET, await self.body("DELETE", "/messages?pop=1"))

    async def test_any_json(self) -> None:
        """Every JSON value comes back as it was."""
        bodies = ["", "!1:a:x", 0, False, None, [], {}, 1.5, "\u00fc" * 3000, [[1]]]
        await self.create("values", **{ENCRYPT: True})
        await self.post("values", *bodies)
        listed = await self.listed("values", "limit=20")
        self.assertEqual(bodies, listed)
        self.assertEqual(
            [type(body) for body in bodies], [type(body) for body in listed]
        )

    async def test_stats(self) -> None:
        """Numbers show nothing of the bodies."""
        answer = await self.call("GET", "/v2/queues/q/stats")
        self.assertEqual(1, answer.json["messages"]["total"])
        self.assertNotIn(b"!1:", answer.body)

    async def test_limit(self) -> None:
        """The bound on a post is for what is sent, not for what is stored."""
        await self.create("small", _max_messages_post_size=100, **{ENCRYPT: True})
        await self.post("small", "x" * 60)
        answer = await self.call(
            "POST", "/v2/queues/small/messages", json={"messages": [{"body": "x" * 90}]}
        )
        self.refused(answer, 400, "Invalid API request")

    async def test_dead_letters(self) -> None:
        """A message stays encrypted where it goes, and can be read there."""
        await self.create(
            "w", _max_claim_count=1, _dead_letter_queue="d", **{ENCRYPT: True}
        )
        await self.post("w", SECRET)
        await self.release("w", (await self.claim("w")).id)
        self.assertEqual("", (await self.claim("w")).id)
        self.assertEqual([SECRET], await self.listed("d"))

    async def test_projects(self) -> None:
        """The same queue of another project has nothing of it."""
        self.assertEqual([], await self.listed("q", project="p2"))


class ChecksumTests(EncryptionTestCase):
    """Checksums of encrypted messages."""

    settings = (*EncryptionTestCase.settings, "enable_checksum=true")

    async def test_of_the_body(self) -> None:
        """A checksum is that of the body which the client posted and reads."""
        for name, is_encrypted in (("q", True), ("plain", False)):
            await self.create(name, **{ENCRYPT: is_encrypted})
            await self.post(name, {"event": "BackupStarted"})
        for name in ("q", "plain"):
            answer = await self.call("GET", f"/v2/queues/{name}/messages")
            (message,) = answer.json["messages"]
            self.assertEqual(
                "MD5:82eb2714b7c0237d373947c046cac78d", message["checksum"], name
            )


class TurnedOnTests(EncryptionTestCase):
    """A queue that is not encrypted from the start, or not to the end."""

    async def test_mixed(self) -> None:
        """Old messages stay readable when it is turned on, and when it ends."""
        await self.create("q")
        await self.post("q", "plain")
        await self.encrypt("q", True)
        await self.post("q", SECRET)
        await self.encrypt("q", False)
        await self.post("q", "plain again")
        bodies = ["plain", SECRET, "plain again"]
        self.assertEqual(bodies, await self.listed("q"))
        self.assertEqual(bodies, (await self.claim("q")).bodies)

    async def test_dead_letters_of_a_plain_queue(self) -> None:
        """An encrypted dead-letter queue takes them encrypted, from then on."""
        await self.create("d", **{ENCRYPT: True})
        await self.create("q", _max_claim_count=1, _dead_letter_queue="d")
        await self.post("q", SECRET, ttl=600)
        await self.release("q", (await self.claim("q")).id)
        self.clock.advance(100)
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual([SECRET], await self.listed("d"))
        self.assertEqual(0, (await self.stats("q"))["total"])
        self.clock.advance(499)
        self.assertEqual([SECRET], await self.listed("d"))
        self.clock.advance(1)
        self.assertEqual([], await self.listed("d"))


class WithoutKeyTests(RestTestCase):
    """A service without a key."""

    async def test_refused(self) -> None:
        """Nothing is stored in clear against the owner's wish."""
        await self.create("q", **{ENCRYPT: True})
        answer = await self.call(
            "POST",
            "/v2/queues/q/messages",
            json={"messages": [{"body": SECRET}]},
            client=PRODUCER,
        )
        self.refused(answer, 400, "Invalid API request")
        self.assertIn(ENCRYPT, answer.json["description"])
        self.assertEqual([], await self.listed("q"))
        await self.post("other", "x")
        self.assertEqual(["x"], await self.listed("other"))


class FileTests(EncryptionTestCase):
    """What is in the files of the embedded store."""

    # Also where the rest of the suite runs on other stores.
    settings = (
        *EncryptionTestCase.settings,
        *("drivers.message_store=", "drivers.management_store="),
    )

    async def test_plain(self) -> None:
        """Without encryption anybody can read them."""
        await self.create("q")
        await self.post("q", SECRET)
        self.assertTrue(self.is_stored(PART))

    async def test_encrypted(self) -> None:
        """With it nobody can, not while messages are claimed, dead or deleted."""
        await self.create(
            "q", _max_claim_count=1, _dead_letter_queue="d", **{ENCRYPT: True}
        )
        await self.post("q", SECRET)
        self.assertTrue(self.is_stored(b"!1:a:"))
        await self.release("q", (await self.claim("q")).id)
        self.assertEqual("", (await self.claim("q")).id)
        self.assertEqual([SECRET], await self.listed("d"))
        await self.call("DELETE", "/v2/queues/d/messages?pop=1")
        self.assertFalse(self.is_stored(PART))

    async def test_dead_letters(self) -> None:
        """Letters of a plain queue are encrypted in their new queue."""
        await self.create("d", **{ENCRYPT: True})
        await self.create("q", _max_claim_count=1, _dead_letter_queue="d")
        await self.post("q", SECRET)
        await self.release("q", (await self.claim("q")).id)
        self.assertFalse(self.is_stored(b"!1:a:"))
        self.assertEqual("", (await self.claim("q")).id)
        self.assertTrue(self.is_stored(b"!1:a:"))


class RotationTests(EncryptionTestCase):
    """Services with other keys, one after the other on the same data."""

    # The data are in the directory.
    settings = FileTests.settings

    async def setUp(self) -> None:
        """Post with the first key."""
        await super().setUp()
        await self.create("q", **{ENCRYPT: True})
        await self.post("q", "old")

    async def rotate(self, *letters: str) -> None:
        """Go on with these keys."""
        keys = ",".join(key(letter) for letter in letters)
        await self.restart(f"encryption.keys={keys}")

    async def test_rotation(self) -> None:
        """A new key in front encrypts, and the old one still opens what it locked."""
        await self.rotate("b", "a")
        await self.post("q", "new")
        self.assertEqual(["old", "new"], await self.listed("q"))
        for letter in (b"a", b"b"):
            self.assertTrue(self.is_stored(b"!1:%b:" % letter))

    async def test_key_that_is_gone(self) -> None:
        """Without its key a message is not readable, and comes back with the key."""
        await self.rotate("b")
        path = "/v2/queues/q/messages"
        answer = await self.call("GET", path)
        self.refused(answer, 503, "Service temporarily unavailable")
        await self.post("q", "new")
        self.assertEqual(["new"], await self.listed("q"))
        self.assertEqual(["new"], (await self.claim("q", ttl=60)).bodies)
        await self.rotate("b", "a")
        self.clock.advance(60)
        self.assertEqual(["new", "old"], sorted(await self.listed("q")))

    async def test_no_key_any_more(self) -> None:
        """Without any key nothing is posted, and cipher text is given to nobody."""
        await self.restart()
        answer = await self.call(
            "POST", "/v2/queues/q/messages", json={"messages": [{"body": "x"}]}
        )
        self.refused(answer, 400, "Invalid API request")
        answer = await self.call("GET", "/v2/queues/q/messages")
        self.refused(answer, 503, "Service temporarily unavailable")
        self.assertNotIn(b"!1:", answer.body)


class PoolsTests(PoolingTestCase):
    """Encrypted queues in pools."""

    settings = (*PoolingTestCase.settings, *EncryptionTestCase.settings)

    async def test_in_a_pool(self) -> None:
        """What is in a pool cannot be read there."""
        await self.add_pool("a")
        await self.create("q", **{ENCRYPT: True})
        await self.post("q", SECRET)
        (stored,) = self.in_pool("a")
        self.assertTrue(stored.startswith("!1:a:"))
        self.assertNotIn(PART.decode(), stored)
        self.assertEqual([SECRET], (await self.claim("q")).bodies)

    async def test_dead_letters(self) -> None:
        """Dead letters are not to be read on their way to another pool either."""
        await self.add_flavor("f", "fast")
        await self.add_flavor("g", "slow")
        await self.create("d", _flavor="g", **{ENCRYPT: True})
        await self.create("q", _flavor="f", _max_claim_count=1, _dead_letter_queue="d")
        await self.post("q", SECRET)
        await self.release("q", (await self.claim("q")).id)
        self.assertEqual("", (await self.claim("q")).id)
        (stored,) = self.in_pool("slow", "d")
        self.assertNotIn(PART.decode(), stored)
        self.assertEqual([SECRET], await self.listed("d"))
        self.assertEqual([], self.in_pool("fast"))
