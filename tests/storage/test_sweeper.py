"""The sweeper: how much it does, when, and what it survives."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.model import Destination, Kind, NewMessage
from mqsvc.storage.messages.sqlite import SQLiteMessageStore
from mqsvc.storage.sweeper import INTERVAL, MAX_PIECES, Sweeper
from tests.messaging.stores import open_messages
from tests.storage.faulty import FaultyStore

EPOCH = 1_800_000_000
QUEUE = Destination("p", Kind.QUEUE, "q")


class Dusty(FaultyStore):
    """A store of which only sweeping works, in so many pieces.

    :ivar swept: the moments at which it was swept.
    """

    def __init__(self, pieces: int = 1) -> None:
        super().__init__()
        self.swept: list[int] = []
        self.answer: Callable[[], Deferred[bool]] = lambda: succeed(
            len(self.swept) < pieces
        )

    def sweep(self, now: int) -> Deferred[bool]:
        """Whether there are more pieces."""
        self.swept.append(now)
        return self.answer()


class SweeperTests(SynchronousTestCase):
    """Rounds over stores."""

    def setUp(self) -> None:
        """Have a clock at some moment."""
        self.clock = Clock()
        self.clock.advance(EPOCH)

    def sweeper(self, *stores: FaultyStore | SQLiteMessageStore) -> Sweeper:
        """A running sweeper."""
        sweeper = Sweeper(stores, self.clock)
        sweeper.startService()
        self.addCleanup(self.stop, sweeper)
        return sweeper

    def stop(self, sweeper: Sweeper) -> None:
        """Stop one that may be stopped already."""
        if sweeper.running:
            self.successResultOf(sweeper.stopService())

    def test_rounds(self) -> None:
        """A round begins at once and then in intervals, with the time of the clock."""
        store = Dusty()
        self.sweeper(store)
        self.clock.pump([INTERVAL / 2] * 4)
        moments = [EPOCH + step * INTERVAL for step in range(3)]
        self.assertEqual([moment * 1000 for moment in moments], store.swept)

    def test_until_clean(self) -> None:
        """A round goes on as long as there is more."""
        store = Dusty(pieces=5)
        self.sweeper(store)
        self.assertEqual(5, len(store.swept))

    def test_bounded(self) -> None:
        """A round ends at its bound, and the next one goes on."""
        store = Dusty(pieces=MAX_PIECES + 7)
        self.sweeper(store)
        self.assertEqual(MAX_PIECES, len(store.swept))
        self.clock.advance(INTERVAL)
        self.assertEqual(MAX_PIECES + 7, len(store.swept))

    def test_a_store_that_fails(self) -> None:
        """A failure is logged; the other stores are swept, and it again next time."""
        errors = (StoreUnavailable, ValueError)
        stores = [Dusty(), FaultyStore(), FaultyStore(ValueError), Dusty()]
        self.sweeper(*stores)
        self.clock.advance(INTERVAL)
        self.assertEqual([2, 2], [len(stores[0].swept), len(stores[3].swept)])
        self.assertEqual([2, 2], [len(self.flushLoggedErrors(e)) for e in errors])

    def test_back_again(self) -> None:
        """A store that failed once is swept when it is back."""
        store = Dusty(pieces=3)
        working, store.answer = store.answer, lambda: fail(StoreUnavailable())
        self.sweeper(store)
        store.answer = working
        self.clock.advance(INTERVAL)
        self.assertEqual(3, len(store.swept))
        self.flushLoggedErrors(StoreUnavailable)

    def test_slow_store(self) -> None:
        """No round begins before the last one is over, and the others wait."""
        slow, behind = Dusty(), Dusty()
        piece: Deferred[bool] = Deferred()
        slow.answer = lambda: piece
        self.sweeper(slow, behind)
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual([1, 0], [len(slow.swept), len(behind.swept)])
        slow.answer = lambda: succeed(False)
        piece.callback(False)
        self.assertEqual([1, 1], [len(slow.swept), len(behind.swept)])
        self.clock.advance(INTERVAL)
        self.assertEqual([2, 2], [len(slow.swept), len(behind.swept)])

    def test_stop(self) -> None:
        """A stopped sweeper leaves no timer, and can be started again."""
        store = Dusty()
        sweeper = self.sweeper(store)
        self.successResultOf(sweeper.stopService())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.clock.advance(10 * INTERVAL)
        self.assertEqual(1, len(store.swept))
        sweeper.startService()
        self.assertEqual(2, len(store.swept))

    def test_stop_during_a_round(self) -> None:
        """Stopping waits for the round that runs, so that stores can stop after it."""
        store = Dusty()
        piece: Deferred[bool] = Deferred()
        store.answer = lambda: piece
        sweeper = self.sweeper(store)
        stopping = sweeper.stopService()
        self.assertNoResult(stopping)
        piece.callback(False)
        self.successResultOf(stopping)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_real_store(self) -> None:
        """Messages whose time is over are gone from the file in the end."""
        store = open_messages(self)
        messages = [NewMessage(b"1", 60)] * 1000
        self.successResultOf(store.post(QUEUE, messages, "c", EPOCH * 1000))
        self.clock.advance(60)
        self.sweeper(store)
        now = (EPOCH + 60) * 1000
        self.assertFalse(self.successResultOf(store.sweep(now)))
        stats = self.successResultOf(store.stats(QUEUE, EPOCH * 1000))
        self.assertEqual(0, stats.total)
