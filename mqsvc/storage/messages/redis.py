"""The message store on Redis: each operation is one Lua script.

What the scripts do is in the folder ``redis`` beside this module; here each method
makes their parameters and reads their answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
from mqsvc.storage.messages.redis_scripts import Scripts

if TYPE_CHECKING:
    from mqsvc.storage.messages.redis_connection import RedisConnection

LAST_POSITION = 2**53
"""Above every position; the last integer that is exact in a score."""

REMEMBERED = frozenset({"claim", "clear", "pop", "post", "restore"})
"""The scripts whose second try must not do again what the first one did."""

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


def _claim(claim_id: str) -> str:
    """A claim id, or what stands for none: other texts are not worth the way."""
    return claim_id if parse_id(claim_id) else ""


def _well_formed(message_ids: Collection[str]) -> list[str]:
    """Each once."""
    return [each for each in dict.fromkeys(message_ids) if parse_id(each)]


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
        answer = self._scripts.run("sweep", self._keys(), {"now": now})
        return answer.addCallback(msgspec.msgpack.decode, type=bool)

    def post(
        self,
        destination: Destination,
        messages: Sequence[NewMessage],
        client_id: str,
        now: int,
        also: Posting | None = None,
    ) -> Deferred[list[str]]:
        """Append messages."""
        postings = [Posting(destination, messages), *([] if also is None else [also])]
        new = [
            [(each.ttl, each.delay, self._random()) for each in posting.messages]
            for posting in postings
        ]
        return self._run(
            "post",
            destination,
            {"now": now, "client": client_id, "postings": new},
            list[str],
            [each.body for posting in postings for each in posting.messages],
            targets=[each.destination for each in postings[1:]],
        )

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
        return self._listed("page", destination, parameters)

    def get(
        self, destination: Destination, message_ids: Sequence[str], now: int
    ) -> Deferred[list[Message]]:
        """Messages by id."""
        parameters = {"now": now, "ids": _well_formed(message_ids)}
        return self._listed("get", destination, parameters)

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
        answer: Deferred[Outcome] = self._run(
            "delete", destination, parameters, Outcome
        )
        return answer.addCallback(_check_deleted)

    def pop(
        self, destination: Destination, limit: int, now: int
    ) -> Deferred[list[Message]]:
        """Take and delete."""
        return self._listed("pop", destination, {"now": now, "limit": limit})

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
        targets: tuple[Destination, ...] = ()
        if dead_letter is not None:
            parameters["rule"] = self._rule(dead_letter, limit)
            targets = (dead_letter.target,)
        answer: Deferred[tuple[int, list[Row]]] = self._run(
            "claim",
            destination,
            parameters,
            tuple[int, list[Row]],
            targets=targets,
        )
        return answer.addCallback(_claimed, claim_id, ttl, now)

    def get_claim(
        self, destination: Destination, claim_id: str, now: int
    ) -> Deferred[Claim]:
        """A live claim."""
        answer: Deferred[list[tuple[int, int, list[Row]]]] = self._run(
            "get_claim",
            destination,
            {"now": now, "claim": _claim(claim_id)},
            list[tuple[int, int, list[Row]]],
        )
        return answer.addCallback(_found_claim, claim_id)

    def renew(
        self, destination: Destination, claim_id: str, ttl: int, grace: int, now: int
    ) -> Deferred[None]:
        """Move the end of a claim."""
        times = {"now": now, "ttl": ttl, "grace": grace}
        parameters = {**times, "claim": _claim(claim_id)}
        return self._run("renew", destination, parameters, bool).addCallback(
            _check_renewed
        )

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
        return self._run("release", destination, parameters, bool).addCallback(_done)

    def stats(self, destination: Destination, now: int) -> Deferred[Stats]:
        """Counts and ends."""
        answer: Deferred[tuple[int, int, list[Row]]] = self._run(
            "stats", destination, {"now": now}, tuple[int, int, list[Row]]
        )
        return answer.addCallback(_stats)

    def clear(self, destination: Destination) -> Deferred[None]:
        """Forget everything of a destination."""
        return self._run("clear", destination, {}, bool).addCallback(_done)

    def next_ready(self, destination: Destination, now: int) -> Deferred[int | None]:
        """The next end of a delay or claim."""
        answer: Deferred[int | bool] = self._run(
            "next_ready", destination, {"now": now}, int | bool
        )
        return answer.addCallback(lambda moment: moment or None)

    def stored_bytes(self, project: str) -> Deferred[int]:
        """Bytes of bodies of a project."""
        keys = [*self._keys(), project_key(self._prefix, project)]
        answer = self._scripts.run("stored_bytes", keys, {})
        return answer.addCallback(msgspec.msgpack.decode, type=int)

    def stored(
        self, destination: Destination, limit: int, after: str | None, now: int
    ) -> Deferred[list[StoredMessage]]:
        """One page of everything."""
        marker = (0, 0) if after is None else parse_id(after)
        if marker is None:
            return self._nothing()
        position = min(marker[0], LAST_POSITION)
        parameters = {"now": now, "after": position, "limit": limit}
        answer: Deferred[list[StoredRow]] = self._run(
            "stored", destination, parameters, list[StoredRow]
        )
        return answer.addCallback(_stored)

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
            list[str],
            [each.message.body for each in kept],
        )

    def _random(self) -> str:
        """The random part of an id."""
        return f"{self._random_bits(RANDOM_BITS):010x}"

    def _rule(self, rule: DeadLetterRule, limit: int) -> Mapping[str, Any]:
        randoms = [self._random() for _ in range(limit)]
        parameters = {"max_claim_count": rule.max_claim_count, "randoms": randoms}
        return parameters if rule.ttl is None else {**parameters, "ttl": rule.ttl}

    def _keys(self, *destinations: Destination) -> list[str]:
        return [
            f"{self._prefix}:sweep",
            f"{self._prefix}:floor",
            *(destination_key(self._prefix, each) for each in destinations),
        ]

    def _nothing(self) -> Deferred[list[Any]]:
        """What is known to be empty without a look, as long as there is a server."""
        return self._scripts.ping().addCallback(lambda _: [])

    def _listed(
        self, script: str, destination: Destination, parameters: Mapping[str, Any]
    ) -> Deferred[list[Message]]:
        answer: Deferred[list[Row]] = self._run(
            script, destination, parameters, list[Row]
        )
        return answer.addCallback(_messages)

    def _run(
        self,
        script: str,
        destination: Destination,
        parameters: Mapping[str, Any],
        type_: Any,
        texts: Sequence[bytes] = (),
        targets: Sequence[Destination] = (),
    ) -> Deferred[Any]:
        keys = self._keys(destination, *targets)
        if script in REMEMBERED:
            # The key by which Redis knows an operation again that is sent twice.
            token = f"{keys[2]}:op:{self._random()}{self._random()}"
            parameters = {**parameters, "token": token}
        answer = self._scripts.run(script, keys, parameters, texts)
        return answer.addCallback(msgspec.msgpack.decode, type=type_)


def _done(_: object) -> None:
    """The answer says nothing."""


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


def _claimed(
    answer: tuple[int, list[Row]], claim_id: str, ttl: int, now: int
) -> Claimed:
    moved, rows = answer
    if not rows:
        return Claimed(None, moved)
    return Claimed(Claim(claim_id, ttl, now, tuple(_messages(rows))), moved)


def _found_claim(found: list[tuple[int, int, list[Row]]], claim_id: str) -> Claim:
    if not found:
        raise ClaimDoesNotExist("The claim does not exist or has ended.")
    [(ttl, created, rows)] = found
    return Claim(claim_id, ttl, created, tuple(_messages(rows)))


def _stats(answer: tuple[int, int, list[Row]]) -> Stats:
    total, claimed, rows = answer
    oldest, newest = _messages(rows) or (None, None)
    return Stats(claimed, total - claimed, oldest, newest)
