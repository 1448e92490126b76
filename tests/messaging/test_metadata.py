"""Reserved metadata and retry policies: what is accepted, shown and meant."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.messaging import metadata, retry_policy
from mqsvc.messaging.errors import InvalidRequest
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import DeadLetterRule, Destination, Kind
from tests.messaging.case import GRAVE, QUEUE, TOPIC

exact = settings(deadline=None, derandomize=True)

LIMITS = Limits(
    max_messages_post_size=1000,
    max_message_ttl=500,
    max_message_delay=90,
    default_message_ttl=100,
    default_message_delay=7,
)

INTEGERS = {
    "_max_messages_post_size": (1, 1000),
    "_default_message_ttl": (60, 500),
    "_default_message_delay": (0, 90),
    "_dead_letter_queue_messages_ttl": (60, 500),
    "_max_claim_count": (1, 2**63 - 1),
}
"""The bounds of reserved integers."""

NO_INTEGERS = ("5", "", 60.0, True, [60], {})


def is_accepted(document: Any, destination: Destination = QUEUE) -> bool:
    """Whether metadata can be stored."""
    try:
        metadata.check(destination, document, LIMITS)
    except InvalidRequest as error:
        if not error.description:
            raise AssertionError("a refusal without words") from error
        return False
    return True


class CheckTests(SynchronousTestCase):
    """What can be stored."""

    def test_integers(self) -> None:
        """Integers are accepted from bound to bound, and nothing else is."""
        for key, (low, high) in INTEGERS.items():
            for value in (low, high, None):
                self.assertTrue(is_accepted({key: value}), (key, value))
            for value in (low - 1, *NO_INTEGERS):
                self.assertFalse(is_accepted({key: value}), (key, value))
            if key != "_max_claim_count":
                self.assertFalse(is_accepted({key: high + 1}), key)

    def test_dead_letter_queue(self) -> None:
        """Dead letters go to another queue with a possible name."""
        key = "_dead_letter_queue"
        for name in ("other", "a.b", "x" * 64, None):
            self.assertTrue(is_accepted({key: name}), name)
        for name in ("q", "", "a b", ".", "..", "x" * 65, "a/b", "a\n", 5, True, []):
            self.assertFalse(is_accepted({key: name}), name)

    def test_encryption(self) -> None:
        """Encryption is wanted or not."""
        for value in (True, False, None):
            self.assertTrue(is_accepted({"_enable_encrypt_messages": value}))
        for value in (0, 1, "true", []):
            self.assertFalse(is_accepted({"_enable_encrypt_messages": value}), value)

    def test_retry_policy(self) -> None:
        """Queues and topics can have a retry policy, and it is checked."""
        for destination in (QUEUE, TOPIC):
            good, bad = {"minimum_delay": 1}, {"minimum_delay": 0}
            self.assertTrue(is_accepted({"_retry_policy": good}, destination))
            self.assertFalse(is_accepted({"_retry_policy": bad}, destination))

    def test_topics(self) -> None:
        """The keys of claims and encryption are free on topics, the others are not."""
        common = set(metadata.defaults(Kind.TOPIC, LIMITS))
        self.assertEqual(3, len(common))
        for key in metadata.defaults(Kind.QUEUE, LIMITS):
            self.assertEqual(key not in common, is_accepted({key: "no"}, TOPIC), key)
        self.assertTrue(is_accepted({"_dead_letter_queue": "t"}, TOPIC))

    def test_free_keys(self) -> None:
        """Everything else is the client's own."""
        self.assertTrue(is_accepted({"a": 1, "_b": [None], "": {}, "_flavor": 5}))


class ShownTests(SynchronousTestCase):
    """What is shown of what is stored."""

    def test_nothing_stored(self) -> None:
        """Seven keys are shown of an empty queue, three of an empty topic."""
        common = {
            "_max_messages_post_size": 1000,
            "_default_message_ttl": 100,
            "_default_message_delay": 7,
        }
        of_queues = {
            "_dead_letter_queue": None,
            "_dead_letter_queue_messages_ttl": None,
            "_max_claim_count": None,
            "_enable_encrypt_messages": False,
        }
        self.assertEqual(common, metadata.with_defaults(Kind.TOPIC, {}, LIMITS))
        self.assertEqual(
            common | of_queues, metadata.with_defaults(Kind.QUEUE, {}, LIMITS)
        )

    def test_false_values(self) -> None:
        """A reserved key that says nothing is shown with its default."""
        for nothing in (None, 0, False, "", []):
            shown = metadata.with_defaults(
                Kind.QUEUE, {"_default_message_ttl": nothing, "own": nothing}, LIMITS
            )
            self.assertEqual(100, shown["_default_message_ttl"])
            self.assertEqual(nothing, shown["own"])

    def test_the_original_stays(self) -> None:
        """What is stored is not touched by showing it."""
        stored = {"a": 1}
        metadata.with_defaults(Kind.QUEUE, stored, LIMITS)
        self.assertEqual({"a": 1}, stored)


class RulesTests(SynchronousTestCase):
    """What metadata means for messages."""

    def rules(self, **stored: Any) -> metadata.Rules:
        """The rules of a queue."""
        return metadata.rules(QUEUE, stored, LIMITS)

    def test_defaults(self) -> None:
        """Without metadata the configuration rules."""
        self.assertEqual(metadata.Rules(1000, 100, 7), self.rules())

    def test_own(self) -> None:
        """Metadata rules where there is some."""
        stored = {
            "_max_messages_post_size": 10,
            "_default_message_ttl": 60,
            "_default_message_delay": 1,
            "_enable_encrypt_messages": True,
        }
        self.assertEqual(metadata.Rules(10, 60, 1, encrypt=True), self.rules(**stored))

    def test_size_after_a_smaller_configuration(self) -> None:
        """A size stored under an older configuration does not exceed today's."""
        self.assertEqual(1000, self.rules(_max_messages_post_size=2000).max_post_size)

    def test_dead_letters(self) -> None:
        """Messages are moved where both a queue and a count are given."""
        both = {"_dead_letter_queue": "grave", "_max_claim_count": 3}
        self.assertEqual(DeadLetterRule(GRAVE, 3), self.rules(**both).dead_letter)
        with_ttl = {**both, "_dead_letter_queue_messages_ttl": 90}
        self.assertEqual(
            DeadLetterRule(GRAVE, 3, 90), self.rules(**with_ttl).dead_letter
        )
        for key in both:
            self.assertIsNone(self.rules(**{**both, key: None}).dead_letter)
        self.assertIsNone(metadata.rules(TOPIC, both, LIMITS).dead_letter)

    def test_own_project(self) -> None:
        """Dead letters stay in the project."""
        queue = Destination("p2", Kind.QUEUE, "q")
        stored = {"_dead_letter_queue": "grave", "_max_claim_count": 3}
        rule = metadata.rules(queue, stored, LIMITS).dead_letter
        self.assertEqual("p2", rule.target.project)


counts = st.integers(-2, 5)
delays = st.integers(-2, 60)
policies = st.fixed_dictionaries(
    {},
    optional={
        "retries_with_no_delay": counts,
        "minimum_delay_retries": counts,
        "maximum_delay_retries": counts,
        "minimum_delay": delays,
        "maximum_delay": delays,
        "retry_backoff_function": st.sampled_from(
            ["linear", "arithmetic", "geometric", "exponential", "cubic"]
        ),
        "ignore_subscription_override": st.sampled_from([True, False, 1]),
        "other": st.integers(),
    },
)

MEMBERS = (
    "retries_with_no_delay",
    "minimum_delay_retries",
    "maximum_delay_retries",
    "minimum_delay",
    "maximum_delay",
)


def is_policy(policy: Any) -> bool:
    """Whether a policy is accepted."""
    try:
        retry_policy.check(policy)
    except InvalidRequest as error:
        if "_retry_policy" not in error.description:
            raise AssertionError(f"which key? {error.description}") from error
        return False
    return True


def is_plainly_fine(policy: dict[str, Any]) -> bool:
    """The rules of a policy as one would tell them."""
    shortest = policy.get("minimum_delay", 5)
    longest = policy.get("maximum_delay", 30)
    return (
        all(policy.get(name, 0) >= 0 for name in MEMBERS[:3])
        and shortest >= 1
        and longest >= shortest + 10
        and policy.get("retry_backoff_function") != "cubic"
        and type(policy.get("ignore_subscription_override", True)) is bool
    )


class RetryPolicyTests(SynchronousTestCase):
    """The shape of a retry policy."""

    def test_nothing(self) -> None:
        """No policy, null and an empty one are fine."""
        self.assertTrue(is_policy(None))
        self.assertTrue(is_policy({}))

    def test_no_object(self) -> None:
        """Anything that is no object is refused."""
        for policy in ([], "linear", 5, True):
            self.assertFalse(is_policy(policy), policy)

    def test_types(self) -> None:
        """Each member has one type, and null is none of them."""
        for name in MEMBERS:
            for value in (None, "5", 15.0, True, [5]):
                self.assertFalse(is_policy({name: value}), (name, value))
        for value in (None, 5, ["linear"], {}, "Linear"):
            self.assertFalse(is_policy({"retry_backoff_function": value}), value)
        for value in (None, 0, 1, "true"):
            self.assertFalse(is_policy({"ignore_subscription_override": value}), value)

    def test_delays_against_defaults(self) -> None:
        """A delay that is given must fit to the default of the one that is not."""
        self.assertTrue(is_policy({"minimum_delay": 20}))
        self.assertFalse(is_policy({"minimum_delay": 21}))
        self.assertTrue(is_policy({"maximum_delay": 15}))
        self.assertFalse(is_policy({"maximum_delay": 14}))

    @exact
    @given(policies)
    def test_model(self, policy: dict[str, Any]) -> None:
        """Exactly the policies that make sense are accepted."""
        self.assertEqual(is_plainly_fine(policy), is_policy(policy))
