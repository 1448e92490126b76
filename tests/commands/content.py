"""What there may be in stores, put there and read back; and whole transfers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from attrs import evolve, frozen
from msgspec.structs import replace
from twisted.internet.defer import Deferred, execute, succeed

from mqsvc.commands.exporting import Exporter
from mqsvc.commands.importing import Check, Importer, Outcome, Wanted
from mqsvc.commands.interruption import Interruption
from mqsvc.commands.lines import HEADER, End, encode
from mqsvc.commands.reading import Reading
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import (
    Destination,
    Kind,
    NewMessage,
    Record,
    StoredMessage,
    Subscription,
)
from mqsvc.messaging.records import Records
from mqsvc.wiring import Backends
from tests.messaging.stores import unlimited

NOW = 1_800_000_000_000
EARLIER = NOW - 200_000
"""Long enough ago that a claim of a minute is over."""

ORDERS = Destination("demo", Kind.QUEUE, "orders")
NEWS = Destination("demo", Kind.TOPIC, "news")
EMPTY = Destination("demo", Kind.QUEUE, "empty")
THEIRS = Destination("größe 2", Kind.QUEUE, "orders")

BODIES = (
    b'{"a": [1, 2.50, null], "b":{}}',
    '"grüße \u2603 \\u0000 \U0001f40d"'.encode(),
    b'{\n  "in": "several lines"\n}',
    b" 0 ",
    b"!1:key:c2VhbGVk",
    b"123456789012345678901234567890",
    b'"later"',
    b'"last"',
)
"""JSON, and what is none, or is not in one line."""

METADATA = {
    "_max_claim_count": 3,
    "größe": [1, 1.5, True, None, {"a": "\n\u2028"}],
    "wide": 2**63 - 1,
}


@frozen
class Content:
    """All that there is about a destination; messages without what is not moved."""

    record: Record
    subscriptions: tuple[Subscription, ...]
    messages: tuple[StoredMessage, ...]


def over(management: Any, messages: Any) -> Backends:
    """Two stores without pools, as commands take them."""
    return Backends(
        management, messages, Records(management, Limits(), unlimited(management))
    )


async def fill(stores: Backends) -> None:
    """Put something of everything into empty stores."""
    management, messages = stores.management, stores.messages
    for destination, metadata in (
        (ORDERS, METADATA),
        (NEWS, {"_default_message_ttl": 600}),
        (EMPTY, {}),
        (THEIRS, {"whose": "theirs"}),
    ):
        await management.create(destination, metadata)
    await _fill_orders(stores)
    await messages.post(NEWS, [NewMessage(b'"news"', 600)], "bob", NOW)
    await messages.post(THEIRS, [NewMessage(b'"theirs"', 700)], "eve", NOW)
    for number in range(5):
        subscription = Subscription(
            id=f"{number:024x}",
            destination=NEWS if number else ORDERS,
            subscriber=f"https://example.org/größe/{number}",
            ttl=3600 + number,
            created=NOW - number,
            options={"headers": {"X": "\u2603"}},
            confirmed=bool(number % 2),
        )
        await management.subscribe(subscription, NOW)


async def _fill_orders(stores: Backends) -> None:
    """Messages in every state, some of them handed out before."""
    messages = stores.messages
    *plain, delayed, last = BODIES
    new = [NewMessage(body, 3000 + i) for i, body in enumerate(plain)]
    await messages.post(ORDERS, new, "alice", EARLIER)
    await messages.claim(ORDERS, ttl=60, grace=60, limit=3, now=EARLIER)
    await messages.post(ORDERS, [NewMessage(delayed, 3600, 900)], "alice", NOW)
    await messages.post(ORDERS, [NewMessage(last, 60)], "alice", NOW)
    await messages.claim(ORDERS, ttl=600, grace=60, limit=2, now=NOW)


async def content(stores: Backends, now: int = NOW) -> dict[Destination, Content]:
    """Everything in some stores."""
    found = {}
    for record in await stores.management.records(1000):
        destination = record.destination
        subscriptions = await stores.management.subscriptions(
            destination, 1000, "", now
        )
        stored = await stores.messages.stored(destination, 1000, None, now)
        found[destination] = Content(
            evolve(record, revision=0),
            tuple(subscriptions),
            tuple(map(without_place, stored)),
        )
    return found


def without_place(stored: StoredMessage) -> StoredMessage:
    """A message without its id and claim, which are not moved."""
    message = replace(stored.message, id="", claim_id=None)
    return replace(stored, message=message)


def ignore(_: int) -> None:
    """Nobody watches the progress."""


async def exported(stores: Backends, **options: Any) -> bytes:
    """What an export of some stores has in it."""
    file = BytesIO()

    def write(data: bytes) -> Deferred[None]:
        file.write(data)
        return succeed(None)

    exporter = Exporter(
        stores=stores,
        now=lambda: NOW,
        interruption=Interruption(),
        advance=ignore,
        write=write,
        **options,
    )
    await exporter.run()
    return file.getvalue()


def reader(file: bytes) -> Any:
    """The batches of a file, each read at once."""
    reading = Reading(BytesIO(file))
    return lambda: execute(reading.batch)


def importer(
    stores: Backends,
    wanted: Wanted,
    now: int = NOW,
    interruption: Interruption | None = None,
    advance: Any = ignore,
) -> Importer:
    """The second way through a file."""
    stop = interruption or Interruption()
    return Importer(stores, lambda: now, stop, wanted, advance)


async def imported(
    stores: Backends, file: bytes, wanted: Wanted | None = None, now: int = NOW
) -> Outcome:
    """Both ways through a file."""
    wanted = wanted or Wanted()
    await Check(stores, lambda: now, Interruption(), wanted).run(reader(file))
    second = importer(stores, wanted, now)
    await second.run(reader(file))
    return second.outcome


def file_of(*lines: Any) -> bytes:
    """A complete file with some lines between the first and the last."""
    end = End()
    for line in lines:
        end.count(line)
    return b"".join(map(encode, [HEADER, *lines, end]))
