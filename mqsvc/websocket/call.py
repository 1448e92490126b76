"""What an action is given, and how actions are declared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from attrs import frozen

from mqsvc.access.identity import Caller
from mqsvc.messaging import checks
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.model import Destination, Message, Subscription
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.frames import Format
from mqsvc.websocket.schema import KINDS, Schema


class Subscriber(Protocol):
    """A connection as the actions about subscriptions see it."""

    uri: str
    """Stands for the connection in the records of its subscriptions."""

    def may_subscribe(self) -> bool:
        """Whether it may have one more subscription."""

    async def subscribe(
        self, subscription: Subscription, form: Format
    ) -> Mapping[str, Any]:
        """Push the messages of a subscription; gives what the client is told of it."""

    def acknowledge(self, subscription_id: str, message_id: str) -> bool:
        """Make room for more pushes; gives whether there is such a subscription."""


@frozen
class Call:
    """One request after all checks that do not depend on the action.

    :ivar headers: as sent; names in the case of the contract.
    :ivar form: what the reply is encoded in.
    """

    caller: Caller
    headers: Mapping[str, Any]
    body: Mapping[str, Any]
    form: Format
    subscriber: Subscriber

    @property
    def destination(self) -> Destination:
        """The queue or topic that the body names.

        :raise InvalidName: it cannot have that name.
        """
        for key, kind in KINDS.items():
            if key in self.body:
                name = self.body[key]
                found = Destination(self.caller.project, kind, name)
                return checks.destination(found)
        raise AssertionError("the schema of this action names no queue or topic")

    def texts(self, key: str) -> list[str] | None:
        """An array of strings; none when it is not given.

        :raise InvalidRequest: something else is in it.
        """
        items = self.body.get(key)
        if items is not None and not all(isinstance(item, str) for item in items):
            raise InvalidRequest(f"'{key}' must be an array of strings.")
        return items

    def document(self, *without: str) -> dict[str, Any]:
        """The body, except for what names the thing that it is about."""
        hidden = {*KINDS, *without}
        return {key: value for key, value in self.body.items() if key not in hidden}

    def message(self, message: Message, age: int) -> dict[str, Any]:
        """A message as every action shows it, without a claim."""
        return {
            "id": message.id,
            "claim_id": None,
            "ttl": message.ttl,
            "age": age,
            "body": self.form.embed(message.body),
        }


Handler = Callable[[Call], Awaitable[Reply]]


@frozen
class Action:
    """One thing that a client can ask for.

    :ivar rule: the rule of the policy that has to allow it; an empty one is none.
    :ivar signed_method: what a signature must allow on the messages of the queue to
        stand in for authentication; without it no signature does.
    :ivar may_wait: whether it waits for something when ``wait`` asks for that.
    """

    handler: Handler
    schema: Schema
    rule: str
    signed_method: str | None = None
    may_wait: bool = False
