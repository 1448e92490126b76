"""What every management store does, whatever it is built on.

A driver's test module has it all with one line::

    globals().update(make_management_tests("SQLite", open_sqlite))
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from itertools import chain
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mqsvc.messaging.errors import (
    Conflict,
    StoreUnavailable,
    SubscriptionDoesNotExist,
)
from mqsvc.messaging.model import Destination, Kind, Record, Subscription
from mqsvc.storage.interfaces import IManagementStore
from tests.storage import leases_contract, pools_contract
from tests.storage.management_case import (
    NOW,
    ODD_PROJECTS,
    ConcurrentTestCase,
    ManagementTestCase,
    OpenPlace,
    OpenStore,
    names,
    queue,
    subscription,
    topic,
)

__all__ = [
    "NOW",
    "ManagementTestCase",
    "OpenPlace",
    "make_management_tests",
    "names",
    "queue",
    "subscription",
]


class RecordTests(ManagementTestCase):
    """Making, reading, changing and removing one record."""

    def test_interface(self) -> None:
        """The store provides what the interface asks for."""
        self.assertTrue(verifyObject(IManagementStore, self.store))

    async def test_ping(self) -> None:
        """A store that runs answers."""
        await self.store.ping()

    async def test_missing(self) -> None:
        """A destination without a record reads as none."""
        self.assertIsNone(await self.store.get(queue("q")))

    async def test_create(self) -> None:
        """A new record is announced as new and can be read."""
        self.assertIs(await self.store.create(queue("q"), {"a": 1}), True)
        record = await self.read(queue("q"))
        self.assertEqual((record.destination, record.metadata), (queue("q"), {"a": 1}))

    async def test_create_existing(self) -> None:
        """Creating what exists says so and changes nothing."""
        await self.store.create(queue("q"), {"a": 1})
        before = await self.store.get(queue("q"))
        self.assertIs(await self.store.create(queue("q"), {"b": 2}), False)
        self.assertEqual(await self.store.get(queue("q")), before)

    async def test_metadata_is_exact(self) -> None:
        """Metadata comes back with its key order, types and every character."""
        metadata = {
            "z": 1,
            "a": {"y": [True, 1, 1.0, None, ""], "b": {}},
            "": "empty key",
            "_retry_policy": {"retries_with_no_delay": 3},
            "text": "\u00e9 e\u0301 \u9879\u76ee \U0001f4ec \0 \u2028 ' \" \\ %s :x",
            "large": 2**63 - 1,
            "small": -(2**63),
            "beyond_float": 2**53 + 1,
            "fraction": 0.1,
            "tiny": 5e-324,
            "deep": json.loads("[" * 200 + "]" * 200),
        }
        await self.store.create(queue("q"), metadata)
        record = await self.read(queue("q"))
        self.assertEqual(json.dumps(record.metadata), json.dumps(metadata))

    async def test_large_metadata(self) -> None:
        """Metadata of more than the 64 KiB that the API allows by default fits."""
        metadata = {"text": "\u9879" * 70_000}
        await self.store.create(queue("q"), metadata)
        self.assertEqual((await self.read(queue("q"))).metadata, metadata)

    async def test_kinds_are_apart(self) -> None:
        """A queue and a topic of one name are two records."""
        await self.store.create(queue("q"), {"is": "queue"})
        self.assertTrue(await self.store.create(topic("q"), {"is": "topic"}))
        await self.store.delete(queue("q"))
        self.assertIsNone(await self.store.get(queue("q")))
        self.assertEqual((await self.read(topic("q"))).metadata, {"is": "topic"})

    async def test_names_are_exact(self) -> None:
        """Names that differ in case or at a dot are different."""
        similar = ["a", "A", "a.b", "a.B", "a-b", "a_b", "ab", "." * 3, "a" * 64]
        for name in similar:
            self.assertTrue(await self.store.create(queue(name), {"name": name}))
        for name in similar:
            self.assertEqual((await self.read(queue(name))).metadata, {"name": name})

    async def test_projects_are_exact(self) -> None:
        """Tenants never meet, however alike or odd their names are."""
        for project in ODD_PROJECTS:
            self.assertTrue(
                await self.store.create(queue("q", project), {"of": project}), project
            )
        for project in ODD_PROJECTS:
            (record,) = await self.store.page(project, Kind.QUEUE, 10)
            self.assertEqual(record.destination, queue("q", project))
            self.assertEqual(record.metadata, {"of": project})
            self.assertEqual(await self.store.count(project, Kind.QUEUE), 1)

    async def test_delete_stays_in_its_project(self) -> None:
        """Deleting a queue leaves those of the same name of all other projects."""
        await self.create_all(*(queue("q", project) for project in ODD_PROJECTS))
        for gone, project in enumerate(ODD_PROJECTS, 1):
            await self.store.delete(queue("q", project))
            left = [await self.store.count(each, Kind.QUEUE) for each in ODD_PROJECTS]
            self.assertEqual(sum(left), len(ODD_PROJECTS) - gone)
            self.assertIsNone(await self.store.get(queue("q", project)))

    async def test_update(self) -> None:
        """An update replaces all metadata and gives the new record."""
        await self.store.create(queue("q"), {"a": 1, "b": 2})
        old = await self.read(queue("q"))
        new = await self.store.update(old, {"b": 3}, None)
        assert new is not None
        self.assertEqual((new.destination, new.metadata), (queue("q"), {"b": 3}))
        self.assertGreater(new.revision, old.revision)
        self.assertEqual(await self.store.get(queue("q")), new)

    async def test_update_again(self) -> None:
        """The record that an update gives is good for the next one."""
        await self.store.create(queue("q"), {})
        record: Record | None = await self.read(queue("q"))
        for step in range(5):
            assert record is not None
            record = await self.store.update(record, {"step": step}, None)
        self.assertEqual((await self.read(queue("q"))).metadata, {"step": 4})

    async def test_update_is_late(self) -> None:
        """An update of what somebody else changed meanwhile does nothing."""
        await self.store.create(queue("q"), {})
        old = await self.read(queue("q"))
        new = await self.store.update(old, {"a": 1}, None)
        self.assertIsNone(await self.store.update(old, {"a": 2}, None))
        self.assertEqual(await self.store.get(queue("q")), new)

    async def test_update_removed(self) -> None:
        """An update does not bring back what was deleted."""
        await self.store.create(queue("q"), {})
        old = await self.read(queue("q"))
        await self.store.delete(queue("q"))
        self.assertIsNone(await self.store.update(old, {"a": 1}, None))
        self.assertIsNone(await self.store.get(queue("q")))

    async def test_update_made_again(self) -> None:
        """An update of a record does not reach its successor of the same name."""
        await self.store.create(queue("q"), {})
        old = await self.read(queue("q"))
        await self.store.delete(queue("q"))
        await self.store.create(queue("q"), {})
        self.assertIsNone(await self.store.update(old, {"a": 1}, None))
        self.assertEqual((await self.read(queue("q"))).metadata, {})

    async def test_update_stays_in_its_place(self) -> None:
        """An update changes no other kind, name or project."""
        others = [topic("q"), queue("Q"), queue("q."), queue("q", "p2")]
        await self.create_all(queue("q"), *others)
        await self.store.update(await self.read(queue("q")), {"a": 1}, None)
        for other in others:
            self.assertEqual((await self.read(other)).metadata, {}, other)

    async def test_delete_missing(self) -> None:
        """Deleting what is not there is no error."""
        await self.store.delete(queue("q"))

    async def test_delete_takes_subscriptions(self) -> None:
        """The subscriptions of a deleted queue are gone, others stay."""
        other = subscription(2, destination=topic("q"))
        await self.create_all(queue("q"), topic("q"))
        await self.subscribe_all(subscription(1), other)
        await self.store.delete(queue("q"))
        await self.store.create(queue("q"), {})
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "", NOW), [])
        self.assertEqual(
            await self.store.subscriptions(topic("q"), 10, "", NOW), [other]
        )

    async def test_delete_takes_subscriptions_without_record(self) -> None:
        """Subscriptions go with their queue also when it never had a record."""
        await self.subscribe_all(subscription(1))
        await self.store.delete(queue("q"))
        self.assertEqual(await self.store.subscriptions(queue("q"), 10, "", NOW), [])

    async def test_count(self) -> None:
        """The count is of one project and kind."""
        self.assertEqual(await self.store.count("p", Kind.QUEUE), 0)
        await self.create_all(
            queue("a"), queue("b"), topic("a"), queue("a", "p2"), queue("c")
        )
        await self.store.delete(queue("c"))
        self.assertEqual(await self.store.count("p", Kind.QUEUE), 2)
        self.assertEqual(await self.store.count("p", Kind.TOPIC), 1)


class PageTests(ManagementTestCase):
    """Lists of records."""

    async def page_names(self, limit: int = 100, **selection: Any) -> list[str]:
        """The names on a page of the project ``p``."""
        return names(await self.store.page("p", Kind.QUEUE, limit, **selection))

    async def test_empty(self) -> None:
        """A project without queues has an empty page."""
        await self.create_all(topic("t"), queue("q", "p2"))
        self.assertEqual(await self.page_names(), [])

    async def test_whole_records(self) -> None:
        """A page holds whole records, ready for an update."""
        await self.store.create(queue("q"), {"a": 1})
        (record,) = await self.store.page("p", Kind.QUEUE, 10)
        self.assertEqual(record, await self.read(queue("q")))

    async def test_order(self) -> None:
        """Names come in the order of their code points."""
        mixed = ["b", "B", "a.b", "a-b", "a_b", "aB", "ab", "a", "a1", "a10", "a2"]
        mixed += ["-", ".a", "_", "0", "Z", "z", "z.", "z-", "z_", "z0"]
        await self.create_all(*map(queue, mixed))
        self.assertEqual(await self.page_names(), sorted(mixed))

    async def test_limit(self) -> None:
        """A page has no more records than asked for, the first ones."""
        await self.create_all(*map(queue, "edcba"))
        self.assertEqual(await self.page_names(2), ["a", "b"])

    async def test_marker(self) -> None:
        """A page begins behind its marker."""
        await self.create_all(*map(queue, "abcd"))
        self.assertEqual(await self.page_names(2, after="b"), ["c", "d"])

    async def test_first_as_marker(self) -> None:
        """The first name as marker leaves out the first name only."""
        await self.create_all(*map(queue, "abc"))
        self.assertEqual(await self.page_names(after="a"), ["b", "c"])

    async def test_unknown_marker(self) -> None:
        """A marker that does not exist is a position all the same."""
        await self.create_all(*map(queue, "bdf"))
        for after, expected in (
            ("a", "bdf"),
            ("c", "df"),
            ("b.", "df"),
            ("D", "bdf"),
            ("f", ""),
            ("zzz", ""),
            ("\U0001f4ec" * 1000, ""),
            ("%", "bdf"),
            ("'", "bdf"),
        ):
            self.assertEqual(await self.page_names(after=after), list(expected), after)

    async def test_following(self) -> None:
        """Going on from the last name meets each record once, then ends."""
        everything = [f"{number:02}" for number in range(10)]
        await self.create_all(*map(queue, everything))
        pages = [await self.page_names(3)]
        for _ in range(4):
            pages.append(await self.page_names(3, after=pages[-1][-1]))
        self.assertEqual([len(page) for page in pages], [3, 3, 3, 1, 0])
        self.assertEqual(list(chain(*pages)), everything)

    async def test_changes_while_following(self) -> None:
        """What is made or deleted between two pages moves nothing else."""
        await self.create_all(*map(queue, "bdfh"))
        first = await self.page_names(2)
        await self.create_all(*map(queue, "acg"))
        await self.store.delete(queue("d"))
        second = await self.page_names(10, after=first[-1])
        self.assertEqual((first, second), (["b", "d"], ["f", "g", "h"]))

    async def test_name_contains(self) -> None:
        """The name filter is a plain text found anywhere in the name."""
        await self.create_all(*map(queue, ("ab", "xaby", "AB", "a.b", "a_b", "b")))
        for wanted, expected in (
            ("ab", ["ab", "xaby"]),
            ("AB", ["AB"]),
            (".", ["a.b"]),
            ("_", ["a_b"]),
            ("%", []),
            (".*", []),
            ("(", []),
            ("'", []),
            ("abc", []),
        ):
            self.assertEqual(
                await self.page_names(name_contains=wanted), expected, wanted
            )

    async def test_metadata_filter(self) -> None:
        """A metadata filter wants each key with its value."""
        await self.store.create(queue("a"), {"team": "x", "n": 1, "more": True})
        await self.store.create(queue("b"), {"team": "x", "n": 2})
        await self.store.create(queue("c"), {"team": "y", "n": 1})
        await self.store.create(queue("d"), {})
        for wanted, expected in (
            ({"team": "x"}, "ab"),
            ({"n": 1}, "ac"),
            ({"team": "x", "n": 1}, "a"),
            ({"team": "z"}, ""),
            ({"none": "x"}, ""),
            ({"te": "x"}, ""),
            ({}, "abcd"),
            (None, "abcd"),
        ):
            self.assertEqual(
                await self.page_names(metadata=wanted), list(expected), wanted
            )

    async def test_metadata_filter_types(self) -> None:
        """A filter value equals a stored one in JSON type and value only."""
        values: dict[str, Any] = {
            "array": [1, {"a": None}],
            "empty-array": [],
            "empty-object": {},
            "empty-text": "",
            "false": False,
            "large": 2**53 + 1,
            "null": None,
            "number": 1,
            "object": {"b": [True], "a": 1},
            "text": "1",
            "true": True,
            "zero": 0,
        }
        for name, value in values.items():
            await self.store.create(queue(name), {"key": value})
        for name, value in values.items():
            self.assertEqual(await self.page_names(metadata={"key": value}), [name])
        for value, expected in (
            (1.0, ["number"]),
            (0.0, ["zero"]),
            (float(2**53), []),
            ([True, {"a": None}], []),
            ([1, {}], []),
            ({"a": 1, "b": [True]}, ["object"]),
            ({"a": True, "b": [True]}, []),
            ({"a": 1}, []),
            ("True", []),
        ):
            self.assertEqual(
                await self.page_names(metadata={"key": value}), expected, value
            )

    async def test_null_is_not_missing(self) -> None:
        """A filter for null finds the key with null, not its absence."""
        await self.store.create(queue("null"), {"key": None})
        await self.store.create(queue("missing"), {"other": 1})
        self.assertEqual(await self.page_names(metadata={"key": None}), ["null"])

    async def test_filters_come_first(self) -> None:
        """Filters are applied before the cut, over any number of records."""
        many = [queue(f"{number:03}-plain") for number in range(300)]
        await self.create_all(*many)
        for name in ("000-x", "150-x", "298-x", "299-x"):
            await self.store.create(queue(name), {"x": 1})
        for filters in ({"name_contains": "x"}, {"metadata": {"x": 1}}):
            self.assertEqual(
                await self.page_names(3, **filters), ["000-x", "150-x", "298-x"]
            )
            self.assertEqual(
                await self.page_names(3, after="000-x", **filters),
                ["150-x", "298-x", "299-x"],
            )

    async def test_filters_together(self) -> None:
        """Name and metadata filters must both let a record through."""
        await self.store.create(queue("xa"), {"n": 1})
        await self.store.create(queue("xb"), {"n": 2})
        await self.store.create(queue("c"), {"n": 1})
        self.assertEqual(
            await self.page_names(name_contains="x", metadata={"n": 1}), ["xa"]
        )


class SubscriptionTests(ManagementTestCase):
    """Subscriptions while they live."""

    async def listed(
        self,
        limit: int = 100,
        after: str = "",
        destination: Destination | None = None,
    ) -> list[Subscription]:
        """A page of the subscriptions of a destination, by default queue ``q``."""
        place = destination or queue("q")
        return await self.store.subscriptions(place, limit, after, NOW)

    async def test_subscribe(self) -> None:
        """A new subscription is given back and can be read and listed."""
        new = subscription(1)
        self.assertEqual(await self.store.subscribe(new, NOW), new)
        self.assertEqual(await self.store.subscription(queue("q"), new.id, NOW), new)
        self.assertEqual(await self.listed(), [new])

    async def test_every_field_is_kept(self) -> None:
        """Long URIs, nested options and long lives come back as they were."""
        options = {
            "post_data": '{"messages": [{"body": "$zaqar_message$"}]} \0 \u9879',
            "_retry_policy": {"minimum_delay": 5, "ignore_subscription_override": True},
            "a": [2**63 - 1, None, 1.5],
        }
        new = subscription(
            1,
            subscriber="https://subscriber.example/\u9879\U0001f4ec?" + "x" * 70_000,
            ttl=250_000_000_000,
            created=NOW - 1,
            options=options,
            confirmed=True,
        )
        await self.store.subscribe(new, NOW)
        kept = await self.store.subscription(queue("q"), new.id, NOW)
        self.assertEqual(kept, new)
        self.assertIs(kept.confirmed, True)
        self.assertEqual(json.dumps(kept.options), json.dumps(options))

    async def test_no_record_is_made(self) -> None:
        """Subscribing to a queue does not make its record."""
        await self.store.subscribe(subscription(1), NOW)
        self.assertIsNone(await self.store.get(queue("q")))

    async def test_duplicate(self) -> None:
        """A subscriber that has a live subscription keeps it as it is."""
        first = subscription(1, confirmed=True)
        second = subscription(2, subscriber=first.subscriber, ttl=600, options={"a": 1})
        await self.store.subscribe(first, NOW)
        self.assertEqual(await self.store.subscribe(second, NOW + 1), first)
        self.assertEqual(await self.listed(), [first])

    async def test_same_subscriber_elsewhere(self) -> None:
        """A subscriber may subscribe to any number of destinations."""
        places = [queue("q"), topic("q"), queue("Q"), queue("q", "p2")]
        for number, place in enumerate(places):
            new = subscription(number, destination=place, subscriber="http://s")
            self.assertEqual(await self.store.subscribe(new, NOW), new)
            self.assertEqual(await self.listed(destination=place), [new])

    async def test_subscribers_are_exact(self) -> None:
        """URIs that differ in any character, however late, are different."""
        long = "http://s/" + "x" * 5000
        for number, uri in enumerate(
            ["http://s", "HTTP://s", "http://s/", "http://s ", long + "1", long + "2"]
        ):
            new = subscription(number, subscriber=uri)
            self.assertEqual(await self.store.subscribe(new, NOW), new)
        self.assertEqual(len(await self.listed()), 6)

    async def test_unknown(self) -> None:
        """An id that was never given out does not exist."""
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.subscription(queue("q"), "nonsense", NOW)

    async def test_elsewhere(self) -> None:
        """A subscription is not found through any other destination."""
        new = subscription(1)
        await self.store.subscribe(new, NOW)
        for other in (topic("q"), queue("Q"), queue("q."), queue("q", "P")):
            with self.assertRaises(SubscriptionDoesNotExist):
                await self.store.subscription(other, new.id, NOW)
            self.assertEqual(await self.listed(destination=other), [])

    async def test_order(self) -> None:
        """Subscriptions are listed by id, whenever they came."""
        kept = [
            subscription(number, created=NOW + turn)
            for turn, number in enumerate((3, 1, 10, 2))
        ]
        for each in kept:
            await self.store.subscribe(each, each.created)
        self.assertEqual(await self.listed(), sorted(kept, key=lambda each: each.id))

    async def test_pages(self) -> None:
        """Going on from the last id meets each subscription once, then ends."""
        kept = [subscription(number) for number in range(1, 8)]
        await self.subscribe_all(*kept)
        pages = [await self.listed(3)]
        for _ in range(3):
            pages.append(await self.listed(3, pages[-1][-1].id))
        self.assertEqual([len(page) for page in pages], [3, 3, 1, 0])
        self.assertEqual(list(chain(*pages)), kept)

    async def test_unknown_marker(self) -> None:
        """A marker that does not exist is a position all the same."""
        kept = [subscription(number) for number in (2, 4)]
        await self.subscribe_all(*kept)
        self.assertEqual(await self.listed(after=subscription(3).id), kept[1:])
        self.assertEqual(await self.listed(after="zzz"), [])
        self.assertEqual(await self.listed(after="!"), kept)

    async def test_update(self) -> None:
        """An update replaces everything but the id and the destination."""
        await self.store.subscribe(subscription(1), NOW)
        new = subscription(
            1,
            subscriber="https://other.example",
            ttl=600,
            created=NOW + 5,
            options={"a": [1]},
            confirmed=True,
        )
        self.assertIs(await self.store.update_subscription(new, NOW + 5), True)
        self.assertEqual(await self.listed(), [new])

    async def test_update_what_was_read(self) -> None:
        """An update takes effect only on what its caller has read, if it says so."""
        first = subscription(1)
        await self.store.subscribe(first, NOW)
        second = subscription(1, confirmed=True)
        third = subscription(1, options={"a": [1]})
        update = self.store.update_subscription
        self.assertIs(await update(second, NOW, first), True)
        self.assertIs(await update(third, NOW, first), False)
        self.assertEqual(await self.listed(), [second])
        self.assertIs(await update(third, NOW, second), True)
        self.assertEqual(await self.listed(), [third])

    async def test_update_frees_the_subscriber(self) -> None:
        """The subscriber that an update gave up may subscribe anew."""
        await self.store.subscribe(subscription(1), NOW)
        moved = subscription(1, subscriber="http://new")
        await self.store.update_subscription(moved, NOW)
        again = subscription(2, subscriber=subscription(1).subscriber)
        self.assertEqual(await self.store.subscribe(again, NOW), again)

    async def test_update_unknown(self) -> None:
        """An update of what is not there fails and makes nothing."""
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.update_subscription(subscription(1), NOW)
        self.assertEqual(await self.listed(), [])

    async def test_update_elsewhere(self) -> None:
        """An update does not reach a subscription of another destination."""
        kept = subscription(1)
        await self.store.subscribe(kept, NOW)
        for other in (topic("q"), queue("q", "p2")):
            with self.assertRaises(SubscriptionDoesNotExist):
                await self.store.update_subscription(
                    subscription(1, destination=other, ttl=600), NOW
                )
        self.assertEqual(await self.listed(), [kept])

    async def test_update_conflict(self) -> None:
        """The subscriber of another subscription cannot be taken over."""
        kept = [subscription(1), subscription(2)]
        await self.subscribe_all(*kept)
        rival = subscription(2, subscriber=kept[0].subscriber, ttl=600)
        with self.assertRaises(Conflict):
            await self.store.update_subscription(rival, NOW)
        self.assertEqual(await self.listed(), kept)

    async def test_update_unknown_before_conflict(self) -> None:
        """What is gone is missing, even if its new subscriber is taken."""
        await self.store.subscribe(subscription(1), NOW)
        ghost = subscription(2, subscriber=subscription(1).subscriber)
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.update_subscription(ghost, NOW)

    async def test_update_same_subscriber_elsewhere(self) -> None:
        """A subscriber of another destination is in nobody's way."""
        elsewhere = subscription(1, destination=topic("q"), subscriber="http://s")
        await self.subscribe_all(elsewhere, subscription(2))
        moved = subscription(2, subscriber="http://s")
        await self.store.update_subscription(moved, NOW)
        self.assertEqual(await self.listed(), [moved])

    async def test_unsubscribe(self) -> None:
        """An unsubscribed one is gone and its subscriber may come again."""
        await self.subscribe_all(subscription(1), subscription(2))
        await self.store.unsubscribe(queue("q"), subscription(1).id)
        self.assertEqual(await self.listed(), [subscription(2)])
        again = subscription(3, subscriber=subscription(1).subscriber)
        self.assertEqual(await self.store.subscribe(again, NOW), again)

    async def test_unsubscribe_missing(self) -> None:
        """Unsubscribing what is not there is no error."""
        await self.store.unsubscribe(queue("q"), "nonsense")

    async def test_unsubscribe_elsewhere(self) -> None:
        """A subscription cannot be removed through another destination."""
        await self.store.subscribe(subscription(1), NOW)
        for other in (topic("q"), queue("Q"), queue("q", "p2")):
            await self.store.unsubscribe(other, subscription(1).id)
        self.assertEqual(await self.listed(), [subscription(1)])

    async def test_unsubscribe_all(self) -> None:
        """All subscriptions of one destination go, those of others stay."""
        other = subscription(30, destination=topic("q"))
        await self.subscribe_all(*map(subscription, range(25)), other)
        await self.store.create(queue("q"), {})
        await self.store.unsubscribe_all(queue("q"))
        self.assertEqual(await self.listed(), [])
        self.assertEqual(await self.listed(destination=topic("q")), [other])
        self.assertIsNotNone(await self.store.get(queue("q")))

    async def test_projects_are_exact(self) -> None:
        """Subscriptions of tenants never meet, however alike their names are."""
        kept = {
            project: subscription(1, destination=queue("q", project))
            for project in ODD_PROJECTS
        }
        await self.subscribe_all(*kept.values())
        for project, each in kept.items():
            place = queue("q", project)
            self.assertEqual(await self.listed(destination=place), [each])


class ExpiryTests(ManagementTestCase):
    """Subscriptions whose time is over."""

    END = NOW + 60_000

    async def listed(self, now: int) -> list[Subscription]:
        """The subscriptions of queue ``q`` at some moment."""
        return await self.store.subscriptions(queue("q"), 2000, "", now)

    async def test_last_moment(self) -> None:
        """A subscription lives until just before its end."""
        kept = subscription(1)
        await self.store.subscribe(kept, NOW)
        last = self.END - 1
        self.assertEqual(await self.listed(last), [kept])
        self.assertEqual(await self.store.subscription(queue("q"), kept.id, last), kept)
        await self.store.update_subscription(kept, last)

    async def test_end(self) -> None:
        """At its end a subscription is gone from every view."""
        await self.store.subscribe(subscription(1), NOW)
        self.assertEqual(await self.listed(self.END), [])
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.subscription(queue("q"), subscription(1).id, self.END)
        with self.assertRaises(SubscriptionDoesNotExist):
            await self.store.update_subscription(
                subscription(1, created=self.END), self.END
            )

    async def test_expired_takes_no_room_on_a_page(self) -> None:
        """A page is filled with live ones, however many expired before them."""
        await self.subscribe_all(*map(subscription, range(5)))
        live = [subscription(number, ttl=600) for number in (5, 6)]
        await self.subscribe_all(*live)
        page = await self.store.subscriptions(queue("q"), 2, "", self.END)
        self.assertEqual(page, live)

    async def test_subscribe_again(self) -> None:
        """A subscriber whose subscription expired gets a new one at once."""
        await self.store.subscribe(subscription(1), NOW)
        new = subscription(2, subscriber=subscription(1).subscriber, created=self.END)
        self.assertEqual(await self.store.subscribe(new, self.END), new)
        self.assertEqual(await self.listed(self.END), [new])

    async def test_same_id_again(self) -> None:
        """An id whose subscription expired is free."""
        await self.store.subscribe(subscription(1), NOW)
        new = subscription(1, subscriber="http://other", created=self.END)
        self.assertEqual(await self.store.subscribe(new, self.END), new)
        self.assertEqual(await self.listed(self.END), [new])

    async def test_expired_is_no_conflict(self) -> None:
        """The subscriber of an expired subscription can be taken over."""
        await self.store.subscribe(subscription(1), NOW)
        await self.store.subscribe(subscription(2, ttl=600), NOW)
        moved = subscription(2, ttl=600, subscriber=subscription(1).subscriber)
        await self.store.update_subscription(moved, self.END)
        self.assertEqual(await self.listed(self.END), [moved])

    async def test_longer_life(self) -> None:
        """An update moves the end."""
        await self.store.subscribe(subscription(1), NOW)
        longer = subscription(1, created=self.END - 1)
        await self.store.update_subscription(longer, self.END - 1)
        self.assertEqual(await self.listed(longer.expires - 1), [longer])
        self.assertEqual(await self.listed(longer.expires), [])

    async def test_sweep(self) -> None:
        """A sweep of a few expired ones is done at once and spares what lives."""
        live = [
            subscription(1, ttl=61),
            subscription(2, destination=topic("q"), ttl=61),
        ]
        await self.store.create(queue("q"), {})
        await self.subscribe_all(*live, *map(subscription, range(3, 40)))
        self.assertIs(await self.store.sweep(self.END), False)
        self.assertEqual(await self.listed(self.END), live[:1])
        self.assertEqual(
            await self.store.subscriptions(topic("q"), 10, "", self.END), live[1:]
        )
        self.assertIsNotNone(await self.store.get(queue("q")))
        self.assertEqual(await self.listed(NOW), live[:1])

    async def test_sweep_nothing(self) -> None:
        """Where nothing expired a sweep is done at once."""
        await self.store.subscribe(subscription(1), NOW)
        self.assertIs(await self.store.sweep(NOW), False)
        self.assertEqual(await self.listed(NOW), [subscription(1)])

    async def test_subscribe_after_sweep(self) -> None:
        """Subscriber and id of a swept subscription can be used again."""
        await self.store.subscribe(subscription(1), NOW)
        await self.store.sweep(self.END)
        again = subscription(1, created=self.END)
        self.assertEqual(await self.store.subscribe(again, self.END), again)


class ConcurrencyTests(ConcurrentTestCase):
    """Callers that act at the same time."""

    async def test_create(self) -> None:
        """Of many that create one queue exactly one is told that it is new."""
        answers = await self.at_once(
            lambda store, number: store.create(queue("q"), {"by": number})
        )
        self.assertEqual(sorted(answers), [False] * 19 + [True])
        record = await self.read(queue("q"))
        self.assertEqual(record.metadata, {"by": answers.index(True)})

    async def test_create_different(self) -> None:
        """Queues that are created at the same time are all there."""
        answers = await self.at_once(
            lambda store, number: store.create(queue(f"q{number:02}"), {})
        )
        self.assertEqual(answers, [True] * 20)
        self.assertEqual(await self.store.count("p", Kind.QUEUE), 20)

    async def test_update(self) -> None:
        """Of many updates from one read exactly one wins."""
        await self.store.create(queue("q"), {})
        read = await self.read(queue("q"))
        answers = await self.at_once(
            lambda store, number: store.update(read, {"by": number}, None)
        )
        (winner,) = [answer for answer in answers if answer is not None]
        self.assertEqual(winner.metadata, {"by": answers.index(winner)})
        self.assertEqual(await self.store.get(queue("q")), winner)

    async def test_subscribe(self) -> None:
        """Many requests of one subscriber end in one subscription, known to all."""
        answers = await self.at_once(
            lambda store, number: store.subscribe(
                subscription(number, subscriber="http://s"), NOW
            )
        )
        listed = await self.store.subscriptions(queue("q"), 100, "", NOW)
        self.assertEqual(len(listed), 1)
        self.assertEqual(answers, listed * 20)

    async def test_subscribe_after_expiry(self) -> None:
        """Many that follow an expired subscription share one new one."""
        await self.store.subscribe(subscription(99, subscriber="http://s"), NOW)
        now = NOW + 60_000
        answers = await self.at_once(
            lambda store, number: store.subscribe(
                subscription(number, subscriber="http://s", created=now), now
            )
        )
        listed = await self.store.subscriptions(queue("q"), 100, "", now)
        self.assertEqual(len(listed), 1)
        self.assertEqual(answers, listed * 20)

    async def test_update_subscription(self) -> None:
        """Of many that want one subscriber exactly one gets it, the rest conflict."""
        await self.subscribe_all(*map(subscription, self.CALLERS))
        answers = await self.at_once(
            lambda store, number: store.update_subscription(
                subscription(number, subscriber="http://s"), NOW
            )
        )
        self.assertEqual(answers.count(True), 1)
        conflicts = [answer for answer in answers if isinstance(answer, Conflict)]
        self.assertEqual(len(conflicts), 19)
        winner = subscription(answers.index(True), subscriber="http://s")
        self.assertIn(winner, await self.store.subscriptions(queue("q"), 100, "", NOW))

    async def test_delete(self) -> None:
        """Deleting at the same time is no error for anybody."""
        await self.store.create(queue("q"), {})
        await self.subscribe_all(*map(subscription, range(5)))
        answers = await self.at_once(lambda store, _: store.delete(queue("q")))
        self.assertEqual(answers, [None] * 20)
        self.assertIsNone(await self.store.get(queue("q")))
        self.assertEqual(await self.store.subscriptions(queue("q"), 9, "", NOW), [])


class LifeTests(ManagementTestCase):
    """Starting, stopping, and what outlives it."""

    async def assert_kept(self, store: IManagementStore) -> None:
        """A store has what :meth:`write_all` wrote."""
        record = await store.get(queue("q"))
        assert record is not None
        self.assertEqual(record.metadata, {"a": 2})
        self.assertEqual(
            await store.subscriptions(queue("q"), 10, "", NOW), [subscription(1)]
        )

    async def write_all(self) -> None:
        """Make a record, change it, subscribe."""
        await self.store.create(queue("q"), {"a": 1})
        await self.store.update(await self.read(queue("q")), {"a": 2}, None)
        await self.store.subscribe(subscription(1), NOW)

    async def test_reopen(self) -> None:
        """What was acknowledged is there when the data is opened again."""
        await self.write_all()
        await self.store.stopService()
        await self.assert_kept(self.start_store())

    async def test_second_store(self) -> None:
        """What one store acknowledged another one sees at once."""
        second = self.start_store()
        self.assertIsNone(await second.get(queue("q")))
        await self.write_all()
        await self.assert_kept(second)

    async def test_start_again(self) -> None:
        """A store that was stopped can be started again."""
        await self.write_all()
        for _ in range(2):
            await self.store.stopService()
            self.store.startService()
        await self.assert_kept(self.store)

    async def test_stopped(self) -> None:
        """A stopped store is unavailable, whatever is asked of it."""
        await self.store.stopService()
        calls: list[Awaitable[Any]] = [
            self.store.ping(),
            self.store.sweep(NOW),
            self.store.get(queue("q")),
            self.store.create(queue("q"), {}),
        ]
        for call in calls:
            with self.assertRaises(StoreUnavailable):
                await call

    async def test_stop_waits(self) -> None:
        """What was asked before the stop is done when the stop is."""
        created = [self.store.create(queue(f"q{n}"), {}) for n in range(10)]
        await self.store.stopService()
        self.assertEqual([self.successResultOf(each) for each in created], [True] * 10)

    async def test_cancel(self) -> None:
        """A caller that gives up is free at once, and the store goes on working."""
        waiting = self.store.create(queue("q"), {})
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(await self.store.create(queue("other"), {}))


SUITES = (
    RecordTests,
    PageTests,
    SubscriptionTests,
    ExpiryTests,
    ConcurrencyTests,
    LifeTests,
    *leases_contract.SUITES,
    *pools_contract.SUITES,
)


def make_management_tests(
    name: str, open_store: OpenStore, skip: str | None = None
) -> dict[str, type[TestCase]]:
    """The whole suite for one kind of store, for the globals of a test module.

    :param name: begins the name of each class.
    :param open_store: a function of that module.
    :param skip: why it cannot run here, if it cannot.
    """
    classes: dict[str, type[TestCase]] = {}
    for suite in SUITES:
        own_name = f"{name}_{suite.__name__}"
        attributes = {
            "__module__": open_store.__module__,
            "__qualname__": own_name,
            "open_store": staticmethod(open_store),
            "skip": skip,
        }
        classes[own_name] = type(own_name, (suite,), attributes)
    return classes
