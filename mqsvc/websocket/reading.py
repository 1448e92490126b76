"""Reading the messages of a destination in their order, for those who follow it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from attrs import frozen

from mqsvc.messaging.messages import Listing, Messages, View
from mqsvc.messaging.model import Destination, Message

MOST_ARRIVED = 1_048_576
"""Bytes of bodies of a destination that are kept until they are read."""

MOST_DELAYED = 10_000
"""Delayed messages of a destination that are remembered until they are due."""

MOST_AT_A_TIME = 20
"""Messages that are read at a time, whatever the greatest page may be."""

_POSITION_DIGITS = 14

_MOST_PAGES = 20
"""Pages that are looked through for messages that became due."""


@frozen
class Page:
    """Some messages, oldest first.

    :ivar end: from where to go on.
    :ivar is_last: whether there was nothing behind it.
    """

    messages: Sequence[Message]
    end: str
    is_last: bool


class Reader:
    """Reads on from any place, and knows what it left out because it was delayed.

    A place is the id of a message; ids of a destination sort by position, and the
    empty text is before all of them.
    """

    def __init__(
        self, messages: Messages, destination: Destination, largest_page: int
    ) -> None:
        self._messages = messages
        self._destination = destination
        self._at_a_time = min(largest_page, MOST_AT_A_TIME)
        self._delayed: dict[str, None] = {}

    @property
    def has_delayed(self) -> bool:
        """Whether there is something that will be due."""
        return bool(self._delayed)

    async def read(self, after: str, limit: int) -> Page:
        """What can be seen behind a place, claimed or not.

        :param limit: so many messages, or fewer.
        """
        limit = min(limit, self._at_a_time)
        visible = await self._page(after, limit, include_delayed=False)
        if visible.selection.include_delayed:
            # Nothing is ever delayed there.
            return _whole(visible, after)
        # In this order: what comes in between is visible, and not taken for delayed.
        everything = await self._page(after, limit, include_delayed=True)
        visible = await self._page(after, limit, include_delayed=False)
        return self._without_delayed(everything, visible, after)

    async def _page(self, after: str, limit: int, include_delayed: bool) -> Listing:
        view = View(limit, after or None, None, True, include_delayed)
        return await self._messages.page(self._destination, view)

    def _without_delayed(
        self, everything: Listing, visible: Listing, after: str
    ) -> Page:
        page = _whole(everything, after)
        seen = {message.id for message in visible.messages}
        for message in page.messages:
            if message.id not in seen and len(self._delayed) < MOST_DELAYED:
                self._delayed[message.id] = None
        found = [m for m in visible.messages if page.is_last or m.id <= page.end]
        end = max([page.end, *(message.id for message in found)])
        return Page(found, end, page.is_last)

    async def due(self) -> list[Message]:
        """What was left out and can be seen now."""
        if not self._delayed:
            return []
        delayed = sorted(self._delayed)
        await self._forget_missing(delayed[: self._at_a_time])
        found: list[Message] = []
        after = _before(delayed[0])
        for _ in range(_MOST_PAGES):
            listing = await self._page(after, self._at_a_time, include_delayed=False)
            page = _whole(listing, after)
            found += [m for m in page.messages if m.id in self._delayed]
            after = page.end
            if page.is_last or after >= delayed[-1]:
                break
        for message in found:
            del self._delayed[message.id]
        return found

    async def _forget_missing(self, ids: list[str]) -> None:
        found = await self._messages.get_many(self._destination, ids)
        for missing in {*ids} - {message.id for message in found}:
            self._delayed.pop(missing, None)

    async def exists(self, message_id: str) -> bool:
        """Whether a message is still there, in any state."""
        return bool(await self._messages.get_many(self._destination, [message_id]))


class Arrivals:
    """Messages that were handed over when they were posted, until they are read.

    They are found here also when somebody deleted them at once. When there are too
    many, the oldest ones are left to the store alone.
    """

    def __init__(self) -> None:
        self._messages: OrderedDict[str, Message] = OrderedDict()
        self._size = 0

    def add(self, messages: Iterable[Message]) -> None:
        """Keep what was posted."""
        for message in messages:
            self._messages[message.id] = message
            self._size += len(message.body)
        while self._size > MOST_ARRIVED:
            _, dropped = self._messages.popitem(last=False)
            self._size -= len(dropped.body)

    def merged(self, page: Page, after: str) -> Page:
        """A page with those that came before it was read, and are missing in it."""
        taken = [
            message
            for message in self._messages.values()
            if page.is_last or message.id <= page.end
        ]
        for message in taken:
            del self._messages[message.id]
            self._size -= len(message.body)
        if not taken:
            return page
        found = {message.id: message for message in (*taken, *page.messages)}
        messages = [found[one] for one in sorted(found) if one > after]
        end = max([page.end, *(message.id for message in messages)])
        return Page(messages, end, page.is_last)


def _whole(listing: Listing, after: str) -> Page:
    messages = listing.messages
    end = messages[-1].id if messages else after
    return Page(messages, end, len(messages) < listing.selection.limit)


def _before(message_id: str) -> str:
    """The place right before a message: its position leads its id."""
    position = int(message_id[:_POSITION_DIGITS], 16) - 1
    return f"{position:0{_POSITION_DIGITS}x}".ljust(len(message_id), "f")
