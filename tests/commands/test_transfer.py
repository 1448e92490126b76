"""Exports and imports over real stores: what arrives, and what is left alone."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mqsvc.commands import exporting, importing, reading
from mqsvc.commands.exporting import Exporter, count_messages
from mqsvc.commands.importing import Check, ImportRefused, ImportStopped, Wanted
from mqsvc.commands.interruption import Interrupted, Interruption
from mqsvc.commands.lines import (
    MessageLine,
    QueueLine,
    SubscriptionLine,
)
from mqsvc.messaging.limits import Limits
from mqsvc.messaging.model import (
    NAMEABLE,
    DeadLetterRule,
    Destination,
    Kind,
    NewMessage,
    Pool,
    Subscription,
)
from mqsvc.messaging.placement import Placement
from mqsvc.messaging.records import Records
from mqsvc.wiring import Backends
from tests.commands.content import (
    BODIES,
    EMPTY,
    NEWS,
    NOW,
    ORDERS,
    THEIRS,
    content,
    exported,
    file_of,
    fill,
    ignore,
    imported,
    importer,
    over,
    reader,
)
from tests.messaging.stores import Watched, open_management, open_messages, unlimited

BODY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(BODIES),
    st.text(max_size=20).map(lambda text: f'"{text}"'.encode(errors="ignore")),
)
MESSAGE = st.builds(
    NewMessage,
    body=BODY,
    ttl=st.integers(60, 2**31 - 1),
    delay=st.integers(0, 900),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])), children, max_size=3
        )
    ),
    max_leaves=5,
)
DESTINATION = st.builds(
    Destination,
    project=st.sampled_from(["", "demo", "grüße\u2603", "a b"]),
    kind=st.sampled_from(NAMEABLE),
    name=st.from_regex(r"[a-z0-9_][A-Za-z0-9_.-]{0,5}", fullmatch=True),
)
CONTENT = st.dictionaries(
    DESTINATION,
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "\u2603"]), JSON),
        st.lists(MESSAGE, max_size=7),
    ),
    max_size=5,
)


def message_line(body: bytes = b"1", **fields: Any) -> MessageLine:
    """The line of a message that lives for a minute."""
    times = {"ttl": 60, "created": NOW, "expires": NOW + 60_000}
    return MessageLine(body=Raw(body), **{**times, **fields})


SUBSCRIPTION = SubscriptionLine(
    id="0" * 24, subscriber="https://example.org", ttl=60, created=NOW
)


class TransferTestCase(SynchronousTestCase):
    """Two pairs of stores: what is there, and where it goes."""

    def setUp(self) -> None:
        """Open empty stores, and read them in pages of a few."""
        self.source, self.target = self.open_stores(), self.open_stores()
        self.patch(exporting, "PAGE", 2)
        self.patch(importing, "MAX_MESSAGES", 3)
        self.patch(reading, "BATCH_BYTES", 400)

    def open_stores(self) -> Backends:
        """Empty stores without pools."""
        return over(open_management(self), open_messages(self))

    def done(self, step: Coroutine[Any, Any, Any] | Deferred[Any]) -> Any:
        """What a step gives at once."""
        return self.successResultOf(step)

    def fails(self, error: type[Exception], step: Coroutine[Any, Any, Any]) -> str:
        """The text of the error with which a step fails at once."""
        return str(self.failureResultOf(step, error).value)

    def export(self, **options: Any) -> bytes:
        """An export of the source."""
        return self.done(exported(self.source, **options))

    def assert_arrived(self, *destinations: Destination, now: int = NOW) -> None:
        """The target has these destinations of the source and nothing else."""
        wanted = self.done(content(self.source, now))
        found = self.done(content(self.target, now))
        self.assertEqual({each: wanted[each] for each in destinations}, found)


class WholeTests(TransferTestCase):
    """All projects."""

    def setUp(self) -> None:
        """Put something of everything into the source."""
        super().setUp()
        self.done(fill(self.source))

    def test_everything(self) -> None:
        """Everything arrives as it was, in its order."""
        outcome = self.done(imported(self.target, self.export()))
        self.assert_arrived(ORDERS, NEWS, EMPTY, THEIRS)
        messages = self.done(content(self.target))[ORDERS].messages
        self.assertEqual(BODIES, tuple(each.message.body for each in messages))
        self.assertEqual(
            "queues: 3, topics: 1, subscriptions: 5, messages: 10", str(outcome.done)
        )
        self.assertEqual((0, 0), (outcome.existing, outcome.expired))

    def test_connections(self) -> None:
        """What a connection subscribed to stays behind, also in a file that has it."""
        management = self.source.management
        self.done(management.begin_lease("lease", NOW + 9999))
        for number, lease in ((1, "lease"), (2, None)):
            wanted = Subscription(
                f"{number}", ORDERS, f"websocket:{number}", 60, NOW, {}, True, lease
            )
            self.done(management.subscribe(wanted, NOW))
        self.assertEqual(5, self.export().count(b'"type":"subscription"'))
        self.patch(exporting, "CONNECTION", "none:")
        older = self.export()
        self.assertEqual(7, older.count(b'"type":"subscription"'))
        outcome = self.done(imported(self.target, older))
        self.assertEqual((0, 2), (outcome.existing, outcome.expired))
        kept = self.done(self.target.management.subscriptions(ORDERS, 9, "", NOW))
        self.assertNotIn("websocket", str(kept))

    def test_twice_moved(self) -> None:
        """What was imported exports to the same file again."""
        file = self.export()
        self.done(imported(self.target, file))
        self.assertEqual(file, self.done(exported(self.target)))

    def test_claims_end(self) -> None:
        """What was claimed is free, delays go on, and deliveries still count."""
        self.done(imported(self.target, self.export()))
        rule = DeadLetterRule(EMPTY, 2)
        claimed = self.done(
            self.target.messages.claim(ORDERS, 60, 60, 20, NOW, dead_letter=rule)
        )
        # The first two were claimed again while they were exported.
        self.assertEqual(2, claimed.dead_lettered)
        counts = [each.claim_count for each in claimed.claim.messages]
        self.assertEqual([2, 1, 1, 1, 1], counts)
        bodies = [each.body for each in claimed.claim.messages]
        self.assertNotIn(b'"later"', bodies)

    def test_time_goes_on(self) -> None:
        """What expires on the way is left out, and counted."""
        later = NOW + 650_000
        outcome = self.done(imported(self.target, self.export(), now=later))
        self.assert_arrived(ORDERS, NEWS, EMPTY, THEIRS, now=later)
        self.assertEqual(2, outcome.expired)

    def test_expired_subscription(self) -> None:
        """A subscription that expires on the way is left out, and counted."""
        later = NOW + 3601_500
        outcome = self.done(imported(self.target, self.export(), now=later))
        self.assert_arrived(ORDERS, NEWS, EMPTY, THEIRS, now=later)
        kept = self.done(self.target.management.subscriptions(NEWS, 9, "", later))
        self.assertEqual(3, len(kept))
        self.assertEqual(10 + 2, outcome.expired)

    def test_without_messages(self) -> None:
        """An export without messages moves the catalog alone."""
        file = self.export(has_messages=False)
        self.done(imported(self.target, file))
        found, wanted = (
            self.done(content(each)) for each in (self.target, self.source)
        )
        self.assertEqual(
            {place: evolve(each, messages=()) for place, each in wanted.items()}, found
        )

    def test_count(self) -> None:
        """The messages that an export will have can be counted before."""
        for project, total in ((None, 10), ("demo", 9), ("nobody", 0)):
            counting = count_messages(self.source, project, lambda: NOW)
            self.assertEqual(total, self.done(counting))


class ProjectTests(TransferTestCase):
    """One project."""

    def setUp(self) -> None:
        """Put something of everything into the source."""
        super().setUp()
        self.done(fill(self.source))

    def test_export(self) -> None:
        """An export of a project has nothing of the others."""
        file = self.export(project="demo")
        self.assertNotIn("größe 2".encode(), file)
        self.done(imported(self.target, file))
        self.assert_arrived(ORDERS, NEWS, EMPTY)

    def test_import(self) -> None:
        """An import of a project leaves the others out."""
        wanted = Wanted(project=THEIRS.project)
        outcome = self.done(imported(self.target, self.export(), wanted))
        self.assert_arrived(THEIRS)
        self.assertEqual("queues: 1, messages: 1", str(outcome.done))

    def test_unknown(self) -> None:
        """A project of which there is nothing gives an export with nothing in it."""
        file = self.export(project="nobody")
        self.done(imported(self.target, file))
        self.assert_arrived()


class UsedStoresTests(TransferTestCase):
    """Stores that have something already."""

    def setUp(self) -> None:
        """Fill the source."""
        super().setUp()
        self.done(fill(self.source))

    def post(self, body: bytes, to: Destination = ORDERS) -> None:
        """Let the target have a message."""
        new = [NewMessage(body, 3600)]
        self.done(self.target.messages.post(to, new, "carol", NOW))

    def bodies(self) -> list[bytes]:
        """What the target has of the queue."""
        listed = self.done(self.target.messages.stored(ORDERS, 1000, None, NOW))
        return [each.message.body for each in listed]

    def test_twice(self) -> None:
        """A second import of a file is refused, and changes nothing."""
        file = self.export()
        self.done(imported(self.target, file))
        refusal = self.fails(ImportRefused, imported(self.target, file))
        self.assertIn("--append", refusal)
        self.assertIn("'demo'", refusal)
        self.assert_arrived(ORDERS, NEWS, EMPTY, THEIRS)

    def test_one_queue_in_use(self) -> None:
        """One queue that holds messages keeps all the others from being imported."""
        self.post(b'"mine"', to=THEIRS)
        refusal = self.fails(ImportRefused, imported(self.target, self.export()))
        self.assertIn("the queue orders of project 'größe 2' holds messages", refusal)
        self.assertEqual({}, self.done(content(self.target)))

    def test_queue_that_gets_nothing(self) -> None:
        """A queue of which the file has no messages may hold some."""
        self.post(b'"mine"', to=EMPTY)
        self.done(imported(self.target, self.export()))
        self.assertEqual(list(BODIES), self.bodies())

    def test_other_project_in_use(self) -> None:
        """A queue that is not imported may hold messages."""
        self.post(b'"mine"', to=THEIRS)
        wanted = Wanted(project="demo")
        self.done(imported(self.target, self.export(), wanted))
        self.assertEqual(list(BODIES), self.bodies())

    def test_append(self) -> None:
        """Imported messages come behind those that are there, when that is wanted."""
        self.post(b'"mine"')
        wanted = Wanted(may_append=True)
        self.done(imported(self.target, self.export(), wanted))
        self.assertEqual([b'"mine"', *BODIES], self.bodies())

    def test_existing(self) -> None:
        """A queue and a subscriber that are there keep what they have."""
        management = self.target.management
        self.done(management.create(ORDERS, {"kept": 1}))
        (theirs,) = self.done(self.source.management.subscriptions(ORDERS, 1, "", NOW))
        mine = evolve(theirs, id="f" * 24, ttl=77)
        self.done(management.subscribe(mine, NOW))
        outcome = self.done(imported(self.target, self.export()))
        self.assertEqual({"kept": 1}, self.done(management.get(ORDERS)).metadata)
        kept = self.done(management.subscriptions(ORDERS, 9, "", NOW))
        self.assertEqual([mine], kept)
        self.assertEqual(2, outcome.existing)


class StoppingTests(TransferTestCase):
    """What happens in the middle."""

    def setUp(self) -> None:
        """Fill the source, and watch the target."""
        super().setUp()
        self.done(fill(self.source))
        self.file = self.export()
        self.watched = Watched(self.target.messages)
        self.watching = over(self.target.management, self.watched)

    def resume(self, line: int) -> None:
        """Do the rest, from a line on."""
        self.done(imported(self.target, self.file, Wanted(resume_at=line)))
        self.assert_arrived(ORDERS, NEWS, EMPTY, THEIRS)

    def test_interrupted_import(self) -> None:
        """An import stops between two steps, and can go on there."""
        interruption = Interruption()
        second = importer(
            self.watching,
            Wanted(),
            interruption=interruption,
            advance=lambda _: interruption.request(),
        )
        self.fails(Interrupted, second.run(reader(self.file)))
        self.assertEqual(["restore"], self.watched.calls)
        self.assertEqual(
            "queues: 2, subscriptions: 1, messages: 3", str(second.outcome.done)
        )
        self.resume(second.next_line)

    def test_store_away(self) -> None:
        """A store that does not answer stops the import, and it can go on there."""
        second = importer(
            self.watching,
            Wanted(),
            advance=lambda _: self.watched.broken.add("restore"),
        )
        text = self.fails(ImportStopped, second.run(reader(self.file)))
        self.assertTrue(text.startswith(f"line {second.next_line}: The store did not"))
        line = self.file.splitlines()[second.next_line - 1]
        self.assertIn(b'"type":"message"', line)
        self.resume(second.next_line)

    def test_interrupted_check(self) -> None:
        """An import that is stopped while it checks has done nothing."""
        interruption = Interruption()
        interruption.request()
        check = Check(self.target, lambda: NOW, interruption, Wanted())
        self.fails(Interrupted, check.run(reader(self.file)))

    def test_resumed_check(self) -> None:
        """Going on, queues are still checked that begin behind the line."""
        self.done(imported(self.target, self.file))
        lines = self.file.splitlines()
        last = 1 + max(n for n, line in enumerate(lines) if b'"type":"queue"' in line)
        self.fails(
            ImportRefused, imported(self.target, self.file, Wanted(resume_at=last))
        )
        self.done(imported(self.target, self.file, Wanted(resume_at=last + 1)))

    def test_interrupted_export(self) -> None:
        """An export stops between two pages."""
        interruption = Interruption()

        def write(_: bytes) -> Deferred[None]:
            interruption.request()
            return Deferred()

        exporter = self.exporter(write, interruption)
        running = Deferred.fromCoroutine(exporter.run())
        self.assertNoResult(running)
        self.assertEqual([], self.watched.calls)

    def test_one_page_at_a_time(self) -> None:
        """The next page is read when the former one is written."""
        self.done(imported(self.target, self.file, Wanted(project=ORDERS.project)))
        waiting: list[Deferred[None]] = []

        def write(data: bytes) -> Deferred[None]:
            if b'"type":"message"' not in data:
                return succeed(None)
            waiting.append(Deferred())
            return waiting[-1]

        exporting = self.exporter(write, Interruption(), project="demo")
        running = Deferred.fromCoroutine(exporting.run())
        self.watched.calls.clear()
        self.assertNoResult(running)
        self.assertEqual(1, len(waiting))
        waiting[0].callback(None)
        self.assertEqual(["stored"], self.watched.calls)
        self.assertEqual(2, len(waiting))

    def exporter(
        self, write: Any, interruption: Interruption, **options: Any
    ) -> Exporter:
        """An export of the watched stores."""
        return Exporter(
            stores=self.watching,
            now=lambda: NOW,
            interruption=interruption,
            advance=ignore,
            write=write,
            **options,
        )

    def test_few_messages_at_a_time(self) -> None:
        """Messages are restored a few at a time, large ones alone."""
        lines = [QueueLine(project="p", name="q"), *[message_line()] * 7]
        self.done(imported(self.watching, file_of(*lines)))
        self.assertEqual(3, self.watched.calls.count("restore"))
        self.patch(importing, "MAX_BYTES", 1)
        lines[0] = QueueLine(project="p", name="r")
        self.watched.calls.clear()
        self.done(imported(self.watching, file_of(*lines)))
        self.assertEqual(7, self.watched.calls.count("restore"))


class PoolsTests(TransferTestCase):
    """Stores with pools."""

    def setUp(self) -> None:
        """Have pools on one side, a flavor, and a queue in each place."""
        super().setUp()
        management = self.source.management
        for name, flavor in (("a", None), ("b", "fast"), ("c", None)):
            pool = Pool(name, f"redis://{name}/0", 10, flavor, {"prefix": name})
            self.done(management.put_pool(pool))
        self.done(management.put_flavor("fast", ["b"]))
        for name, pool in (("in-a", "a"), ("in-b", "b"), ("nowhere", None)):
            queue = Destination("demo", Kind.QUEUE, name)
            self.done(management.create(queue, {}, pool))

    def open_stores(self) -> Backends:
        """Empty stores that know pools."""
        management = open_management(self)
        # The last of the pools that it may be, by name.
        placement = Placement(management, lambda below: below - 1, True)
        records = Records(management, Limits(), unlimited(management), placement)
        return Backends(management, open_messages(self), records)

    def places(self) -> dict[str, str | None]:
        """The pool of each queue of the target."""
        records = self.done(self.target.management.records(100))
        return {each.destination.name: each.pool for each in records}

    def test_everything(self) -> None:
        """Pools and flavors arrive, and queues are in the pools of the same names."""
        file = self.export()
        outcome = self.done(imported(self.target, file))
        self.assertEqual(3, outcome.done.pools)
        self.assertEqual(1, outcome.done.flavors)
        self.assertEqual(("a", "b"), (self.places()["in-a"], self.places()["in-b"]))
        for name in ("pools", "flavors"):
            source = getattr(self.source.management, name)(100)
            target = getattr(self.target.management, name)(100)
            self.assertEqual(self.done(source), self.done(target))

    def test_default_pool(self) -> None:
        """A queue of the default pool stays in it."""
        self.done(imported(self.target, self.export()))
        self.assertIsNone(self.places()["nowhere"])

    def test_from_stores_without_pools(self) -> None:
        """A queue that comes from where there are no pools is placed as a new one."""
        file = self.export()
        self.source = over(self.source.management, self.source.messages)
        self.done(self.target.management.put_pool(Pool("mine", "redis://m", 1)))
        self.done(imported(self.target, self.export()))
        self.assertEqual({"mine"}, set(self.places().values()))
        self.assertNotIn(b'"type":"pool"', self.export())
        self.assertIn(b'"type":"pool"', file)

    def test_unknown_pool(self) -> None:
        """A queue whose pool is unknown is placed as a new one is."""
        file = self.export(project="demo")
        self.assertNotIn(b"redis", file)
        self.done(self.target.management.put_pool(Pool("mine", "redis://m", 1)))
        self.done(imported(self.target, file))
        self.assertEqual(
            {"in-a": "mine", "in-b": "mine", "nowhere": None}, self.places()
        )

    def test_existing(self) -> None:
        """Pools and flavors that are there stay as they are."""
        management, mine = self.target.management, Pool("b", "redis://m", 7)
        self.done(management.put_pool(mine))
        self.done(management.put_flavor("fast", ["b"]))
        outcome = self.done(imported(self.target, self.export()))
        self.assertEqual(evolve(mine, flavor="fast"), self.done(management.pool("b")))
        self.assertEqual(2, outcome.existing)

    def test_stores_without_pools(self) -> None:
        """Stores without pools take the queues and leave the pools out."""
        self.target = over(self.target.management, self.target.messages)
        self.done(imported(self.target, self.export()))
        self.assertEqual([], self.done(self.target.management.pools(9)))
        self.assertEqual({None}, set(self.places().values()))
        file = self.done(exported(self.target))
        self.assertEqual(5, len(file.splitlines()))

    def test_same_uri(self) -> None:
        """A pool whose store is another one's already stops the import there."""
        self.done(self.target.management.put_pool(Pool("x", "redis://b/0", 1)))
        text = self.fails(ImportStopped, imported(self.target, self.export()))
        self.assertTrue(text.startswith("line 3: "), text)
        self.assertNotIn("redis://", text)

    def test_unknown_flavor(self) -> None:
        """A queue that needs a flavor which is not there stops the import there."""
        line = QueueLine(project="p", name="q", metadata={"_flavor": "rare"})
        text = self.fails(ImportStopped, imported(self.target, file_of(line)))
        self.assertEqual("line 2: The flavor rare does not exist.", text)


class AnyContentTests(TransferTestCase):
    """Contents that nobody has thought of."""

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(places=CONTENT)
    def test_round_trip(
        self, places: dict[Destination, tuple[Any, list[NewMessage]]]
    ) -> None:
        """What is exported and imported is what there was."""
        self.source, self.target = self.open_stores(), self.open_stores()
        for destination, (metadata, messages) in places.items():
            self.done(self.source.management.create(destination, metadata))
            if messages:
                post = self.source.messages.post(destination, messages, "x", NOW)
                self.done(post)
        self.done(imported(self.target, self.export()))
        self.assert_arrived(*places)
