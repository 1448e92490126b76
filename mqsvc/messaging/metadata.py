"""Reserved keys of queue and topic metadata: their checks, defaults and meaning.

rest.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from mqsvc.messaging import checks, retry_policy
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.limits import MIN_TTL, Limits
from mqsvc.messaging.model import DeadLetterRule, Destination, JsonObject, Kind

MAX_POST_SIZE = "_max_messages_post_size"
DEFAULT_TTL = "_default_message_ttl"
DEFAULT_DELAY = "_default_message_delay"
DEAD_LETTER_QUEUE = "_dead_letter_queue"
DEAD_LETTER_TTL = "_dead_letter_queue_messages_ttl"
MAX_CLAIM_COUNT = "_max_claim_count"
ENCRYPT = "_enable_encrypt_messages"
FLAVOR = "_flavor"
"""Means something only where there are pools, see :mod:`~mqsvc.messaging.placement`."""


@frozen
class Rules:
    """What the metadata of a destination means for its messages.

    :ivar max_post_size: bytes of one post.
    :ivar default_ttl: seconds, for messages posted without one.
    :ivar default_delay: seconds; unless 0, messages may also name their own.
    :ivar encrypt: bodies must not be stored in clear.
    """

    max_post_size: int
    default_ttl: int
    default_delay: int
    dead_letter: DeadLetterRule | None = None
    encrypt: bool = False


def rules(destination: Destination, metadata: JsonObject, limits: Limits) -> Rules:
    """The rules of a destination with this stored metadata."""
    shown = with_defaults(destination.kind, metadata, limits)
    return Rules(
        max_post_size=min(shown[MAX_POST_SIZE], limits.max_messages_post_size),
        default_ttl=shown[DEFAULT_TTL],
        default_delay=shown[DEFAULT_DELAY],
        dead_letter=_dead_letter(destination, shown),
        encrypt=bool(shown.get(ENCRYPT)),
    )


def _dead_letter(
    destination: Destination, shown: Mapping[str, Any]
) -> DeadLetterRule | None:
    target, count = dead_letter_queue(destination, shown), shown.get(MAX_CLAIM_COUNT)
    if target is None or not count:
        return None
    return DeadLetterRule(target, count, shown[DEAD_LETTER_TTL])


def dead_letter_queue(
    destination: Destination, metadata: JsonObject
) -> Destination | None:
    """The queue that checked metadata names for messages that are worn out."""
    name = metadata.get(DEAD_LETTER_QUEUE)
    if destination.kind is not Kind.QUEUE or not name:
        return None
    return Destination(destination.project, Kind.QUEUE, name)


def with_defaults(kind: Kind, metadata: JsonObject, limits: Limits) -> dict[str, Any]:
    """Metadata as callers see it: reserved keys that say nothing get their default."""
    shown = dict(metadata)
    for key, default in defaults(kind, limits).items():
        shown[key] = shown.get(key) or default
    return shown


def defaults(kind: Kind, limits: Limits) -> dict[str, Any]:
    """The reserved keys that every destination of a kind shows."""
    common: dict[str, Any] = {
        MAX_POST_SIZE: limits.max_messages_post_size,
        DEFAULT_TTL: limits.default_message_ttl,
        DEFAULT_DELAY: limits.default_message_delay,
    }
    if kind is Kind.TOPIC:
        return common
    return common | {
        DEAD_LETTER_QUEUE: None,
        DEAD_LETTER_TTL: None,
        MAX_CLAIM_COUNT: None,
        ENCRYPT: False,
    }


def check(destination: Destination, metadata: JsonObject, limits: Limits) -> None:
    """Accept metadata to be stored; keys that are not reserved are free.

    :raise InvalidRequest: a reserved key has a value that it cannot have.
    """
    known = _checks(limits)
    for key in (*defaults(destination.kind, limits), retry_policy.KEY):
        value = metadata.get(key)
        if value is not None:
            known[key](key, value)
    if destination.kind is Kind.QUEUE and metadata.get(DEAD_LETTER_QUEUE) == (
        destination.name
    ):
        raise InvalidRequest(f"{DEAD_LETTER_QUEUE} must be another queue.")


Check = Callable[[str, Any], None]


def _checks(limits: Limits) -> dict[str, Check]:
    ttl = _within(MIN_TTL, limits.max_message_ttl)
    return {
        MAX_POST_SIZE: _within(1, limits.max_messages_post_size),
        DEFAULT_TTL: ttl,
        DEFAULT_DELAY: _within(0, limits.max_message_delay),
        DEAD_LETTER_QUEUE: _check_queue_name,
        DEAD_LETTER_TTL: ttl,
        MAX_CLAIM_COUNT: _within(1, None),
        ENCRYPT: _check_boolean,
        retry_policy.KEY: lambda _, value: retry_policy.check(value),
    }


def _within(low: int, high: int | None) -> Check:
    def check_integer(key: str, value: Any) -> None:
        checks.integer(value, key, low, high)

    return check_integer


def _check_queue_name(key: str, value: Any) -> None:
    if not isinstance(value, str) or not checks.is_name(value):
        raise InvalidRequest(f"{key} must be the name of a queue.")


def _check_boolean(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key} must be true or false.")
