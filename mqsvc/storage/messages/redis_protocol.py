"""A connection to Redis: commands that are sent together, and answers in their order.

It is txredisapi's, with all its commands, except for what each of them costs: one
Deferred, no timer of its own, and one write for all commands of a turn of the reactor.

Importing this module installs the default reactor, since txredisapi does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mqsvc.storage.messages.redis_scripts import Argument
from mqsvc.storage.messages.redis_wire import Refusal, Replies, encode_command

Command = bytes | Callable[[], bytes]
"""An encoded command, or what gives it when it is sent; the same each time."""


class Disconnected(Exception):
    """The connection ended before the answer."""


class Unanswered(Exception):
    """There was no answer in time."""


class RedisProtocol(txredisapi.BaseRedisProtocol):  # type: ignore[misc]
    """Asks, and gives each answer to who asked, as Redis gives it.

    :param reactor: tells the time.
    :param timeout: seconds that an answer is waited for; then the connection is given
        up, and with it everything that was asked.
    """

    transport: Any

    def __init__(self, reactor: Any, timeout: float) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._reactor = reactor
        self._timeout = timeout
        self._replies = Replies()
        self._asked: deque[tuple[Deferred[Any], float]] = deque()
        self._unsent: list[Command] = []
        self._is_open = False
        self._reason = "the connection was lost"
        self._behind: Deferred[Any] | None = None
        self._sending: IDelayedCall | None = None
        self._watching: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Take commands from now on."""
        self._is_open = True
        super().connectionMade()

    def execute_command(self, *words: Argument, **_: object) -> Deferred[Any]:
        """The answer to a command, as with :meth:`ask`."""
        return self.ask(encode_command(words))

    def ask(self, command: Command) -> Deferred[Any]:
        """The answer to an encoded command.

        :raise Refusal: Redis does not do it.
        :raise Disconnected: the connection is lost, the command maybe carried out.
        :raise Unanswered: it took too long.
        """
        if not self._is_open:
            return fail(Disconnected("there is no connection"))
        answer: Deferred[Any] = Deferred()
        self._asked.append((answer, self._reactor.seconds() + self._timeout))
        self._unsent.append(command)
        self._send_soon()
        if self._watching is None:
            self._watching = self._reactor.callLater(self._timeout, self._watch)
        return answer

    def abort(self) -> None:
        """Close it at once, and send nothing more."""
        self._is_open = False
        self._unsent.clear()
        self.transport.abortConnection()

    def _send_soon(self) -> None:
        if self._sending is None and self._behind is None:
            self._sending = self._reactor.callLater(0, self._send)

    def _send(self) -> None:
        """Send what was asked in this turn.

        As a rule all of it goes at once, which saves that the reactor is told to watch
        for room, and not to. What does not is for the transport; what comes later waits
        until that is answered, and is sent at once again.
        """
        self._sending = None
        unsent, self._unsent = self._unsent, []
        data = b"".join(
            [each if isinstance(each, bytes) else each() for each in unsent]
        )
        sent = self.transport.writeSomeData(data)
        rest = data[sent:] if isinstance(sent, int) else data
        if rest:
            self._behind, _ = self._asked[-1]
            self.transport.write(rest)

    def _watch(self) -> None:
        """Give up if the oldest command was asked too long ago."""
        self._watching = None
        if not self._asked:
            return
        left = self._asked[0][1] - self._reactor.seconds()
        if left > 0:
            self._watching = self._reactor.callLater(left, self._watch)
            return
        self.abort()
        self._fail(Unanswered("it does not answer"))

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Give each reply to the command that waits for it."""
        try:
            for reply in self._replies.feed(data):
                self._answer(reply)
        except ValueError:
            # Those who ask are told at its end, when another one can be made.
            self._reason = "it does not answer as a Redis does"
            self.abort()

    def _answer(self, reply: Any) -> None:
        if not self._asked:
            raise ValueError("a reply to nothing")
        answer, _ = self._asked.popleft()
        if answer is self._behind:
            self._behind = None
            if self._unsent:
                self._send_soon()
        if isinstance(reply, Refusal):
            answer.errback(reply)
        else:
            answer.callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everybody who waits."""
        self._is_open = False
        for each in (self._sending, self._watching):
            if each is not None and each.active():
                each.cancel()
        super().connectionLost(reason)
        self._fail(Disconnected(self._reason))

    def _fail(self, reason: Exception) -> None:
        asked, self._asked = self._asked, deque()
        for answer, _ in asked:
            answer.errback(reason)
