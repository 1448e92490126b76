"""The black-box suite of the REST API over every combination of stores.

A combination is the names of its stores joined by ``+``: ``redis+postgresql``, or
``sqlite+sqlite+pooled`` for queues spread over two pools of the first kind. Each test
has empty stores on servers that the whole run shares.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.trial.unittest import TestCase

from mqsvc.messaging.model import Pool
from mqsvc.storage.interfaces import IManagementStore
from tests import rest
from tests.rest.server import PoolingTestCase, RestTestCase
from tests.servers.mariadb import shared_mariadb
from tests.servers.mongodb import stand_alone
from tests.servers.postgresql import shared_postgresql
from tests.servers.redis import shared_redis

POOLS = ("one", "two")

ON_FILES = frozenset(("FileTests", "RotationTests"))
"""Cases that look at the files of the embedded store, or start on them again."""

TEST_SECONDS = 120
"""For a test, since some stores take longer than the embedded one."""

ON_REQUESTS = frozenset(
    (
        *("bodies", "headers", "home", "limits", "no_5xx", "parameters", "routes"),
        *("share", "confirmation_page"),
    )
)
"""Modules of the suite on what is decided before any store is asked."""

OpenPlace = Callable[[str], str]
"""Gives the URI of the store of a name, empty."""

_numbers = count(1)


def _sqlite(name: str) -> str:
    # The directory of the test run, which trial empties.
    return f"sqlite:///{Path.cwd()}/{name}-{next(_numbers)}.db"


def _redis(name: str) -> str:
    return f"{shared_redis().uri}?prefix=rest-{next(_numbers)}-{name}"


def _mongodb(name: str) -> str:
    # A database takes long to make and little to wipe.
    stand_alone().wipe(name)
    return stand_alone().uri(name)


def _postgresql(name: str) -> str:
    return shared_postgresql().uri(shared_postgresql().emptied(name))


def _mariadb(name: str) -> str:
    return shared_mariadb().uri(shared_mariadb().emptied(name))


MESSAGES: Mapping[str, OpenPlace] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "mongodb": _mongodb,
}
"""The kinds of message stores."""

MANAGEMENT: Mapping[str, OpenPlace] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "mongodb": _mongodb,
}
"""The kinds of management stores."""


@frozen
class Combination:
    """Which stores a service works on.

    :ivar pooled: whether messages are spread over pools.
    """

    messages: str
    management: str
    pooled: bool = False

    @classmethod
    def named(cls, text: str) -> Combination:
        """The one of a name such as ``redis+postgresql``."""
        messages, management, *rest = text.split("+")
        if messages not in MESSAGES or management not in MANAGEMENT:
            raise ValueError(f"{text}: expected {all_names()}")
        return cls(messages, management, rest == ["pooled"])

    @property
    def name(self) -> str:
        """The name of it."""
        return "+".join(
            (self.messages, self.management, *(["pooled"] if self.pooled else []))
        )

    def settings(self, user: str) -> list[str]:
        """Options that make a service use it, with empty stores.

        :param user: what the stores are named after; each has its own.
        """
        management = MANAGEMENT[self.management](f"{user}_management")
        options = [f"drivers.management_store={management}"]
        if self.pooled:
            return [*options, "pooling=true"]
        messages = MESSAGES[self.messages](f"{user}_messages")
        return [*options, f"drivers.message_store={messages}"]

    def pools(self, user: str) -> list[Pool]:
        """The pools of a service, empty; none without pooling."""
        place = MESSAGES[self.messages]
        names = POOLS if self.pooled else ()
        return [Pool(name, place(f"{user}_{name}"), 1) for name in names]


def all_names() -> list[str]:
    """The names of all combinations."""
    plain = [f"{messages}+{catalog}" for messages in MESSAGES for catalog in MANAGEMENT]
    return [*plain, *(f"{name}+pooled" for name in plain)]


def rest_tests(
    combination: Combination,
    module: str,
    without: Collection[str] = ON_REQUESTS,
    settings: Sequence[str] = (),
) -> dict[str, type[TestCase]]:
    """The tests of the REST suite as classes of a module, on these stores.

    A test module calls ``globals().update(rest_tests(..., __name__))``.

    :param without: modules of the suite that are left out.
    :param settings: options beside those of the stores.
    """
    made = {}
    for case in rest_cases():
        subject = case.__module__.rpartition(".test_")[2]
        if subject in without or not _fits(case, combination):
            continue
        name = f"{subject}_{case.__name__}"
        made[name] = _on_stores(case, combination, settings)
        made[name].__name__ = made[name].__qualname__ = name
        made[name].__module__ = module
    return made


def _fits(case: type[RestTestCase], combination: Combination) -> bool:
    """Whether a case is not about certain stores, or about there being no pools."""
    # Who may come in is decided before any store is asked.
    is_about_access = ".test_access_" in case.__module__
    if case.__name__ in ON_FILES or is_about_access:
        return False
    has_own_pools = issubclass(case, PoolingTestCase)
    is_about_none = case.__name__.startswith("WithoutPooling")
    return not (combination.pooled and (has_own_pools or is_about_none))


def rest_cases() -> list[type[RestTestCase]]:
    """The cases of the REST suite."""
    names = [each.name for each in pkgutil.iter_modules(rest.__path__, "tests.rest.")]
    modules = [importlib.import_module(name) for name in names if ".test_" in name]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, RestTestCase)
        and value.__module__ == module.__name__
    ]


def _on_stores(
    case: type[RestTestCase], combination: Combination, besides: Sequence[str]
) -> type[TestCase]:
    class Stores:
        """In front of a test: what it configures, and the stores besides."""

        @property
        def settings(self: Any) -> Sequence[str]:
            if not hasattr(self, "places"):
                # Once a test: to name the stores empties them.
                self.places = combination.settings("rest")
            own = getattr(self, "own_settings", case.settings)
            return [*self.places, *besides, *own]

        @settings.setter
        def settings(self: Any, settings: Sequence[str]) -> None:
            self.own_settings = settings

    class Pools(RestTestCase):
        """Behind a test: the pools are there before it does anything."""

        async def setUp(self) -> None:
            await super().setUp()
            for store in filter(IManagementStore.providedBy, self.root):
                for pool in combination.pools("rest"):
                    await store.put_pool(pool)

    said = {"__doc__": case.__doc__, "timeout": TEST_SECONDS}
    return type(case.__name__, (Stores, case, Pools), said)
