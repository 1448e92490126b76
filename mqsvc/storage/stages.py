"""Stages: message stores in front of a message store.

What an installed package adds is a subclass of :class:`Stage` or, in most cases, of
:class:`MessageFilter`; docs/plugins.rst goes through it step by step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from zope.interface import implementer

from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    Selection,
    Stats,
    StoredMessage,
)
from mqsvc.storage.interfaces import IMessageStore

_OPERATIONS = tuple({*IMessageStore.names(all=True)} - {*IService.names(all=True)})
"""What message stores do beside starting and stopping."""


@implementer(IMessageStore)
class Stage(Service):
    """Hands every call on to the next store, for subclasses to override.

    It starts and stops the next store with itself, so only the outermost stage gets
    a parent.

    :ivar next_store: the message store behind it, maybe a stage too.
    """

    name = "messages"

    def __init__(self, next_store: IMessageStore) -> None:
        self.next_store = next_store
        for name in _OPERATIONS:
            # What a subclass leaves as it is does not stand in the way.
            if getattr(type(self), name) is getattr(Stage, name):
                setattr(self, name, getattr(next_store, name))

    def privilegedStartService(self) -> None:
        """Let the next store do what needs privileges."""
        super().privilegedStartService()
        self.next_store.privilegedStartService()

    def startService(self) -> None:
        """Start the next store, then this one."""
        self.next_store.startService()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Fires when the next store is stopped."""
        super().stopService()
        return maybeDeferred(self.next_store.stopService)

    def ping(self) -> Deferred[None]:
        """See :class:`IMessageStore`, as for every method below."""
        return self.next_store.ping()

    def sweep(self, now: int) -> Deferred[bool]:
        """Free what expired."""
        return self.next_store.sweep(now)

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages."""
        return self.next_store.post(destination, messages, client_id, now, also)

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""
        return self.next_store.page(destination, selection, now)

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""
        return self.next_store.get(destination, message_ids, now)

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        return self.next_store.delete(destination, message_ids, now, claim_ids)

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete the oldest messages."""
        return self.next_store.pop(destination, limit, now)

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend the oldest free messages."""
        return self.next_store.claim(destination, ttl, grace, limit, now, dead_letter)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""
        return self.next_store.get_claim(destination, claim_id, now)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Let a claim live on."""
        return self.next_store.renew(destination, claim_id, ttl, grace, now)

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> Deferred[None]:
        """End a claim."""
        return self.next_store.release(destination, claim_id, now, undelivered)

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Numbers; the bodies of their messages are as stored, nobody is shown them."""
        return self.next_store.stats(destination, now)

    def clear(self, destination: Destination) -> Deferred[None]:
        """Remove all messages and claims."""
        return self.next_store.clear(destination)

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """When a delay or a claim ends."""
        return self.next_store.next_ready(destination, now)

    def stored_bytes(self, project: str) -> Deferred[int]:
        """How many bytes are stored."""
        return self.next_store.stored_bytes(project)

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """All there is, as it is stored: what takes it elsewhere is no reader."""
        return self.next_store.stored(destination, limit, after, now)

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept, as it was stored there."""
        return self.next_store.restore(destination, messages, now)


class MessageFilter(Stage):
    """Looks at each message on its way in and on its way out.

    Bodies are JSON text in UTF-8, and must stay that.
    """

    def on_post(
        self, destination: Destination, message: NewMessage
    ) -> NewMessage | None:
        """What is stored in place of a message that a client posts; none drops it.

        A dropped message has no id, so the client gets fewer ids than it posted. Dead
        letters that are encrypted on their way come by here once more.

        :raise InvalidRequest: the whole post is refused, 400.
        :raise NotAuthorized: the whole post is refused, 403.
        """
        return message

    def on_read(self, destination: Destination, message: Message) -> Message:
        """What a client is given in place of a message, however it asks for it.

        It must not fail: a message that is popped is deleted by then.
        """
        return message

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Post what is left of the messages; nothing is sent on when nothing is.

        What goes elsewhere in the same step is no client's, and goes as it is.
        """
        return maybeDeferred(self._post, destination, messages, client_id, now, also)

    def _post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        filtered = (self.on_post(destination, message) for message in messages)
        kept = [message for message in filtered if message is not None]
        if not kept:
            return succeed([])
        return super().post(destination, kept, client_id, now, also)

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page, each message as it is read."""
        step = super().page(destination, selection, now)
        return step.addCallback(self._read, destination)

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id, each as it is read."""
        step = super().get(destination, message_ids, now)
        return step.addCallback(self._read, destination)

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete the oldest messages, each as it is read."""
        return super().pop(destination, limit, now).addCallback(self._read, destination)

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend the oldest free messages, each as it is read."""
        step = super().claim(destination, ttl, grace, limit, now, dead_letter)
        return step.addCallback(self._read_claimed, destination)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim, its messages as they are read."""
        step = super().get_claim(destination, claim_id, now)
        return step.addCallback(self._read_claim, destination)

    def _read(
        self, messages: Iterable[Message], destination: Destination
    ) -> list[Message]:
        return [self.on_read(destination, message) for message in messages]

    def _read_claim(self, claim: Claim, destination: Destination) -> Claim:
        return replace(claim, messages=tuple(self._read(claim.messages, destination)))

    def _read_claimed(self, claimed: Claimed, destination: Destination) -> Claimed:
        if claimed.claim is None:
            return claimed
        return replace(claimed, claim=self._read_claim(claimed.claim, destination))
