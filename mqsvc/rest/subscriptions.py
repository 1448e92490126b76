"""``.../subscriptions``: who is told of messages (rest.md 5.23 to 5.28)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mqsvc.messaging.errors import Conflict
from mqsvc.messaging.model import Kind, Subscription
from mqsvc.messaging.subscription_options import shown
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.notification.deliveries import Deliveries
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.deliveries import DeliveryResource
from mqsvc.rest.query import next_links
from mqsvc.rest.route import Entry, Route
from mqsvc.rest.shapes import Shapes


@frozen
class SubscriptionResource:
    """Handlers for the subscriptions of queues and topics."""

    _subscriptions: Subscriptions
    _deliveries: Deliveries | None
    _shapes: Shapes

    def routes(self, kind: Kind) -> list[Route]:
        """The table of paths."""
        base = f"/v2/{kind.value}s/<destination>/subscriptions"
        collection = {
            "GET": Entry("subscription:get_all", self.page),
            "POST": Entry("subscription:create", self.create),
        }
        item = {
            "GET": Entry("subscription:get", self.get),
            "PATCH": Entry("subscription:update", self.update),
            "DELETE": Entry("subscription:delete", self.delete),
        }
        confirm = {"PUT": Entry("subscription:confirm", self.confirm)}
        return [
            Route(base, collection, kind),
            Route(f"{base}/<subscription_id>", item, kind),
            Route(f"{base}/<subscription_id>/confirm", confirm, kind),
            *self._delivery_routes(base, kind),
        ]

    def _delivery_routes(self, base: str, kind: Kind) -> list[Route]:
        if self._deliveries is None:
            return []
        resource = DeliveryResource(self._deliveries)
        entries = {
            "GET": Entry("subscription:get", resource.show),
            "POST": Entry("subscription:update", resource.resend),
        }
        return [Route(f"{base}/<subscription_id>/deliveries", entries, kind)]

    async def page(self, call: Call) -> Answer:
        """List subscriptions."""
        limit = call.query.integer("limit")
        subscriptions = await self._subscriptions.page(
            call.destination,
            limit,
            call.query.text("marker") or "",
        )
        links = []
        if subscriptions:
            parameters = {"limit": limit, "marker": subscriptions[-1].id}
            links = next_links(f"{call.path}/subscriptions", parameters)
        found = [self._shape(subscription) for subscription in subscriptions]
        return Answer(200, {"subscriptions": found, "links": links})

    def _shape(self, subscription: Subscription) -> dict[str, Any]:
        return {
            "id": subscription.id,
            "source": subscription.destination.name,
            "subscriber": subscription.subscriber,
            "ttl": subscription.ttl,
            "age": self._shapes.age(subscription.created),
            "options": shown(subscription.options),
            "confirmed": subscription.confirmed,
        }

    async def create(self, call: Call) -> Answer:
        """Subscribe."""
        location = f"{call.path}/subscriptions"
        document = call.required_object()
        try:
            created = await self._subscriptions.create(
                call.destination, document, call.caller.token
            )
        except Conflict as error:
            raise Conflict(error.description, location) from error
        return Answer(201, {"subscription_id": created.id}, {"location": location})

    async def get(self, call: Call) -> Answer:
        """One subscription."""
        subscription = await self._subscriptions.get(
            call.destination, call.arguments["subscription_id"]
        )
        return Answer(200, self._shape(subscription))

    async def update(self, call: Call) -> Answer:
        """Change one."""
        subscription_id = call.arguments["subscription_id"]
        document = call.required_document()
        await self._subscriptions.update(
            call.destination, subscription_id, document, call.caller.token
        )
        location = f"{call.path}/subscriptions/{subscription_id}"
        return Answer(204, headers={"location": location})

    async def delete(self, call: Call) -> Answer:
        """Unsubscribe."""
        await self._subscriptions.delete(
            call.destination, call.arguments["subscription_id"]
        )
        return Answer(204)

    async def confirm(self, call: Call) -> Answer:
        """Record whether the subscriber agreed."""
        subscription_id = call.arguments["subscription_id"]
        document = call.required_document()
        await self._subscriptions.confirm(call.destination, subscription_id, document)
        location = f"{call.path}/subscriptions/{subscription_id}/confirm"
        return Answer(204, headers={"location": location})
