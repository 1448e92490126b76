"""A store and the model live through the same random history, and must agree.

:func:`machine_for` makes a hypothesis state machine for a driver that answers at
once. The store goes first and the model takes over the ids that it gave; every other
answer is compared, and so is everything that can be seen after each step. Two stores
are open on the same messages, so that nothing one of them remembers may be needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mqsvc.messaging.errors import MessagingError
from mqsvc.messaging.model import (
    Claim,
    Claimed,
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Posting,
    Selection,
    StoredMessage,
)
from mqsvc.storage.ids import format_id
from mqsvc.storage.interfaces import IMessageStore
from tests.storage.contract import GRAVEYARD, ORDERS, START
from tests.storage.model import ModelStore, position

PROFILE = settings(
    max_examples=250,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""Long enough to reach odd corners, short enough to run with the other tests."""

DESTINATIONS = (
    ORDERS,
    GRAVEYARD,
    Destination("tenant", Kind.TOPIC, "orders"),
    Destination("neighbour", Kind.QUEUE, "orders"),
    Destination("tenant", Kind.OUTBOX, "orders"),
)
PROJECTS = ("tenant", "neighbour")
CLIENTS = ("alice", "bob")

NEVER_GIVEN = ("", "no id", "0" * 24, "f" * 24, format_id(START * 1000 + 1, 0))
"""Ids to ask for that no store gave: malformed, first, last, in the middle."""

# Few and small values, so that different ends often fall on one moment. What is
# listed more than once comes more often: long lives, and one busy destination.
TTLS = st.sampled_from([1000, 1000, 1000, 1000, 10, 5, 2, 1])
DELAYS = st.sampled_from([0, 0, 0, 1, 2, 5])
CLAIM_TTLS = st.sampled_from([1, 2, 3, 3, 100])
GRACES = st.sampled_from([1, 60])
LIMITS = st.integers(1, 6)
PLACES = st.sampled_from([ORDERS] * 9 + list(DESTINATIONS))
POSTS = st.lists(st.tuples(TTLS, DELAYS), min_size=1, max_size=12)
PAIRS = st.tuples(PLACES, PLACES).filter(lambda pair: pair[0] != pair[1])
BURYING = PLACES.filter(lambda place: place != GRAVEYARD)
RULES = st.builds(
    DeadLetterRule,
    target=st.just(GRAVEYARD),
    max_claim_count=st.integers(1, 2),
    ttl=st.none() | TTLS,
)


def one_of_these_or(near: Sequence[str], known: list[str]) -> st.SearchStrategy[str]:
    """An id that has a meaning here and now, or any at all."""
    return st.sampled_from(near or NEVER_GIVEN) | st.sampled_from(known)


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


def check_same(answered: Any, expected: Any) -> None:
    """Fail unless the store's answer is the model's."""
    assert answered == expected, f"the store: {answered!r}, the model: {expected!r}"


def next_of(given: deque[str]) -> str:
    """The next id that the store gave; without one the answers are going to differ."""
    return given.popleft() if given else NEVER_GIVEN[-1]


class AgreementMachine(RuleBasedStateMachine):
    """What can happen to a store, in any order."""

    open_store: Callable[[str], IMessageStore]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.now = START
        self.posted = 0
        self.message_ids = list(NEVER_GIVEN)
        self.claim_ids = list(NEVER_GIVEN)
        self.taken: list[StoredMessage] = []
        self.last_ids = dict.fromkeys(DESTINATIONS, format_id(0, 0))
        self.given_messages: deque[str] = deque()
        self.given_claims: deque[str] = deque()
        self.model = ModelStore(
            lambda: next_of(self.given_messages), lambda: next_of(self.given_claims)
        )
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
        check_same(answered, expected)
        return answered

    def take_over(self, place: Destination, ids: Sequence[str]) -> None:
        """Give the model the ids of what was appended; each must be further on."""
        for each in ids:
            assert position(each) > position(self.last_ids[place]), "not at the end"
            self.last_ids[place] = each
        self.given_messages.extend(ids)
        self.message_ids.extend(ids)

    def appended(self, place: Destination) -> list[str]:
        """The ids of what came to a destination after all that is known of it."""
        beyond = Selection(
            100, self.last_ids[place], include_claimed=True, include_delayed=True
        )
        return [each.id for each in answer(self.store.page(place, beyond, self.now))]

    def a_message(self, place: Destination) -> st.SearchStrategy[str]:
        """The id of a message, most likely one that exists in this destination."""
        near = self.model.message_ids(place, self.now)
        return one_of_these_or(near, self.message_ids)

    def a_claim(self, place: Destination) -> st.SearchStrategy[str]:
        """The id of a claim, most likely a recent one of this destination."""
        near = self.model.claim_ids(place)[-4:]
        return one_of_these_or(near, self.claim_ids)

    @initialize(spans=POSTS)
    def begin(self, spans: list[tuple[int, int]]) -> None:
        """There is something from the start."""
        self.post(ORDERS, CLIENTS[0], spans)

    @rule(place=PLACES, client=st.sampled_from(CLIENTS), spans=POSTS)
    def post(
        self, place: Destination, client: str, spans: list[tuple[int, int]]
    ) -> None:
        """A client posts a batch."""
        new = self.batch(spans)
        ids = answer(self.store.post(place, new, client, self.now))
        self.take_over(place, ids)
        check_same(ids, self.model.post(place, new, client, self.now))

    @rule(pair=PAIRS, client=st.sampled_from(CLIENTS), spans=POSTS, others=POSTS)
    def post_to_two(
        self,
        pair: tuple[Destination, Destination],
        client: str,
        spans: list[tuple[int, int]],
        others: list[tuple[int, int]],
    ) -> None:
        """A client posts a batch, and in the same step others elsewhere."""
        place, elsewhere = pair
        new, also = self.batch(spans), Posting(elsewhere, self.batch(others))
        ids = answer(self.store.post(place, new, client, self.now, also))
        self.take_over(place, ids)
        self.take_over(elsewhere, self.appended(elsewhere))
        check_same(ids, self.model.post(place, new, client, self.now, also))
        assert not self.given_messages, "the store appended more than the model"

    def batch(self, spans: list[tuple[int, int]]) -> list[NewMessage]:
        """New messages, each different from all before."""
        new = []
        for ttl, delay in spans:
            self.posted += 1
            new.append(NewMessage(str(self.posted).encode(), ttl, delay))
        return new

    @rule(place=PLACES, ttl=CLAIM_TTLS, grace=GRACES, limit=LIMITS)
    def claim(self, place: Destination, ttl: int, grace: int, limit: int) -> None:
        """A worker claims."""
        self.attempt(place, ttl, grace, limit, self.now, None)

    @rule(place=BURYING, ttl=CLAIM_TTLS, grace=GRACES, limit=LIMITS, dead_letter=RULES)
    def claim_or_bury(
        self,
        place: Destination,
        ttl: int,
        grace: int,
        limit: int,
        dead_letter: DeadLetterRule,
    ) -> None:
        """A worker claims; messages that were lent often enough move instead."""
        self.attempt(place, ttl, grace, limit, self.now, dead_letter)

    @rule(place=PLACES, limit=LIMITS, undelivered=st.booleans())
    def fail_to_work(self, place: Destination, limit: int, undelivered: bool) -> None:
        """A worker claims, and everything is given back at once."""
        claim = self.attempt(place, 100, 60, limit, self.now, None)
        if claim is not None:
            self.agree("release", place, claim.id, self.now, undelivered)

    def attempt(self, place: Destination, *arguments: Any) -> Claim | None:
        """Claim, with what the model needs to do the same."""
        claimed: Claimed = answer(self.store.claim(place, *arguments))
        if claimed.claim is not None:
            assert claimed.claim.id not in self.claim_ids, "given before"
            self.given_claims.append(claimed.claim.id)
            self.claim_ids.append(claimed.claim.id)
        if claimed.dead_lettered:
            self.take_over(GRAVEYARD, self.appended(GRAVEYARD))
        check_same(claimed, self.model.claim(place, *arguments))
        assert not self.given_messages, "the store moved more than the model"
        return claimed.claim

    @rule(place=PLACES, ttl=CLAIM_TTLS, grace=GRACES, data=st.data())
    def renew(
        self, place: Destination, ttl: int, grace: int, data: st.DataObject
    ) -> None:
        """Somebody renews a claim, of this destination or not."""
        claim_id = data.draw(self.a_claim(place))
        self.agree("renew", place, claim_id, ttl, grace, self.now)

    @rule(place=PLACES, undelivered=st.booleans(), data=st.data())
    def release(
        self, place: Destination, undelivered: bool, data: st.DataObject
    ) -> None:
        """Somebody releases a claim, of this destination or not."""
        claim_id = data.draw(self.a_claim(place))
        self.agree("release", place, claim_id, self.now, undelivered)

    @rule(place=PLACES, how_many=st.integers(0, 2), data=st.data())
    def work(self, place: Destination, how_many: int, data: st.DataObject) -> None:
        """A worker looks at a claim, and deletes some of what it holds."""
        claim_id = data.draw(self.a_claim(place))
        held = self.agree("get_claim", place, claim_id, self.now)
        if isinstance(held, Claim):
            message_ids = [each.id for each in held.messages[:how_many]]
            self.agree("delete", place, message_ids, self.now, [claim_id])

    @rule(place=PLACES, data=st.data())
    def delete(self, place: Destination, data: st.DataObject) -> None:
        """Somebody deletes messages by id, whether they are claimed or not."""
        message_ids = data.draw(st.lists(self.a_message(place), max_size=2))
        self.agree("delete", place, message_ids, self.now)

    @rule(place=PLACES, data=st.data())
    def delete_showing_claims(self, place: Destination, data: st.DataObject) -> None:
        """Somebody deletes messages by id, showing some claims or none."""
        message_ids = data.draw(st.lists(self.a_message(place), max_size=2))
        claim_ids = data.draw(st.lists(self.a_claim(place), max_size=2))
        arguments = (place, message_ids, self.now, claim_ids)
        refusals = self.model.refusals(*arguments)
        answered = answer(self.store.delete(*arguments))
        if refusals:
            assert answered in refusals, f"{answered!r} is not among {refusals}"
        else:
            check_same(answered, outcome(self.model.delete, *arguments))

    @rule(place=PLACES, limit=st.integers(1, 3))
    def pop(self, place: Destination, limit: int) -> None:
        """Messages are taken away."""
        self.agree("pop", place, limit, self.now)

    @rule(
        place=PLACES,
        limit=LIMITS,
        hide_client=st.none() | st.sampled_from(CLIENTS),
        include=st.tuples(st.booleans(), st.booleans()),
        data=st.data(),
    )
    def page(
        self,
        place: Destination,
        limit: int,
        hide_client: str | None,
        include: tuple[bool, bool],
        data: st.DataObject,
    ) -> None:
        """A reader takes a page, going on from any id at all."""
        after = data.draw(st.none() | self.a_message(place))
        selection = Selection(limit, after, hide_client, *include)
        self.agree("page", place, selection, self.now)

    @rule(place=PLACES, data=st.data())
    def get(self, place: Destination, data: st.DataObject) -> None:
        """Somebody asks for messages by id."""
        message_ids = data.draw(st.lists(self.a_message(place), max_size=5))
        self.agree("get", place, message_ids, self.now)

    @rule(place=PLACES, limit=LIMITS, data=st.data())
    def take(self, place: Destination, limit: int, data: st.DataObject) -> None:
        """Somebody takes a copy of some messages, in whatever state they are."""
        after = data.draw(st.none() | self.a_message(place))
        self.taken = self.agree("stored", place, limit, after, self.now)

    @precondition(lambda self: self.taken)
    @rule(place=PLACES)
    def restore(self, place: Destination) -> None:
        """What was taken is brought, to the same destination or another."""
        ids = answer(self.store.restore(place, self.taken, self.now))
        self.take_over(place, ids)
        check_same(ids, self.model.restore(place, self.taken, self.now))

    @precondition(lambda self: len(self.model.boundaries(self.now)) > 8)
    @rule(place=PLACES)
    def clear(self, place: Destination) -> None:
        """Somebody empties a destination."""
        self.agree("clear", place)

    @rule(milliseconds=st.sampled_from([1, 999, 1000, 1000, 2000, 5000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.now += milliseconds

    @rule(nth=st.integers(0, 2), beside=st.sampled_from([0, 0, -1, 1]))
    def wait_for_an_end(self, nth: int, beside: int) -> None:
        """Time passes to one of the next ends of anything, or just beside it."""
        ends = self.model.boundaries(self.now)
        if ends:
            self.now = max(self.now, ends[min(nth, len(ends) - 1)] + beside)

    @rule(upkeep=st.sampled_from(["sweep", "swap", "restart"]))
    def keep_up(self, upkeep: str) -> None:
        """Something happens that nobody must notice."""
        if upkeep == "sweep":
            self.sweep()
        elif upkeep == "swap":
            self.store, self.other = self.other, self.store
        else:
            self.close()
            self.open()

    def sweep(self) -> None:
        """Free what expired, as far as one sweep of the store gets."""
        if not answer(self.store.sweep(self.now)):
            self.model.sweep(self.now)
            for project in PROJECTS:
                self.agree("stored_bytes", project)

    @invariant()
    def bytes_agree(self) -> None:
        """What is live counts, and what expired may count until it is swept."""
        for project in PROJECTS:
            counted = answer(self.store.stored_bytes(project))
            assert counted <= self.model.stored_bytes(project), f"{counted} is too many"
            live = self.model.live_bytes(project, self.now)
            assert counted >= live, f"{counted} is less than what is live, {live}"

    @invariant()
    def everything_agrees(self) -> None:
        """All that can be seen of each destination is as the model says."""
        everything = Selection(1000, include_claimed=True, include_delayed=True)
        for place in DESTINATIONS:
            self.agree("page", place, everything, self.now)
            self.agree("stored", place, 1000, None, self.now)
            self.agree("stats", place, self.now)
            self.agree("next_ready", place, self.now)
            for claim_id in self.model.claim_ids(place)[-2:]:
                self.agree("get_claim", place, claim_id, self.now)


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
