"""The yardstick for a ping: httptools under Twisted, and nothing else.

Answers every request with as many bytes as mqsvc answers ``GET /v2/ping`` with. What a
server reaches of this rate is what its routing, checks and identity leave of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import httptools
from twisted.internet import endpoints, reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

ANSWER = (
    b"HTTP/1.1 204 No Content\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
    b"X-Openstack-Request-Id: req-00000000-0000-4000-8000-000000000000\r\n\r\n"
)


class Bare(Protocol):
    """One connection."""

    def connectionMade(self) -> None:
        """Have the parser call this object."""
        self._parser = httptools.HttpRequestParser(self)

    def dataReceived(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        assert self.transport is not None
        self.transport.write(ANSWER)


class Bares(Factory):
    """All connections, without a log."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Bare:
        """A connection."""
        return Bare()


def main(arguments: Sequence[str]) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bare", description="A server of pings alone."
    )
    parser.add_argument("port", type=int)
    options = parser.parse_args(arguments)
    endpoint = endpoints.TCP4ServerEndpoint(
        reactor, options.port, interface="127.0.0.1"
    )
    endpoint.listen(Bares()).addErrback(_give_up)
    reactor.run()


def _give_up(failure: Failure) -> None:
    print(failure.getErrorMessage(), file=sys.stderr)
    reactor.callWhenRunning(reactor.stop)


if __name__ == "__main__":
    main(sys.argv[1:])
