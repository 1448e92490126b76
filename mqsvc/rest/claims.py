"""``.../claims``: lending messages (rest.md 5.19 to 5.22)."""

from __future__ import annotations

from attrs import frozen

from mqsvc.messaging.claims import Claims
from mqsvc.messaging.model import Kind
from mqsvc.rest.answer import Answer
from mqsvc.rest.call import Call
from mqsvc.rest.route import Entry, Route
from mqsvc.rest.shapes import Shapes


@frozen
class ClaimResource:
    """Handlers for the claims of queues."""

    _claims: Claims
    _shapes: Shapes

    def routes(self) -> list[Route]:
        """The table of paths."""
        base = "/v2/queues/<destination>/claims"
        item = {
            "GET": Entry("claims:get", self.get),
            "PATCH": Entry("claims:update", self.renew),
            "DELETE": Entry("claims:delete", self.release),
        }
        create = {"POST": Entry("claims:create", self.create, may_wait=True)}
        return [
            Route(base, create, Kind.QUEUE),
            Route(f"{base}/<claim_id>", item, Kind.QUEUE),
        ]

    async def create(self, call: Call) -> Answer:
        """Claim messages."""
        limit, wait = call.query.integer("limit"), call.query.integer("wait")
        claim = await self._claims.create(
            call.destination,
            call.object(),
            limit,
            wait or 0,
        )
        if claim is None:
            return Answer(204)
        return Answer(
            201,
            {"messages": self._shapes.messages(claim.messages, call.path)},
            {"location": f"{call.path}/claims/{claim.id}"},
        )

    async def get(self, call: Call) -> Answer:
        """A claim and its messages."""
        claim = await self._claims.get(call.destination, call.arguments["claim_id"])
        return Answer(
            200,
            {
                "age": self._shapes.age(claim.created),
                "ttl": claim.ttl,
                "messages": self._shapes.messages(claim.messages, call.path),
                "href": f"{call.path}/claims/{claim.id}",
            },
        )

    async def renew(self, call: Call) -> Answer:
        """Begin a claim anew."""
        document = call.required_object()
        await self._claims.renew(call.destination, call.arguments["claim_id"], document)
        return Answer(204)

    async def release(self, call: Call) -> Answer:
        """End a claim."""
        await self._claims.release(call.destination, call.arguments["claim_id"])
        return Answer(204)
