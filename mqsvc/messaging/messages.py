"""Messages: post, read, delete, pop (rest.md 5.13 to 5.18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from msgspec import Struct

from mqsvc.bus import Bus
from mqsvc.clock import Now
from mqsvc.messaging import checks
from mqsvc.messaging.errors import (
    InvalidBody,
    InvalidRequest,
    MessageDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
)
from mqsvc.messaging.limits import MIN_TTL, Limits
from mqsvc.messaging.metadata import Rules
from mqsvc.messaging.model import Destination, Message, NewMessage, Selection
from mqsvc.messaging.occupancy import Occupancy
from mqsvc.messaging.records import Records
from mqsvc.messaging.shield import shielded, to_its_end
from mqsvc.messaging.volume import Volume
from mqsvc.messaging.waiting import MAX_WAIT, Waiting
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.wire import codec

_CLAIM_CHARACTERS = frozenset("0123456789abcdefABCDEF-")


class View(Struct, frozen=True):
    """What a client asks to see of a destination.

    :ivar limit: at most so many messages; none is the default.
    :ivar marker: the id of the last message seen before.
    :ivar hide_client: leave out what this client posted.
    """

    limit: int | None = None
    marker: str | None = None
    hide_client: str | None = None
    include_claimed: bool = False
    include_delayed: bool = False


class Listing(Struct, frozen=True):
    """One page, and the selection that was really applied."""

    messages: list[Message]
    selection: Selection


@frozen
class Messages:
    """Operations on the messages of a destination.

    :ivar _can_encrypt: whether the store has a key.
    """

    _store: IMessageStore
    _records: Records
    _waiting: Waiting
    _bus: Bus
    _limits: Limits
    _now: Now
    _occupancy: Occupancy
    _can_encrypt: bool
    _volume: Volume

    async def post(
        self, destination: Destination, client_id: str, messages: Any, size: int
    ) -> list[str]:
        """Append messages, all or none; the destination is made when it is missing.

        :param messages: an array of objects with ``body`` and maybe ``ttl``, ``delay``.
        :param size: bytes of the request that brought them.
        :return: their ids, in the same order.
        :raise InvalidRequest: a message is malformed, or the request is too large.
        :raise QuotaExceeded: the project posts faster, or keeps more, than it may.
        """
        records, project = self._records, destination.project
        rules = (records.recall(destination) or await records.ask(destination)).rules
        self._check_post(rules, size)
        accepted = self._accept_all(_array(messages), rules)
        records.quotas.admit_messages(project, len(accepted))
        if self._volume.is_bounded:
            await self._volume.admit(project, accepted)
        # Also for those who hang up now: their messages are there.
        return await to_its_end(self._append(destination, accepted, client_id))

    async def _append(
        self, destination: Destination, messages: Sequence[NewMessage], client_id: str
    ) -> list[str]:
        records, now = self._records, self._now
        async with self._occupancy.shared(destination):
            known = records.recall(destination)
            if known is None or not known.exists:
                known = await records.ensure(destination)
            accepted = now()
            ids = await self._store.post(destination, messages, client_id, accepted)
            if not records.is_unchanged(destination, known):
                await records.ensure_still(destination, known)
        if self._bus.takes_posted(destination):
            self._bus.publish(destination, _readable(ids, messages, accepted))
        else:
            self._bus.publish(destination)
        return ids

    def _check_post(self, rules: Rules, size: int) -> None:
        checks.body_size(size, rules.max_post_size)
        if rules.encrypt and not self._can_encrypt:
            raise InvalidRequest(
                "This queue asks for encryption, for which the server has no key: "
                "set _enable_encrypt_messages to false to store messages in clear."
            )

    def _accept_all(self, items: Sequence[Any], rules: Rules) -> list[NewMessage]:
        accepted: list[NewMessage] = []
        try:
            for item in items:
                accepted.append(self._accept(item, rules))
        except InvalidRequest as error:
            # Which one it was is put into words only where one is refused.
            where = f"messages[{len(accepted)}]"
            raise type(error)(f"{where}: {error.description}") from error
        return accepted

    def _accept(self, item: Any, rules: Rules) -> NewMessage:
        item = checks.mapping(item, "a message")
        if "body" not in item:
            raise InvalidBody("Missing parameter 'body'.")
        ttl, delay = rules.default_ttl, rules.default_delay
        if "ttl" in item:
            ttl = checks.integer(
                item["ttl"], "ttl", MIN_TTL, self._limits.max_message_ttl
            )
        if delay and "delay" in item:
            delay = checks.integer(
                item["delay"], "delay", 0, self._limits.max_message_delay
            )
        return NewMessage(codec.encode(item["body"]), ttl, delay, rules.encrypt)

    async def page(
        self, destination: Destination, view: View, wait: int = 0
    ) -> Listing:
        """Messages as a client wants to see them, oldest first.

        :param wait: seconds to hold on while there is none, 0 to 20.
        :raise InvalidRequest: limit or wait are out of bounds.
        """
        size = checks.page_size(view.limit, self._limits.max_messages_per_page)
        checks.integer(wait, "wait", 0, MAX_WAIT)
        records = self._records
        rules = (records.recall(destination) or await records.ask(destination)).rules
        selection = Selection(
            limit=size,
            after=view.marker,
            hide_client=view.hide_client,
            include_claimed=view.include_claimed,
            include_delayed=view.include_delayed or not rules.default_delay,
        )
        messages = await self._waiting.together(
            destination,
            lambda: self._store.page(destination, selection, self._now()),
            wait,
        )
        return Listing(messages, selection)

    async def get(self, destination: Destination, message_id: str) -> Message:
        """One message, in any state.

        :raise MessageDoesNotExist: no such message.
        """
        messages = await self._store.get(destination, [message_id], self._now())
        if not messages:
            raise MessageDoesNotExist(f"Message {message_id} does not exist.")
        return messages[0]

    async def get_many(
        self, destination: Destination, message_ids: Sequence[str]
    ) -> list[Message]:
        """Messages by id; unknown ones are left out.

        :raise InvalidRequest: no id, or too many.
        """
        checks.count(len(message_ids), "ids", self._limits.max_messages_per_page)
        return await self._store.get(destination, message_ids, self._now())

    async def delete(
        self, destination: Destination, message_id: str, claim_id: str | None
    ) -> None:
        """Delete one message; an unknown one is no error.

        :param claim_id: the claim that holds it; none when it is not claimed.
        :raise MessageIsClaimed: a live claim holds it that was not given.
        :raise MessageNotClaimed: the claim given does not hold it.
        """
        if claim_id is not None and not _may_be_claim(claim_id):
            raise MessageNotClaimed("The claim id is malformed.")
        held_by = [] if claim_id is None else [claim_id]
        await self._store.delete(destination, [message_id], self._now(), held_by)

    async def delete_many(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        claim_ids: Sequence[str] | None,
    ) -> None:
        """Delete messages by id; unknown ones are no error.

        :param claim_ids: required where ``message_delete_with_claim_id`` is set, and
            not looked at elsewhere: each message must be under one of them.
        :raise InvalidRequest: no id, too many, or claim ids are missing.
        :raise MessageIsClaimed: one is not under these claims; none is deleted.
        """
        checks.count(len(message_ids), "ids", self._limits.max_messages_per_page)
        if not self._limits.message_delete_with_claim_id:
            claim_ids = None
        elif not claim_ids:
            raise InvalidRequest("Missing parameter 'claim_ids'.")
        try:
            await self._store.delete(destination, message_ids, self._now(), claim_ids)
        except MessageNotClaimed as error:
            raise MessageIsClaimed(error.description) from error

    async def pop(self, destination: Destination, limit: int) -> list[Message]:
        """Take and delete the oldest free messages.

        :raise InvalidRequest: the limit is out of bounds.
        """
        checks.count(limit, "pop", self._limits.max_messages_per_claim_or_pop)
        # What a stage cannot hand out it gives back, also when nobody is left to hear.
        return await shielded(self._store.pop(destination, limit, self._now()))


def _readable(
    ids: Sequence[str], messages: Sequence[NewMessage], now: int
) -> list[Message]:
    """What was posted, as far as it can be read at once."""
    if len(ids) != len(messages):
        # A message filter dropped some: who reads the store sees which are left.
        return []
    return [
        Message(message_id, message.body, message.ttl, now)
        for message_id, message in zip(ids, messages, strict=True)
        if not message.delay
    ]


def _array(messages: Any) -> list[Mapping[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise InvalidBody("'messages' must be an array of at least one message.")
    return messages


def _may_be_claim(text: str) -> bool:
    """Whether this could be the id of a claim, of this server or of another one."""
    return len(text) in {24, 32, 36} and _CLAIM_CHARACTERS.issuperset(text)
