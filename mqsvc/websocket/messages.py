"""Actions on messages (websocket.md 5.2)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mqsvc.access.identity import client_id_of
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import Messages, View
from mqsvc.messaging.model import Message
from mqsvc.websocket.call import Action, Call
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.schema import Schema
from mqsvc.websocket.shapes import Ages
from mqsvc.wire import codec

_KINDS = "queue_name topic_name"


@frozen
class MessageActions:
    """What can be done with the messages of queues and topics."""

    _messages: Messages
    _limits: Limits
    _ages: Ages

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        paging = "marker limit echo include_claimed include_delayed wait"
        posting, listing = (
            Schema.of("messages", "", _KINDS),
            Schema.of("", paging, _KINDS),
        )
        one = Schema.of("message_id", "", _KINDS)
        many = Schema.of("message_ids", "", _KINDS)
        deleting = Schema.of("message_id", "claim_id", _KINDS)
        clearing = Schema.of("", "message_ids claim_ids pop", _KINDS)
        read, removal = "messages:get_all", "messages:delete_all"
        return {
            "message_post": Action(self.post, posting, "messages:create", "POST"),
            "message_list": Action(self.page, listing, read, "GET", may_wait=True),
            "message_get": Action(self.get, one, "messages:get", "GET"),
            "message_get_many": Action(self.get_many, many, read, "GET"),
            "message_delete": Action(
                self.delete, deleting, "messages:delete", "DELETE"
            ),
            "message_delete_many": Action(
                self.delete_many, clearing, removal, "DELETE"
            ),
            "message_pop": Action(
                self.pop, Schema.of("pop", "", _KINDS), removal, "DELETE"
            ),
        }

    async def post(self, call: Call) -> Reply:
        """Append messages."""
        messages = call.body["messages"]
        client_id = self._client_id(call)
        # The envelope does not count.
        size = len(codec.encode(messages))
        ids = await self._messages.post(call.destination, client_id, messages, size)
        return Reply(201, {"message_ids": ids})

    async def page(self, call: Call) -> Reply:
        """List messages, without those of the caller unless they are asked for."""
        body, client_id = call.body, self._client_id(call)
        view = View(
            limit=body.get("limit"),
            marker=body.get("marker"),
            hide_client=None if body.get("echo") else client_id,
            include_claimed=body.get("include_claimed", False),
            include_delayed=body.get("include_delayed", False),
        )
        wait = body.get("wait", 0)
        listing = await self._messages.page(call.destination, view, wait)
        shown: dict[str, Any] = {
            "messages": [self._shape(call, message) for message in listing.messages]
        }
        if listing.messages:
            shown["marker"] = listing.messages[-1].id
        return Reply(200, shown)

    async def get(self, call: Call) -> Reply:
        """One message, under a plural name."""
        message = await self._messages.get(call.destination, call.body["message_id"])
        return Reply(200, {"messages": self._shape(call, message)})

    async def get_many(self, call: Call) -> Reply:
        """Messages by id."""
        ids = call.texts("message_ids") or []
        messages = await self._messages.get_many(call.destination, ids)
        return Reply(200, {"messages": [self._shape(call, m) for m in messages]})

    async def delete(self, call: Call) -> Reply:
        """Delete one message, with its claim when it is claimed."""
        body = call.body
        await self._messages.delete(
            call.destination, body["message_id"], body.get("claim_id")
        )
        return Reply(204)

    async def delete_many(self, call: Call) -> Reply:
        """Delete messages by id, or take the oldest."""
        ids, claim_ids = call.texts("message_ids"), call.texts("claim_ids")
        if (ids is None) == ("pop" not in call.body):
            raise InvalidRequest("Give either 'message_ids' or 'pop'.")
        if ids is None:
            return await self.pop(call)
        await self._messages.delete_many(call.destination, ids, claim_ids)
        return Reply(204)

    async def pop(self, call: Call) -> Reply:
        """Take and delete the oldest free messages."""
        messages = await self._messages.pop(call.destination, call.body["pop"])
        return Reply(200, {"messages": [self._popped(call, m) for m in messages]})

    def _popped(self, call: Call, message: Message) -> dict[str, Any]:
        return {**self._shape(call, message), "claim_count": message.claim_count}

    def _shape(self, call: Call, message: Message) -> dict[str, Any]:
        return call.message(message, self._ages.of(message))

    def _client_id(self, call: Call) -> str:
        return client_id_of(call.headers.get, self._limits)
