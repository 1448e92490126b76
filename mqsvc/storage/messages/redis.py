"""The message store on Redis: each operation is one Lua script.

What the scripts do is in the folder ``redis`` beside this module; here each method
makes their parameters and reads their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mqsvc.entropy import random_bits
from mqsvc.messaging.errors import (
    ClaimDoesNotExist,
    MessageIsClaimed,
    MessageNotClaimed,
)
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
from mqsvc.storage.errors import StoreOpenError
from mqsvc.storage.ids import RANDOM_BITS, RandomBits, format_id, parse_id
from mqsvc.storage.interfaces import IMessageStore
from mqsvc.storage.messages.redis_address import parse_address
from mqsvc.storage.messages.redis_joint import Operation, Part
from mqsvc.storage.messages.redis_scripts import Read, Scripts

if TYPE_CHECKING:
    from mqsvc.storage.messages.redis_connection import RedisConnection

LAST_POSITION = 2**53
"""Above every position; the last integer that is exact in a score."""

KEYS_KEPT = 1024
"""Destinations whose keys need not be put together again."""

REMEMBERED = frozenset({"clear", "pop", "restore"})
"""The scripts whose second try must not do again what the first one did.

Posts are others, and claims under a rule; without one they are known by their ids.
"""

Row = tuple[str, str, int, int, str, int]
StoredRow = tuple[Row, int, int]
Outcome = Literal["deleted", "free", "ended", "claimed"]


def open_redis_messages(uri: str, reactor: Any) -> RedisMessageStore:
    """A store on a Redis, not yet connected.

    :raise StoreOpenError: the URI cannot be used.
    """
    address = parse_address(uri)
    connection = _connection_class()(address, reactor)
    return RedisMessageStore(Scripts(connection), address.prefix, random_bits)


def _connection_class() -> type[RedisConnection]:
    """Imported late because that installs the reactor."""
    try:
        from mqsvc.storage.messages.redis_connection import (  # noqa: PLC0415
            RedisConnection,
        )
    except ImportError as error:
        raise StoreOpenError(
            "Redis needs a package that is not installed: pip install 'mqsvc[redis]'"
        ) from error
    return RedisConnection


def destination_key(prefix: str, destination: Destination) -> str:
    """What the keys of a destination begin with, the same for no other destination.

    The part in braces is what decides on the server in places that have several.
    """
    parts = (destination.project, destination.kind.value, destination.name)
    name = "/".join(_quoted(part) for part in parts)
    return f"{prefix}:{{{name}}}"


def project_key(prefix: str, project: str) -> str:
    """Where it is kept which destinations of a project count."""
    return f"{prefix}:project:{_quoted(project)}"


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _origin(stored: StoredMessage) -> tuple[int, int, int, int, int]:
    """What a message keeps in another store, beside its body."""
    message = stored.message
    return (
        message.ttl,
        message.created,
        stored.expires,
        message.claim_count,
        stored.delayed_until or 0,
    )


def _rule(rule: DeadLetterRule) -> Mapping[str, int]:
    parameters = {"max_claim_count": rule.max_claim_count}
    return parameters if rule.ttl is None else {**parameters, "ttl": rule.ttl}


def _claim(claim_id: str) -> str:
    """A claim id, or what stands for none: other texts are not worth the way."""
    return claim_id if parse_id(claim_id) else ""


def _well_formed(message_ids: Collection[str]) -> list[str]:
    """Each once."""
    return [each for each in dict.fromkeys(message_ids) if parse_id(each)]


def _message(row: Row) -> Message:
    message_id, body, ttl, created, claim_id, claim_count = row
    return Message(
        message_id, body.encode(), ttl, created, claim_id or None, claim_count
    )


def _messages(rows: list[Row]) -> list[Message]:
    return [_message(row) for row in rows]


def _stored(rows: list[StoredRow]) -> list[StoredMessage]:
    return [
        StoredMessage(_message(row), expires, delayed_until or None)
        for row, expires, delayed_until in rows
    ]


def _stats(answer: tuple[int, int, list[Row]]) -> Stats:
    total, claimed, rows = answer
    oldest, newest = _messages(rows) or (None, None)
    return Stats(claimed, total - claimed, oldest, newest)


def _check_deleted(outcome: Outcome) -> None:
    if outcome == "free":
        raise MessageNotClaimed("The message is not under the claim given.")
    if outcome == "ended":
        raise MessageNotClaimed("The claim given does not exist or has ended.")
    if outcome == "claimed":
        raise MessageIsClaimed("The message is claimed: give the claim that holds it.")


def _check_renewed(renewed: bool) -> None:
    if not renewed:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")


def _reader(type_: Any, make: Callable[[Any], Any]) -> Read:
    """What makes a value of the answer of a script, which is of this type."""
    decode = msgspec.msgpack.Decoder(type_).decode
    return lambda answer: make(decode(answer))


_read_flag = msgspec.msgpack.Decoder(bool).decode
_read_number = msgspec.msgpack.Decoder(int).decode
_read_ids = msgspec.msgpack.Decoder(list[str]).decode
_read_messages = _reader(list[Row], _messages)
_read_stored = _reader(list[StoredRow], _stored)
_read_stats = _reader(tuple[int, int, list[Row]], _stats)
_read_moment = _reader(int | bool, lambda moment: moment or None)
_read_renewed = _reader(bool, _check_renewed)
_read_done = _reader(bool, lambda _: None)
_decode_claim = msgspec.msgpack.Decoder(list[tuple[int, int, list[Row]]]).decode


_POST = Operation("post", msgspec.msgpack.Decoder(list[list[str]]).decode)
_DELETE = Operation("delete", msgspec.msgpack.Decoder(list[Outcome]).decode)
_CLAIM = Operation("claim", msgspec.msgpack.Decoder(list[tuple[int, list[Row]]]).decode)


def _posted(ids: list[str]) -> list[str]:
    """They are what a post fires with."""
    return ids


def _claimed(
    claim_id: str, ttl: int, now: int, result: tuple[int, list[Row]]
) -> Claimed:
    moved, rows = result
    if not rows:
        return Claimed(None, moved)
    return Claimed(Claim(claim_id, ttl, now, tuple(_messages(rows))), moved)


def _read_claim(claim_id: str, answer: bytes) -> Claim:
    found = _decode_claim(answer)
    if not found:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    [(ttl, created, rows)] = found
    return Claim(claim_id, ttl, created, tuple(_messages(rows)))


@implementer(IMessageStore)
class RedisMessageStore(Service):
    """See :class:`~mqsvc.storage.interfaces.IMessageStore`.

    :param prefix: what all keys begin with.
    :param random_bits: where the unguessable part of ids comes from.
    """

    name = "messages"

    def __init__(self, scripts: Scripts, prefix: str, random_bits: RandomBits) -> None:
        self._scripts = scripts
        self._prefix = prefix
        self._random_bits = random_bits
        self._shared_keys = (f"{prefix}:sweep", f"{prefix}:floor")
        self._key_of = lru_cache(KEYS_KEPT)(partial(destination_key, prefix))

    def startService(self) -> None:
        """Begin to connect; does not wait for it."""
        super().startService()
        self._scripts.start()

    def stopService(self) -> Deferred[None]:
        """Fires when everything asked is answered and the connection is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._scripts.stop())

    def ping(self) -> Deferred[None]:
        """See :class:`IMessageStore`, as for every method below."""
        return self._scripts.ping()

    def sweep(self, now: int) -> Deferred[bool]:
        """Correct and delete a bounded amount."""
        return self._scripts.run("sweep", self._shared_keys, {"now": now}, _read_flag)

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages."""
        keys = self._keys(destination)
        part = Part(
            keys[2],
            (now, client_id, self._new(messages)),
            _posted,
            len(messages),
            [each.body for each in messages],
        )
        parameters: dict[str, Any] = {"token": self._token(keys)}
        if also is not None:
            part.is_alone = True
            part.texts += [each.body for each in also.messages]
            parameters["also"] = self._new(also.messages)
            keys.append(self._key_of(also.destination))
        return self._scripts.join(_POST, keys, parameters, part)

    def page(
        self, destination: Destination, selection: Selection, now: int
    ) -> Deferred[list[Message]]:
        """One page."""
        after = (0, 0) if selection.after is None else parse_id(selection.after)
        if after is None:
            return self._nothing()
        parameters: dict[str, Any] = {
            "now": now,
            "after": min(after[0], LAST_POSITION),
            "limit": selection.limit,
            "delayed": selection.include_delayed,
            "claimed": selection.include_claimed,
        }
        if selection.hide_client is not None:
            parameters["hide"] = selection.hide_client
        return self._run("page", destination, parameters, _read_messages)

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""
        parameters = {"now": now, "ids": _well_formed(message_ids)}
        return self._run("get", destination, parameters, _read_messages)

    def delete(
        self,
        destination: Destination,
        message_ids: Sequence[str],
        now: int,
        claim_ids: Collection[str] | None = None,
    ) -> Deferred[None]:
        """Delete messages by id."""
        parameters: dict[str, Any] = {"now": now, "ids": _well_formed(message_ids)}
        if claim_ids is not None:
            parameters["claims"] = [_claim(each) for each in claim_ids]
        keys = self._keys(destination)
        part = Part(keys[2], parameters, _check_deleted, len(message_ids))
        return self._scripts.join(_DELETE, keys, {}, part)

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete."""
        parameters = {"now": now, "limit": limit}
        return self._run("pop", destination, parameters, _read_messages)

    def claim(
        self,
        destination: Destination,
        ttl: int,
        grace: int,
        limit: int,
        now: int,
        dead_letter: DeadLetterRule | None = None,
    ) -> Deferred[Claimed]:
        """Lend messages."""
        claim_id = format_id(now * 1000, self._random_bits(RANDOM_BITS))
        parameters: dict[str, Any] = {
            "now": now,
            "claim": claim_id,
            "ttl": ttl,
            "grace": grace,
            "limit": limit,
        }
        read = partial(_claimed, claim_id, ttl, now)
        keys, common = self._keys(destination), {}
        part = Part((keys[2], dead_letter), parameters, read, limit)
        if dead_letter is not None:
            parameters["randoms"] = [self._random() for _ in range(limit)]
            keys.append(self._key_of(dead_letter.target))
            common = {"token": self._token(keys), "rule": _rule(dead_letter)}
        return self._scripts.join(_CLAIM, keys, common, part)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""
        parameters = {"now": now, "claim": _claim(claim_id)}
        read = partial(_read_claim, claim_id)
        return self._run("get_claim", destination, parameters, read)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Move the end of a claim."""
        times = {"now": now, "ttl": ttl, "grace": grace}
        parameters = {**times, "claim": _claim(claim_id)}
        return self._run("renew", destination, parameters, _read_renewed)

    def release(
        self,
        destination: Destination,
        claim_id: str,
        now: int,
        undelivered: bool = False,
    ) -> Deferred[None]:
        """End a claim."""
        which = {"claim": _claim(claim_id), "undelivered": undelivered}
        parameters = {"now": now, **which}
        return self._run("release", destination, parameters, _read_done)

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Counts and ends."""
        return self._run("stats", destination, {"now": now}, _read_stats)

    def clear(self, destination: Destination) -> Deferred[None]:
        """Forget everything of a destination."""
        return self._run("clear", destination, {}, _read_done)

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """The next end of a delay or claim."""
        return self._run("next_ready", destination, {"now": now}, _read_moment)

    def stored_bytes(self, project: str) -> Deferred[int]:
        """Bytes of bodies of a project."""
        keys = [*self._shared_keys, project_key(self._prefix, project)]
        return self._scripts.run("stored_bytes", keys, {}, _read_number)

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """One page of everything."""
        marker = (0, 0) if after is None else parse_id(after)
        if marker is None:
            return self._nothing()
        position = min(marker[0], LAST_POSITION)
        parameters = {"now": now, "after": position, "limit": limit}
        return self._run("stored", destination, parameters, _read_stored)

    def restore(
        self, destination: Destination, messages: Sequence[StoredMessage], now: int
    ) -> Deferred[list[str]]:
        """Append what another store kept."""
        kept = [each for each in messages if each.expires > now]
        if not kept:
            return self._nothing()
        return self._run(
            "restore",
            destination,
            {
                "now": now,
                "messages": [(*_origin(each), self._random()) for each in kept],
            },
            _read_ids,
            [each.message.body for each in kept],
        )

    def _random(self) -> str:
        """The random part of an id."""
        return f"{self._random_bits(RANDOM_BITS):010x}"

    def _new(self, messages: Sequence[NewMessage]) -> list[int | str]:
        """What a post tells of messages, beside their bodies."""
        told: list[int | str] = []
        for each in messages:
            told += (each.ttl, each.delay, self._random())
        return told

    def _token(self, keys: Sequence[str]) -> str:
        """The key by which Redis knows an operation again that is sent twice."""
        return f"{keys[2]}:op:{self._random_bits(64):016x}"

    def _keys(self, destination: Destination) -> list[str]:
        return [*self._shared_keys, self._key_of(destination)]

    def _nothing(self) -> Deferred[list[Any]]:
        """What is known to be empty without a look, as long as there is a server."""
        return self._scripts.ping().addCallback(lambda _: [])

    def _run(
        self,
        script: str,
        destination: Destination,
        parameters: dict[str, Any],
        read: Read,
        texts: Sequence[bytes] = (),
    ) -> Deferred[Any]:
        keys = self._keys(destination)
        if script in REMEMBERED:
            parameters["token"] = self._token(keys)
        return self._scripts.run(script, keys, parameters, read, texts)
