"""Options of subscriptions that nobody can read: secrets, and the right to a trust.

Where they stand, readers see :data:`HIDDEN`. A client that changes options may send
that back, and then what it stands for stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from mqsvc.messaging import retry_policy
from mqsvc.messaging.model import JsonObject, Subscription

SECRETS = "signing_secrets"
TRUST = "trust_id"

HIDDEN = "***"

_HARMLESS = frozenset({"filter", retry_policy.KEY, SECRETS, TRUST})
"""Options that say when something is sent, or prove by whom, and not what."""


def shown(options: JsonObject) -> JsonObject:
    """Options as a reader sees them."""
    hidden: dict[str, Any] = {}
    if isinstance(options.get(SECRETS), list):
        hidden[SECRETS] = [HIDDEN] * len(options[SECRETS])
    if TRUST in options:
        hidden[TRUST] = HIDDEN
    return {**options, **hidden}


def changed(current: Subscription, values: Mapping[str, Any]) -> Subscription:
    """A subscription with some members set.

    A new subscriber is not confirmed, and no connection. A trust lets the service act
    for a user, and only as that user has asked: another subscriber, another time or
    something else to send takes a new trust.
    """
    made = evolve(current, **values)
    if "options" in values:
        made = evolve(made, options=_restored(made.options, current.options))
    if made.subscriber != current.subscriber:
        made = evolve(made, confirmed=False, lease=None)
    if _asked(made) != _asked(current):
        made = _without_trust(made, current.options.get(TRUST))
    return made


def _restored(given: JsonObject, stored: JsonObject) -> JsonObject:
    """Options as a client sends them, with what is hidden from it."""
    options = dict(given)
    secrets, known = options.get(SECRETS), stored.get(SECRETS)
    if isinstance(secrets, list) and isinstance(known, list):
        padded = [*known, *secrets[len(known) :]]
        pairs = zip(secrets, padded, strict=False)
        options[SECRETS] = [kept if new == HIDDEN else new for new, kept in pairs]
    if options.get(TRUST, HIDDEN) == HIDDEN:
        options.pop(TRUST, None)
        if TRUST in stored:
            options[TRUST] = stored[TRUST]
    return options


def _asked(subscription: Subscription) -> tuple[str, int, JsonObject]:
    """What a user who trusts the service has agreed to."""
    sent = {k: v for k, v in subscription.options.items() if k not in _HARMLESS}
    return subscription.subscriber, subscription.expires, sent


def _without_trust(subscription: Subscription, trust_id: Any) -> Subscription:
    options = subscription.options
    if options.get(TRUST) != trust_id:
        return subscription
    kept = {name: value for name, value in options.items() if name != TRUST}
    return evolve(subscription, options=kept)
