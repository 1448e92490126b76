"""Questions to subscribers, whether they want the notifications (semantics.md 8).

They are written down as deliveries, so that they survive a restart and are tried again
like all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import field, frozen
from msgspec import Raw
from twisted.logger import Logger

from mqsvc.clock import Now
from mqsvc.messaging.audience import CONNECTION
from mqsvc.messaging.model import Destination, Subscription
from mqsvc.messaging.records import Records
from mqsvc.notification.channel import Notice
from mqsvc.notification.confirmation import Ask, Confirmations, NoPage
from mqsvc.notification.entries import CLIENT, KEPT_SECONDS, Delivery, due, stored
from mqsvc.notification.forwarding import target_of
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, first_position, format_id
from mqsvc.storage.interfaces import IMessageStore


def can_answer(subscription: Subscription) -> bool:
    """Whether somebody is there to be asked.

    A connection has asked for itself, and a queue of the project is nobody.
    """
    source, subscriber = subscription.destination, subscription.subscriber
    return not subscriber.startswith(CONNECTION) and not target_of(source, subscriber)


PAUSE = 60_000
"""Milliseconds after a question in which it is not asked again: else whoever may
subscribe could fill the mailbox of anybody."""

MOST_ASKED = 10_000
"""Questions that are remembered; the oldest one makes room."""

_Asked = OrderedDict[tuple[Ask, str], int]


@frozen
class Questions:
    """Asks subscribers.

    :ivar _store: below all message filters.
    :ivar _wake: called when there is something to deliver.
    :ivar _asked: when what was asked last, by question and subscription.
    """

    _confirmations: Confirmations
    _store: IMessageStore
    _records: Records
    _now: Now
    _random_bits: RandomBits
    _wake: Callable[[], None]
    _asked: _Asked = field(factory=OrderedDict, init=False)

    log = Logger()

    async def ask(self, ask: Ask, subscription: Subscription) -> None:
        """Have a subscriber asked, unless that was done a moment ago.

        :raise StoreUnavailable: the question could not be written down.
        """
        now, key = self._now(), (ask, subscription.id)
        if now < self._asked.get(key, -PAUSE) + PAUSE:
            return
        number = format_id(first_position(now), self._random_bits(RANDOM_BITS))
        try:
            notice = self._confirmations.notice(
                ask, subscription, f"{number}-{subscription.id}", now
            )
        except NoPage as error:
            self.log.error("{error}", error=error)
            return
        self._remember(key, now)
        try:
            await self._write(subscription.destination, notice)
        except Exception:
            self._asked.pop(key, None)
            raise
        self._wake()

    def _remember(self, key: tuple[Ask, str], now: int) -> None:
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > MOST_ASKED:
            self._asked.popitem(last=False)

    async def _write(self, destination: Destination, notice: Notice) -> None:
        delivery = Delivery(
            id=notice.delivery_id,
            project=destination.project,
            kind=destination.kind.value,
            name=destination.name,
            subscription=notice.subscription.id,
            content=Raw(notice.content),
            letter=notice.letter,
            is_question=True,
        )
        encrypt = (await self._records.know(destination)).rules.encrypt
        record = stored(delivery, KEPT_SECONDS, encrypt=encrypt)
        pool = await self._records.pool_of(destination)
        await self._store.post(due(pool), [record], CLIENT, self._now())
