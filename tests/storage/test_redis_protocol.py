"""Commands to a Redis and their answers, over a transport that is not one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.storage.messages.redis_protocol import (
    Disconnected,
    RedisProtocol,
    Unanswered,
)
from mqsvc.storage.messages.redis_wire import Refusal


class Wire(StringTransport):
    """A transport of which is known what was sent at once.

    :ivar room: so many bytes are taken at once, or it is an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room: int | Exception = 1000
        self.at_once: list[bytes] = []

    def writeSomeData(self, data: bytes) -> int | Exception:
        """Take what there is room for."""
        if isinstance(self.room, int):
            self.at_once.append(data[: self.room])
            return len(self.at_once[-1])
        return self.room


class RedisProtocolTests(SynchronousTestCase):
    """A connection to Redis."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.protocol = RedisProtocol(self.clock, 5.0)
        self.protocol.makeConnection(self.wire)

    def turn(self) -> None:
        """The end of a turn of the reactor."""
        self.clock.advance(0)

    def test_sent_together(self) -> None:
        """What is asked in one turn is sent in one piece, and answered in order."""
        answers = [self.protocol.ask(each) for each in (b"1", b"2", b"3")]
        self.assertEqual(self.wire.at_once, [])
        self.turn()
        self.assertEqual(self.wire.at_once, [b"123"])
        self.protocol.dataReceived(b":1\r\n-ERR no\r\n")
        self.assertEqual(self.successResultOf(answers[0]), 1)
        self.assertEqual(str(self.failureResultOf(answers[1], Refusal).value), "ERR no")
        self.assertNoResult(answers[2])
        self.protocol.dataReceived(b"$1\r\nc\r\n")
        self.assertEqual(self.successResultOf(answers[2]), b"c")

    def test_told_when_sent(self) -> None:
        """What a command is can be left open until the moment at which it is sent."""
        told = [b"nothing"]
        answer = self.protocol.ask(lambda: told[-1])
        self.protocol.ask(b".")
        told.append(b"all")
        self.turn()
        self.assertEqual(self.wire.at_once, [b"all."])
        self.protocol.dataReceived(b":1\r\n")
        self.assertEqual(self.successResultOf(answer), 1)

    def test_no_room(self) -> None:
        """What is not sent at once is not overtaken, and nothing waits for long."""
        self.wire.room = 2
        first = self.protocol.ask(b"abc")
        self.turn()
        second = self.protocol.ask(b"d")
        self.turn()
        self.assertEqual((self.wire.at_once, self.wire.value()), ([b"ab"], b"c"))
        self.protocol.dataReceived(b":1\r\n")
        self.assertEqual(self.successResultOf(first), 1)
        third = self.protocol.ask(b"e")
        self.turn()
        self.assertEqual((self.wire.at_once, self.wire.value()), ([b"ab", b"de"], b"c"))
        self.protocol.dataReceived(b":2\r\n:3\r\n")
        self.assertEqual(self.successResultOf(second), 2)
        self.assertEqual(self.successResultOf(third), 3)

    def test_sending_fails(self) -> None:
        """Whether the connection is lost is for the transport to find out."""
        self.wire.room = ConnectionLost()
        answer = self.protocol.ask(b"a")
        self.turn()
        self.assertEqual(self.wire.value(), b"a")
        self.protocol.connectionLost()
        self.failureResultOf(answer, Disconnected)

    def test_late_answer(self) -> None:
        """Without an answer in time the connection is given up with all commands."""
        first = self.protocol.ask(b"a")
        self.clock.advance(3)
        second = self.protocol.ask(b"b")
        self.clock.advance(1.9)
        self.assertNoResult(first)
        self.clock.advance(0.1)
        self.failureResultOf(first, Unanswered)
        self.failureResultOf(second, Unanswered)
        self.assertTrue(self.wire.disconnecting)
        self.failureResultOf(self.protocol.ask(b"c"), Disconnected)

    def test_answers_in_time(self) -> None:
        """Each command has its own time, and nothing is watched without any."""
        for _ in range(3):
            self.protocol.ask(b"a")
            self.clock.advance(3)
            self.protocol.dataReceived(b":1\r\n")
        self.assertFalse(self.wire.disconnecting)
        last = self.protocol.ask(b"a")
        self.clock.advance(4.9)
        self.assertNoResult(last)
        self.protocol.dataReceived(b":1\r\n")
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.wire.disconnecting)

    def test_lost(self) -> None:
        """With the connection everything ends; who watches it is told first."""
        told: list[Any] = []
        lost = self.protocol.whenDisconnected()
        lost.addCallback(lambda _: told.append("watcher"))
        asked = self.protocol.ask(b"a")
        asked.addErrback(lambda failure: told.append(failure.type))
        self.protocol.connectionLost()
        self.assertEqual(told, ["watcher", Disconnected])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.protocol.ask(b"a"), Disconnected)

    def test_cancelled(self) -> None:
        """Who no longer wants an answer does not take that of another."""
        first, second = self.protocol.ask(b"a"), self.protocol.ask(b"b")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.protocol.dataReceived(b":1\r\n:2\r\n")
        self.assertEqual(self.successResultOf(second), 2)

    def test_nonsense(self) -> None:
        """A server that says what is no reply, or one to nothing, is given up."""
        answer = self.protocol.ask(b"a")
        self.protocol.dataReceived(b"HTTP/1.1 400\r\n")
        # It is gone a turn later, and only then can it be asked on another one.
        self.assertNoResult(answer)
        self.protocol.connectionLost()
        reason = self.failureResultOf(answer, Disconnected).getErrorMessage()
        self.assertIn("does not answer as a Redis does", reason)
        self.assertTrue(self.wire.disconnecting)

    def test_unasked(self) -> None:
        """A server that speaks without being asked is given up."""
        self.protocol.dataReceived(b":1\r\n")
        self.assertTrue(self.wire.disconnecting)
