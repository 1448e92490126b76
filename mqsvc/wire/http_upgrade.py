"""Connections that go on in another protocol than HTTP (RFC 9110, 7.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import ServerFactory
from twisted.protocols.policies import ProtocolWrapper

from mqsvc.wire.http_head import Head

Upgrades = Mapping[tuple[bytes, bytes], ServerFactory[Any]]
"""By path, and by name of the protocol in small letters: who speaks it there."""


def wanted_upgrade(head: Head, upgrades: Upgrades) -> ServerFactory[Any] | None:
    """Who is to take over after this head; none when it asks for nothing there is."""
    names = head.known.get(b"upgrade")
    if names is None or head.length != 0 or head.method != b"GET" or not head.is_1_1:
        return None
    if b"upgrade" not in _listed(head.known.get(b"connection", b"")):
        # It was meant for somebody on the way, who forgot to drop it.
        return None
    for name in _listed(names):
        found = upgrades.get((head.path, name))
        if found is not None:
            return found
    return None


def _listed(value: bytes) -> list[bytes]:
    """The words of a header with a list, in small letters."""
    return [word.strip() for word in value.lower().split(b",")]


def take_over(protocol: IProtocol, transport: Any) -> None:
    """Let a protocol have a transport that belonged to another one."""
    if isinstance(transport, ProtocolWrapper):
        # TLS, which hands on what it has decrypted.
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
