"""The page behind the links in mails, over the operations."""

from __future__ import annotations

from typing import Any

from mqsvc.access.guard import Action, Guard
from mqsvc.access.identity import Caller
from mqsvc.messaging.model import Destination
from mqsvc.messaging.subscriptions import Subscriptions
from mqsvc.notification.confirmation_page import ConfirmationPage, ConfirmationResource
from mqsvc.rest.answer import Answer, new_request_id
from mqsvc.rest.call import path_of

CLIENT = "mqsvc-confirmation"
"""From whom an answer on the page comes, as the audit log has it."""


def confirmation_page(
    subscriptions: Subscriptions, guard: Guard
) -> ConfirmationResource:
    """The page; an answer on it takes the same way as a signed request."""

    async def confirm(
        destination: Destination, subscription_id: str, document: Any
    ) -> None:
        action = Action(
            caller=Caller(destination.project, CLIENT),
            rule="subscription:confirm",
            target=f"{path_of(destination)}/subscriptions/{subscription_id}/confirm",
            request_id=new_request_id,
        )

        async def run() -> Answer:
            await subscriptions.confirm(destination, subscription_id, document)
            return Answer(204)

        await guard.run(action, run)

    gate = guard.gate
    return ConfirmationResource(ConfirmationPage(gate.signed_urls, confirm, gate.now))
