"""When a failed delivery is tried again (semantics.md 7.3).

After the first attempt there are four phases: retries at once, retries after the
minimum delay, a back-off from the minimum to the maximum delay, and retries after the
maximum delay.
"""

from __future__ import annotations

from typing import Any

from attrs import fields, frozen

from mqsvc.messaging.model import JsonObject
from mqsvc.messaging.retry_policy import KEY

STEP = 5
"""Seconds between two delays of the linear back-off; others have as many delays."""

MAX_RETRY_AFTER = 3600
"""Seconds that a receiver can ask to be left alone, beyond what the policy says."""

_ALMOST = 1e-9
"""What keeps a delay of exactly 30 from becoming 29 in floating point."""


@frozen
class RetryPolicy:
    """How often and when, with the names and defaults of the API.

    The values are those that ``messaging.retry_policy.check`` lets pass.
    """

    retries_with_no_delay: int = 3
    minimum_delay_retries: int = 3
    minimum_delay: int = 5
    maximum_delay: int = 30
    maximum_delay_retries: int = 3
    retry_backoff_function: str = "linear"

    def delay(self, attempt: int) -> int | None:
        """Seconds to wait after an attempt failed; none when it was the last one.

        :param attempt: which one failed, 1 is the first.
        """
        number = attempt - 1
        for count, delay in (
            (self.retries_with_no_delay, 0),
            (self.minimum_delay_retries, self.minimum_delay),
        ):
            if number < count:
                return delay
            number -= count
        if number < self._backoff_retries:
            return self._backoff(number)
        number -= self._backoff_retries
        return self.maximum_delay if number < self.maximum_delay_retries else None

    @property
    def attempts(self) -> int:
        """How many there are at most, the first one included."""
        return 1 + (
            self.retries_with_no_delay
            + self.minimum_delay_retries
            + self._backoff_retries
            + self.maximum_delay_retries
        )

    @property
    def _spread(self) -> int:
        return self.maximum_delay - self.minimum_delay

    @property
    def _backoff_retries(self) -> int:
        if self.retry_backoff_function == "linear":
            return -(-self._spread // STEP)  # the maximum itself is not among them
        return self._spread // STEP

    def _backoff(self, number: int) -> int:
        """The delay with a number, of which 0 is the first one."""
        last = self._backoff_retries - 1
        if self.retry_backoff_function == "linear":
            return self.minimum_delay + STEP * number
        if self.retry_backoff_function == "arithmetic":
            part = number * (number + 1)
            return self.minimum_delay + part * self._spread // (last * (last + 1))
        # Geometric and exponential are two descriptions of the same series.
        growth = self.maximum_delay / self.minimum_delay
        return int(self.minimum_delay * growth ** (number / last) + _ALMOST)


def policy_in_force(metadata: JsonObject, options: JsonObject) -> RetryPolicy:
    """The policy of a queue or that of a subscription, as both of them want it.

    :param metadata: of the queue.
    :param options: of the subscription.
    """
    of_queue: dict[str, Any] = metadata.get(KEY) or {}
    own: dict[str, Any] = options.get(KEY) or {}
    is_queue_first = any(p.get("ignore_subscription_override") for p in (of_queue, own))
    chosen = of_queue if is_queue_first or not own else own
    names = [attribute.name for attribute in fields(RetryPolicy)]
    return RetryPolicy(**{name: chosen[name] for name in names if name in chosen})


def next_delay(
    policy: RetryPolicy, attempt: int, retry_after: int | None = None
) -> int | None:
    """Seconds to wait after an attempt failed; none when it was the last one.

    :param retry_after: what the receiver asked for, followed up to
        :data:`MAX_RETRY_AFTER`; it makes a delay longer, never shorter.
    """
    delay = policy.delay(attempt)
    if delay is None or retry_after is None:
        return delay
    return max(delay, min(retry_after, MAX_RETRY_AFTER))
