"""How messages and numbers look in JSON (rest.md 5.10, 5.14, 6.6)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from mqsvc.clock import Now
from mqsvc.messaging.model import Message, Stats
from mqsvc.wire import codec


@frozen
class Shapes:
    """Turns values into JSON documents.

    :ivar checksums: whether messages carry a checksum.
    """

    _now: Now
    _checksums: bool

    def messages(self, messages: Sequence[Message], path: str) -> list[dict[str, Any]]:
        """Messages of the destination with this path."""
        now, base = self._now(), f"{path}/messages/"
        shown = [_shown(message, base, now) for message in messages]
        if self._checksums:
            for document, message in zip(shown, messages, strict=True):
                document.update(self._checksum(message))
        return shown

    def message(self, message: Message, path: str) -> dict[str, Any]:
        """One message of the destination with this path."""
        return self.messages([message], path)[0]

    def popped(self, message: Message) -> dict[str, Any]:
        """A message that is deleted already, so without a path."""
        return {
            "id": message.id,
            "age": self.age(message.created),
            "ttl": message.ttl,
            "claim_count": message.claim_count,
            "claim_id": None,
            "body": codec.Encoded(message.body),
            **self._checksum(message),
        }

    def stats(self, stats: Stats, path: str) -> dict[str, Any]:
        """The numbers of the destination with this path."""
        numbers: dict[str, Any] = {
            "claimed": stats.claimed,
            "free": stats.free,
            "total": stats.total,
        }
        for name, message in (("oldest", stats.oldest), ("newest", stats.newest)):
            if message is not None:
                numbers[name] = {
                    "age": self.age(message.created),
                    "created": timestamp(message.created),
                    "href": f"{path}/messages/{message.id}",
                }
        return {"messages": numbers}

    def age(self, created: int) -> int:
        """Whole seconds since a moment."""
        return _age(created, self._now())

    def _checksum(self, message: Message) -> dict[str, str]:
        if not self._checksums or message.body == b"null":
            return {}
        # The text that is summed up is Python's own form of JSON, not the stored one.
        text = json.dumps(codec.decode(message.body))
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        return {"checksum": f"MD5:{digest}"}


def _shown(message: Message, base: str, now: int) -> dict[str, Any]:
    """A message without its checksum.

    :param base: of the paths of messages there.
    """
    href = base + message.id
    if message.claim_id is not None:
        href += f"?claim_id={message.claim_id}"
    # No further keys: clients make keyword arguments of them.
    return {
        "id": message.id,
        "href": href,
        "ttl": message.ttl,
        "age": _age(message.created, now),
        "body": codec.Encoded(message.body),
    }


def _age(created: int, now: int) -> int:
    return (now - created) // 1000 if now > created else 0


def timestamp(moment: int) -> str:
    """A moment as clients see it: ISO 8601, in UTC and whole seconds."""
    return datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
