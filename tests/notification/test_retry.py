"""When a failed delivery is tried again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging.retry_policy import LEAST_SPREAD, check
from mqsvc.notification.retry import (
    MAX_RETRY_AFTER,
    RetryPolicy,
    next_delay,
    policy_in_force,
)

exact = settings(deadline=None, derandomize=True)

FUNCTIONS = ("linear", "arithmetic", "geometric", "exponential")


def delays(policy: RetryPolicy) -> list[int]:
    """All delays of a policy, in order."""
    made: list[int] = []
    while (delay := policy.delay(len(made) + 1)) is not None:
        made.append(delay)
    return made


def backoff(function: str, least: int, most: int) -> list[int]:
    """The delays of the back-off alone."""
    return delays(RetryPolicy(0, 0, least, most, 0, function))


class SequenceTests(SynchronousTestCase):
    """The values that the contract names."""

    def test_default(self) -> None:
        """Without any policy there are three at once, three after 5 s, and so on."""
        wanted = [0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30]
        self.assertEqual(wanted, delays(RetryPolicy()))
        self.assertEqual(len(wanted) + 1, RetryPolicy().attempts)

    def test_five_to_thirty(self) -> None:
        """Each function from 5 to 30 seconds."""
        for function, wanted in (
            ("linear", [5, 10, 15, 20, 25]),
            ("arithmetic", [5, 7, 12, 20, 30]),
            ("geometric", [5, 7, 12, 19, 30]),
            ("exponential", [5, 7, 12, 19, 30]),
        ):
            self.assertEqual(wanted, backoff(function, 5, 30))

    def test_more_values(self) -> None:
        """Other spreads."""
        for function, least, most, wanted in (
            ("exponential", 10, 60, [10, 12, 14, 18, 22, 27, 33, 40, 49, 60]),
            ("geometric", 20, 80, [20, 22, 25, 29, 33, 37, 42, 48, 54, 62, 70, 80]),
            (
                *("arithmetic", 30, 100),
                [30, 30, 32, 34, 37, 41, 46, 51, 57, 64, 72, 80, 90, 100],
            ),
        ):
            self.assertEqual(wanted, backoff(function, least, most))

    def test_long(self) -> None:
        """From 5 seconds to an hour there are 719 steps, over 14 days in all."""
        steps = backoff("linear", 5, 3600)
        self.assertEqual(719, len(steps))
        self.assertGreater(sum(steps), 14 * 86400)

    def test_odd_spread(self) -> None:
        """The linear back-off stays below a maximum that is no multiple of the step."""
        self.assertEqual([5, 10, 15], backoff("linear", 5, 18))
        self.assertEqual([5, 18], backoff("geometric", 5, 18))

    def test_ends_at_the_maximum(self) -> None:
        """The last delay is the maximum, also where floating point falls short."""
        for least, most in ((7, 61), (7, 115), (7, 122)):
            self.assertLess(least * (most / least), most)
            self.assertEqual(most, backoff("geometric", least, most)[-1])

    def test_no_retries(self) -> None:
        """All counts at 0 leave the back-off."""
        self.assertEqual([1, 6], delays(RetryPolicy(0, 0, 1, 11, 0)))

    @exact
    @given(
        least=st.integers(1, 5000),
        spread=st.integers(LEAST_SPREAD, 5000),
        function=st.sampled_from(FUNCTIONS),
    )
    def test_never_backwards(self, least: int, spread: int, function: str) -> None:
        """Each back-off begins at the minimum, never falls and ends in time."""
        made = backoff(function, least, least + spread)
        self.assertEqual(made, sorted(made))
        self.assertEqual(least, made[0])
        if function == "linear":
            self.assertLess(made[-1], least + spread)
        else:
            self.assertEqual(least + spread, made[-1])


class InForceTests(SynchronousTestCase):
    """Whose policy counts."""

    def of(self, queue: Any, own: Any) -> int:
        """The minimum delay of the policy in force."""
        return policy_in_force(
            {} if queue is None else {"_retry_policy": queue},
            {} if own is None else {"_retry_policy": own},
        ).minimum_delay

    def test_order(self) -> None:
        """The subscription's, else the queue's, else the default."""
        self.assertEqual(5, self.of(None, None))
        self.assertEqual(7, self.of({"minimum_delay": 7}, None))
        self.assertEqual(7, self.of({"minimum_delay": 7}, {}))
        self.assertEqual(9, self.of({"minimum_delay": 7}, {"minimum_delay": 9}))
        self.assertEqual(9, self.of(None, {"minimum_delay": 9}))

    def test_ignored(self) -> None:
        """Either of them can say that the queue's counts."""
        ignoring = {"ignore_subscription_override": True}
        for queue, own in (
            ({"minimum_delay": 7, **ignoring}, {"minimum_delay": 9}),
            ({"minimum_delay": 7}, {"minimum_delay": 9, **ignoring}),
        ):
            self.assertEqual(7, self.of(queue, own))
        self.assertEqual(5, self.of(None, {"minimum_delay": 9, **ignoring}))

    def test_null(self) -> None:
        """Null is no policy."""
        policy = policy_in_force({"_retry_policy": None}, {"_retry_policy": None})
        self.assertEqual(RetryPolicy(), policy)

    def test_unknown_members(self) -> None:
        """Members that mean nothing are no error."""
        policy = {"note": "x", "__weakref__": 1, "retries_with_no_delay": 0}
        check(policy)
        made = policy_in_force({"_retry_policy": policy}, {})
        self.assertEqual(RetryPolicy(retries_with_no_delay=0), made)


class RetryAfterTests(SynchronousTestCase):
    """What a receiver can ask for."""

    def test_longer(self) -> None:
        """A delay becomes as long as the receiver wants, within an hour."""
        policy = RetryPolicy()
        self.assertEqual(40, next_delay(policy, 1, 40))
        self.assertEqual(MAX_RETRY_AFTER, next_delay(policy, 1, 10**6))

    def test_not_shorter(self) -> None:
        """A receiver does not make it come sooner."""
        self.assertEqual(5, next_delay(RetryPolicy(), 4, 0))
        self.assertEqual(0, next_delay(RetryPolicy(), 1, None))

    def test_exhausted(self) -> None:
        """It gets no attempt more than the policy has."""
        self.assertIsNone(next_delay(RetryPolicy(), 15, 40))
