"""Records: what is remembered is never older than what is stored."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from mqsvc.bus import knowledge
from mqsvc.messaging.errors import StoreUnavailable
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import Destination, Kind, Record
from mqsvc.messaging.records import Known, Records
from tests.messaging.case import OTHER, QUEUE, TOPIC, OperationsTestCase
from tests.messaging.stores import unlimited


def numbered(number: int) -> dict[str, int]:
    """Metadata whose rules can be told from those of other numbers."""
    return {"_default_message_ttl": 100 + number}


def number_in(known: Known) -> int | None:
    """The number that was stored; none without a record."""
    return known.rules.default_ttl - 100 if known.exists else None


class RecordsTestCase(OperationsTestCase):
    """Records over a watched store."""

    def setUp(self) -> None:
        """Remember nothing."""
        super().setUp()
        self.records = Records(self.management, Limits(), unlimited(self.management))

    def known(self, destination: Destination = QUEUE) -> Known:
        """What is known now."""
        return self.done(self.records.know(destination))

    def number(self, destination: Destination = QUEUE) -> int | None:
        """The number in the rules that are known now; none without a record."""
        return number_in(self.known(destination))

    def stored(self) -> Record:
        """The record as the store has it."""
        return self.successResultOf(self.management.get(QUEUE))

    def reads(self) -> int:
        """How often the store was asked for a record."""
        return self.management.calls.count("get")

    def knowing(self) -> Deferred[Known]:
        """A look under way."""
        return self.start(self.records.know(QUEUE))


class MemoryTests(RecordsTestCase):
    """What is known is not read again until it changes."""

    def test_read_once(self) -> None:
        """A record is read once, however often it is needed."""
        self.done(self.records.create(QUEUE, numbered(1)))
        self.assertEqual([1] * 3, [self.number() for _ in range(3)])
        self.assertEqual(1, self.reads())

    def test_absence_is_known(self) -> None:
        """That there is no record is remembered too."""
        self.assertEqual([None] * 3, [self.number() for _ in range(3)])
        self.assertEqual(1, self.reads())

    def test_apart(self) -> None:
        """A topic, a queue, and those of another project are not taken for another."""
        foreign = Destination("p2", Kind.QUEUE, "q")
        same_name = Destination("p1", Kind.TOPIC, "q")
        destinations = (QUEUE, foreign, same_name, TOPIC)
        for number, destination in enumerate(destinations):
            self.done(self.records.create(destination, numbered(number)))
        for number, destination in enumerate(destinations):
            self.assertEqual(number, self.number(destination))

    def test_rules(self) -> None:
        """The rules follow the metadata as it changes."""
        self.assertEqual(3600, self.known().rules.default_ttl)
        self.done(self.records.create(QUEUE, {"_default_message_ttl": 100}))
        self.assertEqual(100, self.known().rules.default_ttl)
        record = self.stored()
        self.done(self.records.update(record, {"_default_message_ttl": 200}))
        self.assertEqual(200, self.known().rules.default_ttl)
        self.done(self.records.delete(QUEUE))
        self.assertEqual(3600, self.known().rules.default_ttl)

    def test_lost_race(self) -> None:
        """An update that somebody else was faster than is forgotten as well."""
        self.done(self.records.create(QUEUE, numbered(1)))
        old = self.stored()
        self.done(self.records.update(old, numbered(2)))
        self.assertIsNone(self.done(self.records.update(old, numbered(3))))
        self.assertEqual(2, self.number())

    def test_failed_change(self) -> None:
        """After a change whose outcome is unknown the store is asked again."""
        self.done(self.records.create(QUEUE, numbered(1)))
        record = self.stored()
        answer = self.management.hold_answer("update")
        updating = self.start(self.records.update(record, numbered(2)))
        answer.errback(StoreUnavailable())
        self.failureResultOf(updating, StoreUnavailable)
        self.assertEqual(2, self.number())

    def test_failed_read(self) -> None:
        """A failure is not remembered."""
        self.management.broken.add("get")
        self.fails(StoreUnavailable, self.records.know(QUEUE))
        self.management.broken.clear()
        self.done(self.records.create(QUEUE, numbered(1)))
        self.assertEqual(1, self.number())

    def test_bounded(self) -> None:
        """When memory is full, the one known longest makes room, and no other."""
        self.patch(knowledge, "MOST_KNOWN", 3)
        many = [Destination("many", Kind.QUEUE, name) for name in "abcd"]
        for destination in many:
            self.known(destination)
        self.management.calls.clear()
        for destination in many[1:]:
            self.known(destination)
        self.assertEqual(0, self.reads())
        self.known(many[0])
        self.assertEqual(1, self.reads())


class EnsureTests(RecordsTestCase):
    """Destinations are made when something is put into them."""

    def test_missing(self) -> None:
        """A missing record is made with no metadata."""
        self.done(self.records.ensure(QUEUE))
        self.assertTrue(self.known().exists)

    def test_existing(self) -> None:
        """An existing record is left alone, without writing."""
        self.done(self.records.create(QUEUE, numbered(1)))
        self.management.calls.clear()
        for _ in range(3):
            self.done(self.records.ensure(QUEUE))
        self.assertEqual(["get"], self.management.calls)
        self.assertEqual(1, self.number())

    def test_two_at_once(self) -> None:
        """Two who both find it missing both succeed, and neither undoes the other."""
        answer = self.management.hold_answer("get")
        first = self.start(self.records.ensure(QUEUE))
        self.done(self.records.create(QUEUE, numbered(1)))
        answer.callback(None)
        self.successResultOf(first)
        self.assertEqual(1, self.number())


class InFlightTests(RecordsTestCase):
    """An answer that is under way while something changes is not remembered."""

    def setUp(self) -> None:
        """Store a record, and hold the answer of whoever reads it next."""
        super().setUp()
        self.done(self.records.create(QUEUE, numbered(1)))
        (self.record,) = [self.successResultOf(self.management.get(QUEUE))]
        self.answer = self.management.hold_answer("get")
        self.reader = self.knowing()

    def test_undisturbed(self) -> None:
        """Without a change the answer is remembered."""
        self.answer.callback(None)
        self.assertEqual(1, number_in(self.successResultOf(self.reader)))
        self.management.calls.clear()
        self.assertEqual(1, self.number())
        self.assertEqual(0, self.reads())

    def test_update(self) -> None:
        """An old answer that comes after an update is not remembered."""
        self.done(self.records.update(self.record, numbered(2)))
        self.answer.callback(None)
        self.assertEqual(1, number_in(self.successResultOf(self.reader)))
        self.assertEqual(2, self.number())

    def test_old_answer_after_a_new_one(self) -> None:
        """An old answer does not replace a newer one that came before it."""
        self.done(self.records.update(self.record, numbered(2)))
        self.assertEqual(2, self.number())
        self.answer.callback(None)
        self.successResultOf(self.reader)
        self.assertEqual(2, self.number())

    def test_delete(self) -> None:
        """A record that was removed meanwhile is not known."""
        self.done(self.records.delete(QUEUE))
        self.answer.callback(None)
        self.successResultOf(self.reader)
        self.assertIsNone(self.number())

    def test_delete_and_create(self) -> None:
        """A record that was made again meanwhile is known as the new one."""
        self.done(self.records.delete(QUEUE))
        self.done(self.records.create(QUEUE, numbered(2)))
        self.answer.callback(None)
        self.successResultOf(self.reader)
        self.assertEqual(2, self.number())

    def test_change_under_way(self) -> None:
        """What is read while a change is under way is forgotten when it is done."""
        update = self.management.hold_answer("update")
        updating = self.start(self.records.update(self.record, numbered(2)))
        self.answer.callback(None)
        self.successResultOf(self.reader)
        update.callback(None)
        self.successResultOf(updating)
        self.assertEqual(2, self.number())

    def test_cancelled_reader(self) -> None:
        """Who leaves while the store reads disturbs nobody."""
        self.cancel(self.reader)
        self.done(self.records.update(self.record, numbered(2)))
        self.answer.callback(None)
        self.assertEqual(2, self.number())

    def test_several_readers(self) -> None:
        """Readers at the same time all get an answer, and the newest is remembered."""
        other = self.management.hold_answer("get")
        second = self.knowing()
        self.done(self.records.update(self.record, numbered(2)))
        other.callback(None)
        self.answer.callback(None)
        self.successResultOf(self.reader)
        self.successResultOf(second)
        self.assertEqual(2, self.number())


class HungUpTests(RecordsTestCase):
    """A change goes on in the store when the one who asked for it has left."""

    def setUp(self) -> None:
        """Store a record and know it."""
        super().setUp()
        self.done(self.records.create(QUEUE, numbered(1)))
        self.record = self.stored()

    def test_update(self) -> None:
        """What is read before an abandoned update is done is not kept after it."""
        step = self.management.hold_call("update")
        self.cancel(self.start(self.records.update(self.record, numbered(2))))
        self.assertEqual(1, self.number())
        step.callback(None)
        self.assertEqual(2, self.number())

    def test_delete(self) -> None:
        """What is read before an abandoned removal is done is not kept after it."""
        step = self.management.hold_call("delete")
        self.cancel(self.start(self.records.delete(QUEUE)))
        self.assertEqual(1, self.number())
        step.callback(None)
        self.assertIsNone(self.number())

    def test_create(self) -> None:
        """What is read before an abandoned creation is done is not kept after it."""
        step = self.management.hold_call("create")
        self.cancel(self.start(self.records.create(OTHER, numbered(2))))
        self.assertIsNone(self.number(OTHER))
        step.callback(None)
        self.assertEqual(2, self.number(OTHER))
