"""All operations, wired once for all transports."""

from __future__ import annotations

from random import SystemRandom

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.claims import Claims
from mqsvc.messaging.health import Health
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import Messages
from mqsvc.messaging.queues import Queues
from mqsvc.messaging.records import Records
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.messaging.waiting import Waiting
from mqsvc.storage.interfaces import IManagementStore, IMessageStore


@frozen
class Operations:
    """What transports call."""

    queues: Queues
    messages: Messages
    claims: Claims
    subscriptions: Subscriptions
    health: Health
    waiting: Waiting

    @classmethod
    def over(
        cls,
        management: IManagementStore,
        messages: IMessageStore,
        limits: Limits,
        clock: IReactorTime,
    ) -> Operations:
        """The operations over a pair of stores."""
        now, bus = milliseconds(clock), Bus()
        records = Records(management, limits)
        waiting = Waiting(messages, bus, clock)
        on_messages = (messages, records, waiting, bus, limits, now)
        queues = Queues(management, messages, records, limits, now)
        posts, claims = Messages(*on_messages), Claims(*on_messages)
        return cls(
            queues=queues,
            messages=posts,
            claims=claims,
            subscriptions=Subscriptions(
                management, records, limits, now, SystemRandom().getrandbits
            ),
            health=Health((management, messages), queues, posts, claims, clock),
            waiting=waiting,
        )
