"""A name server of the tests, and what webhooks need of the world."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.web.client import BrowserLikePolicyForHTTPS

from mqsvc.notification.connecting import Connections
from mqsvc.notification.guard import TargetGuard
from mqsvc.notification.resolving import TargetResolver
from mqsvc.notification.target import Address
from mqsvc.notification.webhook import Webhook


class Names:
    """Knows names by heart; each question takes the next answer, the last one stays."""

    def __init__(self, **answers: Sequence[list[str]]) -> None:
        self._answers = {name: list(known) for name, known in answers.items()}
        self.asked: list[str] = []

    def addresses_of(self, name: str) -> Deferred[list[Address]]:
        """See :class:`mqsvc.notification.resolving.Names`."""
        self.asked.append(name)
        answers = self._answers.get(name, [[]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return succeed([ip_address(address) for address in found])


class Outside:
    """Webhooks with real connections, by default also to this machine."""

    def __init__(
        self,
        names: Any = None,
        allowed: Sequence[str] = (),
        is_local: bool = True,
        trust: Any = None,
        clock: Any = reactor,
    ) -> None:
        networks = [ip_network(text) for text in allowed]
        guard = TargetGuard(networks, is_local)
        self.resolver = TargetResolver(guard, names or Names(), clock)
        policy = BrowserLikePolicyForHTTPS(trust)
        self.connections = Connections(reactor, self.resolver, policy)
        self.webhook = Webhook(self.connections, self.resolver, clock)
