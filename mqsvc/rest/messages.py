"""``.../messages``: post, list, get, delete, pop (rest.md 5.13 to 5.18)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import InvalidBody, InvalidRequest, MessageDoesNotExist
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.messages import Listing, Messages, View
from mqsvc.messaging.model import Kind
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.query import next_links
from mqsvc.rest.route import Entry, Route
from mqsvc.rest.shapes import Shapes

_MOST_IN_LOCATION = 100


@frozen
class MessageResource:
    """Handlers for the messages of queues and topics."""

    _messages: Messages
    _shapes: Shapes
    _limits: Limits

    def routes(self, kind: Kind) -> list[Route]:
        """The table of paths."""
        base = f"/v2/{kind.value}s/<destination>/messages"
        collection = {
            "GET": Entry("messages:get_all", self.page_or_get_many, may_wait=True),
            "POST": Entry("messages:create", self.post),
            "DELETE": Entry("messages:delete_all", self.pop_or_delete_many),
        }
        item = {
            "GET": Entry("messages:get", self.get),
            "DELETE": Entry("messages:delete", self.delete),
        }
        return [
            Route(base, collection, kind),
            Route(f"{base}/<message_id>", item, kind),
        ]

    async def post(self, call: Call) -> Answer:
        """Append messages."""
        # What is too large for every queue is not parsed; the operation says so.
        is_parsed = call.size <= self._limits.max_messages_post_size
        document = call.required_object() if is_parsed else None
        if document is not None and "messages" not in document:
            raise InvalidBody("Missing parameter 'messages' in the body.")
        messages = None if document is None else document["messages"]
        ids = await self._messages.post(
            call.destination, call.caller.client_id, messages, call.size
        )
        path = f"{call.path}/messages"
        # No more ids than such a request may name, and than fit into the header lines
        # that clients read.
        shown = ids[: min(self._limits.max_messages_per_page, _MOST_IN_LOCATION)]
        return Answer(
            201,
            {"resources": [f"{path}/{message_id}" for message_id in ids]},
            {"location": f"{path}?ids={','.join(shown)}"},
        )

    async def page_or_get_many(self, call: Call) -> Answer:
        """List messages, or fetch those named."""
        ids = call.query.items("ids")
        if ids is None:
            return await self._page(call)
        messages = await self._messages.get_many(call.destination, ids)
        if not messages:
            raise MessageDoesNotExist("None of these messages exists.")
        return Answer(200, {"messages": self._shapes.messages(messages, call.path)})

    async def _page(self, call: Call) -> Answer:
        query = call.query
        given = {
            "limit": query.integer("limit"),
            "echo": query.boolean("echo"),
            "include_claimed": query.boolean("include_claimed"),
            "include_delayed": query.boolean("include_delayed"),
            "wait": query.integer("wait"),
        }
        view = View(
            limit=given["limit"],
            marker=query.text("marker"),
            hide_client=None if given["echo"] else call.caller.client_id,
            include_claimed=bool(given["include_claimed"]),
            include_delayed=bool(given["include_delayed"]),
        )
        wait = given["wait"] or 0
        listing = await self._messages.page(call.destination, view, wait)
        return Answer(200, self._listing(call, listing, given))

    def _listing(
        self, call: Call, listing: Listing, given: dict[str, Any]
    ) -> dict[str, Any]:
        links = []
        if listing.messages:
            parameters = {**given, "marker": listing.messages[-1].id}
            if listing.selection.include_delayed:
                parameters["include_delayed"] = True
            links = next_links(f"{call.path}/messages", parameters)
        messages = self._shapes.messages(listing.messages, call.path)
        return {"messages": messages, "links": links}

    async def get(self, call: Call) -> Answer:
        """One message."""
        message_id = call.arguments["message_id"]
        message = await self._messages.get(call.destination, message_id)
        return Answer(200, self._shapes.message(message, call.path))

    async def delete(self, call: Call) -> Answer:
        """Delete one message, with its claim when it is claimed."""
        message_id, claim_id = call.arguments["message_id"], call.query.text("claim_id")
        await self._messages.delete(call.destination, message_id, claim_id)
        return Answer(204)

    async def pop_or_delete_many(self, call: Call) -> Answer:
        """Take and delete the oldest, or delete those named."""
        query = call.query
        ids, pop = query.items("ids"), query.integer("pop")
        claim_ids = query.items("claim_ids")
        if (ids is None) == (pop is None):
            raise InvalidRequest("Give either 'ids' or 'pop'.")
        if ids is not None:
            await self._messages.delete_many(call.destination, ids, claim_ids)
            return Answer(204)
        if claim_ids is not None:
            raise InvalidRequest("'claim_ids' goes with 'ids', not with 'pop'.")
        messages = await self._messages.pop(call.destination, pop or 0)
        return Answer(200, {"messages": [self._shapes.popped(m) for m in messages]})
