"""The black-box suite of the REST API over every combination of stores.

A combination is the names of its stores joined by ``+``: ``redis+postgresql``, or
``sqlite+sqlite+pooled`` for queues spread over two pools of the first kind. Each test
has empty stores on servers that the whole run shares.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.trial.unittest import TestCase

from mqsvc.messaging.model import Pool
from mqsvc.storage.interfaces import IManagementStore
from tests import rest
from tests.rest.server import RestTestCase
from tests.servers.mariadb import shared_mariadb
from tests.servers.mongodb import stand_alone
from tests.servers.postgresql import shared_postgresql
from tests.servers.redis import shared_redis

POOLS = ("one", "two")

OpenPlace = Callable[[TestCase, str], str]
"""Gives the URI of an empty store of a name that each test may use again."""

_numbers = count(1)


def _sqlite(case: TestCase, name: str) -> str:
    directory = Path(case.mktemp()).absolute()
    directory.mkdir(parents=True)
    return f"sqlite:///{directory}/{name}.db"


def _redis(_: TestCase, name: str) -> str:
    return f"{shared_redis().uri}?prefix=rest-{next(_numbers)}-{name}"


def _mongodb(_: TestCase, name: str) -> str:
    # A database takes long to make and little to wipe.
    stand_alone().wipe(name)
    return stand_alone().uri(name)


def _postgresql(_: TestCase, name: str) -> str:
    return shared_postgresql().uri(shared_postgresql().emptied(name))


def _mariadb(_: TestCase, name: str) -> str:
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

    def settings(self, case: TestCase) -> Sequence[str]:
        """Options that make a service use it, with empty stores."""
        management = MANAGEMENT[self.management](case, "rest_management")
        options = [f"drivers.management_store={management}"]
        if self.pooled:
            return [*options, "pooling=true"]
        messages = MESSAGES[self.messages](case, "rest_messages")
        return [*options, f"drivers.message_store={messages}"]

    def pools(self, case: TestCase) -> list[Pool]:
        """The pools of a service, empty."""
        if not self.pooled:
            return []
        place = MESSAGES[self.messages]
        return [Pool(name, place(case, f"rest_{name}"), 1) for name in POOLS]


def all_names() -> list[str]:
    """The names of all combinations."""
    plain = [f"{messages}+{catalog}" for messages in MESSAGES for catalog in MANAGEMENT]
    return [*plain, *(f"{name}+pooled" for name in plain)]


def rest_tests(combination: Combination, module: str) -> dict[str, type[TestCase]]:
    """Every test of the REST suite as a class of a module, on these stores.

    A test module calls ``globals().update(rest_tests(..., __name__))``.
    """
    made = {}
    for case in _rest_cases():
        name = f"{case.__module__.rpartition('.test_')[2]}_{case.__name__}"
        made[name] = _on_stores(case, combination)
        made[name].__name__ = made[name].__qualname__ = name
        made[name].__module__ = module
    return made


def _rest_cases() -> list[type[RestTestCase]]:
    names = [each.name for each in pkgutil.iter_modules(rest.__path__)]
    modules = [importlib.import_module(f"tests.rest.{name}") for name in names]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, RestTestCase)
        and value.__module__ == module.__name__
    ]


def _on_stores(case: type[RestTestCase], combination: Combination) -> type[TestCase]:
    class Stores:
        """In front of a test: what it configures, and the stores besides."""

        @property
        def settings(self: Any) -> Sequence[str]:
            return [*combination.settings(self), *case.settings]

    class Pools(RestTestCase):
        """Behind a test: the pools are there before it does anything."""

        async def setUp(self) -> None:
            await super().setUp()
            for store in filter(IManagementStore.providedBy, self.root):
                for pool in combination.pools(self):
                    await store.put_pool(pool)

    bases = (Stores, case, Pools) if combination.pooled else (Stores, case)
    return type(case.__name__, bases, {"__doc__": case.__doc__})
