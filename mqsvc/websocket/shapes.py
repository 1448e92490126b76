"""Ages, as all actions show them."""

from __future__ import annotations

from attrs import frozen

from mqsvc.clock import Now
from mqsvc.messaging.model import Claim, Message, Subscription


@frozen
class Ages:
    """Tells how old things are."""

    _now: Now

    def of(self, thing: Message | Claim | Subscription) -> int:
        """Whole seconds since it was made."""
        return max(self._now() - thing.created, 0) // 1000
