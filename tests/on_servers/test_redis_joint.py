"""Posts, claims and deletions that are one call of a script on Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import (
    MessageIsClaimed,
    MessageNotClaimed,
    StoreUnavailable,
)
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Posting,
    Selection,
)
from mqsvc.storage.messages.redis import RedisMessageStore
from mqsvc.storage.messages.redis_joint import MOST_BYTES, MOST_MESSAGES, MOST_PARTS
from mqsvc.storage.messages.redis_scripts import Argument, Scripts
from tests.servers.redis import BlockingConnection, shared_redis
from tests.storage.contract import ORDERS, RETURNS, START

OUTBOX = Destination(ORDERS.project, Kind.OUTBOX, "outbox")

EVERYTHING = Selection(10_000, include_claimed=True, include_delayed=True)

LATER = START + 10_000
"""When the first claims are over, and no sweep has seen it."""

DUMP = """
local found = {}
local ask = {
  hash = {'HGETALL'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, set = {'SMEMBERS'},
  string = {'GET'},
}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
  local command = ask[redis.call('TYPE', key).ok]
  local content = redis.call(command[1], key, unpack(command, 2))
  found[#found + 1] = {string.sub(key, #ARGV[1] + 1), content}
end
return found
"""
"""All that is kept under a prefix."""

Call = Callable[[], Deferred[Any]]
Way = Callable[["JointCase", Sequence[Call]], list[Any]]


class HoldingConnection(BlockingConnection):
    """A connection on which the end of a turn of the reactor is called for.

    :ivar calls: how many were sent.
    :ivar tries: how often each is sent, as if all answers but the last were lost.
    """

    calls = 0
    tries = 1

    def start(self) -> None:
        """Connect."""
        super().start()
        self._held: list[tuple[Deferred[Any], Callable[[], Sequence[Argument]]]] = []

    def later(
        self, words: Callable[[], Sequence[Argument]], changes: bool = False
    ) -> Deferred[Any]:
        """The answer to a command that is sent when the turn ends."""
        answer: Deferred[Any] = Deferred()
        self._held.append((answer, words))
        return answer

    def turn(self) -> None:
        """Send what was asked."""
        held, self._held = self._held, []
        for answer, words in held:
            self.calls += 1
            for _ in range(self.tries - 1):
                execute(self._attempt, *words()).addErrback(lambda _: None)
            execute(self._attempt, *words()).chainDeferred(answer)

    def lose(self) -> None:
        """Let all that was asked fail, unsent."""
        held, self._held = self._held, []
        for answer, _ in held:
            answer.errback(StoreUnavailable())


def together(testcase: JointCase, calls: Sequence[Call]) -> list[Any]:
    """All in one turn."""
    answers = [call() for call in calls]
    testcase.connection.turn()
    return [testcase.successResultOf(each) for each in answers]


def one_by_one(testcase: JointCase, calls: Sequence[Call]) -> list[Any]:
    """Each in a turn of its own."""
    return [each for call in calls for each in together(testcase, [call])]


class JointCase(SynchronousTestCase):
    """A test with a store whose turns it ends."""

    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Go on with an empty store."""
        self.prefix = self.mktemp()
        numbers = count(1)
        self.connection = HoldingConnection(shared_redis().port)
        scripts = Scripts(self.connection)
        self.store = RedisMessageStore(scripts, self.prefix, lambda _: next(numbers))
        self.store.startService()
        self.addCleanup(self.connection.close)

    def post(
        self, *bodies: bytes, client: str = "alice", also: Posting | None = None
    ) -> Deferred[list[str]]:
        """Ask for a post of messages."""
        new = [NewMessage(body, 600) for body in bodies]
        return self.store.post(ORDERS, new, client, START, also)

    def claim(self, limit: int = 1) -> Deferred[Claimed]:
        """Ask for a claim."""
        return self.store.claim(ORDERS, 60, 60, limit, START)

    def now(self, *calls: Call) -> list[Any]:
        """The results of what is asked for in one turn."""
        return together(self, calls)

    def bodies(self) -> list[bytes]:
        """What is stored, whoever holds it."""
        page = self.successResultOf(self.store.page(ORDERS, EVERYTHING, START))
        return [each.body for each in page]


class SameTests(JointCase):
    """Neither answers nor the server tell whether operations were one call."""

    def posts(self, way: Way, now: int, *posts: tuple[str, Destination, int]) -> Any:
        """Post for each client so many messages, each a millisecond later."""
        numbers = count(1)

        def call(moment: int, client: str, place: Destination, size: int) -> Call:
            new = [
                NewMessage(b"1" * n, 60 + n, 5 * (n % 7 == 0))
                for _, n in zip(range(size), numbers, strict=False)
            ]
            return lambda: self.store.post(place, new, client, now + moment)

        return way(self, [call(moment, *each) for moment, each in enumerate(posts)])

    def claims(
        self,
        way: Way,
        now: int,
        *claims: tuple[Destination, int, int],
        rule: DeadLetterRule | None = None,
    ) -> Any:
        """Claim from each destination for so many seconds so many messages."""

        def call(place: Destination, ttl: int, limit: int) -> Call:
            return lambda: self.store.claim(place, ttl, 60, limit, now, rule)

        return way(self, [call(*each) for each in claims])

    def deletions(self, way: Way, claimed: Sequence[Claimed]) -> Any:
        """Delete what is lent, and some of it twice."""

        def call(each: Claimed) -> Call:
            assert each.claim is not None
            claim, ids = each.claim.id, [one.id for one in each.claim.messages]
            return lambda: self.store.delete(ORDERS, ids, LATER, [claim])

        lent = [each for each in claimed if each.claim is not None]
        return way(self, [call(each) for each in (*lent, *lent[:2])])

    def play(self, way: Way) -> list[Any]:
        """What is answered in such a history, and what is left of it."""
        self.begin()
        posted = self.posts(
            way,
            START,
            *(("alice", ORDERS, 3), ("bob", ORDERS, 1), ("bob", ORDERS, 2)),
            *(("alice", RETURNS, 1), ("alice", ORDERS, 20), ("bob", OUTBOX, 1)),
            *(("alice", ORDERS, 1), ("carol", RETURNS, 2)),
        )
        first = self.claims(
            way, START + 5, (ORDERS, 1, 2), (ORDERS, 3, 1), (RETURNS, 900, 9)
        )
        asked = ((ORDERS, 60, 1), (ORDERS, 60, 1), (ORDERS, 900, 4), (RETURNS, 60, 9))
        rule = DeadLetterRule(OUTBOX, 1, ttl=7200)
        second = self.claims(way, LATER, *asked, rule=rule)
        third = self.claims(way, LATER, (ORDERS, 30, 3), (ORDERS, 60, 9))
        again = self.posts(way, LATER, ("bob", ORDERS, 1), ("alice", ORDERS, 1))
        gone = self.deletions(way, [*second[:3], third[0]])
        volume = self.successResultOf(self.store.stored_bytes(ORDERS.project))
        return [posted, first, second, third, again, gone, volume, self.kept()]

    def kept(self) -> dict[bytes, Any]:
        """All that the server has, but for what it remembers of operations."""
        found = self.connection.ask("EVAL", DUMP, 0, self.prefix)
        prefix = self.prefix.encode()
        return {
            key: sorted(each.removeprefix(prefix) for each in content)
            for key, content in found
            if b":op:" not in key
        }

    def test_same(self) -> None:
        """Done together and done one by one they answer and leave the same."""
        self.assertEqual(self.play(one_by_one), self.play(together))

    def test_everything_comes_about(self) -> None:
        """In fewer calls, some of what is found is moved and the other handed out."""
        posted, _, second, third, *_, volume, kept = self.play(together)
        self.assertEqual([1, 1, 1, 0], [each.dead_lettered for each in second])
        lent = [each.claim and len(each.claim.messages) for each in second + third]
        self.assertEqual([None, None, 3, 1, 3, 9], lent)
        self.assertGreater(volume, 0)
        self.assertIn(b":{tenant/queue/orders}:info", kept)
        ids = [each for ids in posted for each in ids]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual(self.connection.calls, 3 + 2 + 2 + 1 + 1 + 1)


class CallTests(JointCase):
    """What is one call, and what each caller gets of it."""

    def test_as_many_as_fit(self) -> None:
        """A call has no more than so many posts; the others follow it in order."""
        bodies = [b"%d" % number for number in range(MOST_PARTS + 1)]
        answers = [self.post(body) for body in bodies]
        self.connection.turn()
        self.assertEqual(self.connection.calls, 2)
        ids = [self.successResultOf(answer)[0] for answer in answers]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(self.bodies(), bodies)

    def test_as_many_messages_as_fit(self) -> None:
        """A call is about no more than so many messages, unless for one caller."""
        for sizes, calls in (
            ([MOST_MESSAGES - 1, 1], 1),
            ([MOST_MESSAGES, 1], 2),
            ([MOST_MESSAGES + 1, 1], 2),
        ):
            self.begin()
            self.now(*[lambda n=size: self.post(*[b"1"] * n) for size in sizes])
            self.assertEqual(self.connection.calls, calls)
            self.begin()
            self.now(*[lambda n=size: self.claim(n) for size in sizes])
            self.assertEqual(self.connection.calls, calls)

    def test_as_many_bytes_as_fit(self) -> None:
        """A call has no more bytes of bodies than so many, unless for one caller."""
        half = b"1" * (MOST_BYTES // 2)
        for bodies, calls in (
            ([half, half], 1),
            ([half, half + b"1"], 2),
            ([half * 3, b"1"], 2),
        ):
            self.begin()
            self.now(*[lambda body=body: self.post(body) for body in bodies])
            self.assertEqual(self.connection.calls, calls)
            self.assertEqual(self.bodies(), bodies)

    def test_what_is_sent_is_closed(self) -> None:
        """A post that comes when the others were sent goes by itself."""
        first = self.post(b"1")
        self.connection.turn()
        second = self.post(b"2")
        self.assertNoResult(second)
        self.connection.turn()
        [[one], [two]] = map(self.successResultOf, (first, second))
        self.assertLess(one, two)

    def test_both(self) -> None:
        """A post to two destinations is a call of its own, and in its place."""
        also = Posting(OUTBOX, [NewMessage(b"other", 60)])
        self.now(
            lambda: self.post(b"1"),
            lambda: self.post(b"2", also=also),
            lambda: self.post(b"3"),
            lambda: self.post(b"4"),
        )
        self.assertEqual(self.connection.calls, 3)
        self.assertEqual(self.bodies(), [b"1", b"2", b"3", b"4"])

    def test_other_rules(self) -> None:
        """Claims under another rule are another call."""
        rules = [None, None, *(DeadLetterRule(RETURNS, n) for n in (2, 2, 3))]
        self.now(
            *(
                lambda rule=rule: self.store.claim(ORDERS, 60, 60, 1, START, rule)
                for rule in rules
            )
        )
        self.assertEqual(self.connection.calls, 3)

    def test_claims_in_order(self) -> None:
        """Who asks first gets the oldest; who asks for too much, what is left."""
        [ids] = self.now(lambda: self.post(b"1", b"2", b"3", b"4"))
        claims = self.now(self.claim, lambda: self.claim(2), lambda: self.claim(2))
        claims += self.now(self.claim)
        lent = [
            each.claim and [one.id for one in each.claim.messages] for each in claims
        ]
        self.assertEqual(lent, [ids[:1], ids[1:3], ids[3:], None])

    def test_each_deletion_is_its_own(self) -> None:
        """One that is refused stops no other, and deletes nothing itself."""
        [[one, two, three]] = self.now(lambda: self.post(b"1", b"2", b"3"))
        claims = self.now(self.claim, self.claim)
        first, second = [each.claim.id for each in claims]
        delete = self.store.delete
        answers = [
            delete(ORDERS, [one, two], START, [first]),
            delete(ORDERS, [one, three], START, []),
            delete(ORDERS, [three], START, [first]),
            delete(ORDERS, [two], START, [second]),
            delete(ORDERS, [two], START, []),
            delete(ORDERS, [three], START, []),
        ]
        self.connection.turn()
        self.assertEqual(self.connection.calls, 3)
        for answer, error in zip(
            answers,
            [MessageIsClaimed, MessageIsClaimed, MessageNotClaimed, None, None, None],
            strict=True,
        ):
            if error is None:
                self.successResultOf(answer)
            else:
                self.failureResultOf(answer, error)
        self.assertEqual(self.bodies(), [b"1"])

    def test_cancelled(self) -> None:
        """Who no longer waits takes nothing from the others, nor their results."""
        answers = [self.post(b"1"), self.post(b"2"), self.post(b"3")]
        answers[1].cancel()
        self.failureResultOf(answers[1], CancelledError)
        self.connection.turn()
        self.assertEqual(self.bodies(), [b"1", b"2", b"3"])
        for answer, place in ((answers[0], 0), (answers[2], 2)):
            [message_id] = self.successResultOf(answer)
            page = self.successResultOf(self.store.get(ORDERS, [message_id], START))
            self.assertEqual(page[0].body, b"%d" % (place + 1))

    def test_failure(self) -> None:
        """Without an answer all fail, and the next ones have nothing to do with it."""
        answers = [self.post(b"1"), self.post(b"2")]
        self.connection.lose()
        for answer in answers:
            self.failureResultOf(answer, StoreUnavailable)
        self.now(lambda: self.post(b"3"))
        self.assertEqual(self.bodies(), [b"3"])

    def test_one_that_cannot_be_told(self) -> None:
        """Who asks for what cannot be sent fails alone."""
        answers = [self.post(b"1")]
        with self.assertRaises(UnicodeEncodeError):
            self.post(b"2", client="\udc80")
        answers.append(self.post(b"3"))
        self.connection.turn()
        [[one], [two]] = map(self.successResultOf, answers)
        self.assertLess(one, two)
        self.assertEqual(self.bodies(), [b"1", b"3"])

    def test_sent_again(self) -> None:
        """When the answers are lost all is done once, and answered all the same."""
        self.connection.tries = 2
        posted = self.now(lambda: self.post(b"1"), lambda: self.post(b"2", b"3"))
        page = self.successResultOf(self.store.page(ORDERS, EVERYTHING, START))
        ids = [each.id for each in page]
        self.assertEqual([each for ids in posted for each in ids], ids)
        claims = self.now(self.claim, lambda: self.claim(3), self.claim)
        lent = [
            each.claim and [one.id for one in each.claim.messages] for each in claims
        ]
        self.assertEqual(lent, [ids[:1], ids[1:], None])
        later, rule = START + 61_000, DeadLetterRule(RETURNS, 1)
        self.now(lambda: self.store.post(ORDERS, [NewMessage(b"4", 60)], "bob", later))
        moved = self.now(
            *[lambda: self.store.claim(ORDERS, 60, 60, 2, later, rule)] * 2,
        )
        self.assertEqual([each.dead_lettered for each in moved], [2, 1])
        self.assertIsNone(moved[0].claim)
        self.assertEqual([one.body for one in moved[1].claim.messages], [b"4"])
        stats = self.successResultOf(self.store.stats(RETURNS, later))
        self.assertEqual(stats.total, 3)
