"""The stage that keeps bodies encrypted in the store (docs/encryption.rst).

It stands directly before the store and is always there, also without keys: what was
encrypted once must never be taken for the body itself.

What a caller asks for may hold messages that cannot be read, because their key is not
configured or they were damaged. Such a message is never given to anybody, never
deleted for want of a key, and never in the way of those behind it for good: it is
left out, and logged. Only when there is nothing else is it an error,
:class:`~mqsvc.messaging.errors.UnreadableMessage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from mqsvc.messaging.errors import StoreUnavailable, UnreadableMessage
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Message,
    NewMessage,
    Posting,
    Selection,
    StoredMessage,
)
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.sealing import MARK, CannotUnseal, Keys
from mqsvc.storage.stages import Stage

ROUNDS = 10
"""How often a call goes on when all it found cannot be read."""


class Encryption(Stage):
    """Seals on post what asks for it; unseals whatever is read.

    :param keys: maybe none at all.
    """

    log = Logger()

    def __init__(self, next_store: IMessageStore, keys: Keys) -> None:
        super().__init__(next_store)
        self._keys = keys

    @property
    def can_encrypt(self) -> bool:
        """Whether messages that ask for it can be posted."""
        return self._keys.can_seal

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Seal first; without a key nothing is stored that asks for one."""
        try:
            messages = self._sealed(destination, messages)
            if also is not None:
                further = self._sealed(also.destination, also.messages)
                also = replace(also, messages=further)
        except StoreUnavailable:
            return fail()
        return self.next_store.post(destination, messages, client_id, now, also)

    def _sealed(
        self, destination: Destination, messages: Iterable[NewMessage]
    ) -> list[NewMessage]:
        return [
            self._seal(destination, message) if message.encrypt else message
            for message in messages
        ]

    def _seal(self, destination: Destination, message: NewMessage) -> NewMessage:
        if not self.can_encrypt:
            raise StoreUnavailable("The server has no key to encrypt messages with.")
        return replace(message, body=self._keys.seal(destination.project, message.body))

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """A page; what cannot be read makes room for what follows."""
        step = self.next_store.page(destination, selection, now)
        return step.addCallback(self._read_page, destination, selection, now)

    def _read_page(
        self,
        found: list[Message],
        destination: Destination,
        selection: Selection,
        now: int,
    ) -> Any:
        readable, unreadable = self._read(destination, found)
        if not unreadable:
            return readable
        more = self._more_pages(destination, selection, now, found, readable)
        return Deferred.fromCoroutine(more)

    async def _more_pages(
        self,
        destination: Destination,
        selection: Selection,
        now: int,
        found: list[Message],
        readable: list[Message],
    ) -> list[Message]:
        """Fill a page up, until the end or for a bounded while."""
        for _ in range(ROUNDS):
            wanted = selection.limit - len(readable)
            if not wanted or not found:
                break
            rest = replace(selection, limit=wanted, after=found[-1].id)
            found = await self.next_store.page(destination, rest, now)
            readable += self._read(destination, found)[0]
        return readable or _refused()

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id; those that cannot be read are like unknown ones."""
        step = self.next_store.get(destination, message_ids, now)
        return step.addCallback(self._read_some, destination)

    def _read_some(
        self, found: Sequence[Message], destination: Destination
    ) -> list[Message]:
        readable, unreadable = self._read(destination, found)
        if unreadable and not readable:
            _refused()
        return readable

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """What cannot be read goes back to the end, with its whole life before it."""
        step = self.next_store.pop(destination, limit, now)
        return step.addCallback(self._read_popped, destination, limit, now)

    def _read_popped(
        self, found: list[Message], destination: Destination, limit: int, now: int
    ) -> Any:
        readable, unreadable = self._read(destination, found)
        if not unreadable:
            return readable
        more = self._pop_more(destination, limit, now, readable, unreadable)
        return Deferred.fromCoroutine(more)

    async def _pop_more(
        self,
        destination: Destination,
        limit: int,
        now: int,
        readable: list[Message],
        unreadable: list[Message],
    ) -> list[Message]:
        """Pop until something can be read, and give back what could not."""
        try:
            for _ in range(ROUNDS):
                if readable:
                    break
                found = await self.next_store.pop(destination, limit, now)
                if not found:
                    break
                readable, others = self._read(destination, found)
                unreadable += others
        finally:
            await self._give_back(destination, unreadable, now)
        return readable or _refused()

    async def _give_back(
        self, destination: Destination, messages: list[Message], now: int
    ) -> None:
        kept = [StoredMessage(each, now + each.ttl * 1000) for each in messages]
        try:
            await self.next_store.restore(destination, kept, now)
        except StoreUnavailable:
            self.log.critical(
                "Popped from {kind} {name} of project {project} and lost, because "
                "they could neither be read nor given back: {count} messages",
                kind=destination.kind.value,
                name=destination.name,
                project=destination.project,
                count=len(kept),
            )

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """What cannot be read is left out, and nobody is given it before the end."""
        attempt = partial(
            self.next_store.claim, destination, ttl, grace, limit, now, dead_letter
        )
        return attempt().addCallback(self._read_claimed, destination, attempt)

    def _read_claimed(
        self,
        claimed: Claimed,
        destination: Destination,
        attempt: Callable[[], Deferred[Claimed]],
    ) -> Any:
        if claimed.claim is None:
            return claimed
        claim = self._read_claim(claimed.claim, destination)
        if claim.messages:
            return replace(claimed, claim=claim)
        return Deferred.fromCoroutine(self._claim_more(claimed, destination, attempt))

    async def _claim_more(
        self,
        claimed: Claimed,
        destination: Destination,
        attempt: Callable[[], Deferred[Claimed]],
    ) -> Claimed:
        """Claim until something can be read; the rest stays under its claims."""
        dead_lettered = claimed.dead_lettered
        for _ in range(ROUNDS):
            claimed = await attempt()
            dead_lettered += claimed.dead_lettered
            if claimed.claim is None:
                break
            claim = self._read_claim(claimed.claim, destination)
            if claim.messages:
                return Claimed(claim, dead_lettered)
        # The caller has to tell others of what was moved.
        return Claimed(None, dead_lettered) if dead_lettered else _refused()

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim, less what cannot be read."""
        step = self.next_store.get_claim(destination, claim_id, now)
        return step.addCallback(self._read_claim, destination)

    def _read_claim(self, claim: Claim, destination: Destination) -> Claim:
        readable, _ = self._read(destination, claim.messages)
        return replace(claim, messages=tuple(readable))

    def _read(
        self, destination: Destination, messages: Sequence[Message]
    ) -> tuple[list[Message], list[Message]]:
        """Messages as they are read, and those that cannot be, as they are stored."""
        if not [message for message in messages if message.body.startswith(MARK)]:
            return list(messages), []
        readable, unreadable = [], []
        for message in messages:
            if not message.body.startswith(MARK):
                readable.append(message)
                continue
            try:
                body = self._keys.unseal(destination.project, message.body)
            except CannotUnseal as error:
                self._log(destination, message, error)
                unreadable.append(message)
            else:
                readable.append(replace(message, body=body))
        return readable, unreadable

    def _log(
        self, destination: Destination, message: Message, error: CannotUnseal
    ) -> None:
        self.log.error(
            "Message {id} of {kind} {name} of project {project} cannot be read: "
            "{reason}",
            id=message.id,
            kind=destination.kind.value,
            name=destination.name,
            project=destination.project,
            reason=error,
        )


def _refused() -> NoReturn:
    raise UnreadableMessage(
        "The message cannot be decrypted by this server. Its operator can tell why."
    )
