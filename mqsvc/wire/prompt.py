"""Connections that send at once what they are given.

Twisted keeps what is written until the reactor finds that the socket takes it, which
it nearly always does: two system calls and an event for each answer, that cost more
than sending it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort


class Prompt(tcp.Connection):
    """Sends at once what the socket takes at once; mixed in before a transport."""

    def write(self, data: bytes) -> None:
        """See :class:`twisted.internet.interfaces.ITransport`."""
        # Only what nothing is waiting in front of; and a producer that is asked for
        # each piece is asked by the reactor, when it has sent the last one.
        if (
            data
            and self.connected
            and not (self.dataBuffer or self._tempDataBuffer or self.TLS)
            and not self._aborting
            and (self.producer is None or self.streamingProducer)
        ):
            try:
                sent = self.socket.send(data)
            except OSError:
                # It takes nothing now, or is lost: the reactor finds out.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        super().write(data)


class PromptTCP(Prompt, tcp.Server):
    """A connection over TCP."""


class PromptUNIX(Prompt, unix.Server):
    """A connection over a Unix socket."""


_PROMPT: dict[type, type] = {tcp.Server: PromptTCP, unix.Server: PromptUNIX}


def make_prompt(port: IListeningPort) -> None:
    """Let the connections that a port of Twisted's takes send at once; others stay."""
    listening: Any = port
    kind = getattr(listening, "transport", None)
    if kind in _PROMPT:
        listening.transport = _PROMPT[kind]
