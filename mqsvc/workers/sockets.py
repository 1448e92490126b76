"""Sockets that the supervisor binds and its workers listen on."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from mqsvc.config import ConfigError
from mqsvc.service import Listener, parse_endpoint
from mqsvc.workers.spread import Seat, SharedPort, SharedUNIXPort

SHAREABLE = ("ssl", "systemd", "tcp", "tcp6", "tls", "unix")
"""The kinds of endpoints whose sockets processes can share."""

_PROXIED = "haproxy:"


def refuse_unshareable(option: str, description: str) -> None:
    """Accept an endpoint whose socket several processes can listen on.

    :raise ConfigError: it is of another kind.
    """
    bare = description.removeprefix(_PROXIED)
    kind = bare.partition(":")[0]
    if kind not in SHAREABLE or (kind == "systemd" and bare != description):
        raise ConfigError(
            f"{option}: workers cannot share {description!r}; use an endpoint of one "
            f"of the kinds {', '.join(SHAREABLE)}, or set workers = 1"
        )


class _Workers(Factory):
    """Stands for those who take the connections, in the log."""

    protocol = Protocol
    noisy = False


class BoundSocket(Listener):
    """One endpoint, bound for others: it takes no connections itself."""

    def __init__(
        self,
        option: str,
        description: str,
        reactor: Any,
        clock: IReactorTime,
        *,
        stays_here: bool,
        is_needed: bool = True,
    ) -> None:
        refuse_unshareable(option, description)
        endpoint = parse_endpoint(reactor, option, description)
        super().__init__(
            *(description, endpoint, _Workers(), lambda: 0, clock),
            stays_here=stays_here,
            is_needed=is_needed,
            option=option,
        )

    def privilegedStartService(self) -> None:
        """Bind, while the process may still bind low ports.

        :raise StartFailure: as any listener.
        """
        super().privilegedStartService()
        if self.is_bound:
            # No connection could have been taken yet.
            self._shared.stopReading()

    @property
    def descriptor(self) -> int:
        """Of the socket, once it is bound."""
        descriptor: int = self._shared.fileno()
        return descriptor

    @property
    def _shared(self) -> Any:
        """The port, which is one of Twisted's own, see :data:`SHAREABLE`."""
        return self.port


def inherited_endpoint(
    reactor: Any, option: str, description: str, descriptor: int, seat: Seat
) -> IStreamServerEndpoint:
    """What an endpoint string describes, on the socket that a supervisor bound for it.

    :param description: accepted by :func:`refuse_unshareable`.
    """
    inheriting = _InheritingReactor(reactor, descriptor, seat)
    if description.startswith("systemd:"):
        # This process has the socket from its supervisor, not from systemd.
        return TCP4ServerEndpoint(inheriting, 0)
    return parse_endpoint(inheriting, option, description)


class _InheritingReactor:
    """A reactor that listens on one inherited socket, wherever it is told to listen.

    So what an endpoint puts around its socket, as TLS, is there as well.
    """

    def __init__(self, reactor: Any, descriptor: int, seat: Seat) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._seat = seat

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, *_: Any, **__: Any) -> SharedPort:
        """Listen on the socket."""
        return self._listen(factory)

    def listenUNIX(self, address: str, factory: Any, *_: Any, **__: Any) -> SharedPort:
        """Listen on the socket."""
        return self._listen(factory)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, *_: Any, **__: Any
    ) -> SharedPort:
        """Listen on the socket, and speak TLS there."""
        # pyOpenSSL takes a while to import.
        from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415

        secured = TLSMemoryBIOFactory(contextFactory, False, factory, self._reactor)
        return self._listen(secured)

    def _listen(self, factory: Any) -> SharedPort:
        with socket.socket(fileno=os.dup(self._descriptor)) as bound:
            is_unix = bound.family == socket.AF_UNIX
            kind: Any = SharedUNIXPort if is_unix else SharedPort
            port: SharedPort = kind.on(bound, factory, self._reactor, self._seat)
        os.close(self._descriptor)
        port.startListening()
        return port
