"""What a subscriber is sent for a message (websocket.md 6.2)."""

from __future__ import annotations

from typing import Any

from autobahn.websocket.protocol import PreparedMessage

from mqsvc.messaging.model import Destination, Kind, Message, Subscription
from mqsvc.websocket.frames import TEXT, Format
from mqsvc.wire import codec

PLACE = '"$zaqar_message$"'
"""What stands for the notification in ``post_data`` of a subscription's options."""

WORTH_COMPRESSING = range(1024, 512 * 1024)
"""Bytes of frames that are compressed where that was negotiated.

Below it costs more than it saves; above it holds up everybody else.
"""

_NAME_KEYS = {Kind.QUEUE: "queue_name", Kind.TOPIC: "topic_name"}


class Notification:
    """One message on its way to any number of subscribers.

    Each form of it is encoded once, however many get it.

    :ivar id: of the message, which is also its place in the order.
    """

    def __init__(self, destination: Destination, message: Message, age: int) -> None:
        self.id = message.id
        self._destination = destination
        self._message = message
        self._age = age
        self._frames: dict[tuple[bool, str | None], PreparedMessage] = {}

    def frame(self, form: Format, template: str | None) -> PreparedMessage:
        """The frame for subscribers of one kind.

        :param template: text around it, see :data:`PLACE`.
        """
        key = (form.is_binary, template)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = prepared(self._encoded(form, template), form)
        return frame

    def _encoded(self, form: Format, template: str | None) -> bytes:
        if template is None:
            return form.encode(self._shape(form))
        inner = TEXT.encode(self._shape(TEXT))
        text = template.replace(PLACE, inner.decode()).encode()
        return text if form is TEXT else form.encode(_value_of(text))

    def _shape(self, form: Format) -> dict[str, Any]:
        return {
            "ttl": self._message.ttl,
            "body": form.embed(self._message.body),
            "Message_Type": "Notification",
            _NAME_KEYS[self._destination.kind]: self._destination.name,
            "id": self._message.id,
            "age": self._age,
        }


def farewell(subscription: Subscription, form: Format) -> PreparedMessage:
    """What a subscriber that asked for it is sent when the subscription is over."""
    destination = subscription.destination
    shape = {
        "Message_Type": "SubscriptionEnded",
        "body": None,
        _NAME_KEYS[destination.kind]: destination.name,
        "subscription_id": subscription.id,
    }
    return prepared(form.encode(shape), form)


def prepared(payload: bytes, form: Format) -> PreparedMessage:
    """A frame that can be sent on any connection."""
    is_left_alone = len(payload) not in WORTH_COMPRESSING
    return PreparedMessage(payload, form.is_binary, False, is_left_alone)


def _value_of(text: bytes) -> Any:
    """What a template came to: JSON, or else text."""
    try:
        return codec.decode(text)
    except codec.CodecError:
        return text.decode()
