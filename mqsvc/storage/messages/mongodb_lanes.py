"""Steps of one process: those of a destination one after the other, many as one.

While a step is on its way to the disk whatever else is wanted of its destination
waits, and then becomes one step together. So one journal and one majority are waited
for on behalf of many callers, and a destination takes more the more is asked of it.

What a step sends to another destination arrives there in a step of its own, before
anybody is answered. Parcels come in by a second lane, so that two destinations can
send to each other: it waits for nothing but its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from attrs import Factory, define
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    DeferredLock,
    gatherResults,
)
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqsvc.messaging.errors import MessagingError, StoreUnavailable
from mqsvc.messaging.model import Destination
from mqsvc.storage.messages.mongodb_commands import Connection
from mqsvc.storage.messages.mongodb_draft import (
    LATER,
    Part,
    asks_nothing,
    plan,
    plan_arrival,
)
from mqsvc.storage.messages.mongodb_ledger import Ledger, Undelivered
from mqsvc.storage.messages.mongodb_notes import Parcel, Step, View
from mqsvc.storage.messages.mongodb_parts import Arrive
from mqsvc.storage.messages.mongodb_pauses import Pauses

Result = TypeVar("Result")
Attempt = Callable[[], Coroutine[Any, Any, Result]]

TIMEOUT = 10
"""Seconds after which a call fails that the server has not answered."""

MAX_GROUP = 256
"""Parts of one step at most: bounds how long an answer waits for others."""

MAX_GROUP_BYTES = 8_000_000
"""Of new bodies in one step, unless a single part has more."""

MAX_GROUP_MESSAGES = 500
"""Old ones that a step may have to read, unless a single part has more."""


class Refused(StoreUnavailable):
    """The server answered, and would not do it."""


class Calls:
    """What was asked for and is not done yet.

    :param clock: for the time that a call may take.
    """

    log = Logger()

    def __init__(self, pauses: Pauses, clock: IReactorTime) -> None:
        self._pauses = pauses
        self._clock = clock
        self._underway: set[Deferred[Any]] = set()

    def run(self, attempt: Attempt[Result]) -> Deferred[Result]:
        """Make attempts for a bounded time; nobody can stop them before.

        It fails with errors of :mod:`~mqsvc.messaging.errors` only, or with
        :class:`Undelivered`.
        """
        running = Deferred.fromCoroutine(self._answered(attempt))
        running.addTimeout(TIMEOUT, self._clock)
        return self.watch(running)

    def watch(self, running: Deferred[Result]) -> Deferred[Result]:
        """Fires as another Deferred, which cannot be cancelled through it."""
        self._underway.add(running)
        running.addBoth(self._over, running)
        answer: Deferred[Result] = Deferred()
        running.chainDeferred(answer)
        return answer

    async def over(self) -> None:
        """Wait for everything that is underway."""
        while self._underway:
            await DeferredList(list(self._underway))

    def _over(self, result: Result, running: Deferred[Result]) -> Result:
        self._underway.discard(running)
        return result

    async def _answered(self, attempt: Attempt[Result]) -> Result:
        try:
            return await self._pauses.retried(attempt)
        except (MessagingError, Undelivered):
            raise
        except CancelledError as error:
            self.log.warn("MongoDB did not answer within {s} s", s=TIMEOUT)
            raise StoreUnavailable from error
        except Exception as error:
            self.log.failure("MongoDB refused a command")
            raise Refused from error


@define(eq=False)
class _Call:
    """Somebody who waits for his part of a step, or for work on his own.

    :ivar is_alone: whether it has to be a step of its own.
    """

    answer: Deferred[Any]
    part: Part | None = None
    work: Attempt[Any] | None = None
    is_alone: bool = False

    def tell(self, outcome: Any) -> None:
        """Answer, unless it has to be tried again or was answered before."""
        if outcome is LATER or self.answer.called:
            return
        if isinstance(outcome, MessagingError):
            self.answer.errback(outcome)
        else:
            self.answer.callback(outcome)


@define(eq=False)
class _Lane:
    """Who waits for one destination, in the order of coming.

    :ivar is_inbox: whether it takes the parcels for the destination, and only them.
    :ivar turn: held by one of the two lanes of the destination, for one step.
    """

    destination: Destination
    is_inbox: bool
    turn: DeferredLock
    waiting: list[_Call] = Factory(list)

    def leave(self, call: _Call) -> None:
        """Wait no more, if it still does."""
        if call in self.waiting:
            self.waiting.remove(call)

    def put_back(self, calls: list[_Call]) -> None:
        """Let each be tried next, as a step of its own."""
        again = [call for call in calls if not call.answer.called]
        for call in again:
            call.is_alone = True
        self.waiting[:0] = again

    def take(self) -> list[_Call]:
        """The first one, and all that can be one step with it."""
        group = _Group(self.waiting[0])
        if not self.waiting[0].is_alone:
            for call in self.waiting[1:]:
                group.offer(call)
        taken = set(group.calls)
        self.waiting = [call for call in self.waiting if call not in taken]
        return group.calls


class _Group:
    """Calls that become one step.

    :ivar calls: in the order of coming.
    """

    def __init__(self, first: _Call) -> None:
        self.calls = [first]
        part = first.part or Part(0)
        self._size, self._messages, self._rule = part.size, part.messages, part.rule
        self._is_open = first.part is not None

    def offer(self, call: _Call) -> None:
        """Take it, if it fits."""
        part = call.part
        if part is None or call.is_alone or not self._is_open:
            return
        size, messages = self._size + part.size, self._messages + part.messages
        # A step moves messages to one place only.
        rules = {self._rule, part.rule} - {None}
        if size > MAX_GROUP_BYTES or messages > MAX_GROUP_MESSAGES or len(rules) > 1:
            return
        self._size, self._messages = size, messages
        self._rule = self._rule or part.rule
        self.calls.append(call)
        self._is_open = len(self.calls) < MAX_GROUP


class Lanes:
    """One for each destination on which there is work."""

    def __init__(self, ledger: Ledger, calls: Calls, clock: IReactorTime) -> None:
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._lanes: dict[tuple[Destination, bool], _Lane] = {}
        self._turns: WeakValueDictionary[Destination, DeferredLock] = (
            WeakValueDictionary()
        )

    def join(self, destination: Destination, part: Part) -> Deferred[Any]:
        """Do a part together with others; fires with its outcome."""
        return self._enter(destination, part=part)

    def alone(
        self, destination: Destination, work: Attempt[Result]
    ) -> Deferred[Result]:
        """Do work while this process changes nothing else of a destination."""
        return self._enter(destination, work=work)

    async def delivering(self, attempt: Attempt[Result]) -> Result:
        """Make an attempt; if something has to be delivered first, do it."""
        while True:
            try:
                return await attempt()
            except Undelivered as found:
                await self._deliver(found.destination, found.parcels)

    async def _deliver(
        self, destination: Destination, parcels: Sequence[Parcel]
    ) -> None:
        """Bring what a step of a destination sent to where it belongs."""
        await self._arrived(parcels)
        await self._ledger.delivered(destination, parcels)

    def _arrived(self, parcels: Sequence[Parcel]) -> Deferred[Any]:
        arrivals = [
            self._enter(parcel.target, True, part=Arrive(parcel)) for parcel in parcels
        ]
        return gatherResults(arrivals, consumeErrors=True).addErrback(_unavailable)

    def _enter(
        self, destination: Destination, is_inbox: bool = False, **wanted: Any
    ) -> Deferred[Any]:
        key = (destination, is_inbox)
        lane = self._lanes.get(key)
        if lane is None:
            turn = self._turns.setdefault(destination, DeferredLock())
            lane = _Lane(destination, is_inbox, turn)
        call = _Call(Deferred(lambda _: lane.leave(call)), **wanted)
        call.answer.addTimeout(TIMEOUT, self._clock, _unavailable)
        answer = self._calls.watch(call.answer)
        lane.waiting.append(call)
        if key not in self._lanes:
            self._lanes[key] = lane
            self._calls.watch(Deferred.fromCoroutine(self._serve(lane)))
        return answer

    async def _serve(self, lane: _Lane) -> None:
        try:
            while lane.waiting:
                await self._do(lane, lane.take())
                # Whoever was answered may have come again: his step replaces the note.
                if not lane.waiting:
                    await self._quietly(lambda: self._ledger.tidy(lane.destination))
        finally:
            del self._lanes[lane.destination, lane.is_inbox]

    async def _quietly(self, work: Attempt[None]) -> None:
        """Do what others would do as well, if it can be done."""
        with suppress(StoreUnavailable):
            await self._calls.run(work)

    async def _do(self, lane: _Lane, group: list[_Call]) -> None:
        try:
            await self.delivering(lambda: self._step(lane, group))
        except Refused as error:
            if len(group) == 1:
                group[0].tell(error)
            else:
                # One of them is at fault, and the others must not suffer for it.
                lane.put_back(group)
        except MessagingError as error:
            for call in group:
                call.tell(error)

    async def _step(self, lane: _Lane, group: list[_Call]) -> None:
        async with lane.turn:
            outcomes, parcels = await self._calls.run(
                lambda: self._outcomes(lane, group)
            )
            told = Deferred.fromCoroutine(self._tell(lane, group, outcomes, parcels))
            await self._quietly(lambda: self._ledger.finish(lane.destination))
        await told
        if parcels:
            await self._ledger.delivered(lane.destination, parcels)

    async def _tell(
        self,
        lane: _Lane,
        group: list[_Call],
        outcomes: list[Any],
        parcels: Sequence[Parcel],
    ) -> None:
        """Answer, once all that the step sent has arrived."""
        if parcels:
            await self._arrived(parcels)
        for call, outcome in zip(group, outcomes, strict=True):
            call.tell(outcome)
        lane.put_back([c for c, o in zip(group, outcomes, strict=True) if o is LATER])

    async def _outcomes(
        self, lane: _Lane, group: list[_Call]
    ) -> tuple[list[Any], Sequence[Parcel]]:
        """What the callers are told, and what has to arrive before."""
        if group[0].work is not None:
            return [await group[0].work()], ()
        parts = [call.part for call in group if call.part is not None]
        step = Step()

        async def planned(connection: Connection, view: View) -> Step:
            nonlocal step
            planning = plan_arrival if lane.is_inbox else plan
            step = await planning(connection, view, parts)
            return step

        outcomes: list[Any] | None = await self._ledger.change(
            lane.destination,
            planned,
            max(part.now for part in parts),
            create_at=next((part.now for part in parts if part.creates), None),
            blind=asks_nothing(parts),
            arrival=lane.is_inbox,
        )
        if outcomes is None:
            outcomes = [part.nothing for part in parts]
        return outcomes, step.parcels


def _unavailable(*_: Any) -> Failure:
    return Failure(StoreUnavailable())
