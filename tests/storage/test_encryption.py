"""Bodies in the store that nobody can read without the key."""

from __future__ import annotations

import base64
import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqsvc.messaging.errors import StoreUnavailable, UnreadableMessage
from mqsvc.messaging.model import (
    Claim,
    DeadLetterRule,
    Destination,
    Kind,
    Message,
    NewMessage,
    Posting,
    Selection,
    Stats,
)
from mqsvc.storage.encryption import ROUNDS, Encryption
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.sealing import CannotUnseal, Keys, parse_keys
from mqsvc.storage.stages import MessageFilter
from tests.messaging.stores import Watched, open_messages
from tests.storage.bytes_contract import StoredBytesTests
from tests.storage.contract import make_store_tests
from tests.storage.test_pools import open_inline

QUEUE = Destination("p", Kind.QUEUE, "q")
GRAVE = Destination("p", Kind.QUEUE, "grave")
ELSEWHERE = Destination("other", Kind.QUEUE, "q")
NOW = 1_800_000_000_000

OLD, NEW = b"o" * 32, b"n" * 32


class EncryptAll(MessageFilter):
    """Asks for encryption of each message."""

    def on_post(self, destination: Destination, message: NewMessage) -> NewMessage:
        """Ask for it."""
        return replace(message, encrypt=True)

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Numbers, with the oldest and newest message as they are read."""
        return Deferred.fromCoroutine(self._stats(destination, now))

    async def _stats(self, destination: Destination, now: int) -> Stats:
        stats = await super().stats(destination, now)
        ends = {"oldest": stats.oldest, "newest": stats.newest}
        for name, end in ends.items():
            if end is not None:
                (ends[name],) = await self.get(destination, [end.id], now)
        return replace(stats, **ends)


def open_store(testcase: TestCase, path: str | None = None) -> IMessageStore:
    """A store in which every body is encrypted."""
    inner = open_inline(path or testcase.mktemp())
    return EncryptAll(Encryption(inner, Keys({"k": NEW})))


globals().update(
    {
        name: case
        for name, case in make_store_tests(
            # A sealed body is longer than the one that was posted.
            *("Encrypted", open_store),
            without=[StoredBytesTests],
        ).items()
        # What is taken out of a store and put into another one stays encrypted.
        if not name.endswith(("StoredTests", "RestoreTests", "RestartTests"))
    }
)


class SealingTests(SynchronousTestCase):
    """Keys and sealed bodies."""

    @given(body=st.binary(), project=st.text())
    def test_back(self, body: bytes, project: str) -> None:
        """What was sealed comes back, and is nowhere to be seen."""
        keys = Keys({"k": NEW})
        text = keys.seal(project, body)
        self.assertRegex(text, rb"\A!1:k:[A-Za-z0-9+/]+=*\Z")
        self.assertEqual(body, keys.unseal(project, text))

    def test_project_of_odd_text(self) -> None:
        """A project may be any text that a client can send."""
        keys = Keys({"k": NEW})
        for project in ("", "\ud800", "\0", "\U0001f4ec"):
            self.assertEqual(b"1", keys.unseal(project, keys.seal(project, b"1")))

    def test_never_alike(self) -> None:
        """The same body is sealed differently each time."""
        keys = Keys({"k": NEW})
        self.assertEqual(100, len({keys.seal("p", b"1") for _ in range(100)}))

    def test_nonces(self) -> None:
        """Each body takes a nonce of its own from where they come from."""
        asked: list[int] = []
        numbers = itertools.count()

        def random_bytes(size: int) -> bytes:
            asked.append(size)
            return next(numbers).to_bytes(size, "big")

        keys = Keys({"k": NEW}, random_bytes)
        texts = [keys.seal("p", b"1") for _ in range(3)]
        self.assertEqual([12, 12, 12], asked)
        sealed = [base64.b64decode(text.rpartition(b":")[2]) for text in texts]
        self.assertEqual(
            [0, 1, 2], [int.from_bytes(each[:12], "big") for each in sealed]
        )

    def test_rotation(self) -> None:
        """The first key seals; all of them unseal."""
        old, both = Keys({"old": OLD}), Keys({"new": NEW, "old": OLD})
        self.assertTrue(both.seal("p", b"1").startswith(b"!1:new:"))
        self.assertEqual(b"1", both.unseal("p", old.seal("p", b"1")))
        with self.assertRaises(CannotUnseal):
            old.unseal("p", both.seal("p", b"1"))

    def test_another_project(self) -> None:
        """A body that was moved to another project cannot be read there."""
        keys = Keys({"k": NEW})
        with self.assertRaises(CannotUnseal):
            keys.unseal("other", keys.seal("p", b"1"))

    def test_another_key_of_that_name(self) -> None:
        """A key that only has the same id does not fit."""
        with self.assertRaises(CannotUnseal):
            Keys({"k": OLD}).unseal("p", Keys({"k": NEW}).seal("p", b"1"))

    def test_damage(self) -> None:
        """Any change of any part is noticed."""
        keys = Keys({"k": NEW})
        text = keys.seal("p", b"body")
        for place in range(len(text)):
            if text[place] in b"=":
                continue
            other = b"A" if text[place : place + 1] != b"A" else b"Q"
            damaged = text[:place] + other + text[place + 1 :]
            with self.assertRaises(CannotUnseal, msg=damaged):
                keys.unseal("p", damaged)

    @given(text=st.binary())
    def test_anything(self, text: bytes) -> None:
        """Whatever begins like a sealed body is read or refused, without its text."""
        for prefix in (b"!", b"!1:k:", b"!2:k:", b"!1:"):
            with self.assertRaises(CannotUnseal):
                Keys({"k": NEW}).unseal("p", prefix + text)

    def test_what_is_said(self) -> None:
        """The reason names the key and nothing else of the body."""
        text = Keys({"new": NEW}).seal("p", b"secret")
        with self.assertRaises(CannotUnseal) as caught:
            Keys({}).unseal("p", text)
        self.assertEqual("there is no key 'new'", str(caught.exception))
        with self.assertRaises(CannotUnseal) as caught:
            Keys({}).unseal("p", b'!{"no": "key", "secret": 1}:')
        self.assertEqual("there is no key '?'", str(caught.exception))

    def test_without_keys(self) -> None:
        """Without a key nothing can be sealed."""
        self.assertFalse(Keys({}).can_seal)
        self.assertRaises(RuntimeError, Keys({}).seal, "p", b"1")


class KeyOptionTests(SynchronousTestCase):
    """Keys as they are configured."""

    def text(self, key_id: str, key: bytes) -> str:
        """A key as it is written."""
        return f"{key_id}:{base64.b64encode(key).decode()}"

    def test_keys(self) -> None:
        """The first key is the one that seals."""
        keys = parse_keys([self.text("new", NEW), self.text("old", OLD)])
        self.assertTrue(keys.seal("p", b"1").startswith(b"!1:new:"))
        self.assertEqual(b"1", keys.unseal("p", Keys({"old": OLD}).seal("p", b"1")))
        self.assertFalse(parse_keys([]).can_seal)

    def test_malformed(self) -> None:
        """A malformed key is refused by its place, and not shown."""
        good = self.text("good", NEW)
        for bad in (
            "",
            "x",
            ":" + base64.b64encode(NEW).decode(),
            self.text("k", b"271828"),
            self.text("k", NEW + b"1"),
            self.text("a b", NEW),
            self.text("k" * 33, NEW),
            self.text("k", NEW)[:-1],
            self.text("k", NEW) + "!",
            "k:\u00fc271828",
        ):
            error = self.assertRaises(StoreOpenError, parse_keys, [good, bad])
            self.assertTrue(
                str(error).startswith("encryption.keys: entry 2: expected ID:KEY"),
                error,
            )
            self.assertNotIn("271828", str(error))

    def test_same_id_twice(self) -> None:
        """Two keys of one id are refused."""
        twice = [self.text("k", NEW), self.text("k", OLD)]
        error = self.assertRaises(StoreOpenError, parse_keys, twice)
        self.assertIn("entry 2: another key has the same id", str(error))


class EncryptionTestCase(SynchronousTestCase):
    """A stage with a key over a real store, and one that lacks the key."""

    def setUp(self) -> None:
        """Make both."""
        self.inner = Watched(open_messages(self))
        self.store = Encryption(self.inner, Keys({"k": NEW}))
        self.keyless = Encryption(self.inner, Keys({}))

    def post(
        self, *bodies: bytes, encrypt: bool = True, to: Destination = QUEUE
    ) -> list[str]:
        """Post messages; their ids."""
        messages = [NewMessage(body, 3600, encrypt=encrypt) for body in bodies]
        return self.successResultOf(self.store.post(to, messages, "c", NOW))

    def page(
        self, store: Any = None, to: Destination = QUEUE, **selection: Any
    ) -> Deferred[list[Message]]:
        """A page of messages."""
        selected = Selection(**{"limit": 20, **selection})
        return (store or self.store).page(to, selected, NOW)

    def bodies(self, store: Any = None, **selection: Any) -> list[bytes]:
        """The bodies of a page."""
        found = self.successResultOf(self.page(store, **selection))
        return [message.body for message in found]

    def refused(self, call: Deferred[Any]) -> None:
        """Fail unless a call finds only what cannot be read."""
        error = self.failureResultOf(call, UnreadableMessage).value
        self.assertEqual(503, error.status)
        self.assertNotIn("'k'", error.description)


class TransparencyTests(EncryptionTestCase):
    """Who has the key sees nothing of it."""

    def test_in_the_store(self) -> None:
        """The store has none of the text of an encrypted message."""
        self.post(b'"secret"')
        self.post(b'"public"', encrypt=False)
        sealed, clear = self.bodies(self.inner)
        self.assertRegex(sealed, rb"\A!1:k:")
        self.assertNotIn(b"secret", sealed)
        self.assertEqual(b'"public"', clear)
        self.assertEqual([b'"secret"', b'"public"'], self.bodies())

    def test_both_in_one_post(self) -> None:
        """Only those messages are encrypted that ask for it."""
        messages = [NewMessage(b"1", 60, encrypt=True), NewMessage(b"2", 60)]
        self.successResultOf(self.store.post(QUEUE, messages, "c", NOW))
        self.assertEqual(b"2", self.bodies(self.inner)[1])
        self.assertEqual([b"1", b"2"], self.bodies())

    def test_further_messages(self) -> None:
        """Of what is posted elsewhere in the same step that is encrypted that asks."""
        others = [NewMessage(b"2", 60), NewMessage(b"3", 60, encrypt=True)]
        also = Posting(ELSEWHERE, others)
        clear = [NewMessage(b"1", 60)]
        self.successResultOf(self.store.post(QUEUE, clear, "c", NOW, also))
        self.assertEqual([b"1"], self.bodies(self.inner))
        second, third = self.bodies(self.inner, to=ELSEWHERE)
        self.assertEqual(b"2", second)
        self.assertRegex(third, rb"\A!1:k:")
        self.assertEqual([b"2", b"3"], self.bodies(to=ELSEWHERE))

    def test_every_way_to_read(self) -> None:
        """A message is readable however it is read."""
        first, *_ = self.post(b"1", b"2")
        (found,) = self.successResultOf(self.store.get(QUEUE, [first], NOW))
        self.assertEqual(b"1", found.body)
        claim = self.successResultOf(self.store.claim(QUEUE, 60, 60, 1, NOW)).claim
        self.assertEqual([b"1"], [message.body for message in claim.messages])
        again = self.successResultOf(self.store.get_claim(QUEUE, claim.id, NOW))
        self.assertEqual(claim, again)
        (popped,) = self.successResultOf(self.store.pop(QUEUE, 5, NOW))
        self.assertEqual(b"2", popped.body)

    def test_dead_letters(self) -> None:
        """A dead letter is readable in the queue that it was moved to."""
        self.post(b"1")
        rule = DeadLetterRule(GRAVE, 1)
        self.successResultOf(self.store.claim(QUEUE, 60, 60, 1, NOW, rule))
        moved = self.store.claim(QUEUE, 60, 60, 1, NOW + 60_000, rule)
        self.assertEqual(1, self.successResultOf(moved).dead_lettered)
        self.assertEqual([b"1"], self.bodies(to=GRAVE))

    def test_export(self) -> None:
        """What goes to another store is encrypted on its way, and readable there."""
        self.post(b"1")
        stored = self.successResultOf(self.store.stored(QUEUE, 5, None, NOW))
        self.assertRegex(stored[0].message.body, rb"\A!1:k:")
        self.successResultOf(self.store.restore(GRAVE, stored, NOW))
        self.assertEqual([b"1"], self.bodies(to=GRAVE))

    def test_without_a_key(self) -> None:
        """Nothing is stored in clear that asks for encryption."""
        self.assertTrue(self.store.can_encrypt)
        self.assertFalse(self.keyless.can_encrypt)
        message = NewMessage(b"1", 60, encrypt=True)
        self.failureResultOf(
            self.keyless.post(QUEUE, [message], "c", NOW), StoreUnavailable
        )
        clear, also = [NewMessage(b"1", 60)], Posting(ELSEWHERE, [message])
        self.failureResultOf(
            self.keyless.post(QUEUE, clear, "c", NOW, also), StoreUnavailable
        )
        self.assertEqual([], self.inner.calls)

    def test_failing_store(self) -> None:
        """What the store fails with is passed on."""
        self.inner.broken.update(("page", "claim", "pop", "get"))
        for call in (
            self.page(),
            self.store.claim(QUEUE, 60, 60, 1, NOW),
            self.store.pop(QUEUE, 1, NOW),
            self.store.get(QUEUE, ["x"], NOW),
        ):
            self.failureResultOf(call, StoreUnavailable)


class UnreadableTests(EncryptionTestCase):
    """Messages whose key is not there."""

    def readable(self, body: bytes) -> list[str]:
        """Post a message that is not encrypted."""
        return self.post(body, encrypt=False)

    def claimed(self, limit: int, store: Any = None) -> Claim | None:
        """Claim without the key."""
        return self.successResultOf(
            (store or self.keyless).claim(QUEUE, 60, 60, limit, NOW)
        ).claim

    def test_logged(self) -> None:
        """The log says which message and which key, and nothing of the body."""
        (message,) = self.post(b'"secret"')
        with capturedLogs() as events:
            self.refused(self.page(self.keyless))
        (line,) = [formatEvent(event) for event in events]
        self.assertEqual(
            f"Message {message} of queue q of project p cannot be read: "
            "there is no key 'k'",
            line,
        )

    def test_page(self) -> None:
        """A page leaves out what cannot be read and is filled up with what follows."""
        self.readable(b"1")
        self.post(b"2", b"3", b"4")
        self.readable(b"5")
        self.readable(b"6")
        self.assertEqual([b"1", b"5"], self.bodies(self.keyless, limit=2))
        self.assertEqual([b"1", b"5", b"6"], self.bodies(self.keyless))

    def test_page_without_any(self) -> None:
        """Only where nothing else follows it is an error."""
        self.post(b"1", b"2")
        self.refused(self.page(self.keyless))
        self.readable(b"3")
        self.assertEqual([b"3"], self.bodies(self.keyless, limit=1))

    def test_page_is_bounded(self) -> None:
        """A page does not go on for ever."""
        self.post(*[b"1"] * 20)
        self.readable(b"2")
        self.inner.calls.clear()
        self.refused(self.page(self.keyless, limit=1))
        self.assertEqual(["page"] * (ROUNDS + 1), self.inner.calls)

    def test_get(self) -> None:
        """By id it is like a missing one among others, and an error alone."""
        (sealed,) = self.post(b"1")
        (clear,) = self.readable(b"2")
        found = self.keyless.get(QUEUE, [sealed, clear], NOW)
        self.assertEqual([b"2"], [each.body for each in self.successResultOf(found)])
        self.refused(self.keyless.get(QUEUE, [sealed], NOW))
        self.assertEqual([], self.successResultOf(self.store.get(QUEUE, ["x"], NOW)))

    def test_claim(self) -> None:
        """A claim gives what can be read; the rest comes back when the claim ends."""
        self.post(b"1")
        self.readable(b"2")
        claim = self.claimed(5)
        self.assertEqual([b"2"], [message.body for message in claim.messages])
        held = self.successResultOf(self.keyless.get_claim(QUEUE, claim.id, NOW))
        self.assertEqual(claim, held)
        self.assertIsNone(self.claimed(5, self.store))
        self.successResultOf(self.store.release(QUEUE, claim.id, NOW))
        claim = self.claimed(5, self.store)
        self.assertEqual([b"1", b"2"], [message.body for message in claim.messages])

    def test_claim_goes_on(self) -> None:
        """What cannot be read does not keep workers from what is behind it."""
        self.post(b"1", b"2", b"3")
        self.readable(b"4")
        claim = self.claimed(1)
        self.assertEqual([b"4"], [message.body for message in claim.messages])

    def test_claim_without_any(self) -> None:
        """Only where nothing can be read it is an error, and only once a claim."""
        self.post(b"1", b"2")
        self.refused(self.keyless.claim(QUEUE, 60, 60, 1, NOW))
        self.assertIsNone(self.claimed(1))

    def test_claim_is_bounded(self) -> None:
        """A claim does not go on for ever."""
        self.post(*[b"1"] * 20)
        self.inner.calls.clear()
        self.refused(self.keyless.claim(QUEUE, 60, 60, 1, NOW))
        self.assertEqual(["claim"] * (ROUNDS + 1), self.inner.calls)

    def test_claim_that_moved_letters(self) -> None:
        """The caller learns of dead letters, also where the rest cannot be read."""
        self.readable(b"1")
        rule = DeadLetterRule(GRAVE, 1)
        self.successResultOf(self.keyless.claim(QUEUE, 60, 60, 1, NOW, rule))
        self.post(b"2")
        moved = self.keyless.claim(QUEUE, 60, 60, 5, NOW + 60_000, rule)
        claimed = self.successResultOf(moved)
        self.assertEqual((None, 1), (claimed.claim, claimed.dead_lettered))

    def test_pop(self) -> None:
        """What cannot be read is not lost by a pop: it goes to the end."""
        self.post(b"1")
        self.readable(b"2")
        (popped,) = self.successResultOf(self.keyless.pop(QUEUE, 5, NOW))
        self.assertEqual(b"2", popped.body)
        self.assertEqual([b"1"], self.bodies())

    def test_pop_goes_on(self) -> None:
        """What cannot be read does not keep a pop from what is behind it."""
        self.post(b"1", b"2", b"3")
        self.readable(b"4")
        (popped,) = self.successResultOf(self.keyless.pop(QUEUE, 1, NOW))
        self.assertEqual(b"4", popped.body)
        self.assertEqual([b"1", b"2", b"3"], self.bodies())

    def test_pop_without_any(self) -> None:
        """Only where nothing can be read it is an error, and all of it stays."""
        self.post(b"1", b"2")
        self.refused(self.keyless.pop(QUEUE, 1, NOW))
        self.assertEqual([b"1", b"2"], self.bodies())
        self.post(*[b"3"] * 20)
        self.refused(self.keyless.pop(QUEUE, 1, NOW))
        self.assertEqual(22, len(self.bodies(limit=30)))

    def test_pop_that_fails_midway(self) -> None:
        """What was popped goes back also when the store fails then."""
        self.post(b"1", b"2")
        first = self.inner.hold_answer("pop")
        popping = self.keyless.pop(QUEUE, 1, NOW)
        self.inner.broken.add("pop")
        first.callback(None)
        self.failureResultOf(popping, StoreUnavailable)
        self.assertEqual([b"2", b"1"], self.bodies())

    def test_pop_that_cannot_give_back(self) -> None:
        """A message that a pop could not give back is logged as lost."""
        self.post(b"1")
        self.readable(b"2")
        self.inner.broken.add("restore")
        with capturedLogs() as events:
            popped = self.successResultOf(self.keyless.pop(QUEUE, 5, NOW))
        self.assertEqual([b"2"], [message.body for message in popped])
        critical = [each for each in events if each["log_level"].name == "critical"]
        self.assertIn("and lost", formatEvent(critical[0]))

    def test_damaged(self) -> None:
        """A body that does not fit its key is treated as one without a key."""
        self.post(b"1")
        (stored,) = self.successResultOf(self.inner.stored(QUEUE, 1, None, NOW))
        self.successResultOf(self.inner.restore(ELSEWHERE, [stored], NOW))
        self.refused(self.page(to=ELSEWHERE))
