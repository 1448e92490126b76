"""A store and the model live through the same random history, and must agree.

:func:`machine_for` makes a hypothesis state machine for a driver that answers at
once. The store goes first and the model takes over the ids that it gave; every other
answer is compared, and so is everything that can be seen after each step. Two stores
are open on the same messages, so that nothing one of them remembers may be needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.model import (
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Selection,
)
from mqsvc.storage.ids import format_id
from mqsvc.storage.interfaces import IMessageStore
from tests.storage.model import ModelStore, position

PROFILE = settings(
    max_examples=250,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""Long enough to reach odd corners, short enough to run with the other tests."""

START = 1_700_000_000_123

ORDERS = Destination("tenant", Kind.QUEUE, "orders")
RETURNS = Destination("tenant", Kind.QUEUE, "returns")
DESTINATIONS = (
    ORDERS,
    RETURNS,
    Destination("tenant", Kind.TOPIC, "orders"),
    Destination("neighbour", Kind.QUEUE, "orders"),
)
CLIENTS = ("alice", "bob")

NEVER_GIVEN = ("", "no id", "0" * 24, "f" * 24, format_id(START * 1000 + 1, 0))
"""Ids to ask for that no store gave: malformed, first, last, in the middle."""

# Few and small values, so that different ends often fall on one moment. What is
# listed more than once comes more often: long lives, and one busy destination.
TTLS = st.sampled_from([100, 100, 100, 10, 5, 2, 1])
DELAYS = st.sampled_from([0, 0, 0, 1, 2, 5])
CLAIM_TTLS = st.sampled_from([1, 2, 3, 5, 100])
GRACES = st.sampled_from([1, 2, 60])
LIMITS = st.integers(1, 6)
PLACES = st.sampled_from([ORDERS, ORDERS, ORDERS, *DESTINATIONS])
RULES = st.builds(
    DeadLetterRule,
    target=st.sampled_from([RETURNS, ORDERS]),
    max_claim_count=st.integers(1, 2),
    ttl=st.none() | TTLS,
)


@st.composite
def message_ids(draw: st.DrawFn, place: Destination) -> str:
    """An id that the store gave, mostly a recent one of this destination."""
    machine = draw(st.runner())
    own = machine.message_ids[place][-8:] or NEVER_GIVEN
    everywhere = [each for ids in machine.message_ids.values() for each in ids]
    return draw(
        st.sampled_from(own)
        | st.sampled_from(own)
        | st.sampled_from([*NEVER_GIVEN, *everywhere])
    )


@st.composite
def claim_ids(draw: st.DrawFn, place: Destination) -> str:
    """An id that the store gave, mostly a recent one of this destination."""
    machine = draw(st.runner())
    own = machine.claim_ids[place][-3:] or NEVER_GIVEN
    everywhere = [each for ids in machine.claim_ids.values() for each in ids]
    return draw(
        st.sampled_from(own)
        | st.sampled_from(own)
        | st.sampled_from([*NEVER_GIVEN, *everywhere])
    )


def answer(deferred: Deferred[Any]) -> Any:
    """What a Deferred fired with: a value, or the type of a failure to expect."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "the store did not answer at once"
    if isinstance(results[0], Failure):
        results[0].trap(MessagingError)
        return results[0].type
    return results[0]


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the model returns, or the type of what it raises."""
    try:
        return call(*arguments)
    except MessagingError as error:
        return type(error)


class AgreementMachine(RuleBasedStateMachine):
    """What can happen to a store, in any order."""

    open_store: Callable[[str], IMessageStore]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.now = START
        self.posted = 0
        self.message_ids: list[str] = list(NEVER_GIVEN)
        self.claim_ids: list[str] = list(NEVER_GIVEN)
        self.given_messages: deque[str] = deque()
        self.given_claims: deque[str] = deque()
        self.last_positions = dict.fromkeys(DESTINATIONS, 0)
        self.model = ModelStore(self.given_messages.popleft, self.given_claims.popleft)
        self.open()

    def open(self) -> None:
        """Start two stores on the same messages."""
        self.store = self.started()
        self.other = self.started()

    def started(self) -> IMessageStore:
        """One more store."""
        store = self.open_store(f"{self.folder.name}/messages")
        store.startService()
        return store

    def close(self) -> None:
        """Stop both stores."""
        for store in (self.store, self.other):
            answer(store.stopService())

    def teardown(self) -> None:
        self.close()
        self.folder.cleanup()

    def agree(self, operation: str, *arguments: Any) -> Any:
        """Store and model answer alike; gives the answer."""
        answered = answer(getattr(self.store, operation)(*arguments))
        expected = outcome(getattr(self.model, operation), *arguments)
        assert answered == expected, f"{answered!r} is not {expected!r}"
        return answered

    def take_over(self, place: Destination, ids: Sequence[str]) -> None:
        """Note the ids of messages that were appended; they must be further on."""
        for each in ids:
            assert position(each) > self.last_positions[place]
            self.last_positions[place] = position(each)
        self.given_messages.extend(ids)
        self.message_ids.extend(ids)

    def appended(self, place: Destination) -> list[str]:
        """The ids of what came to a destination since anything was noted of it."""
        everything = Selection(
            100,
            after=format_id(self.last_positions[place], 0),
            include_claimed=True,
            include_delayed=True,
        )
        return [
            each.id for each in answer(self.store.page(place, everything, self.now))
        ]

    @rule(place=PLACES, posts=POSTS, client=st.sampled_from(CLIENTS))
    def post(
        self, place: Destination, posts: list[tuple[int, int]], client: str
    ) -> None:
        """A client posts a batch."""
        new = []
        for ttl, delay in posts:
            self.posted += 1
            new.append(NewMessage(str(self.posted).encode(), ttl, delay))
        ids = answer(self.store.post(place, new, client, self.now))
        self.take_over(place, ids)
        assert ids == self.model.post(place, new, client, self.now)

    @rule(
        place=PLACES,
        ttl=CLAIM_TTLS,
        grace=GRACES,
        limit=LIMITS,
        dead_letter=st.none() | RULES,
    )
    def claim(
        self,
        place: Destination,
        ttl: int,
        grace: int,
        limit: int,
        dead_letter: DeadLetterRule | None,
    ) -> None:
        """A worker claims; messages that were lent often enough move instead."""
        if dead_letter is not None and dead_letter.target == place:
            dead_letter = None
        arguments = (place, ttl, grace, limit, self.now, dead_letter)
        claimed: Claimed = answer(self.store.claim(*arguments))
        if claimed.claim is not None:
            assert claimed.claim.id not in self.claim_ids
            self.given_claims.append(claimed.claim.id)
            self.claim_ids.append(claimed.claim.id)
        if dead_letter is not None:
            self.take_over(dead_letter.target, self.appended(dead_letter.target))
        assert claimed == self.model.claim(*arguments)
        assert not self.given_messages, "the store moved more than the model"

    @rule(place=PLACES, claim_id=CLAIM_IDS, ttl=CLAIM_TTLS, grace=GRACES)
    def renew(self, place: Destination, claim_id: str, ttl: int, grace: int) -> None:
        """Somebody renews a claim, of this destination or not."""
        self.agree("renew", place, claim_id, ttl, grace, self.now)

    @rule(place=PLACES, claim_id=CLAIM_IDS)
    def release(self, place: Destination, claim_id: str) -> None:
        """Somebody releases a claim, of this destination or not."""
        self.agree("release", place, claim_id, self.now)

    @rule(place=PLACES, claim_id=CLAIM_IDS)
    def get_claim(self, place: Destination, claim_id: str) -> None:
        """Somebody looks at a claim, of this destination or not."""
        self.agree("get_claim", place, claim_id, self.now)

    @rule(
        place=PLACES,
        message_ids=st.lists(MESSAGE_IDS, max_size=4),
        claim_ids=st.none() | st.lists(CLAIM_IDS, max_size=3),
    )
    def delete(
        self,
        place: Destination,
        message_ids: list[str],
        claim_ids: Collection[str] | None,
    ) -> None:
        """Messages are deleted by id, showing claims or not."""
        arguments = (place, message_ids, self.now, claim_ids)
        refusals = self.model.refusals(*arguments)
        answered = answer(self.store.delete(*arguments))
        if refusals:
            assert answered in refusals, f"{answered!r} is not among {refusals}"
        else:
            self.model.delete(*arguments)
            assert answered is None

    @rule(place=PLACES, limit=LIMITS)
    def pop(self, place: Destination, limit: int) -> None:
        """Messages are taken away."""
        self.agree("pop", place, limit, self.now)

    @rule(
        place=PLACES,
        selection=st.builds(
            Selection,
            limit=LIMITS,
            after=st.none() | MESSAGE_IDS,
            hide_client=st.none() | st.sampled_from(CLIENTS),
            include_claimed=st.booleans(),
            include_delayed=st.booleans(),
        ),
    )
    def page(self, place: Destination, selection: Selection) -> None:
        """A reader takes a page, going on from any id at all."""
        self.agree("page", place, selection, self.now)

    @rule(place=PLACES, message_ids=st.lists(MESSAGE_IDS, max_size=5))
    def get(self, place: Destination, message_ids: list[str]) -> None:
        """Messages are asked for by id."""
        self.agree("get", place, message_ids, self.now)

    @rule(place=PLACES)
    def clear(self, place: Destination) -> None:
        """A destination is emptied."""
        self.agree("clear", place)

    @rule(milliseconds=st.sampled_from([1, 500, 999, 1000, 2000, 60_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.now += milliseconds

    @rule(nth=st.integers(0, 3), milliseconds=st.sampled_from([0, 0, -1, 1]))
    def wait_for_a_boundary(self, nth: int, milliseconds: int) -> None:
        """Time passes to one of the next ends of anything, or just beside it."""
        ends = self.model.boundaries(self.now)
        if ends:
            end = ends[min(nth, len(ends) - 1)]
            self.now = max(self.now, end + milliseconds)

    @rule()
    def sweep(self) -> None:
        """The store frees what expired; what is left over is freed by later sweeps."""
        assert answer(self.store.sweep(self.now)) in (True, False)

    @rule()
    def restart(self) -> None:
        """Both stores are closed and opened again."""
        self.close()
        self.open()

    @rule()
    def swap(self) -> None:
        """The other store is used from here on."""
        self.store, self.other = self.other, self.store

    @invariant()
    def everything_agrees(self) -> None:
        """All that can be seen of each destination is as the model says."""
        everything = Selection(1000, include_claimed=True, include_delayed=True)
        for place in DESTINATIONS:
            self.agree("page", place, everything, self.now)
            self.agree("stats", place, self.now)
            self.agree("next_ready", place, self.now)


def machine_for(
    open_store: Callable[[str], IMessageStore],
) -> type[AgreementMachine]:
    """The machine for one driver.

    :param open_store: gives a store on the messages kept at a path, not started yet,
        whose Deferreds have fired when they are returned.
    """
    return type(
        "AgreementMachine",
        (AgreementMachine,),
        {"open_store": staticmethod(open_store)},
    )
