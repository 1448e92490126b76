"""A line through Redis: one channel of its publish and subscribe.

Two connections, since one that listens to a channel cannot speak. A silent server is
given up, and a lost connection takes the other one with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from mqsvc.storage.messages.redis_address import Address
from mqsvc.storage.messages.redis_connection import endpoint_of
from mqsvc.storage.messages.redis_wire import Refusal, Replies, encode_command

PING_SECONDS = 5.0
"""A server that says nothing for this time is asked, and for twice it is given up."""


Words = tuple[str | bytes, ...]


class Lost(Exception):
    """A connection to Redis is lost."""


class RedisLine:
    """See :class:`~mqsvc.links.remote.Line`."""

    def __init__(self, address: Address, reactor: Any) -> None:
        self._address = address
        self._reactor = reactor
        self._speaker: Conversation | None = None
        # Channels do not belong to a database.
        self._channel = f"{address.prefix}:{address.database}:bus"

    def __str__(self) -> str:
        """For the log."""
        return str(self._address)

    async def follow(
        self, begin: Callable[[], None], hear: Callable[[bytes], None]
    ) -> None:
        """See :class:`~mqsvc.links.remote.Line`, as for what follows."""
        over: Deferred[None] = Deferred()
        conversations: list[Conversation] = []
        try:
            for _ in range(2):
                conversations.append(await self._connect(hear, over))
            self._speaker, listener = conversations
            await listener.ask("SUBSCRIBE", self._channel)
            begin()
            await over
            raise Lost("the connection was lost")
        finally:
            self._speaker = None
            for each in conversations:
                each.end()

    def say(self, data: bytes) -> None:
        """Published, and its answer not waited for."""
        if self._speaker is not None:
            self._speaker.tell("PUBLISH", self._channel, data)

    async def _connect(
        self, hear: Callable[[bytes], None], over: Deferred[None]
    ) -> Conversation:
        def lose() -> None:
            if not over.called:
                over.callback(None)

        factory = Factory.forProtocol(lambda: Conversation(self._reactor, hear, lose))
        factory.noisy = False
        endpoint = endpoint_of(self._address, self._reactor)
        conversation: Any = await endpoint.connect(factory)
        try:
            await self._log_in(conversation)
        except BaseException:
            conversation.end()
            raise
        made: Conversation = conversation
        return made

    async def _log_in(self, conversation: Conversation) -> None:
        address = self._address
        if address.password:
            user = [address.username] if address.username else []
            await conversation.ask("AUTH", *user, address.password)


class Conversation(Protocol):
    """Commands and their answers, and what is published in between.

    :param hear: called with what was published.
    :param lose: called when it is over.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        hear: Callable[[bytes], None],
        lose: Callable[[], None],
    ) -> None:
        self._hear = hear
        self._lose = lose
        self._replies = Replies()
        self._asked: deque[Deferred[Any] | None] = deque()
        self._is_silent = False
        self._pings = LoopingCall(self._ping)
        self._pings.clock = clock

    def connectionMade(self) -> None:
        """Begin to watch that it is there."""
        self.transport.setTcpKeepAlive(True)
        self._pings.start(PING_SECONDS, now=False)

    def ask(self, *words: str | bytes) -> Deferred[Any]:
        """The answer to a command.

        :raise Refusal: Redis does not do it.
        :raise Lost: there is no answer.
        """
        answer: Deferred[Any] = Deferred(lambda _: None)
        self._send(words, answer)
        return answer

    def tell(self, *words: str | bytes) -> None:
        """A command whose answer matters to nobody."""
        self._send(words, None)

    def end(self) -> None:
        """Close it."""
        self.transport.abortConnection()

    def _send(self, words: Words, answer: Deferred[Any] | None) -> None:
        self._asked.append(answer)
        self.transport.write(encode_command(words))

    def _ping(self) -> None:
        if self._is_silent:
            self.end()
        else:
            self._is_silent = True
            self.tell("PING")

    def dataReceived(self, data: bytes) -> None:
        """Answers and what was published, in order."""
        self._is_silent = False
        try:
            replies = self._replies.feed(data)
        except ValueError:
            self.end()
            return
        for reply in replies:
            if isinstance(reply, list) and reply and reply[0] == b"message":
                self._hear(reply[2])
            else:
                self._answer(reply)

    def _answer(self, reply: Any) -> None:
        answer = self._asked.popleft() if self._asked else None
        if answer is not None and not answer.called:
            if isinstance(reply, Refusal):
                answer.errback(reply)
            else:
                answer.callback(reply)
        elif isinstance(reply, Refusal):
            # It is no server for this (any more).
            self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits for an answer any more."""
        if self._pings.running:
            self._pings.stop()
        while self._asked:
            answer = self._asked.popleft()
            if answer is not None and not answer.called:
                answer.errback(Lost("the connection was lost"))
        self._lose()
