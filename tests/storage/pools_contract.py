"""What every management store does with pools and flavors, and with all records.

Part of the suite that :mod:`tests.storage.management_contract` makes for a driver.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from itertools import chain
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from mqsvc.messaging.errors import (
    Conflict,
    PoolDoesNotExist,
    PoolInUse,
    StoreUnavailable,
)
from mqsvc.messaging.model import Destination, Flavor, Kind, Pool
from mqsvc.storage.interfaces import IManagementStore
from tests.storage.management_case import (
    ConcurrentTestCase,
    ManagementTestCase,
    queue,
    topic,
)

ODD_NAMES = (
    "p",
    "P",
    "p ",
    " p",
    "p  ",
    " ",
    "p%",
    "p_",
    "%",
    "_",
    "p.q",
    "p/q",
    "$p",
    "p$q",
    "p\\q",
    "p'; DROP TABLE pools; --",
    'p"q"',
    "p\nq",
    "p\0",
    "*",
    "\u00e9",
    "e\u0301",
    "\u00df",
    "ss",
    "\u9879\u76ee",
    "\uffff",
    "\U0001f4ec",
    "x" * 255,
    "\U0001f4ec" * 255,
)
"""Names that some database might take for one another, or order in its own way."""


def pool(name: str, **changes: Any) -> Pool:
    """A pool with a URI of its own."""
    plain = Pool(name=name, uri=f"redis://{len(name)}.example/{name}"[:255], weight=100)
    return evolve(plain, **changes)


class PoolsTestCase(ManagementTestCase):
    """Ways to make and look at pools and flavors."""

    async def put_all(self, *pools: Pool) -> None:
        """Make pools."""
        await gatherResults([self.store.put_pool(each) for each in pools])

    async def put_named(self, names: str) -> None:
        """Make plain pools whose names have one letter each."""
        await self.put_all(*map(pool, names))

    async def pool_names(self, limit: int = 100, **selection: Any) -> list[str]:
        """The names on a page of pools."""
        return [each.name for each in await self.store.pools(limit, **selection)]

    async def flavor_names(self, limit: int = 100, **selection: Any) -> list[str]:
        """The names on a page of flavors."""
        return [each.name for each in await self.store.flavors(limit, **selection)]

    async def pools_of(self, name: str) -> tuple[str, ...]:
        """The pools of a flavor that is there."""
        flavor = await self.store.flavor(name)
        assert flavor is not None, name
        self.assertEqual(flavor.name, name)
        return flavor.pools

    async def flavor_of(self, name: str) -> str | None:
        """The flavor that a pool belongs to."""
        found = await self.store.pool(name)
        assert found is not None, name
        return found.flavor

    async def pool_of(self, destination: Destination) -> str | None:
        """The pool that a record names."""
        return (await self.read(destination)).pool


class PlaceTests(PoolsTestCase):
    """The pool that a record names."""

    async def test_none(self) -> None:
        """A record lives in the default pool unless something else is said."""
        await self.store.create(queue("q"), {})
        self.assertIsNone(await self.pool_of(queue("q")))

    async def test_create(self) -> None:
        """The pool given at creation is in the record, wherever it is read."""
        await self.put_named("ab")
        self.assertIs(await self.store.create(queue("q"), {"x": 1}, "a"), True)
        record = await self.read(queue("q"))
        self.assertEqual((record.pool, record.metadata), ("a", {"x": 1}))
        self.assertEqual(await self.store.page("p", Kind.QUEUE, 10), [record])
        self.assertEqual(await self.store.records(10), [record])

    async def test_create_in_missing(self) -> None:
        """No record is made in a pool that is not there."""
        await self.put_named("a")
        for missing in ("b", "A", "a ", "", "x" * 300):
            with self.assertRaises(PoolDoesNotExist):
                await self.store.create(queue("q"), {}, missing)
        self.assertIsNone(await self.store.get(queue("q")))

    async def test_create_in_deleted(self) -> None:
        """No record is made in a pool that is gone."""
        await self.put_named("a")
        await self.store.delete_pool("a")
        with self.assertRaises(PoolDoesNotExist):
            await self.store.create(queue("q"), {}, "a")
        self.assertIsNone(await self.store.get(queue("q")))

    async def test_create_existing(self) -> None:
        """A record that exists keeps its pool when it is created again."""
        await self.put_named("ab")
        await self.store.create(queue("q"), {}, "a")
        self.assertIs(await self.store.create(queue("q"), {}, "b"), False)
        self.assertIs(await self.store.create(queue("q"), {}), False)
        self.assertEqual(await self.pool_of(queue("q")), "a")

    async def test_update(self) -> None:
        """An update replaces the pool together with the metadata."""
        await self.put_named("ab")
        await self.store.create(queue("q"), {"x": 1}, "a")
        for step, place in enumerate(("b", "b", None, None, "a")):
            new = await self.store.update(
                await self.read(queue("q")), {"step": step}, place
            )
            assert new is not None
            self.assertEqual((new.pool, new.metadata), (place, {"step": step}))
            self.assertEqual(await self.store.get(queue("q")), new)

    async def test_update_to_missing(self) -> None:
        """An update to a pool that is not there changes nothing."""
        await self.put_named("a")
        await self.store.create(queue("q"), {"x": 1}, "a")
        old = await self.read(queue("q"))
        with self.assertRaises(PoolDoesNotExist):
            await self.store.update(old, {"x": 2}, "b")
        self.assertEqual(await self.store.get(queue("q")), old)

    async def test_update_is_late(self) -> None:
        """An update of what somebody moved meanwhile moves nothing."""
        await self.put_named("abc")
        await self.store.create(queue("q"), {}, "a")
        old = await self.read(queue("q"))
        new = await self.store.update(old, {}, "b")
        self.assertIsNone(await self.store.update(old, {}, "c"))
        self.assertEqual(await self.store.get(queue("q")), new)

    async def test_update_stays_in_its_place(self) -> None:
        """An update moves no other kind, name or project."""
        await self.put_named("ab")
        others = [topic("q"), queue("Q"), queue("q."), queue("q", "p2")]
        for each in (queue("q"), *others):
            await self.store.create(each, {}, "a")
        await self.store.update(await self.read(queue("q")), {}, "b")
        for other in others:
            self.assertEqual(await self.pool_of(other), "a", other)

    async def test_pool_replaced(self) -> None:
        """A record stays in its pool when the pool is replaced."""
        await self.put_named("a")
        await self.store.create(queue("q"), {}, "a")
        record = await self.read(queue("q"))
        await self.put_all(pool("a", uri="redis://moved", weight=0, flavor="f"))
        self.assertEqual(await self.store.get(queue("q")), record)

    async def test_names_are_exact(self) -> None:
        """A record names the very pool that it was made in."""
        await self.put_all(*map(pool, ODD_NAMES))
        for number, name in enumerate(ODD_NAMES):
            await self.store.create(queue(f"q{number}"), {}, name)
        for number, name in enumerate(ODD_NAMES):
            self.assertEqual(await self.pool_of(queue(f"q{number}")), name)


class AllRecordsTests(PoolsTestCase):
    """Records of all projects, in pieces."""

    def everything(self) -> list[Destination]:
        """Destinations of odd projects, in the order in which they are listed."""
        return [
            Destination(project, kind, name)
            for project in sorted({"", *ODD_NAMES, "x" * 256})
            for kind in (Kind.QUEUE, Kind.TOPIC)
            for name in (".", "A", "a", "a.b")
        ]

    async def following(self, limit: int) -> list[list[Destination]]:
        """The destinations of each page, until one is empty."""
        pages: list[list[Destination]] = []
        after = None
        while not pages or pages[-1]:
            records = await self.store.records(limit, after)
            pages.append([record.destination for record in records])
            after = pages[-1][-1] if records else None
        return pages

    async def test_empty(self) -> None:
        """A store without records has an empty page."""
        self.assertEqual(await self.store.records(10), [])
        self.assertEqual(await self.store.records(10, queue("q")), [])

    async def test_order(self) -> None:
        """Records come by project, kind and name, in the order of code points."""
        expected = self.everything()
        await self.create_all(*reversed(expected))
        records = await self.store.records(1000)
        self.assertEqual([record.destination for record in records], expected)

    async def test_whole_records(self) -> None:
        """A page holds whole records, ready for an update."""
        await self.put_named("a")
        await self.store.create(queue("q"), {"a": 1}, "a")
        await self.store.create(topic("t", "p2"), {"b": [2]})
        self.assertEqual(
            await self.store.records(10),
            [await self.read(queue("q")), await self.read(topic("t", "p2"))],
        )

    async def test_limit(self) -> None:
        """A page has no more records than asked for, the first ones."""
        await self.create_all(topic("a"), queue("b"), queue("z", "o"), queue("a", "q"))
        records = await self.store.records(2)
        self.assertEqual(
            [record.destination for record in records], [queue("z", "o"), queue("b")]
        )

    async def test_following(self) -> None:
        """Going on from the last record meets each one once, then ends."""
        expected = self.everything()
        await self.create_all(*expected)
        for limit in (3, 7, len(expected)):
            pages = await self.following(limit)
            self.assertEqual(list(chain(*pages)), expected)
            self.assertEqual({len(page) for page in pages[:-2]} - {limit}, set())

    async def test_each_as_marker(self) -> None:
        """Behind each record comes the next one."""
        expected = self.everything()
        await self.create_all(*expected)
        for number, after in enumerate(expected):
            records = await self.store.records(3, after)
            self.assertEqual(
                [record.destination for record in records],
                expected[number + 1 : number + 4],
                after,
            )

    async def test_unknown_marker(self) -> None:
        """A marker that does not exist is a position all the same."""
        kept = [queue("b"), queue("d"), topic("a"), queue("a", "q")]
        await self.create_all(*kept)
        for after, expected in (
            (queue("z", "o"), kept),
            (topic("z", ""), kept),
            (queue("a"), kept),
            (queue("c"), kept[1:]),
            (queue("z"), kept[2:]),
            (topic("Z"), kept[2:]),
            (topic("b"), kept[3:]),
            (topic("z", "p "), kept[3:]),
            (queue("b", "q"), []),
            (queue("a", "\U0001f4ec" * 1000), []),
        ):
            records = await self.store.records(10, after)
            self.assertEqual(
                [record.destination for record in records], expected, after
            )


class PoolTests(PoolsTestCase):
    """Making, reading, replacing and removing pools."""

    async def test_missing(self) -> None:
        """A pool that was never made reads as none."""
        self.assertIsNone(await self.store.pool("a"))
        self.assertIsNone(await self.store.pool(""))
        self.assertIsNone(await self.store.pool("x" * 1000))

    async def test_put(self) -> None:
        """A new pool can be read."""
        await self.store.put_pool(pool("a"))
        self.assertEqual(await self.store.pool("a"), pool("a"))

    async def test_every_field_is_kept(self) -> None:
        """The longest URI, the largest weight and any option come back exactly."""
        options = {
            "z": [1, 1.0, True, None, 2**63 - 1],
            "": {"text": "\u9879 \U0001f4ec \0 \u2028 ' \" \\ %s :x $y"},
            "a.b": {"$c": "x" * 70_000},
        }
        kept = [
            pool("a", uri="u" * 255, weight=2**32 - 1, flavor="f" * 255),
            pool("b", uri="\U0001f4ec" * 255, weight=0, flavor="\U0001f4ec" * 255),
            pool("c", uri="redis://u:p%40ss@h:1/0?x=y&z=\0 ", flavor="", weight=1),
            pool("d", options=options),
        ]
        for each in kept:
            await self.store.put_pool(each)
        self.assertEqual([await self.store.pool(each.name) for each in kept], kept)
        read = await self.store.pool("d")
        assert read is not None
        self.assertEqual(json.dumps(read.options), json.dumps(options))

    async def test_replace(self) -> None:
        """A pool that exists is replaced whole, and no other one is touched."""
        await self.put_named("b")
        await self.put_all(pool("a", flavor="f", options={"x": 1}))
        new = pool("a", uri="redis://new", weight=7)
        await self.store.put_pool(new)
        self.assertEqual(await self.store.pools(10), [new, pool("b")])

    async def test_put_again(self) -> None:
        """Putting the same once more is no conflict with itself."""
        for _ in range(3):
            await self.store.put_pool(pool("a", flavor="f", options={"x": 1}))
        self.assertEqual(
            await self.store.pools(10), [pool("a", flavor="f", options={"x": 1})]
        )

    async def test_uri_taken(self) -> None:
        """A URI that another pool has is refused, and nothing is changed."""
        await self.put_named("ab")
        for name in ("c", "b"):
            with self.assertRaises(Conflict):
                await self.store.put_pool(pool(name, uri=pool("a").uri, weight=1))
        self.assertEqual(await self.store.pools(10), [pool("a"), pool("b")])

    async def test_conflict_keeps_the_secret(self) -> None:
        """What is said of a conflict does not quote the URI."""
        await self.put_all(pool("a", uri="redis://user:secret@h"))
        with self.assertRaises(Conflict) as caught:
            await self.store.put_pool(pool("b", uri="redis://user:secret@h"))
        self.assertNotIn("secret", str(caught.exception))
        self.assertTrue(caught.exception.description)

    async def test_uri_given_up(self) -> None:
        """A URI that its pool gave up, or whose pool is gone, may be used again."""
        await self.put_named("ab")
        await self.put_all(pool("a", uri="redis://new"))
        await self.store.delete_pool("b")
        again = [pool("c", uri=pool("a").uri), pool("d", uri=pool("b").uri)]
        await self.put_all(*again)
        self.assertEqual(
            await self.store.pools(10), [pool("a", uri="redis://new"), *again]
        )

    async def test_uris_are_exact(self) -> None:
        """URIs that differ in case, at the end or in a blank are different."""
        uris = ["redis://h", "redis://H", "redis://h/", "redis://h ", "redis://h  "]
        uris += [" redis://h", "redis://\u00e9", "redis://e\u0301", "redis://h\0"]
        uris += ["u" * 254 + "1", "u" * 254 + "2"]
        kept = [pool(f"{number:02}", uri=uri) for number, uri in enumerate(uris)]
        for each in kept:
            await self.store.put_pool(each)
        self.assertEqual(await self.store.pools(100), kept)

    async def test_names_are_exact(self) -> None:
        """Names that differ in case, blanks or composition are different."""
        for name in ODD_NAMES:
            await self.store.put_pool(pool(name))
        for name in ODD_NAMES:
            self.assertEqual(await self.store.pool(name), pool(name), name)
        for gone, name in enumerate(ODD_NAMES, 1):
            await self.store.delete_pool(name)
            self.assertIsNone(await self.store.pool(name))
            self.assertEqual(len(await self.pool_names()), len(ODD_NAMES) - gone)

    async def test_order(self) -> None:
        """Pools come by name, in the order of code points."""
        await self.put_all(*map(pool, ODD_NAMES))
        self.assertEqual(
            await self.store.pools(100), [pool(name) for name in sorted(ODD_NAMES)]
        )

    async def test_limit_and_marker(self) -> None:
        """A page has the first pools behind its marker, which need not exist."""
        self.assertEqual(await self.pool_names(), [])
        await self.put_named("fdb")
        for limit, after, expected in (
            (2, "", "bd"),
            (2, "b", "df"),
            (2, "c", "df"),
            (1, "b ", "d"),
            (9, "B", "bdf"),
            (9, "f", ""),
            (9, "\U0001f4ec" * 1000, ""),
        ):
            self.assertEqual(await self.pool_names(limit, after=after), list(expected))

    async def test_following(self) -> None:
        """Going on from the last name meets each pool once, then ends."""
        await self.put_all(*map(pool, ODD_NAMES))
        pages = [await self.pool_names(4)]
        while pages[-1]:
            pages.append(await self.pool_names(4, after=pages[-1][-1]))
        self.assertEqual(list(chain(*pages)), sorted(ODD_NAMES))

    async def test_of_a_flavor(self) -> None:
        """A filter lets through what belongs to that very flavor, before the cut."""
        flavors = ("f", "F", "f ", "\u00e9", "e\u0301", "", None)
        await self.put_all(
            *(
                pool(f"{number}{letter}", flavor=flavor)
                for letter in "ab"
                for number, flavor in enumerate(flavors)
            )
        )
        for number, flavor in enumerate(flavors[:-1]):
            of_it = await self.pool_names(10, flavor=flavor)
            self.assertEqual(of_it, [f"{number}a", f"{number}b"])
            rest = await self.pool_names(10, flavor=flavor, after=f"{number}a")
            self.assertEqual(rest, [f"{number}b"])
            self.assertEqual(await self.pool_names(1, flavor=flavor), [f"{number}a"])
        self.assertEqual(await self.pool_names(10, flavor="none"), [])
        self.assertEqual(len(await self.pool_names(100, flavor=None)), 14)


class DeletePoolTests(PoolsTestCase):
    """Removing pools, and what keeps one from being removed."""

    async def refused(self, name: str) -> None:
        """A pool cannot be deleted, and trying it changes nothing."""
        before = await self.store.pool(name)
        with self.assertRaises(PoolInUse) as caught:
            await self.store.delete_pool(name)
        self.assertTrue(caught.exception.description)
        self.assertNotIn("redis://", str(caught.exception))
        self.assertIsNotNone(before)
        self.assertEqual(await self.store.pool(name), before)

    async def test_delete(self) -> None:
        """A pool that nobody needs is gone, and can be made again."""
        await self.put_named("ab")
        await self.store.delete_pool("a")
        self.assertIsNone(await self.store.pool("a"))
        self.assertEqual(await self.store.pools(10), [pool("b")])
        await self.put_named("a")
        self.assertEqual(await self.pool_names(), ["a", "b"])

    async def test_missing(self) -> None:
        """Deleting a pool that is not there is no error."""
        await self.put_named("a")
        for missing in ("b", "A", "a ", "", "x" * 1000):
            await self.store.delete_pool(missing)
        self.assertEqual(await self.pool_names(), ["a"])

    async def test_with_records(self) -> None:
        """A pool stays while any record of any project names it."""
        await self.put_named("ab")
        places = [queue("q"), topic("q"), queue("q", "p2")]
        for each in places:
            await self.store.create(each, {}, "a")
        for each in places:
            await self.refused("a")
            await self.store.delete(each)
        await self.store.create(queue("q"), {}, "b")
        await self.store.delete_pool("a")
        self.assertIsNone(await self.store.pool("a"))

    async def test_records_moved(self) -> None:
        """A pool may go once its last record was updated to another one."""
        await self.put_named("ab")
        await self.store.create(queue("q"), {}, "a")
        await self.refused("a")
        await self.store.update(await self.read(queue("q")), {}, "b")
        await self.store.delete_pool("a")
        await self.refused("b")

    async def test_last_of_a_flavor(self) -> None:
        """A flavor that exists keeps at least one pool."""
        await self.put_named("abc")
        await self.store.put_flavor("f", ["a", "b"])
        await self.store.delete_pool("a")
        self.assertEqual(await self.pools_of("f"), ("b",))
        await self.refused("b")
        self.assertEqual(await self.pools_of("f"), ("b",))
        await self.store.put_flavor("f", ["c"])
        await self.store.delete_pool("b")
        await self.refused("c")

    async def test_last_of_no_flavor(self) -> None:
        """A flavor that a pool names and that does not exist keeps nothing."""
        await self.put_all(pool("a", flavor="f"), pool("b", flavor="g"))
        await self.put_named("c")
        await self.store.put_flavor("F", ["c"])
        await self.store.delete_pool("a")
        await self.store.put_flavor("g", ["b"])
        await self.store.delete_flavor("g")
        await self.store.delete_pool("b")
        self.assertEqual(await self.pool_names(), ["c"])

    async def test_moved_out_of_a_flavor(self) -> None:
        """A pool that was replaced by one without flavor may go."""
        await self.put_named("a")
        await self.store.put_flavor("f", ["a"])
        await self.put_named("a")
        await self.store.delete_pool("a")
        self.assertIsNone(await self.store.pool("a"))


class FlavorTests(PoolsTestCase):
    """Making, reading, replacing and removing flavors."""

    async def test_missing(self) -> None:
        """A flavor that was never made reads as none, also if pools name it."""
        await self.put_all(pool("a", flavor="f"))
        for missing in ("f", "F", "", "x" * 1000):
            self.assertIsNone(await self.store.flavor(missing))
        self.assertEqual(await self.store.flavors(10), [])

    async def test_put(self) -> None:
        """A new flavor can be read, and its pools belong to it."""
        await self.put_all(pool("a", weight=3, options={"x": 1}), pool("b"), pool("c"))
        await self.store.put_flavor("f", ["a", "b"])
        self.assertEqual(await self.store.flavor("f"), Flavor("f", ("a", "b")))
        self.assertEqual(
            await self.store.pools(10),
            [
                pool("a", weight=3, options={"x": 1}, flavor="f"),
                pool("b", flavor="f"),
                pool("c"),
            ],
        )
        self.assertEqual(await self.pool_names(flavor="f"), ["a", "b"])

    async def test_pools_are_sorted(self) -> None:
        """The pools of a flavor come in the order of code points."""
        await self.put_all(*map(pool, ODD_NAMES))
        await self.store.put_flavor("f", ODD_NAMES)
        expected = Flavor("f", tuple(sorted(ODD_NAMES)))
        self.assertEqual(await self.store.flavor("f"), expected)
        self.assertEqual(await self.store.flavors(10), [expected])

    async def test_any_collection(self) -> None:
        """The pools may be given in any order and kind of collection, and twice."""
        await self.put_named("ab")
        for given in (["b", "a", "b"], {"a", "b"}, ("b", "a"), {"b": 1, "a": 2}.keys()):
            await self.store.put_flavor("f", given)
            self.assertEqual(await self.pools_of("f"), ("a", "b"))

    async def test_replace(self) -> None:
        """A replaced flavor has the new pools and no others."""
        await self.put_named("abcd")
        await self.store.put_flavor("f", ["a", "b"])
        await self.store.put_flavor("g", ["d"])
        await self.store.put_flavor("f", ["b", "c"])
        self.assertEqual(await self.pools_of("f"), ("b", "c"))
        self.assertEqual(await self.pools_of("g"), ("d",))
        self.assertIsNone(await self.flavor_of("a"))
        self.assertEqual(await self.pool_names(flavor="f"), ["b", "c"])

    async def test_pool_of_another_flavor(self) -> None:
        """A pool belongs to the flavor that named it last, and to no other."""
        await self.put_named("ab")
        await self.store.put_flavor("f", ["a", "b"])
        await self.store.put_flavor("g", ["b"])
        self.assertEqual(await self.pools_of("f"), ("a",))
        self.assertEqual(await self.pools_of("g"), ("b",))

    async def test_pool_missing(self) -> None:
        """A flavor with a pool that is not there changes nothing at all."""
        await self.put_named("ab")
        await self.store.put_flavor("f", ["a"])
        before = await self.store.pools(10)
        for missing in ("c", "B", "b ", "", "x" * 300):
            for name in ("f", "new"):
                for given in (["b", missing], [missing, "b"], [missing]):
                    with self.assertRaises(PoolDoesNotExist):
                        await self.store.put_flavor(name, given)
        self.assertEqual(await self.store.flavors(10), [Flavor("f", ("a",))])
        self.assertEqual(await self.store.pools(10), before)

    async def test_pool_joins_and_leaves(self) -> None:
        """The pools of a flavor are those that say they belong to it."""
        await self.put_named("a")
        await self.store.put_flavor("f", ["a"])
        await self.put_all(pool("b", flavor="f"), pool("c", flavor="F"))
        self.assertEqual(await self.pools_of("f"), ("a", "b"))
        await self.put_named("ab")
        self.assertEqual(await self.pools_of("f"), ())
        self.assertEqual(await self.store.flavors(10), [Flavor("f", ())])

    async def test_named_before(self) -> None:
        """A pool that named the flavor before it was made leaves if not listed."""
        await self.put_all(pool("a", flavor="f"), pool("b"))
        await self.store.put_flavor("f", ["b"])
        self.assertEqual(await self.pools_of("f"), ("b",))
        self.assertIsNone(await self.flavor_of("a"))

    async def test_names_are_exact(self) -> None:
        """Flavors that differ in case, blanks or composition are different."""
        await self.put_all(*(pool(f"{n:02}") for n in range(len(ODD_NAMES))))
        for number, name in enumerate(ODD_NAMES):
            await self.store.put_flavor(name, [f"{number:02}"])
        for number, name in enumerate(ODD_NAMES):
            self.assertEqual(await self.pools_of(name), (f"{number:02}",))
        self.assertEqual(await self.flavor_names(), sorted(ODD_NAMES))

    async def test_limit_and_marker(self) -> None:
        """A page has the first flavors behind its marker, which need not exist."""
        self.assertEqual(await self.flavor_names(), [])
        await self.put_named("bdf")
        for name in "fdb":
            await self.store.put_flavor(name, [name])
        for limit, after, expected in (
            (2, "", "bd"),
            (2, "b", "df"),
            (2, "c", "df"),
            (1, "b ", "d"),
            (9, "B", "bdf"),
            (9, "f", ""),
            (9, "\U0001f4ec" * 1000, ""),
        ):
            self.assertEqual(
                await self.flavor_names(limit, after=after), list(expected)
            )

    async def test_whole_flavors(self) -> None:
        """A page holds each flavor with all its pools and with no others."""
        await self.put_named("abcde")
        await self.store.put_flavor("f", ["c", "a"])
        await self.store.put_flavor("g", ["b"])
        await self.store.put_flavor("h", ["e", "d"])
        expected = [Flavor("f", ("a", "c")), Flavor("g", ("b",))]
        self.assertEqual(await self.store.flavors(2), expected)
        self.assertEqual(await self.store.flavors(1, "f"), expected[1:])

    async def test_delete(self) -> None:
        """A deleted flavor is gone, and its pools stay and belong to none."""
        await self.put_named("abc")
        await self.store.put_flavor("f", ["a", "b"])
        await self.store.put_flavor("g", ["c"])
        await self.store.delete_flavor("f")
        self.assertIsNone(await self.store.flavor("f"))
        self.assertEqual(await self.store.flavors(10), [Flavor("g", ("c",))])
        self.assertEqual(
            await self.store.pools(10), [pool("a"), pool("b"), pool("c", flavor="g")]
        )

    async def test_delete_leaves_records(self) -> None:
        """A record stays in its pool, whatever happens to the flavor."""
        await self.put_named("ab")
        await self.store.put_flavor("f", ["a"])
        await self.store.create(queue("q"), {"_flavor": "f"}, "a")
        record = await self.read(queue("q"))
        await self.store.put_flavor("f", ["b"])
        await self.store.delete_flavor("f")
        self.assertEqual(await self.store.get(queue("q")), record)

    async def test_delete_missing(self) -> None:
        """Deleting a flavor that is not there is no error and touches no other."""
        await self.put_named("a")
        await self.store.put_flavor("f", ["a"])
        for missing in ("g", "F", "f ", "", "x" * 1000):
            await self.store.delete_flavor(missing)
        self.assertEqual(await self.store.flavors(10), [Flavor("f", ("a",))])

    async def test_made_again(self) -> None:
        """A flavor that was deleted and made again has its new pools only."""
        await self.put_named("ab")
        await self.store.put_flavor("f", ["a"])
        await self.store.delete_flavor("f")
        await self.store.put_flavor("f", ["b"])
        self.assertEqual(await self.pools_of("f"), ("b",))


class PoolConcurrencyTests(ConcurrentTestCase, PoolsTestCase):
    """Administrators and tenants that act at the same time."""

    async def test_create_while_deleted(self) -> None:
        """No record is ever left in a pool that is gone."""
        for turn in self.CALLERS[::3]:
            await self.put_named("a")

            def call(store: IManagementStore, number: int, turn: int = turn) -> Any:
                if number == turn:
                    return store.delete_pool("a")
                return store.create(queue(f"q{number:02}"), {}, "a")

            answers = await self.at_once(call)
            deleted = answers.pop(turn)
            await self.assert_consistent(deleted, answers, made=True)
            for record in await self.store.records(100):
                await self.store.delete(record.destination)
            await self.store.delete_pool("a")

    async def test_update_while_deleted(self) -> None:
        """No record is ever moved to a pool that is gone."""
        await self.create_all(*(queue(f"q{number:02}") for number in self.CALLERS))
        for turn in self.CALLERS[::3]:
            await self.put_named("a")
            records = await self.store.records(100)

            def call(
                store: IManagementStore,
                number: int,
                turn: int = turn,
                records: list[Any] = records,
            ) -> Any:
                if number == turn:
                    return store.delete_pool("a")
                return store.update(records[number], {}, "a")

            answers = await self.at_once(call)
            deleted = answers.pop(turn)
            moved = [getattr(answer, "pool", answer) == "a" for answer in answers]
            refused = [isinstance(answer, PoolDoesNotExist) for answer in answers]
            self.assertEqual([*map(any, zip(moved, refused, strict=True))], [True] * 19)
            await self.assert_consistent(deleted, answers, made=moved)
            for record in await self.store.records(100):
                await self.store.update(record, {}, None)
            await self.store.delete_pool("a")

    async def assert_consistent(
        self, deleted: Exception | None, answers: list[Any], made: Any
    ) -> None:
        """Either the pool is gone and no record names it, or it is there."""
        inside = [each for each in await self.store.records(100) if each.pool == "a"]
        if deleted is None:
            self.assertIsNone(await self.store.pool("a"))
            self.assertEqual(inside, [])
            for answer in answers:
                self.assertIsInstance(answer, PoolDoesNotExist)
        else:
            self.assertIsInstance(deleted, PoolInUse)
            self.assertIsNotNone(await self.store.pool("a"))
            count = made.count(True) if isinstance(made, list) else answers.count(True)
            self.assertEqual(len(inside), count)

    async def test_last_of_a_flavor(self) -> None:
        """Of many that delete one pool each of a flavor exactly one is refused."""
        everything = [f"p{number:02}" for number in self.CALLERS]
        await self.put_all(*map(pool, everything))
        await self.store.put_flavor("f", everything)
        answers = await self.at_once(
            lambda store, number: store.delete_pool(everything[number])
        )
        self.assertEqual(answers.count(None), 19)
        (refused,) = [answer for answer in answers if answer is not None]
        self.assertIsInstance(refused, PoolInUse)
        self.assertEqual(
            await self.pools_of("f"), (everything[answers.index(refused)],)
        )

    async def test_one_uri(self) -> None:
        """Of many pools that want one URI exactly one gets it, the rest conflict."""
        answers = await self.at_once(
            lambda store, number: store.put_pool(
                pool(f"p{number:02}", uri="redis://one")
            )
        )
        self.assertEqual(answers.count(None), 1)
        conflicts = [answer for answer in answers if isinstance(answer, Conflict)]
        self.assertEqual(len(conflicts), 19)
        winner = f"p{answers.index(None):02}"
        self.assertEqual(await self.pool_names(), [winner])

    async def test_exchanged_uris(self) -> None:
        """Pools that move to URIs of each other never come to share one."""
        await self.put_named("ab")

        def call(store: IManagementStore, number: int) -> Deferred[None]:
            uri = pool("ab"[number % 3 % 2]).uri if number % 3 else f"redis://{number}"
            return store.put_pool(pool("ab"[number % 2], uri=uri))

        for answer in await self.at_once(call):
            if answer is not None:
                self.assertIsInstance(answer, Conflict)
        self.assertEqual(len({each.uri for each in await self.store.pools(10)}), 2)

    async def test_one_name(self) -> None:
        """Of many that make one pool all succeed, and one of them is kept whole."""
        answers = await self.at_once(
            lambda store, number: store.put_pool(
                pool("a", uri=f"redis://{number}", weight=number)
            )
        )
        self.assertEqual(answers, [None] * 20)
        (kept,) = await self.store.pools(10)
        self.assertEqual(
            kept, pool("a", uri=f"redis://{kept.weight}", weight=kept.weight)
        )

    async def test_one_flavor(self) -> None:
        """Of many that make one flavor one is kept whole, never a mixture."""
        await self.put_named("abcd")
        wanted = [("a", "b"), ("b", "c"), ("d",)]
        answers = await self.at_once(
            lambda store, number: store.put_flavor("f", wanted[number % 3])
        )
        self.assertEqual(answers, [None] * 20)
        self.assertIn(await self.pools_of("f"), wanted)

    async def test_one_set_of_pools(self) -> None:
        """Of many flavors that want the same pools one has them all."""
        await self.put_named("abc")
        names = [f"f{number:02}" for number in self.CALLERS]
        answers = await self.at_once(
            lambda store, number: store.put_flavor(
                names[number], ["abc", "cba"][number % 2]
            )
        )
        self.assertEqual(answers, [None] * 20)
        having = [await self.pools_of(name) for name in names]
        self.assertEqual(sorted(having), [()] * 19 + [("a", "b", "c")])

    async def test_flavor_of_a_pool_that_is_deleted(self) -> None:
        """A flavor is never made of a pool that is gone."""
        for turn in self.CALLERS[::3]:
            await self.put_named("a")

            def call(store: IManagementStore, number: int, turn: int = turn) -> Any:
                if number == turn:
                    return store.delete_pool("a")
                return store.put_flavor("f", ["a"])

            answers = await self.at_once(call)
            deleted = answers.pop(turn)
            if deleted is None:
                self.assertIsNone(await self.store.flavor("f"))
                for answer in answers:
                    self.assertIsInstance(answer, PoolDoesNotExist)
            else:
                self.assertIsInstance(deleted, PoolInUse)
                self.assertEqual(await self.pools_of("f"), ("a",))
            await self.store.delete_flavor("f")

    async def test_delete(self) -> None:
        """Deleting at the same time is no error for anybody."""
        await self.put_named("a")
        await self.store.put_flavor("f", ["a"])
        self.assertEqual(
            await self.at_once(lambda store, _: store.delete_flavor("f")), [None] * 20
        )
        self.assertEqual(
            await self.at_once(lambda store, _: store.delete_pool("a")), [None] * 20
        )
        self.assertEqual(await self.pool_names(), [])


class PoolLifeTests(PoolsTestCase):
    """What outlives a store, and what a stopped one says."""

    async def write_all(self) -> None:
        """Make a pool, a flavor and a record."""
        await self.store.put_pool(pool("a", options={"x": 1}))
        await self.store.put_flavor("f", ["a"])
        await self.store.create(queue("q"), {}, "a")

    async def assert_kept(self, store: IManagementStore) -> None:
        """A store has what :meth:`write_all` wrote."""
        kept = pool("a", options={"x": 1}, flavor="f")
        self.assertEqual(await store.pool("a"), kept)
        self.assertEqual(await store.flavors(10), [Flavor("f", ("a",))])
        record = await store.get(queue("q"))
        assert record is not None
        self.assertEqual(record.pool, "a")

    async def test_reopen(self) -> None:
        """What was acknowledged is there when the data is opened again."""
        await self.write_all()
        await self.store.stopService()
        await self.assert_kept(self.start_store())

    async def test_second_store(self) -> None:
        """What one store acknowledged another one sees at once."""
        second = self.start_store()
        self.assertEqual(await second.pools(10), [])
        await self.write_all()
        await self.assert_kept(second)

    async def test_stopped(self) -> None:
        """A stopped store is unavailable, whatever is asked of it."""
        await self.store.stopService()
        calls: list[Awaitable[Any]] = [
            self.store.records(10),
            self.store.put_pool(pool("a")),
            self.store.pool("a"),
            self.store.pools(10),
            self.store.delete_pool("a"),
            self.store.put_flavor("f", ["a"]),
            self.store.flavor("f"),
            self.store.flavors(10),
            self.store.delete_flavor("f"),
        ]
        for call in calls:
            with self.assertRaises(StoreUnavailable):
                await call


SUITES = (
    PlaceTests,
    AllRecordsTests,
    PoolTests,
    DeletePoolTests,
    FlavorTests,
    PoolConcurrencyTests,
    PoolLifeTests,
)
