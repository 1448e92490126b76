"""The stage that writes down whom to tell, in the same step as what to tell.

It stands behind the message filters, so that subscribers are told what is stored, and
in front of encryption.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred

from mqsvc.messaging.audience import Audience
from mqsvc.messaging.model import NAMEABLE, Destination, NewMessage, Posting
from mqsvc.notification.entries import entry_of, outbox
from mqsvc.notification.forwarding import via_of
from mqsvc.notification.payload import message_content
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.stages import Stage

Locate = Callable[[Destination], Awaitable[str | None]]
"""The name of the pool of a destination; none is the default pool."""


class Outbox(Stage):
    """Adds an entry to each post to a destination that has subscriptions.

    :param on_entry: called when there is a new one.
    """

    def __init__(
        self,
        next_store: IMessageStore,
        audience: Audience,
        locate: Locate,
        on_entry: Callable[[], None],
    ) -> None:
        super().__init__(next_store)
        self._audience = audience
        self._locate = locate
        self._on_entry = on_entry

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages, and the entry that tells of them."""
        if (
            self._audience.is_known_silent(destination)
            or destination.kind not in NAMEABLE
            or also is not None
        ):
            return self.next_store.post(destination, messages, client_id, now, also)
        return Deferred.fromCoroutine(self._post(destination, messages, client_id, now))

    async def _post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
    ) -> list[str]:
        if not await self._audience.listens(destination):
            return await self.next_store.post(destination, messages, client_id, now)
        contents = [
            message_content(destination.name, message, bool(message.delay))
            for message in messages
        ]
        encrypt = any(message.encrypt for message in messages)
        entry = entry_of(destination, contents, via_of(client_id), encrypt)
        also = Posting(outbox(await self._locate(destination)), [entry])
        ids = await self.next_store.post(destination, messages, client_id, now, also)
        self._on_entry()
        return ids
