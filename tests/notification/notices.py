"""Notices as the dispatcher makes them."""

from __future__ import annotations

from typing import Any

from mqsvc.messaging.model import Destination, Kind, Subscription
from mqsvc.notification.channel import Letter, Notice

QUEUE = Destination("p1", Kind.QUEUE, "nq")

CONTENT = b'{"ttl":300,"body":{"x":1},"Message_Type":"Notification","queue_name":"nq"}'


def subscription(subscriber: str, **options: Any) -> Subscription:
    """One of the queue above."""
    return Subscription("s1", QUEUE, subscriber, 3600, 0, options, confirmed=True)


def notice(
    subscriber: str,
    content: bytes = CONTENT,
    letter: Letter | None = None,
    **options: Any,
) -> Notice:
    """The first attempt of a delivery."""
    return Notice(subscription(subscriber, **options), "d-1", 1, content, letter)
