"""Actions on claims (websocket.md 5.3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from attrs import frozen

from mqsvc.messaging.claims import Claims
from mqsvc.messaging.errors import ClaimDoesNotExist
from mqsvc.messaging.model import Claim
from mqsvc.websocket.call import Action, Call
from mqsvc.websocket.envelope import Reply, problem
from mqsvc.websocket.schema import QUEUE_KEY, Schema
from mqsvc.websocket.shapes import Ages


@frozen
class ClaimActions:
    """What can be done with the claims of queues."""

    _claims: Claims
    _ages: Ages

    def table(self) -> dict[str, Action]:
        """The actions by name."""
        creating = Schema.of("", "ttl grace limit wait", QUEUE_KEY)
        one = Schema.of("claim_id", "", QUEUE_KEY)
        updating = Schema.of("claim_id", "ttl grace", QUEUE_KEY)
        return {
            "claim_create": Action(
                self.create, creating, "claims:create", may_wait=True
            ),
            "claim_get": Action(self.get, one, "claims:get"),
            "claim_update": Action(self.update, updating, "claims:update"),
            "claim_delete": Action(self.delete, one, "claims:delete"),
        }

    async def create(self, call: Call) -> Reply:
        """Claim messages."""
        body = call.body
        claim = await self._claims.create(
            call.destination, body, body.get("limit"), body.get("wait", 0)
        )
        if claim is None:
            # Clients read the key, and what it names is found nowhere.
            return Reply(204, {"claim_id": str(uuid4())})
        messages = self._messages(call, claim)
        return Reply(201, {"claim_id": claim.id, "messages": messages})

    async def get(self, call: Call) -> Reply:
        """A claim and its messages."""
        try:
            claim = await self._claims.get(call.destination, call.body["claim_id"])
        except ClaimDoesNotExist as error:
            return _missing(call, error)
        shown = {"age": self._ages.of(claim), "ttl": claim.ttl}
        return Reply(200, {**shown, "messages": self._messages(call, claim)})

    async def update(self, call: Call) -> Reply:
        """Begin a claim anew; it keeps its ttl unless it is given another one."""
        claim_id, terms = call.body["claim_id"], call.document("claim_id")
        try:
            if "ttl" not in terms:
                claim = await self._claims.get(call.destination, claim_id)
                terms["ttl"] = claim.ttl
            await self._claims.renew(call.destination, claim_id, terms)
        except ClaimDoesNotExist as error:
            return _missing(call, error)
        return Reply(204, f"Claim {claim_id} updated.")

    async def delete(self, call: Call) -> Reply:
        """End a claim."""
        claim_id = call.body["claim_id"]
        await self._claims.release(call.destination, claim_id)
        return Reply(204, f"Claim {claim_id} deleted.")

    def _messages(self, call: Call, claim: Claim) -> list[dict[str, Any]]:
        return [
            {**call.message(message, self._ages.of(message)), "claim_id": claim.id}
            for message in claim.messages
        ]


def _missing(call: Call, error: ClaimDoesNotExist) -> Reply:
    """What clients are told of a claim that is over."""
    told = f"Claim {call.body['claim_id']} does not exist."
    reply = problem(error)
    return Reply(reply.status, {**reply.body, "error": told})
