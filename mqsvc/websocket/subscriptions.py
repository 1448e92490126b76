"""Actions on subscriptions (websocket.md 5.4 and 6.1)."""

from __future__ import annotations

from typing import Any

from attrs import evolve, frozen
from msgspec import structs
from twisted.internet.defer import Deferred

from mqsvc.messaging.errors import Conflict, InvalidRequest
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Subscription
from mqsvc.messaging.shield import shielded
from mqsvc.messaging.subscription_options import shown
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.websocket.call import Action, Call
from mqsvc.websocket.envelope import Reply
from mqsvc.websocket.feeds import Feeds
from mqsvc.websocket.schema import Schema
from mqsvc.websocket.shapes import Ages
from mqsvc.websocket.terms import SCHEME, Terms

_KINDS = "queue_name topic_name"


@frozen
class SubscriptionActions:
    """What can be done with subscriptions.

    :ivar _own: the operations for subscribers that are connections.
    """

    _subscriptions: Subscriptions
    _own: Subscriptions
    _feeds: Feeds
    _ages: Ages

    @classmethod
    def over(
        cls, subscriptions: Subscriptions, limits: Limits, feeds: Feeds, ages: Ages
    ) -> SubscriptionActions:
        """The actions on these subscriptions."""
        types = (*limits.subscriber_types, SCHEME)
        # Nobody but this server may name a connection as a subscriber.
        own = evolve(
            subscriptions,
            limits=structs.replace(limits, subscriber_types=types),
            lease=feeds.lease,
        )
        return cls(subscriptions, own, feeds, ages)

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        creating = Schema.of("", "subscriber ttl options", _KINDS)
        listing = Schema.of("", "marker limit", _KINDS)
        one = Schema.of("subscription_id", "", _KINDS)
        updating = Schema.of("subscription_id", "subscriber ttl options", _KINDS)
        confirming = Schema.of("subscription_id confirmed", "", _KINDS)
        acknowledging = Schema.of("subscription_id message_id", "", _KINDS)
        read, change = "subscription:get", "subscription:update"
        confirmation, creation = "subscription:confirm", "subscription:create"
        return {
            "subscription_create": Action(self.create, creating, creation),
            "subscription_list": Action(self.page, listing, f"{read}_all"),
            "subscription_get": Action(self.get, one, read),
            "subscription_update": Action(self.update, updating, change),
            "subscription_confirm": Action(self.confirm, confirming, confirmation),
            "subscription_delete": Action(self.delete, one, "subscription:delete"),
            "subscription_ack": Action(self.acknowledge, acknowledging, read),
        }

    async def create(self, call: Call) -> Reply:
        """Subscribe somebody, or this connection when nobody is named."""
        document = call.document()
        if document.get("subscriber"):
            return await self._create(self._subscriptions, call, document)
        if not call.subscriber.may_subscribe():
            raise InvalidRequest(
                "This connection has as many subscriptions as it may have."
            )
        Terms.of(document.get("options", {}))
        document["subscriber"] = call.subscriber.uri
        # Also for a client that leaves now: what is made for it is cleared away.
        step = Deferred.fromCoroutine(self._create_own(call, document))
        return await shielded(step)

    async def _create_own(self, call: Call, document: dict[str, Any]) -> Reply:
        reply = await self._create(self._own, call, document)
        if reply.status != 201:
            return reply
        destination, created = call.destination, reply.body["subscription_id"]
        # Who asks on the connection that is to get the messages has agreed.
        await self._own.confirm(destination, created, {"confirmed": True})
        subscription = await self._own.get(destination, created)
        told = await call.subscriber.subscribe(subscription, call.form)
        return Reply(201, {**reply.body, **told})

    async def _create(
        self, operations: Subscriptions, call: Call, document: dict[str, Any]
    ) -> Reply:
        destination = call.destination
        try:
            created = await operations.create(destination, document, call.caller.token)
        except Conflict:
            return Reply(409, f"Subscription {destination.name} not created.")
        message = f"Subscription {destination.name} created."
        return Reply(201, {"subscription_id": created.id, "message": message})

    async def page(self, call: Call) -> Reply:
        """List subscriptions."""
        marker, limit = call.body.get("marker", ""), call.body.get("limit")
        found = await self._subscriptions.page(call.destination, limit, marker)
        shown: dict[str, Any] = {"subscriptions": [self._shape(one) for one in found]}
        if found:
            shown["marker"] = found[-1].id
        return Reply(200, shown)

    def _shape(self, subscription: Subscription) -> dict[str, Any]:
        return {
            "id": subscription.id,
            "source": subscription.destination.name,
            "subscriber": subscription.subscriber,
            "ttl": subscription.ttl,
            "age": self._ages.of(subscription),
            "options": shown(subscription.options),
            "confirmed": subscription.confirmed,
        }

    async def get(self, call: Call) -> Reply:
        """One subscription."""
        subscription_id = call.body["subscription_id"]
        found = await self._subscriptions.get(call.destination, subscription_id)
        return Reply(200, self._shape(found))

    async def update(self, call: Call) -> Reply:
        """Change one; the ttl of a push can be renewed in this way."""
        subscription_id = call.body["subscription_id"]
        document = call.document("subscription_id")
        await self._subscriptions.update(
            call.destination, subscription_id, document, call.caller.token
        )
        if document.get("subscriber"):
            # Whoever it is: no connection, for nobody may name one.
            self._feeds.end(call.destination, subscription_id)
        return Reply(204, f"Subscription {subscription_id} updated.")

    async def confirm(self, call: Call) -> Reply:
        """Record whether the subscriber agreed."""
        subscription_id = call.body["subscription_id"]
        document = call.document("subscription_id")
        await self._subscriptions.confirm(call.destination, subscription_id, document)
        return Reply(204, f"Subscription {subscription_id} confirmed.")

    async def delete(self, call: Call) -> Reply:
        """Unsubscribe."""
        subscription_id = call.body["subscription_id"]
        await self._subscriptions.delete(call.destination, subscription_id)
        self._feeds.end(call.destination, subscription_id)
        return Reply(204, f"Subscription {subscription_id} removed.")

    async def acknowledge(self, call: Call) -> Reply:
        """Make room for more pushes; for whoever asked for a bound of them."""
        subscription_id = call.body["subscription_id"]
        if not call.subscriber.acknowledge(subscription_id, call.body["message_id"]):
            raise InvalidRequest(
                f"{subscription_id} is no subscription of this connection with "
                "'max_inflight'."
            )
        return Reply(204)
