"""The shape of ``_retry_policy``, of queue metadata and subscription options.

rest.md section 4, D-27.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mqsvc.messaging.checks import is_integer
from mqsvc.messaging.errors import InvalidRequest

KEY = "_retry_policy"

_LEAST = {
    "retries_with_no_delay": 0,
    "minimum_delay_retries": 0,
    "maximum_delay_retries": 0,
    "minimum_delay": 1,
    "maximum_delay": 1,
}
_DEFAULT_DELAYS = {"minimum_delay": 5, "maximum_delay": 30}
_FUNCTIONS = ("linear", "arithmetic", "geometric", "exponential")

LEAST_SPREAD = 10
"""Seconds between both delays at least, since the back-off divides them in steps."""


def check(policy: Any) -> None:
    """Accept a policy, or say what is wrong with it. Null is none.

    :raise InvalidRequest: it is no object, or a member is wrong.
    """
    if policy is None:
        return
    if not isinstance(policy, Mapping):
        raise InvalidRequest(f"{KEY} must be a dict (a JSON object).")
    for name, least in _LEAST.items():
        if name in policy and not (is_integer(policy[name]) and policy[name] >= least):
            raise InvalidRequest(
                f"'{name}' of {KEY} must be an integer of at least {least}."
            )
    if policy.get("retry_backoff_function", "linear") not in _FUNCTIONS:
        raise InvalidRequest(
            f"'retry_backoff_function' of {KEY} must be one of {', '.join(_FUNCTIONS)}."
        )
    if not isinstance(policy.get("ignore_subscription_override", False), bool):
        raise InvalidRequest(
            f"'ignore_subscription_override' of {KEY} must be true or false."
        )
    delays = {**_DEFAULT_DELAYS, **policy}
    if delays["maximum_delay"] - delays["minimum_delay"] < LEAST_SPREAD:
        raise InvalidRequest(
            f"'maximum_delay' of {KEY} must be at least {LEAST_SPREAD} more than "
            "'minimum_delay'."
        )
