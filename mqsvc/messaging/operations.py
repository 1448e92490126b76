"""All operations, wired once for all transports."""

from __future__ import annotations

from random import SystemRandom

from attrs import frozen
from twisted.application.service import IService
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from mqsvc.bus import Bus
from mqsvc.clock import milliseconds
from mqsvc.messaging.audience import Audience
from mqsvc.messaging.claims import Claims
from mqsvc.messaging.dead_letters import DeadLetters
from mqsvc.messaging.flavors import Flavors
from mqsvc.messaging.health import Health
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import Messages
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.pools import Pools
from mqsvc.messaging.pulse import Pulse
from mqsvc.messaging.queues import Queues
from mqsvc.messaging.recheck import Recheck
from mqsvc.messaging.records import Records
from mqsvc.messaging.subscribers import Anybody, Subscribers
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.messaging.volume import Volume
from mqsvc.messaging.waiting import Waiting
from mqsvc.storage.interfaces import (
    IManagementStore,
    IMessageStore,
    IPooledMessageStore,
)


@frozen
class Administration:
    """What only a service with pools offers."""

    pools: Pools
    flavors: Flavors


@frozen
class Operations:
    """What transports call.

    :ivar administration: none where there are no pools.
    :ivar services: what has to run for them.
    """

    queues: Queues
    messages: Messages
    claims: Claims
    subscriptions: Subscriptions
    health: Health
    waiting: Waiting
    bus: Bus
    administration: Administration | None
    services: tuple[IService, ...]

    @classmethod
    def over(
        cls,
        management: IManagementStore,
        messages: IMessageStore,
        records: Records,
        limits: Limits,
        clock: IReactorTime,
        pooled: IPooledMessageStore | None = None,
        can_encrypt: bool = False,
        audience: Audience | None = None,
        subscribers: Subscribers | None = None,
    ) -> Operations:
        """The operations over a pair of stores.

        :param records: those of the management store; with a placement where there is
            a pooled store, and without one where there is none. Signals go by its bus.
        :param pooled: what takes destinations to their pools, somewhere below
            ``messages``; without it there are no pools.
        :param can_encrypt: whether the message store has a key.
        :param audience: learns of new subscriptions.
        :param subscribers: decides who can be told; without it everybody is accepted,
            and nobody is asked.
        """
        now, bus, occupancy = milliseconds(clock), records.bus, Occupancy()
        waiting = Waiting(messages, bus, clock)
        letters = DeadLetters(messages, records, occupancy, bus, now, can_encrypt)
        on_messages = (messages, records, waiting, bus, limits, now, occupancy)
        queues = Queues(management, messages, records, limits, now, occupancy)
        volume = Volume(records.quotas.max_stored_bytes, messages, clock)
        posts = Messages(*on_messages, can_encrypt, volume)
        claims = Claims(*on_messages, letters)
        return cls(
            queues=queues,
            messages=posts,
            claims=claims,
            subscriptions=Subscriptions(
                *(management, records, limits, now, SystemRandom().getrandbits),
                audience or Audience(management, now, bus),
                subscribers or Anybody(),
            ),
            health=Health(
                *(management, pooled, records, queues, posts, claims, clock),
                Pulse(management, messages, clock),
            ),
            waiting=waiting,
            bus=bus,
            administration=_administration(management, pooled, limits),
            services=(
                () if bus.is_alone else (Recheck(records, messages, occupancy, clock),)
            ),
        )


def _administration(
    management: IManagementStore, pooled: IPooledMessageStore | None, limits: Limits
) -> Administration | None:
    if pooled is None:
        return None
    one_at_a_time = DeferredLock()
    return Administration(
        Pools(management, pooled, limits, one_at_a_time),
        Flavors(management, limits, one_at_a_time),
    )
