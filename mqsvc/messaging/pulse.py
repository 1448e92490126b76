"""Whether the stores answer, without asking them for each probe.

Load balancers ask often, and some clients before each request.
"""

from __future__ import annotations

from math import inf

from twisted.internet.interfaces import IReactorTime

from mqsvc.storage.interfaces import IManagementStore, IMessageStore

GOOD_SECONDS = 0.5
"""How long stores that answered count as answering; a failure is never remembered."""


class Pulse:
    """Asks both stores, and remembers for a moment that they answered."""

    def __init__(
        self, management: IManagementStore, messages: IMessageStore, clock: IReactorTime
    ) -> None:
        self._management = management
        self._messages = messages
        self._clock = clock
        self._good_until = -inf

    async def check(self) -> None:
        """Fires when every store answers, or did a moment ago.

        :raise StoreUnavailable: one does not.
        """
        if self._clock.seconds() < self._good_until:
            return
        await self.ask()

    async def ask(self) -> None:
        """Fires when every store answers now.

        :raise StoreUnavailable: one does not.
        """
        self._good_until = -inf
        asked = self._clock.seconds()
        await self._management.ping()
        await self._messages.ping()
        self._good_until = asked + GOOD_SECONDS
